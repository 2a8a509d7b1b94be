//! Vocabulary and rules of Holdover: pure functions over values, with time and randomness as arguments.
//!
//! This crate is `no_std`: it cannot read a clock, open a file or a socket, or wait. Everything in it
//! can be simulated.
#![no_std]

extern crate alloc;

pub mod acl;
pub mod identity;
pub mod name;
pub mod secret;
pub mod time;
