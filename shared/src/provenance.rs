//! What an answer of the primary is worth: which cluster and which node it comes from, whether it is current, and what may
//! be learned from it.
//!
//! An answer is passed on, whatever it is. Everything that learns, proves, purges or compares asks here.

mod denials;
mod evidence;
mod index;
mod node;
mod trust;

pub use evidence::{Comparable, DeniedBy, Evidence, Question, Refused, StateTold, TokenUsed};
pub use index::{Index, IndexForm};
pub use node::{Currency, Health, NodeRole, NodeSeen};
pub use trust::{Arrival, Asked, ClusterShown, ForeignCluster, Line, Provenance, Trust};
