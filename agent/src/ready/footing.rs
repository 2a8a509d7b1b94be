//! What decisions go by, and whether an outage that began now could: policies, mounts, identities.

use shared::{settings::Footing, span::Span, time::WallTime};

use super::ReadyFacts;

/// How many of those that were not verified in time are listed one by one.
pub(super) const FOOTINGS_SHOWN: usize = 20;

/// What is known of something that decisions go by.
#[derive(Clone, Debug)]
pub struct FootingFacts {
    /// What it is.
    pub what: Footing,
    /// When it was last verified; the epoch if never.
    pub verified_at: WallTime,
    /// Whether anything that is known here depends on it.
    pub used: bool,
}

/// What of policies, mounts and identities an outage that began now could not go by.
pub(super) fn assess(facts: &ReadyFacts, reasons: &mut Vec<String>, findings: &mut Vec<String>) {
    let (used, unused): (Vec<_>, Vec<_>) = facts
        .footings
        .iter()
        .filter(|footing| !footing.is_recent(facts))
        .partition(|footing| footing.used);
    for (old, told) in [(used, reasons), (unused, findings)] {
        let shown = old.iter().take(FOOTINGS_SHOWN);
        told.extend(shown.map(|footing| footing.reason(facts)));
        let more = old.len().saturating_sub(FOOTINGS_SHOWN);
        if more > 0 {
            told.push(format!(
                "{more} more policies or identities were not verified within failover.policy_max_age"
            ));
        }
    }
}

/// Whether an outage could decide about no path, or for no token.
pub(super) fn decide_nothing(facts: &ReadyFacts) -> bool {
    let of_all =
        |footing: &FootingFacts| matches!(footing.what, Footing::Mounts | Footing::Policies);
    let mut all = facts.footings.iter().filter(|footing| of_all(footing));
    all.any(|footing| !footing.is_recent(facts))
}

impl FootingFacts {
    fn is_recent(&self, facts: &ReadyFacts) -> bool {
        facts.bounds.is_recent(self.verified_at, facts.cutover())
    }

    fn reason(&self, facts: &ReadyFacts) -> String {
        let what = &self.what;
        let verified = match self.verified_at {
            WallTime::EPOCH => "never verified".to_owned(),
            at => {
                let age = facts.cutover().since(at).as_secs();
                let before = if facts.phase.is_outage() {
                    "before the outage"
                } else {
                    "ago"
                };
                format!("last verified {age} s {before}")
            }
        };
        let depends = match what {
            Footing::Identity(_) => "tokens of this entity get",
            Footing::Mounts => "every mirrored path gets",
            Footing::Policies => "every token gets",
            Footing::Policy(_) => "tokens that have it get",
        };
        let max = Span(facts.bounds.policy_max_age);
        format!(
            "{what}: {verified}, and failover.policy_max_age is {max}: {depends} 503 in an outage"
        )
    }
}
