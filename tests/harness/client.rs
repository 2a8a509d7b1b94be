//! Clients of Holdover: raw HTTP, as another user, the `bao` command line and hvac.

pub mod cli;
pub mod crowd;
pub mod hostile;
pub mod raw;
pub mod server;
pub mod visitor;
