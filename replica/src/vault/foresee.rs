//! What an outage would make of a request: the same decision as [`super::answer`], with the primary supposed dead from
//! this moment on, and without effect.

use shared::coverage::Foretold;

use super::{Query, case::Case, decide, judge::suppose, refusal::Refusal};
use crate::{
    entropy::Entropy,
    view::{Authority, View},
};

/// What would be said, in a word, and why in more of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Foreseen {
    /// What kind of answer.
    pub verdict: Foretold,
    /// Why not, without values; empty where it would be served.
    pub reason: String,
}

/// Judges `query` as if the primary had died at `query.now`; in an outage, as it is.
pub fn foresee(view: &View, query: &Query<'_>, entropy: &dyn Entropy) -> Foreseen {
    let mut authority = Authority::clone(&view.authority());
    suppose(&mut authority, query.now);
    let case = Case {
        view,
        authority: &authority,
        query,
        entropy,
    };
    match decide(&case) {
        Ok(_) => Foreseen::served(),
        Err(refusal) => Foreseen::of(&refusal),
    }
}

impl Foreseen {
    /// It would be answered as the primary would.
    fn served() -> Self {
        Self {
            verdict: Foretold::Served,
            reason: String::new(),
        }
    }

    fn of(refusal: &Refusal) -> Self {
        let (verdict, reason) = match refusal {
            Refusal::Undecidable(why) => (why.class().verdict, why.to_string()),
            Refusal::Forbidden(forbidden) => (Foretold::Refused, forbidden.to_string()),
            Refusal::Unauthenticated | Refusal::BadToken => {
                (Foretold::Refused, "no token, or a dead one".into())
            }
            Refusal::TooManyGrants(workload) => (
                Foretold::Refused,
                format!("too many grants of workload {workload} are alive"),
            ),
            denied if denied.status() == 403 => {
                (Foretold::Refused, "the mirrored policies deny it".into())
            }
            // The primary's own words about the request itself: 400, 404, 405.
            _ => return Self::served(),
        };
        Self { verdict, reason }
    }
}
