//! The levels of freshness that reads can ask for (design §5).

/// What a read must at least see. Ordered: each level promises what those before it promise, and more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Consistency {
    /// What was committed `max_lag` ago.
    Eventual,
    /// What its own session has written, and whatever that has read before.
    Session,
    /// What any session of this Trunkline has written to the tables that it reads, and whatever its own has read before.
    #[default]
    Table,
    /// Everything committed when it arrived, past Trunkline or through another one, too.
    Strong,
}

impl Consistency {
    /// All, in their order.
    pub const ALL: [Self; 4] = [Self::Eventual, Self::Session, Self::Table, Self::Strong];

    /// Its name in configuration, settings, hints and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eventual => "eventual",
            Self::Session => "session",
            Self::Table => "table",
            Self::Strong => "strong",
        }
    }

    /// The level of this name, in any case of letters.
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|level| name.eq_ignore_ascii_case(level.as_str().as_bytes()))
    }
}
