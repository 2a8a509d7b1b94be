//! AppRole logins as requests: whether one goes to a mount that is learned from, and what stands for what it brings.

use serde::Deserialize;
use serde_json::{Map, Value};
use shared::{
    api::{Call, Kind},
    approle::ProofDigest,
    change::Cluster,
    name::MountAccessor,
    secret::SecretText,
    settings::Settings,
};

use crate::key::Keys;

/// Where a login goes to.
#[derive(Clone, Copy)]
pub(crate) struct LoginMount<'a> {
    /// The mount's path without `auth/` and slashes at its ends.
    pub(crate) path: &'a str,
    /// The mount's name for good.
    pub(crate) mount: &'a MountAccessor,
}

impl<'a> LoginMount<'a> {
    /// The mount that `call` logs in at, if that is one of AppRole and configured.
    pub(crate) fn of(cluster: &'a Cluster, settings: &Settings, call: &Call) -> Option<Self> {
        if call.kind != Kind::Login {
            return None;
        }
        let path = call.path.as_str();
        let (at, mount) = cluster.mount_of(path)?;
        if !mount.kind.is_approle() || path.strip_prefix(at) != Some("login") {
            return None;
        }
        let path = at.strip_prefix("auth/")?.trim_matches('/');
        let configured = settings.approle_mounts().iter().any(|one| one == path);
        configured.then_some(Self {
            path,
            mount: &mount.accessor,
        })
    }

    /// What stands for a role id at this mount. The primary trims both ids.
    pub(crate) fn role_id(&self, keys: &Keys, role_id: &str) -> ProofDigest {
        role_id_digest(keys, self.mount, role_id)
    }

    /// What stands for a role id and a secret id at this mount.
    pub(crate) fn pair(&self, keys: &Keys, role_id: &str, secret_id: &str) -> ProofDigest {
        keys.proof_digest(&[self.mount.as_str(), role_id.trim(), secret_id.trim()])
    }
}

/// What stands for a role id at a mount.
pub fn role_id_digest(keys: &Keys, mount: &MountAccessor, role_id: &str) -> ProofDigest {
    keys.proof_digest(&[mount.as_str(), role_id.trim()])
}

/// The ids in the body of a login that the primary accepted.
pub(crate) struct Ids {
    role_id: SecretText,
    pub(crate) secret_id: SecretText,
}

impl Ids {
    /// Reads them; none unless both are texts.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            role_id: String,
            secret_id: String,
        }
        let body: Body = serde_json::from_slice(body).ok()?;
        let ids = Self {
            role_id: SecretText::new(body.role_id),
            secret_id: SecretText::new(body.secret_id),
        };
        let given = |id: &SecretText| !id.expose().trim().is_empty();
        (given(&ids.role_id) && given(&ids.secret_id)).then_some(ids)
    }

    /// What stands for the role id, and for both, at `target`.
    pub(crate) fn digests(
        &self,
        target: &LoginMount<'_>,
        keys: &Keys,
    ) -> (ProofDigest, ProofDigest) {
        let (role_id, secret_id) = (self.role_id.expose(), self.secret_id.expose());
        (
            target.role_id(keys, role_id),
            target.pair(keys, role_id, secret_id),
        )
    }
}

/// A text of a login's data, trimmed as the primary does; none if nothing is left of it.
pub(crate) fn id<'a>(data: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    let text = data.get(name)?.as_str()?.trim();
    (!text.is_empty()).then_some(text)
}
