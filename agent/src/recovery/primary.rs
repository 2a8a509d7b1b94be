//! The primary as recovery asks it: Holdover's own client, and the mirror for what is brought up to date.

use std::{future::Future, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use shared::{
    approle::Basis,
    change::{Credential, QueuedRevocation, RevocationTarget},
    name::{PolicyName, TokenDigest, WorkloadName},
    provenance::ForeignCluster,
    recovery::Wanted,
    settings::MirrorPath,
};

use crate::{
    link::Unavailable,
    local::Local,
    mirror::{Mirrors, Occasion, PassError},
    upstream::{ProbeOutcome, Upstream, UpstreamError, pace::Urgency, workload::MintError},
};

/// Between two looks whether it serves, or whether there is another token.
const LOOK: Duration = Duration::from_millis(100);

/// What the primary makes of Holdover's own token, where it serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contact {
    /// It does not refuse it.
    Whole,
    /// There is none, or none that it takes: that one ended in the outage, say. Nothing can be asked for before there is
    /// another.
    Tokenless,
}

/// What recovery asks of the primary.
pub trait Primary: Send + Sync {
    /// The same cluster answers, unsealed and active. Waits for as long as something answers that shows neither that it
    /// serves nor that it does not.
    fn prove(&self) -> impl Future<Output = Result<Contact, ProveError>> + Send;
    /// Waits until Holdover has a token of its own that was not refused.
    fn until_token(&self) -> impl Future<Output = ()> + Send;
    /// Carries out one revocation; what is gone already counts as done.
    fn revoke(
        &self,
        queued: &QueuedRevocation,
    ) -> impl Future<Output = Result<(), UpstreamError>> + Send;
    /// Whether it says that a token or lease is gone already, so that there is nothing to revoke.
    fn says_dead(&self, target: &RevocationTarget) -> impl Future<Output = bool> + Send;
    /// Renews what is about to expire: our credential, standing tokens, leases.
    fn renew_due(&self) -> impl Future<Output = Result<(), Unavailable>> + Send;
    /// Verifies the authority of a workload, and stores it: that it may be issued for, or that nothing may.
    fn verify_workload(
        &self,
        workload: &WorkloadName,
    ) -> impl Future<Output = Result<(), PassError>> + Send;
    /// Verifies the role, the secret ids and the entity of an AppRole login, and stores what stands and what is dead.
    fn verify_login(&self, basis: &Basis) -> impl Future<Output = Result<(), PassError>> + Send;
    /// Reads what a policy says, with all others, and stores it.
    fn verify_policy(
        &self,
        name: &PolicyName,
    ) -> impl Future<Output = Result<(), PassError>> + Send;
    /// Verifies every AppRole that is logged in to, its secret ids, and the entities that decisions go by, as many as one pass
    /// asks about.
    fn verify_logins(&self) -> impl Future<Output = Result<(), PassError>> + Send;
    /// Asks what became of a token of the primary's, and stores it: that it lives, or that it is dead.
    fn prove_token(
        &self,
        digest: &TokenDigest,
    ) -> impl Future<Output = Result<(), PassError>> + Send;
    /// Mints a token that is exactly as wanted and cannot be renewed. Sent once.
    fn mint_exact(
        &self,
        workload: &WorkloadName,
        wanted: &Wanted,
    ) -> impl Future<Output = Result<Credential, MintError>> + Send;
    /// What Holdover lacks where the primary refused it that, with the rule that grants it.
    fn lacking(&self, refused: &UpstreamError) -> Option<String>;
    /// Waits for a turn among Holdover's own requests, behind those that are more urgent.
    fn turn(&self) -> impl Future<Output = ()> + Send;
    /// Brings the mirrored values up to date, as far as they can be.
    fn refresh_values(&self) -> impl Future<Output = ()> + Send;
}

/// Why the primary cannot be settled with yet.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProveError {
    /// Another cluster answers than the one that the replica trusts.
    #[error(transparent)]
    Foreign(#[from] ForeignCluster),
    /// The trusted cluster took the credential away.
    #[error("the primary refuses Holdover's own credential")]
    OwnCredentialRefused,
    /// It cannot serve.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Nothing showed in time that it serves.
    #[error("nothing shows that the primary serves authenticated requests")]
    Unproven,
}

/// The primary that the configuration names.
pub struct LivePrimary {
    /// For what the replica knows of its mounts.
    pub local: Local,
    /// For Holdover's own requests.
    pub upstream: Upstream,
    /// For what is brought up to date: those of the configuration in force.
    pub mirrors: Arc<ArcSwap<Mirrors>>,
}

impl Primary for LivePrimary {
    async fn prove(&self) -> Result<Contact, ProveError> {
        loop {
            match self.upstream.probe(true).await {
                ProbeOutcome::Good {
                    authenticated: true,
                    ..
                } => return Ok(Contact::Whole),
                // Others use a quota up, and each step is told so by itself.
                ProbeOutcome::Slowed { .. } => return Ok(Contact::Whole),
                ProbeOutcome::Failed(unavailable) => return Err(unavailable.into()),
                ProbeOutcome::Foreign(foreign) => return Err(foreign.into()),
                ProbeOutcome::Refused if self.is_taken_away() => {
                    return Err(ProveError::OwnCredentialRefused);
                }
                ProbeOutcome::Refused | ProbeOutcome::Tokenless => return Ok(Contact::Tokenless),
                ProbeOutcome::Good { .. } => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn until_token(&self) {
        while self.upstream.own().is_refused() || self.upstream.own_token().is_none() {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn revoke(&self, queued: &QueuedRevocation) -> Result<(), UpstreamError> {
        self.upstream.revoke(&queued.target).await
    }

    async fn says_dead(&self, target: &RevocationTarget) -> bool {
        match target {
            RevocationTarget::Lease(lease) => {
                let gone = self.upstream.is_lease_gone(lease, Urgency::Mirror).await;
                gone.unwrap_or(false)
            }
            RevocationTarget::Token(accessor) => {
                let urgency = Some(Urgency::Mirror);
                let shown = self.upstream.lookup_accessor(accessor, urgency).await;
                shown.map_or_else(|error| error.says_dead(), |shown| shown.is_over)
            }
        }
    }

    async fn renew_due(&self) -> Result<(), Unavailable> {
        let mirrors = self.mirrors.load_full();
        let leased = mirrors.configured().filter(|mirror| {
            matches!(mirror.path, MirrorPath::Exact(_)) && !self.is_kv(mirror.path.literal())
        });
        for mirror in leased {
            self.pass(&mirrors, &mirror.path.configured()).await?;
        }
        Ok(())
    }

    async fn verify_workload(&self, workload: &WorkloadName) -> Result<(), PassError> {
        self.mirrors.load_full().verify_workload(workload).await
    }

    async fn verify_login(&self, basis: &Basis) -> Result<(), PassError> {
        self.mirrors.load_full().verify_login(basis).await
    }

    async fn verify_policy(&self, name: &PolicyName) -> Result<(), PassError> {
        self.mirrors.load_full().verify_policy(name).await
    }

    async fn verify_logins(&self) -> Result<(), PassError> {
        self.mirrors.load_full().verify_logins().await
    }

    async fn prove_token(&self, digest: &TokenDigest) -> Result<(), PassError> {
        self.mirrors.load_full().prove_token(digest).await
    }

    async fn mint_exact(
        &self,
        workload: &WorkloadName,
        wanted: &Wanted,
    ) -> Result<Credential, MintError> {
        let minted = self.upstream.mint_exact(workload, wanted).await?;
        let expires = minted.expires();
        Ok(Credential {
            token: minted.token,
            accessor: minted.accessor,
            expires: expires.ok_or(MintError::NotExact("it has no end"))?,
            renewable: false,
            issued_at: minted.asked_at,
        })
    }

    fn lacking(&self, refused: &UpstreamError) -> Option<String> {
        let path = refused.decision()?.path();
        let settings = Arc::clone(&self.local.view.authority().settings);
        let right = self.upstream.rights().missing_on(path, &settings)?;
        Some(right.to_string())
    }

    async fn turn(&self) {
        self.upstream.turn(Urgency::Mirror).await;
    }

    async fn refresh_values(&self) {
        let mirrors = self.mirrors.load_full();
        for mirror in mirrors.configured() {
            let passed = self.pass(&mirrors, &mirror.path.configured()).await;
            if passed.is_err() {
                return; // It is gone again.
            }
        }
    }
}

impl LivePrimary {
    /// The one that is asked by `upstream` and mirrored by `mirrors`.
    pub fn new(local: &Local, upstream: &Upstream, mirrors: &Arc<ArcSwap<Mirrors>>) -> Self {
        Self {
            local: local.clone(),
            upstream: upstream.clone(),
            mirrors: Arc::clone(mirrors),
        }
    }

    /// Whether it is sure that the primary refuses Holdover's own credential, and not a token that merely ended.
    fn is_taken_away(&self) -> bool {
        let is_stored = self.upstream.offboarded().is_some();
        is_stored || *self.upstream.own().taken_away().borrow()
    }

    /// One pass. What the primary or the mirror itself says no to is the mirror's to report: only unavailability stops
    /// settling.
    async fn pass(&self, mirrors: &Mirrors, path: &str) -> Result<(), Unavailable> {
        match mirrors.sync_now(path, Occasion::Recovery).await {
            Err(PassError::Upstream(
                UpstreamError::Unavailable(unavailable) | UpstreamError::Unknown(unavailable),
            )) => Err(unavailable),
            Err(error) => {
                tracing::warn!(%error, path, "a mirror could not be brought up to date");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn is_kv(&self, path: &str) -> bool {
        let authority = self.local.view.authority();
        let cluster = authority.cluster.as_ref();
        let mount = cluster.and_then(|cluster| cluster.mounted(path));
        mount.is_some_and(|mount| mount.kind.is_kv())
    }
}
