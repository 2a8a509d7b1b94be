//! The standing token of a workload: minted through its role, kept alive, and looked up to prove what the role gives.

use std::{sync::PoisonError, time::Duration};

use replica::sequencer::Lane;
use shared::{
    change::{Change, Credential, CredentialName, Expects},
    name::{Accessor, RoleName},
    time::WallTime,
    token::role::TokenRole,
    workload::{Workload, WorkloadAuthority},
};

use super::AuthorityPass;
use crate::{
    mirror::{Mirrors, PassError},
    upstream::{
        Request, UpstreamError,
        lookup::LookedUp,
        own::life::{Life, Step},
        workload::Minted,
    },
};

/// What a token without an end is taken to live.
const ENDLESS: Duration = Duration::from_secs(3650 * 86_400);

/// What a standing token was minted from since the start.
#[derive(PartialEq, Eq)]
pub(in crate::mirror) struct Origin {
    name: RoleName,
    role: TokenRole,
    alias: Option<String>,
}

impl Origin {
    fn of(workload: &Workload, role: &TokenRole) -> Self {
        Self {
            name: workload.role.clone(),
            role: role.clone(),
            alias: workload.entity_alias.clone(),
        }
    }
}

/// When it ends unless renewed.
pub(super) fn end(token: &LookedUp) -> WallTime {
    token.expires.unwrap_or(token.asked_at.plus(ENDLESS))
}

/// What keeps it from proving anything.
pub(super) fn problems(token: &LookedUp) -> Vec<String> {
    let facts = &token.facts;
    let wrong = [
        (facts.is_root(), "its tokens are root tokens"),
        (!facts.orphan, "its tokens are no orphans"),
        (token.num_uses != 0, "its tokens have limited uses"),
        (facts.period != 0, "its tokens are periodic"),
    ];
    let found = wrong.into_iter().filter(|(wrong, _)| *wrong);
    found.map(|(_, what)| what.to_owned()).collect()
}

impl AuthorityPass<'_> {
    /// A live standing token of the workload, just looked up.
    pub(super) async fn standing(
        &self,
        workload: &Workload,
        role: &TokenRole,
    ) -> Result<LookedUp, PassError> {
        let Some(accessor) = self
            .held(workload)
            .filter(|_| !self.outdated(workload, role))
        else {
            return self.mint(workload, role).await;
        };
        let looked_up = match self.look_up(&accessor).await {
            Ok(looked_up) => looked_up,
            Err(error) if error.says_dead() => return self.mint(workload, role).await,
            Err(error) => return Err(error.into()),
        };
        match self.life(&looked_up).step(true, self.mirrors.now()) {
            Step::Wait(_) => Ok(looked_up),
            Step::Renew => self.renew(workload, role, &accessor).await,
            // The old one ends by itself: what clients hold under it lives as long as it can.
            Step::Ask | Step::LogIn => self.mint(workload, role).await,
        }
    }

    /// Whether the token in hand was minted from another role, or for another entity, than is wanted now.
    fn outdated(&self, workload: &Workload, role: &TokenRole) -> bool {
        let minted = self.mirrors.0.minted.lock();
        let minted = minted.unwrap_or_else(PoisonError::into_inner);
        if let Some(origin) = minted.get(&workload.name) {
            return *origin != Origin::of(workload, role);
        }
        // It is from before the last start.
        let authority = self.mirrors.0.local.view.authority();
        let Some(known) = authority.workloads.get(&workload.name) else {
            return true;
        };
        let alias = match (&workload.entity_alias, known.entity()) {
            (None, entity) => entity.is_none(),
            (Some(_), None) => false,
            (Some(alias), Some(entity)) => {
                authority.identities.get(entity).is_some_and(|identity| {
                    let entity = identity.entity.iter();
                    let mut aliases = entity.flat_map(|entity| &entity.aliases);
                    aliases.any(|known| known.name.eq_ignore_ascii_case(alias))
                })
            }
        };
        known.role_name != workload.role || known.role != *role || !alias
    }

    async fn renew(
        &self,
        workload: &Workload,
        role: &TokenRole,
        accessor: &Accessor,
    ) -> Result<LookedUp, PassError> {
        let body = serde_json::json!({ "accessor": accessor.as_str() });
        let request = Request::write("auth/token/renew-accessor", &body).repeatable();
        let reply = self.mirrors.0.upstream.ask(&request, self.urgency).await?;
        if let Err(error) = reply.success() {
            tracing::warn!(%error, workload = %workload.name, "a standing token could not be renewed; minting another");
            return self.mint(workload, role).await;
        }
        let looked_up = self.look_up(accessor).await?;
        let name = CredentialName::Standing(workload.name.clone());
        let view = &self.mirrors.0.local.view;
        if let (Some(token), Some(held)) =
            (self.mirrors.0.upstream.open(&name), view.credential(&name))
        {
            let credential = Credential {
                token,
                accessor: accessor.clone(),
                expires: end(&looked_up),
                renewable: looked_up.facts.renewable,
                issued_at: held.issued_at,
            };
            self.store(name, credential).await?;
        }
        Ok(looked_up)
    }

    async fn mint(&self, workload: &Workload, role: &TokenRole) -> Result<LookedUp, PassError> {
        let upstream = &self.mirrors.0.upstream;
        let Minted {
            token, looked_up, ..
        } = upstream.mint(workload, self.urgency).await?;
        let Some(accessor) = looked_up.accessor.clone() else {
            return Ok(looked_up);
        };
        let credential = Credential {
            token,
            accessor: accessor.clone(),
            expires: end(&looked_up),
            renewable: looked_up.facts.renewable,
            issued_at: looked_up.asked_at,
        };
        let name = CredentialName::Standing(workload.name.clone());
        if let Err(error) = self.store(name, credential).await {
            // Nothing remembers it, so it must not live on.
            let _ = upstream.revoke_accessor(&accessor, self.urgency).await;
            return Err(error);
        }
        let minted = self.mirrors.0.minted.lock();
        let mut minted = minted.unwrap_or_else(PoisonError::into_inner);
        minted.insert(workload.name.clone(), Origin::of(workload, role));
        Ok(looked_up)
    }

    async fn store(&self, name: CredentialName, credential: Credential) -> Result<(), PassError> {
        let local = &self.mirrors.0.local;
        let change = Change::Credential(name, credential);
        let committed = local
            .commit(Lane::Grant, vec![change], Expects::default())
            .await;
        committed.map_err(PassError::Store)
    }

    async fn look_up(&self, accessor: &Accessor) -> Result<LookedUp, UpstreamError> {
        let upstream = &self.mirrors.0.upstream;
        upstream.lookup_accessor(accessor, Some(self.urgency)).await
    }

    fn held(&self, workload: &Workload) -> Option<Accessor> {
        let name = CredentialName::Standing(workload.name.clone());
        let held = self.mirrors.0.local.view.credential(&name)?;
        Some(held.accessor.clone())
    }

    fn life(&self, looked_up: &LookedUp) -> Life {
        Life::looked_up(looked_up, self.mirrors.0.upstream.host_jitter())
    }
}

impl Mirrors {
    /// Whether every workload has authority, and no standing token needs anything before long.
    pub(super) fn standing_rest(&self, at: WallTime) -> bool {
        let view = &self.0.local.view;
        let authority = view.authority();
        self.0.settings.workloads.iter().all(|workload| {
            let known = authority.workloads.get(&workload.name);
            let name = CredentialName::Standing(workload.name.clone());
            known.is_some_and(|known| {
                let held = view.credential(&name);
                let current = held.is_some_and(|held| held.accessor == known.standing_accessor);
                current && rest(known, at) > Duration::from_secs(60)
            })
        })
    }

    /// How long no standing token needs anything; a second at least.
    pub(in crate::mirror) fn until_standing_due(&self) -> Duration {
        let at = self.now();
        let authority = self.0.local.view.authority();
        let rests = authority.workloads.values().map(|known| rest(known, at));
        let least = Duration::from_secs(1);
        rests.min().unwrap_or(Duration::MAX).max(least)
    }
}

/// How long a standing token needs nothing: until a third is left of what it was created for.
fn rest(known: &WorkloadAuthority, at: WallTime) -> Duration {
    let third = Duration::from_secs(known.standing.creation_ttl / 3);
    known.standing_expires.since(at).saturating_sub(third)
}
