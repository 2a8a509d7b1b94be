//! What a judgement needs that was not verified since the outage, asked of the primary: once for all who need it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use shared::{recovery::Need, time::BootTime};

use super::{flights::Flights, primary::Primary};
use crate::{clock::Clock, mirror::PassError, upstream::UpstreamError};

/// What the primary would not say is not asked again for this long, because a client that insists must not take what others
/// may ask for.
const REFUSED_FOR: Duration = Duration::from_millis(500);

/// As many refusals are remembered.
const REFUSALS: usize = 1024;

/// Who asks the primary.
pub(super) struct Inquiry<P> {
    clock: Arc<Clock>,
    primary: Arc<P>,
    under_way: Flights<Need, Asked>,
    /// What it would not say, and until when each of that is not asked again.
    refused: Mutex<HashMap<Need, (BootTime, Asked)>>,
}

/// What came of inquiry. What was told is in the replica.
#[derive(Clone)]
pub(super) enum Asked {
    /// It said how that stands.
    Told,
    /// It said no to Holdover, or not all: why.
    Refused(String),
    /// Holdover has no token of its own to ask with now.
    Tokenless(String),
    /// It asks for fewer requests.
    Later(String),
    /// It could not be reached.
    Unreachable(String),
    /// It could not be asked, or nothing could be made of what it said.
    Failed(String),
}

impl<P: Primary + 'static> Inquiry<P> {
    pub(super) fn new(clock: Arc<Clock>, primary: Arc<P>) -> Self {
        Self {
            clock,
            primary,
            under_way: Flights::default(),
            refused: Mutex::default(),
        }
    }

    /// Has the primary say how it stands with what is needed.
    pub(super) async fn ask(&self, need: Need) -> Asked {
        if let Some(before) = self.was_refused(&need) {
            return before;
        }
        let (primary, wanted) = (Arc::clone(&self.primary), need.clone());
        let asked = self.under_way.join(need.clone(), move || async move {
            let told = match wanted {
                Need::Login(basis) => primary.verify_login(&basis).await,
                Need::Policy(name) => primary.verify_policy(&name).await,
                Need::Token(digest) => primary.prove_token(&digest).await,
                Need::Workload(name) => primary.verify_workload(&name).await,
            };
            asked(told, primary.as_ref())
        });
        let cut_off = || Asked::Failed("the primary could not be asked".into());
        let asked = asked.await.unwrap_or_else(cut_off);
        if !matches!(asked, Asked::Told | Asked::Unreachable(_)) {
            self.refuse(need, asked.clone());
        }
        asked
    }

    fn was_refused(&self, need: &Need) -> Option<Asked> {
        let now = self.clock.now().boot;
        let refused = self.refused.lock();
        let (until, asked) = refused.get(need)?;
        (now < *until).then(|| asked.clone())
    }

    fn refuse(&self, need: Need, asked: Asked) {
        let now = self.clock.now().boot;
        let mut refused = self.refused.lock();
        if refused.len() >= REFUSALS {
            refused.retain(|_, (until, _)| now < *until);
        }
        if refused.len() < REFUSALS {
            refused.insert(need, (now.plus(REFUSED_FOR), asked));
        }
    }
}

/// As clients are told it.
pub(super) fn tokenless(error: &impl std::fmt::Display) -> String {
    format!("Holdover has no token of its own that the primary takes: {error}")
}

fn asked(told: Result<(), PassError>, primary: &impl Primary) -> Asked {
    match told {
        Ok(()) => Asked::Told,
        Err(PassError::Upstream(error)) if error.is_of_own_token() => {
            Asked::Tokenless(tokenless(&error))
        }
        Err(PassError::Upstream(error)) if !error.is_of_the_way() => match error {
            UpstreamError::Undecided { .. } => Asked::Failed(error.to_string()),
            UpstreamError::SlowDown { .. } => Asked::Later(error.to_string()),
            _ => {
                let lacking = primary.lacking(&error);
                Asked::Refused(lacking.unwrap_or_else(|| error.to_string()))
            }
        },
        Err(error @ PassError::Partial(_)) => Asked::Refused(error.to_string()),
        Err(error @ PassError::Upstream(_)) => Asked::Unreachable(error.to_string()),
        Err(error) => Asked::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use shared::{name::TokenDigest, workload::OnRecovery};

    use super::*;
    use crate::samples::{
        bench::Bench,
        scripted::{Said, Scripted},
    };

    #[tokio::test]
    async fn who_insists_does_not_have_the_primary_asked_each_time() {
        let bench = Bench::new(OnRecovery::Exchange);
        let primary = Arc::new(Scripted::new(&bench.local));
        let inquiry = Inquiry::new(Arc::clone(&bench.local.clock), Arc::clone(&primary));
        primary.says("workload", Said::Status(403));
        let (mut uses, until) = (0, bench.now().boot.plus(REFUSED_FOR));
        while bench.now().boot < until {
            let asked = inquiry.ask(Need::Workload(crate::samples::orders())).await;
            assert!(matches!(asked, Asked::Refused(_)));
            uses += 1;
        }
        assert!(uses > 2 && primary.times("workload") <= 2, "{uses}");
    }

    #[test]
    fn what_was_refused_is_remembered_of_a_bounded_number() {
        let bench = Bench::new(OnRecovery::Exchange);
        let primary = Arc::new(Scripted::new(&bench.local));
        let inquiry = Inquiry::new(Arc::clone(&bench.local.clock), primary);
        for nr in 0..u16::try_from(2 * REFUSALS).unwrap() {
            let mut digest = [3; 32];
            digest[..2].copy_from_slice(&nr.to_le_bytes());
            let refused = Asked::Refused("no".into());
            inquiry.refuse(Need::Token(TokenDigest(digest)), refused);
        }
        assert!(inquiry.refused.lock().len() <= REFUSALS);
    }
}
