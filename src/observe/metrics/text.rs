//! Exposition text for what the exporter can't hold: our own histograms and fractional counters.

use std::fmt::Write as _;

use super::catalog;
use super::histogram::Snapshot;

/// Appends series of one metric after another to a text in Prometheus' exposition format.
#[derive(Debug, Default)]
pub struct TextWriter {
    out: String,
}

impl TextWriter {
    /// Starts a metric of the catalogue; every series until the next call must be of this one.
    pub fn metric(&mut self, name: &str) -> &mut Self {
        if let Some(metric) = catalog::find(name) {
            // writing to a String can't fail
            let _ = writeln!(self.out, "# HELP {name} {}", metric.help);
            let _ = writeln!(self.out, "# TYPE {name} {}", metric.kind.as_str());
        }
        self
    }

    /// One series with a fractional value.
    pub fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.series(name, "", labels, None, &value.to_string());
    }

    /// The series of one histogram.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Snapshot) {
        for (le, count) in histogram.cumulative() {
            self.series(name, "_bucket", labels, Some(le), &count.to_string());
        }
        let count = histogram.count().to_string();
        self.series(name, "_bucket", labels, Some("+Inf"), &count);
        self.series(name, "_sum", labels, None, &histogram.sum().as_secs_f64().to_string());
        self.series(name, "_count", labels, None, &count);
    }

    /// The text.
    pub fn finish(self) -> String {
        self.out
    }

    fn series(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], le: Option<&str>, value: &str) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        let le = le.map(|le| ("le", le));
        let mut open = '{';
        for (key, value) in labels.iter().copied().chain(le) {
            self.out.push(open);
            self.out.push_str(key);
            self.out.push_str("=\"");
            escape(&mut self.out, value);
            self.out.push('"');
            open = ',';
        }
        if open == ',' {
            self.out.push('}');
        }
        self.out.push(' ');
        self.out.push_str(value);
        self.out.push('\n');
    }
}

fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = TextWriter::default();
        text.value("up", &[("user", "a\"b\\c\nd")], 0.5);
        text.value("up", &[], 2.0);
        assert_eq!(text.finish(), "up{user=\"a\\\"b\\\\c\\nd\"} 0.5\nup 2\n");
    }
}
