//! What clients brought: looked up once where the primary accepted it and the replica does not know it yet, and at once
//! where the primary refused what the replica knows.

use std::{sync::Arc, time::Duration};

use replica::learn::Candidate;
use shared::{approle::ProofDigest, backoff::Backoff, name::TokenDigest, secret::SecretText};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    PassError,
    authority::{AuthorityPass, approle},
    token::{CONCURRENCY, TokenFollower},
};
use crate::upstream::{UpstreamError, pace::Urgency};

/// A token whose look-up failed until the pauses grew past this waits until it is used again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A credential that is to be looked up.
pub enum SeenCredential {
    /// A token that the primary refused.
    Doubted(TokenDigest),
    /// A login that the primary refused, by what stands for role id and secret id.
    DoubtedLogin(ProofDigest),
    /// A secret id, to be verified.
    Login(Box<Candidate>),
    /// A token, to be looked up.
    Token(SeenToken),
}

/// A token that is new to the replica.
pub struct SeenToken {
    /// The token, forgotten once it was looked up.
    pub token: SecretText,
    /// What the replica keeps in its place.
    pub digest: TokenDigest,
    /// The user whose client brought it.
    pub uid: u32,
}

/// Looks up what was seen for the first time, until the queue's other end is gone.
pub(super) async fn learn(follower: Arc<TokenFollower>, mut seen: mpsc::Receiver<SeenCredential>) {
    let mut asked = JoinSet::new();
    while let Some(credential) = seen.recv().await {
        while asked.len() >= CONCURRENCY {
            let _ = asked.join_next().await;
        }
        let follower = Arc::clone(&follower);
        asked.spawn(async move {
            let learned = match credential {
                SeenCredential::Doubted(digest) => follower.recheck_soon(digest).await,
                SeenCredential::DoubtedLogin(pair) => {
                    approle::recheck_login(&follower.context, pair).await
                }
                SeenCredential::Login(candidate) => {
                    approle::learn_login(&follower.context, *candidate).await
                }
                SeenCredential::Token(token) => learn_token(&follower, &token).await,
            };
            match learned {
                Ok(()) => {}
                Err(error @ PassError::Upstream(UpstreamError::Decision { .. })) => {
                    tracing::warn!(%error, "the primary does not show what a client brought: does the policy have every rule of `config policy`?");
                }
                Err(error) => {
                    tracing::debug!(%error, "what a client brought could not be looked up yet");
                }
            }
        });
    }
}

/// Looks one token up, again after a while where the primary did not say anything.
async fn learn_token(follower: &TokenFollower, seen: &SeenToken) -> Result<(), PassError> {
    let context = &follower.context;
    let mut backoff = Backoff::ATTEMPTS;
    loop {
        context.until_it_can_ask().await;
        let now = context.now();
        let answer = context.upstream.lookup_token(&seen.token).await;
        let pause = backoff.next(context.upstream.jitter());
        let said = matches!(&answer, Ok(_) | Err(UpstreamError::Decision { .. }));
        if said || pause > LONGEST_PAUSE {
            let by = Some(seen.uid);
            follower.accept(seen.digest, answer, by, now).await?;
            return identify(follower, &seen.digest).await;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Has the identity of a token that is known now read with it, where that was never seen: an old token says nothing of how
/// its entity stands today.
async fn identify(follower: &TokenFollower, digest: &TokenDigest) -> Result<(), PassError> {
    let view = &follower.context.local.view;
    let entity = view
        .grant(digest)
        .and_then(|live| live.grant.facts.entity_id.clone());
    let unseen = entity.filter(|entity| view.authority().identity(entity).is_none());
    match unseen {
        Some(entity) => {
            let pass = AuthorityPass::new(&follower.context, Urgency::Mirror);
            pass.verify_identity(&entity).await
        }
        None => Ok(()),
    }
}
