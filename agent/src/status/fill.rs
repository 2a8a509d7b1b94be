//! How full everything is that clients or the primary can make grow: each has a bound, and `/metrics` shows both.

use std::sync::Arc;

/// How full one thing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fill {
    /// What it is: the label in `/metrics`.
    pub of: &'static str,
    /// In what it is counted.
    pub unit: FillUnit,
    /// How much is there.
    pub has: u64,
    /// How much may be.
    pub most: u64,
}

/// In what something is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FillUnit {
    /// Bytes.
    Bytes,
    /// Entries.
    Entries,
}

/// Whoever is asked how full everything is. Cheap to clone.
pub type Fills = Arc<dyn Fn() -> Vec<Fill> + Send + Sync>;

impl Fill {
    /// So many entries of at most so many.
    pub fn entries(of: &'static str, has: usize, most: usize) -> Self {
        Self::count(of, has as u64, most as u64)
    }

    /// The same, counted so.
    pub fn count(of: &'static str, has: u64, most: u64) -> Self {
        Self {
            of,
            unit: FillUnit::Entries,
            has,
            most,
        }
    }

    /// The same of bytes.
    pub fn bytes(of: &'static str, has: u64, most: u64) -> Self {
        Self {
            of,
            unit: FillUnit::Bytes,
            has,
            most,
        }
    }
}
