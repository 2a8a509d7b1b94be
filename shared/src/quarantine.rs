//! Quarantine: policy sets of which the replica was found to grant more than the primary did.
//!
//! Tokens of such a set are left to the primary: in an outage they are answered with 503.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    name::{EntityId, PolicyName},
    time::WallTime,
};

/// Whose rights are meant: what an access control is compiled from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct AclKey {
    /// Those of the token and of its identity, by name, each once.
    pub policies: Vec<PolicyName>,
    /// The entity whose templates it was filled in with.
    pub entity: Option<EntityId>,
}

/// One policy set in quarantine, and the disagreement that put it there. Without values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quarantine {
    /// The set.
    pub set: AclKey,
    /// Since when.
    pub since: WallTime,
    /// The operation that the replica would have granted, as `read`.
    pub operation: String,
    /// The path of that request.
    pub path: String,
    /// The status with which the primary answered it.
    pub primary: u16,
    /// The status with which the replica would have.
    pub replica: u16,
    /// What in the answer showed it, by the name of the field; empty where the status did.
    pub fields: Vec<String>,
    /// A keyed digest of the set's policies as they were mirrored then: it is lifted only under others.
    pub texts: [u8; 32],
}
