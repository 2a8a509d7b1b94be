//! Tokens for workloads, minted through their token roles: for attested logins, for `auto_token`, and for replica
//! grants that are exchanged when an outage is over.
//!
//! A mint is one request: what the token is, its answer says. A node that is asked about it at once may not have heard of it.

use std::time::Duration;

use serde::Serialize;
use shared::{
    name::{Accessor, EntityId, PolicyName, RoleName, WorkloadName},
    recovery::{StandsFor, Wanted},
    secret::SecretText,
    time::WallTime,
    token::TokenKind,
    wire::AuthBlock,
    workload::Workload,
};
use zeroize::Zeroizing;

use super::{Decision, Request, Upstream, UpstreamError, pace::Urgency};
use crate::link::once::Undone;

/// How long the answer to a mint for a client is waited for. The client does not wait so long; but a token that comes when it
/// has gone is revoked, and one that nobody heard of is not.
const LATE_PATIENCE: Duration = Duration::from_secs(90);

/// A token of a workload, fresh from the primary.
pub struct Minted {
    /// The token.
    pub token: SecretText,
    /// Its accessor.
    pub accessor: Accessor,
    /// What the answer says of it.
    pub shown: AuthBlock,
    /// That answer, as the primary wrote it.
    pub envelope: Zeroizing<Vec<u8>>,
    /// When it was asked for: what it was given counts from there at the latest.
    pub asked_at: WallTime,
}

impl Minted {
    /// When it ends unless renewed; none for a token that does not end.
    pub fn expires(&self) -> Option<WallTime> {
        let life = self.shown.lease_duration;
        (life > 0).then(|| self.asked_at.plus(Duration::from_secs(life)))
    }
}

/// Why no token was minted, or none that may be handed out.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// What was minted is not what was asked for, and was revoked.
    #[error("the primary minted another token than asked for: {0}")]
    NotExact(&'static str),
    /// It would not have Holdover's own credential mint: this says nothing about the workload.
    #[error("the primary refused this to Holdover's own credential: {0}")]
    OwnCredentialRefused(Decision),
    /// The configuration has no such workload any more.
    #[error("unknown role")]
    UnknownWorkload,
    /// The primary did not mint it.
    #[error(transparent)]
    Upstream(UpstreamError),
}

impl MintError {
    /// That no token was made, or none that lives, where that is known.
    pub(crate) fn undone(&self) -> Option<Undone> {
        match self {
            Self::NotExact(_) => None,
            Self::OwnCredentialRefused(_) => Some(Undone::refused()),
            Self::UnknownWorkload => Some(Undone::unsent()),
            Self::Upstream(error) => error.undone(),
        }
    }

    /// Whether nothing came of it but that Holdover's own token is not taken. With another one it may be.
    pub(crate) fn is_of_own_token(&self) -> bool {
        match self {
            Self::OwnCredentialRefused(decision) => decision.is_of_token(),
            Self::NotExact(_) | Self::UnknownWorkload | Self::Upstream(_) => false,
        }
    }

    /// What came of the request for a token. Its decision is about the workload's role, unless it refuses who asked.
    fn of_creation(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Decision(decision) if decision.is_denial() => {
                Self::OwnCredentialRefused(decision)
            }
            error => Self::Upstream(error),
        }
    }
}

/// The body of `auth/token/create/:role`.
#[derive(Serialize, Default)]
struct CreateBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    entity_alias: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explicit_max_ttl: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_default_policy: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policies: Option<&'a [PolicyName]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
}

impl<'a> CreateBody<'a> {
    /// What any token of the workload's is asked for with.
    fn of(workload: &'a Workload) -> Self {
        Self {
            entity_alias: workload.entity_alias.as_deref(),
            ..Self::default()
        }
    }
}

impl Upstream {
    /// Mints a standing token through the workload's role, as the role has it.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn mint(
        &self,
        workload: &Workload,
        urgency: Urgency,
    ) -> Result<Minted, UpstreamError> {
        let body = CreateBody::of(workload);
        self.create(&workload.role, &body, Some(urgency)).await
    }

    /// Mints a token for a login of this workload, as its role has it. Logins wait for no turn.
    ///
    /// # Errors
    /// [`MintError`].
    pub async fn mint_for_login(&self, workload: &WorkloadName) -> Result<Minted, MintError> {
        let workload = self.workload(workload)?;
        let body = CreateBody::of(&workload);
        let minted = self.create(&workload.role, &body, None).await;
        minted.map_err(MintError::of_creation)
    }

    /// Mints the token that a replica grant of this workload is exchanged for. It waits for no turn.
    ///
    /// # Errors
    /// If it cannot be minted exactly so. One that was minted otherwise does not live on.
    pub async fn mint_exact(
        &self,
        workload: &WorkloadName,
        wanted: &Wanted,
    ) -> Result<Minted, MintError> {
        let workload = self.workload(workload)?;
        let life = wanted.remaining.as_secs();
        if life == 0 {
            return Err(MintError::NotExact("nothing is left of its life"));
        }
        let mut policies = wanted.policies.iter();
        let body = CreateBody {
            explicit_max_ttl: Some(life),
            no_default_policy: Some(!policies.any(|name| name.as_str() == "default")),
            policies: Some(&wanted.policies),
            renewable: Some(false),
            ttl: Some(life),
            ..match wanted.stands_for {
                StandsFor::Nobody => CreateBody::default(),
                StandsFor::Workload(_) => CreateBody::of(&workload),
            }
        };
        let minted = self.create(&workload.role, &body, None).await;
        let minted = minted.map_err(MintError::of_creation)?;
        match difference(&minted.shown, wanted) {
            None => Ok(minted),
            Some(what) => {
                self.discard(&minted.accessor).await;
                Err(MintError::NotExact(what))
            }
        }
    }

    fn workload(&self, name: &WorkloadName) -> Result<Workload, MintError> {
        let authority = self.local().view.authority();
        let known = authority.settings.workload(name);
        known.cloned().ok_or(MintError::UnknownWorkload)
    }

    async fn create(
        &self,
        role: &RoleName,
        body: &CreateBody<'_>,
        urgency: Option<Urgency>,
    ) -> Result<Minted, UpstreamError> {
        let asked_at = self.local().clock.now().steady;
        let request = Request::write(format!("auth/token/create/{role}"), body);
        let reply = match urgency {
            Some(urgency) => self.ask(&request, urgency).await?,
            None => self.ask_now(&request.within(LATE_PATIENCE)).await?,
        };
        let shown = reply.shown()?;
        let auth = shown.auth()?;
        let accessor = Accessor::parse(&auth.accessor)
            .map_err(|_| shown.unexpected("a token without an accessor"))?;
        Ok(Minted {
            token: SecretText::filled(|text| text.push_str(&auth.client_token)),
            accessor,
            shown: auth,
            envelope: shown.into_body(),
            asked_at,
        })
    }

    async fn discard(&self, accessor: &Accessor) {
        if let Err(error) = self.revoke_accessor(accessor, Urgency::Recovery).await {
            tracing::warn!(%error, %accessor, "a token that nobody got could not be revoked; its TTL ends it");
        }
    }
}

/// In what a minted token is not what was wanted.
fn difference(minted: &AuthBlock, wanted: &Wanted) -> Option<&'static str> {
    let sorted = |names: &[PolicyName]| {
        let mut names = names.to_vec();
        names.sort();
        names.dedup();
        names
    };
    let entity = EntityId::parse(&minted.entity_id).ok();
    let stands_for = match &wanted.stands_for {
        StandsFor::Nobody => None,
        StandsFor::Workload(entity) => entity.as_ref(),
    };
    [
        (
            sorted(&minted.token_policies) != sorted(&wanted.policies),
            "policies",
        ),
        (entity.as_ref() != stands_for, "entity_id"),
        (minted.renewable, "renewable"),
        (!minted.orphan, "orphan"),
        (minted.num_uses != 0, "num_uses"),
        (minted.token_type != TokenKind::Service, "token_type"),
        (
            minted.lease_duration != wanted.remaining.as_secs(),
            "lease_duration",
        ),
    ]
    .into_iter()
    .find_map(|(differs, what)| differs.then_some(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    fn name(text: &str) -> PolicyName {
        PolicyName::parse(text).unwrap()
    }

    fn minted() -> AuthBlock {
        AuthBlock {
            client_token: Zeroizing::new("s.a".to_owned()),
            accessor: "a".to_owned(),
            policies: vec![name("a"), name("default"), name("of-a-group")],
            token_policies: vec![name("a"), name("default")],
            identity_policies: vec![name("of-a-group")],
            metadata: None,
            lease_duration: 100,
            renewable: false,
            entity_id: String::new(),
            token_type: TokenKind::Service,
            orphan: true,
            mfa_requirement: None,
            num_uses: 0,
        }
    }

    #[test]
    fn a_refusal_of_who_asks_is_no_decision_about_the_workload() {
        let of = |status| UpstreamError::Decision(Decision::said(status, "permission denied"));
        for status in [401, 403] {
            let error = MintError::of_creation(of(status));
            assert!(matches!(error, MintError::OwnCredentialRefused(_)));
        }
        let error = MintError::of_creation(of(400));
        assert!(matches!(
            error,
            MintError::Upstream(UpstreamError::Decision(_))
        ));
    }

    #[test]
    fn only_the_very_token_that_was_asked_for_will_do() {
        let policies = [name("default"), name("a")];
        let wanted = &Wanted {
            policies: policies.into(),
            remaining: Duration::from_millis(100_900),
            stands_for: StandsFor::Workload(None),
        };
        assert_eq!(difference(&minted(), wanted), None);
        type Spoil = fn(&mut AuthBlock);
        let breaks: [(&str, Spoil); 9] = [
            ("policies", |t| t.token_policies.push(name("b"))),
            ("policies", |t| t.token_policies.truncate(1)),
            ("entity_id", |t| t.entity_id = "e".to_owned()),
            ("renewable", |t| t.renewable = true),
            ("orphan", |t| t.orphan = false),
            ("num_uses", |t| t.num_uses = 1),
            ("token_type", |t| t.token_type = TokenKind::Batch),
            ("lease_duration", |t| t.lease_duration = 101),
            ("lease_duration", |t| t.lease_duration = 99),
        ];
        for (what, spoil) in breaks {
            let mut token = minted();
            spoil(&mut token);
            assert_eq!(difference(&token, wanted), Some(what));
        }
    }
}
