//! What is wrong with a configuration: each problem with its place, its label and its fix.
//!
//! Sources are shown redacted, so a snippet never prints a secret, whatever line it is about.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use super::redact::{self, Redacted};

/// One mistake or one warning.
#[derive(Debug, Clone)]
pub struct Problem {
    message: String,
    help: Option<String>,
    warning: bool,
    place: Option<Place>,
}

/// Where a problem is, in redacted text.
#[derive(Debug, Clone)]
struct Place {
    source: Arc<NamedSource<String>>,
    line: usize,
    labels: Vec<LabeledSpan>,
}

impl Problem {
    /// What is wrong, in one sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How to mend it.
    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Whether the configuration works in spite of it.
    pub fn is_warning(&self) -> bool {
        self.warning
    }

    /// One line: `message: label (fix)`.
    pub fn without_place(&self) -> String {
        let label = self.place.as_ref().and_then(|place| place.labels.first()?.label());
        let label = label.map(|label| format!(": {label}")).unwrap_or_default();
        let help = self.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}{label}{help}", self.message)
    }

    /// The problem with its snippet, for a person at a terminal; `color` adds ANSI colours.
    pub fn render(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(100).with_links(false);
        let mut out = String::new();
        match handler.render_report(&mut out, &Shown(self)) {
            Ok(()) => out,
            Err(_) => self.to_string(),
        }
    }
}

/// One line, for logs: `file:line: message: label (fix)`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}: ", place.source.name(), place.line)?;
        }
        f.write_str(&self.without_place())
    }
}

impl std::error::Error for Problem {}

/// A problem as miette shows it: the message alone, for the report adds the place and the fix.
#[derive(Debug)]
struct Shown<'a>(&'a Problem);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(if self.0.warning { miette::Severity::Warning } else { miette::Severity::Error })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.place.as_ref().map(|place| &*place.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.0.place.as_ref().map(|place| Box::new(place.labels.iter().cloned()) as Box<_>)
    }
}

/// All mistakes of a configuration, never empty. `Display` gives one line each; [`Errors::render`] the snippets.
#[derive(Debug, Clone)]
pub struct Errors(Vec<Problem>);

impl Errors {
    /// A single mistake that stands in no text.
    pub fn one(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self(vec![Problem { message: message.into(), help: Some(help.into()), warning: false, place: None }])
    }

    /// The mistakes, in the order of the text, and with them the warnings.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }

    /// Every problem with its snippet; `color` adds ANSI colours.
    pub fn render(&self, color: bool) -> String {
        render_all(&self.0, color)
    }
}

/// `problems` with their snippets, one after another.
pub fn render_all(problems: &[Problem], color: bool) -> String {
    problems.iter().map(|problem| problem.render(color)).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The texts that a configuration is read from. Each has a range of offsets of its own, so that one number
/// tells both the text and the place in it.
#[derive(Debug, Default)]
pub(super) struct Sources(Vec<SourceText>);

#[derive(Debug)]
struct SourceText {
    name: String,
    text: String,
    base: usize,
}

impl Sources {
    /// Adds a text; the result is the offset of its first byte.
    pub(super) fn push(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        let base = self.0.last().map_or(0, |last| last.base + last.text.len() + 1);
        self.0.push(SourceText { name: name.into(), text: text.into(), base });
        base
    }

    /// The text at `span`.
    pub(super) fn slice(&self, span: &Range<usize>) -> Option<&str> {
        let source = self.find(span.start)?;
        source.text.get(span.start - source.base..span.end.checked_sub(source.base)?)
    }

    fn find(&self, offset: usize) -> Option<&SourceText> {
        self.0.iter().rev().find(|source| source.base <= offset)
    }
}

/// A problem before the sources are redacted.
#[derive(Debug, Default)]
pub(super) struct Draft {
    message: String,
    help: Option<String>,
    warning: bool,
    labels: Vec<(Range<usize>, String)>,
}

impl Draft {
    /// Where it is; the first call names the main place.
    pub(super) fn at(&mut self, span: Range<usize>, label: impl Into<String>) -> &mut Self {
        self.labels.push((span, label.into()));
        self
    }

    /// How to mend it.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }
}

/// Collects problems while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Problems {
    drafts: Vec<Draft>,
}

impl Problems {
    /// Notes a mistake.
    pub(super) fn error(&mut self, message: impl Into<String>) -> &mut Draft {
        self.draft(message.into(), false)
    }

    /// Notes something that works but should be known.
    pub(super) fn warn(&mut self, message: impl Into<String>) -> &mut Draft {
        self.draft(message.into(), true)
    }

    fn draft(&mut self, message: String, warning: bool) -> &mut Draft {
        let at = self.drafts.len();
        self.drafts.push(Draft { message, warning, ..Draft::default() });
        &mut self.drafts[at]
    }

    /// Whether a mistake was noted.
    pub(super) fn has_errors(&self) -> bool {
        self.drafts.iter().any(|draft| !draft.warning)
    }

    /// The problems in the order of the text, with `masks` (global offsets) hidden in what they show.
    pub(super) fn finish(mut self, sources: &Sources, masks: &[Range<usize>]) -> Vec<Problem> {
        let shown: Vec<(Redacted, Arc<NamedSource<String>>)> = sources
            .0
            .iter()
            .map(|source| {
                let redacted = redact::apply(&source.text, source.base, masks);
                let named = Arc::new(NamedSource::new(&source.name, redacted.text.clone()));
                (redacted, named)
            })
            .collect();
        self.drafts.sort_by_key(|d| (d.warning, d.labels.first().map_or(usize::MAX, |(span, _)| span.start)));
        let mut problems: Vec<Problem> = Vec::new();
        for draft in self.drafts {
            let place = draft.labels.first().and_then(|(first, _)| {
                let index = sources.0.iter().rposition(|source| source.base <= first.start)?;
                let (source, (redacted, named)) = (&sources.0[index], &shown[index]);
                let end = source.base + source.text.len();
                let labels: Vec<LabeledSpan> = draft
                    .labels
                    .iter()
                    .filter(|(span, _)| source.base <= span.start && span.end <= end)
                    .map(|(span, label)| {
                        let local = redacted.span(&(span.start - source.base..span.end - source.base));
                        LabeledSpan::new(Some(label.clone()), local.start, local.len())
                    })
                    .collect();
                let line = 1 + source.text.get(..first.start - source.base)?.matches('\n').count();
                Some(Place { source: Arc::clone(named), line, labels })
            });
            problems.push(Problem { message: draft.message, help: draft.help, warning: draft.warning, place });
        }
        problems
    }

    /// As [`Problems::finish`], for a configuration that can't be used.
    pub(super) fn into_errors(self, sources: &Sources, masks: &[Range<usize>]) -> Errors {
        Errors(self.finish(sources, masks))
    }
}
