//! The harness proves itself before any suite relies on it: its servers are real, its clients send what they are told,
//! its load sees failures, its search finds leaks.

#[path = "harness/canary.rs"]
mod canary;
#[path = "harness/clients.rs"]
mod clients;
#[path = "harness/daemon.rs"]
mod daemon;
#[path = "harness/gate.rs"]
mod gate;
#[path = "harness/load.rs"]
mod load;
#[path = "harness/primary.rs"]
mod primary;
#[path = "harness/processes.rs"]
mod processes;
#[path = "harness/stand_in.rs"]
mod stand_in;
#[path = "harness/tap.rs"]
mod tap;
