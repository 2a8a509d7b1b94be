//! One path that is no value of a KV mount and reads without a lease: read once in every interval, kept as it is.
//!
//! The applied index is not asked: it would cost as many requests, and such answers may change without a write.

use std::time::Duration;

use shared::{change::Change, kv::Place, name::LeaseId, time::WallTime};

use super::{
    Occasion, PassError,
    context::MirrorContext,
    cycle::Pace,
    ground::Ground,
    plain::{self, KeptAnswer, PlainAnswer},
};
use crate::status::MirrorSource;
use crate::upstream::{Request, Said, UpstreamError};

/// One pass.
pub(super) struct PathPass<'a> {
    pub(super) ground: Ground<'a>,
    pub(super) place: Place,
}

/// An answer, and the moment before it was asked for.
pub(super) struct PathAnswer {
    pub(super) said: Said,
    pub(super) at: WallTime,
}

impl PathPass<'_> {
    /// `first` is an answer that somebody got already.
    pub(super) async fn run(&self, first: Option<PathAnswer>) -> Result<Pace, PassError> {
        self.ground.go_on()?;
        self.ground
            .with_health(|health| health.source = Some(MirrorSource::Read));
        self.ground.leave_old_mount().await?;
        let PathAnswer { said, at } = match first {
            Some(answered) => answered,
            None => self.ask().await?,
        };
        match (plain::of(&said, &self.place.path), &said) {
            (Err(error), Said::No(no)) if no.is_denial() => self.denied(error).await,
            (Err(error), _) => Err(error.into()),
            (Ok(PlainAnswer::Leased(lease)), _) => self.leave_to_leases(&lease.id).await,
            (Ok(PlainAnswer::Token), _) => Err(self.unexpected("a token or a wrapping in it")),
            (Ok(PlainAnswer::Kept(kept)), _) => self.keep(kept, at).await,
        }
    }

    async fn keep(&self, kept: KeptAnswer, at: WallTime) -> Result<Pace, PassError> {
        let context = self.ground.context;
        if self.ground.occasion != Occasion::Operator && !self.is_like_held(&kept) {
            return Err(self.unexpected(
                "it has another form than what is held; run `holdover mirror sync` if that is right",
            ));
        }
        let change = plain::change(context, &self.place, kept, at);
        let ground = &self.ground;
        let changes = ground.fitting(&self.place, change.into_iter().collect());
        ground.commit(changes).await?;
        let left_out = ground.left_out();
        ground.with_health(|health| health.left_out = left_out);
        ground.complete(String::new(), left_out > 0).await?;
        Ok(Pace::Usual)
    }

    fn is_like_held(&self, kept: &KeptAnswer) -> bool {
        let secrets = self.ground.context.local.view.secrets();
        let held = secrets.records.get(&(self.place.clone(), None));
        held.is_none_or(|held| kept.is_like(&held.record))
    }

    fn unexpected(&self, what: &str) -> PassError {
        let path = self.place.path.as_str().to_owned();
        let what = what.to_owned();
        UpstreamError::Malformed { path, what }.into()
    }

    async fn ask(&self) -> Result<PathAnswer, PassError> {
        let at = self.ground.context.now().steady;
        // It may have become one that creates a lease.
        let request = Request::read(self.place.path.as_str()).creating();
        let said = self.ground.reader().ask(&request).await?.said()?;
        Ok(PathAnswer { said, at })
    }

    /// Where Holdover's own token is good it may not read the path, and so nobody may from here.
    async fn denied(&self, error: UpstreamError) -> Result<Pace, PassError> {
        if self.ground.reader().prove_own_token().await? {
            self.forget().await?;
            let path = self.place.path.as_str();
            let why = format!("Holdover may not read {path}: nothing of it is kept");
            return Err(PassError::Unsupported(why));
        }
        Err(error.into())
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
        self.ground.commit(vec![gone]).await
    }
}

/// Whether the last read of the path had no lease.
pub(super) fn is_plain(context: &MirrorContext, place: &Place) -> bool {
    let secrets = context.local.view.secrets();
    secrets.records.contains_key(&(place.clone(), None))
}
