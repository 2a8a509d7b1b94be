//! What the writer owns of an authority: what the primary said last, and what followed from it here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use imbl::OrdMap;
use shared::{
    approle::{AppRole, ProofDigest, RoleKey, RolesGone, SecretId},
    change::{Cluster, PolicySet},
    identity::Identity,
    kv::MirrorState,
    name::{EntityId, WorkloadName},
    quarantine::{Quarantine, Quarantined},
    time::WallTime,
    workload::WorkloadAuthority,
};

use super::{Lost, Policies};
use crate::table::At;

/// Replaced as a whole with each publication.
#[derive(Clone, Default)]
pub struct Known {
    /// The cluster, once it was seen.
    pub cluster: Option<Arc<Cluster>>,
    /// The policies, once they were seen.
    pub policies: Option<Arc<Policies>>,
    /// They lie in one row, as earlier builds kept them: the next commit of them gives each its own.
    pub(crate) policies_together: bool,
    /// By workload.
    pub workloads: BTreeMap<WorkloadName, Arc<WorkloadAuthority>>,
    /// AppRole roles whose logins may be answered.
    pub approles: BTreeMap<RoleKey, Arc<AppRole>>,
    /// Those that were found to be gone.
    pub(crate) roles_gone: RolesGone,
    /// Secret ids that log in to them, by what stands for each.
    pub secret_ids: OrdMap<ProofDigest, Arc<SecretId>>,
    /// By entity.
    pub identities: OrdMap<EntityId, KnownIdentity>,
    /// By configured path.
    pub mirrors: BTreeMap<String, Arc<MirrorState>>,
    /// What is left to the primary.
    pub quarantines: BTreeMap<Quarantined, Arc<Quarantine>>,
    /// What is damaged, and was not read anew since.
    pub lost: Lost,
    /// Rows that are of another namespace than the configured one.
    pub(crate) elsewhere: Elsewhere,
}

/// Rows of other namespaces than the configured one, and such that do not say of which they are. Nothing goes by them.
#[derive(Clone)]
pub(crate) struct Elsewhere {
    pub(crate) rows: Arc<[At]>,
    /// When the primary was last seen in any of those namespaces; at the epoch if that is not known.
    pub(crate) seen: WallTime,
}

impl Elsewhere {
    /// They are kept for so long after the primary was last seen there: a mistyped name is noticed within a day.
    const KEPT: Duration = Duration::from_secs(24 * 3600);

    /// Whether they may go, where the primary is seen in the configured namespace at `now`.
    pub(crate) fn is_of_no_use(&self, now: WallTime) -> bool {
        now.since(self.seen) >= Self::KEPT
    }
}

impl Default for Elsewhere {
    fn default() -> Self {
        Self {
            rows: Arc::default(),
            seen: WallTime::EPOCH,
        }
    }
}

/// An identity as the primary showed it.
#[derive(Clone, PartialEq, Debug)]
pub struct KnownIdentity {
    /// Itself, which says nothing of time: it is compared and compiled with.
    pub identity: Arc<Identity>,
    /// When all of it was last verified, from before it was asked for.
    pub verified_at: WallTime,
}

impl Known {
    /// The identity of an entity, if it is known.
    pub fn identity(&self, entity: &EntityId) -> Option<&Arc<Identity>> {
        self.identities.get(entity).map(|known| &known.identity)
    }

    /// What is left where the primary was last seen in another namespace, as `there`: which cluster is trusted. All else decides
    /// only if it was verified at that same cluster, by the word of this namespace.
    #[must_use]
    pub(crate) fn beside(self, there: Cluster) -> Self {
        match &self.cluster {
            Some(here) if here.id == there.id || here.verified_at > there.verified_at => self,
            _ => Self {
                cluster: Some(Arc::new(Cluster {
                    mounts: BTreeMap::new(),
                    token_ttls: None,
                    verified_at: WallTime::EPOCH,
                    ..there
                })),
                elsewhere: self.elsewhere,
                lost: self.lost,
                ..Self::default()
            },
        }
    }

    pub(crate) fn put_approle(&mut self, role: AppRole) {
        self.approles.insert(role.key.clone(), Arc::new(role));
    }

    pub(crate) fn put_cluster(&mut self, cluster: Cluster) {
        self.cluster = Some(Arc::new(cluster));
    }

    /// One that is as it was stays the same one, so that what was compiled with it stays good.
    pub(crate) fn put_identity(&mut self, id: EntityId, identity: Identity, at: WallTime) {
        let before = self.identities.get(&id).map(|known| &known.identity);
        let identity = match before.filter(|before| ***before == identity) {
            Some(before) => Arc::clone(before),
            None => Arc::new(identity),
        };
        let known = KnownIdentity {
            identity,
            verified_at: at,
        };
        self.identities.insert(id, known);
    }

    pub(crate) fn put_mirror(&mut self, state: MirrorState) {
        self.mirrors.insert(state.path.clone(), Arc::new(state));
    }

    /// What of them was parsed before is parsed again only if one differs.
    pub(crate) fn put_policies(&mut self, set: PolicySet) {
        let policies = Policies::new(set, self.policies.as_deref());
        self.policies = Some(Arc::new(policies));
    }

    /// A row of its own says more than one of a whole set; each set is remembered, so that it goes when this does.
    pub(crate) fn put_quarantine(&mut self, of: Quarantine) {
        let of = match self.quarantines.get(&of.what) {
            None => of,
            Some(before) => {
                let mut of_sets = before.of_sets.clone();
                let news = of
                    .of_sets
                    .iter()
                    .filter(|set| !before.of_sets.contains(set));
                of_sets.extend(news.cloned());
                let kept = if of.text.is_some() {
                    of
                } else {
                    Quarantine::clone(before)
                };
                Quarantine { of_sets, ..kept }
            }
        };
        self.quarantines.insert(of.what.clone(), Arc::new(of));
    }

    pub(crate) fn put_secret_id(&mut self, secret_id: SecretId) {
        self.secret_ids
            .insert(secret_id.digest, Arc::new(secret_id));
    }

    pub(crate) fn put_workload(&mut self, of: WorkloadAuthority) {
        self.workloads.insert(of.workload.clone(), Arc::new(of));
    }
}
