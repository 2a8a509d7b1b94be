//! What an API request asks for: method and target turned into operation, path and kind, once.
//!
//! The rules are OpenBao's (`internal/http/logical.go`): which method is which operation, and what the
//! query does to it. Routing and the replica's answer go by the same [`Call`], so that they cannot differ.

mod namespace;

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    acl::Operation,
    mount::MountKind,
    name::{PathError, RequestPath},
    percent,
};

pub use namespace::{RequestNamespace, is_sent_with_namespace, refused_in_namespaces};

pub(crate) use namespace::cleaned;

/// An API request without its body and headers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The operation. A write is [`Operation::Update`]; only a backend can tell a create.
    pub operation: Operation,
    /// The path without `/v1/`; that of a list or scan ends in `/`.
    pub path: RequestPath,
    /// Query parameters, decoded, in order, without the `list` or `scan` that makes a GET one.
    pub query: Vec<(String, String)>,
    /// Decides who answers it.
    pub kind: Kind,
}

/// What a request is, by its path and operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `auth/holdover/login`.
    AttestedLogin,
    /// `sys/capabilities`.
    Capabilities,
    /// `sys/capabilities-accessor`.
    CapabilitiesAccessor,
    /// `sys/capabilities-self`.
    CapabilitiesSelf,
    /// Anything below a mount that is none of the others.
    Data,
    /// `sys/health`.
    Health,
    /// `sys/init`.
    Init,
    /// `sys/internal/ui/*` that is not about mounts.
    InternalUi,
    /// `sys/leader`.
    Leader,
    /// `sys/leases/lookup`.
    LeaseLookup,
    /// `sys/leases/renew[/:id]`.
    LeaseRenew,
    /// `sys/leases/revoke[/:id]`.
    LeaseRevoke,
    /// A login at any auth mount: `auth/+/login[/…]`.
    Login,
    /// `sys/internal/ui/mounts[/:path]`, with the path asked about.
    Mounts(Option<String>),
    /// `sys/seal-status`.
    SealStatus,
    /// `auth/token/create`, `create-orphan`, `create/:role`.
    TokenCreate,
    /// `auth/token/lookup`.
    TokenLookup,
    /// `auth/token/lookup-accessor`.
    TokenLookupAccessor,
    /// `auth/token/lookup-self`.
    TokenLookupSelf,
    /// `auth/token/renew`, `renew-accessor`.
    TokenRenew,
    /// `auth/token/renew-self`.
    TokenRenewSelf,
    /// `auth/token/revoke`, `revoke-accessor`, `revoke-orphan`.
    TokenRevoke,
    /// `auth/token/revoke-self`.
    TokenRevokeSelf,
    /// `sys/wrapping/*`.
    Wrapping,
}

impl Kind {
    /// Logins, and what the server says of itself: the primary looks at no token, and an old one must not keep anybody
    /// from a new one.
    pub fn needs_no_token(&self) -> bool {
        let login = matches!(self, Self::AttestedLogin | Self::Login);
        login || self.is_server_status()
    }

    /// Whether the primary looks at the request's token as such. What `sys/wrapping` does with one, or without, only
    /// the primary knows.
    pub fn asks_for_a_token(&self) -> bool {
        !self.needs_no_token() && *self != Self::Wrapping
    }

    /// Whether it is about the state of the server.
    pub fn is_server_status(&self) -> bool {
        matches!(
            self,
            Self::Health | Self::Init | Self::Leader | Self::SealStatus
        )
    }

    /// Whether clients do it around reads, to keep a token or a lease, or to give the token up.
    pub fn is_around_reads(&self) -> bool {
        matches!(
            self,
            Self::LeaseLookup
                | Self::LeaseRenew
                | Self::Mounts(_)
                | Self::TokenLookupSelf
                | Self::TokenRenewSelf
                | Self::TokenRevokeSelf
        )
    }

    /// Whether it asks what a token may do.
    pub fn is_about_capabilities(&self) -> bool {
        matches!(
            self,
            Self::Capabilities | Self::CapabilitiesAccessor | Self::CapabilitiesSelf
        )
    }

    /// Whether it asks what a token is.
    pub fn is_token_lookup(&self) -> bool {
        matches!(
            self,
            Self::TokenLookup | Self::TokenLookupAccessor | Self::TokenLookupSelf
        )
    }

    /// Whether it changes nothing, whatever its method.
    fn only_asks(&self) -> bool {
        let asks = matches!(self, Self::InternalUi | Self::LeaseLookup | Self::Mounts(_));
        asks || self.is_server_status() || self.is_about_capabilities() || self.is_token_lookup()
    }
}

/// Why a request cannot be read. The status is the primary's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// Not below `/v1/`: 404 with no errors.
    #[error("not an API path")]
    NotApi,
    /// OPTIONS, which has no operation of its own: 400.
    #[error("cannot handle internal-only request operation")]
    Internal,
    /// A method without meaning: 405 with no errors.
    #[error("unsupported method")]
    Method,
    /// 400.
    #[error(transparent)]
    Path(#[from] PathError),
    /// `list` or `scan` is not a boolean, or both are true, or the query cannot be decoded: 400.
    #[error("invalid query")]
    Query,
}

impl CallError {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::NotApi => 404,
            Self::Method => 405,
            Self::Internal | Self::Path(_) | Self::Query => 400,
        }
    }
}

impl Call {
    /// Reads a request line: method and target as they were sent (`/v1/…?…`).
    ///
    /// # Errors
    /// If there is no such call; [`CallError::status`] is what the primary would say.
    pub fn parse(method: &str, target: &str) -> Result<Self, CallError> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let raw = path.strip_prefix("/v1/").ok_or(CallError::NotApi)?;
        if raw.to_ascii_lowercase().contains("%2f") {
            return Err(PathError::Slashes.into());
        }
        let path = RequestPath::parse(&percent::decode(raw).ok_or(PathError::Characters)?)?;
        let mut query = parse_query(query)?;
        let operation = operation(method, path.as_str(), &mut query)?;
        let path = match operation {
            Operation::List | Operation::Scan => path.as_folder(),
            _ => path,
        };
        let kind = kind(path.as_str(), operation);
        Ok(Self {
            operation,
            path,
            query,
            kind,
        })
    }

    /// Makes it the same call on `path`, as far as that is one. Whether it is.
    fn see_from(&mut self, path: &str) -> bool {
        let Ok(path) = RequestPath::parse(path) else {
            return false;
        };
        self.kind = kind(path.as_str(), self.operation);
        self.path = path;
        true
    }

    /// Whether the primary's answer may be replaced by the replica's when the primary fails in mid-request:
    /// its request and response are buffered whole.
    pub fn is_fallbackable(&self, mirrored: bool) -> bool {
        match self.kind {
            Kind::Data => mirrored && self.operation.reads(),
            Kind::Wrapping => false,
            _ => true,
        }
    }

    /// Whether sending it twice, or to the primary and to the replica, changes nothing.
    pub fn is_idempotent(&self) -> bool {
        let reads = self.operation.reads() || self.operation == Operation::Header;
        reads || self.kind.only_asks()
    }

    /// Whether the primary answers it to nobody without a token, so that a success proves one and a refusal is of one; below
    /// a mount what that is decides.
    pub fn asks_for_token(&self, mount: impl FnOnce() -> Option<MountKind>) -> bool {
        match self.kind {
            Kind::Data => mount().is_some_and(|kind| kind.asks_for_a_token()),
            Kind::InternalUi | Kind::Mounts(None) => false,
            _ => self.kind.asks_for_a_token(),
        }
    }

    /// Whether it asks for a new token: such a call waits for the machine to decide.
    pub fn is_issuance(&self) -> bool {
        matches!(
            self.kind,
            Kind::AttestedLogin | Kind::Login | Kind::TokenCreate
        )
    }

    /// The first value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Call {
    /// What it is if some of its first segments are a namespace's: the first kind, from the left, that is not data. It takes
    /// time in proportion to the path's length, for whoever sends it chooses that.
    pub fn kind_behind_a_namespace(&self) -> Kind {
        let path = self.path.as_str();
        let behind = path
            .match_indices('/')
            .filter_map(|(at, _)| path.get(at.saturating_add(1)..));
        let mut kinds = behind.map(|rest| kind(rest, self.operation));
        kinds.find(|kind| *kind != Kind::Data).unwrap_or(Kind::Data)
    }
}

fn operation(
    method: &str,
    path: &str,
    query: &mut Vec<(String, String)>,
) -> Result<Operation, CallError> {
    match method {
        "GET" => {
            let (list, scan) = (take_flag(query, "list")?, take_flag(query, "scan")?);
            match (list, scan) {
                (true, true) => Err(CallError::Query),
                (true, false) => Ok(Operation::List),
                (false, true) => Ok(Operation::Scan),
                (false, false) => Ok(Operation::Read),
            }
        }
        "LIST" => Ok(Operation::List),
        "SCAN" => Ok(Operation::Scan),
        "POST" | "PUT" => Ok(Operation::Update),
        "PATCH" => Ok(Operation::Patch),
        "DELETE" => Ok(Operation::Delete),
        "HEAD" => Ok(Operation::Header),
        "OPTIONS" if !HANDLED.contains(&path) => Err(CallError::Internal),
        _ => Err(CallError::Method),
    }
}

/// Paths that an HTTP handler of their own answers, which knows no OPTIONS.
const HANDLED: [&str; 3] = ["sys/health", "sys/leader", "sys/seal-status"];

fn kind(path: &str, operation: Operation) -> Kind {
    if let Some(rest) = path.strip_prefix("auth/token/") {
        return token_kind(rest);
    }
    if let Some(rest) = path.strip_prefix("sys/") {
        return sys_kind(rest);
    }
    if path == "auth/holdover/login" {
        return Kind::AttestedLogin;
    }
    match path
        .strip_prefix("auth/")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((_, rest))
            if operation == Operation::Update
                && (rest == "login" || rest.starts_with("login/")) =>
        {
            Kind::Login
        }
        _ => Kind::Data,
    }
}

fn token_kind(rest: &str) -> Kind {
    match rest {
        "create" | "create-orphan" => Kind::TokenCreate,
        "lookup" => Kind::TokenLookup,
        "lookup-accessor" => Kind::TokenLookupAccessor,
        "lookup-self" => Kind::TokenLookupSelf,
        "renew" | "renew-accessor" => Kind::TokenRenew,
        "renew-self" => Kind::TokenRenewSelf,
        "revoke" | "revoke-accessor" | "revoke-orphan" => Kind::TokenRevoke,
        "revoke-self" => Kind::TokenRevokeSelf,
        _ if rest.starts_with("create/") => Kind::TokenCreate,
        _ => Kind::Data,
    }
}

fn sys_kind(rest: &str) -> Kind {
    match rest {
        "capabilities" => Kind::Capabilities,
        "capabilities-accessor" => Kind::CapabilitiesAccessor,
        "capabilities-self" => Kind::CapabilitiesSelf,
        "health" => Kind::Health,
        "init" => Kind::Init,
        "leader" => Kind::Leader,
        "seal-status" => Kind::SealStatus,
        "internal/ui/mounts" | "internal/ui/mounts/" => Kind::Mounts(None),
        "leases/lookup" => Kind::LeaseLookup,
        "leases/renew" => Kind::LeaseRenew,
        "leases/revoke" => Kind::LeaseRevoke,
        _ => sys_prefix(rest),
    }
}

fn sys_prefix(rest: &str) -> Kind {
    if let Some(path) = rest.strip_prefix("internal/ui/mounts/") {
        Kind::Mounts(Some(path.to_string()))
    } else if rest.starts_with("internal/ui/") {
        Kind::InternalUi
    } else if rest.starts_with("leases/renew/") {
        Kind::LeaseRenew
    } else if rest.starts_with("leases/revoke/") {
        Kind::LeaseRevoke
    } else if rest.starts_with("wrapping/") {
        Kind::Wrapping
    } else {
        Kind::Data
    }
}

/// Reads `name` of the query as Go reads a boolean, and takes it out where it is true: one that is false stays, a
/// parameter like any other.
fn take_flag(query: &mut Vec<(String, String)>, name: &str) -> Result<bool, CallError> {
    let first = query
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str());
    match first {
        None | Some("" | "0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => {
            query.retain(|(key, _)| key != name);
            Ok(true)
        }
        Some(_) => Err(CallError::Query),
    }
}

fn parse_query(query: &str) -> Result<Vec<(String, String)>, CallError> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A plus is a space there.
            let decoded =
                |part: &str| percent::decode(&part.replace('+', " ")).ok_or(CallError::Query);
            Ok((decoded(key)?, decoded(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    fn call(method: &str, target: &str) -> Call {
        Call::parse(method, target).unwrap()
    }

    #[test]
    fn list_in_any_spelling_ends_in_a_slash() {
        for (method, target) in [
            ("LIST", "/v1/secret/metadata/a"),
            ("GET", "/v1/secret/metadata/a/?list=True"),
        ] {
            let call = call(method, target);
            assert_eq!(
                (call.operation, call.path.as_str()),
                (Operation::List, "secret/metadata/a/")
            );
        }
        assert_eq!(Call::parse("GET", "/v1/a?list=yes"), Err(CallError::Query));
        assert_eq!(
            Call::parse("GET", "/v1/a?list=1&scan=1"),
            Err(CallError::Query)
        );
    }

    #[test]
    fn only_what_makes_a_get_a_list_is_no_parameter() {
        let query = |method, target| call(method, target).query;
        let pair = |key: &str, value: &str| (String::from(key), String::from(value));
        assert_eq!(query("GET", "/v1/a?list=1&list=0&b=2"), [pair("b", "2")]);
        assert_eq!(
            query("GET", "/v1/a?list=0&scan="),
            [pair("list", "0"), pair("scan", "")]
        );
        assert_eq!(query("LIST", "/v1/a?list=yes"), [pair("list", "yes")]);
        assert_eq!(query("HEAD", "/v1/a?list=yes"), [pair("list", "yes")]);
    }

    #[test]
    fn options_are_refused_as_the_primary_refuses_them() {
        let refused = |target| Call::parse("OPTIONS", target).map_err(CallError::status);
        assert_eq!(refused("/v1/secret/data/a"), Err(400));
        assert_eq!(refused("/v1/sys/health"), Err(405));
        assert_eq!(refused("/ui"), Err(404));
    }

    #[test]
    fn escapes_are_decoded_once_and_encoded_slashes_have_no_canonical_form() {
        assert_eq!(
            call("GET", "/v1/secret/data/a%20b").path.as_str(),
            "secret/data/a b"
        );
        assert_eq!(
            call("GET", "/v1/secret/data/a%2520b").path.as_str(),
            "secret/data/a%20b"
        );
        assert_eq!(
            Call::parse("GET", "/v1/a%2fb"),
            Err(CallError::Path(PathError::Slashes))
        );
        assert_eq!(
            Call::parse("GET", "/v1/a/%2e%2e/b"),
            Err(CallError::Path(PathError::Relative))
        );
        assert_eq!(Call::parse("GET", "/ui/"), Err(CallError::NotApi));
        assert_eq!(
            Call::parse("OPTIONS", "/v1/secret/data/a"),
            Err(CallError::Internal)
        );
    }

    #[test]
    fn kinds_follow_paths() {
        assert_eq!(
            call("PUT", "/v1/auth/holdover/login").kind,
            Kind::AttestedLogin
        );
        assert_eq!(call("PUT", "/v1/auth/userpass/login/u").kind, Kind::Login);
        let behind = |method, path: &str| call(method, path).kind_behind_a_namespace();
        assert_eq!(behind("PUT", "/v1/team/auth/userpass/login/u"), Kind::Login);
        assert_eq!(
            behind("PUT", "/v1/a/b/auth/token/create"),
            Kind::TokenCreate
        );
        assert_eq!(behind("GET", "/v1/team/auth/userpass/login/u"), Kind::Data);
        assert_eq!(behind("GET", "/v1/secret/auth/token"), Kind::Data);
        assert_eq!(call("GET", "/v1/auth/userpass/users/u").kind, Kind::Data);
        assert_eq!(
            call("POST", "/v1/auth/token/create/r").kind,
            Kind::TokenCreate
        );
        assert_eq!(
            call("GET", "/v1/sys/internal/ui/mounts/secret/a").kind,
            Kind::Mounts(Some("secret/a".into()))
        );
        assert_eq!(
            call("PUT", "/v1/sys/leases/revoke/database/creds/x/y").kind,
            Kind::LeaseRevoke
        );
    }

    /// What a live server answered to a token that it had revoked shows nothing of tokens; what it asks one for does.
    #[test]
    fn a_path_shows_something_of_a_token_only_if_it_is_known_to_ask_for_one() {
        let asks = |method, target: &str, mount: Option<&str>| {
            call(method, &format!("/v1/{target}")).asks_for_token(|| mount.map(MountKind::from))
        };
        for (method, target, mount) in [
            ("GET", "secret/data/a", "kv"),
            ("LIST", "secret/metadata/a", "kv"),
            ("POST", "secret/data/a", "kv"),
            ("GET", "database/creds/a", "database"),
            ("GET", "cubbyhole/a", "cubbyhole"),
        ] {
            assert!(asks(method, target, Some(mount)), "{target}");
            assert!(
                !asks(method, target, None),
                "{target}, of what nobody knows"
            );
        }
        for target in [
            "auth/token/lookup-self",
            "auth/token/renew-self",
            "auth/token/create",
            "auth/token/lookup-accessor",
            "sys/capabilities-self",
            "sys/leases/lookup",
            "sys/internal/ui/mounts/secret",
        ] {
            assert!(asks("POST", target, Some("system")), "{target}");
        }
        for (method, target, mount) in [
            ("GET", "pki/ca", "pki"),
            ("GET", "pki/cert/ca", "pki"),
            ("POST", "pki/ocsp", "pki"),
            ("GET", "pki/acme/directory", "pki"),
            ("GET", "some/mount/ca/pem", "pki"),
            // What asks for a token there is not told apart: it is looked up instead.
            ("GET", "pki/certs", "pki"),
            ("GET", "ssh/public_key", "ssh"),
            ("GET", "identity/oidc/.well-known/keys", "identity"),
            ("GET", "identity/entity/id/e", "identity"),
            ("POST", "auth/approle/login", "approle"),
            ("POST", "auth/userpass/login/a", "userpass"),
            ("POST", "auth/jwt/oidc/auth_url", "jwt"),
            ("GET", "auth/jwt/oidc/callback", "jwt"),
            ("POST", "auth/holdover/login", "token"),
            ("GET", "sys/health", "system"),
            ("GET", "sys/init", "system"),
            ("GET", "sys/leader", "system"),
            ("GET", "sys/seal-status", "system"),
            ("GET", "sys/internal/ui/mounts", "system"),
            ("GET", "sys/internal/ui/namespaces", "system"),
            ("GET", "sys/internal/specs/openapi", "system"),
            ("POST", "sys/wrapping/lookup", "system"),
            ("POST", "sys/wrapping/unwrap", "system"),
            ("GET", "sys/policies/acl", "system"),
            ("GET", "transit/keys", "transit"),
            ("GET", "whatever/there/is", "some-plugin"),
        ] {
            assert!(!asks(method, target, Some(mount)), "{target}");
        }
    }

    #[test]
    fn only_mirrored_reads_of_data_fall_back() {
        assert!(call("GET", "/v1/secret/data/a").is_fallbackable(true));
        assert!(!call("GET", "/v1/secret/data/a").is_fallbackable(false));
        assert!(!call("PUT", "/v1/secret/data/a").is_fallbackable(true));
        assert!(call("GET", "/v1/auth/token/lookup-self").is_fallbackable(false));
    }
}
