//! The primary's access control, decided the way OpenBao 2.7.2 decides it.
//!
//! [`Policy::parse`] reads a policy's text, [`Acl::compile`] merges a token's policies, and [`Acl::decide`]
//! judges one request. What the primary has and this module does not model is [`Decision::Undecidable`],
//! and only for the requests that it could touch. Pure: the time and the identity are arguments.

mod capability;
mod compile;
mod contributors;
mod cursor;
mod decode;
mod document;
mod error;
mod filter;
mod hcl;
mod json;
mod literal;
mod parameters;
mod pattern;
mod permissions;
mod policy;
mod rule;
mod span;
mod sudo;
mod template;

use alloc::{borrow::Cow, collections::BTreeSet, format, string::String, sync::Arc, vec, vec::Vec};
use core::time::Duration;

use serde_json::{Map, Value};

use crate::time::WallTime;

pub use compile::{CompileError, PolicyEntry};
pub use error::{PolicyError, Reason};
pub use policy::Policy;

use compile::{Compiled, Scope};
use filter::FilterTemplate;
use parameters::RuleOrigin;

/// What a request does, as the primary classes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// GET.
    Read,
    /// LIST, or GET with `list=true`. The path ends in `/`.
    List,
    /// SCAN, or GET with `scan=true`. The path ends in `/`.
    Scan,
    /// POST or PUT where the backend says that the object is absent.
    Create,
    /// POST or PUT otherwise; renewals and revocations too.
    Update,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
    /// HEAD: no capability allows it.
    Header,
}

impl Operation {
    /// Whether it shows what is there: a read, a list or a scan.
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::List | Self::Scan)
    }

    /// Whether it asks for names: its path ends in `/`, and a rule for it may be written without.
    pub fn lists(self) -> bool {
        matches!(self, Self::List | Self::Scan)
    }

    /// Whether it brings data.
    pub fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Patch)
    }
}

/// One request, as the primary's access control sees it. It cannot be printed: its data may be secret.
#[derive(Clone, Copy)]
pub struct AclRequest<'a> {
    /// The namespace's path, ending in `/`; empty for the root namespace.
    pub namespace: &'a str,
    /// The decoded path below the namespace, without `/v1/`. List and scan paths end in `/`.
    pub path: &'a str,
    /// Decides which capability it needs.
    pub operation: Operation,
    /// Keys of the JSON body, or query parameters (a string, or a list of strings where repeated) for
    /// methods without a body. Without `list`, `scan` and `help`.
    pub data: &'a Map<String, Value>,
    /// `X-Vault-Wrap-TTL`, where sent and not empty.
    pub wrap_ttl: Option<Duration>,
    /// `help=1`: always allowed.
    pub help: bool,
}

/// What is decided on one request.
#[must_use]
#[derive(Clone, PartialEq, Debug)]
pub enum Decision {
    /// The primary would run it, under these obligations.
    Allow(Allowed),
    /// The primary would answer 403 `permission denied`.
    Deny,
    /// Only the primary can tell.
    Undecidable(Undecidable),
}

/// Permission, with what its holder owes. Only [`Acl::decide`] makes one.
#[must_use]
#[derive(Clone, PartialEq, Debug)]
pub struct Allowed {
    root: bool,
    limit: Option<u64>,
    filter: Option<ListFilter>,
}

/// `list_scan_response_keys_filter_path`: a template that names, for each returned key, the path that the
/// caller must be able to read (or list, where the key ends in `/`) to see it. See [`Acl::shows`].
#[derive(Clone, PartialEq, Debug)]
pub struct ListFilter {
    rule: String,
    template: FilterTemplate,
}

/// Why only the primary can decide.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Undecidable {
    /// The deciding rule has a control group for this operation.
    #[error("the rule for {path:?} asks for approval by a control group")]
    ControlGroup {
        /// The rule's path.
        path: String,
    },
    /// The deciding rule filters lists by a template outside of what is modelled.
    #[error("the rule for {path:?} filters lists by a template that is not modelled")]
    ListFilter {
        /// The rule's path.
        path: String,
    },
    /// One of the token's policies is not known here, or cannot be read.
    #[error("policy {policy:?} cannot be read")]
    Policy {
        /// The policy's name.
        policy: String,
    },
    /// A policy behind the deciding rule is in quarantine.
    #[error(
        "the rule for {path:?} is quarantined: the replica was found to grant more by one of its policies than the primary"
    )]
    Quarantined {
        /// The rule's path.
        path: String,
    },
    /// A rule that is not modelled might decide.
    #[error("a rule for paths below {prefix:?} is not modelled")]
    Rule {
        /// What every path that it could match begins with.
        prefix: String,
    },
}

/// What values a policy's templates may take from an identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Templating {
    /// `allow_slashes_in_identity_templates`.
    pub slashes: bool,
    /// `allow_wildcards_in_identity_templates`.
    pub wildcards: bool,
}

/// A token's policies, merged and ready to decide. Compiled once, it decides from a shared reference.
#[derive(Clone, Debug)]
pub struct Acl {
    scope: Scope,
    valid_until: Option<WallTime>,
}

/// The rule that decides a request's path, if one does.
enum Found<'a> {
    Root,
    Rule(&'a Compiled),
    Nothing,
}

impl Acl {
    /// Judges one request.
    pub fn decide(&self, request: &AclRequest<'_>) -> Decision {
        let judged = match self.judge(request) {
            Ok(judged) => judged,
            Err(undecidable) => return Decision::Undecidable(undecidable),
        };
        let Some((allowed, rule)) = judged else {
            return Decision::Deny;
        };
        match rule.filter(|rule| rule.permissions.waits_for_approval(request.operation)) {
            None => Decision::Allow(allowed),
            Some(rule) => Decision::Undecidable(Undecidable::ControlGroup {
                path: rule.path.clone(),
            }),
        }
    }

    /// Whether a key of a filtered listing is shown. `request` is the listing's.
    pub fn shows(
        &self,
        filter: &ListFilter,
        request: &AclRequest<'_>,
        key: &str,
    ) -> Result<bool, Undecidable> {
        let path = filter.template.render(request.path, key);
        let path = path.ok_or_else(|| Undecidable::ListFilter {
            path: filter.rule.clone(),
        })?;
        let operation = if key.ends_with('/') {
            Operation::List
        } else {
            Operation::Read
        };
        // The primary asks no control group here.
        let judged = self.judge(&AclRequest {
            namespace: request.namespace,
            path: &path,
            operation,
            data: &Map::new(),
            wrap_ttl: None,
            help: false,
        })?;
        Ok(judged.is_some())
    }

    /// What `sys/capabilities-self` prints for `path`, which has its namespace before it: names in order, or
    /// `deny`, or `root`.
    pub fn capabilities(&self, path: &str) -> Result<Vec<&'static str>, Undecidable> {
        Ok(match self.find(path.trim_start_matches('/'), true)? {
            Found::Root => vec!["root"],
            Found::Rule(rule) => rule.permissions.capabilities.names(),
            Found::Nothing => vec!["deny"],
        })
    }

    /// Whether `sys/internal/ui/mounts` shows the mount (`secret/`, `auth/userpass/`, its namespace before it)
    /// to the token.
    pub fn has_mount_access(&self, mount: &str) -> Result<bool, Undecidable> {
        let rules = match &self.scope {
            Scope::Root => return Ok(true),
            Scope::Unreadable(policy) => return Err(unreadable(policy)),
            Scope::Rules(rules) => rules,
        };
        if !matches!(*self.capabilities(mount)?, ["deny"]) || rules.grants_below(mount) {
            return Ok(true);
        }
        if let Some(rule) = rules.quarantined_below(mount) {
            return Err(quarantined(rule));
        }
        let covered = rules.only_prefix_covers(mount);
        // Where a covering rule counts only for want of others, any unmodelled rule could be the other.
        match rules.unmodelled_below(if covered { "" } else { mount }) {
            Some(prefix) => Err(unmodelled(prefix)),
            None => Ok(covered),
        }
    }

    /// Names of the policies that contributed to the rule which decides `path`, whatever it decides, in the order of the
    /// merge; none where no rule does. `lists` as [`Operation::lists`].
    pub fn contributors(&self, path: &str, lists: bool) -> &[Arc<str>] {
        let Scope::Rules(rules) = &self.scope else {
            return &[];
        };
        let rule = rules.find(path.trim_start_matches('/'), lists);
        rule.map_or(&[], |rule| rules.contributors(rule))
    }

    /// Names of the policies by which [`Self::has_mount_access`] shows the mount: those that contributed to the rule which
    /// decides it, and to rules below it that grant something. Each once.
    pub fn mount_contributors(&self, mount: &str) -> BTreeSet<Arc<str>> {
        let Scope::Rules(rules) = &self.scope else {
            return BTreeSet::new();
        };
        let own = self.contributors(mount, true).iter();
        let below = rules.granting_below(mount);
        let below = below.flat_map(|rule| rules.contributors(rule));
        own.chain(below).cloned().collect()
    }

    /// Until when this holds: after that moment a rule or policy has expired, or a template of the time has
    /// another value, and the policies must be compiled again.
    pub fn valid_until(&self) -> Option<WallTime> {
        self.valid_until
    }

    /// Permission and the rule that gave it, before control groups; `None` is a denial.
    fn judge(
        &self,
        request: &AclRequest<'_>,
    ) -> Result<Option<(Allowed, Option<&Compiled>)>, Undecidable> {
        let allowed = |root| Allowed {
            root,
            limit: None,
            filter: None,
        };
        let lists = request.operation.lists();
        let rule = match self.find(&full_path(request), lists)? {
            Found::Root => return Ok(Some((allowed(true), None))),
            _ if request.help => return Ok(Some((allowed(false), None))),
            Found::Nothing => return Ok(None),
            Found::Rule(rule) => rule,
        };
        let permissions = &rule.permissions;
        if !permissions.permits(request.operation)
            || !permissions.permits_wrapping(request.wrap_ttl)
            || (sudo::requires_sudo(request.path.trim_start_matches('/'))
                && !permissions.permits_sudo())
        {
            return Ok(None);
        }
        let mut allowed = allowed(false);
        match request.operation {
            Operation::Read | Operation::Update | Operation::Create | Operation::Patch => {
                let origin = match request.operation {
                    Operation::Read => RuleOrigin::Query,
                    _ => RuleOrigin::Body,
                };
                let permitted = permissions.permits_data(request.data, origin);
                return Ok(permitted.then_some((allowed, Some(rule))));
            }
            Operation::List | Operation::Scan => {
                let Ok(limit) = permissions.page_for(request.data) else {
                    return Ok(None);
                };
                allowed.limit = limit;
                allowed.filter = rule.list_filter()?;
            }
            Operation::Delete | Operation::Header => {}
        }
        Ok(Some((allowed, Some(rule))))
    }

    fn find(&self, path: &str, lists: bool) -> Result<Found<'_>, Undecidable> {
        match &self.scope {
            Scope::Root => Ok(Found::Root),
            Scope::Unreadable(policy) => Err(unreadable(policy)),
            Scope::Rules(rules) => match rules.unmodelled_for(path) {
                Some(prefix) => Err(unmodelled(prefix)),
                None => match rules.find(path, lists) {
                    Some(rule) if rule.quarantined => Err(quarantined(rule)),
                    rule => Ok(rule.map_or(Found::Nothing, Found::Rule)),
                },
            },
        }
    }
}

impl Allowed {
    /// Whether the root policy allowed it.
    pub fn is_root(&self) -> bool {
        self.root
    }

    /// What the `limit` parameter of a list or scan must be replaced by; `Some(0)` is unlimited. `None`: leave
    /// it as the client sent it.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// The filter that each returned key of a list or scan must pass.
    pub fn filter(&self) -> Option<&ListFilter> {
        self.filter.as_ref()
    }
}

impl Compiled {
    fn list_filter(&self) -> Result<Option<ListFilter>, Undecidable> {
        let Some(template) = &self.permissions.filter else {
            return Ok(None);
        };
        let rule = self.path.clone();
        if !template.is_modelled() {
            return Err(Undecidable::ListFilter { path: rule });
        }
        let template = template.clone();
        Ok(Some(ListFilter { rule, template }))
    }
}

fn full_path<'a>(request: &AclRequest<'a>) -> Cow<'a, str> {
    if request.namespace.is_empty() {
        return Cow::Borrowed(request.path.trim_start_matches('/'));
    }
    let path = format!("{}{}", request.namespace, request.path);
    Cow::Owned(path.trim_start_matches('/').into())
}

fn unmodelled(prefix: &str) -> Undecidable {
    Undecidable::Rule {
        prefix: prefix.into(),
    }
}

fn quarantined(rule: &Compiled) -> Undecidable {
    Undecidable::Quarantined {
        path: rule.path.clone(),
    }
}

fn unreadable(policy: &str) -> Undecidable {
    Undecidable::Policy {
        policy: policy.into(),
    }
}

#[cfg(test)]
mod tests;
