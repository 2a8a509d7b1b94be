//! AppRole: the roles that clients log in to, and whether the secret ids that were proven still stand.
//!
//! Only what a client was seen to use is asked about. A role is read with its `role_id`, which an operator can change
//! under it, and with what its mount says of TTLs and second factors; of a secret id its accessor is looked up. A
//! secret id itself is sent once, after the login that taught it, and kept nowhere.

mod shown;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use replica::{approle::role_id_digest, learn::Candidate, view::Authority};
use serde::Deserialize;
use shared::{
    approle::{
        AppRole, MOST_OF_ONE_ROLE, MOST_SECRET_IDS, MountFacts, ProofDigest, RoleFacts, RoleKey,
        SecretId,
    },
    backoff::Backoff,
    change::Change,
    grant::Settled,
    name::{MountAccessor, RoleName},
    time::WallTime,
};

use self::shown::{Enforcements, SecretIdShown};
use super::AuthorityPass;
use crate::{
    mirror::{PassError, context::MirrorContext, names::names, status::UnreadPaths},
    upstream::{Request, UpstreamError, pace::Urgency},
};

/// A secret id that waited longer than this to be verified is dropped: its next login asks again.
const WAITS_AT_MOST: Duration = Duration::from_secs(60);

/// What is always shown of a role: a bound that is missing would be taken for none.
const OF_ROLE: [&str; 15] = [
    "bind_secret_id",
    "local_secret_ids",
    "secret_id_bound_cidrs",
    "secret_id_num_uses",
    "secret_id_ttl",
    "token_bound_cidrs",
    "token_explicit_max_ttl",
    "token_max_ttl",
    "token_no_default_policy",
    "token_num_uses",
    "token_period",
    "token_policies",
    "token_strictly_bind_ip",
    "token_ttl",
    "token_type",
];

/// How often a secret id is tried to be verified where the primary says nothing.
const TRIES: usize = 3;

/// Whether the primary refused a login that is known here, and was not asked about it since.
pub(super) fn are_doubted(authority: &Authority) -> bool {
    let mut all = authority.secret_ids.values();
    all.any(|proof| proof.is_doubted() && proof.dead.is_none())
}

impl AuthorityPass<'_> {
    /// Verifies every role in use. Whether that could be done for all of them.
    pub(super) async fn approles(&self) -> Result<bool, PassError> {
        self.context.commit(self.of_no_use()).await?;
        let roles: Vec<_> = self.authority().approles.keys().cloned().collect();
        let mut unread = UnreadPaths::default();
        for key in roles {
            match self.approle(&key, |_| true).await {
                Ok(()) => {}
                Err(PassError::Upstream(error)) if !error.is_unavailable() => {
                    tracing::warn!(%error, role = %key.name, "an AppRole role could not be verified");
                    unread.add(&key.name, error);
                }
                Err(error) => return Err(error),
            }
        }
        let complete = unread.is_empty();
        self.context.note("AppRole roles", unread);
        Ok(complete)
    }

    /// One role and those of its secret ids that `asked` names.
    pub(super) async fn approle(
        &self,
        key: &RoleKey,
        asked: impl Fn(&SecretId) -> bool,
    ) -> Result<(), PassError> {
        let role = match self.mount_path(key) {
            Some(path) => self.read_approle(&path, &key.name, &key.mount).await?,
            None => None,
        };
        let Some(role) = role else {
            tracing::warn!(role = %key.name, "an AppRole role is gone: nobody can log in to it any more");
            let mut changes = self.dying(key, |_| true);
            changes.push(Change::AppRoleGone(key.clone(), self.context.now().steady));
            return self.context.commit(changes).await;
        };
        let mut changes = self.dying(key, |proof| proof.role_id != role.role_id);
        for proof in self.proofs(key).into_iter().filter(|proof| asked(proof)) {
            if proof.role_id == role.role_id && !proof.is_dead(self.context.now()) {
                changes.push(self.look_at(&role, &proof).await?);
            }
        }
        changes.push(Change::AppRole(Box::new(role)));
        self.context.commit(changes).await
    }

    /// Whether the accessor of a secret id still stands.
    async fn look_at(&self, role: &AppRole, proof: &SecretId) -> Result<Change, PassError> {
        let path = self.mount_path(&role.key).ok_or(PassError::Unseen)?;
        let path = format!(
            "auth/{path}/role/{}/secret-id-accessor/lookup",
            role.key.name
        );
        let asked_at = self.context.now().steady;
        let accessor = [("secret_id_accessor", proof.accessor.as_str())];
        let Some(shown) = self.secret_id(path.clone(), &accessor).await? else {
            return Ok(died(proof, asked_at));
        };
        if shown.secret_id_accessor != proof.accessor {
            let what = "it is of another accessor".to_owned();
            return Err(UpstreamError::Malformed { path, what }.into());
        }
        Ok(Change::SecretId(Box::new(SecretId {
            expires: shown.expires,
            metadata: shown.metadata.unwrap_or_default(),
            cidrs: shown.cidr_list.unwrap_or_default(),
            token_cidrs: shown.token_bound_cidrs.unwrap_or_default(),
            verified_at: asked_at,
            ..proof.clone()
        })))
    }

    /// What a look-up shows of a secret id; none where there is none. One whose uses are limited counts as none, because
    /// they cannot be counted here.
    async fn secret_id(
        &self,
        path: String,
        named: &[(&str, &str)],
    ) -> Result<Option<SecretIdShown>, UpstreamError> {
        let request = Request::fields(path, named).asking();
        let shown = SecretIdShown::of(&self.ask(&request).await?.said()?)?;
        Ok(shown.filter(|shown| shown.secret_id_num_uses == 0))
    }

    /// A role as of the moment before it is asked about; none where there is no such role.
    async fn read_approle(
        &self,
        path: &str,
        name: &RoleName,
        mount: &MountAccessor,
    ) -> Result<Option<AppRole>, PassError> {
        #[derive(Deserialize)]
        struct RoleId {
            role_id: String,
        }
        let asked_at = self.context.now().steady;
        let role = format!("auth/{path}/role/{name}");
        let Some(facts) = self.get::<RoleFacts>(role.clone(), &OF_ROLE).await? else {
            return Ok(None);
        };
        let Some(shown) = self.read(role + "/role-id").await? else {
            return Ok(None);
        };
        let id: RoleId = shown.data()?;
        if id.role_id.is_empty() {
            return Err(shown.unexpected("no role_id in it").into());
        }
        let tune = format!("sys/mounts/auth/{path}/tune");
        let Some(mount_facts) = self.get::<MountFacts>(tune, &["token_type"]).await? else {
            return Ok(None);
        };
        let keys = self.context.local.view.keys();
        Ok(Some(AppRole {
            key: RoleKey {
                mount: mount.clone(),
                name: name.clone(),
            },
            role_id: role_id_digest(keys, mount, &id.role_id),
            facts,
            mount: mount_facts,
            mfa: self.enforcements().await?.may_ask(mount),
            verified_at: asked_at,
        }))
    }

    /// Which logins need a second factor.
    async fn enforcements(&self) -> Result<Enforcements, UpstreamError> {
        const PATH: &str = "identity/mfa/login-enforcement";
        let Some(listing) = self.find(&Request::list(PATH)).await? else {
            return Ok(Enforcements::default());
        };
        let mut all = Vec::new();
        for name in names(&listing)? {
            all.extend(self.get(format!("{PATH}/{name}"), &[]).await?);
        }
        Ok(Enforcements(all))
    }

    /// The mount of a role without `auth/`, if it is still there and configured.
    fn mount_path(&self, key: &RoleKey) -> Option<String> {
        let cluster = self.context.cluster()?;
        let mut mounts = cluster.mounts.iter();
        let (at, _) = mounts.find(|(_, mount)| mount.accessor == key.mount)?;
        let path = at.strip_prefix("auth/")?.trim_matches('/');
        let configured = self.context.settings.approle_mounts();
        configured
            .iter()
            .any(|one| one == path)
            .then(|| path.to_owned())
    }

    /// What need not be kept: secret ids that no outage could go by, more than are kept at all, roles without any.
    fn of_no_use(&self) -> Vec<Change> {
        let (authority, now) = (self.authority(), self.context.now());
        let settings = &self.context.settings;
        let max_age = settings.bounds.credential_max_age;
        let none = settings.approle_mounts().is_empty();
        let behind_grants = self.behind_grants();
        let mut all: Vec<&Arc<SecretId>> = authority.secret_ids.values().collect();
        all.sort_by_key(|proof| std::cmp::Reverse(proof.login_at));
        let (mut kept, mut gone) = (BTreeMap::<&RoleKey, usize>::new(), Vec::new());
        for proof in all {
            let (of_all, of_role) = (kept.values().sum::<usize>(), kept.get(&proof.role));
            let room = of_all < MOST_SECRET_IDS && of_role.copied() < Some(MOST_OF_ONE_ROLE);
            let useful = room && !none && !proof.is_of_no_use(max_age, now);
            if useful || behind_grants.contains(&proof.digest) {
                *kept.entry(&proof.role).or_default() += 1;
            } else {
                gone.push(Change::SecretIdGone(proof.digest));
            }
        }
        let unused = authority
            .approles
            .keys()
            .filter(|key| !kept.contains_key(key));
        gone.extend(unused.cloned().map(Change::AppRoleForgotten));
        gone
    }

    /// Secret ids that grants of an outage wait to be judged by in recovery.
    fn behind_grants(&self) -> BTreeSet<ProofDigest> {
        let grants = self.context.local.view.grants();
        let unsettled = grants.iter().filter_map(|live| {
            let replica = live.grant.replica()?;
            let waits = replica.settled == Settled::Not && live.revoked.get().is_none();
            replica.approle.as_ref().filter(|_| waits)
        });
        unsettled.map(|basis| basis.secret_id).collect()
    }

    /// The end of those secret ids of a role that `dies` names.
    fn dying(&self, key: &RoleKey, dies: impl Fn(&SecretId) -> bool) -> Vec<Change> {
        let proofs = self.proofs(key).into_iter();
        let dying = proofs.filter(|proof| proof.dead.is_none() && dies(proof));
        dying
            .map(|proof| died(&proof, self.context.now().steady))
            .collect()
    }

    fn proofs(&self, key: &RoleKey) -> Vec<SecretId> {
        let authority = self.authority();
        let proofs = authority
            .secret_ids
            .values()
            .filter(|proof| proof.role == *key);
        proofs.map(|proof| SecretId::clone(proof)).collect()
    }

    fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.context.local.view.authority())
    }
}

fn died(proof: &SecretId, at: WallTime) -> Change {
    Change::SecretId(Box::new(SecretId {
        dead: Some(at),
        ..proof.clone()
    }))
}

/// Verifies a secret id that the primary accepted, and remembers what stands for it. In an outage it is dropped: it waits
/// nowhere.
pub(in crate::mirror) async fn learn_login(
    context: &MirrorContext,
    candidate: Candidate,
) -> Result<(), PassError> {
    let mut backoff = Backoff::ATTEMPTS;
    for nr in 1.. {
        let waited = context.now().steady.since(candidate.login_at);
        if context.is_paused() || waited > WAITS_AT_MOST {
            return Err(PassError::Paused);
        }
        let pass = AuthorityPass::new(context, Urgency::Mirror);
        match pass.verify_login(&candidate).await {
            Err(PassError::Upstream(error)) if error.is_unavailable() && nr < TRIES => {}
            verified => return verified,
        }
        let pause = backoff.next(context.upstream.jitter());
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Asks about a login that the primary refused though it is known here: about its role and about its accessor. In an
/// outage it waits for the first cycle after it.
pub(in crate::mirror) async fn recheck_login(
    context: &MirrorContext,
    pair: ProofDigest,
) -> Result<(), PassError> {
    let known = context
        .local
        .view
        .authority()
        .secret_ids
        .get(&pair)
        .cloned();
    match known {
        Some(proof) if !context.is_paused() => {
            let pass = AuthorityPass::new(context, Urgency::Authority);
            pass.approle(&proof.role, |_| true).await
        }
        _ => Ok(()),
    }
}

impl AuthorityPass<'_> {
    async fn verify_login(&self, candidate: &Candidate) -> Result<(), PassError> {
        let (path, key) = (&candidate.mount_path, &candidate.role);
        let role = self.read_approle(path, &key.name, &key.mount).await?;
        let proven =
            |role: &AppRole| role.role_id == candidate.role_id && role.facts.bind_secret_id;
        let Some(role) = role.filter(proven) else {
            return Ok(());
        };
        let asked_at = self.context.now().steady;
        let lookup = format!("auth/{path}/role/{}/secret-id/lookup", key.name);
        let secret_id = [("secret_id", candidate.secret_id.expose().trim())];
        let Some(shown) = self.secret_id(lookup, &secret_id).await? else {
            return Ok(());
        };
        let mut changes = Vec::new();
        if let Some(entity) = &candidate.entity {
            changes.push(self.identity(entity).await?);
        }
        changes.push(Change::SecretId(Box::new(SecretId {
            digest: candidate.pair,
            role: key.clone(),
            role_id: candidate.role_id,
            expires: shown.expires,
            accessor: shown.secret_id_accessor,
            metadata: shown.metadata.unwrap_or_default(),
            cidrs: shown.cidr_list.unwrap_or_default(),
            token_cidrs: shown.token_bound_cidrs.unwrap_or_default(),
            entity: candidate.entity.clone(),
            identity_policies: candidate.identity_policies.clone(),
            login_at: candidate.login_at,
            verified_at: asked_at,
            dead: None,
            accepted_from: vec![candidate.by.clone()],
            doubted_at: None,
        })));
        changes.push(Change::AppRole(Box::new(role)));
        self.context.commit(changes).await
    }
}
