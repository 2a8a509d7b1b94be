//! Nothing was written at the primary: what stands of authority is verified as of later, as it stands at this moment.
//!
//! Everything is taken from what the stage holds, and nothing from what a pass has seen before: so what was taken away, read
//! anew or doubted in between stays so.

use std::sync::Arc;

use shared::{
    approle::{AppRole, SecretId},
    change::{Cluster, PolicySet, Unchanged},
    identity::Identity,
    workload::WorkloadAuthority,
};

use super::add::{Added, Adder};
use crate::view::Known;

impl Adder<'_, '_> {
    pub(super) fn unchanged(&mut self, unchanged: Unchanged) -> Added {
        let known = self.stage.known().clone();
        if let Some(cluster) = cluster(&known, unchanged) {
            self.cluster(cluster)?;
        }
        if let Some(set) = policies(&known, unchanged) {
            self.policies(set)?;
        }
        for of in workloads(&known, unchanged) {
            self.authority(of)?;
        }
        for (id, of) in &known.identities {
            if let Some(at) = unchanged.reaffirms(of.verified_at) {
                self.identity(id.clone(), Identity::clone(&of.identity), at)?;
            }
        }
        for role in approles(&known, unchanged) {
            self.approle(role)?;
        }
        for secret_id in secret_ids(&known, unchanged) {
            self.secret_id(secret_id)?;
        }
        Ok(())
    }
}

fn cluster(known: &Known, unchanged: Unchanged) -> Option<Cluster> {
    let cluster = known.cluster.as_deref()?;
    Some(Cluster {
        verified_at: unchanged.reaffirms(cluster.verified_at)?,
        ..cluster.clone()
    })
}

/// Those that could not be read with the others keep their age.
fn policies(known: &Known, unchanged: Unchanged) -> Option<PolicySet> {
    let set = &known.policies.as_ref()?.set;
    Some(PolicySet {
        verified_at: unchanged.reaffirms(set.verified_at)?,
        ..set.clone()
    })
}

fn workloads(known: &Known, unchanged: Unchanged) -> impl Iterator<Item = WorkloadAuthority> {
    known.workloads.values().filter_map(move |of| {
        Some(WorkloadAuthority {
            verified_at: unchanged.reaffirms(of.verified_at)?,
            ..WorkloadAuthority::clone(of)
        })
    })
}

fn approles(known: &Known, unchanged: Unchanged) -> impl Iterator<Item = AppRole> {
    known.approles.values().filter_map(move |role| {
        Some(AppRole {
            verified_at: unchanged.reaffirms(role.verified_at)?,
            ..AppRole::clone(role)
        })
    })
}

/// Not those that died, by an act or by time, nor those that were refused to a client since they were seen to stand: of these
/// the primary is asked.
fn secret_ids(known: &Known, unchanged: Unchanged) -> impl Iterator<Item = SecretId> {
    let living = known.secret_ids.values().filter(move |proof| {
        let ended = proof.expires.is_some_and(|end| end <= unchanged.until);
        proof.dead.is_none() && !ended && !proof.is_doubted()
    });
    living.filter_map(move |proof: &Arc<SecretId>| {
        Some(SecretId {
            verified_at: unchanged.reaffirms(proof.verified_at)?,
            ..SecretId::clone(proof)
        })
    })
}
