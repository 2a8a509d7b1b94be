//! A real replica in a folder of its own, for tests of what stands on one.

use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use replica::{
    entropy::OsEntropy,
    key::slot::{self, Source},
    sequencer::Lane,
    store::{Location, OpenError, Opened, Replica},
};
use shared::{
    change::{Change, Expects, PhaseRecord},
    failover::{Cause, Outage, Phase},
    grant::{Grant, Origin, ReplicaGrant, Settled},
    name::{Accessor, OutageId, PolicyName, RoleName, TokenDigest, WorkloadName},
    settings::Settings,
    time::Deadline,
    token::{TokenFacts, TokenKind, role::TokenRole},
    workload::{OnRecovery, PeerId, WorkloadAuthority},
};

use super::Local;
use crate::{clock::Clock, config::Config};

/// One workload, `orders`, and a replica.
pub(crate) struct Bench {
    pub(crate) local: Local,
    folder: tempfile::TempDir,
}

impl Bench {
    /// A fresh replica whose workload has this `on_recovery`.
    pub(crate) fn new(on_recovery: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::create_dir(folder.path().join("key")).unwrap();
        let key = folder.path().join("key/key");
        slot::create_file(&key, &OsEntropy).unwrap();
        let location = location(folder.path());
        Replica::create(&location, &Source::File(key), &OsEntropy).unwrap();
        let local = open(folder.path(), on_recovery);
        Self { local, folder }
    }

    /// The same replica opened by another process, as after `kill -9`.
    pub(crate) fn reopened(self, on_recovery: &str) -> Self {
        let Self { local, folder } = self;
        local.sequencer.stop();
        drop(local);
        let local = open(folder.path(), on_recovery);
        Self { local, folder }
    }

    pub(crate) async fn store(&self, changes: Vec<Change>) {
        self.local
            .commit(Lane::Revocation, changes, Expects::default())
            .await
            .unwrap();
    }

    /// Begins an outage and returns it.
    pub(crate) async fn outage(&self) -> Outage {
        let now = self.local.clock.now();
        let outage = Outage {
            id: OutageId::parse("o1").unwrap(),
            started_at: now.steady,
            cause: Cause::Unreachable("refused".into()),
            bound: Deadline::after(Duration::from_secs(3600), now),
            latched: false,
        };
        let phase = Phase::Recovering(outage.clone());
        self.store(vec![Change::Phase(PhaseRecord { phase, epoch: 1 })])
            .await;
        outage
    }

    /// A replica grant of the workload's, `left` from its end.
    pub(crate) fn grant(&self, nr: u8, left: Duration) -> Grant {
        let now = self.local.clock.now();
        Grant {
            parent: None,
            digest: TokenDigest([nr; 32]),
            accessor: Accessor::parse(&format!("ho{nr}")).unwrap(),
            facts: facts(),
            origin: Origin::Replica(ReplicaGrant {
                outage: OutageId::parse("o1").unwrap(),
                issued_at: now.steady,
                ttl_ms: 60_000,
                asked_ms: 60_000,
                max_deadline: Deadline::after(Duration::from_secs(600), now),
                workload_end: Deadline::after(Duration::from_secs(600), now),
                spared: false,
                settled: Settled::Not,
                approle: None,
            }),
            peer: Some(PeerId {
                workload: workload(),
                uid: 7,
                unit: None,
            }),
            deadline: Deadline::after(left, now),
            verified_at: now.steady,
        }
    }

    /// The workload's authority, proven now.
    pub(crate) fn authority(&self) -> WorkloadAuthority {
        let now = self.local.clock.now().steady;
        WorkloadAuthority {
            workload: workload(),
            role_name: RoleName::parse("orders").unwrap(),
            role: role(),
            standing: facts(),
            standing_accessor: Accessor::parse("standing").unwrap(),
            standing_expires: now.plus(Duration::from_secs(3600)),
            verified_at: now,
        }
    }

    /// How the grant was settled; none if it was revoked.
    pub(crate) fn settled(&self, nr: u8) -> Option<Settled> {
        let live = self.local.view.grant(&TokenDigest([nr; 32])).unwrap();
        if live.revoked.get().is_some() {
            return None;
        }
        live.grant.replica().map(|replica| replica.settled.clone())
    }
}

pub(crate) fn workload() -> WorkloadName {
    WorkloadName::parse("orders").unwrap()
}

/// A configuration with this `on_recovery`, in this folder.
pub(crate) fn config(folder: &Path, on_recovery: &str) -> Config {
    let text = format!(
        r#"
[primary]
addresses = ["http://127.0.0.1:1"]
[primary.auth]
method = "token_file"
path = "/token"
[replica]
path = "{0}/replica.db"
[[replica.key]]
source = "file"
path = "{0}/key/key"
[listener]
socket = "{0}/holdover.sock"
[admin]
socket = "{0}/admin.sock"
[[workload]]
name = "orders"
match = {{ uid = 7 }}
role = "orders"
failover = {{ issue = true, on_recovery = "{on_recovery}" }}
"#,
        folder.display()
    );
    Config::parse(&text, &folder.join("holdover.toml")).unwrap()
}

fn location(folder: &Path) -> Location {
    Location {
        path: folder.join("replica.db"),
        anchor: None,
        ledger_max: 1 << 20,
    }
}

fn open(folder: &Path, on_recovery: &str) -> Local {
    let settings = Arc::new(config(folder, on_recovery).settings);
    let sources = [Source::File(folder.join("key/key"))];
    let entropy = Arc::new(OsEntropy);
    let opened = opened(folder, &sources, &settings);
    let clock = Arc::new(Clock::start(opened.mark).unwrap());
    let (view, present) = (Arc::clone(&opened.view), Arc::clone(&clock));
    let sequencer = opened.start(move || present.now()).unwrap();
    Local {
        view,
        sequencer,
        clock,
        entropy,
    }
}

/// A process that another test starts holds every lock of this one from its fork to its exec: that passes.
fn opened(folder: &Path, sources: &[Source], settings: &Arc<Settings>) -> Opened {
    for _ in 0..500 {
        let settings = Arc::clone(settings);
        match Replica::open(&location(folder), sources, settings, Arc::new(OsEntropy)) {
            Err(OpenError::Busy { .. }) => std::thread::park_timeout(Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
    panic!("the replica stays busy");
}

fn facts() -> TokenFacts {
    TokenFacts {
        policies: vec![PolicyName::parse("orders").unwrap()],
        display_name: "token".into(),
        path: "auth/token/create/orders".into(),
        creation_ttl: 60,
        orphan: true,
        renewable: true,
        ..TokenFacts::new(TokenKind::Service)
    }
}

fn role() -> TokenRole {
    TokenRole {
        allowed_policies: vec![PolicyName::parse("orders").unwrap()],
        allowed_policies_glob: vec![],
        disallowed_policies: vec![],
        disallowed_policies_glob: vec![],
        orphan: true,
        path_suffix: String::new(),
        renewable: true,
        token_type: "default-service".into(),
        token_period: 0,
        token_explicit_max_ttl: 0,
        token_no_default_policy: true,
        token_num_uses: 0,
        token_bound_cidrs: vec![],
        allowed_entity_aliases: vec![],
    }
}

/// `on_recovery` as the configuration writes it.
pub(crate) fn word(on_recovery: OnRecovery) -> &'static str {
    match on_recovery {
        OnRecovery::Drain => "drain",
        OnRecovery::Exchange => "exchange",
        OnRecovery::Revoke => "revoke",
    }
}
