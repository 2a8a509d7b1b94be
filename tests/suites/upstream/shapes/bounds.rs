//! Bodies without an end.
