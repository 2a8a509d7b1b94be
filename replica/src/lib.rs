//! The encrypted copy and the local vault that decides from it. No network, no async runtime.
//!
//! Data flows one way: `Change` -> [`sequencer`] -> [`store`] -> [`view`]. Only the sequencer applies a
//! change.

pub mod entropy;
pub mod key;
pub mod ledger;
pub mod private;
#[cfg(test)]
mod samples;
pub mod seal;
pub mod sequencer;
pub mod store;
mod table;
pub mod view;
