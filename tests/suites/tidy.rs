//! What the compiler and clippy cannot hold: how the sources are laid out and how large they are, which way crates and
//! rooms point, and where secrets, time and randomness may come out.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/exits.rs"]
mod exits;
#[path = "tidy/items.rs"]
mod items;
#[path = "tidy/layout.rs"]
mod layout;
#[path = "tidy/lexer.rs"]
mod lexer;
#[path = "tidy/names.rs"]
mod names;
#[path = "tidy/offenders.rs"]
mod offenders;
#[path = "tidy/purity.rs"]
mod purity;
#[path = "tidy/refusals.rs"]
mod refusals;
#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/sizes.rs"]
mod sizes;
#[path = "tidy/sources.rs"]
mod sources;
#[path = "tidy/ways.rs"]
mod ways;
