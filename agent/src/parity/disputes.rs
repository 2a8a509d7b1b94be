//! Disagreements that are not counted yet: each waits until what it was decided from was verified after the primary's
//! answer, and is then judged again. Pure.
//!
//! The primary is not asked again, for nothing is sent that the client did not send. So the answer on record has to do,
//! and it does where nothing moved: the same inputs, verified before it and again after it, were the inputs at its
//! moment. Where they moved, the answer on record says nothing of what is there now, and the next request of the same
//! kind decides.

use std::time::Duration;

use replica::{
    parity::{Disagreement, Facts, Outcome},
    vault::judge::{Behind, Inputs},
};
use shared::time::{BootTime, WallTime};

use super::{Offer, compare::Wanted};

/// Disagreements that wait at once, of those in which the replica would have granted more and of the others: none of these
/// takes the place of one of those. What comes beyond is unsettled.
const MOST: usize = 512;

/// How soon one is looked at again, and how rarely at last.
const FIRST_LOOK: Duration = Duration::from_millis(200);
const LAST_LOOK: Duration = Duration::from_secs(5);

/// How soon the primary is asked about one.
const FIRST_ASK: Duration = Duration::from_millis(50);

/// How far apart the primary's clock and ours may be: a rule that ends within this of an answer may have ended there.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// One that could not be judged again within this stays unsettled: the cycles of a mirror that reads every secret
/// take minutes.
pub(super) const LONGEST: Duration = Duration::from_secs(900);

/// A disagreement as it is found.
pub(super) struct Dispute {
    pub(super) offer: Offer,
    /// What the primary said.
    pub(super) primary: Facts,
    /// What the replica would have.
    pub(super) judged: Facts,
    pub(super) kind: Disagreement,
    /// What the replica went by.
    pub(super) inputs: Inputs,
    /// What stands behind it.
    pub(super) behind: Behind,
}

/// One that waits.
pub(super) struct OpenDispute {
    pub(super) dispute: Dispute,
    /// How many requests it stands for.
    pub(super) times: u64,
    /// Whether its inputs have been asked for since.
    refreshed: bool,
    number: u64,
    began: BootTime,
    look_at: BootTime,
    pause: Duration,
}

/// What a second judgement makes of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SecondLook {
    /// They agree by now, or it is nothing that the replica serves.
    Gone(Outcome),
    /// It stands.
    Stands(Disagreement, Vec<&'static str>),
    /// What it was decided from changed: only another request can tell.
    Unsettled,
    /// Not everything was verified since.
    Waits,
}

/// All of them.
#[derive(Default)]
pub(super) struct Disputes {
    all: Vec<OpenDispute>,
    numbers: u64,
}

impl Disputes {
    /// Adds one; false if there is no room. One like it that waits already stands for both.
    pub(super) fn add(&mut self, dispute: Dispute, now: BootTime) -> bool {
        let mut open = self.all.iter_mut();
        if let Some(like) = open.find(|one| one.dispute.is_like(&dispute)) {
            like.times += 1;
            return true;
        }
        let grants_more = |one: &Dispute| one.kind == Disagreement::GrantsMore;
        let alike = self.all.iter().map(|one| grants_more(&one.dispute));
        if alike.filter(|it| *it == grants_more(&dispute)).count() >= MOST {
            return false;
        }
        self.numbers += 1;
        self.all.push(OpenDispute {
            dispute,
            times: 1,
            refreshed: false,
            number: self.numbers,
            began: now,
            look_at: now.plus(FIRST_LOOK),
            pause: FIRST_LOOK,
        });
        true
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Takes out what is due to be looked at.
    pub(super) fn due(&mut self, now: BootTime) -> Vec<OpenDispute> {
        let (due, later) = self.all.drain(..).partition(|one| one.look_at <= now);
        self.all = later;
        due
    }

    /// Puts one back for later; gives it back if it has waited for too long.
    pub(super) fn put_back(&mut self, mut one: OpenDispute, now: BootTime) -> Option<OpenDispute> {
        if now.since(one.began) > LONGEST {
            return Some(one);
        }
        one.pause = (one.pause * 2).min(LAST_LOOK);
        one.look_at = now.plus(one.pause);
        self.all.push(one);
        None
    }

    /// Takes all of them out.
    pub(super) fn clear(&mut self) -> u64 {
        self.all.drain(..).map(|one| one.times).sum()
    }

    /// What is to be asked about those of which nothing was asked yet, at most `most` of them, and their numbers. Where
    /// the replica would have granted more, its policies and roles are in doubt too; anything else waits for its cycle.
    ///
    /// None is asked about in the moment in which it was found, because what is verified then is not verified after it.
    pub(super) fn doubts(&self, most: usize, now: BootTime) -> Option<(Vec<u64>, Wanted)> {
        let (mut numbers, mut wanted) = (Vec::new(), Wanted::default());
        let due = |one: &&OpenDispute| !one.refreshed && now.since(one.began) >= FIRST_ASK;
        for one in self.all.iter().filter(due).take(most) {
            let dispute = &one.dispute;
            numbers.push(one.number);
            wanted.tokens.extend(&dispute.inputs.tokens);
            if dispute.kind == Disagreement::GrantsMore {
                wanted.authority = true;
                wanted
                    .entities
                    .extend(dispute.inputs.entities.iter().cloned());
            }
        }
        wanted.tokens.sort_unstable();
        wanted.tokens.dedup();
        wanted.entities.sort_unstable();
        wanted.entities.dedup();
        (!numbers.is_empty()).then_some((numbers, wanted))
    }

    /// These were asked about, and are looked at now.
    pub(super) fn refreshed(&mut self, numbers: &[u64], now: BootTime) {
        for one in &mut self.all {
            if numbers.contains(&one.number) {
                one.refreshed = true;
                one.look_at = now;
            }
        }
    }
}

impl Dispute {
    fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.behind == other.behind
            && self.offer.call == other.offer.call
            && self.primary == other.primary
            && self.judged == other.judged
    }

    /// Whether the primary may have decided without a rule that had ended by its clock, and not yet by ours.
    fn may_have_ended(&self) -> bool {
        let soon = self.offer.answered_at.wall.plus(CLOCKS_APART);
        let end = self.inputs.holds_until;
        self.kind == Disagreement::GrantsMore && end.is_some_and(|end| end <= soon)
    }
}

impl OpenDispute {
    /// What a judgement by `inputs`, which came to `outcome` and said `judged`, makes of it.
    pub(super) fn second_look(
        &self,
        outcome: Outcome,
        judged: &Facts,
        inputs: &Inputs,
    ) -> SecondLook {
        let first = &self.dispute;
        if !self.is_verified(inputs) {
            return SecondLook::Waits;
        }
        match outcome {
            Outcome::Disagree(kind, fields) => {
                // Of what is undecidable the body only says why.
                let same = kind == Disagreement::Undecidable || judged.are_as(&first.judged);
                if same && inputs.are_as(&first.inputs) && !first.may_have_ended() {
                    SecondLook::Stands(kind, fields)
                } else {
                    SecondLook::Unsettled
                }
            }
            gone => SecondLook::Gone(gone),
        }
    }

    /// Whether everything was verified after the primary's answer.
    fn is_verified(&self, inputs: &Inputs) -> bool {
        let since = self.dispute.offer.answered_at.steady;
        let after = |at: Option<WallTime>| at.is_some_and(|at| at > since);
        match self.dispute.kind {
            // What may have no time of its own was asked for at least.
            Disagreement::GrantsMore => self.refreshed && after(inputs.authority_at),
            _ => after(inputs.value_at) && after(inputs.authority_at),
        }
    }
}
