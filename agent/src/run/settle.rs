//! The primary as settling asks it: Holdover's own client, and the mirror for what is brought up to date.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use shared::{
    change::{Credential, QueuedRevocation},
    name::WorkloadName,
    settings::MirrorPath,
};

use crate::{
    local::Local,
    mirror::{AuthorityVerdict, Mirrors, Occasion, PassError},
    recovery::{Exchange, Primary, ProveError},
    upstream::{
        ProbeOutcome, Unavailable, Upstream, UpstreamError,
        workload::{Exact, MintError},
    },
};

/// A token refused at the first contact may be one that ended in the outage: this long for another one.
const LOGIN_WITHIN: Duration = Duration::from_secs(10);

/// Between two looks whether there is another token.
const LOOK: Duration = Duration::from_millis(100);

/// The primary, for [`crate::recovery::settle`].
pub(super) struct Settling {
    pub(super) local: Local,
    pub(super) upstream: Upstream,
    pub(super) mirrors: Arc<ArcSwap<Mirrors>>,
}

impl Primary for Settling {
    async fn prove(&self) -> Result<(), ProveError> {
        let mut looks = LOGIN_WITHIN.as_millis() / LOOK.as_millis();
        loop {
            match self.upstream.probe(true).await {
                ProbeOutcome::Good {
                    authenticated: true,
                    ..
                } => return Ok(()),
                ProbeOutcome::Good { .. } => return Err(ProveError::Unproven),
                ProbeOutcome::Failed(unavailable) => return Err(unavailable.into()),
                ProbeOutcome::Foreign(foreign) => return Err(foreign.into()),
                ProbeOutcome::Refused if looks == 0 => {
                    return Err(ProveError::OwnCredentialRefused);
                }
                ProbeOutcome::Refused => looks -= 1,
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn revoke(&self, queued: &QueuedRevocation) -> Result<(), UpstreamError> {
        self.upstream.revoke(&queued.target).await
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

    async fn verify_authority(&self) -> Result<Vec<WorkloadName>, PassError> {
        let mirrors = self.mirrors.load_full();
        let report = mirrors.verify_authority(Occasion::Recovery).await?;
        let gone = |(name, verdict)| matches!(verdict, AuthorityVerdict::Gone(_)).then_some(name);
        Ok(report.workloads.into_iter().filter_map(gone).collect())
    }

    async fn mint_exact(&self, exchange: &Exchange) -> Result<Credential, MintError> {
        let wanted = Exact {
            policies: &exchange.policies,
            entity: exchange.entity.as_ref(),
            life: exchange.remaining,
        };
        let workload = &exchange.peer.workload;
        let minted = self.upstream.mint_exact(workload, wanted).await?;
        let looked_up = minted.looked_up;
        let (Some(accessor), Some(expires)) = (looked_up.accessor, looked_up.expires) else {
            return Err(MintError::NotExact("it has no accessor or no end"));
        };
        Ok(Credential {
            token: minted.token,
            accessor,
            expires,
            renewable: false,
            issued_at: looked_up.asked_at,
        })
    }

    async fn refresh_values(&self, within: Duration) -> Result<(), Unavailable> {
        let mirrors = self.mirrors.load_full();
        let paths: Vec<_> = mirrors
            .configured()
            .map(|mirror| mirror.path.configured())
            .collect();
        let all = async {
            for path in paths {
                self.pass(&mirrors, &path).await?;
            }
            Ok(())
        };
        // What is not done by then the mirror does while following.
        tokio::time::timeout(within, all).await.unwrap_or(Ok(()))
    }
}

impl Settling {
    /// One pass. What the primary or the mirror itself says no to is the mirror's to report: only an outage stops
    /// settling.
    async fn pass(&self, mirrors: &Mirrors, path: &str) -> Result<(), Unavailable> {
        match mirrors.sync_now(path, Occasion::Recovery).await {
            Err(PassError::Upstream(UpstreamError::Unavailable(unavailable))) => Err(unavailable),
            Err(error) => {
                tracing::warn!(%error, path, "a mirror could not be brought up to date");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn is_kv(&self, path: &str) -> bool {
        let authority = self.local.view.authority();
        let mount = authority
            .cluster
            .as_ref()
            .and_then(|cluster| cluster.mount_of(path));
        mount.is_some_and(|(_, mount)| mount.kind == "kv")
    }
}
