//! Tokens for workloads, minted through their token roles: for attested logins, for `auto_token`, and for replica
//! grants that are exchanged when an outage is over.

use std::time::Duration;

use serde::Serialize;
use shared::{
    name::{EntityId, PolicyName, RoleName},
    secret::SecretText,
    workload::Workload,
};
use zeroize::Zeroizing;

use super::{Request, Upstream, UpstreamError, lookup::LookedUp, pace::Urgency};

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
    /// The primary did not mint it, or what it minted could not be looked up.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// The body of `auth/token/create/:role`.
#[derive(Serialize, Default)]
struct Create<'a> {
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

impl Upstream {
    /// Mints a token through the workload's role, as the role has it. Logins (`urgency` none) wait for no turn.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn mint(
        &self,
        workload: &Workload,
        urgency: Option<Urgency>,
    ) -> Result<Minted, UpstreamError> {
        let body = Create {
            entity_alias: workload.entity_alias.as_deref(),
            ..Create::default()
        };
        self.create(&workload.role, &body, urgency).await
    }

    /// Mints the token that a replica grant of `workload` is exchanged for, and proves by look-up that it is exactly
    /// that.
    ///
    /// # Errors
    /// If it cannot be minted exactly so.
    pub async fn mint_exact(
        &self,
        workload: &Workload,
        wanted: Exact<'_>,
    ) -> Result<Minted, MintError> {
        let life = wanted.life.as_secs();
        if life == 0 {
            return Err(MintError::NotExact("nothing is left of its life"));
        }
        let default = wanted
            .policies
            .iter()
            .any(|name| name.as_str() == "default");
        let body = Create {
            entity_alias: workload.entity_alias.as_deref(),
            explicit_max_ttl: Some(life),
            no_default_policy: Some(!default),
            policies: Some(wanted.policies),
            renewable: Some(false),
            ttl: Some(life),
        };
        let minted = self
            .create(&workload.role, &body, Some(Urgency::Recovery))
            .await?;
        match difference(&minted.looked_up, wanted) {
            None => Ok(minted),
            Some(what) => {
                self.discard(&minted.looked_up).await;
                Err(MintError::NotExact(what))
            }
        }
    }

    async fn create(
        &self,
        role: &RoleName,
        body: &Create<'_>,
        urgency: Option<Urgency>,
    ) -> Result<Minted, UpstreamError> {
        let request = Request::write(format!("auth/token/create/{role}"), body);
        let reply = match urgency {
            Some(urgency) => self.ask(&request, urgency).await?,
            None => self.ask_now(&request).await?,
        }
        .success()?;
        let auth = reply.envelope()?.auth;
        let auth = auth.ok_or_else(|| reply.unexpected("no token in it"))?;
        let accessor = shared::name::Accessor::parse(&auth.accessor)
            .map_err(|_| reply.unexpected("a token without an accessor"))?;
        let token = SecretText::filled(|text| text.push_str(&auth.client_token));
        match self.lookup_accessor(&accessor, urgency).await {
            Ok(looked_up) => Ok(Minted {
                token,
                envelope: reply.into_body(),
                looked_up,
            }),
            Err(error) => {
                // Nobody gets it, so nobody shall have it. If this fails too, its TTL ends it.
                let _ = self.revoke_accessor(&accessor, Urgency::Authority).await;
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
