//! What the writer owns of an authority: what the primary said last, and what followed from it here.

use std::{collections::BTreeMap, sync::Arc};

use imbl::OrdMap;
use shared::{
    approle::{AppRole, ProofDigest, RoleKey, SecretId},
    change::{Cluster, PolicySet},
    identity::Identity,
    kv::MirrorState,
    name::{EntityId, Namespace, WorkloadName},
    quarantine::{Quarantine, Quarantined},
    time::WallTime,
    workload::WorkloadAuthority,
};

use super::Policies;
use crate::table::At;

/// Replaced as a whole with each publication.
#[derive(Clone, Default)]
pub struct Known {
    /// The cluster, once it was seen.
    pub cluster: Option<Arc<Cluster>>,
    /// The policies, once they were seen.
    pub policies: Option<Arc<Policies>>,
    /// By workload.
    pub workloads: BTreeMap<WorkloadName, Arc<WorkloadAuthority>>,
    /// AppRole roles whose logins may be answered.
    pub approles: BTreeMap<RoleKey, Arc<AppRole>>,
    /// Secret ids that log in to them, by what stands for each.
    pub secret_ids: OrdMap<ProofDigest, Arc<SecretId>>,
    /// By entity.
    pub identities: OrdMap<EntityId, KnownIdentity>,
    /// By configured path.
    pub mirrors: BTreeMap<String, Arc<MirrorState>>,
    /// What is left to the primary.
    pub quarantines: BTreeMap<Quarantined, Arc<Quarantine>>,
    /// Rows that are of another namespace than the configured one. Nothing goes by them, and they are deleted once the primary
    /// was seen in this one.
    pub(crate) elsewhere: Arc<[At]>,
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

    /// What is left where another namespace was configured before: which cluster is trusted. All else was verified in that
    /// one, and says nothing of this.
    #[must_use]
    pub(crate) fn of(self, namespace: &Namespace) -> Self {
        match self.cluster {
            Some(cluster) if cluster.namespace != *namespace => Self {
                cluster: Some(Arc::new(Cluster {
                    mounts: BTreeMap::new(),
                    token_ttls: None,
                    verified_at: WallTime::EPOCH,
                    ..Cluster::clone(&cluster)
                })),
                elsewhere: self.elsewhere,
                ..Self::default()
            },
            _ => self,
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
