//! The local vault against a small world: one cluster, a few tokens, an outage. Bodies are compared with what
//! OpenBao 2.7.2 sent.

mod ages;
mod approle;
mod asked;
mod caller;
mod create;
mod doubted;
mod draining;
mod foresee;
mod judged;
mod lease;
mod likeness;
mod login;
mod offboarded;
mod order;
mod others;
mod peer;
mod rows;
mod secret;
mod surface;
mod system;
mod token;
mod unproven;
mod unsettled;
mod world;
mod writers;
