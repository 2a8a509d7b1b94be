//! How much one user may ask: connections, requests a second, failed logins a minute. Zero means none.
//!
//! Over a limit is an answer of its own (429, 413), never a wait: nobody stalls anybody else.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use shared::time::BootTime;

use crate::config::LimitsConfig;

/// Users that are remembered without a connection; what they may ask has long refilled when they are forgotten.
const REMEMBERED: usize = 1024;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The counters of every user. Cheap to clone.
#[derive(Clone, Default)]
pub struct Limits(Arc<Mutex<Counters>>);

#[derive(Default)]
struct Counters {
    connections: u32,
    users: HashMap<u32, User>,
}

/// What one uid has used up.
#[derive(Default)]
struct User {
    connections: u32,
    requests: Bucket,
    login_failures: Bucket,
}

/// A connection that counts until it is dropped.
pub struct Counted {
    limits: Limits,
    uid: u32,
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
    /// Places among the requests that the primary has not answered.
    #[error(
        "too many requests of this user or workload are unanswered by the primary; this one was not sent"
    )]
    Unanswered,
}

impl Limits {
    /// Counts a connection in.
    ///
    /// # Errors
    /// If there are too many, of all or of this user.
    pub fn connect(
        &self,
        uid: u32,
        limits: &LimitsConfig,
        now: BootTime,
    ) -> Result<Counted, Exceeded> {
        let mut counters = self.0.lock();
        if counters.connections >= limits.connections {
            return Err(Exceeded::Connections);
        }
        let user = counters.user(uid, now);
        if user.connections >= limits.connections_per_uid {
            return Err(Exceeded::ConnectionsOfUser);
        }
        user.connections += 1;
        counters.connections += 1;
        Ok(Counted {
            limits: self.clone(),
            uid,
        })
    }

    /// Counts a request in.
    ///
    /// # Errors
    /// If this user sends too many.
    pub fn request(&self, uid: u32, limits: &LimitsConfig, now: BootTime) -> Result<(), Exceeded> {
        let mut counters = self.0.lock();
        let bucket = &mut counters.user(uid, now).requests;
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
    pub fn connections(&self) -> u32 {
        self.0.lock().connections
    }
}

impl Counters {
    fn user(&mut self, uid: u32, now: BootTime) -> &mut User {
        if self.users.len() >= REMEMBERED && !self.users.contains_key(&uid) {
            self.forget(now);
        }
        self.users.entry(uid).or_default()
    }

    fn login_failures(&mut self, uid: u32, limits: &LimitsConfig, now: BootTime) -> &mut Bucket {
        let bucket = &mut self.user(uid, now).login_failures;
        bucket.refill(limits.login_failures_per_minute_per_uid, MINUTE, now);
        bucket
    }

    /// Drops who has no connection and has been quiet for longer than any bucket takes to fill.
    fn forget(&mut self, now: BootTime) {
        self.users.retain(|_, user| {
            let quiet = now.since(user.requests.at.max(user.login_failures.at));
            user.connections > 0 || quiet < MINUTE
        });
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counters = self.limits.0.lock();
        counters.connections = counters.connections.saturating_sub(1);
        if let Some(user) = counters.users.get_mut(&self.uid) {
            user.connections = user.connections.saturating_sub(1);
        }
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
            request_size: 1024,
            login_failures_per_minute_per_uid: 2,
        }
    }

    #[test]
    fn connections_are_bounded_for_one_and_for_all_and_come_back() {
        let (counters, limits) = (Limits::default(), limits());
        let connect = |uid| counters.connect(uid, &limits, at(0));
        let (first, _second) = (connect(1).ok().unwrap(), connect(1).ok().unwrap());
        assert_eq!(connect(1).err(), Some(Exceeded::ConnectionsOfUser));
        let _third = connect(2).ok().unwrap();
        assert_eq!(connect(2).err(), Some(Exceeded::Connections));
        drop(first);
        assert_eq!(counters.connections(), 2);
        assert!(connect(1).is_ok());
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
        assert!(counters.connect(1, &none, at(99_999)).is_err());
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
