//! Statements: the lexer, the classifier, fingerprints and all else that reads texts.

use std::time::Duration;

use trunkline::route::DecisionCache;
use trunkline::sql::{
    Decision, Effects, Fingerprint, Kind, Knowledge, LexOptions, Lexer, ParameterText, Target, analyze,
    analyze_detailed, block_control, changes, decide, explained_route, fingerprint_seeded, hint_of, names_time,
    normalize, own_setting, prepared_body, setting_change, shown_setting, sql_tags, statement_names,
};

/// Most processor time for everything below, with room for a slow machine and instrumented code. A worker thread serves others, too.
const PATIENCE: Duration = Duration::from_secs(3);

/// The first byte is the session's options, the rest the statement.
pub fn sql(data: &[u8]) {
    let Some((options, text)) = data.split_first() else { return };
    let opts = LexOptions { standard_conforming_strings: options & 1 == 0, safe_encoding: options & 2 == 0 };
    let began = processor_time();
    let known = Knowledge::default();
    read_all(text, opts);
    let analysis = analyze(text, opts, &known);
    let (same, parts) = analyze_detailed(text, opts, &known);
    assert_eq!((analysis.decision, analysis.statements), (same.decision, same.statements));
    let worst = parts.iter().map(|part| part.decision.target).max();
    assert!(worst.is_none_or(|worst| worst <= analysis.decision.target), "a statement that no other may take along");
    cut_into_tokens(text, opts);
    let decision = decide(text, opts, &known);
    assert_eq!(decision.target, analysis.decision.target);
    decided_alike_with_other_literals(text, opts, decision);
    if decision.target == Target::Replica {
        never_with_a_write(text, opts);
    }
    let took = processor_time() - began;
    assert!(took < PATIENCE, "{took:?} for {} bytes", text.len());
}

/// Of this thread: others may have the processor meanwhile.
fn processor_time() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = times.split_whitespace().next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// What else is asked of a text.
fn read_all(text: &[u8], opts: LexOptions) {
    let _ = (sql_tags(text, opts), own_setting(text, opts), setting_change(text, opts), hint_of(text, opts));
    let _ = (block_control(text, opts), shown_setting(text, opts), statement_names(text, opts));
    let _ = (explained_route(text, opts), prepared_body(text, opts), names_time(text));
    let parameter: ParameterText<'_> = &|number| (number % 2 == 1).then(|| b"value".to_vec());
    let _ = changes(text, opts, parameter);
    let shown = normalize(text, opts);
    assert!(shown.len() <= trunkline::sql::MAX_NORMALIZED + '…'.len_utf8());
}

fn cut_into_tokens(text: &[u8], opts: LexOptions) {
    let mut lexer = Lexer::new(text, opts);
    let mut end = 0;
    while let Some(token) = lexer.next_raw() {
        let (from, to) = (token.start as usize, token.end as usize);
        assert!(from >= end && to > from && to <= text.len(), "{token:?} behind {end} of {}", text.len());
        let between = &text[end..from];
        assert!(between.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)));
        end = to;
    }
}

fn key(text: &[u8], opts: LexOptions) -> Fingerprint {
    fingerprint_seeded(text, opts, [1, 2])
}

/// A decision that is shared by fingerprint holds for every text that has it.
fn decided_alike_with_other_literals(text: &[u8], opts: LexOptions, decision: Decision) {
    let other = with_other_literals(text, opts);
    if key(text, opts) != key(&other, opts) {
        // Only where we don't trust ourselves to know what is a literal, or the text is broken.
        let whole = !cut(text, opts).any(|(kind, _)| kind == Kind::Bad);
        let trusted = opts.safe_encoding || text.is_ascii();
        assert!(!(whole && trusted), "{} and {}", text.escape_ascii(), other.escape_ascii());
        return;
    }
    let known = Knowledge::default();
    let otherwise = decide(&other, opts, &known);
    let shared = !(decision.effects & otherwise.effects).contains(Effects::LITERAL_MATTERS);
    assert!(
        decision == otherwise || !shared,
        "{}: {decision:?}\n{}: {otherwise:?}",
        text.escape_ascii(),
        other.escape_ascii()
    );
    let cache = DecisionCache::new(Knowledge::default());
    for (text, expected) in [(text, decision), (&other, otherwise), (text, decision)] {
        assert_eq!(cache.decide(text, opts), expected, "from the cache: {}", text.escape_ascii());
    }
}

fn cut(text: &[u8], opts: LexOptions) -> impl Iterator<Item = (Kind, &[u8])> {
    let mut lexer = Lexer::new(text, opts);
    std::iter::from_fn(move || lexer.next_raw().map(|token| (token.kind, token.of(text))))
}

/// The text with another content of each constant, of the same kind.
fn with_other_literals(text: &[u8], opts: LexOptions) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut lexer = Lexer::new(text, opts);
    let mut end = 0;
    while let Some(token) = lexer.next_raw() {
        out.extend_from_slice(&text[end..token.start as usize]);
        end = token.end as usize;
        let bytes = token.of(text);
        match token.kind {
            // Blanks keep it apart from what it was not glued to by its own characters.
            Kind::Number => out.extend_from_slice(b" 42 "),
            Kind::Str if bytes[0] == b'$' => out.extend_from_slice(b" $zz$other$zz$ "),
            Kind::Str => {
                let quote = bytes.iter().position(|byte| *byte == b'\'').unwrap_or(0);
                out.push(b' ');
                out.extend_from_slice(&bytes[..quote]);
                out.extend_from_slice(b"'other' ");
            }
            _ => out.extend_from_slice(bytes),
        }
    }
    out.extend_from_slice(&text[end..]);
    out
}

/// A read stays none of ours as soon as a statement that writes stands beside it.
fn never_with_a_write(text: &[u8], opts: LexOptions) {
    let hinted = hint_of(text, opts).is_some();
    let mut both = b"DELETE FROM t;".to_vec();
    both.extend_from_slice(text);
    let decision = decide(&both, opts, &Knowledge::default());
    assert!(decision.target == Target::Primary || hinted, "{}", both.escape_ascii());
}
