//! Revocations that are reported to the primary.

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
        let fields = [("accessor", accessor.as_str())];
        let request = Request::fields("auth/token/revoke-accessor", &fields).repeatable();
        match self.ask(&request, urgency).await?.done() {
            Err(error) if !error.says_dead() => Err(error),
            _ => Ok(()),
        }
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
        let fields = [("lease_id", lease.as_str())];
        let request = Request::fields("sys/leases/revoke", &fields).repeatable();
        self.ask(&request, urgency).await?.done()
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
