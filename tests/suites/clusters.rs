//! What real clusters do: the facts that Holdover's provenance of answers stands on, and what cuts them.

#[path = "clusters/ways.rs"]
mod ways;
