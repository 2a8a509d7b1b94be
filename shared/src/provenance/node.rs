//! What a node shows of itself by `sys/health`, and what its answers to reads are therefore worth.
//!
//! From OpenBao 2.7.2 and the documentation of Vault: 200 is active, 429 a standby in its normal state, 473 a performance
//! standby. Others (472, 501, 503, 530) cannot serve.

use alloc::string::String;

use serde::Deserialize;

use crate::name::ClusterId;

/// The first version of OpenBao whose standbys answer reads by themselves.
const STANDBYS_READ_SINCE: (u64, u64) = (2, 5);

/// A node that can serve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeSeen {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// What it is there.
    pub role: NodeRole,
    /// Whether it is a standby that has the active node answer every request.
    forwards_all: bool,
    /// The node's clock, in Unix seconds.
    pub server_time: Option<i64>,
}

/// What a node is in its cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NodeRole {
    /// It decides.
    Active,
    /// It has the active node answer what writes, or everything.
    Standby,
    /// Vault Enterprise: reads from what it has applied.
    PerformanceStandby,
}

/// What was answered to `sys/health`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Health {
    /// It can serve.
    Serves(NodeSeen),
    /// A quota, or something on the way, asks for fewer requests; nothing is known of the node.
    SlowDown,
    /// It cannot.
    CannotServe,
}

/// How the answers of a node relate to what the active node would have said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Currency {
    /// They are its own: it is active, or has the active node answer every request.
    Always,
    /// They are, of requests that ask for it with an index beyond any.
    WhenAsked,
    /// Nothing shows that they are.
    Never,
}

#[derive(Deserialize)]
struct HealthBody {
    #[serde(default)]
    cluster_id: String,
    #[serde(default)]
    initialized: bool,
    #[serde(default = "yes")]
    sealed: bool,
    #[serde(default)]
    server_time_utc: Option<i64>,
    #[serde(default)]
    version: String,
    /// Vault says there whether it is Enterprise; OpenBao has no such field.
    #[serde(default)]
    enterprise: Option<bool>,
}

fn yes() -> bool {
    true
}

impl NodeRole {
    /// As `status` and metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
            Self::PerformanceStandby => "performance standby",
        }
    }
}

impl NodeSeen {
    /// What its answers are worth, where it `honours` an index that it has not reached.
    pub fn currency(&self, honours: bool) -> Currency {
        match self.role {
            NodeRole::Active => Currency::Always,
            NodeRole::Standby if self.forwards_all => Currency::Always,
            NodeRole::Standby if honours => Currency::WhenAsked,
            NodeRole::Standby | NodeRole::PerformanceStandby => Currency::Never,
        }
    }

    /// Whether it must be shown that it honours an index before its answers count.
    pub fn is_to_be_tried(&self) -> bool {
        self.role == NodeRole::Standby && !self.forwards_all
    }
}

impl Health {
    /// Reads the answer to `sys/health`. A body that is not a server's own shows nothing, whatever its status.
    pub fn read(status: u16, body: &[u8]) -> Self {
        let role = match status {
            200 => NodeRole::Active,
            429 => NodeRole::Standby,
            473 => NodeRole::PerformanceStandby,
            _ => return Self::CannotServe,
        };
        match serde_json::from_slice::<HealthBody>(body) {
            Ok(body) if body.initialized && !body.sealed => match body.node(role) {
                Some(node) => Self::Serves(node),
                None => Self::CannotServe,
            },
            _ if status == 429 => Self::SlowDown,
            _ => Self::CannotServe,
        }
    }
}

impl HealthBody {
    fn node(self, role: NodeRole) -> Option<NodeSeen> {
        Some(NodeSeen {
            cluster: ClusterId::parse(&self.cluster_id).ok()?,
            role,
            forwards_all: match self.enterprise {
                // Plain standbys of Vault do.
                Some(_) => true,
                None => release(&self.version).is_some_and(|it| it < STANDBYS_READ_SINCE),
            },
            server_time: self.server_time_utc,
        })
    }
}

/// Major and minor of a version such as `2.7.2` or `2.5.0-beta1`.
fn release(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.trim_start_matches('v').split('.');
    let mut number = || parts.next()?.parse().ok();
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn health(status: u16, more: &str) -> Health {
        let body = alloc::format!(
            r#"{{"initialized":true,"sealed":false,"cluster_id":"c","server_time_utc":7{more}}}"#
        );
        Health::read(status, body.as_bytes())
    }

    fn currency(status: u16, more: &str, honours: bool) -> Currency {
        match health(status, more) {
            Health::Serves(node) => node.currency(honours),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_standby_is_a_node_in_its_normal_state_and_not_a_quota() {
        let Health::Serves(node) = health(429, r#","standby":true,"version":"2.7.2""#) else {
            panic!("a standby serves");
        };
        assert_eq!((node.role, node.server_time), (NodeRole::Standby, Some(7)));
        assert_eq!(
            Health::read(429, br#"{"errors":["quota"]}"#),
            Health::SlowDown
        );
        assert_eq!(Health::read(429, b"slow down"), Health::SlowDown);
    }

    #[test]
    fn what_is_sealed_new_secondary_or_no_server_cannot_serve() {
        for (status, body) in [
            (503, r#"{"initialized":true,"sealed":true}"#),
            (
                200,
                r#"{"initialized":true,"sealed":true,"cluster_id":"c"}"#,
            ),
            (200, r#"{"initialized":true,"cluster_id":"c"}"#),
            (200, r#"{"initialized":true,"sealed":false}"#),
            (501, "{}"),
            (200, "<html>"),
            (502, ""),
            (
                472,
                r#"{"initialized":true,"sealed":false,"cluster_id":"c"}"#,
            ),
        ] {
            assert_eq!(
                Health::read(status, body.as_bytes()),
                Health::CannotServe,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn each_server_is_current_where_its_standbys_leave_reading_to_the_active_node() {
        use Currency::{Always, Never, WhenAsked};
        let cases = [
            (200, r#","version":"2.7.2""#, false, Always),
            (429, r#","version":"2.7.2""#, true, WhenAsked),
            (429, r#","version":"2.7.2""#, false, Never),
            (429, r#","version":"2.6.1""#, false, Never),
            (429, r#","version":"2.5.0-beta1""#, false, Never),
            (429, r#","version":"2.4.4""#, false, Always),
            (429, r#","version":"v1.0.0""#, false, Always),
            (429, "", false, Never),
            (429, r#","version":"new""#, false, Never),
            (
                429,
                r#","version":"1.21.0","enterprise":false"#,
                false,
                Always,
            ),
            (
                429,
                r#","version":"1.21.0","enterprise":true"#,
                false,
                Always,
            ),
            (473, r#","version":"1.21.0","enterprise":true"#, true, Never),
            (
                200,
                r#","version":"1.21.0","enterprise":true"#,
                false,
                Always,
            ),
        ];
        for (status, more, honours, expected) in cases {
            assert_eq!(
                currency(status, more, honours),
                expected,
                "{status} {more} {honours}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic_or_serve_without_a_cluster(status: u16, body in "\\PC{0,60}") {
            prop_assert!(!matches!(Health::read(status, body.as_bytes()), Health::Serves(_)));
        }
    }
}
