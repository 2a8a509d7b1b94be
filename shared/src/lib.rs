//! Vocabulary and rules of Holdover: pure functions over values, with time and randomness as arguments.
//!
//! This crate is `no_std`: it cannot read a clock, open a file or a socket, or wait. Everything in it
//! can be simulated.
#![no_std]

extern crate alloc;

pub mod acl;
pub mod api;
pub mod approle;
pub mod backoff;
pub mod block;
pub mod change;
pub mod coverage;
pub mod credential;
pub mod damage;
pub mod doubt;
pub mod failover;
pub mod grant;
pub mod hex;
pub mod identity;
pub mod kv;
pub mod lease;
pub mod ledger;
pub mod listing;
pub mod mount;
pub mod name;
pub mod offboarding;
pub mod percent;
pub mod provenance;
pub mod quarantine;
pub mod recovery;
#[cfg(test)]
mod samples;
pub mod secret;
pub mod settings;
pub mod share;
pub mod span;
pub mod strict;
pub mod time;
pub mod token;
pub mod wire;
pub mod workload;
