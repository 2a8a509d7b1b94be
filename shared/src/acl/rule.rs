//! One `path` block of a policy: what may stand in it, and what it means.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use crate::time::WallTime;

use super::{
    capability::{Capabilities, Capability},
    decode::{Attribute, Datum, DatumLists, attribute},
    document::{Item, Key, Node},
    error::{PolicyError, Reason},
    filter::FilterTemplate,
    parameters::{ParameterLists, required_keys},
    pattern::Pattern,
    permissions::Permissions,
    span,
    template::Template,
};

/// One `path` block.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// As written; a leading slash is dropped only once it is filled in.
    pub(super) path: Template,
    pub(super) expires: Option<WallTime>,
    pub(super) effect: Effect,
}

/// What a rule does where it decides.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    Grants(Permissions),
    /// The primary understands it, Holdover does not.
    Unmodelled,
    /// It had expired when it was read; its path is still filled in, for that may be forbidden.
    Expired,
}

const KEYS: [&str; 13] = [
    "allowed_parameters",
    "capabilities",
    "comment",
    "control_group",
    "denied_parameters",
    "expiration",
    "list_scan_response_keys_filter_path",
    "max_wrapping_ttl",
    "mfa_methods",
    "min_wrapping_ttl",
    "pagination_limit",
    "policy",
    "required_parameters",
];

/// Operations that a control group may control. The last ones are never requested from outside.
const CONTROLLABLE: [&str; 14] = [
    "create",
    "read",
    "update",
    "patch",
    "delete",
    "list",
    "scan",
    "help",
    "header",
    "alias-lookahead",
    "resolve-role",
    "renew",
    "revoke",
    "rollback",
];

/// The path of a block: its first label, or `path` if it has none.
pub(super) fn path(item: &Item<'_>) -> Result<String, PolicyError> {
    let located = |reason: Reason| reason.at(item.line);
    match item.keys.get(1) {
        Some(key) => Ok(key.text().map_err(located)?.into_owned()),
        None => Ok("path".to_owned()),
    }
}

/// Reads a block for `path`. Where it has expired, the primary looks no further, and neither do we.
pub(super) fn read(path: &str, item: &Item<'_>, now: WallTime) -> Result<Rule, PolicyError> {
    let template = Template::parse(path).map_err(|reason| reason.at(item.line))?;
    let items = members(&item.value, &KEYS, item.line)?;
    let approval = control_groups(&attribute(items, "control_group")?)?;
    let block = Block::decode(items)?;
    let expires = block.expires()?;
    let expired = expires.is_some_and(|at| now > at);
    let effect = if expired {
        Effect::Expired
    } else {
        block.effect(path, approval, item.line)?
    };
    Ok(Rule {
        path: template,
        expires,
        effect,
    })
}

/// The members of a block, all of whose names are among `known`. Labels are not looked at.
pub(super) fn members<'d, 'a>(
    node: &'d Node<'a>,
    known: &[&str],
    line: u32,
) -> Result<&'d [Item<'a>], PolicyError> {
    let Node::Object(items) = node else {
        return Err(Reason::Expected {
            expected: "a block",
        }
        .at(line));
    };
    for item in items {
        let name = item.keys.first().map(Key::text).transpose();
        let name = name.map_err(|reason| reason.at(item.line))?;
        let name = name.unwrap_or_default();
        if !known.contains(&&*name) {
            let name = name.into_owned();
            return Err(Reason::UnknownKey { name }.at(item.line));
        }
    }
    Ok(items)
}

/// The attributes of a block, decoded and not yet checked.
struct Block<'d, 'a> {
    shorthand: String,
    capabilities: Attribute<'d, 'a>,
    names: Vec<String>,
    expiration: Attribute<'d, 'a>,
    min_wrap: Option<Datum>,
    max_wrap: Option<Datum>,
    allowed: DatumLists,
    denied: DatumLists,
    required: Vec<String>,
    page: i64,
    filter: String,
}

impl<'d, 'a> Block<'d, 'a> {
    fn decode(items: &'d [Item<'a>]) -> Result<Self, PolicyError> {
        let capabilities = attribute(items, "capabilities")?;
        attribute(items, "mfa_methods")?.texts()?;
        Ok(Self {
            shorthand: attribute(items, "policy")?.text()?.unwrap_or_default(),
            names: capabilities.texts()?,
            capabilities,
            expiration: attribute(items, "expiration")?,
            min_wrap: attribute(items, "min_wrapping_ttl")?.datum()?,
            max_wrap: attribute(items, "max_wrapping_ttl")?.datum()?,
            allowed: attribute(items, "allowed_parameters")?.lists()?,
            denied: attribute(items, "denied_parameters")?.lists()?,
            required: attribute(items, "required_parameters")?.texts()?,
            page: attribute(items, "pagination_limit")?
                .integer()?
                .unwrap_or_default(),
            filter: attribute(items, "list_scan_response_keys_filter_path")?
                .text()?
                .unwrap_or_default(),
        })
    }

    fn expires(&self) -> Result<Option<WallTime>, PolicyError> {
        let text = self.expiration.text()?.filter(|text| !text.is_empty());
        text.map(|text| span::moment(&text))
            .transpose()
            .map_err(|reason| reason.at(self.expiration.line()))
    }

    /// What the primary decides by chance is not modelled.
    fn effect(self, path: &str, approval: Capabilities, line: u32) -> Result<Effect, PolicyError> {
        match self.permissions(path, approval, line) {
            Ok(permissions) => Ok(Effect::Grants(permissions)),
            Err(error) if matches!(error.reason, Reason::AmbiguousParameter { .. }) => {
                Ok(Effect::Unmodelled)
            }
            Err(error) => Err(error),
        }
    }

    fn permissions(
        self,
        path: &str,
        approval: Capabilities,
        line: u32,
    ) -> Result<Permissions, PolicyError> {
        let located = |reason: Reason| reason.at(line);
        let path = path.strip_prefix('/').unwrap_or(path);
        Pattern::new(path.to_owned()).map_err(located)?;
        let capabilities = self.granted()?;
        if capabilities.denies() {
            // What else the block says is not looked at.
            return Ok(Permissions {
                capabilities,
                approval,
                ..Permissions::default()
            });
        }
        let (min_wrap, max_wrap) = (
            wrapping(self.min_wrap.as_ref()).map_err(located)?,
            wrapping(self.max_wrap.as_ref()).map_err(located)?,
        );
        if min_wrap != 0 && max_wrap != 0 && max_wrap < min_wrap {
            return Err(located(Reason::WrappingBounds));
        }
        Ok(Permissions {
            capabilities,
            required: required_keys(&self.required),
            min_wrap,
            max_wrap,
            page: self.page,
            filter: filter(&self.filter, path, capabilities).map_err(located)?,
            approval,
            // Last: what the primary refuses it refuses, ambiguous or not.
            allowed: ParameterLists::new(self.allowed).map_err(located)?,
            denied: ParameterLists::new(self.denied).map_err(located)?,
        })
    }

    /// Capabilities named and those of the old `policy` shorthand, which come last; the first `deny` ends it.
    fn granted(&self) -> Result<Capabilities, PolicyError> {
        let shorthand: &[&str] = match self.shorthand.as_str() {
            "" => &[],
            "deny" => return Ok(Capabilities::deny()),
            "read" => &["read", "list"],
            "write" => &["create", "read", "update", "delete", "list"],
            "sudo" => &["create", "read", "update", "delete", "list", "sudo"],
            name => {
                let name = name.to_owned();
                return Err(Reason::UnknownShorthand { name }.at(self.capabilities.line()));
            }
        };
        let mut granted = Capabilities::default();
        for name in self
            .names
            .iter()
            .map(String::as_str)
            .chain(shorthand.iter().copied())
        {
            if name == "deny" {
                return Ok(Capabilities::deny());
            }
            granted.insert(Capability::named(name).ok_or_else(|| {
                let name = name.to_owned();
                Reason::UnknownCapability { name }.at(self.capabilities.line())
            })?);
        }
        Ok(granted)
    }
}

/// Nanoseconds of a wrapping bound.
fn wrapping(value: Option<&Datum>) -> Result<i64, Reason> {
    match value {
        None => Ok(0),
        Some(Datum::Integer(seconds)) => span::seconds_to_nanos(*seconds),
        Some(Datum::Float(seconds)) => span::whole_seconds_to_nanos(*seconds),
        Some(Datum::Text(text)) => span::duration(text),
        Some(_) => Err(Reason::BadDuration),
    }
}

fn filter(
    text: &str,
    path: &str,
    capabilities: Capabilities,
) -> Result<Option<FilterTemplate>, Reason> {
    if text.is_empty() {
        return Ok(None);
    }
    if !capabilities.has(Capability::List) {
        return Err(Reason::FilterNeedsList);
    }
    let filter = FilterTemplate::new(text);
    // Two keys without a character in common; the primary takes random ones.
    let [one, other] = [
        "0Aa1Bb2Cc3Dd4Ee5Ff6Gg7Hh8Ii9JjKk",
        "LlMmNnOoPpQqRrSsTtUuVvWwXxYyZzZz",
    ]
    .map(|key| filter.render(path, key));
    if one.is_some() && one == other {
        return Err(Reason::FilterIgnoresKey);
    }
    Ok(Some(filter))
}

/// The operations that the last of a block's control groups controls; all of them must be well-formed.
fn control_groups(attribute: &Attribute<'_, '_>) -> Result<Capabilities, PolicyError> {
    attribute
        .blocks()
        .try_fold(Capabilities::default(), |_, (_, node)| {
            control_group(node, attribute.line())
        })
}

fn control_group(node: &Node<'_>, line: u32) -> Result<Capabilities, PolicyError> {
    let items = members(node, &["factor", "self_auth_allowed", "ttl"], line)?;
    attribute(items, "self_auth_allowed")?.boolean()?;
    let ttl = attribute(items, "ttl")?.datum()?;
    let factors = attribute(items, "factor")?;
    if factors.is_absent() {
        return Err(Reason::ControlGroup {
            missing: "a factor",
        }
        .at(line));
    }
    let mut controlled = Capabilities::default();
    for (labels, node) in factors.blocks() {
        controlled = controlled.union(factor(labels, node, factors.line())?);
    }
    wrapping(ttl.as_ref()).map_err(|reason| reason.at(line))?;
    Ok(controlled)
}

fn factor(labels: &[Key<'_>], node: &Node<'_>, line: u32) -> Result<Capabilities, PolicyError> {
    let lacks = |missing| Err(Reason::ControlGroup { missing }.at(line));
    let items = members(node, &["controlled_capabilities", "identity"], line)?;
    if labels.is_empty() {
        return lacks("a name for its factor");
    }
    let names = attribute(items, "controlled_capabilities")?.texts()?;
    let mut controlled = Capabilities::default();
    for name in &names {
        if !CONTROLLABLE.contains(&name.as_str()) {
            let name = name.clone();
            return Err(Reason::UnknownCapability { name }.at(line));
        }
        if let Some(capability) = Capability::named(name) {
            controlled.insert(capability);
        }
    }
    if names.is_empty() {
        return lacks("controlled capabilities");
    }
    let (groups, approvals) = approvers(&attribute(items, "identity")?, line)?;
    if approvals <= 0 {
        return lacks("required approvals");
    }
    if !groups {
        return lacks("approving groups");
    }
    Ok(controlled)
}

/// Whether groups are named, and how many approvals are asked for. Unknown keys pass here.
fn approvers(identity: &Attribute<'_, '_>, line: u32) -> Result<(bool, i64), PolicyError> {
    let (mut groups, mut approvals) = (false, 0);
    for (labels, node) in identity.blocks() {
        let Node::Object(items) = node else {
            return Err(Reason::Expected {
                expected: "a block",
            }
            .at(line));
        };
        if labels.is_empty() {
            groups |= !attribute(items, "group_names")?.texts()?.is_empty();
            approvals = attribute(items, "approvals")?
                .integer()?
                .unwrap_or(approvals);
        }
    }
    Ok((groups, approvals))
}
