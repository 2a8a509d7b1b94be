//! What the primary shows of secret ids and of second factors.

use std::collections::BTreeMap;

use serde::Deserialize;
use shared::{
    name::{Accessor, MountAccessor},
    time::WallTime,
};

use crate::upstream::{Reply, UpstreamError};

/// What logins need a second factor, as of one verification.
#[derive(Default)]
pub(super) struct Enforcements(pub(super) Vec<Enforcement>);

/// One of them.
#[derive(Default, Deserialize)]
pub(super) struct Enforcement {
    #[serde(default)]
    auth_method_accessors: Option<Vec<String>>,
    #[serde(default)]
    auth_method_types: Option<Vec<String>>,
    #[serde(default)]
    identity_entity_ids: Option<Vec<String>>,
    #[serde(default)]
    identity_group_ids: Option<Vec<String>>,
}

impl Enforcements {
    /// Whether a login at `mount` may need one. Whom an enforcement by entity or group means is not looked into.
    pub(super) fn may_ask(&self, mount: &MountAccessor) -> bool {
        self.0.iter().any(|one| {
            let named = |list: &Option<Vec<String>>, text: &str| {
                list.iter().flatten().any(|other| other == text)
            };
            let given = |list: &Option<Vec<String>>| list.iter().flatten().next().is_some();
            named(&one.auth_method_accessors, mount.as_str())
                || named(&one.auth_method_types, "approle")
                || given(&one.identity_entity_ids)
                || given(&one.identity_group_ids)
        })
    }
}

/// `data` of a look-up of a secret id, by itself or by its accessor.
#[derive(Deserialize)]
pub(super) struct SecretIdShown {
    #[serde(default)]
    pub(super) cidr_list: Option<Vec<String>>,
    expiration_time: String,
    #[serde(default)]
    pub(super) metadata: Option<BTreeMap<String, String>>,
    pub(super) secret_id_accessor: Accessor,
    pub(super) secret_id_num_uses: i64,
    #[serde(default)]
    pub(super) token_bound_cidrs: Option<Vec<String>>,
}

impl SecretIdShown {
    /// Of a reply; none if there is no such secret id: one that is gone is 404, one that is past or unknown 204.
    pub(super) fn of(reply: Reply) -> Result<Option<Self>, UpstreamError> {
        match reply.status() {
            204 | 404 => Ok(None),
            _ => Ok(Some(reply.success()?.data()?)),
        }
    }

    /// When it ends; none is never, which the primary writes as the year one.
    pub(super) fn expires(&self) -> Result<Option<WallTime>, UpstreamError> {
        let text = &self.expiration_time;
        if text.starts_with("0001-01-01T00:00:00") {
            return Ok(None);
        }
        let end = WallTime::parse_rfc3339(text);
        end.map(Some).ok_or_else(|| UpstreamError::Malformed {
            path: "secret-id lookup".to_owned(),
            what: "expiration_time is not a time".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(expiration: &str) -> SecretIdShown {
        let text = format!(
            r#"{{"cidr_list":[],"creation_time":"2026-11-23T07:34:55.265690543Z","expiration_time":"{expiration}",
            "last_updated_time":"2026-11-23T07:34:55.265690543Z","metadata":{{"k":"v"}},
            "secret_id_accessor":"afafb8eb-e3c1-0b7f-762f-0dbda6dc8191","secret_id_num_uses":0,"secret_id_ttl":0,
            "token_bound_cidrs":[]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_year_one_is_never_and_what_cannot_be_read_is_not_taken_for_it() {
        assert_eq!(shown("0001-01-01T00:00:00Z").expires(), Ok(None));
        let end = "2026-11-23T07:38:33.918950798Z";
        assert_eq!(shown(end).expires(), Ok(WallTime::parse_rfc3339(end)));
        assert!(shown("soon").expires().is_err());
    }

    #[test]
    fn an_enforcement_that_may_mean_a_login_counts() {
        let mount = MountAccessor::parse("auth_approle_1").unwrap();
        let asks =
            |text: &str| Enforcements(vec![serde_json::from_str(text).unwrap()]).may_ask(&mount);
        assert!(asks(r#"{"auth_method_accessors":["auth_approle_1"]}"#));
        assert!(asks(r#"{"auth_method_types":["approle"]}"#));
        assert!(asks(r#"{"identity_entity_ids":["e"]}"#));
        assert!(asks(r#"{"identity_group_ids":["g"]}"#));
        assert!(!asks(
            r#"{"auth_method_types":["userpass"],"auth_method_accessors":null}"#
        ));
        assert!(!Enforcements::default().may_ask(&mount));
    }
}
