//! Entities and their groups, which templated policies read and identity policies come from.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use shared::{
    change::Change,
    identity::{Entity, Group, Identity},
    name::EntityId,
};

use super::AuthorityPass;
use crate::upstream::UpstreamError;

/// Which groups an entity is in, beside what is kept of it.
#[derive(Deserialize)]
struct EntityShown {
    #[serde(flatten)]
    entity: Entity,
    #[serde(default)]
    direct_group_ids: Vec<String>,
    #[serde(default)]
    inherited_group_ids: Vec<String>,
}

impl AuthorityPass<'_> {
    /// What the primary shows of an entity now. One that is gone is stored as an identity without an entity: its
    /// tokens are refused.
    pub(super) async fn identity(&self, id: &EntityId) -> Result<Change, UpstreamError> {
        let mut identity = Identity::default();
        let path = format!("identity/entity/id/{id}");
        if let Some(shown) = self.shown::<EntityShown>(path).await? {
            let (direct, inherited) = (shown.direct_group_ids, shown.inherited_group_ids);
            for group in direct.into_iter().chain(inherited) {
                // One that was deleted since the entity was read is left out.
                let path = format!("identity/group/id/{group}");
                identity.groups.extend(self.shown::<Group>(path).await?);
            }
            identity.entity = Some(shown.entity);
        }
        Ok(Change::Identity(id.clone(), Box::new(identity)))
    }

    /// Something of `identity/`, whose empty fields the primary writes as null; none if nothing is there.
    async fn shown<T: DeserializeOwned>(&self, path: String) -> Result<Option<T>, UpstreamError> {
        let Some(reply) = self.read(path).await? else {
            return Ok(None);
        };
        let data = without_nulls(reply.data()?);
        if !data.get("id").is_some_and(Value::is_string) {
            return Err(reply.unexpected("no id in it"));
        }
        let shown = serde_json::from_value(data);
        shown
            .map(Some)
            .map_err(|_| reply.unexpected("it is not what it was"))
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(without_nulls).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            let fields = fields.map(|(name, value)| (name, without_nulls(value)));
            Value::Object(fields.collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_null_is_empty() {
        let shown = json!({"id": "e", "name": "n", "metadata": null, "policies": null, "disabled": false,
            "aliases": [{"id": "a", "name": "r", "mount_accessor": "m", "metadata": {"k": "v"}, "custom_metadata": null}],
            "direct_group_ids": ["g"], "inherited_group_ids": null, "merged_entity_ids": null});
        let shown: EntityShown = serde_json::from_value(without_nulls(shown)).unwrap();
        let entity = shown.entity;
        assert_eq!((entity.id.as_str(), entity.aliases.len()), ("e", 1));
        assert!(entity.metadata.is_empty() && entity.aliases[0].custom_metadata.is_empty());
        assert_eq!(entity.aliases[0].metadata["k"], "v");
        assert_eq!(
            (
                shown.direct_group_ids.len(),
                shown.inherited_group_ids.len()
            ),
            (1, 0)
        );
    }
}
