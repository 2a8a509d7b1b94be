//! What may be learned from an answer to a client: one predicate for each use, and no other way to its status.

use alloc::string::String;

use crate::{
    acl::Operation,
    api::Call,
    provenance::{ClusterShown, Provenance},
    time::WallTime,
    wire::Errors,
};

/// Whose token went with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenUsed {
    /// The caller's own.
    Callers,
    /// None at all.
    None,
    /// Another than the caller's, which it never sees.
    Standing,
}

/// A request that was answered, and where its answer comes from.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// What was asked.
    pub call: &'a Call,
    /// Where the answer comes from.
    pub provenance: Provenance,
    /// Whose token went with the request.
    pub token: TokenUsed,
    /// Whether request and answer are of the mirrored namespace.
    pub mirrored_namespace: bool,
    /// Whether the path answers nobody without a token.
    pub asks_for_token: bool,
    /// The request's body, if all of it was seen.
    pub request: Option<&'a [u8]>,
    status: u16,
    body: Option<&'a [u8]>,
}

/// A decision of the primary that the replica's may be compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Comparable {
    status: u16,
}

impl Comparable {
    /// The primary's status.
    pub fn status(self) -> u16 {
        self.status
    }
}

impl<'a> Evidence<'a> {
    /// An answer without a body that could be looked into, to a request of which nothing but `call` is known. What else is
    /// known is said by its fields, and by [`Evidence::whole`].
    pub fn new(call: &'a Call, provenance: Provenance, status: u16) -> Self {
        Self {
            call,
            provenance,
            token: TokenUsed::None,
            mirrored_namespace: false,
            asks_for_token: false,
            request: None,
            status,
            body: None,
        }
    }

    /// The same with its whole body.
    #[must_use]
    pub fn whole(self, body: &'a [u8]) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    /// The moment up to which the answer proves that the caller's token is good.
    pub fn proves_token(&self) -> Option<WallTime> {
        let proves = self.is_ours()
            && self.token == TokenUsed::Callers
            && self.asks_for_token
            && self.is_success();
        self.provenance.as_of.filter(|_| proves)
    }

    /// Whether the caller's token was accepted by the trusted cluster, current or not: it is worth being looked up.
    pub fn accepts_token(&self) -> bool {
        self.is_ours()
            && self.token == TokenUsed::Callers
            && self.asks_for_token
            && self.is_success()
    }

    /// Whether the caller's token was refused, in the form in which the primary refuses tokens: a look-up of it is due, and
    /// nothing more. The access control's own refusal has another form, and says nothing of the token.
    pub fn doubts_token(&self) -> bool {
        self.is_ours()
            && self.token == TokenUsed::Callers
            && self.status == 403
            && self
                .errors()
                .is_some_and(|errors| errors.errors == ["permission denied"])
    }

    /// The body of a success that may carry what it brought into being: a token, a lease. What an answer says of these is
    /// so, whichever node wrote it.
    pub fn brought(&self) -> Option<&'a [u8]> {
        self.body.filter(|_| self.is_ours() && self.is_success())
    }

    /// Whether what was asked for was carried out.
    pub fn carried_out(&self) -> bool {
        self.is_ours() && self.is_success()
    }

    /// The body of a success that shows something as it stood at the moment that comes with it.
    pub fn shows(&self) -> Option<(&'a [u8], WallTime)> {
        self.brought().zip(self.provenance.as_of)
    }

    /// The texts of a login that was refused, where the trusted cluster refused it.
    pub fn refused_login(&self) -> Option<Refused> {
        let errors = self.errors().filter(|_| self.is_ours())?;
        let is = |text: &str| errors.errors == [text];
        match self.status {
            400 => Some(Refused::Failed {
                by_its_ids: is("invalid role or secret ID"),
            }),
            // A locked role id; an entity that is disabled is refused in the same words.
            403 if is("permission denied") => Some(Refused::Locked),
            _ => None,
        }
    }

    /// The decision, where it may be compared with the replica's: current, seen whole, about who may do what.
    pub fn comparable(&self) -> Option<Comparable> {
        let whole = self.body.is_some() && self.request.is_some();
        let about_access = match self.status {
            429 | 500.. => false,
            // What it cannot read it refuses before it decides.
            400 => !self.is_malformed(),
            _ => true,
        };
        let counts = self.is_ours() && whole && about_access && self.provenance.as_of.is_some();
        counts.then_some(Comparable {
            status: self.status,
        })
    }

    fn is_ours(&self) -> bool {
        self.provenance.cluster == ClusterShown::Pinned && self.mirrored_namespace
    }

    fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Whether the request's body is not what such a request has.
    fn is_malformed(&self) -> bool {
        let writes = matches!(self.call.operation, Operation::Update | Operation::Patch);
        let body = self.request.unwrap_or_default();
        let read = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body);
        writes && !body.is_empty() && read.is_err()
    }

    fn errors(&self) -> Option<Errors> {
        serde_json::from_slice(self.body?).ok()
    }
}

/// How the primary refused a login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// What it brought is wrong; `by_its_ids` where the primary says so of a role id or secret id.
    Failed {
        /// Whether it names the ids, and nothing else.
        by_its_ids: bool,
    },
    /// Too many failed before it.
    Locked,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call(method: &str, target: &str) -> Call {
        Call::parse(method, target).unwrap()
    }

    const NOW: WallTime = WallTime::from_secs(1000);
    const CURRENT: Provenance = Provenance {
        cluster: ClusterShown::Pinned,
        as_of: Some(NOW),
    };
    const BEHIND: Provenance = Provenance {
        cluster: ClusterShown::Pinned,
        as_of: None,
    };

    fn evidence(call: &Call, provenance: Provenance, status: u16) -> Evidence<'_> {
        Evidence {
            token: TokenUsed::Callers,
            mirrored_namespace: true,
            asks_for_token: true,
            request: Some(b""),
            ..Evidence::new(call, provenance, status)
        }
    }

    const DENIED: &[u8] = br#"{"errors":["permission denied"]}"#;

    #[test]
    fn only_a_current_success_with_its_own_token_proves_a_token() {
        let call = call("GET", "/v1/secret/data/a");
        let good = evidence(&call, CURRENT, 200);
        assert_eq!(good.proves_token(), Some(NOW));
        let standing = TokenUsed::Standing;
        for other in [
            evidence(&call, BEHIND, 200),
            evidence(&call, CURRENT, 403),
            Evidence {
                token: standing,
                ..good
            },
            Evidence {
                asks_for_token: false,
                ..good
            },
            Evidence {
                mirrored_namespace: false,
                ..good
            },
        ] {
            assert_eq!(other.proves_token(), None);
        }
    }

    #[test]
    fn a_refusal_of_the_token_makes_a_check_due_wherever_it_comes_from_in_the_trusted_cluster() {
        let call = call("GET", "/v1/secret/data/a");
        assert!(evidence(&call, BEHIND, 403).whole(DENIED).doubts_token());
        let by_policy = br#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
        assert!(
            !evidence(&call, CURRENT, 403)
                .whole(by_policy)
                .doubts_token()
        );
        assert!(
            !evidence(&call, CURRENT, 403).doubts_token(),
            "not seen whole"
        );
        assert!(!evidence(&call, CURRENT, 400).whole(DENIED).doubts_token());
        let standing = TokenUsed::Standing;
        let other = Evidence {
            token: standing,
            ..evidence(&call, CURRENT, 403)
        };
        assert!(!other.whole(DENIED).doubts_token());
    }

    #[test]
    fn parity_compares_access_decisions_and_nothing_else() {
        let call = call("POST", "/v1/auth/token/create");
        let compared = |provenance, status, body| {
            let request = Some(body);
            let it = Evidence {
                request,
                ..evidence(&call, provenance, status)
            };
            it.whole(b"{}").comparable().map(Comparable::status)
        };
        let sent: &[u8] = b"{}";
        assert_eq!(compared(CURRENT, 403, sent), Some(403));
        assert_eq!(compared(CURRENT, 400, sent), Some(400));
        assert_eq!(compared(CURRENT, 400, b"[1]"), None);
        for status in [429, 500, 502, 503, 504] {
            assert_eq!(compared(CURRENT, status, sent), None);
        }
        assert_eq!(compared(BEHIND, 200, sent), None);
        assert!(
            evidence(&call, CURRENT, 200).comparable().is_none(),
            "not seen whole"
        );
    }

    proptest! {
        /// What comes from elsewhere teaches nothing at all, whatever it says.
        #[test]
        fn nothing_is_learned_from_what_is_not_the_trusted_clusters(
            status in 100..600u16,
            body in prop_oneof![Just(DENIED.to_vec()), any::<alloc::vec::Vec<u8>>()],
            foreign: bool,
            elsewhere: bool,
        ) {
            let call = call("POST", "/v1/auth/approle/login");
            let cluster = match (foreign, elsewhere) {
                (_, true) => ClusterShown::Pinned,
                (true, _) => ClusterShown::Foreign,
                (false, _) => ClusterShown::Unshown,
            };
            let provenance = Provenance { cluster, as_of: Some(NOW) };
            let it = Evidence { mirrored_namespace: !elsewhere, ..evidence(&call, provenance, status) };
            let it = it.whole(&body);
            prop_assert!(it.proves_token().is_none() && !it.doubts_token() && !it.accepts_token());
            prop_assert!(it.brought().is_none() && it.shows().is_none() && !it.carried_out());
            prop_assert!(it.refused_login().is_none() && it.comparable().is_none());
        }
    }
}
