//! A policy: its text read into rules.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use crate::time::WallTime;

use super::{
    Templating, Undecidable,
    decode::attribute,
    document::{self, Item, Node, Source},
    error::{PolicyError, Reason},
    pattern::literal_prefix,
    rule::{self, Effect, Rule},
    template::Template,
};

/// A policy, read and not yet bound to a token.
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    namespace: String,
    templating: Templating,
    expires: Option<WallTime>,
    rules: Vec<Rule>,
}

impl Policy {
    /// The most bytes of a text that is read. The primary stores no larger one.
    pub const MAX_SIZE: usize = document::MAX_SIZE;
    /// The most levels of blocks and lists that are read.
    pub const MAX_DEPTH: usize = document::MAX_DEPTH;

    /// Reads a policy's text, HCL 1 or JSON, as OpenBao 2.7.2 accepts or rejects it at `now`: a rule that has
    /// expired by then is dropped, and what is wrong with it no longer matters.
    ///
    /// Base64 around the text is a matter of the primary's API.
    pub fn parse(name: &str, text: &str, now: WallTime) -> Result<Self, PolicyError> {
        Self::read(name, text, now, |_, _, error| Err(error))
    }

    /// Reads a text that a primary has accepted. A rule that makes no sense here may make sense there (it may
    /// be a newer OpenBao, or Vault): it is kept as one that leaves undecided what its path could match.
    pub fn parse_stored(name: &str, text: &str, now: WallTime) -> Result<Self, PolicyError> {
        Self::read(name, text, now, |path, line, _| {
            Ok(Rule {
                path: Template::parse(path).map_err(|reason| reason.at(line))?,
                expires: None,
                effect: Effect::Unmodelled,
            })
        })
    }

    fn read(
        name: &str,
        text: &str,
        now: WallTime,
        otherwise: impl Fn(&str, u32, PolicyError) -> Result<Rule, PolicyError>,
    ) -> Result<Self, PolicyError> {
        let source = Source::new(text)?;
        let root = Node::Object(source.items()?);
        let items = rule::members(&root, &["name", "path"], 1)?;
        attribute(items, "name")?.text()?;
        let mut rules = Vec::new();
        for item in items {
            if !is_path(item)? {
                continue;
            }
            let path = rule::path(item)?;
            let read = rule::read(&path, item, now);
            rules.push(read.or_else(|error| otherwise(&path, item.line, error))?);
        }
        Ok(Self {
            name: name.to_owned(),
            namespace: String::new(),
            templating: Templating::default(),
            expires: None,
            rules,
        })
    }

    /// With the flags that the primary keeps beside the text.
    #[must_use]
    pub fn with_templating(self, templating: Templating) -> Self {
        Self { templating, ..self }
    }

    /// With the moment after which the whole policy no longer counts.
    #[must_use]
    pub fn expiring(self, at: WallTime) -> Self {
        Self {
            expires: Some(at),
            ..self
        }
    }

    /// In the namespace of that path (`team-a/`), which its rules' paths are below.
    #[must_use]
    pub fn in_namespace(self, path: &str) -> Self {
        Self {
            namespace: path.to_owned(),
            ..self
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a token with these policies may do something else without its entity, but for reading of that entity
    /// itself (`identity/…`), which OpenBao's own `default` lets everyone do.
    ///
    /// Even there a rule for the entity may be what keeps a wider one from deciding: then it counts.
    pub fn are_templated(policies: &[&Self]) -> bool {
        let paths = || policies.iter().flat_map(|policy| &policy.rules);
        let paths = || paths().map(|rule| &rule.path);
        let narrows = |path: &Template| {
            let mut others = paths().filter(|other| !other.names_identity());
            others.any(|other| may_meet(path.beginning(), other.beginning()))
        };
        let mut templated = paths().filter(|path| path.names_identity());
        templated.any(|path| !path.beginning().starts_with("identity/") || narrows(path))
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn templating(&self) -> Templating {
        self.templating
    }

    pub(super) fn expires(&self) -> Option<WallTime> {
        self.expires
    }

    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// How many rules there are, counting those not modelled.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// Whether what it grants depends on the identity of whoever has it.
    pub fn names_identity(&self) -> bool {
        self.rules.iter().any(|rule| rule.path.names_identity())
    }

    /// What only the primary can decide by this policy, as requests would report it: one for each rule that asks for
    /// approval, filters lists by a template that is not modelled, or is not modelled itself.
    pub fn undecided(&self) -> impl Iterator<Item = Undecidable> {
        self.rules.iter().filter_map(|rule| match &rule.effect {
            Effect::Unmodelled => Some(Undecidable::Rule {
                prefix: literal_prefix(rule.path.beginning()).to_owned(),
            }),
            Effect::Grants(permissions) => permissions.undecided(&rule.path.written()),
            Effect::Expired => None,
        })
    }
}

/// Whether two rules with these beginnings may match the same path.
fn may_meet(one: &str, other: &str) -> bool {
    let (one, other) = (literal_prefix(one), literal_prefix(other));
    one.starts_with(other) || other.starts_with(one)
}

fn is_path(item: &Item<'_>) -> Result<bool, PolicyError> {
    let first = item.keys.first().map(document::Key::text).transpose();
    let first = first.map_err(|reason: Reason| reason.at(item.line))?;
    Ok(first.is_some_and(|first| first == "path"))
}
