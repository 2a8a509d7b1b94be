//! Revocations that the primary is told of.

use serde::Serialize;
use shared::{
    change::RevocationTarget,
    name::{Accessor, LeaseId},
};

use super::{Request, Upstream, UpstreamError, pace::Urgency};

impl Upstream {
    /// Revokes the token that `accessor` names. One that is dead already is no error.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn revoke_accessor(
        &self,
        accessor: &Accessor,
        urgency: Urgency,
    ) -> Result<(), UpstreamError> {
        #[derive(Serialize)]
        struct Body<'a> {
            accessor: &'a str,
        }
        let body = Body {
            accessor: accessor.as_str(),
        };
        let request = Request::write("auth/token/revoke-accessor", &body).repeatable();
        let answered = self.ask(&request, urgency).await?.success();
        answered.map(drop).or_else(|error| {
            if error.says_dead() {
                Ok(())
            } else {
                Err(error)
            }
        })
    }

    /// Revokes a lease. One that is gone already is no error.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn revoke_lease(
        &self,
        lease: &LeaseId,
        urgency: Urgency,
    ) -> Result<(), UpstreamError> {
        #[derive(Serialize)]
        struct Body<'a> {
            lease_id: &'a str,
        }
        let body = Body {
            lease_id: lease.as_str(),
        };
        let request = Request::write("sys/leases/revoke", &body).repeatable();
        self.ask(&request, urgency).await?.success().map(drop)
    }

    /// Carries out a queued revocation.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn revoke(&self, target: &RevocationTarget) -> Result<(), UpstreamError> {
        match target {
            RevocationTarget::Lease(lease) => self.revoke_lease(lease, Urgency::Recovery).await,
            RevocationTarget::Token(accessor) => {
                self.revoke_accessor(accessor, Urgency::Recovery).await
            }
        }
    }
}
