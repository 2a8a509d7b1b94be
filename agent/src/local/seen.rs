//! What it ends that the primary was seen.

use replica::sequencer::Lane;
use shared::{
    block::{BlockCause, Lifter},
    change::{Change, Expects},
};

use super::Local;

impl Local {
    /// The trusted cluster accepted Holdover's own credential in an answer that is shown to be current; whether its clock agreed
    /// with ours, as far as that was asked. What was doubted until then is doubted no longer, once that is stored; what cannot be
    /// stored is lifted by a later answer.
    pub fn primary_seen(&self, clock_confirmed: bool) {
        let lifters = [
            Some(Lifter::PrimarySeen(self.clock.state())),
            clock_confirmed.then_some(Lifter::ClockConfirmed),
        ];
        let (lifted, rolled_back) = {
            let authority = self.view.authority();
            let lifters = lifters.into_iter().flatten();
            let lifted = lifters.flat_map(|lifter| authority.blocks.lifted_by(lifter));
            (lifted.collect::<Vec<_>>(), authority.rolled_back)
        };
        self.lift(lifted);
        if rolled_back {
            self.sequencer.clear_rollback(|result| {
                if let Err(error) = result {
                    tracing::warn!(%error, "that the primary was seen could not be stored");
                }
            });
        }
    }

    /// On disk before it is in memory, because it gives authority.
    fn lift(&self, causes: Vec<BlockCause>) {
        if causes.is_empty() {
            return;
        }
        let changes = causes.iter().copied().map(Change::BlockLifted).collect();
        self.sequencer
            .submit(Lane::Grant, changes, Expects::default(), move |result| {
                match result {
                    Ok(()) => tracing::info!(?causes, "the primary was seen: issuing is not blocked any more"),
                    Err(error) => {
                        tracing::warn!(%error, "that issuing is not blocked any more could not be stored: it stays blocked");
                    }
                }
            });
    }
}
