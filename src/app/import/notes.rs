//! What could not be carried over.

use super::ini::Place;

/// Notes, in the order of files and lines.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<(Place, String)>);

impl Notes {
    /// Notes something about a line.
    pub fn add(&mut self, place: &Place, text: impl Into<String>) {
        self.0.push((place.clone(), text.into()));
    }

    /// All of them, each with its place.
    pub fn finish(mut self) -> Vec<String> {
        self.0.sort_by(|a, b| a.0.cmp(&b.0));
        self.0.dedup();
        self.0.into_iter().map(|(place, text)| format!("{place}: {text}")).collect()
    }
}
