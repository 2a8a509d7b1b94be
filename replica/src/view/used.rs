//! What decisions go by now: only that need be kept, verified, and told of.

use std::collections::BTreeSet;

use shared::{
    name::{EntityId, PolicyName},
    time::Now,
    token::TokenFacts,
};

use super::View;

impl View {
    /// Entities that decisions go by: of tokens that live, of secret ids that log in, of workloads.
    pub fn entities_in_use(&self, now: Now) -> BTreeSet<EntityId> {
        let grants = self.grants.pin();
        let living = grants.values().filter(|live| live.lives(now));
        let living = living.filter_map(|live| live.grant.facts.entity_id.as_ref());
        let authority = self.authority();
        let proofs = authority.secret_ids.values();
        let proofs = proofs.filter_map(|proof| proof.entity.as_ref());
        let workloads = authority.workloads.values();
        let workloads = workloads.filter_map(|known| known.entity());
        living.chain(proofs).chain(workloads).cloned().collect()
    }

    /// Whether a decision goes by this policy: of a token that lives, of a workload, or of a role that is logged in to.
    pub fn uses_policy(&self, name: &PolicyName, now: Now) -> bool {
        let has = |facts: &TokenFacts| {
            facts.policies.contains(name) || facts.identity_policies.contains(name)
        };
        let authority = self.authority();
        let mut workloads = authority.workloads.values();
        let mut roles = authority.approles.values();
        let mut identities = authority.identities.values();
        self.grants
            .pin()
            .values()
            .any(|live| live.lives(now) && has(&live.grant.facts))
            || workloads.any(|known| has(&known.standing))
            || roles.any(|role| role.policies().contains(name))
            || identities.any(|known| {
                known
                    .identity
                    .policies()
                    .iter()
                    .any(|one| one == name.as_str())
            })
    }
}
