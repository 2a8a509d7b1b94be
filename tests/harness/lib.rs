//! What the suites and the outage example stand on: real OpenBao, real PostgreSQL, the real daemon, clients of every
//! kind, a load, and a search for leaks.
//!
//! Everything is on 127.0.0.1 and in temporary folders, on free ports; nothing outlives the test that started it. Real
//! parts are fetched once per checkout ([`provision`]). Set `HOLDOVER_KEEP` to keep the folders of a run.

pub mod apart;
pub mod audit;
pub mod authority;
pub mod balancer;
pub mod bao;
pub mod canary;
pub mod cast;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod daemon;
pub mod failure;
pub mod gate;
pub mod host;
pub mod link;
pub mod load;
pub mod place;
pub mod played;
pub mod port;
pub mod postgres;
pub mod process;
pub mod provision;
pub mod random;
pub mod recorder;
pub mod standin;
pub mod tap;
pub mod tls;
pub mod world;

mod eventually;
mod front;
mod together;

pub use eventually::eventually;
pub use failure::{Context, Failure, Result};
pub use together::together;
