//! A token of Holdover's own that the replica does not take, because its disk is full or fails: it is used all the same, from
//! memory, and stored once it can be. To give it up and log in anew would cost the primary a token at every attempt.

use parking_lot::Mutex;
use shared::{
    change::{Change, Credential, CredentialName},
    name::Accessor,
    secret::SecretText,
    time::WallTime,
};

/// What is in memory alone: at most the token in use and the one before it.
#[derive(Default)]
pub(crate) struct HeldInMemory(Mutex<InMemory>);

#[derive(Default)]
struct InMemory {
    tokens: Option<UnstoredTokens>,
    /// Of the last that were held.
    version: Version,
    /// The token before the one in use that the primary does not know any more, whatever the store still says.
    ended: Option<Accessor>,
}

/// Which tokens are meant: each that are held have a version of their own.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Version(u64);

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
    /// Holds these instead of what is held, for this reason.
    pub(super) fn hold(&self, own: Credential, previous: Option<Credential>, why: String) {
        let mut held = self.0.lock();
        held.version.0 += 1;
        held.tokens = Some(UnstoredTokens { own, previous, why });
    }

    /// Those of this version are stored: whether they are the ones that were held.
    pub(super) fn clear(&self, stored: Version) -> bool {
        let mut held = self.0.lock();
        let are_these = held.version == stored;
        if are_these {
            held.tokens = None;
        }
        are_these
    }

    /// What the store said last.
    pub(super) fn explain(&self, why: String) {
        if let Some(tokens) = &mut self.0.lock().tokens {
            tokens.why = why;
        }
    }

    /// The primary does not know this token before the one in use any more: it is not to be stored.
    pub(super) fn end_previous(&self, ended: Accessor) {
        let mut held = self.0.lock();
        if let Some(tokens) = &mut held.tokens {
            tokens.previous.take_if(|held| held.accessor == ended);
        }
        held.ended = Some(ended);
    }

    /// Whether [`end_previous`](Self::end_previous) was told of it.
    pub(super) fn has_ended(&self, previous: &Accessor) -> bool {
        self.0.lock().ended.as_ref() == Some(previous)
    }

    /// The token of this name, if it is in memory alone.
    pub(crate) fn get(&self, name: &CredentialName) -> Option<Credential> {
        self.0.lock().tokens.as_ref()?.get(name).map(copied)
    }

    /// The token itself.
    pub(crate) fn token(&self, name: &CredentialName) -> Option<SecretText> {
        let held = self.0.lock();
        let token = |one: &Credential| one.token.duplicate();
        held.tokens.as_ref()?.get(name).map(token)
    }

    /// When the token in use was got and when it ends, if it is in memory alone.
    pub(crate) fn own_times(&self) -> Option<(WallTime, WallTime)> {
        let held = self.0.lock();
        let own = &held.tokens.as_ref()?.own;
        Some((own.issued_at, own.expires))
    }

    /// What would store them; none if there is nothing to be stored.
    pub(super) fn changes(&self) -> Option<(Version, Vec<Change>)> {
        let held = self.0.lock();
        let tokens = held.tokens.as_ref()?;
        let previous = tokens.previous.as_ref().map(copied);
        Some((held.version, changes(copied(&tokens.own), previous)))
    }

    /// That there is one, and why.
    pub(super) fn facts(&self) -> Option<UnstoredFacts> {
        let held = self.0.lock();
        held.tokens.as_ref().map(|held| UnstoredFacts {
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
fn changes(own: Credential, previous: Option<Credential>) -> Vec<Change> {
    let previous = previous.map(|held| Change::Credential(CredentialName::OwnPrevious, held));
    let own = Change::Credential(CredentialName::Own, own);
    previous.into_iter().chain([own]).collect()
}

fn copied(of: &Credential) -> Credential {
    Credential {
        token: of.token.duplicate(),
        accessor: of.accessor.clone(),
        expires: of.expires,
        renewable: of.renewable,
        issued_at: of.issued_at,
    }
}
