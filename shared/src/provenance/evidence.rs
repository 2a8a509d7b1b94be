//! What may be learned from an answer to a client: one predicate for each use, and no other way to its status.

use alloc::string::String;

use crate::{
    acl::Operation,
    api::{Call, Kind},
    provenance::{ClusterShown, Provenance},
    time::WallTime,
    wire::Errors,
};

/// How texts begin by which the primary refuses input that it cannot read, before it decides about anybody's rights.
const UNREADABLE: [&str; 6] = [
    "Field validation failed",
    "cannot write to a path",
    "error converting input",
    "failed to decode",
    "refused JSON input",
    "time: ",
];

/// Whose token went with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenUsed {
    /// The caller's own, or the one that stands behind it.
    Callers,
    /// The caller's own, of another namespace than the mirrored one: what it may do is decided by other policies.
    Foreign,
    /// None at all.
    None,
    /// That of its workload, which it never sees.
    Standing,
}

/// A request, as far as it says what its answer may teach.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// What was asked.
    pub call: &'a Call,
    /// Whose token went with it.
    pub token: TokenUsed,
    /// Whether it is of the mirrored namespace.
    pub mirrored_namespace: bool,
    /// Whether the path answers nobody without a token: [`Call::asks_for_token`].
    pub asks_for_token: bool,
    /// Its body, if all of it was seen.
    pub body: Option<&'a [u8]>,
}

/// A request that was answered, and where its answer comes from.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The request.
    pub asked: Question<'a>,
    provenance: Provenance,
    status: u16,
    body: Option<&'a [u8]>,
}

/// A decision of the primary that the replica's may be compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Comparable {
    status: u16,
    as_of: WallTime,
}

/// What an answer says of what is at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateTold<'a> {
    /// Whether something is there.
    pub is_there: bool,
    /// The body of the answer.
    pub body: &'a [u8],
    /// Whether it is shown to be so now.
    pub current: bool,
}

impl Comparable {
    /// The primary's status.
    pub fn status(self) -> u16 {
        self.status
    }

    /// The moment up to which the decision is shown to be current.
    pub fn as_of(self) -> WallTime {
        self.as_of
    }
}

impl<'a> Evidence<'a> {
    /// An answer to `asked` of which no body could be looked into.
    pub fn new(asked: Question<'a>, provenance: Provenance, status: u16) -> Self {
        Self {
            asked,
            provenance,
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

    /// Whether the trusted cluster serves, whatever it said to this caller.
    pub fn serves(&self) -> bool {
        self.is_pinned() && self.status < 500
    }

    /// The moment up to which the answer proves that the caller's token is good.
    pub fn proves_token(&self) -> Option<WallTime> {
        self.provenance.as_of.filter(|_| self.accepts_token())
    }

    /// Whether the caller's token was accepted by the trusted cluster, current or not: it is worth being looked up.
    pub fn accepts_token(&self) -> bool {
        self.is_about_token() && self.is_success()
    }

    /// Whether the caller's token was refused, in the form in which the primary refuses tokens: a look-up of it is due, and
    /// nothing more. The access control's own refusal has another form, and says nothing of the token.
    pub fn doubts_token(&self) -> bool {
        let refused = |errors: Errors| errors.errors == ["permission denied"];
        self.is_about_token() && self.status == 403 && self.errors().is_some_and(refused)
    }

    /// The body of a success that may carry what it brought into being: a token, a lease. What an answer says of these is
    /// so, whichever node wrote it.
    pub fn brought(&self) -> Option<&'a [u8]> {
        self.body.filter(|_| self.is_ours() && self.is_success())
    }

    /// Whether what was asked for was carried out, whoever asked.
    pub fn carried_out(&self) -> bool {
        self.is_pinned() && self.asked.mirrored_namespace && self.is_success()
    }

    /// The body of a success that shows something as it stood at the moment that comes with it.
    pub fn shows(&self) -> Option<(&'a [u8], WallTime)> {
        self.brought().zip(self.provenance.as_of)
    }

    /// What a whole answer says of what is at a path, of whatever moment.
    pub fn tells(&self) -> Option<StateTold<'a>> {
        let body = self
            .body
            .filter(|_| self.is_pinned() && self.asked.mirrored_namespace)?;
        let is_there = match self.status {
            200 => true,
            404 => false,
            _ => return None,
        };
        Some(StateTold {
            is_there,
            body,
            current: self.provenance.as_of.is_some(),
        })
    }

    /// How a login was refused, where the trusted cluster refused it.
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

    /// Whether a login was refused for what it brought, in whatever namespace: by the trusted cluster as of now, and not
    /// because it could not be read. Nothing else counts against whoever tries.
    pub fn fails_login(&self) -> bool {
        let is_login = self.asked.call.kind == Kind::Login;
        let is_current = self.is_pinned() && self.provenance.as_of.is_some();
        let is_refused = matches!(self.status, 400 | 403);
        is_login && is_current && is_refused && !self.is_malformed()
    }

    /// The decision, where it may be compared with the replica's: current, seen whole, about who may do what, and not taken
    /// for a token that the caller did not send.
    pub fn comparable(&self) -> Option<Comparable> {
        let whole = self.body.is_some() && self.asked.body.is_some();
        let counts = self.is_ours() && whole && self.asked.token != TokenUsed::Standing;
        let as_of = self.provenance.as_of.filter(|_| counts)?;
        self.is_decision().then_some(Comparable {
            status: self.status,
            as_of,
        })
    }

    fn is_pinned(&self) -> bool {
        self.provenance.cluster == ClusterShown::Pinned
    }

    /// Where nobody looks at a token, a foreign one does not matter.
    fn is_ours(&self) -> bool {
        let foreign =
            self.asked.token == TokenUsed::Foreign && !self.asked.call.kind.needs_no_token();
        self.is_pinned() && self.asked.mirrored_namespace && !foreign
    }

    fn is_about_token(&self) -> bool {
        self.is_ours() && self.asked.token == TokenUsed::Callers && self.asked.asks_for_token
    }

    fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Whether it is about access, rather than a failure, a limit, or the refusal of what cannot be read.
    fn is_decision(&self) -> bool {
        match self.status {
            400 => !self.is_malformed(),
            401 | 403 | 404 | 405 | 412 => true,
            _ => self.is_success(),
        }
    }

    /// Whether the request is not what such a request is, by its body or in the primary's words.
    fn is_malformed(&self) -> bool {
        let writes = matches!(
            self.asked.call.operation,
            Operation::Update | Operation::Patch
        );
        let body = self.asked.body.unwrap_or_default().trim_ascii();
        let nothing = body.is_empty() || body == b"null";
        let read = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body);
        let unreadable = |error: &String| {
            UNREADABLE
                .iter()
                .any(|beginning| error.starts_with(beginning))
        };
        writes && !nothing && read.is_err()
            || self
                .errors()
                .is_none_or(|errors| errors.errors.iter().any(unreadable))
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

    fn question(call: &Call) -> Question<'_> {
        Question {
            call,
            token: TokenUsed::Callers,
            mirrored_namespace: true,
            asks_for_token: true,
            body: Some(b""),
        }
    }

    fn evidence(call: &Call, provenance: Provenance, status: u16) -> Evidence<'_> {
        Evidence::new(question(call), provenance, status)
    }

    /// The same answer to a request that differs.
    fn with<'a>(it: Evidence<'a>, change: impl Fn(&mut Question<'a>)) -> Evidence<'a> {
        let mut it = it;
        change(&mut it.asked);
        it
    }

    const DENIED: &[u8] = br#"{"errors":["permission denied"]}"#;

    #[test]
    fn only_a_current_success_with_its_own_token_proves_a_token() {
        let call = call("GET", "/v1/secret/data/a");
        let good = evidence(&call, CURRENT, 200);
        assert_eq!(good.proves_token(), Some(NOW));
        for other in [
            evidence(&call, BEHIND, 200),
            evidence(&call, CURRENT, 403),
            with(good, |asked| asked.token = TokenUsed::Standing),
            with(good, |asked| asked.token = TokenUsed::None),
            with(good, |asked| asked.asks_for_token = false),
            with(good, |asked| asked.mirrored_namespace = false),
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
        let refused = evidence(&call, CURRENT, 403).whole(DENIED);
        for other in [
            with(refused, |asked| asked.token = TokenUsed::Standing),
            with(refused, |asked| asked.asks_for_token = false),
        ] {
            assert!(!other.doubts_token());
        }
    }

    #[test]
    fn an_acceptance_that_is_not_current_proves_nothing_and_is_worth_a_look_up() {
        let call = call("GET", "/v1/secret/data/a");
        let behind = evidence(&call, BEHIND, 200).whole(b"{}");
        assert!(behind.proves_token().is_none() && behind.accepts_token());
        assert!(behind.shows().is_none() && behind.brought().is_some());
        assert_eq!(
            evidence(&call, CURRENT, 200).whole(b"{}").shows(),
            Some((&b"{}"[..], NOW))
        );
    }

    #[test]
    fn a_login_is_refused_by_the_trusted_cluster_alone_and_in_its_words() {
        let call = call("PUT", "/v1/auth/approle/login");
        let refused = |status, body: &'static [u8]| {
            evidence(&call, BEHIND, status).whole(body).refused_login()
        };
        let wrong = br#"{"errors":["invalid role or secret ID"]}"#;
        let by_its_ids = |by_its_ids| Some(Refused::Failed { by_its_ids });
        assert_eq!(refused(400, wrong), by_its_ids(true));
        let missing = br#"{"errors":["missing secret_id"]}"#;
        assert_eq!(refused(400, missing), by_its_ids(false));
        assert_eq!(refused(403, DENIED), Some(Refused::Locked));
        assert_eq!(refused(500, wrong), None);
        assert_eq!(refused(400, b"<html>"), None);
        let elsewhere = evidence(&call, Provenance::UNSHOWN, 400).whole(wrong);
        assert_eq!(elsewhere.refused_login(), None);
    }

    #[test]
    fn a_login_fails_by_a_current_refusal_of_what_it_brought_in_any_namespace() {
        let call = call("PUT", "/v1/auth/approle/login");
        let wrong: &[u8] = br#"{"errors":["invalid role or secret ID"]}"#;
        let refused = |provenance, status, body: &'static [u8]| {
            evidence(&call, provenance, status).whole(body)
        };
        let failed = refused(CURRENT, 400, wrong);
        assert!(failed.fails_login() && refused(CURRENT, 403, DENIED).fails_login());
        let elsewhere = with(failed, |asked| asked.mirrored_namespace = false);
        assert!(elsewhere.fails_login(), "no way past the bound on guessing");
        for other in [
            refused(BEHIND, 400, wrong),
            refused(Provenance::UNSHOWN, 400, wrong),
            refused(CURRENT, 400, b"<html>"),
            refused(CURRENT, 400, br#"{"errors":["failed to decode request"]}"#),
            refused(CURRENT, 429, wrong),
            refused(CURRENT, 500, wrong),
            refused(CURRENT, 503, wrong),
            refused(CURRENT, 200, b"{}"),
            with(failed, |asked| asked.body = Some(b"not JSON")),
        ] {
            assert!(!other.fails_login());
        }
    }

    #[test]
    fn a_token_of_another_namespace_teaches_nothing_and_what_it_revoked_is_revoked() {
        let foreign = |call, status| {
            let it = evidence(call, CURRENT, status);
            with(it, |asked| asked.token = TokenUsed::Foreign)
        };
        let revoke = call("PUT", "/v1/auth/token/revoke");
        let carried_out = foreign(&revoke, 200).whole(b"{}");
        assert!(carried_out.carried_out() && carried_out.brought().is_none());
        assert!(!carried_out.accepts_token() && carried_out.comparable().is_none());
        assert!(!foreign(&revoke, 403).whole(DENIED).doubts_token());
        // No way past the bound on guessing.
        let login = call("PUT", "/v1/auth/approle/login");
        let refused = foreign(&login, 400).whole(br#"{"errors":["invalid role or secret ID"]}"#);
        assert!(refused.refused_login().is_some());
    }

    #[test]
    fn the_trusted_cluster_serves_whatever_it_decides() {
        let call = call("GET", "/v1/secret/data/a");
        let elsewhere = with(evidence(&call, BEHIND, 404), |asked| {
            asked.mirrored_namespace = false;
        });
        assert!(elsewhere.serves(), "in another namespace too");
        assert!(!evidence(&call, BEHIND, 500).serves());
        assert!(!evidence(&call, Provenance::UNSHOWN, 200).serves());
    }

    #[test]
    fn parity_compares_access_decisions_and_nothing_else() {
        let call = call("POST", "/v1/auth/token/create");
        let compared = |provenance, status, body| {
            let it = evidence(&call, provenance, status);
            let it = with(it, |asked| asked.body = Some(body));
            let body = br#"{"errors":["child policies must be subset of parent"]}"#;
            it.whole(body).comparable().map(Comparable::status)
        };
        let sent: &[u8] = b"{}";
        assert_eq!(compared(CURRENT, 403, sent), Some(403));
        assert_eq!(compared(CURRENT, 400, sent), Some(400));
        assert_eq!(compared(CURRENT, 400, b"null"), Some(400));
        assert_eq!(compared(CURRENT, 400, b"[1]"), None);
        for status in [307, 413, 415, 429, 500, 502, 503, 504] {
            assert_eq!(compared(CURRENT, status, sent), None);
        }
        assert_eq!(compared(BEHIND, 200, sent), None);
        let seen = evidence(&call, CURRENT, 200);
        assert!(seen.comparable().is_none(), "not seen whole");
        let whole = seen.whole(b"{}");
        assert_eq!(whole.comparable().map(Comparable::as_of), Some(NOW));
        for other in [
            with(whole, |asked| asked.token = TokenUsed::Standing),
            with(whole, |asked| asked.body = None),
        ] {
            assert!(other.comparable().is_none());
        }
    }

    /// As OpenBao 2.7.2 says it: what it cannot read it refuses whoever asks.
    #[test]
    fn a_refusal_of_input_is_told_from_one_of_rights_by_its_words() {
        let call = call("POST", "/v1/auth/token/create");
        let compared = |text: &str| {
            let body = serde_json::to_vec(&Errors::one(text)).unwrap();
            let refused = evidence(&call, CURRENT, 400).whole(&body).comparable();
            refused.is_some()
        };
        for text in [
            "failed to decode JSON input: unexpected EOF",
            "refused JSON input due to high complexity: exceeded maximum number of strings",
            "Field validation failed: error converting input for field \"ttl\"",
            "cannot write to a path ending in '/'",
            "time: unknown unit \"x\" in duration \"1x\"",
        ] {
            assert!(!compared(text), "{text}");
        }
        for text in [
            "child policies must be subset of parent",
            "invalid lease",
            "1 error occurred:\n\t* invalid accessor\n\n",
        ] {
            assert!(compared(text), "{text}");
        }
    }

    #[test]
    fn only_what_says_that_something_is_there_or_not_tells_of_a_path() {
        let call = call("GET", "/v1/secret/data/a");
        let told = |provenance, status| {
            let told = evidence(&call, provenance, status).whole(b"{}").tells()?;
            Some((told.is_there, told.current))
        };
        assert_eq!(told(CURRENT, 200), Some((true, true)));
        assert_eq!(told(BEHIND, 404), Some((false, false)));
        for status in [204, 307, 400, 403, 405, 429, 500, 503] {
            assert_eq!(told(CURRENT, status), None, "{status}");
        }
        assert_eq!(
            evidence(&call, CURRENT, 200).tells(),
            None,
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
            let it = evidence(&call, provenance, status).whole(&body);
            let it = with(it, |asked| asked.mirrored_namespace = !elsewhere);
            prop_assert!(it.proves_token().is_none() && !it.doubts_token() && !it.accepts_token());
            prop_assert!(it.brought().is_none() && it.shows().is_none() && !it.carried_out());
            prop_assert!(it.refused_login().is_none() && it.comparable().is_none());
            prop_assert_eq!(it.serves(), elsewhere && status < 500);
        }
    }
}
