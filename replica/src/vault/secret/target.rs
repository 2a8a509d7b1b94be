//! What a request below a mount is about, by the kind of the mount and by its path.

use shared::{acl::Operation, change::Mount};

use super::site::{Site, site};
use crate::vault::{
    caller::Caller,
    case::Case,
    lease, parameter,
    refusal::{Answered, Why},
};

const NO_READ_OF_ROOT: &str =
    "Non-listing operations on the root of a K/V v2 mount are not supported.";

/// What a request below a mount is about.
pub(super) enum Target<'a> {
    /// A folder of keys, by the path of their data.
    Folder(Site<'a>, Shows),
    /// A secret with a lease.
    Leased,
    /// A KV v2 key's metadata.
    Metadata(Site<'a>),
    /// The primary has no such operation here.
    Nothing,
    /// A value without versions: KV v1, or an answer kept as it is.
    Plain(Site<'a>),
    /// The names of a KV v2 value's fields.
    Subkeys(Site<'a>),
    /// A KV v2 value.
    Value(Site<'a>),
    /// A path that a KV v2 mount has no use for: it answers with a hint.
    Versioned(String),
}

/// What is shown of a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shows {
    /// Names and the metadata of each, as KV v2 does.
    Metadata,
    /// Names, by pages, as KV v2 does.
    Names,
    /// Names, all of them, as KV v1 does.
    Unversioned,
}

/// What the request is about: all of it must be covered by a mirror, or a lease.
pub(super) fn target<'a>(case: &Case<'a>, caller: &Caller) -> Answered<Target<'a>> {
    let call = case.query.call;
    match call.operation {
        Operation::Header => return Err(Why::NotServed.into()),
        operation if !operation.reads() => return Err(Why::Write.into()),
        _ => {}
    }
    if parameter::asks_for_help(call) {
        return Err(Why::NotServed.into());
    }
    let path = call.path.as_str();
    let (at, mount) = case.mount()?;
    if mount.is_kv2() {
        return versioned(case, at, mount);
    }
    let reads = call.operation == Operation::Read;
    if mount.is_kv1() {
        let site = site(case, mount, path, !reads)?;
        return Ok(match reads {
            true => Target::Plain(site),
            false => Target::Folder(site, Shows::Unversioned),
        });
    }
    if !reads {
        return Err(Why::PathNotMirrored.into());
    }
    match site(case, mount, path, false) {
        Ok(site) if site.unversioned(&case.view.secrets()).is_some() => Ok(Target::Plain(site)),
        _ if lease::may_hold(case, caller, mount) => Ok(Target::Leased),
        _ => Err(Why::PathNotMirrored.into()),
    }
}

/// What a request below the KV v2 mount `at` is about. All of it must be covered by a mirror of values.
fn versioned<'a>(case: &Case<'a>, at: &str, mount: &Mount) -> Answered<Target<'a>> {
    let call = case.query.call;
    let operation = call.operation;
    let reads = operation == Operation::Read;
    let rest = call.path.as_str().get(at.len()..).unwrap_or_default();
    let (endpoint, key) = rest.split_once('/').unwrap_or((rest, ""));
    let below = rest.contains('/');
    if rest == "config" && reads {
        return site(case, mount, call.path.as_str(), false).map(Target::Plain);
    }
    let known = [
        "data",
        "delete",
        "destroy",
        "detailed-metadata",
        "metadata",
        "subkeys",
        "undelete",
    ];
    if !below || !known.contains(&endpoint) {
        let _ = site(case, mount, &format!("{at}data/{rest}"), !reads)?;
        return Ok(Target::Versioned(match (operation, rest) {
            (Operation::Read, "data" | "metadata") => NO_READ_OF_ROOT.into(),
            (Operation::Read, _) => no_endpoint("get"),
            (Operation::List, _) => no_endpoint("list"),
            _ => no_endpoint("scan"),
        }));
    }
    let site = site(case, mount, &format!("{at}data/{key}"), !reads)?;
    Ok(match (endpoint, operation) {
        ("data", Operation::Read) => Target::Value(site),
        ("subkeys", Operation::Read) => Target::Subkeys(site),
        ("metadata", Operation::Read) => Target::Metadata(site),
        ("metadata", _) => Target::Folder(site, Shows::Names),
        ("detailed-metadata", Operation::List | Operation::Scan) => {
            Target::Folder(site, Shows::Metadata)
        }
        _ => Target::Nothing,
    })
}

/// What the primary says of a path that belongs to none of the endpoints.
fn no_endpoint(command: &str) -> String {
    format!(
        "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. If \
         using the OpenBao CLI, use 'bao kv {command}' for this operation."
    )
}
