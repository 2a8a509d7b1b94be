//! The replica and the minter of the socket's tests: they do as they are told and remember what they were asked.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::replica::{
    learn::{
        self, Candidate, Exchange,
        key::{AnsweredRead, Difference, SentWrite, Written},
    },
    ledger::Note,
    sequencer::{Lane, SubmitError},
    vault::{Answer, Presented, Query, foresee::Foreseen},
    view::LiveGrant,
};
use shared::{
    approle::Outcome,
    change::{Change, Cluster, CredentialName, Expects, Mount, RevocationTarget},
    coverage::Foretold,
    doubt::{self, Writer},
    failover::Phase,
    grant::{Grant, Origin, Revocation, RevokeCause, Settled},
    kv::Doubt,
    mount::MountKind,
    name::{ClusterId, LeaseId, OutageId, TokenDigest, WorkloadName},
    offboarding::Offboarded,
    secret::{SecretBytes, SecretText},
    settings::Settings,
    time::{Now, WallTime},
    workload::PeerId,
};

use super::says;
use crate::{
    clock::Clock,
    local::Pending,
    recovery::settler::{self, AtUse, Judged},
    samples,
    serve::{
        custody::{MOST_QUEUED, Unclaimed},
        login::{MintedLogin, Minter},
        replica::Replica,
    },
    upstream::{UpstreamError, workload::MintError},
};

/// The lease that was revoked here.
pub(crate) const REVOKED_LEASE: &str = "database/creds/x/revoked";

type Shows = Box<dyn Fn(&AnsweredRead<'_>) -> Vec<Difference> + Send + Sync>;

type Vault = Box<dyn Fn(&Query<'_>) -> Answer + Send + Sync>;

/// A replica that does as it is told.
pub(crate) struct FakeReplica {
    clock: Clock,
    settings: Arc<Settings>,
    outage: Mutex<Option<OutageId>>,
    offboarded: Mutex<Option<Offboarded>>,
    grants: Mutex<HashMap<TokenDigest, Arc<LiveGrant>>>,
    credentials: Mutex<HashMap<CredentialName, String>>,
    vault: Mutex<Vault>,
    shows: Mutex<Shows>,
    doubted: Mutex<Vec<Doubt>>,
    is_slow: AtomicBool,
    writer: Mutex<Writer>,
    is_stuck: AtomicBool,
    used: Mutex<Vec<TokenDigest>>,
    commits: Mutex<VecDeque<SubmitError>>,
    committed: Mutex<Vec<(Lane, Vec<Change>)>>,
    lessons: Mutex<Vec<Taught>>,
    asked: Mutex<Vec<String>>,
    noted: Mutex<Vec<Outcome>>,
    outlived: Mutex<Vec<TokenDigest>>,
    unclaimed: Mutex<Vec<String>>,
}

/// What the replica was taught.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Taught {
    pub(crate) path: String,
    pub(crate) token: Option<TokenDigest>,
    pub(crate) peer: Option<PeerId>,
    /// The body of a success.
    pub(crate) brought: Option<String>,
    /// Whether the token was refused.
    pub(crate) doubts: bool,
}

impl FakeReplica {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            clock: Clock::start(None).unwrap(),
            settings: Arc::new(settings),
            outage: Mutex::default(),
            offboarded: Mutex::default(),
            grants: Mutex::default(),
            credentials: Mutex::default(),
            vault: Mutex::new(Box::new(|_| says(200, "{\"from\":\"replica\"}"))),
            shows: Mutex::new(Box::new(|_| Vec::new())),
            doubted: Mutex::default(),
            is_slow: AtomicBool::new(false),
            writer: Mutex::new(Writer::May),
            is_stuck: AtomicBool::new(false),
            used: Mutex::default(),
            commits: Mutex::default(),
            committed: Mutex::default(),
            lessons: Mutex::default(),
            asked: Mutex::default(),
            noted: Mutex::default(),
            outlived: Mutex::default(),
            unclaimed: Mutex::default(),
        }
    }

    /// The entity of an exchanged grant changes.
    pub(crate) fn outlives(&self, digest: TokenDigest) {
        self.outlived.lock().unwrap().push(digest);
    }

    pub(crate) fn enter(&self, phase: &Phase) {
        *self.outage.lock().unwrap() = phase.outage().map(|outage| outage.id.clone());
    }

    /// The vault answers like this from here on.
    pub(crate) fn decides(&self, vault: impl Fn(&Query<'_>) -> Answer + Send + Sync + 'static) {
        *self.vault.lock().unwrap() = Box::new(vault);
    }

    /// Mirrored reads show this from here on.
    pub(crate) fn is_shown(
        &self,
        shows: impl Fn(&AnsweredRead<'_>) -> Vec<Difference> + Send + Sync + 'static,
    ) {
        *self.shows.lock().unwrap() = Box::new(shows);
    }

    /// No doubt is durable from here on.
    /// Whether who writes may, from here on.
    pub(crate) fn writers_are(&self, writer: Writer) {
        *self.writer.lock().unwrap() = writer;
    }

    pub(crate) fn is_slow(&self) {
        self.is_slow.store(true, Ordering::Relaxed);
    }

    /// No commit ends from here on.
    pub(crate) fn is_stuck(&self) {
        self.is_stuck.store(true, Ordering::Relaxed);
    }

    /// Tokens that were used, in order.
    pub(crate) fn used_tokens(&self) -> Vec<TokenDigest> {
        self.used.lock().unwrap().clone()
    }

    /// What is in doubt.
    pub(crate) fn doubted(&self) -> Vec<Doubt> {
        self.doubted.lock().unwrap().clone()
    }

    /// The next commits fail like this, then they succeed again.
    pub(crate) fn commits_fail(&self, errors: impl IntoIterator<Item = SubmitError>) {
        self.commits.lock().unwrap().extend(errors);
    }

    /// A token is known.
    pub(crate) fn knows(&self, token: &str, origin: Origin, verified: Duration) -> TokenDigest {
        let now = self.clock.now();
        let digest = self.digest(token);
        let grant = Grant {
            digest,
            verified_at: now.steady.minus(verified),
            ..samples::grant(0, origin, Duration::from_secs(600), now)
        };
        let live = Arc::new(LiveGrant::new(grant));
        self.grants.lock().unwrap().insert(digest, live);
        digest
    }

    /// A token that was given to this peer is known.
    pub(crate) fn gave(&self, token: &str, origin: Origin, peer: PeerId) -> TokenDigest {
        let digest = self.knows(token, origin, Duration::ZERO);
        let mut grants = self.grants.lock().unwrap();
        let given = Grant {
            peer: Some(peer),
            ..grants[&digest].grant.clone()
        };
        grants.insert(digest, Arc::new(LiveGrant::new(given)));
        digest
    }

    /// The primary takes Holdover's own credential away.
    pub(crate) fn offboards(&self) {
        let at = self.now().steady;
        *self.offboarded.lock().unwrap() = Some(Offboarded { at });
    }

    /// A known token is dead from here on.
    pub(crate) fn revoke(&self, digest: &TokenDigest) {
        let live = self.grant(digest).unwrap();
        let revoked = Revocation::of(&live.grant, RevokeCause::Operator, WallTime::EPOCH);
        let _ = live.revoked.set(revoked);
    }

    /// Holdover presents this token under this name.
    pub(crate) fn holds(&self, name: CredentialName, token: &str) {
        self.credentials
            .lock()
            .unwrap()
            .insert(name, token.to_owned());
    }

    fn proven(&self, token: &TokenDigest, as_of: Option<WallTime>) -> Option<Change> {
        let known = self.grant(token)?.grant.verified_at;
        let as_of = as_of.filter(|as_of| as_of.since(known) >= learn::PROOF_INTERVAL)?;
        Some(Change::Proven(*token, as_of))
    }

    /// What was committed, by lane and number of changes.
    pub(crate) fn committed(&self) -> Vec<(Lane, usize)> {
        let committed = self.committed.lock().unwrap();
        committed
            .iter()
            .map(|(lane, changes)| (*lane, changes.len()))
            .collect()
    }

    /// Whether something of this kind was committed.
    pub(crate) fn has_committed(&self, wanted: impl Fn(&Change) -> bool) -> bool {
        let committed = self.committed.lock().unwrap();
        committed
            .iter()
            .any(|(_, changes)| changes.iter().any(&wanted))
    }

    /// What it was taught.
    pub(crate) fn lessons(&self) -> Vec<Taught> {
        self.lessons.lock().unwrap().clone()
    }

    /// What the ledger says that nobody got: path and outcome.
    pub(crate) fn unclaimed(&self) -> Vec<String> {
        self.unclaimed.lock().unwrap().clone()
    }

    /// What the primary is to be told to revoke.
    pub(crate) fn revoked(&self) -> Vec<RevocationTarget> {
        let committed = self.committed.lock().unwrap();
        let changes = committed.iter().flat_map(|(_, changes)| changes);
        let targets = changes.filter_map(|change| match change {
            Change::Queue(queued) => Some(queued.target.clone()),
            _ => None,
        });
        targets.collect()
    }

    /// What came of logins.
    pub(crate) fn noted(&self) -> Vec<Outcome> {
        self.noted.lock().unwrap().clone()
    }

    /// What the vault was asked: path and what was presented.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Replica for FakeReplica {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.clone()
    }

    fn offboarded(&self) -> Option<Offboarded> {
        *self.offboarded.lock().unwrap()
    }

    fn outage(&self) -> Option<OutageId> {
        self.outage.lock().unwrap().clone()
    }

    fn mount_kind(&self, path: &str) -> Option<MountKind> {
        let (mount, _) = path.split_once('/')?;
        let kind = match mount {
            "secret" => "kv",
            "sys" => "system",
            mount => mount,
        };
        Some(kind.into())
    }

    fn digest(&self, token: &str) -> TokenDigest {
        let mut hasher = DefaultHasher::new();
        token.hash(&mut hasher);
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&hasher.finish().to_le_bytes());
        TokenDigest(digest)
    }

    fn grant(&self, digest: &TokenDigest) -> Option<Arc<LiveGrant>> {
        self.grants.lock().unwrap().get(digest).cloned()
    }

    fn was_ended_here(&self, digest: &TokenDigest) -> bool {
        let live = self.grant(digest);
        live.is_some_and(|live| live.revoked.get().is_some())
    }

    fn is_of_replica(&self, accessor: &str) -> bool {
        let grants = self.grants.lock().unwrap();
        let mut known = grants.values().map(|live| &live.grant);
        known.any(|grant| grant.is_replica() && grant.accessor.as_str() == accessor)
    }

    fn is_left_over(&self, grant: &Grant) -> bool {
        grant.is_left_over(self.outage().as_ref())
    }

    fn has_outlived(&self, grant: &Grant) -> bool {
        self.outlived.lock().unwrap().contains(&grant.digest)
    }

    fn hangs_on_dead(&self, _: &Grant) -> bool {
        false
    }

    fn is_lease_revoked_here(&self, lease: &LeaseId) -> bool {
        lease.as_str() == REVOKED_LEASE
    }

    fn proven_from(&self) -> Option<WallTime> {
        None
    }

    fn given(&self, _: &TokenDigest, _: u32) {}

    fn used(&self, digest: &TokenDigest, _: u32) {
        self.used.lock().unwrap().push(*digest);
    }

    fn credential(&self, name: &CredentialName) -> Option<SecretText> {
        let credentials = self.credentials.lock().unwrap();
        credentials.get(name).cloned().map(SecretText::new)
    }

    fn answer(&self, query: &Query<'_>) -> Answer {
        let presented = match query.presented {
            Presented::Nothing => "-".to_owned(),
            Presented::Standing(workload) => format!("standing:{workload}"),
            Presented::Token(token) => token.to_owned(),
        };
        let path = query.call.path.as_str();
        self.asked
            .lock()
            .unwrap()
            .push(format!("{path} {presented}"));
        (self.vault.lock().unwrap())(query)
    }

    fn refuse_unread(&self, query: &Query<'_>) -> Option<Answer> {
        match query.presented {
            Presented::Token("s.unknown") => Some(says(503, r#"{"errors":["unknown"]}"#)),
            _ => None,
        }
    }

    fn foresee(&self, query: &Query<'_>) -> Foreseen {
        let verdict = match query.presented {
            Presented::Token(token) if self.grant(&self.digest(token)).is_none() => {
                Foretold::UnknownToken
            }
            _ => Foretold::Served,
        };
        Foreseen {
            verdict,
            reason: String::new(),
        }
    }

    /// By the same predicates as the replica, of whole answers.
    fn learn(&self, exchange: &Exchange<'_>) -> Vec<Change> {
        let evidence = &exchange.evidence;
        let brought = evidence.brought().map(String::from_utf8_lossy);
        let mut changes = Vec::new();
        if brought.is_some() || evidence.refused_login().is_some() {
            self.lessons.lock().unwrap().push(Taught {
                path: evidence.asked.call.path.as_str().to_owned(),
                token: exchange.token.copied(),
                peer: exchange.peer.cloned(),
                brought: brought.as_deref().map(str::to_owned),
                doubts: evidence.doubts_token(),
            });
        }
        // What is of another namespace is never learned.
        let is_learned = |body: &str| body.contains("\"auth\":") && !body.contains("s.of.another");
        if brought.is_some_and(|body| is_learned(&body)) {
            let origin = Origin::Learned;
            let grant = samples::grant(0, origin, Duration::from_secs(600), self.clock.now());
            changes.push(Change::Grant(Box::new(Grant {
                peer: exchange.peer.cloned(),
                ..grant
            })));
        }
        if let Some(token) = exchange.token.filter(|token| self.grant(token).is_some()) {
            if evidence.doubts_token() {
                changes.push(Change::TokenDoubted(*token, exchange.answered_at));
            }
            changes.extend(self.proven(token, evidence.proves_token()));
        }
        changes
    }

    fn login(&self, _exchange: &Exchange<'_>) -> Option<Candidate> {
        None
    }

    fn written(&self, write: &SentWrite<'_>) -> Written {
        let mount = Mount {
            accessor: samples::kv_place("secret/data/x").mount,
            kind: "kv".into(),
            version: Some("2".into()),
            shown: serde_json::Value::Null,
        };
        let cluster = Cluster {
            id: ClusterId::parse("c").unwrap(),
            namespace: self.settings.namespace.clone(),
            name: String::new(),
            version: String::new(),
            seal_status: serde_json::Value::Null,
            performance_mode: String::new(),
            mounts: [("secret/".to_owned(), mount)].into(),
            token_ttls: None,
            verified_at: WallTime::EPOCH,
        };
        let (line, namespace) = (write.line, write.namespace);
        let touched = doubt::touched(line, namespace, write.body, Some(&cluster), &self.settings);
        let since = self.now().steady;
        let doubts = touched.doubted.into_iter().map(|of| Doubt {
            of,
            since,
            vanished: touched.vanishes,
        });
        Written {
            doubts: doubts.collect(),
            authority: touched.authority,
        }
    }

    fn writer(&self, _query: &Query<'_>) -> Writer {
        *self.writer.lock().unwrap()
    }

    fn shown(&self, read: &AnsweredRead<'_>) -> Vec<Difference> {
        (self.shows.lock().unwrap())(read)
    }

    fn doubt(&self, doubts: Vec<Doubt>) -> Pending<'static, ()> {
        self.doubted.lock().unwrap().extend(doubts);
        match self.is_slow.load(Ordering::Relaxed) {
            true => Box::pin(std::future::pending()),
            false => Box::pin(std::future::ready(())),
        }
    }

    fn commit(
        &self,
        lane: Lane,
        changes: Vec<Change>,
        _expects: Expects,
    ) -> Pending<'_, Result<(), SubmitError>> {
        let failure = self.commits.lock().unwrap().pop_front();
        if failure.is_none() {
            self.committed.lock().unwrap().push((lane, changes));
        }
        let is_stuck = self.is_stuck.load(Ordering::Relaxed);
        Box::pin(async move {
            if is_stuck {
                std::future::pending::<()>().await;
            }
            failure.map_or(Ok(()), Err)
        })
    }

    fn revoke_unclaimed(&self, unclaimed: Unclaimed) {
        let mut ids = 1..;
        let (told, note) = unclaimed.settled(MOST_QUEUED, || ids.next(), self.now().steady);
        if !told.is_empty() {
            let mut committed = self.committed.lock().unwrap();
            committed.push((Lane::Revocation, told));
        }
        self.note_unclaimed(note);
    }

    fn note_unclaimed(&self, note: Note) {
        if let Note::Unclaimed { path, outcome, .. } = note {
            let mut unclaimed = self.unclaimed.lock().unwrap();
            unclaimed.push(format!("{path} {outcome}"));
        }
    }

    fn note(&self, answer: &mut Answer) {
        let outcome = answer.attempt.as_ref().map(|attempt| attempt.outcome);
        self.noted.lock().unwrap().extend(outcome);
    }
}

type Mints = Arc<dyn Fn(&WorkloadName) -> Result<String, MintError> + Send + Sync>;

/// A minter that does as it is told.
#[derive(Default)]
pub(crate) struct FakeMinter {
    mints: Mutex<Option<Mints>>,
    takes: Mutex<Duration>,
    asked: AtomicUsize,
}

impl FakeMinter {
    /// It mints like this from here on; none never answers.
    pub(crate) fn mints(
        &self,
        mints: impl Fn(&WorkloadName) -> Result<String, MintError> + Send + Sync + 'static,
    ) {
        *self.mints.lock().unwrap() = Some(Arc::new(mints));
    }

    /// It takes so long from here on.
    pub(crate) fn takes(&self, takes: Duration) {
        *self.takes.lock().unwrap() = takes;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Minter for FakeMinter {
    fn ready(&self) -> Pending<'_, Result<(), UpstreamError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn first_standing<'a>(&'a self, _: &'a WorkloadName) -> Pending<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    fn mint<'a>(
        &'a self,
        workload: &'a WorkloadName,
        _peer: &'a PeerId,
    ) -> Pending<'a, Result<MintedLogin, MintError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (mints, takes) = (
            self.mints.lock().unwrap().clone(),
            *self.takes.lock().unwrap(),
        );
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            match mints {
                Some(mints) => mints(workload).map(|body| MintedLogin {
                    body: SecretBytes::new(body.into_bytes()),
                }),
                None => std::future::pending().await,
            }
        })
    }
}

type Judges = Box<dyn Fn() -> Judged + Send + Sync>;

type Settles = Box<dyn Fn() -> Pending<'static, settler::Settlement> + Send + Sync>;

/// A settler that does as it is told.
pub(crate) struct FakeSettler {
    judges: Mutex<Judges>,
    settles: Mutex<Settles>,
    asked: Mutex<Vec<&'static str>>,
}

impl Default for FakeSettler {
    fn default() -> Self {
        Self {
            judges: Mutex::new(Box::new(|| Judged::As(settler::Settlement::Settled))),
            settles: Mutex::new(Box::new(|| Box::pin(std::future::pending()))),
            asked: Mutex::default(),
        }
    }
}

impl FakeSettler {
    /// It judges like this from here on.
    pub(crate) fn judges(&self, judges: impl Fn() -> Judged + Send + Sync + 'static) {
        *self.judges.lock().unwrap() = Box::new(judges);
    }

    /// It settles like this from here on; until then that never ends.
    pub(crate) fn settles(
        &self,
        settles: impl Fn() -> settler::Settlement + Send + Sync + 'static,
    ) {
        *self.settles.lock().unwrap() = Box::new(move || Box::pin(std::future::ready(settles())));
    }

    /// What it was asked for.
    pub(crate) fn asked(&self) -> Vec<&'static str> {
        self.asked.lock().unwrap().clone()
    }
}

impl AtUse for FakeSettler {
    fn judge(&self, _digest: TokenDigest) -> Pending<'static, Judged> {
        self.asked.lock().unwrap().push("judge");
        Box::pin(std::future::ready((self.judges.lock().unwrap())()))
    }

    fn settle(&self, _digest: TokenDigest) -> Pending<'static, settler::Settlement> {
        self.asked.lock().unwrap().push("settle");
        (self.settles.lock().unwrap())()
    }
}

/// A replica grant's origin, settled like this.
pub(crate) fn of_replica(settled: Settled) -> Origin {
    samples::issued(settled, Clock::start(None).unwrap().now())
}
