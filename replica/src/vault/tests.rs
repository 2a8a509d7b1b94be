//! The local vault against a small world: one cluster, a few tokens, an outage. Bodies are compared with what
//! OpenBao 2.7.2 sent.

mod asked;
mod caller;
mod foresee;
mod lease;
mod likeness;
mod login;
mod order;
mod peer;
mod secret;
mod system;
mod token;
mod world;
