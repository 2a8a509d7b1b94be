//! How it stands with Holdover's own token, for `status`, `ready` and the probes.

use parking_lot::Mutex;
use shared::{
    offboarding::{
        CredentialAsked, CredentialSource, CredentialTold, Entitlement, FileFacts, Refusals,
    },
    time::{Now, WallTime},
};
use tokio::sync::watch;

use super::{
    attempts::{self, Attempts},
    life::Life,
    unstored::UnstoredFacts,
};

/// Shared between the keeper, the probes, offboarding and `status`.
pub struct OwnStatus {
    state: Mutex<OwnState>,
    /// Whether the primary has taken the credential away, for who waits for that.
    taken_away: watch::Sender<bool>,
    /// The keeper's attempts at it, for who waits for a token.
    attempts: watch::Sender<Attempts>,
}

struct OwnState {
    snapshot: OwnSnapshot,
    refusals: Refusals,
    /// The token file holds another token than the one in use.
    file_holds_another: bool,
    /// Whether the last probe was answered: the first answered one after failures wakes the keeper.
    answered: bool,
    /// The last attempt at a token failed for want of an answer that counts: any answered probe is worth another.
    wants_answer: bool,
    /// A probe failed since the last answered one.
    is_away: bool,
    /// How often one was answered after that.
    returns: u64,
}

/// How it stands, at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnSnapshot {
    /// The primary refused it, or the login for it, and has accepted none since.
    pub refused: bool,
    /// Attempts that failed in a row.
    pub errors: u32,
    /// The last failure since the last success.
    pub last_error: Option<String>,
    /// The path of a login that was not answered yet.
    pub logging_in: Option<String>,
    /// What is wrong with the token file, while another token is in use.
    pub file_error: Option<String>,
    /// That it is in memory alone.
    pub unstored: Option<UnstoredFacts>,
    /// When it ends unless renewed, as far as it was asked.
    pub ends: Option<WallTime>,
    /// It nears an end that renewing cannot move, and no other can be had by logging in.
    pub ending: bool,
}

impl OwnStatus {
    /// Nothing is known yet of a token from there.
    pub(in crate::upstream) fn new(source: CredentialSource) -> Self {
        Self {
            state: Mutex::new(OwnState {
                snapshot: OwnSnapshot::default(),
                refusals: Refusals::new(source),
                file_holds_another: false,
                answered: false,
                wants_answer: false,
                is_away: false,
                returns: 0,
            }),
            taken_away: watch::Sender::new(false),
            attempts: watch::Sender::new(Attempts::START),
        }
    }

    /// The keeper's attempts at a token, and whenever one is asked for or ends.
    pub(in crate::upstream) fn attempts(&self) -> watch::Receiver<Attempts> {
        self.attempts.subscribe()
    }

    /// Returns once the first attempt at a token has ended, whatever came of it.
    pub async fn first_attempt(&self) {
        attempts::first_over(self.attempts()).await;
    }

    /// An attempt is due at once.
    pub(in crate::upstream) fn ask_for_attempt(&self) {
        self.attempts.send_modify(Attempts::ask);
    }

    /// An attempt begins.
    pub(super) fn begin_attempt(&self) -> u64 {
        let mut begun = 0;
        self.attempts
            .send_modify(|attempts| begun = attempts.begin());
        begun
    }

    /// It has ended.
    pub(super) fn end_attempt(&self, begun: u64) {
        self.attempts.send_modify(|attempts| attempts.end(begun));
    }

    /// How it stands now.
    pub fn snapshot(&self) -> OwnSnapshot {
        self.state.lock().snapshot.clone()
    }

    /// Whether the primary refused it and has accepted none since.
    pub fn is_refused(&self) -> bool {
        self.state.lock().snapshot.refused
    }

    /// Whether the primary has taken the credential away, as far as this process saw, and whenever that changes.
    pub fn taken_away(&self) -> watch::Receiver<bool> {
        self.taken_away.subscribe()
    }

    /// Takes in what the primary said of it.
    pub(in crate::upstream) fn tell(
        &self,
        asked: CredentialAsked,
        told: CredentialTold,
        file: FileFacts,
        now: Now,
    ) -> Entitlement {
        let verdict = self.state.lock().refusals.tell(asked, told, file, now);
        match verdict {
            Entitlement::Entitled => self.conclude(false),
            Entitlement::Offboarded => self.conclude(true),
            Entitlement::Open => {}
        }
        verdict
    }

    fn conclude(&self, taken_away: bool) {
        let changed = |before: &mut bool| std::mem::replace(before, taken_away) != taken_away;
        self.taken_away.send_if_modified(changed);
    }

    /// What is known of the file that it comes from.
    pub(in crate::upstream) fn file_facts(&self, known_end: Option<WallTime>) -> FileFacts {
        FileFacts {
            known_end,
            holds_another: self.state.lock().file_holds_another,
        }
    }

    /// A login is asked for.
    pub(super) fn logs_in_at(&self, path: String) {
        self.state.lock().snapshot.logging_in = Some(path);
    }

    pub(super) fn unstored(&self, facts: Option<UnstoredFacts>) {
        self.state.lock().snapshot.unstored = facts;
    }

    pub(super) fn accepted(&self) {
        self.state.lock().snapshot.refused = false;
    }

    /// What was found in the file: what is wrong with it, and whether its token is another than the one in use.
    pub(super) fn file(&self, error: Option<String>, holds_another: bool) {
        let state = &mut *self.state.lock();
        state.snapshot.file_error = error;
        state.file_holds_another = holds_another;
    }

    pub(super) fn succeeded(&self, life: Option<&Life>) {
        let state = &mut *self.state.lock();
        state.wants_answer = false;
        let snapshot = &mut state.snapshot;
        snapshot.errors = 0;
        snapshot.last_error = None;
        snapshot.logging_in = None;
        snapshot.ends = life.map(Life::ends);
        snapshot.ending = life.is_some_and(Life::is_worn);
    }

    /// An attempt failed; whether it was a refusal, or only wants an answer that counts.
    pub(super) fn failed(&self, error: String, refused: bool, wants_answer: bool) {
        let state = &mut *self.state.lock();
        state.wants_answer = wants_answer;
        let snapshot = &mut state.snapshot;
        snapshot.errors = snapshot.errors.saturating_add(1);
        snapshot.last_error = Some(error);
        snapshot.logging_in = None;
        snapshot.refused |= refused;
    }

    /// What a probe saw: whether the primary answered as one that serves, and whether it refused the token. Whether the keeper
    /// should look at once: it is woken by changes only, never by every probe, unless an answer is all that it waits for.
    pub(in crate::upstream) fn note_probe(&self, answered: bool, refused: bool) -> bool {
        let state = &mut *self.state.lock();
        let had_answered = std::mem::replace(&mut state.answered, answered);
        state.is_away |= !answered;
        if answered && std::mem::take(&mut state.is_away) {
            state.returns += 1;
        }
        let was_refused = state.snapshot.refused;
        state.snapshot.refused |= refused;
        let is_wanted = answered && state.wants_answer;
        is_wanted || (answered && !had_answered) || (refused && !was_refused)
    }

    /// How often the primary came back, as probes saw it.
    pub(crate) fn returns(&self) -> u64 {
        self.state.lock().returns
    }

    /// The primary refused it; whether that is new.
    pub(in crate::upstream) fn note_refused(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().snapshot.refused, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_wake_the_keeper_when_something_changed_and_not_again() {
        let own = OwnStatus::new(CredentialSource::Login);
        assert!(own.note_probe(true, false));
        assert!(!own.note_probe(true, false));
        assert!(!own.note_probe(false, false));
        assert!(own.note_probe(true, true));
        assert!(!own.note_probe(true, true));
        assert!(own.is_refused());
        own.accepted();
        assert!(own.note_probe(true, true));
    }

    #[test]
    fn a_token_that_was_refused_before_an_outage_is_looked_at_once_the_primary_is_back() {
        let own = OwnStatus::new(CredentialSource::Login);
        assert!(own.note_probe(true, true));
        assert!(!own.note_probe(false, false));
        assert!(own.note_probe(true, true), "nothing new is said of it");
        assert_eq!(own.returns(), 1);
    }

    #[test]
    fn the_primary_comes_back_only_from_where_it_was_away() {
        let own = OwnStatus::new(CredentialSource::Login);
        for (good, returns) in [
            (true, 0),
            (true, 0),
            (false, 0),
            (false, 0),
            (true, 1),
            (true, 1),
        ] {
            own.note_probe(good, false);
            assert_eq!(own.returns(), returns);
        }
    }

    #[test]
    fn what_was_taken_away_is_told_once_and_until_it_is_given_back() {
        let own = OwnStatus::new(CredentialSource::Login);
        let mut told = own.taken_away();
        let mut tell = |asked, what, secs| {
            let now = crate::samples::at(secs);
            let _ = own.tell(asked, what, FileFacts::default(), now);
            (told.has_changed().unwrap(), *told.borrow_and_update())
        };
        for secs in [0, 6] {
            tell(CredentialAsked::Token, CredentialTold::Refused, secs);
        }
        assert_eq!(
            tell(CredentialAsked::Login, CredentialTold::Refused, 0),
            (false, false)
        );
        assert_eq!(
            tell(CredentialAsked::Login, CredentialTold::Refused, 6),
            (true, true)
        );
        assert_eq!(
            tell(CredentialAsked::Login, CredentialTold::Refused, 12),
            (false, true)
        );
        assert_eq!(
            tell(CredentialAsked::Login, CredentialTold::Accepted, 13),
            (true, false)
        );
    }

    #[test]
    fn a_login_that_wants_an_answer_is_woken_by_any_probe_that_is_answered_and_a_refused_one_is_not()
     {
        let own = OwnStatus::new(CredentialSource::Login);
        assert!(own.note_probe(true, false));
        for (wants_answer, wakes) in [(true, true), (false, false)] {
            own.failed("of some kind".to_owned(), false, wants_answer);
            assert_eq!(own.note_probe(true, false), wakes);
            assert_eq!(own.note_probe(true, false), wakes);
            assert!(!own.note_probe(false, false));
            // The first after an outage wakes it whatever it waits for.
            assert!(own.note_probe(true, false));
        }
    }
}
