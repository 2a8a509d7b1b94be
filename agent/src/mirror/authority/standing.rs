//! The standing token of a workload: minted through its role, kept alive, and looked up to prove what the role gives.

use std::time::Duration;

use replica::sequencer::Lane;
use shared::{
    backoff::LostAnswers,
    change::{Change, Credential, CredentialName},
    name::{Accessor, RoleName},
    time::WallTime,
    token::role::TokenRole,
    workload::{Workload, WorkloadAuthority},
};

use super::AuthorityPass;
use crate::{
    mirror::{PassError, context::MirrorContext},
    upstream::{
        Request, UpstreamError,
        lookup::LookedUp,
        own::life::{ENDLESS, Life, Step},
        workload::Minted,
    },
};

/// A standing token that needs anything before this has passed is asked about even where nothing was written.
const SOON: Duration = Duration::from_secs(60);

/// What is remembered of mints for one workload since the start.
#[derive(Default)]
pub(super) struct Minting {
    /// What its standing token was minted from.
    from: Option<TokenOrigin>,
    /// Mints whose answers were lost.
    lost: LostAnswers,
}

/// What a standing token was minted from.
#[derive(PartialEq, Eq)]
pub(super) struct TokenOrigin {
    name: RoleName,
    role: TokenRole,
    alias: Option<String>,
}

/// When it ends unless renewed.
pub(super) fn end(token: &LookedUp) -> WallTime {
    ends(token.expires, token.asked_at)
}

fn ends(expires: Option<WallTime>, asked_at: WallTime) -> WallTime {
    expires.unwrap_or(asked_at.plus(ENDLESS))
}

/// What keeps it from proving anything.
pub(super) fn problems(token: &LookedUp) -> Vec<String> {
    let facts = &token.facts;
    let wrong = [
        (facts.is_root(), "its tokens are root tokens"),
        (!facts.orphan, "its tokens are not orphans"),
        (token.num_uses != 0, "its tokens have limited uses"),
        (facts.period != 0, "its tokens are periodic"),
    ];
    let found = wrong.into_iter().filter(|(wrong, _)| *wrong);
    found.map(|(_, what)| what.to_owned()).collect()
}

/// The standing token of a workload whose role was just read.
pub(super) struct StandingToken<'a> {
    pub(super) pass: &'a AuthorityPass<'a>,
    pub(super) workload: &'a Workload,
    pub(super) role: &'a TokenRole,
    pub(super) minting: &'a mut Minting,
}

impl StandingToken<'_> {
    /// A live one, just looked up.
    ///
    /// The successor of one that is worn or outdated is minted and stored before anything forgets the old one, and
    /// the old one is left to end by itself, because what clients hold under it is to live as long as it can.
    pub(super) async fn live(mut self) -> Result<LookedUp, PassError> {
        let context = self.pass.context;
        let held = context.local.view.credential(&self.credential_name());
        let Some(held) = held.filter(|_| !self.is_outdated()) else {
            return self.mint().await;
        };
        let looked_up = match self.look_up(&held.accessor).await {
            Ok(looked_up) => looked_up,
            Err(error) if error.says_dead() => return self.mint().await,
            Err(error) => return Err(error.into()),
        };
        let life = Life::looked_up(&looked_up, context.upstream.host_jitter());
        match life.step(true, context.now().steady) {
            Step::Wait(_) => Ok(looked_up),
            Step::Renew => self.renew(&held.accessor, held.issued_at).await,
            Step::Ask | Step::LogIn => self.mint().await,
        }
    }

    /// Whether the token in hand was minted from another role, or for another entity, than is wanted now.
    fn is_outdated(&self) -> bool {
        let workload = self.workload;
        if let Some(origin) = &self.minting.from {
            return *origin != self.origin();
        }
        // It is from before the last start.
        let authority = self.pass.context.local.view.authority();
        let Some(known) = authority.workloads.get(&workload.name) else {
            return true;
        };
        let alias = match (&workload.entity_alias, known.entity()) {
            (None, entity) => entity.is_none(),
            (Some(_), None) => false,
            (Some(alias), Some(entity)) => authority.identity(entity).is_some_and(|identity| {
                let entity = identity.entity.iter();
                let mut aliases = entity.flat_map(|entity| &entity.aliases);
                aliases.any(|known| known.name.eq_ignore_ascii_case(alias))
            }),
        };
        known.role_name != workload.role || known.role != *self.role || !alias
    }

    async fn renew(
        &mut self,
        accessor: &Accessor,
        issued_at: WallTime,
    ) -> Result<LookedUp, PassError> {
        let fields = [("accessor", accessor.as_str())];
        let request = Request::fields("auth/token/renew-accessor", &fields).repeatable();
        match self.pass.ask(&request).await?.shown() {
            Ok(renewed) if renewed.envelope()?.has_token() => {}
            Ok(renewed) => return Err(renewed.unexpected("no token in it").into()),
            Err(error @ UpstreamError::Decision(_)) => {
                tracing::warn!(%error, workload = %self.workload.name, "a standing token could not be renewed; minting another");
                return self.mint().await;
            }
            Err(error) => return Err(error.into()),
        }
        let looked_up = self.look_up(accessor).await?;
        if let Some(token) = self.pass.context.upstream.open(&self.credential_name()) {
            let renewed = Credential {
                token,
                accessor: accessor.clone(),
                expires: end(&looked_up),
                renewable: looked_up.facts.renewable,
                issued_at,
            };
            self.store(renewed).await?;
        }
        Ok(looked_up)
    }

    /// It is kept before it is looked up, because what keeps this pass from that does not keep the next one.
    async fn mint(&mut self) -> Result<LookedUp, PassError> {
        let upstream = &self.pass.context.upstream;
        let minted = self.ask_to_mint().await?;
        let accessor = minted.accessor.clone();
        let credential = Credential {
            expires: ends(minted.expires(), minted.asked_at),
            token: minted.token,
            accessor: minted.accessor,
            renewable: minted.shown.renewable,
            issued_at: minted.asked_at,
        };
        if let Err(error) = self.store(credential).await {
            // Nothing remembers it, so it must not live on.
            let _ = upstream.revoke_accessor(&accessor, self.pass.urgency).await;
            return Err(error);
        }
        // Only now, because an origin without its token would keep an outdated token in place of it.
        self.minting.from = Some(self.origin());
        Ok(self.look_up(&accessor).await?)
    }

    /// A new token, unless the answers to such requests were lost lately: each may have made one.
    async fn ask_to_mint(&mut self) -> Result<Minted, PassError> {
        let (context, workload) = (self.pass.context, self.workload);
        let lost = &mut self.minting.lost;
        context.may_ask(lost)?;
        let minted = context.upstream.mint(workload, self.pass.urgency).await;
        let minted = minted.map_err(PassError::from);
        let path = format!("auth/token/create/{}", workload.role);
        context.came_to(lost, &minted, &path);
        minted
    }

    async fn store(&self, credential: Credential) -> Result<(), PassError> {
        let change = Change::Credential(self.credential_name(), credential);
        let context = self.pass.context;
        context.commit_in(Lane::Grant, vec![change]).await
    }

    async fn look_up(&self, accessor: &Accessor) -> Result<LookedUp, UpstreamError> {
        let upstream = &self.pass.context.upstream;
        let urgency = Some(self.pass.urgency);
        upstream.lookup_accessor(accessor, urgency).await
    }

    fn credential_name(&self) -> CredentialName {
        CredentialName::Standing(self.workload.name.clone())
    }

    fn origin(&self) -> TokenOrigin {
        TokenOrigin {
            name: self.workload.role.clone(),
            role: self.role.clone(),
            alias: self.workload.entity_alias.clone(),
        }
    }
}

/// Whether every workload has authority, and no standing token needs anything before long.
pub(super) fn all_rest(context: &MirrorContext, at: WallTime) -> bool {
    let view = &context.local.view;
    let authority = view.authority();
    context.settings.workloads.iter().all(|workload| {
        let known = authority.workloads.get(&workload.name);
        let name = CredentialName::Standing(workload.name.clone());
        known.is_some_and(|known| {
            let held = view.credential(&name);
            // Where a pass was cut off between the two, the token that is held is newer than the proof.
            let current = held.is_some_and(|held| held.accessor == known.standing_accessor);
            current && rest(known, at) > SOON
        })
    })
}

/// How long no standing token needs anything; a second at least.
pub(in crate::mirror) fn until_standing_due(context: &MirrorContext) -> Duration {
    let at = context.now().steady;
    let authority = context.local.view.authority();
    let rests = authority.workloads.values().map(|known| rest(known, at));
    let least = Duration::from_secs(1);
    rests.min().unwrap_or(Duration::MAX).max(least)
}

/// How long a standing token needs nothing: until a third is left of what it was created for.
fn rest(known: &WorkloadAuthority, at: WallTime) -> Duration {
    let third = Duration::from_secs(known.standing.creation_ttl / 3);
    known.standing_expires.since(at).saturating_sub(third)
}
