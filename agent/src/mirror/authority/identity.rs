//! Entities and their groups, which templated policies read and identity policies come from.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use shared::{
    change::Change,
    identity::{Entity, Group, Identity},
    name::EntityId,
};

use super::AuthorityPass;
use crate::upstream::{ShownReply, UpstreamError};

/// What an entity and its groups may take in all, as they are kept. One that takes more is undecidable, and nobody else's matter.
const MOST_IDENTITY_BYTES: usize = 128 << 10;

/// What is always shown of an entity, of an alias, and of a group, though it may be null. A list that is missing would be
/// taken for an empty one.
const OF_ENTITY: [&str; 8] = [
    "aliases",
    "direct_group_ids",
    "disabled",
    "id",
    "inherited_group_ids",
    "metadata",
    "name",
    "policies",
];
const OF_ALIAS: [&str; 5] = [
    "custom_metadata",
    "id",
    "metadata",
    "mount_accessor",
    "name",
];
const OF_GROUP: [&str; 4] = ["id", "metadata", "name", "policies"];

/// Which groups an entity is in, and which entities it took in, beside what is kept of it.
#[derive(Deserialize)]
struct EntityShown {
    #[serde(flatten)]
    entity: Entity,
    #[serde(default)]
    direct_group_ids: Vec<String>,
    #[serde(default)]
    inherited_group_ids: Vec<String>,
    #[serde(default)]
    merged_entity_ids: Vec<String>,
}

impl AuthorityPass<'_> {
    /// What the primary shows of an entity, as of the moment before it is asked: a pass takes long, and what another has read
    /// meanwhile must not count as newer for it. One that is gone is stored as an identity without an entity: its
    /// tokens are refused.
    ///
    /// # Errors
    /// If it could not be read, or takes more than there is room for.
    pub(super) async fn identity(&self, id: &EntityId) -> Result<Change, UpstreamError> {
        let asked_at = self.context.now().steady;
        let mut identity = Identity::default();
        let path = format!("identity/entity/id/{id}");
        if let Some((shown, data)) = self.of_identity(path, &OF_ENTITY).await? {
            let entity = entity(&shown, data, id)?;
            let mut room = IdentityRoom::new();
            room.take(&shown, &entity.entity)?;
            let (direct, inherited) = (entity.direct_group_ids, entity.inherited_group_ids);
            for group in direct.into_iter().chain(inherited) {
                let path = format!("identity/group/id/{group}");
                // One that was deleted since the entity was read is left out.
                let Some((shown, data)) = self.of_identity(path, &OF_GROUP).await? else {
                    continue;
                };
                let read: Group = parsed(&shown, data)?;
                if read.id != group {
                    return Err(shown.unexpected("it is of another group"));
                }
                room.take(&shown, &read)?;
                identity.groups.push(read);
            }
            identity.entity = Some(entity.entity);
        }
        Ok(Change::Identity(id.clone(), Box::new(identity), asked_at))
    }

    /// Something of `identity/`; none if nothing is there.
    async fn of_identity(
        &self,
        path: String,
        fields: &[&str],
    ) -> Result<Option<(ShownReply, Value)>, UpstreamError> {
        let Some(shown) = self.read(path).await? else {
            return Ok(None);
        };
        let data = shown.data_with(fields)?;
        Ok(Some((shown, data)))
    }
}

/// What is left for an entity and its groups, in bytes.
struct IdentityRoom(usize);

impl IdentityRoom {
    fn new() -> Self {
        Self(MOST_IDENTITY_BYTES)
    }

    fn take(&mut self, shown: &ShownReply, of: &impl Serialize) -> Result<(), UpstreamError> {
        let taken = serde_json::to_vec(of).map_or(usize::MAX, |bytes| bytes.len());
        let left = self.0.checked_sub(taken);
        self.0 = left.ok_or_else(|| {
            let kibibytes = MOST_IDENTITY_BYTES >> 10;
            shown.unexpected(format!(
                "with it the entity and its groups take more than {kibibytes} KiB, for which there is no room"
            ))
        })?;
        Ok(())
    }
}

/// An entity, if it is the one that `id` stands for.
fn entity(shown: &ShownReply, data: Value, id: &EntityId) -> Result<EntityShown, UpstreamError> {
    let aliases = data.get("aliases").and_then(Value::as_array);
    let mut aliases = aliases.into_iter().flatten();
    let is_whole = |alias: &Value| OF_ALIAS.iter().all(|field| alias.get(field).is_some());
    if !aliases.all(is_whole) {
        return Err(shown.unexpected("an alias in it that is none"));
    }
    let read: EntityShown = parsed(shown, data)?;
    let mut took_in = read.merged_entity_ids.iter();
    if read.entity.id == id.as_str() || took_in.any(|taken| taken == id.as_str()) {
        return Ok(read);
    }
    Err(shown.unexpected("it is of another entity"))
}

/// Empty fields of `identity/` are written as null.
fn parsed<T: DeserializeOwned>(shown: &ShownReply, data: Value) -> Result<T, UpstreamError> {
    let read = serde_json::from_value(without_nulls(data));
    read.map_err(|_| shown.unexpected("another type in it"))
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
