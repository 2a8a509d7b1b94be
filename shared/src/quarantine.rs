//! Quarantine: what the replica was found to grant more by than the primary did, and leaves to the primary from then on.
//!
//! In an outage a request that such a policy has a part in deciding is answered with 503; so are logins and token
//! creations of such a workload. Everything else goes on.

use alloc::{string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    name::{EntityId, PolicyName, WorkloadName},
    time::WallTime,
};

/// What is left to the primary.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quarantined {
    /// Every rule that this policy contributed to, whoever's token has it.
    Policy(PolicyName),
    /// Whatever would issue a token for this workload. What its tokens may do is not touched.
    Issuing(WorkloadName),
}

/// One quarantine, and the disagreement that began it. Without values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quarantine {
    /// What is left to the primary.
    pub what: Quarantined,
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
    /// What in the answer showed it: `status`, or names of fields.
    pub fields: Vec<String>,
    /// A keyed digest of what it was decided by then: of the policy's text, or of the role that was issued by. Only what
    /// is decided by another one can end it by itself; where none is kept, nothing but an operator does.
    pub text: Option<[u8; 32]>,
    /// The rows of whole policy sets that it was read from, each once: it ends with the last of them, so they go with it.
    #[serde(skip)]
    pub of_sets: Vec<QuarantinedSet>,
}

impl Quarantine {
    /// Whether it is known what began it. Where that was lost with a damaged replica, it is only known that it may be one.
    pub fn is_explained(&self) -> bool {
        !self.operation.is_empty()
    }
}

/// A policy set in quarantine, as it was stored before each policy was by itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QuarantinedSet {
    /// The policies of token and identity.
    pub policies: Vec<PolicyName>,
    /// The entity whose templates they were filled in with.
    pub entity: Option<EntityId>,
}

/// A row of either form.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum StoredQuarantine {
    /// One policy, or one workload's issuing.
    One(Quarantine),
    /// A policy set: each of its policies is quarantined.
    Set(StoredSet),
}

/// The fields of a set's row that are still of use.
#[derive(Debug, Deserialize)]
pub struct StoredSet {
    /// The set.
    pub set: QuarantinedSet,
    since: WallTime,
    operation: String,
    path: String,
    primary: u16,
    replica: u16,
    fields: Vec<String>,
}

impl Quarantined {
    /// The policy, if it is one.
    pub fn policy(&self) -> Option<&PolicyName> {
        match self {
            Self::Policy(name) => Some(name),
            Self::Issuing(_) => None,
        }
    }

    /// The workload, if it is one's issuing.
    pub fn workload(&self) -> Option<&WorkloadName> {
        match self {
            Self::Policy(_) => None,
            Self::Issuing(name) => Some(name),
        }
    }
}

/// As people read it.
impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(name) => write!(f, "policy {name}"),
            Self::Issuing(name) => write!(f, "issuing for workload {name}"),
        }
    }
}

impl StoredQuarantine {
    /// The quarantines that a row stands for.
    pub fn all(self) -> Vec<Quarantine> {
        match self {
            Self::One(one) => [one].into(),
            Self::Set(stored) => {
                let policies = stored.set.policies.iter();
                policies
                    .map(|policy| Quarantine {
                        what: Quarantined::Policy(policy.clone()),
                        since: stored.since,
                        operation: stored.operation.clone(),
                        path: stored.path.clone(),
                        primary: stored.primary,
                        replica: stored.replica,
                        fields: stored.fields.clone(),
                        text: None,
                        of_sets: [stored.set.clone()].into(),
                    })
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_policy_set_is_read_as_quarantine_of_each_policy_that_only_an_operator_lifts() {
        let row = r#"{"set": {"policies": ["app", "default"], "entity": "e-1"}, "since": 1000, "operation": "read",
            "path": "secret/data/a", "primary": 403, "replica": 200, "fields": [], "texts": [1, 2]}"#;
        let stored: StoredQuarantine = serde_json::from_str(row).unwrap();
        let all = stored.all();
        let names: Vec<_> = all
            .iter()
            .map(|one| one.what.policy().unwrap().as_str())
            .collect();
        assert_eq!(names, ["app", "default"]);
        for one in &all {
            assert_eq!((one.path.as_str(), one.primary), ("secret/data/a", 403));
            assert_eq!(one.text, None);
            assert_eq!(one.of_sets.len(), 1);
            assert_eq!(one.of_sets[0].policies.len(), 2);
        }
    }

    #[test]
    fn a_row_of_one_policy_comes_back_as_it_went() {
        let one = Quarantine {
            what: Quarantined::Issuing(WorkloadName::parse("orders").unwrap()),
            since: WallTime::from_secs(7),
            operation: "update".into(),
            path: "auth/holdover/login".into(),
            primary: 200,
            replica: 200,
            fields: ["policies".into()].into(),
            text: Some([3; 32]),
            of_sets: Vec::new(),
        };
        let row = serde_json::to_string(&one).unwrap();
        let stored: StoredQuarantine = serde_json::from_str(&row).unwrap();
        assert_eq!(stored.all(), [one]);
    }
}
