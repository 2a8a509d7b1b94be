//! The end of what a host was entitled to: the primary refuses Holdover's own credential. A decision, not an outage.
//!
//! [`Refusals`] tells it from all that looks like it: a token that merely ended, a login that cannot be reached, a role
//! id that others locked, one answer of a node that knew no better. [`Offboarded`] is what is stored once it is sure.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{BootTime, Now, WallTime};

/// Two refusals of one thing count as two if at least this lies between them.
pub const APART: Duration = Duration::from_secs(5);

/// Since when the host is entitled to nothing any more. Only a credential that the primary accepts ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Offboarded {
    /// When the refusal was confirmed, on the steady wall clock.
    pub at: WallTime,
}

impl Offboarded {
    /// When reads end, where authority may be this old. `0` is at once.
    pub fn reads_end(self, authority_max_age: Duration) -> WallTime {
        self.at.plus(authority_max_age)
    }

    /// Whether nothing is read any more.
    pub fn ends_reads(self, authority_max_age: Duration, now: Now) -> bool {
        now.wall >= self.reads_end(authority_max_age)
    }

    /// Whether what was read may be destroyed: a forward step of the clock that nothing confirmed is no reason.
    pub fn ends_reads_for_good(self, authority_max_age: Duration, now: Now) -> bool {
        now.steady >= self.reads_end(authority_max_age)
    }
}

/// What Holdover asks the primary about its own credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CredentialAsked {
    /// Its token, by the token itself.
    Token,
    /// A login of its own.
    Login,
}

/// What the primary said to that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CredentialTold {
    /// It accepts it.
    Accepted,
    /// It refuses it: as of now, in its own form, and for nothing that passes by itself.
    Refused,
    /// Nothing that counts: no answer, a failure, a limit, a lock-out, a node that is not current, a stranger's page.
    Nothing,
}

/// Where Holdover's own token comes from, as far as it says what takes the entitlement away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CredentialSource {
    /// A login: token and login must both be refused.
    Login,
    /// A file: its token must be refused before its known end.
    File,
}

/// What of a token file is known beside the answer of the primary. Logins have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileFacts {
    /// When the token in use was to end, if it was ever accepted.
    pub known_end: Option<WallTime>,
    /// Whether the file holds another token than the one in use.
    pub holds_another: bool,
}

/// What the refusals so far come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Entitlement {
    /// The primary accepts the credential: whatever was concluded before is over.
    Entitled,
    /// It has taken it away.
    Offboarded,
    /// Neither is sure.
    Open,
}

/// The refusals of Holdover's own credential since it was last accepted. Kept in memory alone: after a restart they come
/// again within seconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusals {
    source: CredentialSource,
    token: RefusedBetween,
    login: RefusedBetween,
}

/// The first and the last refusal of one thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct RefusedBetween(Option<(BootTime, BootTime)>);

impl Refusals {
    /// None yet.
    pub fn new(source: CredentialSource) -> Self {
        Self {
            source,
            token: RefusedBetween::default(),
            login: RefusedBetween::default(),
        }
    }

    /// Takes in what the primary said, and says what all of it comes to.
    pub fn tell(
        &mut self,
        asked: CredentialAsked,
        told: CredentialTold,
        file: FileFacts,
        now: Now,
    ) -> Entitlement {
        match told {
            CredentialTold::Accepted => self.accepted(asked),
            CredentialTold::Nothing => Entitlement::Open,
            CredentialTold::Refused if self.is_its_end(asked, file, now) => Entitlement::Open,
            CredentialTold::Refused => {
                match asked {
                    CredentialAsked::Token => self.token.note(now.boot),
                    CredentialAsked::Login => self.login.note(now.boot),
                }
                self.verdict()
            }
        }
    }

    /// What is accepted begins anew with what was refused before. But where tokens come from logins, only a login shows that a
    /// host may go on once it was offboarded.
    fn accepted(&mut self, asked: CredentialAsked) -> Entitlement {
        *self = Self::new(self.source);
        match asked == CredentialAsked::Login || self.source == CredentialSource::File {
            true => Entitlement::Entitled,
            false => Entitlement::Open,
        }
    }

    /// Whether a refused token of a file merely ended, or was never more than a text in a file, or is to be followed by
    /// another that is there already.
    fn is_its_end(&self, asked: CredentialAsked, file: FileFacts, now: Now) -> bool {
        let ended = file.known_end.is_none_or(|end| now.wall >= end);
        self.source == CredentialSource::File
            && asked == CredentialAsked::Token
            && (ended || file.holds_another)
    }

    fn verdict(&self) -> Entitlement {
        let sure = match self.source {
            CredentialSource::File => self.token.is_sure(),
            CredentialSource::Login => {
                // A login that was refused before the token was is the story of another time.
                let since = self.token.0.map(|(first, _)| first);
                let later = self.login.0.is_some_and(|(_, last)| Some(last) >= since);
                self.token.is_sure() && self.login.is_sure() && later
            }
        };
        match sure {
            true => Entitlement::Offboarded,
            false => Entitlement::Open,
        }
    }
}

impl RefusedBetween {
    fn note(&mut self, at: BootTime) {
        let first = self.0.map_or(at, |(first, _)| first);
        self.0 = Some((first, at));
    }

    fn is_sure(&self) -> bool {
        self.0
            .is_some_and(|(first, last)| last.since(first) >= APART)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::samples;

    fn told(
        refusals: &mut Refusals,
        asked: CredentialAsked,
        told: CredentialTold,
        secs: i64,
    ) -> Entitlement {
        refusals.tell(asked, told, FileFacts::default(), samples::now(secs))
    }

    #[test]
    fn token_and_login_refused_twice_five_seconds_apart_is_offboarding() {
        let mut refusals = Refusals::new(CredentialSource::Login);
        for secs in [0, 4] {
            for asked in [CredentialAsked::Token, CredentialAsked::Login] {
                let verdict = told(&mut refusals, asked, CredentialTold::Refused, secs);
                assert_eq!(verdict, Entitlement::Open, "{secs} {asked:?}");
            }
        }
        let verdict = told(
            &mut refusals,
            CredentialAsked::Token,
            CredentialTold::Refused,
            5,
        );
        assert_eq!(
            verdict,
            Entitlement::Open,
            "the login was refused within four seconds"
        );
        let verdict = told(
            &mut refusals,
            CredentialAsked::Login,
            CredentialTold::Refused,
            5,
        );
        assert_eq!(verdict, Entitlement::Offboarded);
    }

    #[test]
    fn a_login_that_gets_no_answer_never_offboards_however_long_the_token_is_refused() {
        let mut refusals = Refusals::new(CredentialSource::Login);
        for secs in 0..10_000 {
            let token = told(
                &mut refusals,
                CredentialAsked::Token,
                CredentialTold::Refused,
                secs,
            );
            let login = told(
                &mut refusals,
                CredentialAsked::Login,
                CredentialTold::Nothing,
                secs,
            );
            assert_eq!((token, login), (Entitlement::Open, Entitlement::Open));
        }
    }

    #[test]
    fn a_login_lifts_and_a_token_that_came_from_one_does_not() {
        let mut refusals = Refusals::new(CredentialSource::Login);
        let verdict = told(
            &mut refusals,
            CredentialAsked::Token,
            CredentialTold::Accepted,
            0,
        );
        assert_eq!(verdict, Entitlement::Open);
        let verdict = told(
            &mut refusals,
            CredentialAsked::Login,
            CredentialTold::Accepted,
            0,
        );
        assert_eq!(verdict, Entitlement::Entitled);
        let mut file = Refusals::new(CredentialSource::File);
        let verdict = told(
            &mut file,
            CredentialAsked::Token,
            CredentialTold::Accepted,
            0,
        );
        assert_eq!(verdict, Entitlement::Entitled);
    }

    #[test]
    fn a_files_token_counts_before_its_end_and_without_another_in_the_file() {
        let file = |known_end, holds_another| FileFacts {
            known_end,
            holds_another,
        };
        let end = Some(samples::now(100).wall);
        for (facts, verdict) in [
            (file(end, false), Entitlement::Offboarded),
            (file(end, true), Entitlement::Open),
            (file(None, false), Entitlement::Open),
            (file(Some(samples::now(5).wall), false), Entitlement::Open),
        ] {
            let mut refusals = Refusals::new(CredentialSource::File);
            let mut tell = |secs| {
                refusals.tell(
                    CredentialAsked::Token,
                    CredentialTold::Refused,
                    facts,
                    samples::now(secs),
                )
            };
            let _ = tell(0);
            assert_eq!(tell(5), verdict, "{facts:?}");
        }
    }

    #[test]
    fn reads_end_after_the_bound_and_a_step_of_the_clock_destroys_nothing() {
        let offboarded = Offboarded {
            at: samples::now(100).wall,
        };
        let max = Duration::from_secs(10);
        assert!(!offboarded.ends_reads(max, samples::now(109)));
        assert!(offboarded.ends_reads(max, samples::now(110)));
        assert!(offboarded.ends_reads(Duration::ZERO, samples::now(100)));
        let stepped_forward = Now {
            wall: samples::now(110).wall,
            ..samples::now(100)
        };
        assert!(offboarded.ends_reads(max, stepped_forward));
        assert!(!offboarded.ends_reads_for_good(max, stepped_forward));
        assert!(offboarded.ends_reads_for_good(max, samples::now(110)));
    }

    fn any_told() -> impl Strategy<Value = (bool, u8, i64)> {
        (any::<bool>(), 0u8..3, 0i64..4)
    }

    proptest! {
        /// Whatever is said in whatever order: it is concluded only where each of the two was refused twice, five seconds
        /// apart, and a login was not accepted since, nor the token between its two refusals.
        #[test]
        fn nothing_is_concluded_from_less(events in proptest::collection::vec(any_told(), 1..60)) {
            let mut refusals = Refusals::new(CredentialSource::Login);
            let mut refused: [Vec<i64>; 2] = [Vec::new(), Vec::new()];
            let mut secs = 0;
            for (of_token, what, later) in events {
                secs += later;
                let asked = if of_token { CredentialAsked::Token } else { CredentialAsked::Login };
                let said = [CredentialTold::Accepted, CredentialTold::Refused, CredentialTold::Nothing][usize::from(what)];
                let verdict = told(&mut refusals, asked, said, secs);
                match (asked, said) {
                    (_, CredentialTold::Accepted) => refused = Default::default(),
                    (_, CredentialTold::Refused) => refused[usize::from(!of_token)].push(secs),
                    (_, CredentialTold::Nothing) => {}
                }
                let apart = |all: &Vec<i64>| {
                    all.first().zip(all.last()).is_some_and(|(first, last)| last - first >= 5)
                };
                let later = refused[1].last() >= refused[0].first();
                let sure = said == CredentialTold::Refused && refused.iter().all(apart) && later;
                prop_assert_eq!(verdict == Entitlement::Offboarded, sure);
            }
        }
    }
}
