//! The primary's return ends the outage, whatever was issued in it; what it left is judged when it is used; and what may
//! have had an effect there was asked for once.

#[path = "returns/agent.rs"]
mod agent;
#[path = "returns/alone.rs"]
mod alone;
#[path = "returns/approle.rs"]
mod approle;
#[path = "returns/at_use.rs"]
mod at_use;
#[path = "returns/back.rs"]
mod back;
#[path = "returns/drained.rs"]
mod drained;
#[path = "returns/effects.rs"]
mod effects;
#[path = "returns/kills.rs"]
mod kills;
#[path = "returns/limited.rs"]
mod limited;
#[path = "returns/orphans.rs"]
mod orphans;
#[path = "returns/own_token.rs"]
mod own_token;
#[path = "returns/refused.rs"]
mod refused;
#[path = "returns/rig.rs"]
mod rig;
#[path = "returns/roles.rs"]
mod roles;
#[path = "returns/sent_once.rs"]
mod sent_once;
#[path = "returns/thousands.rs"]
mod thousands;
#[path = "returns/unread.rs"]
mod unread;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");
