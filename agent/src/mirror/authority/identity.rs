//! Entities and their groups, which templated policies read and identity policies come from.

use std::collections::BTreeMap;

use serde::Deserialize;
use shared::{
    change::Change,
    identity::{Alias, Entity, Group, Identity},
    name::EntityId,
};

use super::AuthorityPass;
use crate::upstream::{Request, UpstreamError};

#[derive(Deserialize)]
struct EntityShown {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    policies: Option<Vec<String>>,
    #[serde(default)]
    aliases: Option<Vec<AliasShown>>,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    direct_group_ids: Option<Vec<String>>,
    #[serde(default)]
    inherited_group_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct AliasShown {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    mount_accessor: String,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    custom_metadata: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct GroupShown {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    policies: Option<Vec<String>>,
}

impl AuthorityPass<'_> {
    /// What the primary shows of an entity now. One that is gone is stored as an identity without an entity: its
    /// tokens are refused.
    pub(super) async fn identity(&self, id: &EntityId) -> Result<Change, UpstreamError> {
        let upstream = &self.context.upstream;
        let request = Request::read(format!("identity/entity/id/{id}"));
        let reply = upstream.ask(&request, self.urgency).await?;
        let mut identity = Identity::default();
        if reply.status() != 404 {
            let shown: EntityShown = reply.success()?.data()?;
            let direct = shown.direct_group_ids.iter().flatten();
            let inherited = shown.inherited_group_ids.iter().flatten();
            for group in direct.chain(inherited) {
                identity.groups.extend(self.group(group).await?);
            }
            identity.entity = Some(entity(shown));
        }
        Ok(Change::Identity(id.clone(), Box::new(identity)))
    }

    /// A group; none where it was deleted since the entity was read.
    async fn group(&self, id: &str) -> Result<Option<Group>, UpstreamError> {
        let request = Request::read(format!("identity/group/id/{id}"));
        let reply = self.context.upstream.ask(&request, self.urgency).await?;
        if reply.status() == 404 {
            return Ok(None);
        }
        let shown: GroupShown = reply.success()?.data()?;
        Ok(Some(Group {
            id: shown.id,
            name: shown.name,
            metadata: shown.metadata.unwrap_or_default(),
            policies: shown.policies.unwrap_or_default(),
        }))
    }
}

fn entity(shown: EntityShown) -> Entity {
    let alias = |shown: AliasShown| Alias {
        id: shown.id,
        name: shown.name,
        mount_accessor: shown.mount_accessor,
        metadata: shown.metadata.unwrap_or_default(),
        custom_metadata: shown.custom_metadata.unwrap_or_default(),
    };
    Entity {
        id: shown.id,
        name: shown.name,
        metadata: shown.metadata.unwrap_or_default(),
        policies: shown.policies.unwrap_or_default(),
        aliases: shown.aliases.into_iter().flatten().map(alias).collect(),
        disabled: shown.disabled,
    }
}
