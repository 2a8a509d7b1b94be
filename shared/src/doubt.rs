//! Which mirrored values may be superseded: by a write that went to the primary, or by what one of its answers shows.
//! Pure.
//!
//! Not to know is to doubt: a spelling, a body or an endpoint that is not understood touches rather more than less.

mod effect;
mod told;
mod touched;

pub use effect::{Reach, WriteEffect, WriteHeard, Writer};
pub use told::{Told, kept, metadata, names, value};
pub use touched::{Touched, WriteLine, touched};

#[cfg(test)]
mod tests;
