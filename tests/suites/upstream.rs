//! What Holdover asks of a real primary with its own token, always under the policy that `config policy` prints, and
//! what the mirror makes of the answers. Without the socket and the machine: upstream, mirror and replica alone.

#[path = "upstream/anew.rs"]
mod anew;
#[path = "upstream/authority.rs"]
mod authority;
#[path = "upstream/full.rs"]
mod full;
#[path = "upstream/kv.rs"]
mod kv;
#[path = "upstream/lease.rs"]
mod lease;
#[path = "upstream/methods.rs"]
mod methods;
#[path = "upstream/own.rs"]
mod own;
#[path = "upstream/plain.rs"]
mod plain;
#[path = "upstream/policy.rs"]
mod policy;
#[path = "upstream/probe.rs"]
mod probe;
#[path = "upstream/rig.rs"]
mod rig;
#[path = "upstream/shapes.rs"]
mod shapes;
#[path = "upstream/token.rs"]
mod token;
