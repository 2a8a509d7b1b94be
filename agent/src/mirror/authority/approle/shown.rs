//! What the primary shows of secret ids and of second factors.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error};
use shared::{
    name::{Accessor, MountAccessor},
    strict::present,
    time::WallTime,
};

use crate::upstream::{Said, UpstreamError};

/// What logins need a second factor, as of one verification.
#[derive(Default)]
pub(super) struct Enforcements(pub(super) Vec<Enforcement>);

/// One of them.
#[derive(Deserialize)]
pub(super) struct Enforcement {
    #[serde(deserialize_with = "present")]
    auth_method_accessors: Option<Vec<String>>,
    #[serde(deserialize_with = "present")]
    auth_method_types: Option<Vec<String>>,
    #[serde(deserialize_with = "present")]
    identity_entity_ids: Option<Vec<String>>,
    #[serde(deserialize_with = "present")]
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
    #[serde(deserialize_with = "present")]
    pub(super) cidr_list: Option<Vec<String>>,
    /// None is never.
    #[serde(rename = "expiration_time", deserialize_with = "end")]
    pub(super) expires: Option<WallTime>,
    #[serde(deserialize_with = "present")]
    pub(super) metadata: Option<BTreeMap<String, String>>,
    pub(super) secret_id_accessor: Accessor,
    pub(super) secret_id_num_uses: i64,
    #[serde(deserialize_with = "present")]
    pub(super) token_bound_cidrs: Option<Vec<String>>,
}

impl SecretIdShown {
    /// As a look-up shows it; none if there is no such secret id: past or unknown it is 204, unknown by its accessor 404 with
    /// a word about it.
    pub(super) fn of(said: &Said) -> Result<Option<Self>, UpstreamError> {
        #[derive(Deserialize)]
        struct Lost {
            #[serde(rename = "error")]
            _error: String,
        }
        match said {
            Said::Done { .. } | Said::Missing(_) => Ok(None),
            Said::Emptied(shown) => shown.data::<Lost>().map(|_| None),
            Said::Shown(shown) => shown.data().map(Some),
            Said::No(_) => Err(said.unfit()),
        }
    }
}

/// When a secret id ends; never is written as the year one.
fn end<'de, D: Deserializer<'de>>(time: D) -> Result<Option<WallTime>, D::Error> {
    let text = String::deserialize(time)?;
    if text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    let end = WallTime::parse_rfc3339(&text);
    end.map(Some)
        .ok_or_else(|| D::Error::custom("it is not a time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expires(expiration: &str) -> Result<Option<WallTime>, serde_json::Error> {
        let text = format!(
            r#"{{"cidr_list":[],"creation_time":"2026-11-23T07:34:55.265690543Z","expiration_time":"{expiration}",
            "last_updated_time":"2026-11-23T07:34:55.265690543Z","metadata":{{"k":"v"}},
            "secret_id_accessor":"afafb8eb-e3c1-0b7f-762f-0dbda6dc8191","secret_id_num_uses":0,"secret_id_ttl":0,
            "token_bound_cidrs":[]}}"#
        );
        serde_json::from_str::<SecretIdShown>(&text).map(|shown| shown.expires)
    }

    #[test]
    fn the_year_one_is_never_and_what_cannot_be_read_is_not_taken_for_it() {
        assert_eq!(expires("0001-01-01T00:00:00Z").unwrap(), None);
        let end = "2026-11-23T07:38:33.918950798Z";
        assert_eq!(expires(end).unwrap(), WallTime::parse_rfc3339(end));
        assert!(expires("soon").is_err());
    }

    #[test]
    fn an_enforcement_that_may_mean_a_login_counts() {
        let mount = MountAccessor::parse("auth_approle_1").unwrap();
        let asks = |field: &str, value: &str| {
            let mut shown = serde_json::json!({ "auth_method_accessors": null, "auth_method_types": null,
                "identity_entity_ids": null, "identity_group_ids": null });
            shown[field] = serde_json::json!([value]);
            Enforcements(vec![serde_json::from_value(shown).unwrap()]).may_ask(&mount)
        };
        assert!(asks("auth_method_accessors", "auth_approle_1"));
        assert!(asks("auth_method_types", "approle"));
        assert!(asks("identity_entity_ids", "e"));
        assert!(asks("identity_group_ids", "g"));
        assert!(!asks("auth_method_types", "userpass"));
        assert!(!Enforcements::default().may_ask(&mount));
    }
}
