//! Which parameters an endpoint knows, and what the primary says of the others: its framework ignores what it does not
//! know and says so in `warnings`. Every endpoint here takes its path for a parameter, `path`, which none can replace.

use shared::acl::Allowed;

use super::{
    parameter::Params,
    refusal::{Answered, Why},
};

/// The parameters that an endpoint declares besides `path`. From OpenBao 2.7.2, by asking a live one.
pub(crate) struct EndpointFields {
    /// Those that are modelled.
    read: &'static [&'static str],
    /// Those of its writes: the primary checks them in reads as well, which is not modelled.
    unread: &'static [&'static str],
}

/// KV v1 knows none: not even `after` and `limit` in lists.
pub(crate) const KV1: EndpointFields = EndpointFields::new(&[], &[]);

/// `data/` of KV v2.
pub(crate) const DATA: EndpointFields = EndpointFields::new(&["version"], &["data", "options"]);

/// `metadata/` of KV v2, read, listed and scanned.
pub(crate) const METADATA: EndpointFields = EndpointFields::new(
    &["after", "limit"],
    &[
        "cas_required",
        "custom_metadata",
        "delete_version_after",
        "max_versions",
        "metadata_cas",
        "metadata_cas_required",
    ],
);

/// `detailed-metadata/` of KV v2.
pub(crate) const DETAILED: EndpointFields = EndpointFields::new(&["after", "limit"], &[]);

/// `subkeys/` of KV v2.
pub(crate) const SUBKEYS: EndpointFields = EndpointFields::new(&["depth", "version"], &[]);

impl EndpointFields {
    const fn new(read: &'static [&'static str], unread: &'static [&'static str]) -> Self {
        Self { read, unread }
    }

    /// What the primary warns of in an answer to a request with these parameters.
    ///
    /// # Errors
    /// If there is one that only the primary reads.
    pub(crate) fn warnings(&self, data: &Params, allowed: &Allowed) -> Answered<Vec<String>> {
        let mut ignored: Vec<&str> = Vec::new();
        for name in data.keys() {
            if let Some(unread) = self.unread.iter().find(|unread| *unread == name) {
                return Err(Why::Parameter(unread).into());
            }
            ignored.push(name);
        }
        // The access control sets the limit of a page, sent or not, and known or not.
        if allowed.limit().is_some() {
            ignored.push("limit");
        }
        ignored.retain(|name| *name != "path" && !self.read.contains(name));
        let replaced = data.contains_key("path").then_some("path");
        Ok(warnings(ignored, replaced))
    }
}

/// What the primary warns of parameters that it does not know, and of one that it takes from the path.
pub(crate) fn warnings(mut ignored: Vec<&str>, replaced: Option<&str>) -> Vec<String> {
    ignored.sort_unstable();
    ignored.dedup();
    let names = ignored.join(" ");
    let ignored = (!ignored.is_empty())
        .then(|| format!("Endpoint ignored these unrecognized parameters: [{names}]"));
    let replaced = replaced.map(|name| {
        format!(
            "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: \
             [{name}]"
        )
    });
    ignored.into_iter().chain(replaced).collect()
}
