//! The mirror: what the primary answers, turned into `Change`s and kept fresh.
//!
//! One task verifies the authority of workloads, one keeps each configured mirror, one follows the tokens that
//! clients use. All are paced together ([`crate::upstream::pace`]), start jittered, stop asking in an outage, and keep
//! what they have when they cannot ask: a failed check never makes anything look fresh.

mod anew;
mod authority;
mod context;
mod cycle;
mod ground;
mod held;
mod index;
mod kv;
mod learn;
mod lease;
mod lost;
mod names;
mod path;
mod plain;
mod read;
mod room;
mod status;
mod target;
mod token;

use std::{sync::Arc, time::Duration};

use replica::sequencer::SubmitError;
use shared::{
    approle::Basis,
    change::{Change, Cluster},
    kv::Place,
    name::{EntityId, MountAccessor, PolicyName, RequestPath, TokenDigest, WorkloadName},
    settings,
    share::commons::Amount,
    time::WallTime,
};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

pub(crate) use self::anew::AuthorityWrite;
pub use self::{
    anew::Anew,
    authority::{AuthorityReport, AuthorityVerdict},
    learn::{SeenCredential, SeenToken},
};
use self::{
    authority::{AuthorityKeeper, AuthorityPass},
    context::MirrorContext,
    cycle::Pace,
    ground::Ground,
    kv::{KvMemory, KvPass},
    lease::{LeaseMemory, LeasePass},
    path::PathPass,
    room::MirrorRoom,
    target::Target,
    token::TokenFollower,
};
use crate::{
    config::Config,
    local::Local,
    status::fill::Fill,
    upstream::{Upstream, UpstreamError, pace::Urgency},
};

/// Until the primary's mounts have been seen for the first time, a mirror looks for them this often.
const UNSEEN_LOOK: Duration = Duration::from_millis(100);

/// Every mirror of the configuration. Cheap to clone.
#[derive(Clone)]
pub struct Mirrors {
    context: Arc<MirrorContext>,
    authority: Arc<AuthorityKeeper>,
    /// Each with what its task remembers. Only one pass over a mirror runs at a time.
    mirrors: Arc<[(settings::Mirror, Mutex<MirrorMemory>)]>,
    tokens: Arc<TokenFollower>,
    anew: Anew,
}

/// What one mirror's task remembers from pass to pass. What must survive a restart is in the replica.
#[derive(Default)]
struct MirrorMemory {
    kv: KvMemory,
    lease: LeaseMemory,
}

/// Why a pass did not see everything.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// A part of it ended without a result.
    #[error("a read ended without a result")]
    CutOff,
    /// An outage began, or the host was offboarded: nothing is asked until that is over.
    #[error("paused: in an outage, and after offboarding, the primary is not asked")]
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
    /// The replica did not store what was found.
    #[error("the replica did not store it: {0}")]
    Store(#[from] SubmitError),
    /// A key that was to be read anew could not be, or not as one.
    #[error("{0} could not be read anew")]
    Unread(RequestPath),
    /// Each new lease is an account at some backend: they are paced.
    #[error("a new lease was obtained moments ago")]
    TooSoon,
    /// The answer to the same request was lost before: it may have made something that nobody has.
    #[error("an answer was lost that may have made something; it is asked for again later")]
    Lost,
    /// No mirror of that path is configured.
    #[error("no mirror of that path is configured")]
    Unknown,
    /// The path answers without a lease: it is kept in another way.
    #[error("the path answers without a lease")]
    Unleased,
    /// Not all of it could be read.
    #[error("not all of it could be read: {0}")]
    Partial(String),
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

impl PassError {
    /// Whether nothing else of the pass is worth asking, rather than only what failed.
    fn ends_pass(&self) -> bool {
        match self {
            Self::Upstream(error) => read::is_cut_off(error),
            _ => true,
        }
    }
}

/// How urgent a pass is, and what it may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occasion {
    /// Something of it may be superseded.
    Anew,
    /// Its time has come.
    Cycle,
    /// An operator asked for it: what vanished at once is asked about and purged, rather than withheld.
    Operator,
    /// Recovery after an outage asks for it.
    Recovery,
}

impl Occasion {
    /// Whether nobody asked for it, so that an outage and what was put aside stand in its way.
    fn is_own(self) -> bool {
        matches!(self, Self::Anew | Self::Cycle)
    }

    fn urgency(self) -> Urgency {
        match self {
            Self::Recovery => Urgency::Recovery,
            Self::Anew => Urgency::Doubted,
            Self::Cycle | Self::Operator => Urgency::Mirror,
        }
    }
}

/// Whether a mirror of `path` could hold something, as far as its mount tells.
///
/// # Errors
/// Why not, in words.
pub(crate) fn is_mirrorable(path: &settings::MirrorPath, cluster: &Cluster) -> Result<(), String> {
    let target = target::resolve(path, cluster);
    target.map(drop).map_err(|error| error.to_string())
}

impl Mirrors {
    /// The mirrors of `config`. Nothing is asked yet. `excluded` are paths that are never mirrored; `anew` is how others
    /// tell what is to be read before its time, to these mirrors and to those that come after them.
    pub fn new(
        config: &Config,
        upstream: Upstream,
        local: Local,
        excluded: Vec<String>,
        anew: Anew,
    ) -> Self {
        Self::within(room::COMMON, config, upstream, local, excluded, anew)
    }

    /// The same, with so much room in common, and once more in parts of each mirror's own.
    pub fn within(
        common: Amount,
        config: &Config,
        upstream: Upstream,
        local: Local,
        excluded: Vec<String>,
        anew: Anew,
    ) -> Self {
        let room = MirrorRoom::with(common, &config.settings, &local.view.secrets());
        let mirrors = config.settings.mirrors.iter().cloned();
        let context = Arc::new(MirrorContext {
            upstream,
            local,
            settings: Arc::new(config.settings.clone()),
            excluded,
            health: Default::default(),
            unread: Default::default(),
            failures: Default::default(),
            authority_interval: config.failover.authority_interval,
            authority_passed: Default::default(),
            room,
        });
        let interval = config.primary.token_check_interval;
        Self {
            tokens: Arc::new(TokenFollower::new(Arc::clone(&context), interval)),
            context,
            anew,
            authority: Arc::new(AuthorityKeeper::new(&config.settings)),
            mirrors: mirrors.map(|one| (one, Mutex::default())).collect(),
        }
    }

    /// How full the room is for mirrored values, and for policies.
    pub fn fills(&self) -> impl Iterator<Item = Fill> + use<> {
        let authority = self.context.local.view.authority();
        let known = authority.policies.as_ref();
        let policies = Fill::bytes(
            "policies",
            known.map_or(0, |known| authority::policy_bytes(&known.set.policies)),
            authority::MOST_POLICY_BYTES,
        );
        self.context.room.fills().into_iter().chain([policies])
    }

    /// Mirrors until the daemon stops. `seen` is what the primary accepted and the replica does not know yet.
    pub async fn run(self, seen: mpsc::Receiver<SeenCredential>) {
        let mut tasks = JoinSet::new();
        let context = Arc::clone(&self.context);
        tasks.spawn(async move { forget_what_left(&context).await });
        tasks.spawn(self.clone().keep_authority());
        tasks.spawn(anew::keep(self.clone()));
        tasks.spawn(Arc::clone(&self.tokens).follow());
        tasks.spawn(learn::learn(Arc::clone(&self.tokens), seen));
        for nr in 0..self.mirrors.len() {
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
    /// If it did not see everything. What it could not read of single keys is told to an operator alone: for everybody else
    /// the others were verified.
    pub async fn sync_now(&self, path: &str, occasion: Occasion) -> Result<(), PassError> {
        self.pass(self.number_of(path)?, occasion).await?;
        let unread = self
            .context
            .with_health(path, |health| health.unread.clone());
        match occasion {
            Occasion::Operator if !unread.is_empty() => Err(PassError::Partial(unread.to_string())),
            _ => Ok(()),
        }
    }

    fn number_of(&self, path: &str) -> Result<usize, PassError> {
        let mut mirrors = self.configured();
        let nr = mirrors.position(|mirror| mirror.path.configured() == path);
        nr.ok_or(PassError::Unknown)
    }

    /// Verifies the authority of every workload, now.
    ///
    /// # Errors
    /// If nothing could be verified; what could not be verified of single workloads is in the report.
    pub async fn verify_authority(&self, occasion: Occasion) -> Result<AuthorityReport, PassError> {
        let urgency = match occasion {
            Occasion::Recovery => Urgency::Recovery,
            Occasion::Anew | Occasion::Cycle | Occasion::Operator => Urgency::Authority,
        };
        let may_skip = occasion == Occasion::Cycle;
        let report = self
            .authority
            .verify(&self.context, urgency, may_skip)
            .await?;
        if let Some(at) = report.rights_as_of {
            self.anew.authority_verified(at);
        }
        *self.context.authority_passed.lock() = Some(self.context.now().steady);
        Ok(report)
    }

    /// When the last verification of authority ended that went through, since these are.
    pub(crate) fn authority_passed(&self) -> Option<WallTime> {
        *self.context.authority_passed.lock()
    }

    /// Verifies the authority of one workload to settle after an outage, unless that was done since.
    ///
    /// # Errors
    /// If it could not be verified. That nothing may be issued for it any more is none, and is stored.
    pub async fn verify_workload(&self, workload: &WorkloadName) -> Result<(), PassError> {
        let keeper = &self.authority;
        keeper.verify_workload(&self.context, workload).await
    }

    /// The same for what an AppRole login stands on: its role, the secret ids of that role, the entity.
    ///
    /// # Errors
    /// If it could not be verified. That the role or the secret id is gone is none, and is stored.
    pub async fn verify_login(&self, basis: &Basis) -> Result<(), PassError> {
        self.authority.verify_mounts(&self.context).await?;
        authority::at_use::verify_login(&self.context, basis).await
    }

    /// Reads what a policy says, with all others, to settle after an outage, unless that was done since.
    ///
    /// # Errors
    /// If that policy could not be read. That it does not exist is none, and is stored.
    pub async fn verify_policy(&self, name: &PolicyName) -> Result<(), PassError> {
        self.authority.verify_policy(&self.context, name).await
    }

    /// Asks the primary now, outside of every cycle, for what decisions about these tokens go by: what became of
    /// each that can be looked up, these entities, and with `authority` all that a pass over it brings.
    ///
    /// # Errors
    /// If not all of it was answered, or an outage began.
    pub async fn ask_anew(
        &self,
        tokens: &[TokenDigest],
        entities: &[EntityId],
        authority: bool,
    ) -> Result<(), PassError> {
        self.context.go_on(Occasion::Cycle)?;
        if authority {
            self.verify_authority(Occasion::Operator).await?;
        }
        for entity in entities {
            let pass = AuthorityPass::new(&self.context, Urgency::Authority);
            pass.verify_identity(entity).await?;
        }
        for token in tokens {
            self.tokens.recheck(*token).await?;
        }
        Ok(())
    }

    /// The same for every login that is known, and for the entities that decisions go by.
    ///
    /// # Errors
    /// If the primary went away. What it would not say is told in the status.
    pub async fn verify_logins(&self) -> Result<(), PassError> {
        self.authority.verify_logins(&self.context).await
    }

    /// Asks the primary what became of a token, if it is one that can be asked about, and of whom it stands for, to settle
    /// after an outage.
    ///
    /// # Errors
    /// If that was not answered, or says neither that it lives nor that it is dead.
    pub async fn prove_token(&self, token: &TokenDigest) -> Result<(), PassError> {
        self.tokens.prove(*token).await?;
        authority::at_use::verify_holder(&self.context, token).await
    }

    /// How these, and those that come after them, are told what is to be read before its time.
    pub fn anew(&self) -> &Anew {
        &self.anew
    }

    /// The configured mirrors.
    pub fn configured(&self) -> impl Iterator<Item = &settings::Mirror> {
        self.mirrors.iter().map(|(mirror, _)| mirror)
    }

    async fn keep_authority(self) {
        let failure = "authority could not be verified";
        let pass = || async {
            self.verify_authority(Occasion::Cycle).await?;
            Ok(Pace::Soon(authority::until_standing_due(&self.context)))
        };
        let woken = self.anew.authority_wanted();
        self.context
            .keep(self.context.authority_interval, failure, pass, woken)
            .await;
    }

    async fn keep_mirror(self, nr: usize) {
        let Some((mirror, _)) = self.mirrors.get(nr) else {
            return;
        };
        // Without the mounts no pass can say what the path is; authority brings them first.
        while self.context.cluster().is_none() {
            tokio::time::sleep(UNSEEN_LOOK).await;
        }
        let failure = format!(
            "{} could not be brought up to date",
            mirror.path.configured()
        );
        let pass = || self.pass(nr, Occasion::Cycle);
        let never = std::future::pending;
        self.context
            .keep(mirror.interval, &failure, pass, never)
            .await;
    }

    async fn pass(&self, nr: usize, occasion: Occasion) -> Result<Pace, PassError> {
        self.pass_if(nr, occasion, || true).await
    }

    /// The same, if it is wanted still when those before it have ended.
    async fn pass_if(
        &self,
        nr: usize,
        occasion: Occasion,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Pace, PassError> {
        let (mirror, memory) = self.mirrors.get(nr).ok_or(PassError::Unknown)?;
        let mut memory = memory.lock().await;
        if !is_wanted() {
            return Ok(Pace::Usual);
        }
        let path = mirror.path.configured();
        let passed = self.pass_of(mirror, &mut memory, occasion).await;
        self.context.with_health(&path, |health| match &passed {
            Ok(_) => health.succeeded(),
            Err(PassError::Paused) => {}
            Err(error) => health.failed(error),
        });
        passed
    }

    async fn pass_of(
        &self,
        mirror: &settings::Mirror,
        memory: &mut MirrorMemory,
        occasion: Occasion,
    ) -> Result<Pace, PassError> {
        let context = &self.context;
        let cluster = context.cluster().ok_or(PassError::Unseen)?;
        let ground = |mount: &MountAccessor| Ground::new(context, mirror, mount, occasion);
        match target::resolve(&mirror.path, &cluster)? {
            Target::Kv(target) => {
                let ground = ground(&target.accessor);
                KvPass { ground, target }.run(&mut memory.kv).await
            }
            Target::Path(mount, path) => {
                let ground = ground(&mount);
                let place = ground.place(path);
                pass_of_path(ground, place, &mut memory.lease).await
            }
        }
    }
}

/// Only what a path answers tells whether it comes with a lease.
async fn pass_of_path(
    ground: Ground<'_>,
    place: Place,
    memory: &mut LeaseMemory,
) -> Result<Pace, PassError> {
    let mut first = None;
    if !path::is_plain(ground.context, &place) {
        let pass = LeasePass {
            context: ground.context,
            place: place.clone(),
            size: ground.mirror.pool,
            occasion: ground.occasion,
        };
        let passed = pass.run(memory).await;
        first = memory.take_unleased();
        if first.is_none() {
            return passed;
        }
    }
    PathPass { ground, place }.run(first).await
}

/// What left the configuration is neither kept nor followed any longer.
async fn forget_what_left(context: &MirrorContext) {
    let mut changes = Vec::new();
    for path in context.local.view.authority().mirrors.keys() {
        let mut configured = context.settings.mirrors.iter();
        if !configured.any(|one| one.path.configured() == *path) {
            changes.push(Change::MirrorGone(path.clone()));
        }
    }
    if let Err(error) = context.commit(changes).await {
        tracing::warn!(%error, "mirrors that left the configuration are still in the replica");
    }
    context.until_it_can_ask().await;
    lease::leaving::forget_leases(context).await;
}
