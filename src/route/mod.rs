//! Decisions: where a statement goes, and why.
