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

    /// Whether the primary says that there is no such lease.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn is_lease_gone(
        &self,
        lease: &LeaseId,
        urgency: Urgency,
    ) -> Result<bool, UpstreamError> {
        let fields = [("lease_id", lease.as_str())];
        let request = Request::fields("sys/leases/lookup", &fields).repeatable();
        match self.ask(&request, urgency).await?.done() {
            Err(UpstreamError::Decision(no)) if no.is_bad_request() && no.says("invalid lease") => {
                Ok(true)
            }
            answered => answered.map(|()| false),
        }
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
