//! What stands against issuing on this host, found at a start and stored. [`Local::primary_seen`] lifts it.

use replica::sequencer::Lane;
use shared::{
    block::{BlockCause, IssuingBlock},
    change::Change,
    grant::RevokeCause,
};

use crate::{local::Local, reaper};

/// Finds what this start stands in the way of, before anybody is served, and stores it with what it ends.
///
/// It holds in memory when this returns. If it cannot be stored now, it is with the first mark of this boot: before that, the next
/// start finds it as this one did.
pub(super) fn find(local: &Local) {
    let since = local.clock.now().steady;
    let found = BlockCause::found(local.clock.boot_found()).iter();
    let mut changes: Vec<_> = found
        .map(|cause| {
            let cause = *cause;
            Change::Block(IssuingBlock { cause, since })
        })
        .collect();
    let stored = &local.view.authority().blocks;
    let is_clock = |change: &Change| matches!(change, Change::Block(block) if block.cause == BlockCause::ClockBehind);
    if stored.get(BlockCause::ClockBehind).is_some() || changes.iter().any(is_clock) {
        // Those of before, too: what was to end them may not have been stored.
        changes.extend(reaper::ends_of_replica_grants(local, RevokeCause::Clock));
    }
    local.commit_later(Lane::Revocation, changes);
    for block in local.view.authority().blocks.all() {
        tracing::warn!(since = %block.since, "issuing is blocked: {}", block.cause.text());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::{
        time::{BootId, Mark},
        workload::OnRecovery,
    };

    use super::*;
    use crate::samples::bench::Bench;

    const HOUR: Duration = Duration::from_secs(3600);

    /// The mark of another boot, at which the wall clock was so far ahead of now.
    fn of_another_boot(bench: &Bench, ahead: Duration) -> Change {
        let mark = bench.local.clock.mark();
        Change::Mark(Mark {
            wall: mark.wall.plus(ahead),
            boot_id: BootId([9; 16]),
            ..mark
        })
    }

    fn own_mark(bench: &Bench) -> Change {
        Change::Mark(bench.local.clock.mark())
    }

    /// A start after a boot at which the wall clock had been so far ahead.
    async fn rebooted(bench: Bench, ahead: Duration) -> Bench {
        bench.store(vec![of_another_boot(&bench, ahead)]).await;
        started(bench)
    }

    fn started(bench: Bench) -> Bench {
        let bench = bench.reopened();
        find(&bench.local);
        bench
    }

    fn standing(bench: &Bench) -> Vec<BlockCause> {
        let blocks = bench.local.view.authority().blocks.clone();
        blocks.all().map(|block| block.cause).collect()
    }

    /// The writer has gone through everything.
    async fn settled(bench: &Bench) {
        bench.store(vec![]).await;
    }

    #[tokio::test]
    async fn a_reboot_stands_over_every_further_start_until_the_primary_is_seen() {
        let bench = started(Bench::new(OnRecovery::Exchange));
        assert!(standing(&bench).is_empty(), "a first start is no reboot");
        let mut bench = rebooted(bench, Duration::ZERO).await;
        for _ in 0..2 {
            assert_eq!(standing(&bench), [BlockCause::Rebooted]);
            bench.store(vec![own_mark(&bench)]).await;
            bench = started(bench);
        }
        assert_eq!(standing(&bench), [BlockCause::Rebooted]);
        bench.local.primary_seen(false);
        settled(&bench).await;
        assert!(standing(&bench).is_empty());
        assert!(standing(&started(bench)).is_empty());
    }

    #[tokio::test]
    async fn a_clock_behind_stands_over_every_further_start_until_the_primary_is_seen_whatever_its_clock_says()
     {
        let bench = rebooted(Bench::new(OnRecovery::Exchange), HOUR).await;
        bench.store(vec![own_mark(&bench)]).await;
        let bench = started(bench);
        assert!(standing(&bench).contains(&BlockCause::ClockBehind));
        bench.local.primary_seen(false);
        settled(&bench).await;
        assert!(standing(&bench).is_empty());
        assert!(standing(&started(bench)).is_empty());
    }

    #[tokio::test]
    async fn grants_that_a_clock_behind_ends_stay_ended_even_where_only_the_block_was_stored() {
        let bench = Bench::new(OnRecovery::Exchange);
        let grant = bench.grant(1, 24 * HOUR);
        bench
            .store(vec![Change::Grant(Box::new(grant.clone()))])
            .await;
        let cause = BlockCause::ClockBehind;
        let since = bench.now().steady;
        bench
            .store(vec![Change::Block(IssuingBlock { cause, since })])
            .await;
        let bench = started(bench);
        assert!(bench.local.view.revocation(&grant.digest).is_some());
        assert!(
            bench
                .reopened()
                .local
                .view
                .revocation(&grant.digest)
                .is_some()
        );
    }
}
