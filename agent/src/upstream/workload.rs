//! Tokens for workloads, minted through their token roles: for attested logins, for `auto_token`, and for replica
//! grants that are exchanged when an outage is over.

use std::time::Duration;

use serde::Serialize;
use shared::{
    name::{Accessor, EntityId, PolicyName, RoleName, WorkloadName},
    secret::SecretText,
    workload::Workload,
};
use zeroize::Zeroizing;

use super::{Decision, Request, Upstream, UpstreamError, lookup::LookedUp, pace::Urgency};

/// A token of a workload, fresh from the primary, and all that a look-up shows of it.
pub struct Minted {
    /// The token.
    pub token: SecretText,
    /// The answer that carried it, as the primary wrote it.
    pub envelope: Zeroizing<Vec<u8>>,
    /// What it is.
    pub looked_up: LookedUp,
}

/// What a replica grant is exchanged for.
#[derive(Clone, Copy, Debug)]
pub struct Exact<'a> {
    /// Exactly these token policies.
    pub policies: &'a [PolicyName],
    /// The entity that its authority names.
    pub entity: Option<&'a EntityId>,
    /// The grant's remaining life: the explicit max TTL. Counted in whole seconds, rounded down.
    pub life: Duration,
}

/// Why no token was minted, or none that may be handed out.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// What was minted is not what was asked for, and was revoked.
    #[error("the primary minted another token than asked for: {0}")]
    NotExact(&'static str),
    /// What was minted could not be looked up, and was revoked.
    #[error("the minted token could not be looked up: {0}")]
    NotShown(Decision),
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
    /// What came of the request for a token. Its decision is about the workload's role, unless it refuses who asked.
    fn of_creation(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Decision(decision) if decision.is_denial() => {
                Self::OwnCredentialRefused(decision)
            }
            error => Self::Upstream(error),
        }
    }

    /// What came of the look-up after it, of which no decision is about the workload.
    fn of_look_up(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Decision(decision) => Self::NotShown(decision),
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

/// A token that nothing has looked up yet.
struct Created {
    token: SecretText,
    accessor: Accessor,
    envelope: Zeroizing<Vec<u8>>,
}

impl Upstream {
    /// Mints a standing token through the workload's role, as the role has it.
    ///
    /// # Errors
    /// [`UpstreamError`], of minting or of the look-up after it.
    pub async fn mint(
        &self,
        workload: &Workload,
        urgency: Urgency,
    ) -> Result<Minted, UpstreamError> {
        let body = CreateBody::of(workload);
        let created = self.create(&workload.role, &body, Some(urgency)).await?;
        self.show(created, Some(urgency)).await
    }

    /// Mints a token for a login of this workload, as its role has it. Logins wait for no turn.
    ///
    /// # Errors
    /// [`MintError`].
    pub async fn mint_for_login(&self, workload: &WorkloadName) -> Result<Minted, MintError> {
        let workload = self.workload(workload)?;
        self.mint_checked(&workload, &CreateBody::of(&workload), None)
            .await
    }

    /// Mints the token that a replica grant of this workload is exchanged for, and proves by look-up that it is exactly
    /// that.
    ///
    /// # Errors
    /// If it cannot be minted exactly so.
    pub async fn mint_exact(
        &self,
        workload: &WorkloadName,
        wanted: Exact<'_>,
    ) -> Result<Minted, MintError> {
        let workload = self.workload(workload)?;
        let life = wanted.life.as_secs();
        if life == 0 {
            return Err(MintError::NotExact("nothing is left of its life"));
        }
        let mut policies = wanted.policies.iter();
        let body = CreateBody {
            explicit_max_ttl: Some(life),
            no_default_policy: Some(!policies.any(|name| name.as_str() == "default")),
            policies: Some(wanted.policies),
            renewable: Some(false),
            ttl: Some(life),
            ..CreateBody::of(&workload)
        };
        let urgency = Some(Urgency::Recovery);
        let minted = self.mint_checked(&workload, &body, urgency).await?;
        match difference(&minted.looked_up, wanted) {
            None => Ok(minted),
            Some(what) => {
                self.discard(&minted.looked_up).await;
                Err(MintError::NotExact(what))
            }
        }
    }

    fn workload(&self, name: &WorkloadName) -> Result<Workload, MintError> {
        let authority = self.local().view.authority();
        let known = authority.settings.workload(name);
        known.cloned().ok_or(MintError::UnknownWorkload)
    }

    async fn mint_checked(
        &self,
        workload: &Workload,
        body: &CreateBody<'_>,
        urgency: Option<Urgency>,
    ) -> Result<Minted, MintError> {
        let created = self.create(&workload.role, body, urgency).await;
        let created = created.map_err(MintError::of_creation)?;
        let shown = self.show(created, urgency).await;
        shown.map_err(MintError::of_look_up)
    }

    async fn create(
        &self,
        role: &RoleName,
        body: &CreateBody<'_>,
        urgency: Option<Urgency>,
    ) -> Result<Created, UpstreamError> {
        let request = Request::write(format!("auth/token/create/{role}"), body);
        let reply = match urgency {
            Some(urgency) => self.ask(&request, urgency).await?,
            None => self.ask_now(&request).await?,
        };
        let shown = reply.shown()?;
        let auth = shown.auth()?;
        let accessor = Accessor::parse(&auth.accessor)
            .map_err(|_| shown.unexpected("a token without an accessor"))?;
        Ok(Created {
            token: SecretText::filled(|text| text.push_str(&auth.client_token)),
            accessor,
            envelope: shown.into_body(),
        })
    }

    /// Looks up what was minted. What cannot be looked up does not live on.
    async fn show(
        &self,
        created: Created,
        urgency: Option<Urgency>,
    ) -> Result<Minted, UpstreamError> {
        match self.lookup_accessor(&created.accessor, urgency).await {
            Ok(looked_up) => Ok(Minted {
                token: created.token,
                envelope: created.envelope,
                looked_up,
            }),
            Err(error) => {
                // Nobody gets it, so nobody shall have it. If this fails too, its TTL ends it.
                let urgency = Urgency::Authority;
                let _ = self.revoke_accessor(&created.accessor, urgency).await;
                Err(error)
            }
        }
    }

    async fn discard(&self, token: &LookedUp) {
        if let Some(accessor) = &token.accessor
            && let Err(error) = self.revoke_accessor(accessor, Urgency::Recovery).await
        {
            tracing::warn!(%error, %accessor, "a token that nobody got could not be revoked; its TTL ends it");
        }
    }
}

/// In what a minted token is not what was wanted.
fn difference(minted: &LookedUp, wanted: Exact<'_>) -> Option<&'static str> {
    /// Between minting and looking up.
    const SLACK: Duration = Duration::from_secs(5);
    let facts = &minted.facts;
    let sorted = |names: &[PolicyName]| {
        let mut names = names.to_vec();
        names.sort();
        names.dedup();
        names
    };
    let life = Duration::from_secs(wanted.life.as_secs());
    [
        (
            sorted(&facts.policies) != sorted(wanted.policies),
            "policies",
        ),
        (facts.entity_id.as_ref() != wanted.entity, "entity_id"),
        (facts.renewable, "renewable"),
        (!facts.orphan, "orphan"),
        (facts.period != 0, "period"),
        (minted.num_uses != 0, "num_uses"),
        (facts.explicit_max_ttl != life.as_secs(), "explicit_max_ttl"),
        (minted.ttl > life || minted.ttl + SLACK < life, "ttl"),
    ]
    .into_iter()
    .find_map(|(differs, what)| differs.then_some(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{time::WallTime, token::TokenFacts};

    use crate::samples;

    fn name(text: &str) -> PolicyName {
        PolicyName::parse(text).unwrap()
    }

    fn minted() -> LookedUp {
        LookedUp {
            facts: TokenFacts {
                policies: vec![name("a"), name("default")],
                creation_ttl: 100,
                explicit_max_ttl: 100,
                renewable: false,
                ..samples::token_facts()
            },
            accessor: None,
            expires: None,
            ttl: Duration::from_secs(99),
            num_uses: 0,
            asked_at: WallTime::EPOCH,
            data: shared::secret::SecretBytes::new(Vec::new()),
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
        for status in [400, 403, 404] {
            let error = MintError::of_look_up(of(status));
            assert!(matches!(error, MintError::NotShown(_)));
        }
    }

    #[test]
    fn only_the_very_token_that_was_asked_for_will_do() {
        let policies = [name("default"), name("a")];
        let wanted = Exact {
            policies: &policies,
            entity: None,
            life: Duration::from_millis(100_900),
        };
        assert_eq!(difference(&minted(), wanted), None);
        type Spoil = fn(&mut LookedUp);
        let breaks: [(&str, Spoil); 8] = [
            ("policies", |t| t.facts.policies.push(name("b"))),
            ("policies", |t| t.facts.policies.truncate(1)),
            ("entity_id", |t| {
                t.facts.entity_id = EntityId::parse("e").ok()
            }),
            ("renewable", |t| t.facts.renewable = true),
            ("orphan", |t| t.facts.orphan = false),
            ("num_uses", |t| t.num_uses = 1),
            ("ttl", |t| t.ttl = Duration::from_secs(101)),
            ("ttl", |t| t.ttl = Duration::from_secs(50)),
        ];
        for (what, spoil) in breaks {
            let mut token = minted();
            spoil(&mut token);
            assert_eq!(difference(&token, wanted), Some(what));
        }
    }
}
