//! A primary for tests that says what it is told to say, and remembers what it was asked.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use replica::sequencer::Lane;
use shared::{
    approle::{AppRole, Basis, SecretId},
    change::{Change, Credential, Expects, QueuedRevocation, RevocationTarget},
    grant::{Revocation, RevokeCause},
    identity::Identity,
    name::{Accessor, PolicyName, TokenDigest, WorkloadName},
    recovery::Wanted,
    secret::SecretText,
};
use tokio::sync::Notify;

use super::bench;
use crate::{
    link::Unavailable,
    local::{Local, Pending},
    mirror::PassError,
    recovery::primary::{Contact, Primary, ProveError},
    upstream::{Decision, UpstreamError, workload::MintError},
};

/// What the primary says to one kind of question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    /// What was asked for stands, or is done.
    Yes,
    /// What was asked about is gone.
    Gone,
    /// This status, and nothing about what was asked.
    Status(u16),
    /// That it does not take Holdover's own token.
    RefusesToken,
    /// To wait for so long.
    Wait(Duration),
    /// Nothing: the request is lost.
    Lost,
    /// Nothing, ever.
    Hangs,
    /// Yes, once the test opens the gate.
    AtTheGate,
}

/// Something that happens while a token is minted.
type Meanwhile = Box<dyn FnOnce(Local) -> Pending<'static, ()> + Send>;

/// The primary. It stores what it verifies in the replica, as the mirror does.
pub(crate) struct Scripted {
    local: Local,
    says: Mutex<BTreeMap<&'static str, Said>>,
    asked: Mutex<Vec<&'static str>>,
    /// From this question on it is gone.
    dies_at: Option<usize>,
    proves: Mutex<Result<Contact, ProveError>>,
    meanwhile: Mutex<Option<Meanwhile>>,
    minted: Mutex<Vec<Wanted>>,
    revoked: Mutex<Vec<RevocationTarget>>,
    tokens: Mutex<Vec<TokenDigest>>,
    pub(crate) gate: Notify,
}

impl Scripted {
    /// One that says yes to everything.
    pub(crate) fn new(local: &Local) -> Self {
        Self {
            local: local.clone(),
            says: Mutex::default(),
            asked: Mutex::default(),
            dies_at: None,
            proves: Mutex::new(Ok(Contact::Whole)),
            meanwhile: Mutex::default(),
            minted: Mutex::default(),
            revoked: Mutex::default(),
            tokens: Mutex::default(),
            gate: Notify::new(),
        }
    }

    /// One that is gone from this question on.
    pub(crate) fn dying_at(local: &Local, question: usize) -> Self {
        Self {
            dies_at: Some(question),
            ..Self::new(local)
        }
    }

    /// It says this to questions of this kind from here on.
    pub(crate) fn says(&self, to: &'static str, said: Said) {
        self.says.lock().unwrap().insert(to, said);
    }

    /// It ends the first contact like this.
    pub(crate) fn proves(&self, proves: Result<Contact, ProveError>) {
        *self.proves.lock().unwrap() = proves;
    }

    /// This happens while the next token is minted.
    pub(crate) fn meanwhile<F>(&self, happens: impl FnOnce(Local) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let happens: Meanwhile = Box::new(move |local| Box::pin(happens(local)));
        *self.meanwhile.lock().unwrap() = Some(happens);
    }

    /// What it was asked, in this order.
    pub(crate) fn questions(&self) -> Vec<&'static str> {
        self.asked.lock().unwrap().clone()
    }

    /// How often it was asked this.
    pub(crate) fn times(&self, question: &str) -> usize {
        let asked = self.questions();
        asked.iter().filter(|asked| **asked == question).count()
    }

    /// What it was asked to mint.
    pub(crate) fn minted(&self) -> Vec<Wanted> {
        self.minted.lock().unwrap().clone()
    }

    /// What it was told to revoke.
    pub(crate) fn revoked(&self) -> Vec<RevocationTarget> {
        self.revoked.lock().unwrap().clone()
    }

    /// The tokens that it was asked about.
    pub(crate) fn tokens(&self) -> Vec<TokenDigest> {
        self.tokens.lock().unwrap().clone()
    }

    /// Whether what was asked about stands.
    async fn answer(&self, question: &'static str) -> Result<bool, UpstreamError> {
        let nr = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(question);
            asked.len() - 1
        };
        if self.dies_at.is_some_and(|at| nr >= at) {
            return Err(Unavailable::Timeout.into());
        }
        let said = self.says.lock().unwrap().get(question).copied();
        match said.unwrap_or(Said::Yes) {
            Said::Yes => Ok(true),
            Said::Gone => Ok(false),
            Said::Status(status) => Err(of_status(status)),
            Said::RefusesToken => {
                let decision = Decision::said(403, "permission denied");
                Err(UpstreamError::Decision(decision))
            }
            Said::Wait(after) => Err(UpstreamError::SlowDown { after: Some(after) }),
            Said::Lost => Err(UpstreamError::Unknown(Unavailable::Timeout)),
            Said::Hangs => std::future::pending().await,
            Said::AtTheGate => {
                self.gate.notified().await;
                Ok(true)
            }
        }
    }

    async fn store(&self, changes: Vec<Change>) {
        let stored = self.local.commit(Lane::Mirror, changes, Expects::default());
        stored.await.unwrap();
    }

    /// What is known of an AppRole login, verified now.
    fn verified(&self, basis: &Basis) -> Vec<Change> {
        let (authority, now) = (self.local.view.authority(), self.local.clock.now());
        let role = AppRole {
            verified_at: now.steady,
            ..AppRole::clone(&authority.approles[&basis.role])
        };
        let proof = SecretId {
            verified_at: now.steady,
            ..SecretId::clone(&authority.secret_ids[&basis.secret_id])
        };
        let mut changes = Vec::new();
        if let Some(entity) = &proof.entity {
            let known = Identity::clone(&authority.identities[entity].identity);
            changes.push(Change::Identity(
                entity.clone(),
                Box::new(known),
                now.steady,
            ));
        }
        changes.push(Change::AppRole(Box::new(role)));
        changes.push(Change::SecretId(Box::new(proof)));
        changes
    }
}

impl Primary for Scripted {
    async fn prove(&self) -> Result<Contact, ProveError> {
        match self.answer("prove").await {
            Err(UpstreamError::Unavailable(why) | UpstreamError::Unknown(why)) => Err(why.into()),
            _ => self.proves.lock().unwrap().clone(),
        }
    }

    async fn until_token(&self) {
        let _ = self.answer("own").await;
    }

    async fn revoke(&self, queued: &QueuedRevocation) -> Result<(), UpstreamError> {
        self.revoked.lock().unwrap().push(queued.target.clone());
        self.answer("revoke").await.map(|_| ())
    }

    async fn says_dead(&self, _target: &RevocationTarget) -> bool {
        self.says.lock().unwrap().get("dead") == Some(&Said::Yes)
    }

    async fn renew_due(&self) -> Result<(), Unavailable> {
        match self.answer("renew").await {
            Err(UpstreamError::Unavailable(why) | UpstreamError::Unknown(why)) => Err(why),
            _ => Ok(()),
        }
    }

    async fn verify_workload(&self, workload: &WorkloadName) -> Result<(), PassError> {
        let change = match self.answer("workload").await? {
            true => {
                let now = self.local.clock.now();
                Change::Authority(Box::new(bench::authority(now)))
            }
            false => Change::AuthorityGone(workload.clone()),
        };
        self.store(vec![change]).await;
        Ok(())
    }

    async fn verify_login(&self, basis: &Basis) -> Result<(), PassError> {
        let changes = match self.answer("login").await? {
            true => self.verified(basis),
            false => vec![Change::SecretIdGone(basis.secret_id)],
        };
        self.store(changes).await;
        Ok(())
    }

    async fn verify_policy(&self, _name: &PolicyName) -> Result<(), PassError> {
        self.answer("policy").await?;
        let known = self.local.view.authority().policies.clone();
        let mut set = known.unwrap().set.clone();
        set.verified_at = self.local.clock.now().steady;
        self.store(vec![Change::Policies(Box::new(set))]).await;
        Ok(())
    }

    async fn verify_logins(&self) -> Result<(), PassError> {
        Ok(self.answer("logins").await.map(drop)?)
    }

    async fn prove_token(&self, digest: &TokenDigest) -> Result<(), PassError> {
        self.tokens.lock().unwrap().push(*digest);
        let lives = self.answer("token").await?;
        let now = self.local.clock.now().steady;
        let live = self.local.view.grant(digest).unwrap();
        let change = match lives {
            true => Change::Proven(*digest, now),
            false => Change::Revoked(Revocation::of(&live.grant, RevokeCause::Primary, now)),
        };
        self.store(vec![change]).await;
        Ok(())
    }

    async fn mint_exact(
        &self,
        _workload: &WorkloadName,
        wanted: &Wanted,
    ) -> Result<Credential, MintError> {
        let issued_at = self.local.clock.now().steady;
        let nr = {
            let mut minted = self.minted.lock().unwrap();
            minted.push(wanted.clone());
            minted.len()
        };
        let answer = self.answer("mint").await;
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(happens) = meanwhile {
            happens(self.local.clone()).await;
        }
        match answer {
            Ok(true) => {}
            Ok(false) => return Err(MintError::NotExact("policies")),
            // The whole of it was about who asked.
            Err(UpstreamError::Decision(decision)) if decision.is_denial() => {
                return Err(MintError::OwnCredentialRefused(decision));
            }
            Err(error) => return Err(MintError::Upstream(error)),
        }
        Ok(Credential {
            token: SecretText::new(format!("s.minted-{nr}")),
            accessor: minted(nr),
            expires: issued_at.plus(wanted.remaining),
            renewable: false,
            issued_at,
        })
    }

    fn lacking(&self, _refused: &UpstreamError) -> Option<String> {
        None
    }

    async fn turn(&self) {}

    async fn refresh_values(&self) {
        let _ = self.answer("values").await;
    }
}

/// The accessor of the token that is minted as this one.
pub(crate) fn minted(nr: usize) -> Accessor {
    Accessor::parse(&format!("minted-{nr}")).unwrap()
}

fn of_status(status: u16) -> UpstreamError {
    match status {
        429 => UpstreamError::SlowDown { after: None },
        500.. => UpstreamError::Undecided {
            path: "x".into(),
            status,
            errors: vec![],
        },
        _ => UpstreamError::Decision(Decision::said(status, "no")),
    }
}
