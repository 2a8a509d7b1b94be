//! A host with a replica, an upstream and its mirrors, at a real primary.

use std::{path::PathBuf, sync::Arc, time::Duration};

use harness::{
    Context, Failure, Result, audit::Audited, bao::Primary, daemon::config::Config as File,
    place::Room, world,
};
use holdover::{
    clock::Clock,
    config::{Address, Config},
    local::Local,
    mirror::{Anew, Mirrors, SeenCredential, SeenToken},
    status::MirrorStatus,
    upstream::{Upstream, policy::required_policy},
};
use replica::{
    entropy::OsEntropy,
    key::slot::{Source, create_file},
    learn::{self, Exchange},
    sequencer::Lane,
    store::{Location, OpenError, Replica},
};
use serde_json::{Value, json};
use shared::{
    api::Call,
    change::{Change, CredentialName, Expects},
    kv::{Doubt, Doubted, Place, Record},
    name::RequestPath,
    provenance::{ClusterShown, Evidence, Provenance, Question, TokenUsed},
    secret::SecretText,
    share::commons::Amount,
    workload::Peer,
};
use tokio::{sync::mpsc, task::JoinSet};

/// How long anything may take.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// A host. Its tasks end when it is dropped.
pub(crate) struct Host {
    pub(crate) config: Config,
    pub(crate) local: Local,
    pub(crate) upstream: Upstream,
    pub(crate) mirrors: Mirrors,
    pub(crate) anew: Anew,
    seen: mpsc::Sender<SeenCredential>,
    tasks: JoinSet<()>,
    room: Arc<Room>,
}

/// What a host is made from.
pub(crate) struct Plan {
    file: File,
    /// Room for mirrored values, if that is less than usual.
    room_in_common: Option<Amount>,
    /// Fields of the AppRole besides its policies.
    role: Value,
    room: Arc<Room>,
}

impl Plan {
    /// A host at `primary` that mirrors nothing yet, with a short rhythm.
    pub(crate) fn new(primary: &Primary) -> Result<Plan> {
        let room = Arc::new(Room::make()?);
        let path = |name: &str| room.join(name).to_string_lossy().into_owned();
        let ca = primary
            .address()
            .starts_with("https")
            .then(|| primary.ca_file());
        let file = File::new()
            .primary(&primary.addresses()[..1], ca)
            .approle(&room.join("role_id"), &room.join("secret_id"))
            .set("primary.requests_per_second", 500)
            .set("primary.token_check_interval", "1s")
            .set("failover.authority_interval", "300ms")
            .set("failover.probe_timeout", "1s")
            .set("failover.issue_deadline", "15s")
            .set("replica.path", path("replica/replica.db"))
            .set("listener.socket", path("run/holdover.sock"))
            .set("admin.socket", path("run/admin.sock"))
            .key_file(&room.join("key"));
        Ok(Plan {
            file,
            room_in_common: None,
            role: json!({ "token_period": "1h" }),
            room,
        })
    }

    pub(crate) fn file(mut self, change: impl FnOnce(File) -> File) -> Plan {
        self.file = change(self.file);
        self
    }

    /// A file of the host.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.room.join(name)
    }

    pub(crate) fn mirror(self, path: &str, keys: &[(&str, toml::Value)]) -> Plan {
        let mut all = vec![("interval", toml::Value::from("200ms"))];
        all.extend(keys.iter().cloned());
        self.file(|file| file.mirror(path, &all))
    }

    /// Mirrored values have so much room in common.
    pub(crate) fn room_in_common(mut self, common: Amount) -> Plan {
        self.room_in_common = Some(common);
        self
    }

    pub(crate) fn workload(self, name: &str) -> Plan {
        let entry = harness::daemon::config::Workload::new(name, name)
            .uid(4242)
            .issues("1m", "10m");
        self.file(|file| file.workload(entry))
    }

    pub(crate) fn role(mut self, role: Value) -> Plan {
        self.role = role;
        self
    }

    /// Logs it in at the primary by AppRole, under exactly the policy that its configuration needs.
    pub(crate) async fn start(self, primary: &Primary) -> Result<Host> {
        let mut host = self.prepare().await?;
        host.give_login(primary, self.role).await?;
        host.run();
        Ok(host)
    }

    /// The same, with nothing running and nothing at the primary yet.
    pub(crate) async fn prepare(&self) -> Result<Host> {
        let path = self.room.join("holdover.toml");
        let config = Config::parse(&self.file.to_toml()?, &path).map_err(Failure::new)?;
        let (local, upstream) = open(&config, &self.room).await?;
        let anew = Anew::default();
        let parts = (upstream.clone(), local.clone(), excluded(), anew.clone());
        let (to, of, excluded, wanted) = parts;
        let mirrors = match self.room_in_common {
            Some(common) => Mirrors::within(common, &config, to, of, excluded, wanted),
            None => Mirrors::new(&config, to, of, excluded, wanted),
        };
        Ok(Host {
            config,
            local,
            upstream,
            mirrors,
            anew,
            seen: mpsc::channel(1).0,
            tasks: JoinSet::new(),
            room: self.room.clone(),
        })
    }
}

fn excluded() -> Vec<String> {
    vec!["secret/data/shop/ledger".to_owned()]
}

async fn open(config: &Config, room: &Room) -> Result<(Local, Upstream)> {
    let key = room.join("key");
    if !key.exists() {
        create_file(&key, &OsEntropy)?;
    }
    let location = Location {
        path: config.replica.path.clone(),
        anchor: None,
        ledger_max: 1 << 20,
    };
    let source = Source::File(key);
    let entropy = Arc::new(OsEntropy);
    if !location.path.exists() {
        Replica::create(&location, &source, entropy.as_ref())?;
    }
    let settings = Arc::new(config.settings.clone());
    // A process that another test starts at this moment holds every lock between fork and exec.
    let opened = harness::eventually(BOUND, "the replica's lock", async || {
        let (source, settings) = (source.clone(), settings.clone());
        match Replica::open(&location, &[source], settings, entropy.clone()) {
            Err(OpenError::Busy(path)) => Err(path.display().to_string()),
            opened => Ok(opened),
        }
    })
    .await??;
    let clock = Arc::new(Clock::start(opened.mark)?);
    let view = opened.view.clone();
    let ticking = clock.clone();
    let local = Local {
        view,
        sequencer: opened.start(move || ticking.now())?,
        clock,
        entropy,
    };
    let upstream = Upstream::new(config, local.clone())?;
    Ok((local, upstream))
}

impl Host {
    /// Starts its tasks.
    pub(crate) fn run(&mut self) {
        let (seen, queue) = mpsc::channel(64);
        self.seen = seen;
        self.tasks.spawn(self.upstream.clone().keep_own_token());
        self.tasks.spawn(self.mirrors.clone().run(queue));
    }

    /// Ends its process and starts another one on the same files.
    pub(crate) async fn restart(self) -> Result<Host> {
        let mut host = self.reopen(|_| {}).await?;
        host.run();
        Ok(host)
    }

    /// Ends its process; the next one on the same files is led to `other`. Nothing of it runs yet.
    pub(crate) async fn moved_to(self, other: &Primary) -> Result<Host> {
        let url = other.address();
        let (scheme, rest) = url.split_once("://").context("no scheme")?;
        let (host, port) = rest.split_once(':').context("no port")?;
        let address = Address {
            tls: scheme == "https",
            host: host.to_owned(),
            port: port.parse()?,
            url: url.clone(),
        };
        self.reopen(|config| config.primary.addresses = vec![address])
            .await
    }

    /// The same with pools of this size.
    pub(crate) async fn with_pool(self, size: u32) -> Result<Host> {
        let resized = self.reopen(|config| {
            for mirror in &mut config.settings.mirrors {
                mirror.pool = size;
            }
        });
        let mut host = resized.await?;
        host.run();
        Ok(host)
    }

    async fn reopen(mut self, change: impl FnOnce(&mut Config)) -> Result<Host> {
        self.tasks.shutdown().await;
        let Host {
            mut config,
            local,
            upstream,
            mirrors,
            room,
            ..
        } = self;
        local.sequencer.stop();
        drop((local, upstream, mirrors));
        change(&mut config);
        let (local, upstream) = open(&config, &room).await?;
        let anew = Anew::default();
        let mirrors = Mirrors::new(
            &config,
            upstream.clone(),
            local.clone(),
            excluded(),
            anew.clone(),
        );
        Ok(Host {
            config,
            local,
            upstream,
            mirrors,
            anew,
            seen: mpsc::channel(1).0,
            tasks: JoinSet::new(),
            room,
        })
    }

    /// The AppRole `holdover` with the policy that this configuration needs, and its ids in files.
    pub(crate) async fn give_login(&self, primary: &Primary, mut role: Value) -> Result<()> {
        let root = primary.root();
        world::policy(&root, "holdover", &required_policy(&self.config.settings)).await?;
        if root.get("sys/mounts/auth/approle").await?.status != 200 {
            root.write("sys/auth/approle", &json!({ "type": "approle" }))
                .await?;
        }
        // Without `default`: nothing is allowed but what the policy says.
        role["token_policies"] = json!(["holdover"]);
        role["token_no_default_policy"] = json!(true);
        root.write("auth/approle/role/holdover", &role).await?;
        let id = root.get("auth/approle/role/holdover/role-id").await?;
        self.write("role_id", &id.text("/data/role_id")?)?;
        self.new_secret_id(primary).await
    }

    pub(crate) async fn new_secret_id(&self, primary: &Primary) -> Result<()> {
        let path = "auth/approle/role/holdover/secret-id";
        let id = primary.root().post(path, &json!({})).await?;
        self.write("secret_id", &id.text("/data/secret_id")?)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        self.room.file(name, text, 0o600, None).map(drop)
    }

    /// A client used this token.
    pub(crate) async fn see(&self, token: &str) -> Result<()> {
        let token = SecretText::new(token.to_owned());
        let digest = self.local.view.keys().token_digest(token.expose());
        self.tell(SeenCredential::Token(SeenToken {
            token,
            digest,
            uid: 7,
        }))
        .await
    }

    async fn tell(&self, seen: SeenCredential) -> Result<()> {
        let told = self.seen.send(seen).await;
        told.map_err(|_| Failure::new("nobody looks anything up"))
    }

    /// A client logged in by AppRole: what its answer taught is passed on, as the socket would.
    pub(crate) async fn logs_in(
        &self,
        primary: &Primary,
        role_id: &str,
        secret_id: &str,
    ) -> Result<()> {
        let ids = json!({ "role_id": role_id, "secret_id": secret_id });
        let answer = primary.api("").post("auth/approle/login", &ids).await?;
        let call = Call::parse("POST", "/v1/auth/approle/login")?;
        let (request, body) = (ids.to_string(), answer.body.to_string());
        let asked = Question {
            reads_alike: true,
            call: &call,
            token: TokenUsed::None,
            mirrored_namespace: true,
            asks_for_token: false,
            body: Some(request.as_bytes()),
        };
        let now = self.local.clock.now();
        let provenance = Provenance {
            cluster: ClusterShown::Pinned,
            as_of: Some(now.steady),
        };
        let evidence = Evidence::new(asked, provenance, answer.status);
        let exchange = Exchange {
            evidence: evidence.whole(body.as_bytes()),
            token: None,
            asker: &Peer {
                uid: 7,
                unit: None,
                workloads: Vec::new(),
            },
            peer: None,
            now,
            answered_at: now.steady,
        };
        match learn::candidate(&self.local.view, &exchange) {
            Some(candidate) => self.tell(SeenCredential::Login(Box::new(candidate))).await,
            None => Ok(()),
        }
    }

    /// A token that Holdover presents.
    pub(crate) fn credential(&self, name: &CredentialName) -> Option<String> {
        let held = self.local.view.credential(name)?;
        let token = held.body.open(self.local.view.keys()).ok()?;
        String::from_utf8(token.expose().clone()).ok()
    }

    /// A mirrored version and its `data`.
    pub(crate) fn value(&self, path: &str, version: u64) -> Option<(Record, Value)> {
        let secrets = self.local.view.secrets();
        let ((_, _), held) = secrets
            .records
            .iter()
            .find(|((place, of), _)| place.path.as_str() == path && *of == Some(version))?;
        let body = held.body.open(self.local.view.keys()).ok()?;
        let text = serde_json::from_slice(body.expose()).ok()?;
        Some((held.record.clone(), text))
    }

    /// The data paths of every mirrored key.
    pub(crate) fn keys(&self) -> Vec<String> {
        let secrets = self.local.view.secrets();
        let path = |place: &Place| place.path.as_str().to_owned();
        secrets.keys.keys().map(path).collect()
    }

    pub(crate) fn status_of(&self, path: &str) -> Result<MirrorStatus> {
        let mut mirrors = self.mirrors.statuses().into_iter();
        mirrors
            .find(|mirror| mirror.path == path)
            .context("no such mirror")
    }

    /// What is kept of a key may be superseded, as the socket would say.
    pub(crate) async fn doubt(&self, path: &str) -> Result<()> {
        let authority = self.local.view.authority();
        let cluster = authority.cluster.clone().context("no cluster")?;
        let mount = cluster.mounted(path).context("no mount")?;
        let place = Place {
            namespace: self.config.settings.namespace.clone(),
            mount: mount.accessor.clone(),
            path: RequestPath::parse(path)?,
        };
        drop(authority);
        self.doubt_of(Doubted::Key(place)).await
    }

    pub(crate) async fn doubt_of(&self, of: Doubted) -> Result<()> {
        let doubt = Doubt {
            of,
            since: self.local.clock.now().steady,
            vanished: false,
        };
        let (lane, changes) = (Lane::Revocation, vec![Change::Doubted(doubt)]);
        self.local.commit(lane, changes, Expects::default()).await?;
        self.anew.doubted();
        Ok(())
    }

    /// Waits until nothing is in doubt.
    pub(crate) async fn until_sure(&self) -> Result<()> {
        self.until("what was doubted to be read", |host| {
            let left: Vec<_> = host.local.view.doubts().all().collect();
            match left.is_empty() {
                true => Ok(()),
                false => Err(format!("{left:?}")),
            }
        })
        .await
    }

    /// Waits for something of this host.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut probe: impl FnMut(&Host) -> std::result::Result<T, String>,
    ) -> Result<T> {
        harness::eventually(BOUND, what, async || probe(self)).await
    }

    /// Waits until the mirror of `path` has gone through a pass that began after this call.
    pub(crate) async fn pass_of(&self, path: &str) -> Result<()> {
        let since = self.local.clock.now().steady;
        self.until("another pass", |host| {
            let authority = host.local.view.authority();
            match authority.mirrors.get(path) {
                Some(state) if state.verified_at > since => Ok(()),
                _ => Err(format!("{:?}", host.mirrors.statuses())),
            }
        })
        .await
    }
}

/// Every answer to what Holdover's own tokens (policy `holdover`) asked so far.
pub(crate) fn audited(primary: &Primary) -> Result<Vec<Audited>> {
    let mut all = Audited::read(primary.audit_log())?;
    all.retain(|one| {
        let own = one.policies.iter().any(|policy| policy == "holdover");
        one.kind == "response" && own && one.path != "auth/approle/login"
    });
    Ok(all)
}
