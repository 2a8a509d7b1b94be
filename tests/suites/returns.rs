//! The primary's return ends the outage, whatever was issued in it; and what may have had an effect there was asked for once.

#[path = "returns/agent.rs"]
mod agent;
#[path = "returns/approle.rs"]
mod approle;
#[path = "returns/back.rs"]
mod back;
#[path = "returns/drained.rs"]
mod drained;
#[path = "returns/limited.rs"]
mod limited;
#[path = "returns/refused.rs"]
mod refused;
#[path = "returns/sent_once.rs"]
mod sent_once;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");
