//! What real clusters do: the facts that Holdover's provenance of answers stands on, and what cuts them.

#[path = "clusters/balancers.rs"]
mod balancers;
#[path = "clusters/calm.rs"]
mod calm;
#[path = "clusters/current.rs"]
mod current;
#[path = "clusters/cut.rs"]
mod cut;
#[path = "clusters/database.rs"]
mod database;
#[path = "clusters/host.rs"]
mod host;
#[path = "clusters/index.rs"]
mod index;
#[path = "clusters/limits.rs"]
mod limits;
#[path = "clusters/recorder.rs"]
mod recorder;
#[path = "clusters/stage.rs"]
mod stage;
#[path = "clusters/standins.rs"]
mod standins;
#[path = "clusters/ways.rs"]
mod ways;
