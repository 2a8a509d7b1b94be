//! Who a token stands for: its entity, that entity's aliases, and the groups it is in.
//!
//! This is what the primary's templated policies read, and where identity policies come from. All of it is
//! copied from the primary's `identity/entity` and `identity/group`; nothing here is secret.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use serde::{Deserialize, Serialize};

/// Free-form key and value pairs, as the primary keeps them.
pub type Metadata = BTreeMap<String, String>;

/// The identity behind a token. The default is that of a token without an entity.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// The entity, where the token has one. A merged entity is given as the one that survives.
    pub entity: Option<Entity>,
    /// Direct and inherited groups, external ones included.
    pub groups: Vec<Group>,
}

/// Whom the primary takes the holder of a token for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Entity {
    /// Its id at the primary.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its metadata.
    pub metadata: Metadata,
    /// Names of the policies it carries.
    pub policies: Vec<String>,
    /// Its names at the auth mounts.
    pub aliases: Vec<Alias>,
    /// Tokens of a disabled entity are refused.
    pub disabled: bool,
    /// When it was last written, as the primary shows it: what was changed back is not taken for unchanged.
    pub last_update_time: String,
}

/// An entity's name at one auth mount.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Alias {
    /// Its id at the primary.
    pub id: String,
    /// The name at the mount (`role_id`, user name, …).
    pub name: String,
    /// Accessor of the mount; at most one alias for each.
    pub mount_accessor: String,
    /// Metadata set by the auth method.
    pub metadata: Metadata,
    /// Metadata set by an operator.
    pub custom_metadata: Metadata,
    /// As an entity's.
    pub last_update_time: String,
}

/// A group that an entity is in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Its id at the primary.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its metadata.
    pub metadata: Metadata,
    /// Names of the policies it gives its members.
    pub policies: Vec<String>,
    /// As an entity's; members that come and go count.
    pub last_update_time: String,
}

impl Identity {
    /// Whether tokens of it are good: an entity that is gone or disabled refuses them.
    pub fn stands(&self) -> bool {
        self.entity.as_ref().is_some_and(|entity| !entity.disabled)
    }

    /// The policies that come from the identity, sorted and each once, as the primary names them: trimmed and
    /// in lower case. The primary sorts them together with the token's own.
    pub fn policies(&self) -> Vec<String> {
        let entity = self.entity.iter().flat_map(|entity| &entity.policies);
        let groups = self.groups.iter().flat_map(|group| &group.policies);
        let names = entity.chain(groups).map(|name| name.trim().to_lowercase());
        let unique: BTreeSet<String> = names.filter(|name| !name.is_empty()).collect();
        unique.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_of_an_identity_are_sorted_and_unique() {
        let json = r#"{
            "entity": {"id": "e", "policies": ["Zeta", "alpha "]},
            "groups": [{"name": "g", "policies": ["alpha", ""]}, {"name": "h", "policies": ["beta"]}]
        }"#;
        let identity: Identity = serde_json::from_str(json).unwrap();
        assert_eq!(identity.policies(), ["alpha", "beta", "zeta"]);
        assert_eq!(Identity::default().policies(), [""; 0]);
    }
}
