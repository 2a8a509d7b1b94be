//! Entities with metadata, aliases and groups at the primary: what templated and identity policies read.

use std::collections::BTreeSet;

use harness::{Result, bao::api::Api, random::Seeded};
use serde_json::{Map, Value, json};

use crate::sides::Sides;

/// Names that are awkward in a path.
const NAMES: [&str; 6] = ["e0", "e 1", "e/2", "é3", "é 4", "e5"];

/// The entities and groups; made once, changed in every round.
pub(crate) struct People {
    entities: Vec<Entity>,
    groups: Vec<String>,
    token_accessor: String,
    userpass_accessor: String,
}

struct Entity {
    id: String,
    /// The alias at userpass, which has metadata.
    alias_id: String,
    /// Policies of it and of its groups.
    policies: Vec<String>,
}

impl People {
    /// Makes them.
    pub(crate) async fn make(sides: &Sides) -> Result<People> {
        let mut people = People {
            entities: Vec::new(),
            groups: Vec::new(),
            token_accessor: sides.token_accessor.clone(),
            userpass_accessor: sides.userpass_accessor.clone(),
        };
        let root = &sides.root;
        for (nr, name) in NAMES.iter().enumerate() {
            let made = root
                .post("identity/entity", &json!({ "name": name }))
                .await?;
            let id = made.text("/data/id")?;
            let alias = |name: String, accessor: &str| json!({ "name": name, "canonical_id": id, "mount_accessor": accessor });
            let at_token = alias(people.alias(nr), &people.token_accessor);
            root.write("identity/entity-alias", &at_token).await?;
            let at_userpass = alias(format!("u/{nr}+"), &people.userpass_accessor);
            let made = root.post("identity/entity-alias", &at_userpass).await?;
            people.entities.push(Entity {
                id,
                alias_id: made.text("/data/id")?,
                policies: Vec::new(),
            });
        }
        for nr in 0..4 {
            let made = root
                .post("identity/group", &json!({ "name": format!("g{nr}") }))
                .await?;
            people.groups.push(made.text("/data/id")?);
        }
        Ok(people)
    }

    pub(crate) fn count(&self) -> usize {
        self.entities.len()
    }

    /// The name of an entity's alias at the token mount.
    pub(crate) fn alias(&self, nr: usize) -> String {
        format!("t{nr}")
    }

    /// The policies that an entity and its groups add.
    pub(crate) fn policies(&self, nr: usize) -> &[String] {
        &self.entities[nr].policies
    }

    /// Gives them other metadata, policies and groups. Values are mostly segments of paths that are asked for.
    pub(crate) async fn change(
        &mut self,
        random: &mut Seeded,
        root: &Api,
        policies: &[String],
        hot: &[String],
    ) -> Result<()> {
        let chosen = |random: &mut Seeded| -> Vec<String> {
            (0..random.below(3))
                .map(|_| random.pick(policies).clone())
                .collect()
        };
        for entity in &mut self.entities {
            entity.policies = chosen(random);
            let body = json!({
                "metadata": metadata(random, hot),
                "policies": entity.policies,
                "disabled": false,
            });
            root.write(&format!("identity/entity/id/{}", entity.id), &body)
                .await?;
            let mut custom = metadata(random, hot);
            if let Some(custom) = custom.as_object_mut() {
                // The primary takes no empty ones here.
                custom.retain(|_, value| value != "");
            }
            let body = json!({ "custom_metadata": custom });
            root.write(
                &format!("identity/entity-alias/id/{}", entity.alias_id),
                &body,
            )
            .await?;
        }
        // A group holds only those after it, so that none holds itself.
        let mut members: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.groups.len()];
        for nr in (0..self.groups.len()).rev() {
            let direct: Vec<_> = (0..self.count()).filter(|_| random.chance(35)).collect();
            let groups: Vec<_> = (nr + 1..self.groups.len())
                .filter(|_| random.chance(30))
                .collect();
            let policies = chosen(random);
            let entities: Vec<_> = direct
                .iter()
                .map(|member| &self.entities[*member].id)
                .collect();
            let ids: Vec<_> = groups.iter().map(|group| &self.groups[*group]).collect();
            let body = json!({
                "metadata": metadata(random, hot),
                "policies": policies,
                "member_entity_ids": entities,
                "member_group_ids": ids,
            });
            root.write(&format!("identity/group/id/{}", self.groups[nr]), &body)
                .await?;
            let inherited = groups.iter().flat_map(|group| &members[*group]);
            members[nr] = inherited.chain(&direct).copied().collect();
            for member in &members[nr] {
                self.entities[*member]
                    .policies
                    .extend(policies.iter().cloned());
            }
        }
        Ok(())
    }

    /// Disables some, now that they have tokens.
    pub(crate) async fn disable_some(&self, random: &mut Seeded, root: &Api) -> Result<()> {
        for entity in &self.entities {
            if random.chance(2) {
                let path = format!("identity/entity/id/{}", entity.id);
                root.write(&path, &json!({ "disabled": true })).await?;
            }
        }
        Ok(())
    }

    /// Expressions over them, some without a value.
    pub(crate) fn expressions(&self) -> Vec<String> {
        let mut all = Vec::new();
        for selector in [
            "metadata.team",
            "metadata.env",
            "metadata.odd",
            "metadata.empty",
            "metadata.absent",
            "name",
            "id",
        ] {
            all.push(format!("identity.entity.{selector}"));
        }
        all.push("identity.entity.metadata.team".into());
        for selector in [
            "name",
            "id",
            "custom_metadata.team",
            "custom_metadata.odd",
            "metadata.x",
        ] {
            all.push(format!(
                "identity.entity.aliases.{}.{selector}",
                self.userpass_accessor
            ));
        }
        all.push(format!(
            "identity.entity.aliases.{}.name",
            self.token_accessor
        ));
        for selector in [
            "names.g0.name",
            "names.g1.metadata.team",
            "names.g2.id",
            "names.none.name",
        ] {
            all.push(format!("identity.groups.{selector}"));
        }
        all.push(format!("identity.groups.ids.{}.name", self.groups[3]));
        all.push(format!(
            "identity.groups.ids.{}.metadata.env",
            self.groups[1]
        ));
        all.extend(["time.now", "identity.x", "identity.entity", ""].map(str::to_owned));
        all
    }
}

fn metadata(random: &mut Seeded, hot: &[String]) -> Value {
    let mut metadata = Map::new();
    for (name, percent) in [("team", 90), ("env", 60)] {
        if random.chance(percent) {
            let segments: Vec<_> = random.pick(hot).split('/').collect();
            let value = *random.pick(&segments);
            // The primary takes nothing unprintable here.
            let printable = |c: &char| !matches!(c, '\u{200b}' | '\u{a0}');
            let value: String = value.chars().filter(printable).take(100).collect();
            metadata.insert(name.to_owned(), value.into());
        }
    }
    if random.chance(50) {
        let odd = random.pick(&[
            "a/b", "*", "+", "x*", "a b", "日本", "kv/data", "a", "{{", "b",
        ]);
        metadata.insert("odd".into(), (*odd).into());
    }
    metadata.insert("empty".into(), "".into());
    Value::Object(metadata)
}
