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
    failover::{Outage, Phase},
    grant::{Grant, Settled},
    name::{Accessor, PolicyName, RoleName, TokenDigest},
    time::Now,
    token::role::TokenRole,
    workload::{OnRecovery, WorkloadAuthority},
};

use super::{config, grant, issued, orders, orders_entry, outage, peer_id, token_facts};
use crate::{clock::Clock, config::Config, local::Local};

/// A configuration and the replica that it names.
pub(crate) struct Bench {
    pub(crate) local: Local,
    pub(crate) config: Arc<Config>,
    pub(crate) folder: tempfile::TempDir,
}

impl Bench {
    /// A fresh replica whose workload `orders` has this `on_recovery`.
    pub(crate) fn new(on_recovery: OnRecovery) -> Self {
        Self::with(&orders_entry(on_recovery))
    }

    /// A fresh replica of a configuration with `more` in it.
    pub(crate) fn with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::create_dir(folder.path().join("key")).unwrap();
        let config = Arc::new(config(folder.path(), more));
        let source = source(folder.path());
        let Source::File(key) = &source;
        slot::create_file(key, &OsEntropy).unwrap();
        Replica::create(&location(&config), &source, &OsEntropy).unwrap();
        let local = start(&config, folder.path());
        Self {
            local,
            config,
            folder,
        }
    }

    /// The same replica opened by another process, as after `kill -9`.
    pub(crate) fn reopened(self) -> Self {
        let Self {
            local,
            config,
            folder,
        } = self;
        local.sequencer.stop();
        drop(local);
        let local = start(&config, folder.path());
        Self {
            local,
            config,
            folder,
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.local.clock.now()
    }

    pub(crate) async fn store(&self, changes: Vec<Change>) {
        self.local
            .commit(Lane::Revocation, changes, Expects::default())
            .await
            .unwrap();
    }

    /// Begins an outage and returns it.
    pub(crate) async fn outage(&self) -> Outage {
        let outage = outage(self.now());
        let phase = Phase::Recovering(outage.clone());
        self.store(vec![Change::Phase(PhaseRecord {
            phase,
            epoch: 1,
            proven_from: None,
        })])
        .await;
        outage
    }

    /// A replica grant of the workload's, `left` from its end.
    pub(crate) fn grant(&self, nr: u8, left: Duration) -> Grant {
        let now = self.now();
        Grant {
            peer: Some(peer_id()),
            ..grant(nr, issued(Settled::Not, now), left, now)
        }
    }

    /// The workload's authority, proven now.
    pub(crate) fn authority(&self) -> WorkloadAuthority {
        authority(self.now())
    }

    /// From now on the primary is in charge again after [`outage`](Self::outage): what was proven before counts no more.
    pub(crate) async fn following(&self) {
        self.enter(Phase::Following).await;
    }

    /// The machine is in this phase.
    pub(crate) async fn enter(&self, phase: Phase) {
        let (authority, now) = (self.local.view.authority(), self.now());
        let returns = authority.phase.is_outage() && !phase.is_outage();
        let proven_from = if returns {
            Some(now.steady)
        } else {
            authority.proven_from
        };
        let epoch = authority.epoch + 1;
        drop(authority);
        self.store(vec![Change::Phase(PhaseRecord {
            phase,
            epoch,
            proven_from,
        })])
        .await;
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

/// The authority of the workload `orders`, proven now.
pub(crate) fn authority(now: Now) -> WorkloadAuthority {
    let now = now.steady;
    WorkloadAuthority {
        workload: orders(),
        role_name: RoleName::parse("orders").unwrap(),
        role: role(),
        standing: token_facts(),
        standing_accessor: Accessor::parse("standing").unwrap(),
        standing_expires: now.plus(Duration::from_secs(3600)),
        verified_at: now,
    }
}

/// Opens the replica of a configuration. A process that another test starts holds every lock of this one from its
/// fork to its exec: that passes.
pub(crate) fn open(config: &Config, folder: &Path) -> Opened {
    let settings = Arc::new(config.settings.clone());
    for _ in 0..500 {
        let (settings, sources) = (Arc::clone(&settings), [source(folder)]);
        match Replica::open(&location(config), &sources, settings, Arc::new(OsEntropy)) {
            Err(OpenError::Busy(_)) => std::thread::park_timeout(Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
    panic!("the replica stays busy");
}

fn start(config: &Config, folder: &Path) -> Local {
    let opened = open(config, folder);
    let clock = Arc::new(Clock::start(opened.mark).unwrap());
    let (view, present) = (Arc::clone(&opened.view), Arc::clone(&clock));
    let sequencer = opened.start(move || present.now()).unwrap();
    Local {
        view,
        sequencer,
        clock,
        entropy: Arc::new(OsEntropy),
    }
}

fn source(folder: &Path) -> Source {
    Source::File(folder.join("key/key"))
}

fn location(config: &Config) -> Location {
    Location {
        path: config.replica.path.clone(),
        anchor: None,
        ledger_max: config.ledger.max_size,
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
