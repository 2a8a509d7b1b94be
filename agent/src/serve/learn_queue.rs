//! Look-ups that clients' requests make due, through one bounded queue: of tokens and secret ids that the primary accepted
//! and the replica does not know yet, each once; of those that it refused though they are known.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use replica::learn::Candidate;
use shared::{
    approle::ProofDigest,
    name::TokenDigest,
    secret::SecretText,
    share::{Party, Total},
    time::BootTime,
};
use tokio::sync::mpsc;

use super::recently::Recently;
use crate::{
    link::room::{BodyRoom, Rooms},
    status::fill::Fill,
};

/// Look-ups that wait: shared by user, so that nobody's tokens stay unknown because of others.
const WAITING: usize = 1024;

/// Tokens that are remembered as asked about.
const REMEMBERED: usize = 16 * 1024;

/// A token that was asked about is not asked about again for this long: some are never learned (root, limited use).
const AGAIN_AFTER: Duration = Duration::from_secs(300);

/// The same for a secret id: one of limited uses never becomes known, and is not asked about at each login.
const LOGIN_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Secret ids that are remembered as asked about.
const LOGINS_REMEMBERED: usize = 1024;

/// The same for what the primary refused. Whatever is held back by it, the mirror finds by itself within seconds.
const DOUBTED_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What is to be looked up with Holdover's own token.
pub enum LearnRequest {
    /// A token that is known, and was refused.
    Doubted(TokenDigest),
    /// A login that is known, and was refused: what stands for role id and secret id.
    DoubtedLogin(ProofDigest),
    /// A secret id.
    Login(Box<Candidate>),
    /// A token.
    Token {
        /// The token.
        token: SecretText,
        /// What stands for it.
        digest: TokenDigest,
        /// The user whose client brought it.
        uid: u32,
    },
}

/// By whom a look-up is made due, and whether those whom no entry matches have half of the room.
#[derive(Clone, Copy)]
pub(crate) struct DueBy<'a> {
    pub(crate) party: &'a Arc<Party>,
    pub(crate) halved: bool,
}

/// What waits, in its user's place.
type WaitingLearn = (LearnRequest, BodyRoom);

/// The other end of the queue.
pub struct LearnRequests(mpsc::Receiver<WaitingLearn>);

impl LearnRequests {
    /// The next; none once nobody can ask any more.
    pub(crate) async fn recv(&mut self) -> Option<LearnRequest> {
        self.0.recv().await.map(|(request, _)| request)
    }

    /// The next, if one waits.
    #[cfg(test)]
    pub(crate) fn try_recv(&mut self) -> Result<LearnRequest, mpsc::error::TryRecvError> {
        self.0.try_recv().map(|(request, _)| request)
    }
}

/// The serving side of the queue. Cheap to clone.
#[derive(Clone)]
pub struct LearnQueue {
    requests: mpsc::Sender<WaitingLearn>,
    places: Rooms,
    asked: Arc<Recently<TokenDigest>>,
    logins: Arc<Recently<ProofDigest>>,
    doubted: Arc<Recently<TokenDigest>>,
    doubted_logins: Arc<Recently<ProofDigest>>,
    unlearned: Arc<AtomicU64>,
}

impl LearnQueue {
    /// A queue, and the end that looks tokens up.
    pub fn new() -> (Self, LearnRequests) {
        let (requests, receiver) = mpsc::channel(WAITING);
        let queue = Self {
            requests,
            places: Rooms::default(),
            asked: Arc::new(Recently::new(AGAIN_AFTER, REMEMBERED)),
            logins: Arc::new(Recently::new(LOGIN_AGAIN_AFTER, LOGINS_REMEMBERED)),
            doubted: Arc::new(Recently::new(DOUBTED_AGAIN_AFTER, REMEMBERED)),
            doubted_logins: Arc::new(Recently::new(DOUBTED_AGAIN_AFTER, LOGINS_REMEMBERED)),
            unlearned: Arc::default(),
        };
        (queue, LearnRequests(receiver))
    }

    /// Whether there was room for `request` of this user's.
    fn send(&self, request: LearnRequest, by: DueBy<'_>) -> bool {
        let total = Total {
            all: WAITING as u64,
            halved: by.halved,
        };
        let place = self.places.place(by.party, total);
        place.is_some_and(|place| self.requests.try_send((request, place)).is_ok())
    }

    /// Asks for a look-up, unless that was done lately. Never waits: what finds no room is counted.
    pub(crate) fn ask(
        &self,
        token: &SecretText,
        digest: TokenDigest,
        by: DueBy<'_>,
        now: BootTime,
    ) {
        if self.asked.is_too_soon(&digest, now) {
            return;
        }
        let request = LearnRequest::Token {
            token: token.duplicate(),
            digest,
            uid: by.party.uid,
        };
        match self.send(request, by) {
            true => self.asked.used(digest, by.party.uid, now),
            false => {
                self.unlearned.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Asks for a secret id to be verified, unless that was done lately. What finds no room is asked about when it
    /// logs in again.
    pub(crate) fn ask_about_login(&self, candidate: Candidate, by: DueBy<'_>, now: BootTime) {
        let pair = candidate.pair;
        if self.logins.is_too_soon(&pair, now) {
            return;
        }
        let request = LearnRequest::Login(Box::new(candidate));
        if self.send(request, by) {
            self.logins.used(pair, by.party.uid, now);
        }
    }

    /// Asks about a token that was refused, whether or not it was asked about when it was accepted. What finds no room
    /// the mirror finds by itself: the doubt is stored.
    pub(crate) fn ask_about_doubted(&self, digest: TokenDigest, by: DueBy<'_>, now: BootTime) {
        let request = LearnRequest::Doubted(digest);
        if !self.doubted.is_too_soon(&digest, now) && self.send(request, by) {
            self.doubted.used(digest, by.party.uid, now);
        }
    }

    /// The same for a login that was refused.
    pub(crate) fn ask_about_doubted_login(&self, pair: ProofDigest, by: DueBy<'_>, now: BootTime) {
        let request = LearnRequest::DoubtedLogin(pair);
        if !self.doubted_logins.is_too_soon(&pair, now) && self.send(request, by) {
            self.doubted_logins.used(pair, by.party.uid, now);
        }
    }

    /// How full it is, with what is remembered of it.
    pub(crate) fn fills(&self) -> Vec<Fill> {
        let of = |of, (has, most)| Fill::entries(of, has, most);
        vec![
            Fill::count("lookups_waiting", self.places.taken(), WAITING as u64),
            of("tokens_asked_about", self.asked.filled()),
            of("tokens_doubted_lately", self.doubted.filled()),
            of("logins_asked_about", self.logins.filled()),
            of("logins_doubted_lately", self.doubted_logins.filled()),
        ]
    }

    /// Tokens that found no room so far: `tokens_unlearned`.
    pub fn unlearned(&self) -> u64 {
        self.unlearned.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Arc<Party> {
        Arc::new(Party {
            matched: false,
            uid,
            unit: None,
        })
    }

    fn by(party: &Arc<Party>) -> DueBy<'_> {
        DueBy {
            party,
            halved: false,
        }
    }

    fn ask(queue: &LearnQueue, number: u16, seconds: u64) {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&number.to_le_bytes());
        let token = SecretText::new(format!("s.{number}"));
        queue.ask(
            &token,
            TokenDigest(digest),
            by(&user(7)),
            BootTime::from_millis(seconds * 1000),
        );
    }

    #[test]
    fn a_token_is_asked_about_once_in_a_while() {
        let (queue, mut receiver) = LearnQueue::new();
        for seconds in [0, 1, 299] {
            ask(&queue, 1, seconds);
        }
        assert!(receiver.try_recv().is_ok());
        assert!(receiver.try_recv().is_err());
        ask(&queue, 1, 300);
        assert!(receiver.try_recv().is_ok());
    }

    #[test]
    fn a_refusal_is_asked_about_whatever_was_asked_before_and_then_once_in_a_while() {
        let (queue, mut receiver) = LearnQueue::new();
        ask(&queue, 1, 0);
        receiver.try_recv().unwrap();
        let mut digest = [0; 32];
        digest[0] = 1;
        let (token, pair) = (TokenDigest(digest), ProofDigest(digest));
        for seconds in [1, 5, 10, 11] {
            let now = BootTime::from_millis(seconds * 1000);
            queue.ask_about_doubted(token, by(&user(7)), now);
            queue.ask_about_doubted_login(pair, by(&user(7)), now);
        }
        for _ in 0..2 {
            let (first, second) = (receiver.try_recv(), receiver.try_recv());
            assert!(matches!(first, Ok(LearnRequest::Doubted(of)) if of == token));
            assert!(matches!(second, Ok(LearnRequest::DoubtedLogin(of)) if of == pair));
        }
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn a_refusal_that_finds_no_room_is_left_to_the_mirror() {
        let (queue, mut receiver) = LearnQueue::new();
        for number in 0..256 {
            ask(&queue, number, 0);
        }
        let now = BootTime::from_millis(0);
        queue.ask_about_doubted(TokenDigest([7; 32]), by(&user(7)), now);
        assert_eq!(queue.unlearned(), 0, "it is known");
        receiver.try_recv().unwrap();
        queue.ask_about_doubted(TokenDigest([7; 32]), by(&user(7)), now);
        let last = std::iter::from_fn(|| receiver.try_recv().ok()).last();
        assert!(matches!(last, Some(LearnRequest::Doubted(_))));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_may_ask_again() {
        let (queue, mut receiver) = LearnQueue::new();
        for number in 0..262 {
            ask(&queue, number, 0);
        }
        assert_eq!(queue.unlearned(), 6);
        receiver.try_recv().unwrap();
        ask(&queue, 261, 0);
        assert_eq!(queue.unlearned(), 6);
    }

    #[test]
    fn one_user_s_tokens_leave_room_for_another_s() {
        let (queue, _receiver) = LearnQueue::new();
        for number in 0..2000 {
            ask(&queue, number, 0);
        }
        let before = queue.unlearned();
        let (token, now) = (
            SecretText::new("s.other".to_owned()),
            BootTime::from_millis(0),
        );
        queue.ask(&token, TokenDigest([9; 32]), by(&user(8)), now);
        queue.ask_about_doubted(TokenDigest([9; 32]), by(&user(8)), now);
        assert_eq!(queue.unlearned(), before);
        assert!(queue.doubted.is_too_soon(&TokenDigest([9; 32]), now));
    }

    #[test]
    fn strangers_have_half_of_it_between_them_once_there_is_an_entry() {
        let waiting = |halved| {
            let (queue, mut receiver) = LearnQueue::new();
            for number in 0..u16::try_from(WAITING).unwrap() {
                let party = user(number.into());
                let (number, now) = (number.to_le_bytes(), BootTime::from_millis(0));
                let mut digest = [0; 32];
                digest[..2].copy_from_slice(&number);
                let by = DueBy {
                    party: &party,
                    halved,
                };
                queue.ask_about_doubted(TokenDigest(digest), by, now);
            }
            std::iter::from_fn(|| receiver.try_recv().ok()).count()
        };
        assert!(waiting(true) <= WAITING / 2);
        assert!(waiting(false) > WAITING / 2);
    }
}
