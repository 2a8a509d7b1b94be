//! The encrypted copy and the local vault that decides from it. No network, no async runtime.
//!
//! Data flows one way: `Change` -> [`sequencer`] -> [`store`] -> [`view`] -> [`vault`]. Only the sequencer applies a
//! change; the vault only reads.

pub mod approle;
pub mod entropy;
pub mod key;
pub mod learn;
pub mod ledger;
pub mod parity;
pub mod private;
#[cfg(test)]
mod samples;
pub mod seal;
pub mod sequencer;
pub mod store;
mod table;
pub mod vault;
pub mod view;
