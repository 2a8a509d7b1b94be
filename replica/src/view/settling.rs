//! What a replica grant comes to that its outage left: judged by what is kept here, with what it hangs on.

use shared::{
    acl::Policy,
    approle::{AppRole, ProofDigest, RoleKey, SecretId},
    grant::{Grant, ReplicaGrant, RevokeCause, Settled},
    identity::Identity,
    name::{EntityId, PolicyName, WorkloadName},
    recovery::{Fate, Need, Proofs, Verdict, judge},
    time::{Now, WallTime},
    workload::WorkloadAuthority,
};

use super::{Authority, Policies, View};

impl Proofs for Authority {
    fn workload(&self, name: &WorkloadName) -> Option<&WorkloadAuthority> {
        self.workloads.get(name).map(AsRef::as_ref)
    }

    fn approle(&self, key: &RoleKey) -> Option<&AppRole> {
        self.approles.get(key).map(AsRef::as_ref)
    }

    fn secret_id(&self, digest: &ProofDigest) -> Option<&SecretId> {
        self.secret_ids.get(digest).map(AsRef::as_ref)
    }

    fn identity(&self, entity: &EntityId) -> Option<(&Identity, WallTime)> {
        let known = self.identities.get(entity)?;
        Some((&known.identity, known.verified_at))
    }

    fn policy_read(&self, name: &PolicyName) -> Option<WallTime> {
        let known = self.policies.as_ref();
        known.map(|known| known.set.verified(name))
    }

    fn are_templated(&self, policies: &[PolicyName]) -> Option<bool> {
        let known = self.policies.as_ref()?;
        Some(known.are_templated(policies))
    }
}

impl Policies {
    /// See [`Proofs::are_templated`].
    fn are_templated(&self, policies: &[PolicyName]) -> bool {
        let exists = |name: &&PolicyName| self.set.may_exist(name);
        let understood = |name| self.parsed.get(name)?.as_ref();
        let existing = policies.iter().filter(exists);
        let understood: Option<Vec<_>> = existing.map(understood).collect();
        understood.is_none_or(|understood| Policy::are_templated(&understood))
    }
}

impl View {
    /// What `grant` comes to, if its outage is over and left it unsettled: what it hangs on first, from the top down, then
    /// itself. One of the outage that goes on comes to what was left unsettled above it, where that no longer stands.
    ///
    /// Whether something above it is dead already is the caller's to see: [`View::dead_ancestor`].
    pub fn verdict(&self, authority: &Authority, grant: &Grant, now: Now) -> Option<Verdict> {
        let unsettled = grant.replica()?.settled == Settled::Not;
        let above = unsettled.then(|| self.verdict_above(authority, grant, now))?;
        above.or_else(|| self.verdict_alone(authority, grant, now))
    }

    /// What keeps `grant` from being judged by itself: first what the primary did not prove, then what settling would end or
    /// cannot tell yet.
    fn verdict_above(&self, authority: &Authority, grant: &Grant, now: Now) -> Option<Verdict> {
        let from = authority.proven_from;
        if let Some(topmost) = from.and_then(|from| self.unproven(grant, from).last()) {
            return Some(Verdict::Needs(Need::Token(topmost)));
        }
        let mut line: Vec<_> = self.ancestors(grant).collect();
        line.reverse();
        line.iter().find_map(
            |above| match self.verdict_alone(authority, &above.grant, now)? {
                Verdict::Fate(Fate::Drain(_) | Fate::Exchange(..)) | Verdict::Lives(..) => None,
                Verdict::Fate(Fate::Revoke(_)) => {
                    Some(Verdict::Fate(Fate::Revoke(RevokeCause::Parent)))
                }
                needs @ Verdict::Needs(_) => Some(needs),
            },
        )
    }

    /// What a grant that its outage left unsettled comes to, whatever it hangs on.
    fn verdict_alone(&self, authority: &Authority, grant: &Grant, now: Now) -> Option<Verdict> {
        let replica = grant.replica()?;
        let outage = authority.phase.outage().map(|outage| &outage.id);
        // An outage that ended says when; without that, nothing from before the grant counts.
        let since = authority.proven_from.unwrap_or(replica.issued_at);
        // One of another namespace decides nothing, and counts again if that is configured again before its end.
        let ours = grant.namespace == authority.settings.namespace;
        if !ours || !grant.is_left_over(outage) {
            return None;
        }
        let lost = self.basis_lost(authority, grant, replica);
        let lost = lost.map(Verdict::Needs);
        Some(
            lost.unwrap_or_else(|| {
                judge(grant, replica, &authority.settings, authority, since, now)
            }),
        )
    }

    /// What it was given on, if that is damaged: then nothing says that it is gone.
    fn basis_lost(
        &self,
        authority: &Authority,
        grant: &Grant,
        replica: &ReplicaGrant,
    ) -> Option<Need> {
        if authority.lost.is_empty() {
            return None;
        }
        let within = self.within(authority);
        match &replica.approle {
            Some(basis) => {
                let role = !authority.approles.contains_key(&basis.role)
                    && authority.lost.has(&within.approle(&basis.role));
                let secret_id = !authority.secret_ids.contains_key(&basis.secret_id)
                    && authority.lost.has(&within.secret_id(&basis.secret_id));
                (role || secret_id).then(|| Need::Login(basis.clone()))
            }
            None => {
                let name = &grant.peer.as_ref()?.workload;
                let lost = !authority.workloads.contains_key(name)
                    && authority.lost.has(&within.authority(name));
                lost.then(|| Need::Workload(name.clone()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
