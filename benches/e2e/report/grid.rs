//! One quantity of a suite as a table: a line for each case, a column for each peer.

use super::super::quantity::{Quantity, Role};
use super::super::results::{SuiteResults, Summary};

/// Cells of text.
#[derive(Debug)]
pub struct Grid {
    title: String,
    columns: Vec<String>,
    lines: Vec<(String, Vec<String>)>,
}

impl Grid {
    /// One for each quantity that anybody has.
    pub fn all(suite: &SuiteResults) -> Vec<Self> {
        suite
            .quantities
            .iter()
            .map(|quantity| Self::of(suite, quantity))
            .filter(|grid| !grid.columns.is_empty())
            .collect()
    }

    fn of(suite: &SuiteResults, quantity: &Quantity) -> Self {
        let cases = suite.cases();
        let of_peer = |peer: &str| cases.iter().any(|case| suite.summary(case, peer, quantity).is_some());
        let columns: Vec<String> =
            suite.peers.iter().map(|(name, _)| name.clone()).filter(|peer| of_peer(peer)).collect();
        let line = |case: &&str| {
            let cell = |peer: &String| cell(suite.summary(case, peer, quantity), quantity.digits);
            ((*case).to_owned(), columns.iter().map(cell).collect())
        };
        let compared = if quantity.role == Role::Shown { String::new() } else { format!(", × {}", suite.yardstick) };
        Self { title: format!("{}{compared}", quantity.title), lines: cases.iter().map(line).collect(), columns }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let width =
            |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| text.chars().count()).max().unwrap_or(0);
        let first = width(&mut self.lines.iter().map(|(case, _)| case));
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| width(&mut self.lines.iter().map(|(_, cells)| &cells[column]).chain([&self.columns[column]])))
            .collect();
        let line = |case: &str, cells: &[String]| {
            let cells: Vec<_> = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
            format!("  {case:first$} | {}\n", cells.join(" | "))
        };
        let lines: String = self.lines.iter().map(|(case, cells)| line(case, cells)).collect();
        format!("{}\n{}{lines}", self.title, line("", &self.columns))
    }

    /// As markdown.
    pub fn markdown(&self) -> String {
        let line = |case: &str, cells: &[String]| format!("| {case} | {} |\n", cells.join(" | "));
        let lines: String = self.lines.iter().map(|(case, cells)| line(case, cells)).collect();
        let rule = "--:|".repeat(self.columns.len());
        format!("**{}**\n\n{}|---|{rule}\n{lines}", self.title, line("", &self.columns))
    }
}

fn cell(summary: Option<Summary>, digits: usize) -> String {
    let Some(Summary { value, ratio }) = summary else {
        return "n/a".to_owned();
    };
    let spread = (value.most - value.least) / 2.0;
    let ratio = ratio.map_or_else(String::new, |ratio| format!(" ×{:.2}", ratio.median));
    format!("{:.digits$} ±{spread:.digits$}{ratio}", value.median)
}
