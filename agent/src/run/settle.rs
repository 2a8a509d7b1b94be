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
    recovery::{Exchange, Primary},
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
    async fn prove(&self) -> Result<(), UpstreamError> {
        let mut looks = LOGIN_WITHIN.as_millis() / LOOK.as_millis();
        loop {
            match self.upstream.probe(true).await {
                ProbeOutcome::Good {
                    authenticated: true,
                    ..
                } => return Ok(()),
                ProbeOutcome::Good { .. } => return Err(unproven()),
                ProbeOutcome::Failed(outage) => return Err(outage.into()),
                ProbeOutcome::Foreign { pinned, found } => {
                    return Err(UpstreamError::ForeignCluster { pinned, found });
                }
                ProbeOutcome::Refused if looks == 0 => {
                    let errors = vec![String::from("permission denied")];
                    return Err(UpstreamError::Decision {
                        status: 403,
                        errors,
                    });
                }
                ProbeOutcome::Refused => looks -= 1,
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn revoke(&self, queued: &QueuedRevocation) -> Result<(), UpstreamError> {
        self.upstream.revoke(&queued.target).await
    }

    async fn renew_due(&self) -> Result<(), UpstreamError> {
        let mirrors = self.mirrors.load_full();
        let leased = mirrors.configured().filter(|mirror| {
            matches!(mirror.path, MirrorPath::Exact(_)) && !self.is_kv(mirror.path.literal())
        });
        for mirror in leased {
            self.pass(&mirrors, &mirror.path.configured()).await?;
        }
        Ok(())
    }

    async fn verify_authority(&self) -> Result<Vec<WorkloadName>, UpstreamError> {
        let report = self
            .mirrors
            .load_full()
            .verify_authority(Occasion::Recovery)
            .await;
        let report = report.map_err(|error| upstream_error(error, "authority"))?;
        let gone = |(name, verdict)| matches!(verdict, AuthorityVerdict::Gone(_)).then_some(name);
        Ok(report.workloads.into_iter().filter_map(gone).collect())
    }

    async fn mint_exact(&self, exchange: &Exchange) -> Result<Credential, UpstreamError> {
        let workload = {
            let authority = self.local.view.authority();
            authority
                .settings
                .workload(&exchange.peer.workload)
                .cloned()
        };
        let Some(workload) = workload else {
            return Err(not_exact("its workload is gone"));
        };
        let wanted = Exact {
            policies: &exchange.policies,
            entity: exchange.entity.as_ref(),
            life: exchange.remaining,
        };
        let minted = match self.upstream.mint_exact(&workload, wanted).await {
            Ok(minted) => minted,
            Err(MintError::NotExact(what)) => return Err(not_exact(what)),
            Err(MintError::Upstream(error)) => return Err(error),
        };
        let looked_up = minted.looked_up;
        let (Some(accessor), Some(expires)) = (looked_up.accessor, looked_up.expires) else {
            return Err(not_exact("it has no accessor or no end"));
        };
        let issued_at = looked_up.asked_at;
        Ok(Credential {
            token: minted.token,
            accessor,
            expires,
            renewable: false,
            issued_at,
        })
    }

    async fn refresh_values(&self, within: Duration) -> Result<(), UpstreamError> {
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
    async fn pass(&self, mirrors: &Mirrors, path: &str) -> Result<(), UpstreamError> {
        match mirrors.sync_now(path, Occasion::Recovery).await {
            Err(PassError::Upstream(error)) if error.is_unavailable() => Err(error),
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

fn upstream_error(error: PassError, path: &str) -> UpstreamError {
    match error {
        PassError::Upstream(error) => error,
        other => UpstreamError::Malformed {
            path: path.into(),
            what: other.to_string(),
        },
    }
}

fn unproven() -> UpstreamError {
    let detail = String::from("it answers, but no authenticated request succeeds");
    Unavailable::Status {
        status: 500,
        detail,
    }
    .into()
}

fn not_exact(what: &str) -> UpstreamError {
    UpstreamError::Decision {
        status: 400,
        errors: vec![what.to_owned()],
    }
}
