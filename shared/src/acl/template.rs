//! Templated paths: `{{identity.entity.name}}` and its like, filled in from a token's identity.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use crate::{
    identity::{Alias, Entity, Identity, Metadata},
    time::WallTime,
};

use super::{Templating, error::Reason, span};

/// A path that may have expressions in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    Expression(String),
}

/// What comes of filling in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Filled {
    /// A path, and whether it depends on the time.
    Path { path: String, timed: bool },
    /// An expression has no value for this identity: the rule does not exist for it.
    Nothing,
    /// A value holds a character that the policy does not allow in values.
    Forbidden,
}

impl Template {
    /// Splits a path at its braces.
    pub(super) fn parse(path: &str) -> Result<Self, Reason> {
        let mut parts = Vec::new();
        let mut pieces = path.split("{{");
        let first = pieces.next().unwrap_or("");
        if first.contains("}}") {
            return Err(Reason::UnbalancedTemplate);
        }
        parts.push(Part::Text(first.to_owned()));
        for piece in pieces {
            let (expression, text) = piece.split_once("}}").ok_or(Reason::UnbalancedTemplate)?;
            if text.contains("}}") {
                return Err(Reason::UnbalancedTemplate);
            }
            parts.push(Part::Expression(expression.trim().to_owned()));
            parts.push(Part::Text(text.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The path as it was written, but for spaces inside of braces.
    pub(super) fn written(&self) -> String {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Expression(expression) => {
                    path.push_str("{{");
                    path.push_str(expression);
                    path.push_str("}}");
                }
            }
        }
        path
    }

    /// Whether its path follows from an identity.
    pub(super) fn names_identity(&self) -> bool {
        self.parts.iter().any(|part| {
            matches!(part, Part::Expression(expression) if expression.starts_with("identity."))
        })
    }

    /// What every path begins with that comes of filling it in.
    pub(super) fn beginning(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Fills in every expression. Characters are checked value by value, in order, as the primary does.
    pub(super) fn fill(&self, identity: &Identity, allowed: Templating, now: WallTime) -> Filled {
        let mut path = String::new();
        let mut timed = false;
        for part in &self.parts {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Expression(expression) => {
                    let Some(value) = value(expression, identity, now) else {
                        return Filled::Nothing;
                    };
                    if !allowed.permits(&value) {
                        return Filled::Forbidden;
                    }
                    timed |= expression.starts_with("time.");
                    path.push_str(&value);
                }
            }
        }
        Filled::Path { path, timed }
    }
}

impl Templating {
    fn permits(self, value: &str) -> bool {
        (self.slashes || !value.contains('/')) && (self.wildcards || !value.contains(['*', '+']))
    }
}

fn value(expression: &str, identity: &Identity, now: WallTime) -> Option<String> {
    if let Some(selector) = expression.strip_prefix("identity.entity.") {
        return entity_value(selector, identity.entity.as_ref()?);
    }
    if let Some(selector) = expression.strip_prefix("identity.groups.") {
        return group_value(selector, identity);
    }
    time_value(expression.strip_prefix("time.")?, now)
}

fn entity_value(selector: &str, entity: &Entity) -> Option<String> {
    if let Some(selector) = selector.strip_prefix("aliases.") {
        let (accessor, selector) = selector.split_once('.')?;
        let mut aliases = entity.aliases.iter();
        return alias_value(selector, aliases.find(|a| a.mount_accessor == accessor)?);
    }
    match selector {
        "id" => present(&entity.id),
        "name" => present(&entity.name),
        _ => metadata_value(selector, "metadata.", &entity.metadata),
    }
}

fn alias_value(selector: &str, alias: &Alias) -> Option<String> {
    match selector {
        "id" => present(&alias.id),
        "name" => present(&alias.name),
        _ => metadata_value(selector, "metadata.", &alias.metadata)
            .or_else(|| metadata_value(selector, "custom_metadata.", &alias.custom_metadata)),
    }
}

fn group_value(selector: &str, identity: &Identity) -> Option<String> {
    let (kind, selector) = selector.split_once('.')?;
    let (wanted, selector) = selector.split_once('.')?;
    let mut groups = identity.groups.iter();
    let group = match kind {
        "ids" => groups.find(|group| group.id == wanted)?,
        "names" => groups.find(|group| group.name == wanted)?,
        _ => return None,
    };
    match selector {
        "id" => Some(group.id.clone()),
        "name" => present(&group.name),
        _ => metadata_value(selector, "metadata.", &group.metadata),
    }
}

/// Seconds since the Unix epoch: `now`, `now.plus.1h`, `now.minus.1h`.
fn time_value(selector: &str, now: WallTime) -> Option<String> {
    let mut steps = selector.splitn(3, '.');
    if steps.next() != Some("now") {
        return None;
    }
    let millis = match (steps.next(), steps.next()) {
        (None, _) => now.as_millis(),
        (Some(operator), Some(span)) => {
            let span = span::duration(span).ok()? / 1_000_000;
            match operator {
                "plus" => now.as_millis().checked_add(span)?,
                "minus" => now.as_millis().checked_sub(span)?,
                _ => return None,
            }
        }
        (Some(_), None) => return None,
    };
    Some(alloc::format!(
        "{}",
        WallTime::from_millis(millis).as_secs()
    ))
}

/// An empty name or id is as good as none.
fn present(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Empty metadata is a value.
fn metadata_value(selector: &str, prefix: &str, metadata: &Metadata) -> Option<String> {
    metadata.get(selector.strip_prefix(prefix)?).cloned()
}
