//! What a statement's text alone can tell: lexer, fingerprint, hints, classifier. Pure functions.

mod decision;

pub use decision::*;
