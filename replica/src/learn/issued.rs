//! What a request brought into being at the primary, which lives on unless it is revoked: a token, a lease, a wrapping.

use std::time::Duration;

use serde::Deserialize;
use shared::{
    api::Kind,
    change::RevocationTarget,
    name::{Accessor, LeaseId},
    provenance::Evidence,
};

/// Something that was brought into being.
#[derive(Clone, PartialEq, Debug)]
pub struct IssuedThere {
    /// What revokes it; none of a batch token, which only its end ends, and of a lease that nothing names.
    pub target: Option<RevocationTarget>,
    /// How long it lives by itself.
    pub life: Duration,
}

/// As much of an answer as names what came into being.
#[derive(Deserialize)]
struct Brought {
    #[serde(default)]
    lease_id: String,
    #[serde(default)]
    lease_duration: u64,
    auth: Option<Auth>,
    wrap_info: Option<Wrapping>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    accessor: String,
    #[serde(default)]
    lease_duration: u64,
}

#[derive(Deserialize)]
struct Wrapping {
    #[serde(default)]
    accessor: String,
    #[serde(default)]
    wrapped_accessor: String,
    #[serde(default)]
    ttl: u64,
}

/// What the request behind `evidence` brought into being, as its answer says. A renewal shows a token or a lease as well, which
/// was there before. Of a wrapping `may_lease` says whether there may be a lease within: that is named nowhere, belongs to who
/// asked, and outlives the wrapping.
pub fn issued(evidence: &Evidence<'_>, may_lease: bool) -> Vec<IssuedThere> {
    let brought = evidence.brought();
    let Some(brought) = brought.and_then(|body| serde_json::from_slice::<Brought>(body).ok())
    else {
        return Vec::new();
    };
    let call = evidence.asked.call;
    let mut issued = Vec::new();
    if let Some(auth) = brought.auth.filter(|_| call.is_issuance()) {
        issued.push(token(&auth.accessor, auth.lease_duration));
    }
    if call.kind == Kind::Data
        && let Ok(lease) = LeaseId::parse(&brought.lease_id)
    {
        issued.push(IssuedThere {
            target: Some(RevocationTarget::Lease(lease)),
            life: Duration::from_secs(brought.lease_duration),
        });
    }
    if let Some(wrapping) = brought.wrap_info {
        issued.push(token(&wrapping.accessor, wrapping.ttl));
        // Of a renewal it names a token that was there before.
        if call.is_issuance() && !wrapping.wrapped_accessor.is_empty() {
            issued.push(token(&wrapping.wrapped_accessor, wrapping.ttl));
        }
        if may_lease {
            issued.push(IssuedThere {
                target: None,
                life: Duration::from_secs(wrapping.ttl),
            });
        }
    }
    issued
}

fn token(accessor: &str, life: u64) -> IssuedThere {
    IssuedThere {
        target: Accessor::parse(accessor).ok().map(RevocationTarget::Token),
        life: Duration::from_secs(life),
    }
}

#[cfg(test)]
mod tests {
    use shared::{
        api::Call,
        provenance::{ClusterShown, Provenance, Question, TokenUsed},
    };

    use super::*;

    /// What the answer `body` to a request says, from the trusted cluster or not.
    fn told(
        method: &str,
        path: &str,
        body: &str,
        cluster: ClusterShown,
        may_lease: bool,
    ) -> Vec<String> {
        let call = Call::parse(method, &format!("/v1/{path}")).unwrap();
        let asked = Question {
            call: &call,
            token: TokenUsed::Callers,
            mirrored_namespace: true,
            asks_for_token: true,
            body: None,
            reads_alike: true,
        };
        let provenance = Provenance {
            cluster,
            as_of: None,
        };
        let evidence = Evidence::new(asked, provenance, 200).whole(body.as_bytes());
        let named = issued(&evidence, may_lease)
            .into_iter()
            .map(|issued| match issued.target {
                Some(RevocationTarget::Lease(lease)) => format!("lease {lease}"),
                Some(RevocationTarget::Token(accessor)) => format!("token {accessor}"),
                None => "-".to_owned(),
            });
        named.collect()
    }

    fn said(method: &str, path: &str, body: &str) -> Vec<String> {
        told(method, path, body, ClusterShown::Pinned, false)
    }

    const AUTH: &str =
        r#"{"lease_id":"","auth":{"client_token":"s.x","accessor":"a","lease_duration":60}}"#;

    #[test]
    fn a_login_and_a_creation_bring_a_token_and_a_renewal_none() {
        for path in [
            "auth/approle/login",
            "auth/holdover/login",
            "auth/token/create/r",
        ] {
            assert_eq!(said("PUT", path, AUTH), ["token a"], "{path}");
        }
        for path in ["auth/token/renew-self", "auth/token/renew", "secret/data/a"] {
            assert_eq!(said("PUT", path, AUTH), [""; 0], "{path}");
        }
    }

    #[test]
    fn a_batch_token_is_there_and_nothing_revokes_it() {
        let batch = r#"{"auth":{"client_token":"b.x","accessor":"","lease_duration":60}}"#;
        assert_eq!(said("PUT", "auth/approle/login", batch), ["-"]);
    }

    #[test]
    fn a_lease_is_brought_by_a_read_and_not_by_its_renewal() {
        let lease = r#"{"lease_id":"database/creds/x/1","lease_duration":60,"data":{}}"#;
        assert_eq!(
            said("GET", "database/creds/x", lease),
            ["lease database/creds/x/1"]
        );
        assert_eq!(said("PUT", "sys/leases/renew", lease), [""; 0]);
    }

    #[test]
    fn a_wrapping_is_a_token_of_its_own_beside_the_one_within() {
        let wrapped = r#"{"auth":null,"wrap_info":{"token":"s.w","accessor":"w","ttl":60,"wrapped_accessor":"a"}}"#;
        assert_eq!(
            said("PUT", "auth/token/create", wrapped),
            ["token w", "token a"]
        );
        // What is renewed was there before, and may be somebody else's.
        for renewal in ["renew-self", "renew", "renew-accessor"] {
            let path = format!("auth/token/{renewal}");
            assert_eq!(said("PUT", &path, wrapped), ["token w"], "{path}");
        }
        let wrapped = r#"{"wrap_info":{"token":"s.w","accessor":"w","ttl":60}}"#;
        assert_eq!(said("GET", "secret/data/a", wrapped), ["token w"]);
        // A lease within it is there, and nothing names it.
        let pinned = ClusterShown::Pinned;
        let leased = told("GET", "database/creds/x", wrapped, pinned, true);
        assert_eq!(leased, ["token w", "-"]);
    }

    #[test]
    fn what_another_cluster_says_names_nothing_of_ours() {
        for cluster in [ClusterShown::Foreign, ClusterShown::Unshown] {
            assert_eq!(
                told("PUT", "auth/approle/login", AUTH, cluster, false),
                [""; 0]
            );
        }
    }
}
