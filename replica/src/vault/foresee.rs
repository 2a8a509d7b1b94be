//! What an outage would make of a request: the same decision as [`super::answer`], with the primary supposed dead from
//! this moment on, and without effect.

use shared::{
    coverage::Verdict,
    failover::{Cause, Outage, Phase},
    name::OutageId,
    time::Deadline,
};

use super::{
    Query,
    case::Case,
    decide,
    refusal::{Issuing, Refusal, Why},
};
use crate::{
    entropy::Entropy,
    view::{Authority, View},
};

/// What would be said, in a word, and why in more of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Foreseen {
    /// What kind of answer.
    pub verdict: Verdict,
    /// Why not, without values; empty where it would be served.
    pub reason: String,
}

/// Judges `query` as if the primary had died at `query.now`; in an outage, as it is.
pub fn foresee(view: &View, query: &Query<'_>, entropy: &dyn Entropy) -> Foreseen {
    let authority = view.authority();
    let supposed = supposed(&authority, query);
    let case = Case {
        view,
        authority: supposed.as_ref().unwrap_or(&authority),
        query,
        entropy,
    };
    match decide(&case) {
        Ok(_) => Foreseen::served(),
        Err(refusal) => Foreseen::of(&refusal),
    }
}

/// Authority in an outage that begins now; none where there is one already.
fn supposed(authority: &Authority, query: &Query<'_>) -> Option<Authority> {
    if authority.phase.outage().is_some() {
        return None;
    }
    let now = query.now;
    // As the machine bounds an outage: by what was verified least recently.
    let verified = authority.workloads.values().map(|known| known.verified_at);
    let from = verified.min().unwrap_or(now.steady).min(now.steady);
    let bound = from.plus(authority.settings.bounds.max_outage);
    let outage = Outage {
        id: OutageId::parse("supposed").ok()?,
        started_at: now.steady,
        cause: Cause::Operator("supposed".into()),
        bound: Deadline::at(bound, now),
        latched: false,
    };
    Some(Authority {
        phase: Phase::Holdover(outage),
        paused: false,
        ..Authority::clone(authority)
    })
}

impl Foreseen {
    /// It would be answered as the primary would.
    fn served() -> Self {
        Self {
            verdict: Verdict::Served,
            reason: String::new(),
        }
    }

    fn of(refusal: &Refusal) -> Self {
        let (verdict, reason) = match refusal {
            Refusal::Undecidable(why) => (verdict(why), why.to_string()),
            Refusal::Forbidden(forbidden) => (Verdict::Refused, forbidden.to_string()),
            Refusal::Unauthenticated | Refusal::BadToken => {
                (Verdict::Refused, "no token, or a dead one".into())
            }
            denied if denied.status() == 403 => {
                (Verdict::Refused, "the mirrored policies deny it".into())
            }
            // The primary's own words about the request itself: 400, 404, 405.
            _ => return Self::served(),
        };
        Self { verdict, reason }
    }
}

fn verdict(why: &Why) -> Verdict {
    match why {
        Why::Issuing(Issuing::Disabled) => Verdict::IssueDisabled,
        Why::PathNotMirrored => Verdict::NotMirrored,
        Why::TokenUnknown | Why::NoStandingToken(_) | Why::LeaseUnknown => Verdict::UnknownToken,
        Why::Write => Verdict::Write,
        Why::AuthorityTooOld(_)
        | Why::LeaseEnded
        | Why::LeaseNotHeld
        | Why::MirrorIncomplete(_)
        | Why::PrimaryNeverSeen
        | Why::TokenTooOld
        | Why::TooStale { .. } => Verdict::Stale,
        Why::AuthMethod
        | Why::BoundAddresses
        | Why::Form
        | Why::Header(_)
        | Why::LimitedUse
        | Why::Namespace
        | Why::NotServed
        | Why::Parameter(_)
        | Why::Root
        | Why::VersionNotMirrored(_) => Verdict::NotModelled,
        // What further features cannot decide is undecidable until it is listed above.
        _ => Verdict::Undecidable,
    }
}
