//! Claims about what a write touches, and about what an answer says of a key.

mod told;
mod touched;
