//! The two sides: a live primary, and a replica in this process that holds what its own mirror read there.

use std::{sync::Arc, time::Duration};

use harness::{
    Context, Failure, Result, bao::api::Api, client::raw::Client, daemon::config::Config as File,
    eventually, place::Room, random::Seeded, world,
};
use holdover::{
    clock::Clock,
    config::Config,
    local::Local,
    mirror::{Anew, Mirrors, Occasion},
    upstream::{Upstream, policy::required_policy},
};
use replica::{
    entropy::OsEntropy,
    key::slot::{Source, create_file},
    learn,
    sequencer::Lane,
    store::{Location, Replica},
};
use serde_json::{Value, json};
use shared::{
    change::{Change, Expects, PhaseRecord},
    failover::{Cause, Outage, Phase},
    grant::{Revocation, RevokeCause},
    name::{OutageId, PolicyName, TokenDigest},
    time::Deadline,
};
use tokio::task::JoinSet;

use crate::{server::Server, words};

/// How long anything may take.
const BOUND: Duration = Duration::from_secs(60);

/// The mirror of `kv/`.
const MIRROR: &str = "kv/data/*";

/// Both sides.
pub(crate) struct Sides {
    /// A client of the node that leads, where there are several.
    pub(crate) leader: Option<Client>,
    server: Server,
    /// Of the node that leads, where there are several.
    pub(crate) root: Api,
    pub(crate) local: Local,
    /// Keys that exist in each of the three mounts.
    pub(crate) planted: Vec<String>,
    pub(crate) token_accessor: String,
    pub(crate) userpass_accessor: String,
    mirrors: Mirrors,
    _tasks: JoinSet<()>,
    _room: Arc<Room>,
}

impl Sides {
    /// Starts the replica beside a primary that runs, with secrets that `random` chooses, and lets it take over.
    pub(crate) async fn start(server: Server, random: &mut Seeded) -> Result<Sides> {
        let root = server.root().await?;
        let planted = words::planted(random);
        let accessors = furnish(&root, &planted, random).await?;
        let room = Arc::new(Room::make()?);
        let (local, upstream, config) = open(&server, &root, &room).await?;
        let mirrors = Mirrors::new(
            &config,
            upstream.clone(),
            local.clone(),
            Vec::new(),
            Anew::default(),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(upstream.clone().keep_own_token());
        let sides = Sides {
            leader: server.leader().await?.map(|client| client.within(BOUND)),
            server,
            root,
            local,
            planted,
            token_accessor: accessors.0,
            userpass_accessor: accessors.1,
            mirrors,
            _tasks: tasks,
            _room: room,
        };
        sides.first_pass().await?;
        sides.take_over().await?;
        Ok(sides)
    }

    /// A client that asks the primary.
    pub(crate) fn client(&self) -> Result<Client> {
        Ok(self.server.client()?.within(BOUND))
    }

    /// The replica reads policies, mounts and the identities of its tokens anew; every node has them by then.
    pub(crate) async fn verify(&self) -> Result<()> {
        self.server.caught_up().await?;
        self.mirrors
            .verify_authority(Occasion::Operator)
            .await
            .map(drop)
            .context("authority")
    }

    /// The replica takes a policy for one that grants everything, until it reads the primary's again.
    pub(crate) async fn mislead(&self, policy: &str) -> Result<()> {
        let known = self.local.view.authority().policies.clone();
        let mut set = known.context("no policies")?.set.clone();
        let name = PolicyName::parse(policy).map_err(Failure::new)?;
        let text = set.policies.get_mut(&name).context("no such policy")?;
        text.text = r#"path "*" { policy = "sudo" }"#.to_owned();
        self.commit(Lane::Mirror, Change::Policies(Box::new(set)))
            .await
    }

    /// The replica learns a token, as it does from a look-up.
    pub(crate) async fn learn(&self, token: &str) -> Result<TokenDigest> {
        let shown = self
            .root
            .post("auth/token/lookup", &json!({ "token": token }))
            .await?
            .data()?;
        let digest = self.local.view.keys().token_digest(token);
        let now = self.local.clock.now();
        let change = learn::grant_from_lookup(
            &self.local.view,
            &digest,
            shown.to_string().as_bytes(),
            None,
            now,
        );
        self.commit(
            Lane::Grant,
            change.context("the token is of a kind that is never learned")?,
        )
        .await?;
        Ok(digest)
    }

    /// Both sides end a token.
    pub(crate) async fn revoke(&self, token: &str, digest: TokenDigest) -> Result<()> {
        self.root
            .post("auth/token/revoke", &json!({ "token": token }))
            .await?
            .ok()?;
        let live = self
            .local
            .view
            .grant(&digest)
            .context("the token is not known")?;
        let now = self.local.clock.now().steady;
        let revoked = Revocation::of(&live.grant, RevokeCause::Primary, now);
        self.commit(Lane::Revocation, Change::Revoked(revoked))
            .await
    }

    /// The replica forgets tokens that are no longer asked with.
    pub(crate) async fn forget(&self, digests: &[TokenDigest]) -> Result<()> {
        let changes = digests
            .iter()
            .map(|digest| Change::GrantForgotten(*digest))
            .collect();
        let committed = self
            .local
            .commit(Lane::Mirror, changes, Expects::default())
            .await;
        committed.context("forgetting tokens")
    }

    async fn commit(&self, lane: Lane, change: Change) -> Result<()> {
        let committed = self
            .local
            .commit(lane, vec![change], Expects::default())
            .await;
        committed.context("the replica's store")
    }

    async fn first_pass(&self) -> Result<()> {
        eventually(BOUND, "the first verification", async || {
            self.verify().await.map_err(|failure| failure.to_string())
        })
        .await?;
        self.mirrors
            .sync_now(MIRROR, Occasion::Operator)
            .await
            .context("first pass of the mirror")
    }

    async fn take_over(&self) -> Result<()> {
        let now = self.local.clock.now();
        let outage = Outage {
            id: OutageId::parse("parity").map_err(Failure::new)?,
            started_at: now.wall,
            cause: Cause::Unreachable("parity".into()),
            bound: Deadline::after(Duration::from_secs(86_400), now),
            latched: true,
        };
        let phase = PhaseRecord {
            phase: Phase::Holdover(outage),
            epoch: 1,
            proven_from: None,
        };
        self.commit(Lane::Revocation, Change::Phase(phase)).await
    }
}

/// Mounts, secrets, a token role, a namespace: (accessor of `auth/token/`, of `auth/userpass/`).
async fn furnish(root: &Api, planted: &[String], random: &mut Seeded) -> Result<(String, String)> {
    for (mount, version) in [("kv", "2"), ("lab", "2"), ("old", "1")] {
        let body = json!({ "type": "kv", "options": { "version": version } });
        root.write(&format!("sys/mounts/{mount}"), &body).await?;
    }
    for mount in ["kv", "lab"] {
        eventually(BOUND, "the KV mounts", async || {
            match root.get(&format!("{mount}/config")).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(answer.body.to_string()),
                Err(failure) => Err(failure.to_string()),
            }
        })
        .await?;
    }
    for key in planted {
        let key = in_url(key);
        for version in 0..=random.below(3) {
            let body = json!({ "data": { "value": version, "text": "<a&b>" } });
            root.write(&format!("kv/data/{key}"), &body).await?;
        }
        match random.below(12) {
            0 => root
                .write(&format!("kv/delete/{key}"), &json!({ "versions": [1] }))
                .await
                .map(drop)?,
            1 => root
                .write(&format!("kv/destroy/{key}"), &json!({ "versions": [1] }))
                .await
                .map(drop)?,
            2 => root
                .delete(&format!("kv/data/{key}"))
                .await?
                .ok()
                .map(drop)?,
            _ => {}
        }
        root.write(
            &format!("lab/data/{key}"),
            &json!({ "data": { "value": 1 } }),
        )
        .await?;
        root.write(&format!("old/{key}"), &json!({ "value": 1 }))
            .await?;
    }
    root.write("sys/auth/userpass", &json!({ "type": "userpass" }))
        .await?;
    root.write("sys/namespaces/team", &json!({})).await?;
    let role = json!({ "allowed_entity_aliases": ["*"], "orphan": false, "renewable": true });
    root.write("auth/token/roles/any", &role).await?;
    let mounts = root.get("sys/auth").await?.data()?;
    let accessor = |at: &str| {
        mounts[at]["accessor"]
            .as_str()
            .map(str::to_owned)
            .context("no accessor")
    };
    Ok((accessor("token/")?, accessor("userpass/")?))
}

/// A key as reqwest sends it unchanged.
fn in_url(key: &str) -> String {
    let escape = |byte: u8| match byte {
        b'/' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    key.bytes().map(escape).collect()
}

async fn open(server: &Server, root: &Api, room: &Arc<Room>) -> Result<(Local, Upstream, Config)> {
    let path = |name: &str| room.join(name).to_string_lossy().into_owned();
    let hours = toml::Value::from("12h");
    let file = File::new()
        .primary(&server.addresses(), server.ca_file())
        .token_file(&room.join("token"))
        .set("primary.requests_per_second", 10_000)
        .set("primary.token_max_age", "12h")
        .set("failover.issue_deadline", "15s")
        .set("replica.path", path("replica/replica.db"))
        .set("listener.socket", path("run/holdover.sock"))
        .set("admin.socket", path("run/admin.sock"))
        .key_file(&room.join("key"))
        .mirror(
            MIRROR,
            &[
                ("versions", toml::Value::from(10)),
                ("max_staleness", hours),
            ],
        );
    let config =
        Config::parse(&file.to_toml()?, &room.join("holdover.toml")).map_err(Failure::new)?;
    world::policy(root, "holdover", &required_policy(&config.settings)).await?;
    let body: Value = json!({ "policies": ["holdover"], "no_default_policy": true, "period": "1h", "no_parent": true });
    let token = root
        .post("auth/token/create", &body)
        .await?
        .text("/auth/client_token")?;
    room.file("token", token, 0o600, None)?;
    create_file(&room.join("key"), &OsEntropy)?;
    let location = Location {
        path: config.replica.path.clone(),
        anchor: None,
        ledger_max: 1 << 20,
    };
    let (source, entropy) = (Source::File(room.join("key")), Arc::new(OsEntropy));
    Replica::create(&location, &source, entropy.as_ref())?;
    let opened = Replica::open(
        &location,
        &[source],
        Arc::new(config.settings.clone()),
        entropy.clone(),
    )?;
    let clock = Arc::new(Clock::start(opened.mark)?);
    let (view, ticking) = (opened.view.clone(), clock.clone());
    let local = Local {
        view,
        sequencer: opened.start(move || ticking.now())?,
        clock,
        entropy,
    };
    let upstream = Upstream::new(&config, local.clone())?;
    Ok((local, upstream, config))
}
