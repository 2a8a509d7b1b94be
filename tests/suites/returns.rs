//! The primary's return ends the outage, whatever was issued in it; and what may have had an effect there was asked for once.

#[path = "returns/back.rs"]
mod back;
#[path = "returns/sent_once.rs"]
mod sent_once;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");
