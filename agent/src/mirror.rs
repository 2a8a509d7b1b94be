//! The mirror: what the primary answers, turned into `Change`s and kept fresh.
//!
//! One task verifies the authority of workloads, one keeps each configured mirror, one follows the tokens that
//! clients use. All are paced together ([`crate::upstream::pace`]), start jittered, stop asking in an outage, and keep
//! what they have when they cannot ask: a failed check never makes anything look fresh.

mod authority;
mod cycle;
mod ground;
mod index;
mod kv;
mod kv1;
mod lease;
mod path;
mod plain;
mod status;
mod target;
mod token;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use replica::{
    learn::Candidate,
    sequencer::{Lane, SubmitError},
};
use shared::{
    change::{Change, Cluster, Expects},
    kv::Place,
    name::{EntityId, MountAccessor, TokenDigest, WorkloadName},
    settings::{self, Settings},
    time::WallTime,
};
use tokio::{sync::mpsc, task::JoinSet};

pub use self::{
    authority::{AuthorityReport, AuthorityVerdict},
    token::SeenToken,
};
use self::{
    cycle::{Cycle, Pace},
    status::MirrorHealth,
};
use crate::{
    config::Config,
    local::Local,
    upstream::{Upstream, UpstreamError, pace::Urgency},
};

/// Until the primary's mounts have been seen for the first time, a mirror looks for them this often.
const UNSEEN_LOOK: Duration = Duration::from_millis(100);

/// Every mirror of the configuration. Cheap to clone.
#[derive(Clone)]
pub struct Mirrors(Arc<Shared>);

struct Shared {
    upstream: Upstream,
    local: Local,
    settings: Arc<Settings>,
    authority_interval: Duration,
    token_check_interval: Duration,
    /// Paths that are never mirrored: where the ledger is shipped to.
    excluded: Vec<String>,
    health: Mutex<BTreeMap<String, MirrorHealth>>,
    /// Why nothing can be issued for a workload, as its last verification said; empty where it could.
    failures: parking_lot::Mutex<BTreeMap<WorkloadName, Vec<String>>>,
    authority: tokio::sync::Mutex<authority::AuthorityMemory>,
    minted: Mutex<BTreeMap<WorkloadName, authority::Origin>>,
    mirrors: Vec<(settings::Mirror, tokio::sync::Mutex<MirrorMemory>)>,
    tokens: Mutex<token::TokenWatch>,
}

/// What clients brought, the primary accepted, and the replica does not know yet.
pub enum SeenCredential {
    /// A secret id, to be verified.
    Login(Box<Candidate>),
    /// A token, to be looked up.
    Token(SeenToken),
}

/// What one mirror's task remembers from pass to pass. What must survive a restart is in the replica.
#[derive(Default)]
struct MirrorMemory {
    kv: kv::KvMemory,
    kv1: kv1::Kv1Memory,
    lease: lease::LeaseMemory,
}

/// Why a pass did not see everything.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// A part of it ended without a result.
    #[error("a read ended without a result")]
    CutOff,
    /// An outage began: nothing is asked until it is over.
    #[error("paused: the replica is in charge")]
    Paused,
    /// Its keys can be found out in neither way.
    #[error("neither SCAN {scan} nor LIST {list} is allowed")]
    NotListable {
        /// The path that would be scanned.
        scan: String,
        /// The path that would be listed.
        list: String,
    },
    /// The system gives no randomness.
    #[error(transparent)]
    NoEntropy(#[from] replica::entropy::NoEntropy),
    /// The replica did not take what was found.
    #[error("the replica did not take it: {0}")]
    Store(#[from] SubmitError),
    /// A lease of this path was got moments ago.
    #[error("a new lease was got moments ago")]
    TooSoon,
    /// No mirror of that path is configured.
    #[error("no mirror of that path is configured")]
    Unknown,
    /// Its mounts have not been seen yet.
    #[error("the primary's mounts have not been seen yet")]
    Unseen,
    /// What the path is cannot be mirrored.
    #[error("{0}")]
    Unsupported(String),
    /// The primary did not answer, or said no.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// How urgent a pass is, and what it may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occasion {
    /// Its time has come.
    Cycle,
    /// An operator asked for it: what vanished at once is asked about and purged, rather than withheld.
    Operator,
    /// Settling after an outage asks for it.
    Recovery,
}

impl Occasion {
    fn urgency(self) -> Urgency {
        match self {
            Self::Recovery => Urgency::Recovery,
            Self::Cycle | Self::Operator => Urgency::Mirror,
        }
    }
}

/// Whether a mirror of `path` could hold something, as far as its mount tells.
///
/// # Errors
/// Why not, in words.
pub(crate) fn is_mirrorable(path: &settings::MirrorPath, cluster: &Cluster) -> Result<(), String> {
    match target::resolve(path, cluster) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

impl Mirrors {
    /// The mirrors of `config`. Nothing is asked yet. `excluded` are paths that are never mirrored.
    pub fn new(config: &Config, upstream: Upstream, local: Local, excluded: Vec<String>) -> Self {
        let settings = Arc::new(config.settings.clone());
        let mirrors = settings.mirrors.iter().cloned();
        Self(Arc::new(Shared {
            upstream,
            local,
            authority_interval: config.failover.authority_interval,
            token_check_interval: config.primary.token_check_interval,
            excluded,
            health: Mutex::default(),
            failures: parking_lot::Mutex::default(),
            authority: tokio::sync::Mutex::default(),
            minted: Mutex::default(),
            mirrors: mirrors
                .map(|one| (one, tokio::sync::Mutex::default()))
                .collect(),
            tokens: Mutex::default(),
            settings,
        }))
    }

    /// Mirrors until the daemon stops. `seen` is what the primary accepted and the replica does not know yet.
    pub async fn run(self, seen: mpsc::Receiver<SeenCredential>) {
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let mirrors = self.clone();
            async move { mirrors.forget_what_left().await }
        });
        tasks.spawn(self.clone().keep_authority());
        tasks.spawn(self.clone().follow_tokens());
        tasks.spawn(self.clone().learn(seen));
        for nr in 0..self.0.mirrors.len() {
            tasks.spawn(self.clone().keep_mirror(nr));
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a mirroring task ended");
            }
        }
    }

    /// Goes once through the mirror of `path`, as configured, now.
    ///
    /// # Errors
    /// If it did not see everything.
    pub async fn sync_now(&self, path: &str, occasion: Occasion) -> Result<(), PassError> {
        let mut mirrors = self.0.mirrors.iter();
        let nr = mirrors
            .position(|(mirror, _)| mirror.path.configured() == path)
            .ok_or(PassError::Unknown)?;
        self.pass(nr, occasion).await.map(drop)
    }

    /// Verifies the authority of every workload, now.
    ///
    /// # Errors
    /// If nothing could be verified; what could not be verified of single workloads is in the report.
    pub async fn verify_authority(&self, occasion: Occasion) -> Result<AuthorityReport, PassError> {
        let urgency = match occasion {
            Occasion::Recovery => Urgency::Recovery,
            _ => Urgency::Authority,
        };
        let mut work = self.0.authority.lock().await;
        work.verify(self, urgency, occasion == Occasion::Cycle)
            .await
    }

    /// Asks the primary now, outside of every cycle, for what decisions about these tokens go by: what became of
    /// each that can be looked up, these entities, and with `authority` all that a cycle of it brings.
    ///
    /// # Errors
    /// If not all of it was answered, or an outage began.
    pub async fn ask_anew(
        &self,
        tokens: &[TokenDigest],
        entities: &[EntityId],
        authority: bool,
    ) -> Result<(), PassError> {
        self.go_on(Occasion::Cycle)?;
        if authority {
            self.verify_authority(Occasion::Operator).await?;
        }
        for entity in entities {
            self.verify_identity(entity).await?;
        }
        for token in tokens {
            self.recheck_token(*token).await?;
        }
        Ok(())
    }

    /// The configured mirrors.
    pub fn configured(&self) -> impl Iterator<Item = &settings::Mirror> {
        self.0.mirrors.iter().map(|(mirror, _)| mirror)
    }

    async fn keep_authority(self) {
        let mut cycle = Cycle::new(self.0.authority_interval);
        let mut pace = Pace::Usual;
        loop {
            self.rest(&mut cycle, pace).await;
            pace = match self.verify_authority(Occasion::Cycle).await {
                Ok(_) => {
                    cycle.succeeded();
                    Pace::Soon(self.until_standing_due())
                }
                Err(error) => {
                    cycle.failed();
                    tracing::warn!(%error, "authority could not be verified");
                    Pace::Usual
                }
            };
        }
    }

    async fn keep_mirror(self, nr: usize) {
        let Some((mirror, _)) = self.0.mirrors.get(nr) else {
            return;
        };
        // Without the mounts no pass can say what the path is; authority brings them first.
        while self.cluster().is_none() {
            tokio::time::sleep(UNSEEN_LOOK).await;
        }
        let mut cycle = Cycle::new(mirror.interval);
        let mut pace = Pace::Usual;
        loop {
            self.rest(&mut cycle, pace).await;
            pace = match self.pass(nr, Occasion::Cycle).await {
                Ok(next) => {
                    cycle.succeeded();
                    next
                }
                // Neither asked anything of the primary.
                Err(PassError::Paused | PassError::Unsupported(_)) => {
                    cycle.succeeded();
                    Pace::Usual
                }
                Err(error) => {
                    cycle.failed();
                    tracing::warn!(%error, path = %mirror.path.configured(), "a mirror could not be brought up to date");
                    Pace::Usual
                }
            };
        }
    }

    async fn pass(&self, nr: usize, occasion: Occasion) -> Result<Pace, PassError> {
        let Some((mirror, work)) = self.0.mirrors.get(nr) else {
            return Err(PassError::Unknown);
        };
        let mut work = work.lock().await;
        let path = mirror.path.configured();
        let passed = self.pass_of(mirror, &mut work, occasion).await;
        self.with_health(&path, |health| match &passed {
            Ok(_) => health.succeeded(),
            Err(PassError::Paused) => {}
            Err(error) => health.failed(error),
        });
        passed
    }

    async fn pass_of(
        &self,
        mirror: &settings::Mirror,
        work: &mut MirrorMemory,
        occasion: Occasion,
    ) -> Result<Pace, PassError> {
        let cluster = self.cluster().ok_or(PassError::Unseen)?;
        let ground = |mount: &MountAccessor, literal: String, one: bool| ground::Ground {
            mirrors: self,
            mirror,
            mount: mount.clone(),
            literal,
            one,
            occasion,
        };
        match target::resolve(&mirror.path, &cluster)? {
            target::Target::Kv(target) => {
                let one = matches!(target.keys, target::Keys::One(_));
                let ground = ground(&target.accessor, target.literal(), one);
                kv::KvPass { ground, target }.run(&mut work.kv).await
            }
            target::Target::Kv1(target) => {
                let one = matches!(target.keys, target::Keys::One(_));
                let ground = ground(&target.accessor, target.literal(), one);
                kv1::Kv1Pass { ground, target }.run(&mut work.kv1).await
            }
            target::Target::Path(path) => {
                let place = target::placed(&self.0.settings.namespace, path);
                let ground = ground(&place.mount, place.path.as_str().to_owned(), true);
                self.pass_of_path(ground, place, &mut work.lease).await
            }
        }
    }

    /// Only what a path answers tells whether it comes with a lease.
    async fn pass_of_path(
        &self,
        ground: ground::Ground<'_>,
        place: Place,
        work: &mut lease::LeaseMemory,
    ) -> Result<Pace, PassError> {
        let mut first = None;
        if !self.is_plain(&place) {
            let pass = lease::LeasePass {
                mirrors: self,
                place: place.clone(),
                size: ground.mirror.pool,
                occasion: ground.occasion,
            };
            let passed = pass.run(work).await;
            first = work.take_unleased();
            if first.is_none() {
                return passed;
            }
        }
        path::PathPass { ground, place }.run(first).await
    }

    /// Rests until the next pass is due and the primary is in charge again.
    async fn rest(&self, cycle: &mut Cycle, pace: Pace) {
        let pause = cycle.pause(pace, self.0.upstream.jitter());
        tokio::time::sleep(pause).await;
        if !self.is_paused() {
            return;
        }
        while self.is_paused() {
            tokio::time::sleep(cycle::PAUSED_LOOK).await;
        }
        // Everyone comes back at the same moment: spread out again.
        tokio::time::sleep(cycle.after_outage(self.0.upstream.jitter())).await;
    }

    /// In an outage only settling asks.
    fn is_paused(&self) -> bool {
        self.0.local.view.authority().phase.is_outage()
    }

    fn go_on(&self, occasion: Occasion) -> Result<(), PassError> {
        if occasion == Occasion::Cycle && self.is_paused() {
            return Err(PassError::Paused);
        }
        Ok(())
    }

    fn cluster(&self) -> Option<Arc<Cluster>> {
        self.0.local.view.authority().cluster.clone()
    }

    fn now(&self) -> WallTime {
        self.0.local.clock.now().steady
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), PassError> {
        if changes.is_empty() {
            return Ok(());
        }
        let local = &self.0.local;
        let committed = local
            .commit(Lane::Mirror, changes, Expects::default())
            .await;
        committed.map_err(PassError::Store)
    }

    /// Before everything else that waits to be stored.
    async fn commit_revocation(&self, revoked: Change) -> Result<(), PassError> {
        let local = &self.0.local;
        let committed = local.commit(Lane::Revocation, vec![revoked], Expects::default());
        committed.await.map_err(PassError::Store)
    }

    fn with_health<T>(&self, path: &str, act: impl FnOnce(&mut MirrorHealth) -> T) -> T {
        let mut health = self.0.health.lock().unwrap_or_else(PoisonError::into_inner);
        act(health.entry(path.to_owned()).or_default())
    }

    /// What left the configuration is neither kept nor followed any longer.
    async fn forget_what_left(&self) {
        let settings = &self.0.settings;
        let authority = self.0.local.view.authority();
        let kept = |path: &str| {
            settings
                .mirrors
                .iter()
                .any(|one| one.path.configured() == path)
        };
        let gone = authority.mirrors.keys().filter(|path| !kept(path));
        let changes: Vec<_> = gone.map(|path| Change::MirrorGone(path.clone())).collect();
        drop(authority);
        if let Err(error) = self.commit(changes).await {
            tracing::warn!(%error, "mirrors that left the configuration are still in the replica");
        }
        self.until_it_can_ask().await;
        self.forget_leases().await;
    }

    /// Waits until there is a token to ask with, and no outage.
    async fn until_it_can_ask(&self) {
        while self.is_paused() || self.0.upstream.own_token().is_none() {
            tokio::time::sleep(cycle::PAUSED_LOOK).await;
        }
    }
}
