//! Tables as text and as markdown.

use std::fmt::Write as _;

/// A table with a label before each row.
#[derive(Debug)]
pub struct Table {
    title: &'static str,
    columns: &'static [&'static str],
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    /// One without rows.
    pub fn new(title: &'static str, columns: &'static [&'static str]) -> Self {
        Self { title, columns, rows: Vec::new() }
    }

    /// Adds a row: a cell for each column.
    pub fn add(&mut self, label: String, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "{label}");
        self.rows.push((label, cells));
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let labels = self.rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let mut text = format!("{}\n{:labels$}", self.title, "");
        for column in self.columns {
            let _ = write!(text, "  {column:>10}");
        }
        text.push('\n');
        for (label, cells) in &self.rows {
            let _ = write!(text, "{label:labels$}");
            for (cell, column) in cells.iter().zip(self.columns) {
                let _ = write!(text, "  {cell:>0$}", column.len().max(10));
            }
            text.push('\n');
        }
        text
    }

    /// For a page.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}:\n\n| |", self.title);
        for column in self.columns {
            let _ = write!(text, " {column} |");
        }
        let _ = write!(text, "\n|---|{}\n", "--:|".repeat(self.columns.len()));
        for (label, cells) in &self.rows {
            let _ = writeln!(text, "| {label} | {} |", cells.join(" | "));
        }
        text
    }
}
