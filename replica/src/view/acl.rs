//! Policies parsed once, and the ACLs compiled from them, each kept until what it was made from changes.

use std::{collections::BTreeMap, sync::Arc};

use shared::{
    acl::{Acl, Policy, PolicyEntry, Templating},
    change::{PolicySet, PolicyText},
    identity::Identity,
    name::{EntityId, PolicyName},
    quarantine::Quarantined,
    time::WallTime,
};

use super::{Authority, CompiledAcl, Policies, View};

/// What an access control is compiled from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct AclKey {
    /// Those of the token and of its identity, by name, each once.
    policies: Vec<PolicyName>,
    /// The entity whose templates it is filled in with.
    entity: Option<EntityId>,
    /// Which of the policies are in quarantine.
    quarantined: Vec<PolicyName>,
}

/// Compiled ACLs kept at once. There is one per set of policies and entity, not per token.
pub(super) const MAX_COMPILED: usize = 4096;

impl Policies {
    /// Parses `set`; what `before` has already parsed and compiled is kept if no policy differs.
    pub(crate) fn new(set: PolicySet, before: Option<&Self>) -> Self {
        if let Some(before) = before
            && before.set.policies == set.policies
            && before.set.unread.keys().eq(set.unread.keys())
            && before.set.is_read() == set.is_read()
        {
            return Self {
                set,
                parsed: Arc::clone(&before.parsed),
                compiled: Arc::clone(&before.compiled),
            };
        }
        let parsed: BTreeMap<_, _> = set
            .policies
            .iter()
            .map(|(name, text)| (name.clone(), parse(name, text, set.verified_at)))
            .collect();
        Self {
            set,
            parsed: Arc::new(parsed),
            compiled: Arc::default(),
        }
    }

    fn entry<'a>(&'a self, name: &'a PolicyName, quarantined: &[PolicyName]) -> PolicyEntry<'a> {
        match self.parsed.get(name) {
            _ if name.is_root() => PolicyEntry::Root,
            Some(Some(policy)) if quarantined.contains(name) => PolicyEntry::Quarantined(policy),
            Some(Some(policy)) => PolicyEntry::Known(policy),
            Some(None) => PolicyEntry::Unreadable(name.as_str()),
            None if self.set.may_exist(name) => PolicyEntry::Unreadable(name.as_str()),
            None => PolicyEntry::Absent,
        }
    }
}

impl View {
    /// The ACL of a token with these policies, of this entity: compiled once, and again when a policy or the identity
    /// changed, when part of it expired, and when the time went back. What is in quarantine decides nothing in it.
    ///
    /// Of an entity that is not known here, rules that need it leave undecided what they could match, and the ACL's
    /// `identity` is none.
    pub fn acl_for(
        &self,
        authority: &Authority,
        token_policies: &[PolicyName],
        identity_policies: &[PolicyName],
        entity: Option<&EntityId>,
        now: WallTime,
    ) -> Arc<CompiledAcl> {
        let policies = merged(token_policies, identity_policies);
        let key = AclKey {
            quarantined: quarantined(authority, &policies),
            policies,
            entity: entity.cloned(),
        };
        let identity = entity.and_then(|entity| authority.identity(entity));
        let Some(policies) = &authority.policies else {
            let unknown = key
                .policies
                .iter()
                .map(|name| PolicyEntry::Unreadable(name.as_str()));
            return Arc::new(compile(unknown, entity, identity, now));
        };
        let compiled = policies.compiled.pin();
        if let Some(held) = compiled.get(&key)
            && held.is_good(identity, now)
        {
            return Arc::clone(held);
        }
        let entries = key
            .policies
            .iter()
            .map(|name| policies.entry(name, &key.quarantined));
        let acl = Arc::new(compile(entries, entity, identity, now));
        if compiled.len() >= MAX_COMPILED {
            compiled.clear();
        }
        compiled.insert(key, Arc::clone(&acl));
        acl
    }
}

/// Which of these are in quarantine.
fn quarantined(authority: &Authority, policies: &[PolicyName]) -> Vec<PolicyName> {
    if authority.quarantines.is_empty() && authority.lost.is_empty() {
        return Vec::new();
    }
    let is_in = |name: &&PolicyName| {
        let of_policy = Quarantined::Policy((*name).clone());
        authority.is_quarantined(&of_policy)
    };
    policies.iter().filter(is_in).cloned().collect()
}

impl CompiledAcl {
    fn is_good(&self, identity: Option<&Arc<Identity>>, now: WallTime) -> bool {
        let same_identity = self.identity.as_ref() == identity;
        // An error does not say how long it holds: the policy that causes it may end.
        let holds = |acl: &Acl| acl.valid_until().is_none_or(|until| now < until);
        same_identity && now >= self.at && self.acl.as_ref().is_ok_and(holds)
    }
}

fn compile<'a>(
    entries: impl IntoIterator<Item = PolicyEntry<'a>>,
    entity: Option<&EntityId>,
    identity: Option<&Arc<Identity>>,
    now: WallTime,
) -> CompiledAcl {
    let acl = match (entity, identity) {
        (_, Some(identity)) => Acl::compile(entries, identity, now),
        (Some(_), None) => Acl::compile_unidentified(entries, now),
        (None, None) => Acl::compile(entries, &Identity::default(), now),
    };
    CompiledAcl {
        acl,
        identity: identity.cloned(),
        at: now,
    }
}

/// Reads one policy as the primary keeps it: it accepted the text, so what of it makes no sense here may make sense
/// there, and leaves undecided what it could match.
fn parse(name: &PolicyName, text: &PolicyText, at: WallTime) -> Option<Policy> {
    let policy = Policy::parse_stored(name.as_str(), &text.text, at)
        .inspect_err(|error| tracing::warn!(policy = %name, %error, "a policy cannot be read"))
        .ok()?
        .with_templating(Templating {
            slashes: text.allow_slashes,
            wildcards: text.allow_wildcards,
        });
    Some(match text.expiration {
        Some(at) => policy.expiring(at),
        None => policy,
    })
}

/// In the primary's order: all by name, whoever they come from.
pub(crate) fn merged(token: &[PolicyName], identity: &[PolicyName]) -> Vec<PolicyName> {
    let mut names = [token, identity].concat();
    names.sort();
    names.dedup();
    names
}
