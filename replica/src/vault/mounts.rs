//! `sys/internal/ui/mounts`: what clients ask before they read, so that they know which kind of mount a path is in.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::Value;
use shared::{
    acl::Operation,
    change::{Cluster, Mount},
    name::PolicyName,
};

use super::{
    caller::Caller,
    case::Case,
    envelope::Contents,
    parameter::Params,
    refusal::{Answered, Refusal, Why},
};

/// What `auth` mounts begin with among the mounts, and do not where they are shown.
const AUTH: &str = "auth/";

/// The mount of `path`, if the caller has anything to do with it.
pub(crate) fn one(case: &Case<'_>, caller: &Caller, path: &str) -> Answered {
    reads(case)?;
    let path = format!("{}/", path.trim_end_matches('/'));
    let cluster = case.mounts()?;
    let Some((at, mount)) = cluster.mount_of(&path) else {
        return Err(Refusal::NoMountAccess(path));
    };
    if !has_access(caller, at)? {
        return Err(Refusal::NoMountAccess(path));
    }
    let mut shown = mount.shown.as_object().cloned().unwrap_or_default();
    let at = at.strip_prefix(AUTH).unwrap_or(at);
    shown.insert("path".into(), at.into());
    Contents::data(shown, age(case, cluster, Some(caller))).granted(case)
}

/// Every mount that the caller has anything to do with, or that everyone may see.
pub(crate) fn all(case: &Case<'_>, caller: &Caller) -> Answered {
    reads(case)?;
    let cluster = case.mounts()?;
    let mut mounts = Mounts::default();
    for (at, mount) in &cluster.mounts {
        if is_public(mount) || has_access(caller, at)? {
            mounts.add(at, mount.shown.clone());
        }
    }
    Contents::data(mounts, age(case, cluster, Some(caller))).granted(case)
}

/// By which policies the caller sees each mount that is asked about.
pub(crate) fn contributors(
    case: &Case<'_>,
    caller: &Caller,
    asked: Option<&str>,
) -> Answered<BTreeMap<String, Vec<PolicyName>>> {
    let mounts = shown(case.mounts()?, asked).into_iter();
    mounts
        .map(|at| Ok((at.to_owned(), caller.rights.mount_contributors(at)?)))
        .collect()
}

/// The mount of the path that is asked for, or all of them.
fn shown<'a>(cluster: &'a Cluster, asked: Option<&str>) -> Vec<&'a str> {
    match asked {
        None => cluster.mounts.keys().map(String::as_str).collect(),
        Some(path) => {
            let path = format!("{}/", path.trim_end_matches('/'));
            cluster
                .mount_of(&path)
                .map(|(at, _)| at)
                .into_iter()
                .collect()
        }
    }
}

/// What everyone may see, and no more of it than that.
pub(crate) fn public(case: &Case<'_>) -> Answered {
    reads(case)?;
    let cluster = case.mounts()?;
    let mut mounts = Mounts::default();
    for (at, mount) in cluster.mounts.iter().filter(|(_, mount)| is_public(mount)) {
        let field = |name: &str| mount.shown.get(name).cloned().unwrap_or_default();
        let shown = ["description", "options", "type"].map(|name| (name.to_owned(), field(name)));
        mounts.add(at, Value::Object(Params::from_iter(shown)));
    }
    Contents::data(mounts, age(case, cluster, None)).granted(case)
}

#[derive(Serialize, Default)]
struct Mounts {
    auth: Params,
    secret: Params,
}

impl Mounts {
    fn add(&mut self, at: &str, shown: Value) {
        match at.strip_prefix(AUTH) {
            Some(at) => self.auth.insert(at.to_owned(), shown),
            None => self.secret.insert(at.to_owned(), shown),
        };
    }
}

fn reads(case: &Case<'_>) -> Answered<()> {
    match case.query.call.operation {
        Operation::Read => Ok(()),
        Operation::List => Err(Refusal::Absent),
        _ => Err(Refusal::Operation),
    }
}

fn has_access(caller: &Caller, mount: &str) -> Answered<bool> {
    let access = caller.rights.acl()?.has_mount_access(mount);
    access.map_err(|why| Why::Policy(why).into())
}

fn is_public(mount: &Mount) -> bool {
    let visibility = mount.shown.pointer("/config/listing_visibility");
    visibility.and_then(Value::as_str) == Some("unauth")
}

fn age(case: &Case<'_>, cluster: &Cluster, caller: Option<&Caller>) -> Duration {
    let mounts = case.age(cluster.verified_at);
    caller.map_or(mounts, |caller| mounts.max(caller.age(case)))
}
