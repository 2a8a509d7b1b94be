//! From a token's policies to the rules that hold for it now.

use alloc::{boxed::Box, collections::BTreeMap, format, string::String, sync::Arc, vec::Vec};
use core::time::Duration;

use crate::{identity::Identity, time::WallTime};

use super::{
    Acl,
    contributors::{ContributorMerge, ContributorSets, SetId},
    pattern::{Pattern, PatternTable, PrefixTable, RuleId, literal_prefix},
    permissions::Permissions,
    policy::Policy,
    rule::{Effect, Rule},
    template::Filled,
};

/// One name of a token's policy set, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub enum PolicyEntry<'a> {
    /// Its text is known and read.
    Known(&'a Policy),
    /// The same, and it is in quarantine: it counts as ever, but a rule that it contributed to decides nothing, so that
    /// no shorter one decides in its place.
    Quarantined(&'a Policy),
    /// There is no policy of that name at the primary: it contributes nothing.
    Absent,
    /// `root`: everything is allowed. It must be alone.
    Root,
    /// Its text is not known here, or cannot be read: nothing can be decided for the token.
    Unreadable(&'a str),
}

/// Why a token can do nothing at all at the primary, not even look itself up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CompileError {
    /// A templated path would take a `/`, `*` or `+` from the identity: the primary answers every request of
    /// the token with 400 `Forbidden`.
    #[error("a templated policy path would take a separator or a wildcard from the identity")]
    Forbidden,
    /// A templated path, filled in, has `+*` in it: the primary answers every request with 500.
    #[error("a templated policy path mixes wildcards once it is filled in")]
    MixedWildcards,
    /// `root` beside other policies: the primary answers every request with 500.
    #[error("other policies present along with root")]
    RootNotAlone,
}

/// What an [`Acl`] decides from.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    Root,
    /// The policy of this name is not readable.
    Unreadable(String),
    Rules(Box<RuleSet>),
}

/// Rules by their paths.
#[derive(Clone, Debug)]
pub(super) struct RuleSet {
    table: PatternTable,
    rules: Vec<Compiled>,
    contributors: ContributorSets,
    /// What the paths of rules that are not modelled begin with.
    unmodelled: PrefixTable,
}

/// All that a token's policies say of one path.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    /// As an author writes it.
    pub(super) path: String,
    pub(super) permissions: Permissions,
    /// Whether a policy behind it is in quarantine.
    pub(super) quarantined: bool,
    contributors: SetId,
}

impl Acl {
    /// Merges `policies` in the order given (the primary's: those of token and identity together, by name), with the
    /// templates filled in from `identity`, without what has expired at `now`.
    pub fn compile<'a>(
        policies: impl IntoIterator<Item = PolicyEntry<'a>>,
        identity: &Identity,
        now: WallTime,
    ) -> Result<Self, CompileError> {
        Self::merge(policies, Merge::new(Some(identity), now))
    }

    /// The same for a token of an entity that is not known here: what a rule leaves undecided whose path follows
    /// from the identity is all that its path could match.
    pub fn compile_unidentified<'a>(
        policies: impl IntoIterator<Item = PolicyEntry<'a>>,
        now: WallTime,
    ) -> Result<Self, CompileError> {
        Self::merge(policies, Merge::new(None, now))
    }

    fn merge<'a>(
        policies: impl IntoIterator<Item = PolicyEntry<'a>>,
        mut merge: Merge<'_>,
    ) -> Result<Self, CompileError> {
        let (mut root, mut others, mut unreadable) = (false, false, None);
        for policy in policies {
            match policy {
                PolicyEntry::Known(policy) => others |= merge.policy(policy, false)?,
                PolicyEntry::Quarantined(policy) => others |= merge.policy(policy, true)?,
                PolicyEntry::Absent => {}
                PolicyEntry::Root => root = true,
                PolicyEntry::Unreadable(name) => unreadable = unreadable.or(Some(name)),
            }
        }
        if root && others {
            return Err(CompileError::RootNotAlone);
        }
        let valid_until = merge.valid_until;
        let scope = match unreadable {
            Some(name) => Scope::Unreadable(name.into()),
            None if root => Scope::Root,
            None => Scope::Rules(Box::new(merge.finish())),
        };
        Ok(Self { scope, valid_until })
    }
}

impl RuleSet {
    /// The rule that decides `path`.
    pub(super) fn find(&self, path: &str, lists: bool) -> Option<&Compiled> {
        self.rule(self.table.find(path, lists)?)
    }

    /// The beginning of an unmodelled rule's path that `path` begins with.
    pub(super) fn unmodelled_for(&self, path: &str) -> Option<&str> {
        self.unmodelled.longest_text(path)
    }

    /// The beginning of an unmodelled rule's path that lies below `mount`.
    pub(super) fn unmodelled_below(&self, mount: &str) -> Option<&str> {
        self.unmodelled.beginning_with(mount)
    }

    /// Whether a rule that decides grants something below `mount`.
    pub(super) fn grants_below(&self, mount: &str) -> bool {
        self.granting_below(mount).any(|rule| !rule.quarantined)
    }

    /// The rules below `mount` that grant something.
    pub(super) fn granting_below<'t>(
        &'t self,
        mount: &'t str,
    ) -> impl Iterator<Item = &'t Compiled> {
        let below = self.below(mount);
        below.filter(|rule| rule.permissions.grants_something())
    }

    /// A rule in quarantine below `mount`.
    pub(super) fn quarantined_below<'t>(&'t self, mount: &'t str) -> Option<&'t Compiled> {
        self.below(mount).find(|rule| rule.quarantined)
    }

    /// The policies that contributed to a rule, in the order in which they were merged.
    pub(super) fn contributors(&self, rule: &Compiled) -> &[Arc<str>] {
        self.contributors.names(rule.contributors)
    }

    fn below<'t>(&'t self, mount: &'t str) -> impl Iterator<Item = &'t Compiled> {
        let within = self.table.beginning_with(mount);
        let rules = within.chain(self.table.segments_into(mount));
        rules.filter_map(|id| self.rule(id))
    }

    /// Whether a prefix rule, be it one that denies, covers `mount`, and there are no segment rules: the
    /// primary takes that for a grant.
    pub(super) fn only_prefix_covers(&self, mount: &str) -> bool {
        !self.table.has_segments() && self.table.covers(mount)
    }

    fn rule(&self, id: RuleId) -> Option<&Compiled> {
        self.rules.get(usize::try_from(id).ok()?)
    }
}

/// Rules under way to a [`RuleSet`].
struct Merge<'a> {
    identity: Option<&'a Identity>,
    now: WallTime,
    rules: BTreeMap<Pattern, (Permissions, SetId)>,
    contributors: ContributorMerge,
    unmodelled: BTreeMap<String, RuleId>,
    valid_until: Option<WallTime>,
}

impl<'a> Merge<'a> {
    fn new(identity: Option<&'a Identity>, now: WallTime) -> Self {
        Self {
            identity,
            now,
            rules: BTreeMap::new(),
            contributors: ContributorMerge::default(),
            unmodelled: BTreeMap::new(),
            valid_until: None,
        }
    }

    /// Takes in a policy; `false` if it has expired.
    fn policy(&mut self, policy: &Policy, quarantined: bool) -> Result<bool, CompileError> {
        if !self.still_holds(policy.expires()) {
            return Ok(false);
        }
        self.contributors.begin(policy.name(), quarantined);
        for rule in policy.rules() {
            self.rule(policy, rule)?;
        }
        Ok(true)
    }

    fn rule(&mut self, policy: &Policy, rule: &Rule) -> Result<(), CompileError> {
        let nobody = Identity::default();
        let identity = match self.identity {
            Some(identity) => identity,
            None if rule.path.names_identity() => {
                self.unidentified(policy, rule);
                return Ok(());
            }
            None => &nobody,
        };
        let filled = rule.path.fill(identity, policy.templating(), self.now);
        let (path, timed) = match filled {
            Filled::Path { path, timed } => (path, timed),
            Filled::Nothing => return Ok(()),
            // Even of a rule that has expired.
            Filled::Forbidden => return Err(CompileError::Forbidden),
        };
        if timed {
            self.bound(WallTime::from_secs(self.now.as_secs()).plus(Duration::from_millis(999)));
        }
        let path = path.strip_prefix('/').unwrap_or(&path);
        let path = format!("{}{path}", policy.namespace());
        match &rule.effect {
            Effect::Expired => {}
            Effect::Unmodelled => {
                self.unmodelled.insert(literal_prefix(&path).into(), 0);
            }
            Effect::Grants(permissions) => {
                if self.still_holds(rule.expires) {
                    let pattern = Pattern::new(path).map_err(|_| CompileError::MixedWildcards)?;
                    self.grant(pattern, permissions);
                }
            }
        }
        Ok(())
    }

    /// A rule whose path follows from an identity that nobody knows.
    fn unidentified(&mut self, policy: &Policy, rule: &Rule) {
        if matches!(rule.effect, Effect::Expired) || !self.still_holds(rule.expires) {
            return;
        }
        let path = rule.path.beginning();
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = format!("{}{path}", policy.namespace());
        self.unmodelled.insert(literal_prefix(&path).into(), 0);
    }

    fn grant(&mut self, pattern: Pattern, permissions: &Permissions) {
        match self.rules.get_mut(&pattern) {
            Some((known, contributors)) => {
                known.merge(permissions);
                *contributors = self.contributors.with(Some(*contributors));
            }
            None => {
                let contributors = self.contributors.with(None);
                self.rules
                    .insert(pattern, (permissions.clone(), contributors));
            }
        }
    }

    fn still_holds(&mut self, expires: Option<WallTime>) -> bool {
        let Some(at) = expires else { return true };
        if self.now > at {
            return false;
        }
        self.bound(at);
        true
    }

    fn bound(&mut self, at: WallTime) {
        self.valid_until = Some(self.valid_until.map_or(at, |until| until.min(at)));
    }

    fn finish(self) -> RuleSet {
        let ids = 0..RuleId::MAX;
        let contributors = self.contributors.finish();
        let rules = self.rules.iter();
        RuleSet {
            table: PatternTable::new(self.rules.keys().zip(ids)),
            unmodelled: PrefixTable::new(self.unmodelled),
            rules: rules
                .map(|(pattern, (permissions, set))| Compiled {
                    path: pattern.display(),
                    permissions: permissions.clone(),
                    quarantined: contributors.is_quarantined(*set),
                    contributors: *set,
                })
                .collect(),
            contributors,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use serde_json::Map;

    use super::*;
    use crate::{
        acl::{AclRequest, Decision, Operation, Undecidable},
        identity::Entity,
    };

    const NOW: WallTime = WallTime::from_secs(1_800_000_000);

    const TEXT: &str = r#"
        path "kv/*" { capabilities = ["read"] }
        path "kv/{{identity.entity.name}}/*" { capabilities = ["deny"] }
        path "team/{{identity.groups.names.ops.name}}" { capabilities = ["read"] }
        path "plain" { capabilities = ["read"] }
        path "old/{{identity.entity.id}}" { capabilities = ["read"] expiration = "2020-01-01T00:00:00Z" }"#;

    fn policy() -> Policy {
        Policy::parse("p", TEXT, NOW).unwrap()
    }

    fn decide(acl: &Acl, path: &str) -> Decision {
        acl.decide(&AclRequest {
            namespace: "",
            path,
            operation: Operation::Read,
            data: &Map::new(),
            wrap_ttl: None,
            help: false,
        })
    }

    #[test]
    fn rules_that_need_an_unknown_identity_leave_undecided_only_what_they_could_match() {
        let policy = policy();
        let acl = Acl::compile_unidentified([PolicyEntry::Known(&policy)], NOW).unwrap();
        assert!(matches!(decide(&acl, "plain"), Decision::Allow(_)));
        assert_eq!(decide(&acl, "other"), Decision::Deny);
        assert_eq!(decide(&acl, "old/x"), Decision::Deny);
        for (path, prefix) in [("kv/a", "kv/"), ("team/ops", "team/")] {
            let rule = Undecidable::Rule {
                prefix: prefix.to_string(),
            };
            assert_eq!(decide(&acl, path), Decision::Undecidable(rule));
        }
    }

    #[test]
    fn what_is_decided_without_an_identity_is_decided_alike_with_any() {
        let policy = policy();
        let without = Acl::compile_unidentified([PolicyEntry::Known(&policy)], NOW).unwrap();
        let names = vec!["a", "b", "plain", "other"];
        for name in names {
            let identity = Identity {
                entity: Some(Entity {
                    id: name.into(),
                    name: name.into(),
                    ..Entity::default()
                }),
                groups: vec![],
            };
            let with = Acl::compile([PolicyEntry::Known(&policy)], &identity, NOW).unwrap();
            for path in ["kv/a/x", "kv/b/x", "plain", "other", "team/ops", "old/a"] {
                let decided = decide(&without, path);
                if !matches!(decided, Decision::Undecidable(_)) {
                    assert_eq!(decided, decide(&with, path), "{name} {path}");
                }
            }
        }
    }
}
