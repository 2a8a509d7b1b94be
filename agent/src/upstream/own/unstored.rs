//! A token of Holdover's own that the replica does not take, because its disk is full or fails: it is used all the same, from
//! memory, and stored once it can be. To give it up and log in anew would cost the primary a token at every attempt.

use parking_lot::Mutex;
use shared::{
    change::{Change, Credential, CredentialName},
    secret::SecretText,
    time::WallTime,
};

/// What is in memory alone: at most the token in use and the one before it.
#[derive(Default)]
pub(crate) struct HeldInMemory(Mutex<Option<UnstoredTokens>>);

struct UnstoredTokens {
    own: Credential,
    previous: Option<Credential>,
    why: String,
}

/// That there is one, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnstoredFacts {
    /// What the store said last.
    pub why: String,
    /// When it ends unless renewed.
    pub ends: WallTime,
}

impl HeldInMemory {
    /// Holds these instead of what is held, because the store said this.
    pub(super) fn hold(&self, own: Credential, previous: Option<Credential>, why: String) {
        *self.0.lock() = Some(UnstoredTokens { own, previous, why });
    }

    /// They are stored.
    pub(super) fn clear(&self) {
        *self.0.lock() = None;
    }

    /// The token of this name, if it is in memory alone.
    pub(crate) fn get(&self, name: &CredentialName) -> Option<Credential> {
        self.0.lock().as_ref()?.get(name).map(copied)
    }

    /// The token itself.
    pub(crate) fn token(&self, name: &CredentialName) -> Option<SecretText> {
        let held = self.0.lock();
        held.as_ref()?.get(name).map(|one| one.token.duplicate())
    }

    /// When the token in use was got and when it ends, if it is in memory alone.
    pub(crate) fn own_times(&self) -> Option<(WallTime, WallTime)> {
        let held = self.0.lock();
        let own = &held.as_ref()?.own;
        Some((own.issued_at, own.expires))
    }

    /// What would store them; none if there is nothing to be stored.
    pub(super) fn changes(&self) -> Option<Vec<Change>> {
        let held = self.0.lock();
        let held = held.as_ref()?;
        let previous = held.previous.as_ref().map(copied);
        Some(changes(copied(&held.own), previous))
    }

    /// That there is one, and why.
    pub(super) fn facts(&self) -> Option<UnstoredFacts> {
        let held = self.0.lock();
        held.as_ref().map(|held| UnstoredFacts {
            why: held.why.clone(),
            ends: held.own.expires,
        })
    }
}

impl UnstoredTokens {
    fn get(&self, name: &CredentialName) -> Option<&Credential> {
        match name {
            CredentialName::Own => Some(&self.own),
            CredentialName::OwnPrevious => self.previous.as_ref(),
            CredentialName::Exchanged(_) | CredentialName::Standing(_) => None,
        }
    }
}

/// The token in use and the one before it, in one commit: leases are still held under the one before. Forgotten between two
/// commits, it could not be revoked once they have moved, and revoked too soon it would take them along.
pub(super) fn changes(own: Credential, previous: Option<Credential>) -> Vec<Change> {
    let previous = previous.map(|held| Change::Credential(CredentialName::OwnPrevious, held));
    let own = Change::Credential(CredentialName::Own, own);
    previous.into_iter().chain([own]).collect()
}

pub(super) fn copied(of: &Credential) -> Credential {
    Credential {
        token: of.token.duplicate(),
        accessor: of.accessor.clone(),
        expires: of.expires,
        renewable: of.renewable,
        issued_at: of.issued_at,
    }
}
