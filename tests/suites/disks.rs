//! What a disk, a file or a start does to Holdover ends neither what it promised nor what it serves.

#[path = "disks/blocks.rs"]
mod blocks;
#[path = "disks/files.rs"]
mod files;
#[path = "disks/hung.rs"]
mod hung;
#[path = "disks/own.rs"]
mod own;
#[path = "disks/pages.rs"]
mod pages;
#[path = "disks/rows.rs"]
mod rows;
#[path = "disks/starts.rs"]
mod starts;
#[path = "disks/store.rs"]
mod store;
#[path = "disks/unseen.rs"]
mod unseen;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");
const CLIENT: &str = env!("CARGO_BIN_EXE_holdover-test-client");
