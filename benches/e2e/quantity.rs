//! What a suite measures, and the numbers of one measurement.

use std::collections::BTreeMap;

use serde::Serialize;

/// The numbers of one measurement, by the keys of their quantities.
pub type Readings = BTreeMap<&'static str, f64>;

/// One kind of number.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Quantity {
    /// Its name in [`Readings`] and in the JSON.
    pub key: &'static str,
    /// Its name in the tables, with the unit and what is better.
    pub title: &'static str,
    /// Digits behind the point in the tables.
    pub digits: usize,
    /// What is done with it.
    pub role: Role,
    /// Where it comes from.
    pub origin: Origin,
}

/// What is done with a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Shown.
    Shown,
    /// Shown with the ratio to the yardstick.
    Compared,
    /// Compared, and plotted: what the suite is about.
    Plotted,
}

/// Where a quantity comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It was measured.
    Measured,
    /// By how much the quantity of this key is more than directly at the server, in the same round.
    BeyondDirect(&'static str),
}

impl Quantity {
    const fn new(key: &'static str, title: &'static str, digits: usize, role: Role) -> Self {
        Self { key, title, digits, role, origin: Origin::Measured }
    }

    /// One that is shown only.
    pub const fn shown(key: &'static str, title: &'static str, digits: usize) -> Self {
        Self::new(key, title, digits, Role::Shown)
    }

    /// One whose ratio to the yardstick is shown, too.
    pub const fn compared(key: &'static str, title: &'static str, digits: usize) -> Self {
        Self::new(key, title, digits, Role::Compared)
    }

    /// One whose ratio is plotted besides.
    pub const fn plotted(key: &'static str, title: &'static str, digits: usize) -> Self {
        Self::new(key, title, digits, Role::Plotted)
    }

    /// The same for what is beyond the direct connection's.
    pub const fn beyond_direct(self, of: &'static str) -> Self {
        Self { origin: Origin::BeyondDirect(of), ..self }
    }
}
