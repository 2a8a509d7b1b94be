//! How much one user may ask: connections, requests a second, failed logins a minute. Zero means none.
//!
//! Over a limit is an answer of its own (429, 413), never a wait: nobody stalls anybody else. Where connections have run out
//! because many are idle, one of those makes room ([`shared::share::seats`]): that costs its owner another connect.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use shared::{
    share::{
        Party, Total,
        amounts::Short,
        seats::{NoSeat, Places, Seat, Seats, Waiting},
    },
    time::BootTime,
};
use tokio::sync::Notify;

use crate::config::LimitsConfig;

/// Users whose requests are counted; of one more, whoever asked longest ago is forgotten.
pub(crate) const REMEMBERED: usize = 1024;

/// How often one that has to go is waited for before another one has to.
const WAITED_FOR: u32 = 4;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The counters of every user. Cheap to clone.
#[derive(Clone, Default)]
pub struct Limits(Arc<Mutex<Counters>>);

#[derive(Default)]
struct Counters {
    seats: Seats,
    /// How whoever has a seat is told that it is somebody else's.
    ends: HashMap<Seat, Arc<LostSeat>>,
    /// Those that were told to go at once, and have not yet.
    going: HashSet<Seat>,
    /// How often descriptors were wanted since the last of them was told.
    waited: u32,
    users: HashMap<u32, User>,
}

/// What one uid has used up.
#[derive(Default)]
struct User {
    requests: Bucket,
    login_failures: Bucket,
}

/// A connection's place, which counts until it is dropped or somebody else's.
pub struct HeldSeat {
    limits: Limits,
    seat: Seat,
    lost: Arc<LostSeat>,
    /// Whether something of an answer is still here.
    unflushed: AtomicBool,
}

/// How whoever has a seat is told that it is somebody else's.
#[derive(Default)]
struct LostSeat {
    told: Notify,
    /// Whether its descriptors are needed, too, at once.
    at_once: AtomicBool,
}

/// Which limit was reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Exceeded {
    /// `connections`.
    #[error("too many connections")]
    Connections,
    /// `connections_per_uid`.
    #[error("too many connections of this user")]
    ConnectionsOfUser,
    /// `requests_per_second_per_uid`.
    #[error("too many requests a second of this user")]
    Requests,
    /// `login_failures_per_minute_per_uid`.
    #[error("too many failed logins of this user")]
    LoginFailures,
    /// A share of `forwards`.
    #[error(
        "too many requests of this user or workload are unanswered by the primary; this one was not sent"
    )]
    Unanswered,
    /// `unfinished_bytes`, of all.
    #[error("too many bytes of unfinished requests")]
    Unfinished,
    /// A user's share of them.
    #[error("too many bytes of unfinished requests of this user")]
    UnfinishedOfUser,
    /// Answers that were not read yet.
    #[error("too many bytes of answers that this user has not read")]
    Unread,
}

impl Limits {
    /// Gives a connection a place, of which there are as many as `limits` says; `halved` if there is a workload entry.
    ///
    /// # Errors
    /// If there are too many, of all or of this user.
    pub fn connect(
        &self,
        party: &Party,
        limits: &LimitsConfig,
        halved: bool,
    ) -> Result<HeldSeat, Exceeded> {
        let places = Places {
            total: Total {
                all: limits.connections.into(),
                halved,
            },
            of_one: limits.connections_per_uid.into(),
        };
        let counters = &mut *self.0.lock();
        let given = counters.seats.take(party, places)?;
        given.instead_of.inspect(|seat| counters.tell(*seat, false));
        let lost = Arc::new(LostSeat::default());
        counters.ends.insert(given.seat, Arc::clone(&lost));
        Ok(HeldSeat {
            limits: self.clone(),
            seat: given.seat,
            lost,
            unflushed: AtomicBool::new(false),
        })
    }

    /// Has an idle connection end at once, because there is no descriptor for another one. Whether there is one. As long as one of
    /// before has not gone none other has to, for a while: on a busy machine all would otherwise, for what one of them has; and one that
    /// cannot go must not keep the others.
    pub(crate) fn end_one(&self) -> bool {
        let counters = &mut *self.0.lock();
        if !counters.going.is_empty() && counters.waited < WAITED_FOR {
            counters.waited += 1;
            return true;
        }
        counters.waited = 0;
        let freed = counters.seats.free_one();
        freed.inspect(|seat| counters.tell(*seat, true)).is_some()
    }

    /// Counts a request in.
    ///
    /// # Errors
    /// If this user sends too many.
    pub fn request(&self, uid: u32, limits: &LimitsConfig, now: BootTime) -> Result<(), Exceeded> {
        let mut counters = self.0.lock();
        let bucket = &mut counters.user(uid).requests;
        bucket.refill(limits.requests_per_second_per_uid, SECOND, now);
        bucket.spend().ok_or(Exceeded::Requests)
    }

    /// Whether this user may try to log in: whether a failure could still be afforded.
    ///
    /// # Errors
    /// If it could not.
    pub fn login(&self, uid: u32, limits: &LimitsConfig, now: BootTime) -> Result<(), Exceeded> {
        let mut counters = self.0.lock();
        let bucket = counters.login_failures(uid, limits, now);
        let is_affordable = bucket.left >= 1.0;
        is_affordable.then_some(()).ok_or(Exceeded::LoginFailures)
    }

    /// A login of this user was wrong.
    pub fn login_failed(&self, uid: u32, limits: &LimitsConfig, now: BootTime) {
        // Several may fail at once: what is owed beyond the limit is forgiven.
        let _ = self.0.lock().login_failures(uid, limits, now).spend();
    }

    /// Connections at this moment.
    pub fn connections(&self) -> u64 {
        self.0.lock().seats.taken()
    }

    /// Users whose requests are counted at this moment.
    pub(crate) fn users(&self) -> usize {
        self.0.lock().users.len()
    }
}

impl From<NoSeat> for Exceeded {
    fn from(full: NoSeat) -> Self {
        match full {
            NoSeat::All => Self::Connections,
            NoSeat::OfOne => Self::ConnectionsOfUser,
        }
    }
}

impl From<Short> for Exceeded {
    fn from(short: Short) -> Self {
        match short {
            Short::Of => Self::Unfinished,
            Short::OfShare => Self::UnfinishedOfUser,
        }
    }
}

impl Counters {
    /// Whoever had this seat has it no more, and goes `at_once` if descriptors have run out.
    fn tell(&mut self, seat: Seat, at_once: bool) {
        if let Some(lost) = self.ends.remove(&seat) {
            if at_once {
                self.going.insert(seat);
            }
            lost.at_once.store(at_once, Ordering::Release);
            lost.told.notify_one();
        }
    }

    fn user(&mut self, uid: u32) -> &mut User {
        if self.users.len() >= REMEMBERED && !self.users.contains_key(&uid) {
            let quietest = self.users.iter().min_by_key(|(_, user)| user.asked_at());
            if let Some(quietest) = quietest.map(|(uid, _)| *uid) {
                self.users.remove(&quietest);
            }
        }
        self.users.entry(uid).or_default()
    }

    fn login_failures(&mut self, uid: u32, limits: &LimitsConfig, now: BootTime) -> &mut Bucket {
        let bucket = &mut self.user(uid).login_failures;
        bucket.refill(limits.login_failures_per_minute_per_uid, MINUTE, now);
        bucket
    }
}

impl User {
    fn asked_at(&self) -> BootTime {
        self.requests.at.max(self.login_failures.at)
    }
}

impl HeldSeat {
    /// A request has begun to arrive: its sender is waited for.
    pub(crate) fn begun(&self) {
        let mut counters = self.limits.0.lock();
        counters.seats.waits(self.seat, Waiting::Begun);
    }

    /// A request is here, and its sender waits.
    ///
    /// # Errors
    /// If the place became somebody else's before: the connection is about to be closed.
    pub(crate) fn is_answered(&self) -> Result<(), Exceeded> {
        let mut counters = self.limits.0.lock();
        match counters.seats.is_answered(self.seat) {
            true => Ok(()),
            false => Err(Exceeded::Connections),
        }
    }

    /// An answer is on its way. One that streams is ended last.
    pub(crate) fn was_answered(&self, streams: bool) {
        self.unflushed.store(true, Ordering::Release);
        let waiting = match streams {
            true => Waiting::Begun,
            false => Waiting::Idle,
        };
        self.limits.0.lock().seats.waits(self.seat, waiting);
    }

    /// The kernel has all that there was to be sent so far.
    pub(crate) fn was_flushed(&self) {
        self.unflushed.store(false, Ordering::Release);
    }

    /// Whether something of an answer is still here.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.unflushed.load(Ordering::Acquire)
    }

    /// Waits until the place is somebody else's.
    pub(crate) async fn lost(&self) {
        self.lost.told.notified().await;
    }

    /// Whether what the connection has is needed at once for another one, an answer that is on its way notwithstanding.
    pub(crate) fn is_needed_at_once(&self) -> bool {
        self.lost.at_once.load(Ordering::Acquire)
    }
}

impl Drop for HeldSeat {
    fn drop(&mut self) {
        let mut counters = self.limits.0.lock();
        counters.seats.leave(self.seat);
        counters.ends.remove(&self.seat);
        counters.going.remove(&self.seat);
    }
}

/// A token bucket. One that was never refilled is full, whatever its capacity.
struct Bucket {
    left: f64,
    at: BootTime,
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            left: f64::INFINITY,
            at: BootTime::from_millis(0),
        }
    }
}

impl Bucket {
    /// Adds what came since the last time, up to `capacity`, which the configuration may have changed, and which comes
    /// within `period`.
    fn refill(&mut self, capacity: u32, period: Duration, now: BootTime) {
        let capacity = f64::from(capacity);
        let share = now.since(self.at).as_secs_f64() / period.as_secs_f64();
        self.left = (self.left + share * capacity).min(capacity);
        self.at = self.at.max(now);
    }

    fn spend(&mut self) -> Option<()> {
        if self.left < 1.0 {
            return None;
        }
        self.left -= 1.0;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime::from_millis(millis)
    }

    fn limits() -> LimitsConfig {
        LimitsConfig {
            connections: 3,
            connections_per_uid: 2,
            requests_per_second_per_uid: 5,
            login_failures_per_minute_per_uid: 2,
            ..crate::samples::limits()
        }
    }

    fn party(uid: u32) -> Party {
        Party {
            matched: false,
            uid,
            unit: None,
        }
    }

    #[test]
    fn connections_are_bounded_for_one_and_for_all_and_come_back() {
        let (counters, limits) = (Limits::default(), limits());
        let connect = |uid| counters.connect(&party(uid), &limits, false);
        let (first, second) = (connect(1).ok().unwrap(), connect(1).ok().unwrap());
        assert_eq!(connect(1).err(), Some(Exceeded::ConnectionsOfUser));
        let third = connect(2).ok().unwrap();
        for place in [&first, &second, &third] {
            place.is_answered().unwrap();
        }
        assert_eq!(connect(2).err(), Some(Exceeded::Connections));
        drop(first);
        assert_eq!(counters.connections(), 2);
        assert!(connect(1).is_ok());
        assert!(
            counters.0.lock().ends.len() <= 2,
            "whoever went is forgotten"
        );
    }

    #[tokio::test]
    async fn whoever_loses_its_place_is_told_even_before_it_listens() {
        let (counters, limits) = (Limits::default(), limits());
        let connect = |uid| counters.connect(&party(uid), &limits, false);
        let [idle, busy] = [1, 1].map(|uid| connect(uid).ok().unwrap());
        busy.is_answered().unwrap();
        assert!(counters.end_one());
        idle.lost().await;
        assert!(idle.is_needed_at_once(), "there is no descriptor");
        assert!(counters.end_one(), "it is about to go");
        idle.begun();
        drop(idle);
        assert!(!counters.end_one(), "what is being answered goes on");
        assert_eq!(counters.connections(), 1);
    }

    #[test]
    fn one_at_a_time_makes_room_for_a_descriptor() {
        let (counters, limits) = (Limits::default(), limits());
        let connect = |uid| counters.connect(&party(uid), &limits, false);
        let [first, second] = [1, 2].map(|uid| connect(uid).ok().unwrap());
        let gone = || [&first, &second].map(HeldSeat::is_needed_at_once);
        assert!(counters.end_one() && counters.end_one());
        assert_eq!(gone().into_iter().filter(|gone| *gone).count(), 1);
        let (goes, stays) = match first.is_needed_at_once() {
            true => (first, second),
            false => (second, first),
        };
        drop(goes);
        assert!(!stays.is_needed_at_once());
        assert!(counters.end_one() && stays.is_needed_at_once());
        drop(stays);
        // One that does not go is waited for, and no longer.
        let [one, other] = [1, 2].map(|uid| connect(uid).ok().unwrap());
        let told = || [&one, &other].map(HeldSeat::is_needed_at_once);
        assert!((0..=WAITED_FOR).all(|_| counters.end_one()));
        assert_eq!(told().into_iter().filter(|told| *told).count(), 1);
        assert!(counters.end_one());
        assert_eq!(told(), [true, true]);
    }

    #[tokio::test]
    async fn whose_place_another_one_has_may_end_what_it_is_at() {
        let (counters, limits) = (Limits::default(), limits());
        let connect = |uid| counters.connect(&party(uid), &limits, false);
        let [first, _second, _third] = [1, 1, 2].map(|uid| connect(uid).ok().unwrap());
        let _fourth = connect(3).ok().unwrap();
        first.lost().await;
        assert!(!first.is_needed_at_once());
    }

    #[test]
    fn one_users_flood_is_not_anothers() {
        let (counters, limits) = (Limits::default(), limits());
        let allowed = (0..100)
            .filter(|_| counters.request(1, &limits, at(0)).is_ok())
            .count();
        assert_eq!(allowed, 5);
        assert!(counters.request(2, &limits, at(0)).is_ok());
        assert!(counters.request(1, &limits, at(199)).is_err());
        assert!(counters.request(1, &limits, at(200)).is_ok());
    }

    #[test]
    fn zero_means_none() {
        let counters = Limits::default();
        let none = LimitsConfig {
            requests_per_second_per_uid: 0,
            connections_per_uid: 0,
            login_failures_per_minute_per_uid: 0,
            ..limits()
        };
        assert!(counters.request(1, &none, at(99_999)).is_err());
        assert!(counters.connect(&party(1), &none, false).is_err());
        assert!(counters.login(1, &none, at(99_999)).is_err());
    }

    #[test]
    fn failed_logins_are_forgiven_over_a_minute() {
        let (counters, limits) = (Limits::default(), limits());
        for _ in 0..5 {
            counters.login_failed(1, &limits, at(0));
        }
        assert_eq!(
            counters.login(1, &limits, at(29_000)),
            Err(Exceeded::LoginFailures)
        );
        assert!(counters.login(1, &limits, at(30_000)).is_ok());
        assert!(counters.login(2, &limits, at(0)).is_ok());
    }

    #[test]
    fn a_lowered_limit_binds_at_once() {
        let (counters, mut limits) = (Limits::default(), limits());
        assert!(counters.request(1, &limits, at(0)).is_ok());
        limits.requests_per_second_per_uid = 0;
        assert!(counters.request(1, &limits, at(0)).is_err());
    }

    #[test]
    fn users_that_went_are_forgotten() {
        let (counters, limits) = (Limits::default(), limits());
        for uid in 0..2000 {
            counters
                .request(uid, &limits, at(u64::from(uid) * 1000))
                .unwrap();
        }
        assert!(counters.0.lock().users.len() <= REMEMBERED);
    }
}
