//! Answers of another shape than their path has: value and age stay, the path is named, and the next good answer counts.
//!
//! Each kind of path that is mirrored, in every way in which its answer can be spoilt. The answers come from a real primary
//! and are spoilt on their way.

#[path = "shapes/bounds.rs"]
mod bounds;
#[path = "shapes/kinds.rs"]
mod kinds;
#[path = "shapes/spoilt.rs"]
mod spoilt;
#[path = "shapes/stand_in.rs"]
mod stand_in;

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use harness::{
    Result,
    bao::{DatabaseRole, Primary, Transport, api::Api},
    daemon::config::Workload,
    postgres::Postgres,
    world::{self, World},
};
use holdover::{
    mirror::{Anew, Mirrors, Occasion, PassError},
    upstream::policy::required_policy,
};
use serde_json::json;
use shared::{name::TokenDigest, secret::SecretText, time::WallTime};

use self::{
    kinds::{Drive, Kind, Touch},
    stand_in::{Asked, StandIn},
};
use super::{
    policy::log_in_by_approle,
    rig::{BOUND, Host, Plan},
};

/// A host that mirrors through a stand-in, and asks of its own accord next to nothing.
struct Stage {
    primary: Primary,
    stand_in: StandIn,
    host: Host,
}

impl Stage {
    /// With the same mirrors and authority as `plan`; `ready` says when the first passes are over.
    async fn set(primary: Primary, plan: impl FnOnce(Plan) -> Plan, more: &str) -> Result<Stage> {
        let stand_in = StandIn::before(primary.address()).await?;
        let address = [stand_in.address()];
        let plan = plan(Plan::new(&primary)?.file(|file| {
            file.primary(&address, None)
                .set("primary.requests_per_second", 10_000)
                .set("primary.token_check_interval", "1h")
                .set("failover.authority_interval", "1h")
                .set("failover.authority_max_age", "2h")
        }));
        let mut host = plan.prepare().await?;
        host.give_login(&primary, json!({ "token_period": "1h" }))
            .await?;
        let policy = format!("{}\n{more}", required_policy(&host.config.settings));
        world::policy(&primary.root(), "holdover", &policy).await?;
        host.run();
        host.until("first passes", |host| {
            let statuses = host.mirrors.statuses();
            match statuses.iter().all(|status| status.age.is_some())
                && host.local.view.authority().policies.is_some()
            {
                true => Ok(()),
                false => Err(format!("{statuses:?}")),
            }
        })
        .await?;
        Ok(Stage {
            primary,
            stand_in,
            host,
        })
    }

    /// Plays every way of spoiling these answers, and fails with all that went wrong.
    async fn play(&self, kinds: &[Kind]) -> Result<()> {
        let mut wrong = String::new();
        for kind in kinds {
            let ways = kind.spoilt();
            assert!(
                ways.len() >= 20,
                "only {} ways for {}",
                ways.len(),
                kind.name
            );
            for (nr, spoilt) in ways.into_iter().enumerate() {
                if let Err(what) = self.play_one(kind, nr).await? {
                    let _ = writeln!(wrong, "{}, {}: {what}", kind.name, spoilt.name);
                }
            }
            if let Err(what) = self.recover(kind).await? {
                let _ = writeln!(wrong, "{}, good again: {what}", kind.name);
            }
        }
        assert!(
            wrong.is_empty(),
            "these counted, or were not told of:\n{wrong}"
        );
        Ok(())
    }

    /// One spoilt answer. What should have stayed and did not, in words.
    async fn play_one(&self, kind: &Kind, nr: usize) -> Result<std::result::Result<(), String>> {
        self.touch(kind.touch).await?;
        let before = self.picture();
        let mirrors = self.mirrors();
        let ways = kind.spoilt();
        let (one, name) = (ways[nr], ways[nr].name.clone());
        let spoil = one.spoil.clone();
        self.stand_in
            .spoil(&kind.asked, move |answer| spoil(answer));
        let passed = self.drive(kind.drive, &mirrors).await;
        let hits = self.stand_in.be_good();
        let after = self.picture();
        Ok((|| {
            if hits == 0 {
                return Err(format!("{name} was never asked for: {passed:?}"));
            }
            for (what, known) in brought(&before, kind.brings) {
                match after.get(what) {
                    Some(now) if now == known => {}
                    now => return Err(format!("{what} was {known:?} and is {now:?}")),
                }
            }
            for (what, known) in brought(&before, kind.spares) {
                let now = after.get(what).map(|item| item.verified);
                if now <= Some(known.verified) {
                    return Err(format!("{what} was not verified: {now:?}"));
                }
            }
            let told = told(&mirrors, &passed);
            match told.contains(kind.named) {
                true => Ok(()),
                false => Err(format!("the path is not named: {told}")),
            }
        })())
    }

    /// A good answer again. What is not as fresh as it, in words.
    async fn recover(&self, kind: &Kind) -> Result<std::result::Result<(), String>> {
        let since = self.host.local.clock.now().steady;
        let mirrors = self.mirrors();
        let passed = self.drive(kind.drive, &mirrors).await;
        let told = told(&mirrors, &passed);
        let now = self.picture();
        let mut brought = brought(&now, kind.brings).peekable();
        if brought.peek().is_none() {
            return Ok(Err(format!("nothing is known: {told}")));
        }
        let stale = brought.find(|(_, item)| item.verified.is_some_and(|at| at < since));
        Ok(match (stale, told.is_empty()) {
            (None, true) => Ok(()),
            (None, false) => Err(told),
            (Some((what, item)), _) => Err(format!("{what} is as of {:?}", item.verified)),
        })
    }

    async fn drive(&self, drive: Drive, mirrors: &Mirrors) -> std::result::Result<(), PassError> {
        match drive {
            Drive::Authority => mirrors.verify_authority(Occasion::Cycle).await.map(drop),
            Drive::Mirror(path) => mirrors.sync_now(path, Occasion::Cycle).await,
            Drive::Token => mirrors.ask_anew(&self.tokens(), &[], false).await,
        }
    }

    /// What begins anew remembers nothing that would save it a question.
    fn mirrors(&self) -> Mirrors {
        let (upstream, local) = (self.host.upstream.clone(), self.host.local.clone());
        Mirrors::new(
            &self.host.config,
            upstream,
            local,
            Vec::new(),
            Anew::default(),
        )
    }

    async fn touch(&self, touch: Touch) -> Result<()> {
        let root = self.primary.root();
        match touch {
            Touch::Nothing => {}
            Touch::Write(path) => {
                root.write(path, &json!({ "data": { "new": true } }))
                    .await?;
            }
            Touch::Deleted(path) => {
                root.write(path, &json!({ "data": { "new": true } }))
                    .await?;
                root.delete(path).await?.ok()?;
            }
            Touch::Lease => {
                for lease in self.host.local.view.secrets().leases.keys() {
                    let body = json!({ "lease_id": lease.as_str(), "sync": true });
                    root.put("sys/leases/revoke", &body).await?.ok()?;
                }
            }
        }
        Ok(())
    }

    fn tokens(&self) -> Vec<TokenDigest> {
        let grants = self.host.local.view.grants();
        grants.iter().map(|live| live.grant.digest).collect()
    }

    /// Everything that is kept of the primary, by name.
    fn picture(&self) -> BTreeMap<String, Item> {
        let mut picture = BTreeMap::new();
        let view = &self.host.local.view;
        let (authority, secrets) = (view.authority(), view.secrets());
        let mut add = |name: String, value: String, verified: Option<WallTime>| {
            picture.insert(name, Item { value, verified });
        };
        for ((place, version), held) in &secrets.records {
            let mirror = self.host.config.settings.mirror(place.path.as_str());
            let state = mirror.and_then(|one| authority.mirrors.get(&one.path.configured()));
            let body = held.body.open(view.keys()).unwrap();
            let value = format!(
                "{:?} {:?} {}",
                held.record.state,
                held.record.form,
                String::from_utf8_lossy(body.expose())
            );
            let verified = held.record.verified(state.map(AsRef::as_ref));
            let version = version.map_or(String::new(), |version| format!("@{version}"));
            add(
                format!("record {}{version}", place.path),
                value,
                Some(verified),
            );
        }
        for (place, key) in &secrets.keys {
            add(format!("key {}", place.path), key.metadata.clone(), None);
        }
        for (id, held) in &secrets.leases {
            let body = held.body.open(view.keys()).unwrap();
            let value = String::from_utf8_lossy(body.expose()).into_owned();
            add(format!("lease {id}"), value, Some(held.lease.verified_at));
        }
        if let Some(cluster) = &authority.cluster {
            add(
                "cluster".into(),
                text(&**cluster),
                Some(cluster.verified_at),
            );
        }
        if let Some(policies) = &authority.policies {
            let set = &policies.set;
            let names: Vec<_> = set.policies.keys().collect();
            add("policies".into(), text(&names), Some(set.verified_at));
            for (name, policy) in &set.policies {
                add(
                    format!("policy {name}"),
                    text(policy),
                    Some(set.verified(name)),
                );
            }
        }
        for (name, one) in &authority.workloads {
            add(
                format!("workload {name}"),
                text(&**one),
                Some(one.verified_at),
            );
        }
        for (id, one) in &authority.identities {
            add(
                format!("identity {id}"),
                text(&*one.identity),
                Some(one.verified_at),
            );
        }
        for (key, one) in &authority.approles {
            add(
                format!("AppRole {}", key.name),
                text(&**one),
                Some(one.verified_at),
            );
        }
        for one in authority.secret_ids.values() {
            add(
                format!("secret id {}", one.accessor),
                text(&**one),
                Some(one.verified_at),
            );
        }
        for live in view.grants() {
            let grant = &live.grant;
            add(
                format!("grant {}", grant.accessor),
                text(grant),
                Some(grant.verified_at),
            );
        }
        picture
    }
}

/// Something that is kept.
#[derive(Clone, PartialEq, Debug)]
struct Item {
    value: String,
    /// Where it has an age.
    verified: Option<WallTime>,
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

fn brought<'p>(
    picture: &'p BTreeMap<String, Item>,
    names: &'static [&'static str],
) -> impl Iterator<Item = (&'p String, &'p Item)> {
    picture
        .iter()
        .filter(|(name, _)| names.iter().any(|begin| name.starts_with(begin)))
}

/// All that is told of what went wrong.
fn told(mirrors: &Mirrors, passed: &std::result::Result<(), PassError>) -> String {
    let mut told: Vec<_> = passed
        .as_ref()
        .err()
        .map(ToString::to_string)
        .into_iter()
        .collect();
    let statuses = mirrors.statuses().into_iter();
    told.extend(
        statuses
            .filter(|status| status.errors > 0)
            .filter_map(|status| status.last_error),
    );
    told.extend(mirrors.unread());
    let orders = shared::name::WorkloadName::parse("orders").unwrap();
    let unseen = |text: &String| text.contains("has not been verified since the start");
    told.extend(
        mirrors
            .failures(&orders)
            .into_iter()
            .filter(|text| !unseen(text)),
    );
    told.join("; ")
}

async fn kv_mounts(root: &Api) -> Result<()> {
    for (at, version) in [
        ("secret", "2"),
        ("listed", "2"),
        ("kv1", "1"),
        ("kv1listed", "1"),
    ] {
        let mount = json!({ "type": "kv", "options": { "version": version } });
        root.write(&format!("sys/mounts/{at}"), &mount).await?;
    }
    // A mount of KV v2 is upgraded for a moment after it was made.
    for path in [
        "secret/data/shop/a",
        "secret/data/shop/b",
        "secret/data/shop/gone",
        "secret/data/one",
        "listed/data/a",
        "listed/data/b",
        "kv1/a",
        "kv1/b",
        "kv1listed/a",
        "kv1listed/b",
    ] {
        let value = match path.starts_with("kv1") {
            true => json!({ "value": path }),
            false => json!({ "data": { "value": path } }),
        };
        harness::eventually(BOUND, path, async || match root.post(path, &value).await {
            Ok(answer) if answer.status < 300 => Ok(()),
            Ok(answer) => Err(answer.body.to_string()),
            Err(failure) => Err(failure.to_string()),
        })
        .await?;
    }
    Ok(())
}

fn mirrored(plan: Plan, paths: &[&str]) -> Plan {
    let slowly = [("interval", "1h".into()), ("max_staleness", "2h".into())];
    let paths = paths.iter();
    paths.fold(plan, |plan, path| plan.mirror(path, &slowly))
}

#[tokio::test]
async fn no_spoilt_answer_of_a_kv_mount_counts() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    kv_mounts(&primary.root()).await?;
    let lists = "path \"listed/metadata/*\" { capabilities = [\"read\", \"list\"] }\n\
                 path \"kv1listed/\" { capabilities = [\"list\"] }\n";
    let mirrors = [
        "secret/data/shop/*",
        "secret/data/one",
        "listed/data/*",
        "kv1/*",
        "kv1listed/*",
    ];
    let stage = Stage::set(primary, |plan| mirrored(plan, &mirrors), lists).await?;
    for path in ["listed/detailed-metadata/", "kv1listed/"] {
        let path = path.to_owned();
        stage.stand_in.refuse(Asked {
            method: "SCAN",
            path,
        });
    }
    stage.play(&kinds::of_kv()).await
}

#[tokio::test]
async fn no_spoilt_answer_of_another_path_counts() -> Result<()> {
    let (primary, _postgres) = database().await?;
    let root = primary.root();
    kv_mounts(&root).await?;
    root.write("sys/mounts/pki", &json!({ "type": "pki" }))
        .await?;
    let ca = json!({ "common_name": "shop.test", "key_type": "ec", "key_bits": 256 });
    root.write("pki/root/generate/internal", &ca).await?;
    let mirrors = [
        "secret/config",
        "pki/ca/pem",
        "identity/oidc/.well-known/keys",
        "database/creds/orders",
    ];
    let stage = Stage::set(primary, |plan| mirrored(plan, &mirrors), "").await?;
    stage.play(&kinds::of_paths()).await
}

/// What is wrong with one lease of a pool keeps the others neither from being verified nor the pool from being filled.
#[tokio::test]
async fn one_bad_look_up_spares_the_other_leases_of_a_pool() -> Result<()> {
    let (primary, _postgres) = database().await?;
    let pool = [
        ("interval", "1h".into()),
        ("max_staleness", "2h".into()),
        ("pool", 3.into()),
    ];
    let path = "database/creds/orders";
    let stage = Stage::set(primary, |plan| plan.mirror(path, &pool), "").await?;
    let leases = |host: &Host| {
        let secrets = host.local.view.secrets();
        let leases = secrets.leases.values();
        let leases: BTreeMap<_, _> = leases
            .map(|held| (held.lease.id.clone(), held.lease.verified_at))
            .collect();
        leases
    };
    stage
        .host
        .until("the pool", |host| match leases(host).len() {
            3 => Ok(()),
            count => Err(count.to_string()),
        })
        .await?;
    // The first of three is spoilt, and another one has gone.
    let before = leases(&stage.host);
    let ids: Vec<_> = before.keys().cloned().collect();
    let gone = json!({ "lease_id": ids[2].as_str(), "sync": true });
    let root = stage.primary.root();
    root.put("sys/leases/revoke", &gone).await?.ok()?;
    let asked = Asked {
        method: "POST",
        path: "sys/leases/lookup".to_owned(),
    };
    let spoilt = ids[0].as_str().to_owned();
    stage.stand_in.spoil(&asked, move |mut answer| {
        if String::from_utf8_lossy(&answer.body).contains(&spoilt) {
            answer.body.clear();
        }
        answer
    });
    let mirrors = stage.mirrors();
    let passed = mirrors.sync_now(path, Occasion::Cycle).await;
    let told = passed.unwrap_err().to_string();
    assert!(told.contains("sys/leases/lookup"), "{told}");
    let after = leases(&stage.host);
    assert_eq!(after.get(&ids[0]), before.get(&ids[0]), "the spoilt one");
    assert!(
        after.get(&ids[1]) > before.get(&ids[1]),
        "{before:?} {after:?}"
    );
    assert!(
        !after.contains_key(&ids[2]) && after.len() == 3,
        "{after:?}"
    );
    Ok(())
}

async fn database() -> Result<(Primary, Postgres)> {
    let primary = Primary::start(Transport::Plain).await?;
    let postgres = Postgres::start().await?;
    let role = DatabaseRole {
        name: "orders",
        default_ttl: Duration::from_secs(3600),
        max_ttl: Duration::from_secs(7200),
    };
    primary.enable_database(&postgres, &role).await?;
    Ok((primary, postgres))
}

/// A workload with an entity in a group.
async fn workload(primary: &Primary) -> Result<(Workload, String, String)> {
    World::seed(primary, 1).await?;
    let root = primary.root();
    let role = json!({
        "orphan": true, "allowed_policies": ["orders"], "token_type": "default-service",
        "allowed_entity_aliases": ["orders-host"],
    });
    root.write("auth/token/roles/orders", &role).await?;
    let made = root
        .post("identity/entity", &json!({ "name": "orders" }))
        .await?;
    let entity = made.text("/data/id")?;
    let mounts = root.get("sys/auth").await?;
    let alias = json!({ "name": "orders-host", "canonical_id": entity,
        "mount_accessor": mounts.text("/data/token~1/accessor")? });
    root.write("identity/entity-alias", &alias).await?;
    let group = json!({ "name": "team", "member_entity_ids": [entity] });
    let group = root
        .post("identity/group", &group)
        .await?
        .text("/data/id")?;
    let workload = Workload::new("orders", "orders")
        .uid(4242)
        .issues("1m", "10m");
    Ok((workload.set("entity_alias", "orders-host"), entity, group))
}

async fn authority() -> Result<(Stage, String, String)> {
    let primary = Primary::start(Transport::Plain).await?;
    let (workload, entity, group) = workload(&primary).await?;
    let more = "path \"sys/policies/acl\" { capabilities = [\"list\"] }\n\
                path \"sys/policies/acl/*\" { capabilities = [\"read\"] }\n";
    let plan = |plan: Plan| plan.file(|file| file.workload(workload));
    let stage = Stage::set(primary, plan, more).await?;
    stage
        .host
        .until("authority", |host| {
            match host.local.view.authority().workloads.len() {
                1 => Ok(()),
                known => Err(format!("{known} known")),
            }
        })
        .await?;
    Ok((stage, entity, group))
}

#[tokio::test]
async fn no_spoilt_answer_about_authority_counts() -> Result<()> {
    let (stage, entity, group) = authority().await?;
    stage.play(&kinds::of_authority(&entity, &group)).await?;
    let path = "sys/policies/detailed/acl/".to_owned();
    stage.stand_in.refuse(Asked {
        method: "LIST",
        path,
    });
    stage.play(&kinds::of_single_policies()).await
}

#[tokio::test]
async fn no_spoilt_answer_about_logins_and_tokens_counts() -> Result<()> {
    let (stage, ..) = authority().await?;
    log_in_by_approle(&stage.host, &stage.primary).await?;
    let root = stage.primary.root();
    let token = root
        .post(
            "auth/token/create",
            &json!({ "policies": ["orders"], "ttl": "1h" }),
        )
        .await?
        .text("/auth/client_token")?;
    stage.host.see(&token).await?;
    stage
        .host
        .until("the token to be learned", |_| {
            match stage.tokens().len() {
                0 => Err("none"),
                _ => Ok(()),
            }
            .map_err(str::to_owned)
        })
        .await?;
    stage.play(&kinds::of_approle()).await?;
    stage.play(&kinds::of_tokens()).await?;
    stage.look_up(&token).await
}

impl Stage {
    /// Look-ups of a token by itself and of Holdover's own bring nothing but an error.
    async fn look_up(&self, token: &str) -> Result<()> {
        let (upstream, mut wrong) = (&self.host.upstream, String::new());
        let token = SecretText::new(token.to_owned());
        for kind in kinds::of_look_ups() {
            for one in kind.spoilt() {
                let spoil = one.spoil.clone();
                self.stand_in
                    .spoil(&kind.asked, move |answer| spoil(answer));
                let shown = match kind.asked.method {
                    "GET" => upstream.lookup_self(&token).await,
                    _ => upstream.lookup_token(&token).await,
                };
                let hits = self.stand_in.be_good();
                let error = shown
                    .map(|token| token.facts.path)
                    .map_err(|error| error.to_string());
                match error {
                    Err(error) if hits > 0 && error.contains(kind.named) => {}
                    other => {
                        let _ = writeln!(wrong, "{}, {}: {hits} {other:?}", kind.name, one.name);
                    }
                }
            }
        }
        assert!(
            wrong.is_empty(),
            "these counted, or were not told of:\n{wrong}"
        );
        assert!(upstream.lookup_token(&token).await.is_ok());
        assert!(upstream.lookup_self(&token).await.is_ok());
        Ok(())
    }
}

/// What a pass could not read of one key is an operator's to know, and no reason to stop for anybody else.
#[tokio::test]
async fn a_sync_that_could_not_read_a_key_says_so() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    kv_mounts(&primary.root()).await?;
    let stage = Stage::set(primary, |plan| mirrored(plan, &["kv1/*"]), "").await?;
    let asked = Asked {
        method: "GET",
        path: "kv1/a".to_owned(),
    };
    stage.stand_in.spoil(&asked, |mut answer| {
        answer.body.clear();
        answer
    });
    let mirrors = stage.mirrors();
    let cycle = mirrors.sync_now("kv1/*", Occasion::Cycle).await;
    assert!(cycle.is_ok(), "{cycle:?}");
    let operator = mirrors.sync_now("kv1/*", Occasion::Operator).await;
    let told = operator.unwrap_err().to_string();
    assert!(told.contains("kv1/a") && !told.contains("kv1/b"), "{told}");
    stage.stand_in.be_good();
    mirrors.sync_now("kv1/*", Occasion::Operator).await?;
    Ok(())
}

/// Where the cluster's index cannot be read, everything is asked for, and the status says why.
#[tokio::test]
async fn no_spoilt_answer_about_the_leader_saves_a_question() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    kv_mounts(&primary.root()).await?;
    let path = "secret/data/shop/*";
    let stage = Stage::set(primary, |plan| mirrored(plan, &[path]), "").await?;
    let mirrors = stage.mirrors();
    let asked = kinds::leader();
    for one in asked.spoilt() {
        let scans = || {
            super::rig::audited(&stage.primary)
                .map(|all| all.iter().filter(|one| one.operation == "scan").count())
        };
        mirrors.sync_now(path, Occasion::Cycle).await?;
        let before = scans()?;
        let spoil = one.spoil.clone();
        stage
            .stand_in
            .spoil(&asked.asked, move |answer| spoil(answer));
        let passed = mirrors.sync_now(path, Occasion::Cycle).await;
        let hits = stage.stand_in.be_good();
        assert!(
            hits > 0 && passed.is_ok(),
            "{}: {hits} {passed:?}",
            one.name
        );
        assert!(scans()? > before, "{}: nothing was asked for", one.name);
        let unread = mirrors.unread();
        assert!(
            unread.iter().any(|text| text.contains("sys/leader")),
            "{}: {unread:?}",
            one.name
        );
    }
    mirrors.sync_now(path, Occasion::Cycle).await?;
    assert!(mirrors.unread().is_empty(), "{:?}", mirrors.unread());
    Ok(())
}
