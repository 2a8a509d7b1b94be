//! What stands against issuing on this host since it started: why, since when, and what lifts it.
//!
//! A block is stored, because what it is about does not pass by a second start: the second boot mark that a start finds is its
//! own. What is decided of one here is all that there is to decide.

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::{BootFound, ClockState, WallTime};

/// Why nothing is issued. In the order in which it is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockCause {
    /// The machine was rebooted while its wall clock was ahead of boot time: which of the two was wrong nobody can tell.
    ClockAhead,
    /// The machine booted with its wall clock behind the mark: how long grants have lived nobody can tell.
    ClockBehind,
    /// The machine was rebooted, and the primary was not seen since: whoever rebooted it may have changed what it boots.
    Rebooted,
}

/// What may end a block. Whoever sees such a thing says so, and does not ask what stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lifter {
    /// The primary's clock agreed with ours in an answer that counts.
    ClockConfirmed,
    /// The trusted cluster accepted Holdover's own credential, in an answer that is shown to be current; what the wall clock did
    /// then.
    PrimarySeen(ClockState),
}

/// One thing that stands against issuing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IssuingBlock {
    /// Why.
    pub cause: BlockCause,
    /// When a start found it, on the steady wall clock.
    pub since: WallTime,
}

/// All that stands against issuing: at most one block of each cause, the oldest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Blocks(BTreeMap<BlockCause, IssuingBlock>);

impl BlockCause {
    /// What a start finds by how it finds the machine booted.
    pub fn found(boot: BootFound) -> &'static [Self] {
        match boot {
            BootFound::Same => &[],
            BootFound::Another => &[Self::Rebooted],
            BootFound::AnotherAhead => &[Self::ClockAhead, Self::Rebooted],
            BootFound::AnotherBehind => &[Self::ClockBehind, Self::Rebooted],
        }
    }

    /// Whether this lifts it.
    ///
    /// A clock that booted behind need not be set right: it may stay off for good, and nothing would ever be issued. What it left in
    /// doubt, the replica's grants, was revoked when the block was found. What is issued from then on ends by boot time and by
    /// the mark with boot time since it, whichever is first, and neither asks that clock. One that is ahead is asked at every use:
    /// what would be issued may be past its end at once. So while it is ahead, only who vouches for it lifts that; once it is not,
    /// it is as good as any.
    pub fn is_lifted_by(self, lifter: Lifter) -> bool {
        match lifter {
            Lifter::ClockConfirmed => self == Self::ClockAhead,
            Lifter::PrimarySeen(ClockState::SteppedForward(_)) => self != Self::ClockAhead,
            Lifter::PrimarySeen(ClockState::Steady | ClockState::SteppedBack(_)) => true,
        }
    }

    /// It, and what lifts it, as clients and operators are told.
    pub fn text(self) -> &'static str {
        match self {
            Self::ClockAhead => {
                "the machine was rebooted while its clock was ahead of the replica's; nothing is issued until the primary is \
                 seen and its clock agrees with this machine's, or this machine's is ahead no longer"
            }
            Self::ClockBehind => {
                "the machine booted with its clock behind the replica's; nothing is issued until the primary has accepted \
                 Holdover's own credential"
            }
            Self::Rebooted => {
                "the machine was rebooted and the primary has not been seen since; issue_after_reboot = true would allow \
                 issuing all the same"
            }
        }
    }

    /// Whether the configuration says that it is to be disregarded. It stands all the same, should that be taken back.
    fn is_disregarded(self, issue_after_reboot: bool) -> bool {
        self == Self::Rebooted && issue_after_reboot
    }
}

impl Blocks {
    /// Adds a block. One that stands already for the same cause is older, and stays.
    pub fn add(&mut self, block: IssuingBlock) {
        self.0.entry(block.cause).or_insert(block);
    }

    /// Takes the block of this cause away.
    pub fn remove(&mut self, cause: BlockCause) {
        self.0.remove(&cause);
    }

    /// The block of this cause.
    pub fn get(&self, cause: BlockCause) -> Option<IssuingBlock> {
        self.0.get(&cause).copied()
    }

    /// Every block, whatever the configuration disregards.
    pub fn all(&self) -> impl Iterator<Item = IssuingBlock> {
        self.0.values().copied()
    }

    /// What nothing is issued for.
    pub fn standing(&self, issue_after_reboot: bool) -> impl Iterator<Item = IssuingBlock> {
        self.all()
            .filter(move |block| !block.cause.is_disregarded(issue_after_reboot))
    }

    /// What `lifter` lifts of it.
    pub fn lifted_by(&self, lifter: Lifter) -> impl Iterator<Item = BlockCause> {
        self.all()
            .map(|block| block.cause)
            .filter(move |cause| cause.is_lifted_by(lifter))
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};
    use core::time::Duration;

    use super::*;

    fn at(secs: i64) -> WallTime {
        WallTime::from_secs(secs)
    }

    fn blocks(boot: BootFound) -> Blocks {
        let mut blocks = Blocks::default();
        for cause in BlockCause::found(boot) {
            blocks.add(IssuingBlock {
                cause: *cause,
                since: at(10),
            });
        }
        blocks
    }

    fn causes(blocks: impl Iterator<Item = IssuingBlock>) -> Vec<BlockCause> {
        blocks.map(|block| block.cause).collect()
    }

    #[test]
    fn all_but_a_clock_that_is_ahead_still_is_lifted_once_the_primary_is_seen_whatever_its_clock_says()
     {
        use BlockCause::{ClockAhead, ClockBehind, Rebooted};
        assert!(causes(blocks(BootFound::Same).all()).is_empty());
        assert_eq!(causes(blocks(BootFound::Another).all()), [Rebooted]);
        for (found, of_clock, seen, confirmed) in [
            (
                BootFound::AnotherAhead,
                ClockAhead,
                vec![Rebooted],
                vec![ClockAhead],
            ),
            (
                BootFound::AnotherBehind,
                ClockBehind,
                vec![ClockBehind, Rebooted],
                vec![],
            ),
        ] {
            let both = blocks(found);
            assert_eq!(causes(both.all()), [of_clock, Rebooted]);
            let lifted = |lifter| both.lifted_by(lifter).collect::<Vec<_>>();
            let off = Duration::from_secs(3600);
            assert_eq!(
                lifted(Lifter::PrimarySeen(ClockState::SteppedForward(off))),
                seen
            );
            for clock in [ClockState::Steady, ClockState::SteppedBack(off)] {
                assert_eq!(lifted(Lifter::PrimarySeen(clock)), [of_clock, Rebooted]);
            }
            assert_eq!(lifted(Lifter::ClockConfirmed), confirmed);
            assert_eq!(causes(both.standing(true)), [of_clock]);
        }
    }

    #[test]
    fn the_configuration_disregards_the_reboot_alone_and_lifts_nothing() {
        use BlockCause::{ClockBehind, Rebooted};
        let both = blocks(BootFound::AnotherBehind);
        assert_eq!(causes(both.standing(true)), [ClockBehind]);
        assert_eq!(causes(both.standing(false)), [ClockBehind, Rebooted]);
    }

    #[test]
    fn a_block_is_as_old_as_when_it_was_first_found() {
        let mut found = blocks(BootFound::Another);
        let again = IssuingBlock {
            cause: BlockCause::Rebooted,
            since: at(20),
        };
        found.add(again);
        assert_eq!(found.get(again.cause).map(|one| one.since), Some(at(10)));
        found.remove(again.cause);
        found.add(again);
        assert_eq!(found.get(again.cause), Some(again));
    }

    #[test]
    fn every_block_says_what_lifts_it() {
        for found in [BootFound::AnotherAhead, BootFound::AnotherBehind] {
            for cause in BlockCause::found(found) {
                assert!(cause.text().contains("primary"), "{cause:?}");
            }
        }
    }
}
