//! The daemon and its command line: `holdover`.

pub mod admin;
mod allocator;
pub mod cli;
pub mod clock;
pub mod config;
pub mod coverage;
pub mod driver;
pub mod file;
pub mod journal;
pub mod link;
pub mod local;
pub mod log;
pub mod metrics;
pub mod mirror;
pub mod offboarding;
pub mod parity;
pub mod ready;
pub mod reaper;
pub mod recovery;
pub mod run;
pub mod serve;
pub mod service;
pub mod socket;
pub mod status;
pub mod upstream;

#[cfg(test)]
mod samples;

pub use cli::main_with_args;
