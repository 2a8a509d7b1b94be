//! What may be learned from an answer to a client: one predicate for each use, and no other way to its status.

use alloc::string::String;

use crate::{
    acl::Operation,
    api::{Call, Kind},
    provenance::{ClusterShown, Provenance, denials},
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

/// How the access control denies, and how the token store does.
const DENIED_BY_RULES: &str = "1 error occurred:\n\t* permission denied\n\n";
const DENIED_FOR_TOKEN: &str = "permission denied";

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
    /// Whether all of it means the same here as there: no header asks for more than the call says, and it brings one token
    /// at most.
    pub reads_alike: bool,
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
    denied_by: Option<DeniedBy>,
    as_of: WallTime,
}

/// What of the primary said no, told by the form in which it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeniedBy {
    /// The access control: no rule of the token's policies allows the request.
    AccessControl,
    /// The token store or AppRole: whoever asks may not have the token that was asked for.
    Issuing,
    /// The token store: the caller's token is none, or none any more.
    Token,
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

    /// What denied access or a token, if that is what was decided. Only this can show that the replica would grant more: any
    /// other refusal is of the request, and says nothing of its rights.
    pub fn denied_by(self) -> Option<DeniedBy> {
        self.denied_by
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
        self.is_about_token() && self.denied_by() == Some(DeniedBy::Token)
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

    /// The decision, where it may be compared with the replica's: current, seen whole, on a request that both read alike,
    /// about who may do what, and not taken for a token that the caller did not send.
    pub fn comparable(&self) -> Option<Comparable> {
        let whole = self.body.is_some() && self.asked.body.is_some();
        let same = self.asked.reads_alike && self.asked.token != TokenUsed::Standing;
        let counts = self.is_ours() && whole && same;
        let as_of = self.provenance.as_of.filter(|_| counts)?;
        // Nobody is denied who has shown no token, but a login: what refuses that is not the access control.
        let had_token = self.asked.token == TokenUsed::Callers && self.asked.asks_for_token;
        let is_login = self.asked.call.kind == Kind::Login;
        let denied_by = self.denied_by().filter(|by| match by {
            DeniedBy::AccessControl | DeniedBy::Token => had_token,
            DeniedBy::Issuing => had_token || is_login,
        });
        self.is_decision().then_some(Comparable {
            status: self.status,
            denied_by,
            as_of,
        })
    }

    fn denied_by(&self) -> Option<DeniedBy> {
        let errors = self.errors()?;
        let [text] = errors.errors.as_slice() else {
            return None;
        };
        let kind = &self.asked.call.kind;
        match (self.status, text.as_str()) {
            (403, DENIED_BY_RULES) => Some(DeniedBy::AccessControl),
            (403, DENIED_FOR_TOKEN) => Some(DeniedBy::Token),
            (403, text) if denials::hides_mount(kind, text) => Some(DeniedBy::AccessControl),
            (400, text) if denials::withholds_token(kind, text) => Some(DeniedBy::Issuing),
            _ => None,
        }
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

    /// Whether it is about access, rather than a failure, a limit, a state that is awaited, the refusal of what cannot be
    /// read, or what something before the primary says in its place.
    fn is_decision(&self) -> bool {
        match self.status {
            400 => !self.is_malformed(),
            403 => self
                .errors()
                .is_some_and(|errors| !errors.errors.is_empty()),
            404 | 405 => self.has_the_primarys_shape(),
            _ => self.is_success(),
        }
    }

    /// Whether the body is what the primary writes: an object, or nothing at all.
    fn has_the_primarys_shape(&self) -> bool {
        let body = self.body.unwrap_or_default();
        let object = || serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body);
        body.trim_ascii().is_empty() || object().is_ok()
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
            reads_alike: true,
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

    const DENIED_BY_ACL: &[u8] = br#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;

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
        for status in [307, 401, 412, 413, 415, 429, 500, 502, 503, 504] {
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
            with(whole, |asked| asked.reads_alike = false),
        ] {
            assert!(other.comparable().is_none());
        }
    }

    #[test]
    fn what_stands_before_the_primary_decides_nothing() {
        let call = call("GET", "/v1/secret/data/a");
        let compared = |status, body: &'static [u8]| {
            let it = evidence(&call, CURRENT, status).whole(body);
            it.comparable().is_some()
        };
        for status in [403, 404, 405] {
            assert!(
                !compared(status, b"<html><h1>Forbidden</h1></html>"),
                "{status}"
            );
            assert!(!compared(status, b"[]"), "{status}");
        }
        assert!(!compared(403, br#"{"message":"Forbidden"}"#));
        assert!(!compared(403, b""), "to a HEAD");
        assert!(compared(404, br#"{"errors":[]}"#) && compared(405, b""));
    }

    #[test]
    fn a_denial_is_told_by_its_form_and_by_the_token_that_it_is_of() {
        let call = call("GET", "/v1/secret/data/a");
        let denied_by = |status, body: &'static [u8]| {
            let it = evidence(&call, CURRENT, status).whole(body);
            it.comparable().and_then(Comparable::denied_by)
        };
        assert_eq!(denied_by(403, DENIED_BY_ACL), Some(DeniedBy::AccessControl));
        assert_eq!(denied_by(403, DENIED), Some(DeniedBy::Token));
        for (status, body) in [
            (403, &br#"{"errors":["bad token"]}"#[..]),
            (403, br#"{"errors":["permission denied","and more"]}"#),
            (400, DENIED_BY_ACL),
            (404, DENIED),
            (200, DENIED),
        ] {
            assert_eq!(denied_by(status, body), None);
        }
        let denied = evidence(&call, CURRENT, 403).whole(DENIED_BY_ACL);
        for other in [
            with(denied, |asked| asked.token = TokenUsed::None),
            with(denied, |asked| asked.asks_for_token = false),
        ] {
            let compared = other.comparable().unwrap();
            assert_eq!(
                compared.denied_by(),
                None,
                "a login has no rights to be denied by"
            );
        }
    }

    #[test]
    fn a_token_that_is_withheld_is_told_by_the_kind_of_request_and_its_words() {
        let denied_by = |target, status, text: &str, token| {
            let body = serde_json::to_vec(&Errors::one(text)).unwrap();
            let call = call("POST", target);
            let it = evidence(&call, CURRENT, status).whole(&body);
            let it = with(it, |asked| asked.token = token);
            it.comparable().and_then(Comparable::denied_by)
        };
        let beyond = "child policies must be subset of parent";
        let wrong = "invalid role or secret ID";
        let (create, login) = ("/v1/auth/token/create", "/v1/auth/approle/login");
        let by = |target, text| denied_by(target, 400, text, TokenUsed::Callers);
        assert_eq!(by(create, beyond), Some(DeniedBy::Issuing));
        assert_eq!(by(login, wrong), Some(DeniedBy::Issuing));
        let untokened = |target, text| denied_by(target, 400, text, TokenUsed::None);
        assert_eq!(untokened(login, wrong), Some(DeniedBy::Issuing));
        assert_eq!(untokened(create, beyond), None);
        assert_eq!(by(create, wrong), None);
        assert_eq!(by("/v1/secret/data/a", beyond), None);
        assert_eq!(denied_by(create, 403, beyond, TokenUsed::Callers), None);
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

        /// Whatever a client sends: nobody is denied but by a whole and current 403 in the primary's two forms, to a request
        /// that both read alike, of the caller's own token.
        #[test]
        fn nothing_but_a_denial_in_the_primarys_form_is_one(
            status in prop_oneof![Just(403_u16), 200..600_u16],
            body in prop_oneof![
                Just(DENIED.to_vec()),
                Just(DENIED_BY_ACL.to_vec()),
                any::<alloc::vec::Vec<u8>>(),
            ],
            sent in proptest::option::of(any::<alloc::vec::Vec<u8>>()),
            used in 0..4_usize,
            reads_alike: bool,
            current: bool,
        ) {
            let call = call("POST", "/v1/secret/data/a");
            let used = [
                TokenUsed::Callers,
                TokenUsed::Foreign,
                TokenUsed::None,
                TokenUsed::Standing,
            ][used];
            let provenance = if current { CURRENT } else { BEHIND };
            let mut it = evidence(&call, provenance, status).whole(&body);
            (it.asked.token, it.asked.reads_alike) = (used, reads_alike);
            it.asked.body = sent.as_deref();
            let whole = sent.is_some() && reads_alike && current && used == TokenUsed::Callers;
            let is_form = body == DENIED || body == DENIED_BY_ACL;
            let denied = it.comparable().and_then(Comparable::denied_by).is_some();
            prop_assert_eq!(denied, whole && status == 403 && is_form);
        }
    }
}
