//! A grant that an outage left, settled when it is used: judged purely in [`shared::recovery`], by what the primary says
//! since, and exchanged, drained or revoked accordingly.
//!
//! However many use it at the same time, it is judged and minted for once. What cannot be told now is told as such, and
//! tried again at the next use.

mod unminted;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use replica::{
    entropy,
    sequencer::{Lane, SubmitError},
};
use shared::{
    change::{Change, Credential, CredentialName, Expects, QueuedRevocation, RevocationTarget},
    grant::{Grant, Settled},
    ledger::{Entry, EntryKind},
    name::{Accessor, TokenDigest, WorkloadName},
    recovery::{
        Fate, Left, Need, Verdict, Wanted, has_come_to_need_its_entity, has_outlived_its_entity,
    },
    time::{BootTime, Deadline},
};

use self::unminted::Unminted;
use super::{
    flights::Flights,
    inquiry::{Asked, Inquiry, tokenless},
    primary::Primary,
};
use crate::{
    local::{Local, Pending},
    reaper,
};

/// A token that may have been minted, and was not heard of, is minted anew so often.
const MINTS: u8 = 3;

/// The longest `Retry-After` that is obeyed.
const LONGEST_HOLD_OFF: Duration = Duration::from_secs(120);

/// Where the replica takes nothing, nothing is minted for this long.
const UNSTORED: Duration = Duration::from_secs(10);

/// Why the next use has to judge anew.
const CHANGED: &str = "it was changed meanwhile";

/// A line of tokens is asked about one by one: so many at most at one use.
const NEEDS: usize = 16;

/// What an unsettled grant came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settlement {
    /// What is stored of it says how it stands.
    Settled,
    /// It is good for mirrored reads and what goes with them, for now. Nothing of that is stored.
    Drains,
    /// The primary asks to wait, or Holdover has to get another token of its own first. What is mirrored is read meanwhile, and
    /// all else is told to wait, too.
    Later(String),
    /// It cannot be told now, because the primary cannot be reached for it: perhaps that is an outage.
    Unreachable(String),
    /// It cannot be told now.
    Unread(String),
}

/// What a grant that is to be used comes to, before anything is minted for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judged {
    /// Settled, as far as it can be.
    As(Settlement),
    /// A token is to be minted for it. Until then the replica answers what is mirrored.
    Exchange,
}

/// Who settles grants at their use.
pub trait AtUse: Send + Sync {
    /// Judges, and settles what needs no token of the primary's.
    fn judge(&self, digest: TokenDigest) -> Pending<'static, Judged>;
    /// Settles. It goes on though nobody waits for it any more.
    fn settle(&self, digest: TokenDigest) -> Pending<'static, Settlement>;
}

/// The settler in production.
pub struct Settler<P>(Arc<Inner<P>>);

impl<P> Clone for Settler<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<P> {
    local: Local,
    primary: Arc<P>,
    judging: Flights<TokenDigest, Judgement>,
    settling: Flights<TokenDigest, Settlement>,
    inquiry: Inquiry<P>,
    /// Tokens that may have been minted, by the grant that they were for. Only for what is unsettled.
    unknown: Mutex<BTreeMap<TokenDigest, u8>>,
    /// Until when nothing is minted for a workload: the primary asked for that (`Retry-After`), or what was minted could not be
    /// kept.
    held_off: Mutex<BTreeMap<WorkloadName, BootTime>>,
}

/// A judgement, with what a token would be minted by.
#[derive(Clone)]
enum Judgement {
    As(Settlement),
    Exchange(Box<Exchange>),
}

#[derive(Clone)]
struct Exchange {
    grant: Grant,
    left: Left,
    wanted: Wanted,
    /// The version of the settings that it was judged by.
    judged_by: u64,
}

impl<P: Primary + 'static> Settler<P> {
    /// Settles what is in `local` with `primary`.
    pub fn new(local: Local, primary: Arc<P>) -> Self {
        Self(Arc::new(Inner {
            inquiry: Inquiry::new(Arc::clone(&local.clock), Arc::clone(&primary)),
            local,
            primary,
            judging: Flights::default(),
            settling: Flights::default(),
            unknown: Mutex::default(),
            held_off: Mutex::default(),
        }))
    }

    /// Judges it; all who wait at the same time get the same judgement.
    fn judgement(&self, digest: TokenDigest) -> Pending<'static, Judgement> {
        let own = self.clone();
        let judged = self.0.judging.join(digest, move || async move {
            let judged = own.0.judged(&digest).await;
            own.carried_out(judged).await
        });
        Box::pin(async move {
            let cut_off = || unread("it could not be judged");
            judged.await.unwrap_or_else(cut_off)
        })
    }

    /// Everything but minting.
    async fn carried_out(&self, judged: Result<(Grant, Fate, u64), Judgement>) -> Judgement {
        let (grant, fate, judged_by) = match judged {
            Ok(judged) => judged,
            Err(otherwise) => return otherwise,
        };
        let local = &self.0.local;
        match fate {
            Fate::Revoke(cause) => {
                reaper::revoke(local, vec![(grant, cause)]).await;
                Judgement::As(Settlement::Settled)
            }
            Fate::Drain(left) => {
                let stored = self.0.drain(&grant, left, judged_by).await;
                Judgement::As(stored)
            }
            Fate::Exchange(left, wanted) => Judgement::Exchange(Box::new(Exchange {
                grant,
                left,
                wanted,
                judged_by,
            })),
        }
    }
}

impl<P: Primary + 'static> AtUse for Settler<P> {
    fn judge(&self, digest: TokenDigest) -> Pending<'static, Judged> {
        let judgement = self.judgement(digest);
        Box::pin(async move {
            match judgement.await {
                Judgement::As(outcome) => Judged::As(outcome),
                Judgement::Exchange(_) => Judged::Exchange,
            }
        })
    }

    fn settle(&self, digest: TokenDigest) -> Pending<'static, Settlement> {
        let own = self.clone();
        let settled = self.0.settling.join(digest, move || async move {
            match own.judgement(digest).await {
                Judgement::As(outcome) => outcome,
                Judgement::Exchange(exchange) => own.0.exchange(*exchange).await,
            }
        });
        Box::pin(async move {
            let cut_off = || Settlement::Unread("it could not be settled".into());
            settled.await.unwrap_or_else(cut_off)
        })
    }
}

impl<P: Primary + 'static> Inner<P> {
    /// What the grant comes to, after whatever that needs was asked; with the version of the settings that say so.
    async fn judged(&self, digest: &TokenDigest) -> Result<(Grant, Fate, u64), Judgement> {
        let mut asked: Option<Need> = None;
        for _ in 0..NEEDS {
            let (grant, verdict, version) = match self.verdict(digest) {
                Some(judged) => judged,
                None => return Err(Judgement::As(Settlement::Settled)),
            };
            let need = match verdict {
                Verdict::Fate(fate) => return Ok((grant, fate, version)),
                Verdict::Lives(_, need) | Verdict::Needs(need) => need,
            };
            let told = match asked.replace(need.clone()) {
                Some(before) if before == need => {
                    Asked::Refused("what the primary said of it is not enough".into())
                }
                _ => self.inquiry.ask(need.clone()).await,
            };
            match (told, need) {
                (Asked::Told, _) => {}
                (Asked::Refused(_), Need::Workload(_) | Need::Policy(_)) => {
                    return Err(Judgement::As(Settlement::Drains));
                }
                (Asked::Refused(why), Need::Login(_)) => {
                    let what = "the AppRole login that it was given to could not be verified";
                    return Err(unread(format!("{what}: {why}")));
                }
                (Asked::Refused(why), Need::Token(_)) => {
                    let what = "a token that it hangs on could not be verified";
                    return Err(unread(format!("{what}: {why}")));
                }
                (Asked::Later(why), _)
                | (Asked::Tokenless(why), Need::Workload(_) | Need::Policy(_)) => {
                    return Err(Judgement::As(Settlement::Later(why)));
                }
                (Asked::Failed(why) | Asked::Tokenless(why), _) => return Err(unread(why)),
                (Asked::Unreachable(why), _) => {
                    return Err(Judgement::As(Settlement::Unreachable(why)));
                }
            }
        }
        Err(unread("too much of what it hangs on is to be verified"))
    }

    /// None for what is settled, and for what is dead, by itself or with what it hangs on.
    fn verdict(&self, digest: &TokenDigest) -> Option<(Grant, Verdict, u64)> {
        let live = self.local.view.grant(digest)?;
        let now = self.local.clock.now();
        let ended = |deadline: Deadline| deadline.passed(now);
        if live.revoked.get().is_some() || ended(live.grant.deadline) {
            return None;
        }
        if self.local.view.dead_ancestor(&live.grant, ended).is_some() {
            return None;
        }
        let authority = self.local.view.authority();
        let verdict = self.local.view.verdict(&authority, &live.grant, now)?;
        Some((live.grant.clone(), verdict, authority.settings_version))
    }

    async fn exchange(&self, exchange: Exchange) -> Settlement {
        let Exchange {
            grant,
            left,
            wanted,
            judged_by,
        } = exchange;
        let Some(peer) = &grant.peer else {
            return Settlement::Settled;
        };
        if self.is_held_off(&peer.workload) {
            return Settlement::Later("minting is put off for a moment".into());
        }
        let minted = self.primary.mint_exact(&peer.workload, &wanted).await;
        match minted {
            Ok(token) => self.exchanged(&grant, left, token, judged_by).await,
            Err(error) => match Unminted::of(&error) {
                Unminted::Never => {
                    tracing::warn!(%error, accessor = %grant.accessor, "no exact token for a replica grant: it drains");
                    self.drain(&grant, left, judged_by).await
                }
                Unminted::Tokenless => Settlement::Later(tokenless(&error)),
                Unminted::NotNow => {
                    tracing::warn!(%error, accessor = %grant.accessor, "a replica grant is exchanged later");
                    Settlement::Drains
                }
                Unminted::Later(after) => {
                    self.hold_off(&peer.workload, after);
                    Settlement::Later(error.to_string())
                }
                Unminted::NotSent => Settlement::Unreachable(error.to_string()),
                Unminted::Unknown => {
                    tracing::warn!(%error, accessor = %grant.accessor, "whether a token was minted for a replica grant is unknown");
                    self.unheard(&grant, left, judged_by, error.to_string())
                        .await
                }
            },
        }
    }

    fn is_held_off(&self, workload: &WorkloadName) -> bool {
        let now = self.local.clock.now().boot;
        let held_off = self.held_off.lock();
        held_off.get(workload).is_some_and(|until| now < *until)
    }

    fn hold_off(&self, workload: &WorkloadName, after: Option<Duration>) {
        let pause = after.unwrap_or_default().min(LONGEST_HOLD_OFF);
        let until = self.local.clock.now().boot.plus(pause);
        self.held_off.lock().insert(workload.clone(), until);
    }

    /// The grant with a primary token behind it: never more than it had, and no longer than that token lives.
    async fn exchanged(
        &self,
        grant: &Grant,
        left: Left,
        token: Credential,
        judged_by: u64,
    ) -> Settlement {
        let (now, accessor) = (self.local.clock.now(), token.accessor.clone());
        let Some(unsettled) = self.unsettled(grant) else {
            self.give_up(grant, accessor).await;
            return Settlement::Settled;
        };
        let mut exchanged = unsettled
            .left_with(left)
            .settled(Settled::Exchanged(accessor.clone()));
        exchanged.verified_at = token.issued_at;
        let until = Deadline::at(token.expires, now);
        exchanged.deadline = exchanged.deadline.earliest(until);
        let mut entry = Entry::new(EntryKind::Exchange, "allowed", now.steady).about(grant);
        entry.outage = grant.replica().map(|replica| replica.outage.clone());
        entry.accessor = Some(accessor.clone());
        entry.policies.clone_from(&exchanged.facts.policies);
        entry.deadline = Some(exchanged.deadline.wall);
        if self.has_outlived(&exchanged) {
            self.give_up(grant, accessor).await;
            return Settlement::Unread(CHANGED.into());
        }
        let changes = vec![
            Change::Credential(CredentialName::Exchanged(grant.digest), token),
            Change::Grant(Box::new(exchanged)),
            Change::Ledger(Box::new(entry)),
        ];
        let stored = self.store(grant, changes, judged_by).await;
        if let Err(error) = &stored {
            self.give_up(grant, accessor).await;
            // What cannot be kept would be minted and revoked at every use.
            if let (false, Some(peer)) = (*error == SubmitError::Conflict, &grant.peer) {
                self.hold_off(&peer.workload, Some(UNSTORED));
            }
        }
        self.told(&grant.digest, stored)
    }

    /// Whether its entity, or what policies say of it, was read anew while a token was minted, and the token is too much by now.
    fn has_outlived(&self, exchanged: &Grant) -> bool {
        let authority = self.local.view.authority();
        has_outlived_its_entity(exchanged, &**authority)
            || has_come_to_need_its_entity(exchanged, &**authority)
    }

    /// The grant as it is by now, if it lives and nobody else settled it while a token was minted for it.
    fn unsettled(&self, grant: &Grant) -> Option<Grant> {
        let live = self.local.view.grant(&grant.digest)?;
        let replica = live.grant.replica()?;
        let waits = live.revoked.get().is_none() && replica.settled == Settled::Not;
        waits.then(|| live.grant.clone())
    }

    async fn drain(&self, grant: &Grant, left: Left, judged_by: u64) -> Settlement {
        let Some(unsettled) = self.unsettled(grant) else {
            return Settlement::Settled;
        };
        let drained = unsettled.left_with(left).settled(Settled::Draining);
        let changes = vec![Change::Grant(Box::new(drained))];
        let stored = self.store(grant, changes, judged_by).await;
        self.told(&grant.digest, stored)
    }

    /// A token may have been minted that nobody knows of. It ends with the grant, and the ledger says that there may be one.
    async fn unheard(&self, grant: &Grant, left: Left, judged_by: u64, why: String) -> Settlement {
        let now = self.local.clock.now().steady;
        let mut entry = Entry::new(EntryKind::Unknown, "unknown", now).about(grant);
        entry.outage = grant.replica().map(|replica| replica.outage.clone());
        entry.deadline = Some(grant.deadline.wall);
        let noted = vec![Change::Ledger(Box::new(entry))];
        self.local.commit_later(Lane::Grant, noted);
        match self.unknown_once_more(grant.digest) {
            MINTS.. => self.drain(grant, left, judged_by).await,
            _ => Settlement::Unreachable(why),
        }
    }

    /// How often it is unknown by now whether a token was minted for a grant. What is not to be settled any more is forgotten in
    /// time.
    fn unknown_once_more(&self, digest: TokenDigest) -> u8 {
        let mut unknown = self.unknown.lock();
        // Now and then, because where many are lost at once each would judge all the others.
        if unknown.len().is_power_of_two() {
            unknown.retain(|digest, _| self.verdict(digest).is_some());
        }
        let times = unknown.entry(digest).or_default();
        *times = times.saturating_add(1);
        *times
    }

    /// Nothing of it where the settings changed since it was judged, or the grant died.
    async fn store(
        &self,
        grant: &Grant,
        changes: Vec<Change>,
        judged_by: u64,
    ) -> Result<(), SubmitError> {
        let expects = Expects {
            settings: Some(judged_by),
            live: vec![grant.digest],
            ..Expects::default()
        };
        self.local.commit(Lane::Grant, changes, expects).await
    }

    fn told(&self, digest: &TokenDigest, stored: Result<(), SubmitError>) -> Settlement {
        match stored {
            Ok(()) => {
                self.unknown.lock().remove(digest);
                Settlement::Settled
            }
            // What lives of it is judged once more.
            Err(SubmitError::Conflict) => Settlement::Unread(CHANGED.into()),
            Err(error) => {
                tracing::error!(%error, "what a replica grant came to could not be stored");
                Settlement::Unread(error.to_string())
            }
        }
    }

    /// A token that nobody gets: the primary is told, however long that takes.
    async fn give_up(&self, grant: &Grant, accessor: Accessor) {
        let Ok(id) = entropy::unique_u64(self.local.entropy.as_ref()) else {
            return; // It ends with the grant.
        };
        let (now, target) = (
            self.local.clock.now().steady,
            RevocationTarget::Token(accessor),
        );
        let queued = QueuedRevocation {
            peer: grant.peer.clone(),
            ..QueuedRevocation::own(id, target, now)
        };
        let change = vec![Change::Queue(Box::new(queued.clone()))];
        let stored = self
            .local
            .commit(Lane::Revocation, change, Expects::default());
        if stored.await.is_err()
            && let Err(error) = self.primary.revoke(&queued).await
        {
            tracing::warn!(%error, "a token that nobody got could not be revoked; its TTL ends it");
        }
    }
}

fn unread(why: impl Into<String>) -> Judgement {
    Judgement::As(Settlement::Unread(why.into()))
}

#[cfg(test)]
mod tests;
