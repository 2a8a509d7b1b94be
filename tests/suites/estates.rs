//! Real estates: clusters of several nodes, behind every kind of balancer, whose leader moves and whose nodes are cut off.

#[path = "estates/addresses.rs"]
mod addresses;
#[path = "estates/cost.rs"]
mod cost;
#[path = "estates/cut_standby.rs"]
mod cut_standby;
#[path = "estates/leaders.rs"]
mod leaders;
#[path = "estates/rig.rs"]
mod rig;
#[path = "estates/servers.rs"]
mod servers;
#[path = "estates/storage.rs"]
mod storage;
#[path = "estates/strangers.rs"]
mod strangers;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");
