//! Keys: a root key per replica, one derived key per purpose and epoch, and the slots that wrap the root key.
//!
//! The root key is 32 random bytes and never leaves this module but wrapped by a [`slot`]. HKDF-SHA256 over it,
//! salted with the replica's id, gives every other key; what it is for and its epoch are in the `info`. So two
//! purposes never share a key, and neither do two replicas.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use aes_gcm::{Aes256Gcm, KeyInit as _};
use hkdf::HkdfExtract;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use shared::{approle::ProofDigest, name::TokenDigest, secret::SecretBytes};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    entropy::{Entropy, NoEntropy},
    seal::{self, SealError, Sealed, Subject},
};

pub mod epoch;
mod sealer;
pub mod slot;

pub(crate) use sealer::Sealer;

/// The keys of an open replica. Cheap to clone; wiped when the last clone goes.
#[derive(Clone)]
pub struct Keys(Arc<Ring>);

/// The id of a replica: random, in clear in its file, the salt of its keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReplicaId(pub [u8; 16]);

/// The root key, on its way between a slot and [`Keys`]. Boxed, so that moving it leaves no copy.
pub(crate) struct RootKey(Box<Zeroizing<[u8; 32]>>);

/// The epoch of keys that never roll over by themselves: what they digest is not kept anywhere else.
const FIXED_EPOCH: u32 = 1;

struct Ring {
    root: RootKey,
    id: ReplicaId,
    digest: Hmac<Sha256>,
    proof: Hmac<Sha256>,
    index: Hmac<Sha256>,
    authority: Hmac<Sha256>,
    ledger: Hmac<Sha256>,
    anchor: Hmac<Sha256>,
    /// Record and header keys by epoch, derived when first needed.
    ciphers: papaya::HashMap<(Purpose, u32), Arc<Aes256Gcm>>,
    /// The youngest epoch: a row that claims a later one is forged.
    epoch: AtomicU32,
}

/// What a derived key is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// The state file outside of the replica.
    Anchor,
    /// The multiset hash over rows.
    Authority,
    /// The header of each commit.
    Header,
    /// Row keys.
    Index,
    /// The ledger's chain.
    Ledger,
    /// What stands for role ids and secret ids.
    Proof,
    /// Rows.
    Record,
    /// The space that is kept for revocations.
    Reserve,
    /// Token digests.
    Token,
}

impl Purpose {
    /// As HKDF's `info` names it.
    fn label(self) -> &'static str {
        match self {
            Self::Anchor => "anchor",
            Self::Authority => "authority",
            Self::Header => "header",
            Self::Index => "index",
            Self::Ledger => "ledger",
            Self::Proof => "proof",
            Self::Record => "record",
            Self::Reserve => "reserve",
            Self::Token => "token",
        }
    }
}

impl Keys {
    /// The keys of a replica that never reaches a disk: for simulations, and for judging without a store.
    ///
    /// # Errors
    /// As [`Entropy::fill`].
    pub fn ephemeral(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let id = ReplicaId::random(entropy)?;
        Ok(Self::derive(RootKey::random(entropy)?, id, FIXED_EPOCH))
    }

    /// Every key that follows from `root`, for rows up to `epoch`.
    pub(crate) fn derive(root: RootKey, id: ReplicaId, epoch: u32) -> Self {
        let mac = |purpose| hmac(&expand(&root, id, purpose, FIXED_EPOCH));
        Self(Arc::new(Ring {
            digest: mac(Purpose::Token),
            proof: mac(Purpose::Proof),
            index: mac(Purpose::Index),
            authority: mac(Purpose::Authority),
            ledger: mac(Purpose::Ledger),
            anchor: mac(Purpose::Anchor),
            ciphers: papaya::HashMap::new(),
            epoch: AtomicU32::new(epoch),
            root,
            id,
        }))
    }

    /// The digest that stands for a token.
    pub fn token_digest(&self, token: &str) -> TokenDigest {
        TokenDigest(mac(&self.0.digest, &[token.as_bytes()]))
    }

    /// The digest that stands for a mount and a role id, or for these and a secret id.
    pub fn proof_digest(&self, parts: &[&str]) -> ProofDigest {
        let parts = parts.iter().map(|part| part.as_bytes());
        ProofDigest(framed(self.0.proof.clone(), parts))
    }

    /// Opens what was sealed for `subject`.
    ///
    /// # Errors
    /// If it was changed, moved, or sealed under another key.
    pub fn open(&self, subject: &Subject<'_>, sealed: &Sealed) -> Result<SecretBytes, SealError> {
        if sealed.epoch > self.epoch() {
            return Err(SealError);
        }
        let cipher = self.cipher(Purpose::Record, sealed.epoch);
        seal::open(&cipher, subject, sealed)
    }

    /// The id of the replica that these are the keys of.
    pub fn id(&self) -> ReplicaId {
        self.0.id
    }

    /// The youngest epoch of record keys.
    pub fn epoch(&self) -> u32 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// Lets rows of `epoch` be opened: it began.
    pub(crate) fn admit_epoch(&self, epoch: u32) {
        self.0.epoch.fetch_max(epoch, Ordering::AcqRel);
    }

    /// The cipher of a purpose and epoch.
    pub(crate) fn cipher(&self, purpose: Purpose, epoch: u32) -> Arc<Aes256Gcm> {
        let ciphers = self.0.ciphers.pin();
        if let Some(cipher) = ciphers.get(&(purpose, epoch)) {
            return Arc::clone(cipher);
        }
        let key = expand(&self.0.root, self.0.id, purpose, epoch);
        let cipher = Arc::new(Aes256Gcm::new((&*key).into()));
        Arc::clone(ciphers.get_or_insert((purpose, epoch), cipher))
    }

    /// The key of a row whose natural key consists of `parts`.
    pub(crate) fn row_key(&self, table: u8, parts: &[&[u8]]) -> [u8; 32] {
        let mut state = self.0.index.clone();
        state.update(&[table]);
        framed(state, parts.iter().copied())
    }

    /// What stands for something that is compared later and not kept until then.
    pub(crate) fn likeness(&self, parts: &[&[u8]]) -> [u8; 32] {
        // No table has this number.
        self.row_key(u8::MAX, parts)
    }

    /// The element of the multiset hash that stands for one row.
    pub(crate) fn authority_mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac(&self.0.authority, parts)
    }

    /// The MAC of a ledger entry.
    pub(crate) fn ledger_mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac(&self.0.ledger, parts)
    }

    /// The MAC of the anchor's state file.
    pub(crate) fn anchor_mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac(&self.0.anchor, parts)
    }
}

impl ReplicaId {
    /// A new one.
    pub(crate) fn random(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let mut id = [0; 16];
        entropy.fill(&mut id)?;
        Ok(Self(id))
    }
}

impl std::fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&shared::hex::Hex(&self.0), f)
    }
}

impl RootKey {
    pub(crate) fn random(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let mut root = Self(Box::new(Zeroizing::new([0; 32])));
        entropy.fill(root.0.as_mut_slice())?;
        Ok(root)
    }

    /// From a slot. `None` if `bytes` are not 32.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut root = Self(Box::new(Zeroizing::new([0; 32])));
        (bytes.len() == root.0.len()).then(|| root.0.copy_from_slice(bytes))?;
        Some(root)
    }

    /// For wrapping it, and for deriving from it. A place to review.
    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Whether two MACs are equal, in constant time.
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// HKDF-SHA256: `secret` salted with `salt`, expanded for `info`.
pub(crate) fn hkdf(secret: &[u8], salt: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
    extract.input_ikm(secret);
    let (mut prk, hkdf) = extract.finalize();
    prk.as_mut_slice().zeroize();
    let mut key = Zeroizing::new([0; 32]);
    if hkdf.expand_multi_info(info, key.as_mut()).is_err() {
        // HKDF refuses more than 255 blocks and this is one. Were it otherwise, no key of zeros may be used.
        std::process::abort();
    }
    key
}

fn expand(root: &RootKey, id: ReplicaId, purpose: Purpose, epoch: u32) -> Zeroizing<[u8; 32]> {
    let info: [&[u8]; 3] = [
        b"holdover replica 1 ",
        purpose.label().as_bytes(),
        &epoch.to_le_bytes(),
    ];
    hkdf(root.expose(), &id.0, &info)
}

fn hmac(key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC pads a short key with zeros to a block; doing so here leaves nothing that could fail.
    let mut block = Zeroizing::new([0; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    <Hmac<Sha256> as hmac::KeyInit>::new((&*block).into())
}

/// The MAC of `parts`, each behind its length: no two lists of parts are one text.
fn framed<'a>(mut state: Hmac<Sha256>, parts: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
    for part in parts {
        state.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        state.update(part);
    }
    state.finalize().into_bytes().into()
}

fn mac(state: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut state = state.clone();
    for part in parts {
        state.update(part);
    }
    state.finalize().into_bytes().into()
}
