//! One path that is no value of a KV mount and reads without a lease: read once in every interval, kept as it is.
//!
//! The applied index is not asked: it would cost as many requests, and such answers may change without a write.

use std::time::Duration;

use shared::{change::Change, kv::Place, name::LeaseId, time::WallTime};

use super::{
    PassError,
    context::MirrorContext,
    cycle::Pace,
    ground::Ground,
    plain::{self, PlainAnswer},
};
use crate::status::MirrorSource;
use crate::upstream::{Reply, Request};

/// One pass.
pub(super) struct PathPass<'a> {
    pub(super) ground: Ground<'a>,
    pub(super) place: Place,
}

/// An answer, and the moment before it was asked for.
pub(super) struct PathAnswer {
    pub(super) reply: Reply,
    pub(super) at: WallTime,
}

impl PathPass<'_> {
    /// `first` is an answer that somebody got already.
    pub(super) async fn run(&self, first: Option<PathAnswer>) -> Result<Pace, PassError> {
        self.ground.go_on()?;
        self.ground
            .with_health(|health| health.source = Some(MirrorSource::Read));
        self.ground.leave_old_mount().await?;
        let PathAnswer { reply, at } = match first {
            Some(answered) => answered,
            None => self.ask().await?,
        };
        if reply.status() == 403 {
            return self.denied(reply).await;
        }
        match plain::of(reply)? {
            PlainAnswer::Leased(lease) => self.leave_to_leases(&lease).await,
            PlainAnswer::Kept(state, form, body) => {
                let context = self.ground.context;
                let change = plain::change(context, &self.place, (state, form, body), at);
                context.commit(change.into_iter().collect()).await?;
                self.ground.complete(String::new(), at).await?;
                Ok(Pace::Usual)
            }
        }
    }

    async fn ask(&self) -> Result<PathAnswer, PassError> {
        let at = self.ground.context.now().steady;
        // It may have become one that creates a lease.
        let request = Request::read(self.place.path.as_str()).creating();
        let reply = self.ground.reader().ask(&request).await?;
        Ok(PathAnswer { reply, at })
    }

    /// Where Holdover's own token is good it may not read the path, and so nobody may from here.
    async fn denied(&self, reply: Reply) -> Result<Pace, PassError> {
        if self.ground.reader().prove_own_token().await? {
            self.forget().await?;
            let path = self.place.path.as_str();
            let why = format!("Holdover may not read {path}: nothing of it is kept");
            return Err(PassError::Unsupported(why));
        }
        reply.success()?;
        Ok(Pace::Usual)
    }

    /// It carries a lease now, which is kept in another way from the next pass on.
    async fn leave_to_leases(&self, lease: &LeaseId) -> Result<Pace, PassError> {
        self.forget().await?;
        let upstream = &self.ground.context.upstream;
        upstream
            .revoke_lease(lease, self.ground.occasion.urgency())
            .await?;
        Ok(Pace::Soon(Duration::ZERO))
    }

    async fn forget(&self) -> Result<(), PassError> {
        let gone = Change::RecordGone(self.place.clone(), None);
        self.ground.context.commit(vec![gone]).await
    }
}

/// Whether the last read of the path had no lease.
pub(super) fn is_plain(context: &MirrorContext, place: &Place) -> bool {
    let secrets = context.local.view.secrets();
    secrets.records.contains_key(&(place.clone(), None))
}
