//! Nobody on the host can take the socket from others: whatever a hostile caller opens, half sends or leaves unread, a workload
//! is served, and what was taken comes back.

#[path = "neighbours/bodies.rs"]
mod bodies;
#[path = "neighbours/connections.rs"]
mod connections;
#[path = "neighbours/hostile.rs"]
mod hostile;
#[path = "neighbours/ledger.rs"]
mod ledger;
#[path = "neighbours/log.rs"]
mod log;
#[path = "neighbours/maps.rs"]
mod maps;
#[path = "neighbours/rig.rs"]
mod rig;
#[path = "neighbours/writers.rs"]
mod writers;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");
const CLIENT: &str = env!("CARGO_BIN_EXE_holdover-test-client");
