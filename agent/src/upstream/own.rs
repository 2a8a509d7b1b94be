//! Holdover's own token: got, kept renewed, succeeded by another before its end, and never thrown away because of a
//! transport error.
//!
//! [`keep`] is a task of its own. What it does next is decided by [`life::Life`], purely; what fails is tried again
//! after a growing pause, so that no failure makes a storm.

pub(crate) mod attempts;
mod error;
mod file;
pub(crate) mod life;
mod previous;
mod status;
mod storing;
pub(crate) mod unstored;

#[cfg(test)]
mod tests;

use std::time::Duration;

use shared::{
    backoff::{Backoff, LostAnswers},
    change::{Change, Credential, CredentialName},
    ledger::{Entry, EntryKind},
    name::Accessor,
    offboarding::{APART, CredentialAsked, CredentialTold},
    secret::SecretText,
    time::WallTime,
};

use self::{
    error::KeepError,
    file::{FILE_INTERVAL, TokenFile},
    life::{Life, Step},
    storing::Storing,
};
pub use self::{
    status::{OwnSnapshot, OwnStatus},
    unstored::UnstoredFacts,
};
use super::{
    Request, Said, Upstream, UpstreamError, login::LoggedIn, lookup::LookedUp, pace::Urgency,
};
use crate::{config::AuthMethod, file::Stamp};

/// However long there is nothing to do, it looks again after this long: clocks change.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What wants nothing but an answer is tried again no sooner than this after the last attempt.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// A second login is tried so much later than would do.
const MARGIN: Duration = Duration::from_millis(100);

/// A token that the store does not take is offered to it again after this. That costs nothing while the store mends itself.
const STORE_AGAIN: Duration = Duration::from_secs(5);

/// A login that was refused twice is tried again when its files change, or after this.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);

/// The same with AppRole. Five failures lock a role id for everyone (user lockout, on by default), and they are forgotten only
/// once none came for 15 minutes.
const REFUSED_PAUSE_APPROLE: Duration = Duration::from_secs(960);

impl Upstream {
    /// Keeps Holdover's own token until the daemon stops.
    pub async fn keep_own_token(self) {
        let mut keeper = Keeper::new(self);
        loop {
            let begun = keeper.upstream.own().begin_attempt();
            let rest = keeper.turn().await;
            keeper.upstream.own().end_attempt(begun);
            keeper.rest(rest).await;
        }
    }
}

struct Keeper {
    upstream: Upstream,
    /// What is known of the token in use; none until the primary was asked.
    life: Option<Life>,
    backoff: Backoff,
    /// How long it rests at least, whoever wakes it.
    least_pause: Duration,
    /// Logins whose answers were lost.
    lost: LostAnswers,
    /// Logins refused in a row with the same files, and when the last was.
    refusals: u32,
    refused_at: WallTime,
    /// How the files that the login is made from looked when they were last looked at; nothing before the first look.
    stamps: Vec<Stamp>,
    /// One of them hung then.
    hangs: bool,
    /// Where tokens come from a file.
    file: Option<TokenFile>,
    /// Whether a token is renewed only over connections with the certificate that it was got with.
    bound: bool,
    /// The token in use was got with another certificate than the files hold now.
    outdated: bool,
    /// What is being stored.
    storing: Option<Storing>,
}

impl Keeper {
    fn new(upstream: Upstream) -> Self {
        let method = &upstream.0.auth.method;
        let file = match method {
            AuthMethod::TokenFile { path } => Some(TokenFile {
                path: path.clone(),
                judged: None,
            }),
            _ => None,
        };
        let bound = matches!(method, AuthMethod::Cert { .. });
        Self {
            stamps: Vec::new(),
            hangs: false,
            bound,
            outdated: false,
            storing: None,
            upstream,
            life: None,
            backoff: Backoff::ATTEMPTS,
            least_pause: Duration::ZERO,
            lost: LostAnswers::default(),
            refusals: 0,
            refused_at: WallTime::EPOCH,
            file,
        }
    }

    /// Does what is due and says how long to rest.
    async fn turn(&mut self) -> Duration {
        if self.upstream.own().is_refused() {
            self.life = None;
        }
        self.look_at_files().await;
        match self.act().await {
            Ok(wait) => {
                self.backoff = Backoff::ATTEMPTS;
                self.upstream.own().succeeded(self.life.as_ref());
                wait.min(LONGEST_WAIT)
            }
            Err(error) => {
                let pause = match self.refusals {
                    // Two refusals with this between them are sure.
                    1 => APART + MARGIN,
                    _ => self.backoff.next(self.upstream.jitter()),
                };
                tracing::warn!(%error, ?pause, "Holdover's own token: trying again");
                let wants_answer = error.wants_answer();
                let refused = error.is_refusal();
                self.upstream
                    .own()
                    .failed(error.to_string(), refused, wants_answer);
                self.least_pause = match wants_answer {
                    true => LEAST_PAUSE,
                    false => Duration::ZERO,
                };
                pause
            }
        }
    }

    /// Rests until something may have changed.
    async fn rest(&mut self, pause: Duration) {
        let least = std::mem::take(&mut self.least_pause).min(pause);
        tokio::time::sleep(least).await;
        let pause = pause.saturating_sub(least);
        let woken = self.upstream.0.wake.notified();
        tokio::select! {
            _ = tokio::time::timeout(pause, woken) => {}
            () = self.files_changed() => {}
        }
    }

    async fn act(&mut self) -> Result<Duration, KeepError> {
        self.store_unstored().await;
        let rest = self.act_on_token().await?;
        // What was got just now may not be stored either.
        Ok(match self.upstream.unstored().own_times() {
            None => rest,
            Some(_) => rest.min(STORE_AGAIN),
        })
    }

    async fn act_on_token(&mut self) -> Result<Duration, KeepError> {
        self.adopt_file().await?;
        // What was taken away only a login gives back, whatever becomes of the token.
        let given_back = self.upstream.unstored().own_times().is_some();
        let is_offboarded =
            self.upstream.offboarded().is_some() && self.file.is_none() && !given_back;
        if is_offboarded || self.upstream.own_token().is_none() {
            self.log_in(false).await?;
        }
        self.succeed_outdated().await;
        let life = match self.life {
            Some(life) => life,
            None => self.learn().await?,
        };
        let can_log_in = self.file.is_none();
        let wait = match life.step(can_log_in, self.now()) {
            Step::Ask => {
                self.learn().await?;
                Duration::ZERO
            }
            Step::LogIn => {
                self.log_in(true).await?;
                Duration::ZERO
            }
            Step::Renew => {
                self.renew(life).await?;
                Duration::ZERO
            }
            Step::Wait(wait) => wait,
        };
        self.drop_previous().await;
        // A token that is due at once again is looked at with a pause all the same.
        Ok(wait.max(FILE_INTERVAL))
    }

    /// The certificate changed: a token for the new one, while the old token is still good. If that fails, the old one
    /// lives out its life, and its end is a login of its own.
    async fn succeed_outdated(&mut self) {
        if !std::mem::take(&mut self.outdated) || self.life.is_none() {
            return;
        }
        if let Err(error) = self.log_in(true).await {
            tracing::warn!(%error, "no token for the changed certificate yet: the one in use stays");
            self.outdated = matches!(&error, KeepError::Login(login) if !login.is_refusal());
        }
    }

    /// Asks the primary about the token in use. One that it refuses is given up for another.
    async fn learn(&mut self) -> Result<Life, KeepError> {
        let Some(token) = self.upstream.own_token() else {
            return Err(UpstreamError::NoCredential.into());
        };
        match self.upstream.lookup_own(&token).await {
            Ok(looked_up) => {
                let life = self.life_of(&looked_up);
                self.upstream.own().accepted();
                if self.file.is_some() {
                    self.store(self.given_back()).await?;
                }
                self.life = Some(life);
                Ok(life)
            }
            Err(error) if error.is_denial() => {
                self.upstream.own().failed(error.to_string(), true, false);
                self.life = None;
                self.log_in(false).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// After two refusals in a row.
    fn refused_pause(&self) -> Duration {
        match self.upstream.0.auth.method {
            AuthMethod::AppRole { .. } => REFUSED_PAUSE_APPROLE,
            _ => REFUSED_PAUSE,
        }
    }

    /// Logs in anew. The token in use becomes the previous one if it is still `good`.
    async fn log_in(&mut self, good: bool) -> Result<Life, KeepError> {
        let asked_at = self.now();
        let since = asked_at.since(self.refused_at);
        match self.refusals {
            0 => {}
            1 if since < APART => return Err(KeepError::OnceMore(self.upstream.login_path())),
            2.. if since < self.refused_pause() => {
                return Err(KeepError::Held(self.upstream.login_path()));
            }
            _ => {}
        }
        let new = self.ask_to_log_in(asked_at).await?;
        let life = Life::new(asked_at, new.ttl, new.renewable, self.upstream.jitter());
        let previous = self.held(CredentialName::Own).filter(|_| good);
        let LoggedIn {
            token, accessor, ..
        } = new;
        let own = credential(token, accessor, &life, asked_at);
        // Before it is stored, because whoever stores that the host is offboarded goes by this.
        let _ = self
            .upstream
            .tell_own(CredentialAsked::Login, CredentialTold::Accepted);
        self.keep_token(own, previous).await;
        tracing::info!(ttl = ?new.ttl, "logged in at the primary");
        self.outdated = false;
        self.upstream.own().accepted();
        self.refusals = 0;
        self.life = Some(life);
        Ok(life)
    }

    /// A login, unless the answers to such were lost lately: each may have spent a use of the credential.
    async fn ask_to_log_in(&mut self, asked_at: WallTime) -> Result<LoggedIn, KeepError> {
        let boot = self.upstream.local().clock.now().boot;
        let returns = self.upstream.own().returns();
        if self.lost.wait(returns, boot).is_some() {
            return Err(KeepError::Lost(self.upstream.login_path()));
        }
        if self.file.is_none() {
            self.upstream.own().logs_in_at(self.upstream.login_path());
        }
        match self.upstream.log_in().await {
            Some(Ok(new)) => {
                self.lost.came();
                Ok(new)
            }
            Some(Err(error)) => {
                match error.is_lost() {
                    true => self.lost.lost(returns, boot, self.upstream.jitter()),
                    false => self.lost.came(),
                }
                if error.is_refusal() {
                    self.refusals = self.refusals.saturating_add(1);
                    self.refused_at = asked_at;
                }
                Err(error.into())
            }
            None => {
                let file = self.file.as_ref();
                let path = file.map(|file| file.path.display().to_string());
                Err(KeepError::FileRefused(path.unwrap_or_default()))
            }
        }
    }

    /// What ends offboarding, if the host was offboarded: the primary accepts a credential again.
    fn given_back(&self) -> Vec<Change> {
        if self.upstream.offboarded().is_none() {
            return Vec::new();
        }
        tracing::warn!("the primary accepts a credential of Holdover's again: mirroring goes on");
        let entry = Entry::new(EntryKind::Offboarding, "ended", self.now());
        vec![Change::Offboarded(None), Change::Ledger(Box::new(entry))]
    }

    async fn renew(&mut self, life: Life) -> Result<(), KeepError> {
        let asked_at = self.now();
        let request = Request::fields("auth/token/renew-self", &[]).repeatable();
        let reply = match self.upstream.ask(&request, Urgency::Authority).await {
            // What the primary answers where the certificate is another than at the login.
            Err(UpstreamError::Undecided { .. }) if self.bound => {
                return self.log_in(true).await.map(drop);
            }
            replied => replied?,
        };
        let shown = match reply.said()? {
            Said::Shown(shown) => shown,
            Said::No(no) if no.is_bad_request() || no.is_denial() => {
                // Either it may not be renewed, or it is dead: a look-up tells which.
                let known = self.learn().await?;
                self.life = Some(known.not_renewable());
                return Ok(());
            }
            other => return Err(other.unfit().into()),
        };
        let ttl = Duration::from_secs(shown.auth()?.lease_duration);
        let renewed = life.renewed(asked_at, ttl, self.upstream.jitter());
        self.life = Some(renewed);
        if let Some(held) = self.held(CredentialName::Own) {
            let own = Credential {
                expires: renewed.ends(),
                ..held
            };
            let previous = self.upstream.unstored().get(&CredentialName::OwnPrevious);
            self.keep_token(own, previous).await;
        }
        Ok(())
    }

    async fn revoke_self(&self, token: &SecretText) -> Result<(), UpstreamError> {
        let request = Request::fields("auth/token/revoke-self", &[]).repeatable();
        self.upstream.turn(Urgency::Authority).await;
        let answered = self.upstream.send(&request, Some(token)).await?;
        answered.done()
    }

    fn held(&self, name: CredentialName) -> Option<Credential> {
        if let Some(held) = self.upstream.unstored().get(&name) {
            return Some(held);
        }
        let held = self.upstream.local().view.credential(&name)?;
        Some(Credential {
            token: self.upstream.open(&name)?,
            accessor: held.accessor.clone(),
            expires: held.expires,
            renewable: held.renewable,
            issued_at: held.issued_at,
        })
    }

    fn life_of(&self, looked_up: &LookedUp) -> Life {
        Life::looked_up(looked_up, self.upstream.jitter())
    }

    fn now(&self) -> WallTime {
        self.upstream.local().clock.now().steady
    }
}

fn credential(
    token: SecretText,
    accessor: Accessor,
    life: &Life,
    issued_at: WallTime,
) -> Credential {
    Credential {
        token,
        accessor,
        expires: life.ends(),
        renewable: life.is_renewable(),
        issued_at,
    }
}
