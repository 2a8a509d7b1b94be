//! Signed tokens, as an issuer of host identities makes them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use harness::{Context, Result, authority::pem};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use serde_json::Value;

/// An issuer: ES256.
pub(super) struct Signer(KeyPair);

impl Signer {
    pub(super) fn make() -> Result<Signer> {
        Ok(Signer(KeyPair::generate()?))
    }

    /// PEM.
    pub(super) fn public_key(&self) -> String {
        pem("PUBLIC KEY", &self.0.subject_public_key_info())
    }

    pub(super) fn sign(&self, claims: &Value) -> Result<String> {
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","typ":"JWT"}"#);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.0.sign(signed.as_bytes())?;
        let signature = fixed(&signature).context("no ECDSA signature")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The year 2023, as the claim `iat`: without it the primary takes a token for one that begins shortly before its end.
pub(super) const EARLY: u64 = 1_700_000_000;

/// The year 2100, as the claim `exp`.
pub(super) const LATE: u64 = 4_102_444_800;

/// A signature of DER's form, two integers in a sequence, as the two numbers of 32 bytes that JWTs have.
fn fixed(der: &[u8]) -> Option<[u8; 64]> {
    let mut rest = der.strip_prefix(&[0x30])?.get(1..)?;
    let mut both = [0; 64];
    for half in both.chunks_mut(32) {
        let [0x02, length, more @ ..] = rest else {
            return None;
        };
        let (number, after) = more.split_at_checked(usize::from(*length))?;
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        let start = 32_usize.checked_sub(number.len())?;
        half.get_mut(start..)?.copy_from_slice(number);
        rest = after;
    }
    Some(both)
}
