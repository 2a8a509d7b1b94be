//! What real clusters do: the facts that Holdover's provenance of answers stands on, and what cuts them.

#[path = "clusters/balancers.rs"]
mod balancers;
#[path = "clusters/calm.rs"]
mod calm;
#[path = "clusters/ways.rs"]
mod ways;
