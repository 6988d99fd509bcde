//! Statements that the configuration sends to the primary, by patterns over their normalised text.

/// Patterns of statements. A pattern is matched, without regard to case, on the whole of a statement's normalised text (literals are `?`,
/// one space between words): `*` stands for any run of characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatementLists {
    primary: Vec<Box<str>>,
}

impl StatementLists {
    /// From `RoutingSettings::primary_statements`.
    pub fn new<P>(primary: P) -> Self
    where
        P: IntoIterator<Item: AsRef<str>>,
    {
        let fold = |pattern: P::Item| pattern.as_ref().trim().to_lowercase().into_boxed_str();
        Self { primary: primary.into_iter().map(fold).collect() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.primary.is_empty()
    }

    /// The pattern of the primary's that a normalised text matches.
    pub fn primary(&self, normalized: &str) -> Option<&str> {
        let text = normalized.to_lowercase();
        self.primary.iter().map(|pattern| &**pattern).find(|pattern| matches(pattern, text.trim()))
    }
}

/// Whether a pattern of plain pieces and stars stands for the whole text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        let lists = StatementLists::new(["SELECT * FROM audit*", "select refresh_*()", "exactly"]);
        assert!(lists.primary("SELECT a, b FROM audit WHERE x = ?").is_some());
        assert!(lists.primary("select refresh_all()").is_some());
        assert!(lists.primary("Exactly").is_some());
        assert!(lists.primary("exactly not").is_none());
        assert!(lists.primary("SELECT ? FROM other").is_none());
        assert!(!matches("a*a", "a"), "what is matched once is not matched twice");
        assert!(matches("*", ""));
    }
}
