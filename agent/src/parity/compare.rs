//! The task that judges: takes offers, compares, judges again what disagrees, and puts policy sets into quarantine
//! and out of it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use replica::{
    parity::{self, Disagreement, Facts, Outcome},
    sequencer::Lane,
    vault::judge::{self, Judgement},
};
use shared::{
    api::Call,
    change::{Change, Expects},
    ledger::{Entry, EntryKind},
    name::{EntityId, TokenDigest},
    quarantine::{AclKey, Quarantine},
    time::{BootTime, Now},
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Mismatch, Offer, Parity, Watched,
    counts::{Counts, Dropped},
    disputes::{Dispute, Disputes, OpenDispute, SecondLook},
    verb, watched,
};
use crate::local::{Local, Pending as Future};

/// Between looks at what waits.
const LOOK: Duration = Duration::from_millis(100);

/// Between two times that the primary is asked because of disagreements, however many there are.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Disagreements that are asked about together.
const TOGETHER: usize = 16;

/// Kinds of requests that are compared every time because one of them stayed unsettled.
const DOUBTED: usize = 64;

/// A mismatch of one kind at one path is logged once in this time.
const LOG_EVERY: Duration = Duration::from_secs(3600);

/// Kinds and paths that are remembered as logged.
const LOGGED: usize = 1024;

/// Has the primary asked, with Holdover's own token, for what decisions go by.
pub trait Refresh: Send + Sync {
    /// Asks now; true if all of it was answered.
    fn refresh(&self, wanted: Wanted) -> Future<'_, bool>;
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// These tokens, by accessor.
    pub tokens: Vec<TokenDigest>,
    /// These entities and their groups.
    pub entities: Vec<EntityId>,
    /// Policies, mounts, roles and standing tokens.
    pub authority: bool,
}

/// Judges what is offered until the socket is gone.
pub async fn run(
    parity: Parity,
    mut offers: mpsc::Receiver<Offer>,
    local: Local,
    refresh: Arc<dyn Refresh>,
) {
    let mut comparer = Comparer {
        parity,
        local,
        refresh,
        disputes: Disputes::default(),
        asking: JoinSet::new(),
        asked_at: None,
        doubted: VecDeque::new(),
        logged: HashMap::new(),
    };
    comparer.watch();
    loop {
        tokio::select! {
            offer = offers.recv() => match offer {
                Some(offer) => comparer.accept(offer).await,
                None => return,
            },
            Some(asked) = comparer.asking.join_next() => comparer.asked(asked.ok()),
            () = tokio::time::sleep(LOOK), if comparer.disputes.len() > 0 => {}
        }
        comparer.look().await;
    }
}

struct Comparer {
    parity: Parity,
    local: Local,
    refresh: Arc<dyn Refresh>,
    disputes: Disputes,
    /// One at a time.
    asking: JoinSet<(Vec<u64>, bool)>,
    asked_at: Option<BootTime>,
    doubted: VecDeque<Watched>,
    logged: HashMap<(Disagreement, Watched), BootTime>,
}

/// A judgement and what comparing it came to.
struct Compared {
    judgement: Judgement,
    facts: Facts,
    outcome: Outcome,
}

impl Comparer {
    async fn accept(&mut self, mut offer: Offer) {
        self.parity.release(offer.size());
        if self.in_outage() {
            self.counts().drop(Dropped::Unsettled, 1);
            return;
        }
        let now = self.local.clock.now();
        let answer = offer.answer.take();
        let given = offer.asked_at.steady..=offer.answered_at.steady;
        let keys = self.local.view.keys();
        let status = offer.decision.status();
        let primary = Facts::of(&offer.call, status, answer.as_deref(), given, keys);
        drop(answer);
        let compared = self.compare(&offer, &primary, now);
        match compared.outcome {
            Outcome::Agree => {
                self.counts().agree(1);
                self.lift(&offer, compared.judgement.set.as_ref(), now)
                    .await;
            }
            Outcome::NotCovered => self.counts().leave(1),
            Outcome::Disagree(kind, _) if self.knows_more(&offer, &compared.judgement) => {
                self.leave_unsettled(&offer.call, kind, 1);
            }
            Outcome::Disagree(kind, _) => {
                let dispute = Dispute {
                    offer,
                    primary,
                    judged: compared.facts,
                    kind,
                    inputs: compared.judgement.inputs,
                    set: compared.judgement.set,
                };
                if !self.disputes.add(dispute, now.boot) {
                    self.counts().drop(Dropped::Unsettled, 1);
                }
            }
        }
    }

    /// Whether something was learned of a token after the moment up to which the primary's answer is shown to be current: a
    /// node may have answered that had not seen it yet.
    fn knows_more(&self, offer: &Offer, judgement: &Judgement) -> bool {
        let as_of = offer.decision.as_of();
        let tokens = judgement.inputs.tokens.iter();
        tokens
            .filter_map(|token| self.local.view.grant(token))
            .any(|live| live.grant.verified_at > as_of)
    }

    fn compare(&self, offer: &Offer, primary: &Facts, now: Now) -> Compared {
        let (view, entropy) = (&self.local.view, self.local.entropy.as_ref());
        let judgement = judge::judge(view, &offer.query(now), entropy);
        let facts = Facts::judged(&offer.call, &judgement, primary, now.steady, view.keys());
        let outcome = parity::compare(primary, &facts, judgement.standing);
        Compared {
            judgement,
            facts,
            outcome,
        }
    }

    /// Judges again what is due, and asks the primary for what is in doubt.
    async fn look(&mut self) {
        let now = self.local.clock.now();
        if self.in_outage() {
            let times = self.disputes.clear();
            self.counts().drop(Dropped::Unsettled, times);
        }
        for one in self.disputes.due(now.boot) {
            self.judge_again(one, now).await;
        }
        self.ask(now.boot);
        self.show_pending();
    }

    async fn judge_again(&mut self, one: OpenDispute, now: Now) {
        let first = &one.dispute;
        let compared = self.compare(&first.offer, &first.primary, now);
        let inputs = &compared.judgement.inputs;
        match one.second_look(compared.outcome, &compared.facts, inputs) {
            SecondLook::Waits => {
                if let Some(one) = self.disputes.put_back(one, now.boot) {
                    self.leave_unsettled(&one.dispute.offer.call, one.dispute.kind, one.times);
                }
            }
            SecondLook::Unsettled => self.leave_unsettled(&first.offer.call, first.kind, one.times),
            SecondLook::Gone(Outcome::NotCovered) => self.counts().leave(one.times),
            SecondLook::Gone(_) => {
                self.counts().agree(one.times);
                self.lift(&first.offer, compared.judgement.set.as_ref(), now)
                    .await;
            }
            SecondLook::Stands(kind, fields) => {
                self.counts().disagree(kind, &fields, one.times);
                self.report(first, kind, &fields, now);
                if kind == Disagreement::GrantsMore {
                    let judged = compared.facts.status();
                    self.quarantine(first, compared.judgement.set, judged, &fields, now)
                        .await;
                }
            }
        }
    }

    fn report(&mut self, one: &Dispute, kind: Disagreement, fields: &[&'static str], now: Now) {
        let call = &one.offer.call;
        *self.parity.0.last.lock() = Some(Mismatch {
            at: now.steady,
            kind,
            operation: verb(call.operation),
            path: call.path.as_str().to_owned(),
            fields: fields.to_vec(),
        });
        let of = (kind, watched(call));
        let lately = self.logged.get(&of);
        if lately.is_some_and(|at| now.boot.since(*at) < LOG_EVERY) {
            return;
        }
        if self.logged.len() >= LOGGED {
            self.logged.clear();
        }
        self.logged.insert(of, now.boot);
        let (primary, replica) = (one.primary.status(), one.judged.status());
        tracing::warn!(
            kind = kind.name(),
            operation = verb(call.operation),
            path = call.path.as_str(),
            primary,
            replica,
            ?fields,
            "the replica would not have decided as the primary did"
        );
    }

    /// Leaves the set to the primary from here on, durably. Nothing that was issued to nobody, and no token, has none.
    async fn quarantine(
        &mut self,
        one: &Dispute,
        set: Option<AclKey>,
        replica: u16,
        fields: &[&'static str],
        now: Now,
    ) {
        let view = &self.local.view;
        let texts = set.as_ref().and_then(|set| judge::texts(view, set));
        let (Some(set), Some(texts)) = (set, texts) else {
            return;
        };
        let known = view.authority().quarantines.get(&set).cloned();
        if known.is_some_and(|known| known.texts == texts) {
            return;
        }
        let (operation, path) = watched(&one.offer.call);
        let (primary, policies) = (one.primary.status(), shown(&set));
        tracing::error!(
            policies,
            operation,
            path,
            primary,
            replica,
            "quarantined: in an outage tokens of these policies get 503, because the replica would have granted more"
        );
        let mut entry = entry("quarantined", &set, &path, now);
        entry.reason = Some(one.kind.name().to_owned());
        entry.uid = Some(one.offer.peer.uid);
        entry.unit.clone_from(&one.offer.peer.unit);
        let quarantine = Quarantine {
            set,
            since: now.steady,
            operation,
            path,
            primary,
            replica,
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            texts,
        };
        let change = Change::Quarantine(Box::new(quarantine));
        self.store(change, entry).await;
    }

    /// Ends the quarantine of `set` if its policies are others by now: what it was about has just been compared under
    /// them, and agreed.
    async fn lift(&mut self, offer: &Offer, set: Option<&AclKey>, now: Now) {
        let view = &self.local.view;
        let Some(set) = set else { return };
        let Some(known) = view.authority().quarantines.get(set).cloned() else {
            return;
        };
        let (operation, path) = watched(&offer.call);
        let is_it = known.path == path && known.operation == operation;
        let changed = judge::texts(view, set).is_some_and(|texts| texts != known.texts);
        if !is_it || !changed {
            return;
        }
        tracing::warn!(
            policies = shown(set),
            "no longer quarantined: the policies changed, and the decisions agree"
        );
        let entry = entry("lifted", set, &path, now);
        self.store(Change::QuarantineLifted(set.clone()), entry)
            .await;
    }

    async fn store(&mut self, change: Change, entry: Entry) {
        let changes = vec![change, Change::Ledger(Box::new(entry))];
        let committed = self
            .local
            .commit(Lane::Revocation, changes, Expects::default());
        if let Err(error) = committed.await {
            // `ready` is false for the same reason, and the next comparison tries again.
            tracing::error!(%error, "a quarantine could not be stored");
        }
        self.watch();
    }

    /// Nothing tells whether it stands. Where the replica would have granted more, every request of its kind is compared
    /// from here on.
    fn leave_unsettled(&mut self, call: &Call, kind: Disagreement, times: u64) {
        self.counts().drop(Dropped::Unsettled, times);
        let of = watched(call);
        if kind == Disagreement::GrantsMore && !self.doubted.contains(&of) {
            if self.doubted.len() >= DOUBTED {
                self.doubted.pop_front();
            }
            self.doubted.push_back(of);
            self.watch();
        }
    }

    /// What is compared every time: what is doubted, and what a quarantine is about, so that it can end.
    fn watch(&self) {
        let mut kinds: HashSet<Watched> = self.doubted.iter().cloned().collect();
        for known in self.local.view.authority().quarantines.values() {
            kinds.insert((known.operation.clone(), known.path.clone()));
        }
        self.parity.0.watched.store(Arc::new(kinds));
    }

    /// Asks the primary about what waits, one round at a time.
    fn ask(&mut self, now: BootTime) {
        let too_soon = self.asked_at.is_some_and(|at| now.since(at) < ASK_EVERY);
        if too_soon || !self.asking.is_empty() {
            return;
        }
        let Some((numbers, wanted)) = self.disputes.doubts(TOGETHER, now) else {
            return;
        };
        self.asked_at = Some(now);
        let refresh = Arc::clone(&self.refresh);
        self.asking
            .spawn(async move { (numbers, refresh.refresh(wanted).await) });
    }

    fn asked(&mut self, asked: Option<(Vec<u64>, bool)>) {
        if let Some((numbers, true)) = asked {
            self.disputes
                .refreshed(&numbers, self.local.clock.now().boot);
        }
    }

    fn counts(&self) -> &Counts {
        self.parity.counts()
    }

    fn in_outage(&self) -> bool {
        self.local.view.authority().phase.is_outage()
    }

    fn show_pending(&self) {
        let waiting = u64::try_from(self.disputes.len()).unwrap_or(u64::MAX);
        self.parity.0.pending.store(waiting, Ordering::Relaxed);
    }
}

/// What the ledger says of a quarantine.
fn entry(outcome: &str, set: &AclKey, path: &str, now: Now) -> Entry {
    let mut entry = Entry::new(EntryKind::Parity, outcome, now.steady);
    entry.path = Some(path.to_owned());
    entry.policies.clone_from(&set.policies);
    entry
}

/// The set as an operator reads it.
pub fn shown(set: &AclKey) -> String {
    let names: Vec<&str> = set.policies.iter().map(|name| name.as_str()).collect();
    match &set.entity {
        Some(entity) => format!("{} of entity {}", names.join(", "), entity.as_str()),
        None => names.join(", "),
    }
}

#[cfg(test)]
mod tests;
