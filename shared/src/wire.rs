//! Answers as the primary shapes them: envelopes, auth blocks, errors.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::{
    kv::Content,
    name::{OutageId, PolicyName},
    token::TokenKind,
};

/// An answer of the replica, ready to be sent.
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The body, wiped when sent. Empty with 204.
    pub body: Zeroizing<Vec<u8>>,
    /// What the body is, as headers say it.
    pub content: Content,
    /// `X-Holdover-Age` in whole seconds: of the value, or of the authority that decided.
    pub age: Option<u64>,
    /// `X-Holdover-Outage`.
    pub outage: Option<OutageId>,
}

/// The envelope around most answers. `D` and `A` are `data` and `auth`.
#[derive(Serialize)]
pub struct Envelope<'a, D, A> {
    /// A fresh UUID.
    pub request_id: &'a str,
    /// The lease, or empty.
    pub lease_id: &'a str,
    /// Whether the lease may be renewed.
    pub renewable: bool,
    /// Seconds left of the lease.
    pub lease_duration: u64,
    /// The body of the answer proper; null where it has none.
    pub data: Option<D>,
    /// Always null here: nothing is wrapped by the replica.
    #[serde(serialize_with = "null")]
    pub wrap_info: (),
    /// What the caller should know.
    pub warnings: Option<&'a [String]>,
    /// A new or renewed token.
    pub auth: Option<A>,
}

/// The `auth` block of a login, token creation or renewal, in the primary's order of fields.
#[derive(Serialize, Deserialize)]
pub struct AuthBlock {
    /// The token. Zeroized where it is dropped.
    pub client_token: Zeroizing<String>,
    /// Its accessor.
    pub accessor: String,
    /// All policies.
    pub policies: Vec<PolicyName>,
    /// The token's own; left out where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_policies: Vec<PolicyName>,
    /// Those of its identity; left out where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity_policies: Vec<PolicyName>,
    /// As the login gave it.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Seconds left.
    pub lease_duration: u64,
    /// Whether it may be renewed.
    pub renewable: bool,
    /// The entity, or empty.
    pub entity_id: String,
    /// Service or batch.
    pub token_type: TokenKind,
    /// Whether it has no parent.
    pub orphan: bool,
    /// Always null here; present where the primary asks for a second factor.
    pub mfa_requirement: Option<serde_json::Value>,
    /// 0 is unlimited.
    pub num_uses: u64,
}

/// What is read of any answer of the primary that may carry a token or a lease. Unknown fields are ignored.
#[derive(Deserialize)]
pub struct Incoming<'a> {
    /// The lease, or empty.
    #[serde(default)]
    pub lease_id: String,
    /// Whether the lease may be renewed.
    #[serde(default)]
    pub renewable: bool,
    /// Seconds left of the lease.
    #[serde(default)]
    pub lease_duration: u64,
    /// The bytes of `data`, as sent.
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    /// Not null where the answer was wrapped: then nothing is learned.
    pub wrap_info: Option<serde_json::Value>,
    /// There where the answer brought a new or renewed token.
    pub auth: Option<AuthBlock>,
}

/// `{"errors": […]}`.
#[derive(Serialize, Deserialize, Debug)]
pub struct Errors {
    /// One for each cause; empty where the primary says no more than its status.
    #[serde(default)]
    pub errors: Vec<String>,
}

impl Incoming<'_> {
    /// Whether what it brings is wrapped, for whoever unwraps it.
    pub fn is_wrapped(&self) -> bool {
        let wrap_info = self.wrap_info.as_ref();
        wrap_info.is_some_and(|wrap_info| !wrap_info.is_null())
    }
}

impl Errors {
    /// One error.
    pub fn one(text: impl ToString) -> Self {
        Self {
            errors: alloc::vec![text.to_string()],
        }
    }

    /// One error in the form of Go's multierror, which the primary uses for what its core refuses.
    pub fn multi(text: &str) -> Self {
        Self::one(alloc::format!("1 error occurred:\n\t* {text}\n\n"))
    }

    /// None: as the primary answers 404 and 405.
    pub fn none() -> Self {
        Self { errors: Vec::new() }
    }
}

fn null<S: Serializer>((): &(), serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_none()
}

/// Serialises as the primary does: `<`, `>` and `&` escaped, a newline at the end.
///
/// # Errors
/// If `value` cannot be serialised, which for the types of this module does not happen.
pub fn to_body<T: Serialize>(value: &T) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let plain = Zeroizing::new(serde_json::to_vec(value)?);
    let mut body = Zeroizing::new(Vec::with_capacity(plain.len() + plain.len() / 16 + 1));
    for byte in plain.iter() {
        match byte {
            b'<' => body.extend_from_slice(b"\\u003c"),
            b'>' => body.extend_from_slice(b"\\u003e"),
            b'&' => body.extend_from_slice(b"\\u0026"),
            _ => body.push(*byte),
        }
    }
    body.push(b'\n');
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_escape_what_go_escapes() {
        let body = to_body(&Errors::one("a <b> & c")).unwrap();
        assert_eq!(
            core::str::from_utf8(&body).unwrap(),
            "{\"errors\":[\"a \\u003cb\\u003e \\u0026 c\"]}\n"
        );
    }

    #[test]
    fn the_envelope_has_the_primarys_fields_in_its_order() {
        let warnings = [String::from("w")];
        let envelope: Envelope<'_, (), AuthBlock> = Envelope {
            request_id: "r",
            lease_id: "",
            renewable: false,
            lease_duration: 0,
            data: None,
            wrap_info: (),
            warnings: Some(&warnings),
            auth: None,
        };
        let body = to_body(&envelope).unwrap();
        assert_eq!(
            core::str::from_utf8(&body).unwrap(),
            "{\"request_id\":\"r\",\"lease_id\":\"\",\"renewable\":false,\"lease_duration\":0,\"data\":null,\
             \"wrap_info\":null,\"warnings\":[\"w\"],\"auth\":null}\n"
        );
    }
}
