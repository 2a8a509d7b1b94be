//! What we ask of the primary with our own token, and how answers are told apart from outages.
//!
//! [`Upstream`] is the one handle: it knows the addresses, holds the pace, and opens Holdover's token for the length of
//! a request. What it learns goes to the replica as `Change`s; it decides nothing about clients.

pub mod error;
pub mod login;
pub mod lookup;
pub mod own;
pub mod pace;
pub mod policy;
pub mod probe;
pub mod reply;
pub mod request;
mod revoke;
pub mod rights;
mod send;
pub mod workload;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use replica::entropy::jitter;
use shared::{
    change::CredentialName,
    name::WorkloadName,
    offboarding::{CredentialAsked, CredentialSource, CredentialTold, Entitlement, Offboarded},
    secret::{SecretBytes, SecretText},
    time::WallTime,
};
use tokio::sync::{Notify, watch};

pub use error::UpstreamError;
pub use probe::ProbeOutcome;
pub use reply::{Decision, Envelope, Reply, Said, ShownReply};
pub use request::Request;

use self::{
    own::{OwnStatus, unstored::HeldInMemory},
    pace::{Pacer, Urgency},
    rights::Rights,
    send::Sender,
};
use crate::{
    config::{AuthMethod, Config},
    file,
    link::{Addresses, Link, tls::TlsError},
    local::Local,
};

/// How often a request that was answered 429 is sent again, each time after its turn came anew.
const TRIES_WHEN_SLOWED: u32 = 4;

/// The primary, as Holdover itself uses it. Cheap to clone.
#[derive(Clone)]
pub struct Upstream(Arc<UpstreamParts>);

struct UpstreamParts {
    sender: Sender,
    local: Local,
    pacer: Pacer,
    auth: crate::config::AuthConfig,
    probe_timeout: Duration,
    own: OwnStatus,
    unstored: HeldInMemory,
    /// Workloads whose authority was asked about, with whatever result, since the start: those of the configurations since.
    asked_about: watch::Sender<BTreeSet<WorkloadName>>,
    rights: Rights,
    wake: Notify,
    files: file::FileReader,
    host_jitter: f64,
}

impl Upstream {
    /// The primary of `config`, trusting the cluster that the replica knows. Nothing is sent yet.
    ///
    /// # Errors
    /// If there is no TLS.
    pub fn new(config: &Config, local: Local) -> Result<Self, TlsError> {
        let primary = &config.primary;
        let cluster = local.view.authority().cluster.clone();
        let pinned = cluster.map(|cluster| cluster.id.clone());
        let link = Link::new(primary, pinned, Arc::clone(&local.clock))?;
        let host_jitter = jitter(local.entropy.as_ref());
        Ok(Self(Arc::new(UpstreamParts {
            sender: Sender::new(link, &primary.namespace),
            local,
            pacer: Pacer::new(primary.requests_per_second),
            auth: primary.auth.clone(),
            probe_timeout: config.failover.probe_timeout,
            own: OwnStatus::new(match primary.auth.method {
                AuthMethod::TokenFile { .. } => CredentialSource::File,
                _ => CredentialSource::Login,
            }),
            unstored: HeldInMemory::default(),
            asked_about: watch::Sender::default(),
            rights: Rights::default(),
            wake: Notify::new(),
            files: file::FileReader::default(),
            host_jitter,
        })))
    }

    /// The way to the primary.
    pub fn link(&self) -> &Link {
        self.0.sender.link()
    }

    /// The book of addresses.
    pub fn addresses(&self) -> &Addresses {
        self.link().addresses()
    }

    /// How it stands with Holdover's own token.
    pub fn own(&self) -> &OwnStatus {
        &self.0.own
    }

    /// What Holdover's own token lacks.
    pub fn rights(&self) -> &Rights {
        &self.0.rights
    }

    /// Sends `request` with Holdover's own token when its turn has come. A 429 makes all of Holdover slower, and this
    /// request is sent again.
    ///
    /// # Errors
    /// [`UpstreamError`]; decisions are replies.
    pub async fn ask(&self, request: &Request, urgency: Urgency) -> Result<Reply, UpstreamError> {
        let mut slowed = 0;
        loop {
            self.0.pacer.admit(urgency).await;
            match self.ask_now(request).await {
                Err(UpstreamError::SlowDown { after }) => {
                    slowed += 1;
                    if slowed == TRIES_WHEN_SLOWED {
                        return Err(UpstreamError::SlowDown { after });
                    }
                }
                answered => return answered,
            }
        }
    }

    /// The same without waiting for a turn: for what a client waits for.
    ///
    /// # Errors
    /// [`UpstreamError`]; decisions are replies.
    pub async fn ask_now(&self, request: &Request) -> Result<Reply, UpstreamError> {
        if let Some(offboarded) = self.offboarded() {
            return Err(UpstreamError::Offboarded(offboarded.at));
        }
        let token = self.own_token().ok_or(UpstreamError::NoCredential)?;
        let reply = self.send(request, Some(&token)).await?;
        if reply.refuses_token() && self.0.own.note_refused() {
            self.wake_keeper();
        }
        Ok(reply)
    }

    /// Sends `request` with `token` or none, at once. Every request of Holdover's own goes through here, so that what is
    /// refused to its token for want of a rule is known.
    ///
    /// # Errors
    /// [`UpstreamError`]; decisions are replies.
    pub(crate) async fn send(
        &self,
        request: &Request,
        token: Option<&SecretText>,
    ) -> Result<Reply, UpstreamError> {
        let answered = self.0.sender.send(request, token).await;
        match &answered {
            Ok(reply) if token.is_some() => {
                let now = self.0.local.clock.now().boot;
                self.0.rights.note(request, reply, now);
            }
            Err(UpstreamError::SlowDown { after }) => self.0.pacer.slow_down(*after),
            _ => {}
        }
        answered
    }

    /// Since when the primary refuses Holdover's own credential, where that is sure.
    pub(crate) fn offboarded(&self) -> Option<Offboarded> {
        self.0.local.view.authority().offboarded
    }

    /// Takes in what the primary said of Holdover's own credential.
    fn tell_own(&self, asked: CredentialAsked, told: CredentialTold) -> Entitlement {
        let file = self.0.own.file_facts(self.own_end());
        let now = self.0.local.clock.now();
        self.0.own.tell(asked, told, file, now)
    }

    /// When Holdover's own token was to end, as far as the primary ever said.
    fn own_end(&self) -> Option<WallTime> {
        self.own_times().map(|(_, ends)| ends)
    }

    /// When Holdover's own token was got, and when it ends unless renewed.
    pub(crate) fn own_times(&self) -> Option<(WallTime, WallTime)> {
        self.0.unstored.own_times().or_else(|| {
            let held = self.0.local.view.credential(&CredentialName::Own)?;
            Some((held.issued_at, held.expires))
        })
    }

    /// What is held in memory alone.
    pub(crate) fn unstored(&self) -> &HeldInMemory {
        &self.0.unstored
    }

    /// Holdover's own token, opened for one request.
    pub(crate) fn own_token(&self) -> Option<SecretText> {
        self.open(&CredentialName::Own)
    }

    /// A token that Holdover presents, opened for one request.
    pub(crate) fn open(&self, name: &CredentialName) -> Option<SecretText> {
        if let Some(token) = self.0.unstored.token(name) {
            return Some(token);
        }
        let view = &self.0.local.view;
        let held = view.credential(name)?;
        match held.body.open(view.keys()) {
            Ok(token) => into_text(&token),
            Err(error) => {
                tracing::error!(%error, ?name, "a stored credential does not open");
                None
            }
        }
    }

    /// The replica, its writer and the clock.
    pub(crate) fn local(&self) -> &Local {
        &self.0.local
    }

    /// Waits for a turn of this urgency.
    pub(crate) async fn turn(&self, urgency: Urgency) {
        self.0.pacer.admit(urgency).await;
    }

    /// A random number in 0..1, another each time.
    pub(crate) fn jitter(&self) -> f64 {
        jitter(self.0.local.entropy.as_ref())
    }

    /// A random number in 0..1, the same until the daemon stops: for what is judged again and again.
    pub(crate) fn host_jitter(&self) -> f64 {
        self.0.host_jitter
    }

    /// Waits until Holdover has a token of its own that nothing speaks against, for as long as an attempt at one is due or under
    /// way. For what a client waits for.
    ///
    /// # Errors
    /// If there is none, and none is tried for at the moment.
    pub async fn until_token(&self) -> Result<(), UpstreamError> {
        let mut attempts = self.0.own.attempts();
        loop {
            // Before the token is looked at, because that is there before the attempt has ended.
            let is_due = attempts.borrow_and_update().is_due();
            if let Some(offboarded) = self.offboarded() {
                return Err(UpstreamError::Offboarded(offboarded.at));
            }
            let has_token = self.own_token().is_some();
            if has_token && !self.0.own.is_refused() {
                return Ok(());
            }
            if !is_due {
                // What speaks against a token may be past: the primary says so where it is not.
                return match has_token {
                    true => Ok(()),
                    false => Err(UpstreamError::NoCredential),
                };
            }
            if attempts.changed().await.is_err() {
                return Err(UpstreamError::NoCredential);
            }
        }
    }

    /// Waits until the workload has a standing token, or it was tried to get one and came to something else. For what a client
    /// waits for, once Holdover has a token of its own.
    pub async fn until_standing(&self, workload: &WorkloadName) {
        let name = CredentialName::Standing(workload.clone());
        let is_there = || self.0.local.view.credential(&name).is_some();
        let mut asked_about = self.0.asked_about.subscribe();
        let settled = asked_about.wait_for(|tried| is_there() || tried.contains(workload));
        let _ = settled.await;
    }

    /// The primary was asked about the workload, and for a standing token if there was none.
    pub(crate) fn asked_about(&self, workload: &WorkloadName) {
        let tried = &self.0.asked_about;
        tried.send_if_modified(|tried| tried.insert(workload.clone()));
    }

    /// The keeper of Holdover's token has to look at once.
    fn wake_keeper(&self) {
        self.0.own.ask_for_attempt();
        self.0.wake.notify_one();
    }

    /// What a probe saw may be what the keeper of Holdover's token waits for: a primary that is back takes logins, whatever it
    /// says of the token.
    fn note_probe(&self, outcome: &ProbeOutcome) {
        let refused = matches!(outcome, ProbeOutcome::Refused);
        let failed = matches!(outcome, ProbeOutcome::Failed(_) | ProbeOutcome::Foreign(_));
        if self.0.own.note_probe(!failed, refused) {
            self.wake_keeper();
        }
    }
}

fn into_text(bytes: &SecretBytes) -> Option<SecretText> {
    let text = std::str::from_utf8(bytes.expose()).ok()?;
    Some(SecretText::filled(|filled| filled.push_str(text)))
}
