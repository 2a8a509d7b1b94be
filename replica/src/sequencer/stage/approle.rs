//! AppRole roles and secret ids.

use std::sync::Arc;

use shared::approle::{AppRole, ProofDigest, RoleKey, SecretId};

use super::Stage;
use crate::{
    seal::{Sealer, SealingError},
    table::At,
};

impl Stage<'_> {
    pub(super) fn approle(
        &mut self,
        role: AppRole,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        self.put(At::approle(&self.view.keys, &role.key), &role, sealer)?;
        let approles = &mut self.next_authority().approles;
        approles.insert(role.key.clone(), Arc::new(role));
        Ok(())
    }

    pub(super) fn approle_gone(&mut self, key: &RoleKey) {
        self.delete(At::approle(&self.view.keys, key));
        self.next_authority().approles.remove(key);
    }

    /// What was known of it before stands where it is the later word: a proof and a death may cross each other.
    pub(super) fn secret_id(
        &mut self,
        secret_id: SecretId,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        let known = self.next_authority().secret_ids.get(&secret_id.digest);
        let secret_id = match known {
            Some(known) => secret_id.after(known),
            None => secret_id,
        };
        let at = At::secret_id(&self.view.keys, &secret_id.digest);
        self.put(at, &secret_id, sealer)?;
        let secret_ids = &mut self.next_authority().secret_ids;
        secret_ids.insert(secret_id.digest, Arc::new(secret_id));
        Ok(())
    }

    pub(super) fn secret_id_gone(&mut self, digest: &ProofDigest) {
        self.delete(At::secret_id(&self.view.keys, digest));
        self.next_authority().secret_ids.remove(digest);
    }
}
