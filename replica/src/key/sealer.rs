//! Sealing under the keys of a replica: each value takes a number that is reserved on disk.

use super::{Keys, Purpose, epoch::Budget};
use crate::{
    entropy::Entropy,
    seal::{self, NONCE, Sealed, SealingError, Subject, Wiped},
};

/// What seals: the keys, the budget of encryptions that are reserved on disk, and randomness. The writer's alone.
pub(crate) struct Sealer<'a> {
    pub(crate) keys: &'a Keys,
    pub(crate) budget: &'a mut Budget,
    pub(crate) entropy: &'a dyn Entropy,
}

impl Sealer<'_> {
    /// Seals `plain` for `subject`, under the youngest epoch and a version that was never used before.
    pub(crate) fn seal(
        &mut self,
        subject: &Subject<'_>,
        plain: &[u8],
    ) -> Result<Sealed, SealingError> {
        self.seal_as(Purpose::Record, subject, plain)
    }

    /// The same under the key of `purpose`.
    pub(crate) fn seal_as(
        &mut self,
        purpose: Purpose,
        subject: &Subject<'_>,
        plain: &[u8],
    ) -> Result<Sealed, SealingError> {
        let version = self.budget.take().ok_or(SealingError::Unreserved)?;
        let epoch = self.budget.epoch();
        let mut nonce = [0; NONCE];
        self.entropy.fill(&mut nonce)?;
        let cipher = self.keys.cipher(purpose, epoch);
        seal::seal(&cipher, nonce, subject, (version, epoch), plain)
    }

    /// Seals what `value` serialises to.
    pub(crate) fn seal_json(
        &mut self,
        subject: &Subject<'_>,
        value: &impl serde::Serialize,
    ) -> Result<Sealed, SealingError> {
        let mut plain = Wiped::default();
        serde_json::to_writer(&mut plain, value)?;
        self.seal(subject, plain.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{samples::Seeded, seal::TAG};

    const OURS: Subject<'static> = Subject {
        table: 1,
        key: b"row",
    };

    fn sealed(plain: &[u8], seed: u64) -> (Keys, Sealed) {
        let entropy = Seeded::new(seed);
        let keys = Keys::ephemeral(&entropy).unwrap();
        // So that an epoch swapped for another is a key that exists.
        keys.admit_epoch(9);
        let mut sealer = Sealer {
            keys: &keys,
            budget: &mut Budget::unbounded(),
            entropy: &entropy,
        };
        let sealed = sealer.seal(&OURS, plain).unwrap();
        (keys, sealed)
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(plain: Vec<u8>, seed: u64) {
            let (keys, sealed) = sealed(&plain, seed);
            let opened = keys.open(&OURS, &sealed).unwrap();
            prop_assert_eq!(opened.expose(), &plain);
            prop_assert_eq!(sealed.bytes.len(), NONCE + plain.len() + TAG);
        }

        #[test]
        fn a_flipped_bit_does_not_open(plain: Vec<u8>, seed: u64, at: prop::sample::Index, bit in 0..8) {
            let (keys, mut sealed) = sealed(&plain, seed);
            let mut bytes = sealed.bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            sealed.bytes = bytes.into();
            prop_assert!(keys.open(&OURS, &sealed).is_err());
        }

        #[test]
        fn a_cut_value_does_not_open(plain: Vec<u8>, seed: u64, at: prop::sample::Index) {
            let (keys, mut sealed) = sealed(&plain, seed);
            sealed.bytes = sealed.bytes[..at.index(sealed.bytes.len())].into();
            prop_assert!(keys.open(&OURS, &sealed).is_err());
        }

        #[test]
        fn a_moved_value_does_not_open(plain: Vec<u8>, seed: u64, table: u8, key: Vec<u8>) {
            let (keys, sealed) = sealed(&plain, seed);
            for (table, key) in [(table, OURS.key), (OURS.table, &key[..]), (table, &key[..])] {
                let elsewhere = Subject { table, key };
                let moved = table != OURS.table || key != OURS.key;
                prop_assert_eq!(keys.open(&elsewhere, &sealed).is_err(), moved);
            }
        }

        #[test]
        fn a_value_of_another_version_or_epoch_does_not_open(seed: u64, version: u64, epoch in 0u32..12) {
            let (keys, sealed) = sealed(b"value", seed);
            if version != sealed.version {
                let other = Sealed { version, ..sealed.clone() };
                prop_assert!(keys.open(&OURS, &other).is_err());
            }
            if epoch != sealed.epoch {
                let other = Sealed { epoch, ..sealed };
                prop_assert!(keys.open(&OURS, &other).is_err());
            }
        }
    }

    #[test]
    fn another_replica_s_key_does_not_open() {
        let (_, sealed_here) = sealed(b"value", 1);
        let (other, _) = sealed(b"value", 2);
        assert!(other.open(&OURS, &sealed_here).is_err());
    }

    #[test]
    fn no_two_seals_share_a_nonce_or_a_version() {
        let entropy = Seeded::new(3);
        let keys = Keys::ephemeral(&entropy).unwrap();
        let mut budget = Budget::unbounded();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let mut sealer = Sealer {
                keys: &keys,
                budget: &mut budget,
                entropy: &entropy,
            };
            let sealed = sealer.seal(&OURS, b"same").unwrap();
            assert!(seen.insert(sealed.bytes[..NONCE].to_vec()));
            assert!(seen.insert(sealed.version.to_le_bytes().to_vec()));
        }
    }
}
