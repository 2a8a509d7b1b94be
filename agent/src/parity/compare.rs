//! The task that judges: takes offers, compares, judges again what disagrees, and puts into quarantine and out of it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use replica::{
    parity::{self, Disagreement, Facts, Outcome},
    sequencer::Lane,
    vault::judge::{self, Behind, Judgement},
};
use shared::{
    api::{Call, Kind},
    change::{Change, Expects},
    ledger::{Entry, EntryKind},
    name::{EntityId, TokenDigest},
    quarantine::{Quarantine, Quarantined},
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
        let (call, decision) = (&offer.call, offer.decision);
        let primary = Facts::decided(call, decision, answer.as_deref(), given, keys);
        drop(answer);
        let compared = self.compare(&offer, &primary, now);
        match compared.outcome {
            Outcome::Agree => {
                self.counts().agree(1);
                self.lift(&offer, &compared.judgement, now).await;
            }
            Outcome::NotCovered => self.counts().leave(1),
            Outcome::Disagree(kind, _) if self.knows_more(&offer, &compared.judgement) => {
                self.leave_unsettled(&offer.call, kind, 1);
            }
            Outcome::Disagree(kind, _) => {
                let call = offer.call.clone();
                let dispute = Dispute {
                    offer,
                    primary,
                    judged: compared.facts,
                    kind,
                    inputs: compared.judgement.inputs,
                    behind: compared.judgement.behind,
                };
                if !self.disputes.add(dispute, now.boot) {
                    self.leave_unsettled(&call, kind, 1);
                }
            }
        }
    }

    /// Whether something was learned of a token or secret id after the moment up to which the primary's answer is shown to be current: a
    /// node may have answered that had not seen it yet.
    fn knows_more(&self, offer: &Offer, judgement: &Judgement) -> bool {
        let as_of = offer.decision.as_of();
        let tokens = judgement.inputs.tokens.iter();
        let known = tokens.filter_map(|token| self.local.view.grant(token));
        let verified = known.map(|live| live.grant.verified_at);
        let mut learned = verified.chain(judgement.inputs.logged_in_at());
        learned.any(|at| at > as_of)
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
        if self.parity.0.lifts.are_news() {
            self.watch();
        }
    }

    async fn judge_again(&mut self, one: OpenDispute, now: Now) {
        let first = &one.dispute;
        let compared = self.compare(&first.offer, &first.primary, now);
        let inputs = &compared.judgement.inputs;
        match one.second_look(compared.outcome.clone(), &compared.facts, inputs) {
            SecondLook::Waits => {
                if let Some(one) = self.disputes.put_back(one, now.boot) {
                    self.leave_unsettled(&one.dispute.offer.call, one.dispute.kind, one.times);
                }
            }
            SecondLook::Unsettled => self.leave_unsettled(&first.offer.call, first.kind, one.times),
            SecondLook::Gone(Outcome::NotCovered) => self.counts().leave(one.times),
            SecondLook::Gone(_) => {
                self.counts().agree(one.times);
                self.lift(&first.offer, &compared.judgement, now).await;
            }
            SecondLook::Stands(kind, fields) => {
                self.counts().disagree(kind, &fields, one.times);
                self.report(first, kind, &fields, now);
                if kind == Disagreement::GrantsMore {
                    self.quarantine(first, &compared, &fields, now).await;
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

    /// Leaves what is to blame to the primary from here on, durably. Where nobody's rights decided, nothing is.
    async fn quarantine(&self, one: &Dispute, second: &Compared, fields: &[&str], now: Now) {
        let (call, behind) = (&one.offer.call, &second.judgement.behind);
        let blamed = parity::blamed(call, &one.primary, &second.facts, behind);
        let lifted = self.parity.lifted().await;
        let mut changes = Vec::new();
        for what in blamed {
            let text = judge::text(&self.local.view, &what);
            let lately = lifted.covers(&what, one.offer.answered_at.steady);
            if lately || self.is_quarantined(&what, text) {
                continue;
            }
            let (operation, path) = watched(call);
            let quarantine = Quarantine {
                what,
                since: now.steady,
                operation,
                path,
                primary: one.primary.status(),
                replica: second.facts.status(),
                fields: fields.iter().map(|field| (*field).to_owned()).collect(),
                text,
                of_sets: Vec::new(),
            };
            log_quarantined(&quarantine);
            let mut entry = entry(EntryKind::Parity, "quarantined", &quarantine, now);
            entry.reason = Some(one.kind.name().to_owned());
            entry.uid = Some(one.offer.peer.uid);
            entry.unit.clone_from(&one.offer.peer.unit);
            changes.push(Change::Quarantine(Box::new(quarantine)));
            changes.push(Change::Ledger(Box::new(entry)));
        }
        self.store(changes).await;
    }

    /// Whether that is so already, by the same text.
    fn is_quarantined(&self, what: &Quarantined, text: Option<[u8; 32]>) -> bool {
        let authority = self.local.view.authority();
        let known = authority.quarantines.get(what);
        known.is_some_and(|known| text.is_some() && known.text == text)
    }

    /// Ends each quarantine of what decided here, if what that is decided by is another by now: what it was about has just
    /// been compared under that, and agreed.
    async fn lift(&self, offer: &Offer, judgement: &Judgement, now: Now) {
        let authority = self.local.view.authority().known.clone();
        if authority.quarantines.is_empty() {
            return;
        }
        let (operation, path) = watched(&offer.call);
        let mut changes = Vec::new();
        for known in authority.quarantines.values() {
            let is_it = known.path == path && known.operation == operation;
            let text = || judge::text(&self.local.view, &known.what);
            let changed = || known.text.is_some() && known.text != text();
            if !is_it || !decides(&known.what, &offer.call, &judgement.behind) || !changed() {
                continue;
            }
            tracing::warn!(
                what = %known.what,
                "no longer quarantined: the policy was written anew, and the decisions agree"
            );
            let entry = entry(EntryKind::Parity, "lifted", known, now);
            changes.push(Change::QuarantineLifted(known.what.clone()));
            changes.push(Change::Ledger(Box::new(entry)));
        }
        self.store(changes).await;
    }

    async fn store(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
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

/// Whether `what` had a part in a judgement that this stands behind: look-ups show every policy of the token.
fn decides(what: &Quarantined, call: &Call, behind: &Behind) -> bool {
    let Some(name) = what.policy() else {
        return false; // An operator ends it: another login may go by another role.
    };
    let shows_policies = matches!(
        call.kind,
        Kind::TokenLookup | Kind::TokenLookupAccessor | Kind::TokenLookupSelf
    );
    behind.rule.contains(name)
        || behind.asked.values().any(|asked| asked.contains(name))
        || shows_policies && behind.policies.contains(name)
}

fn log_quarantined(one: &Quarantine) {
    let (operation, path) = (&one.operation, &one.path);
    let (primary, replica) = (one.primary, one.replica);
    tracing::error!(
        what = %one.what,
        operation,
        path,
        primary,
        replica,
        "quarantined: in an outage what it decides gets 503, because the replica would have granted more"
    );
}

/// What the ledger says of a quarantine.
pub(super) fn entry(kind: EntryKind, outcome: &str, one: &Quarantine, now: Now) -> Entry {
    let mut entry = Entry::new(kind, outcome, now.steady);
    entry.path = Some(one.path.clone());
    entry.policies = one.what.policy().cloned().into_iter().collect();
    entry.workload = one.what.workload().cloned();
    entry
}

#[cfg(test)]
mod tests;
