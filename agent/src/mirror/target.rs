//! What a configured path is at the primary, by its mount: a KV v2 folder or key, or something leased. Pure.

use shared::{
    change::{Cluster, Mount},
    kv::Place,
    name::{MountAccessor, Namespace, RequestPath},
    settings::MirrorPath,
};

use super::PassError;

/// What a configured path is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// Keys of a KV v2 mount.
    Kv(KvTarget),
    /// One path whose answer comes with a lease, as far as its mount tells.
    Leased(Leased),
}

/// Keys of a KV v2 mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KvTarget {
    /// The mount, with its slash: `secret/`.
    pub(super) mount: String,
    /// Its name for good.
    pub(super) accessor: MountAccessor,
    /// Which keys.
    pub(super) keys: Keys,
}

/// Which keys of a KV v2 mount, by their names below `data/`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Keys {
    /// One.
    One(String),
    /// All in `folder` (empty, or ending in a slash) whose names begin with `prefix`, which begins with `folder`.
    Below {
        /// What is listed.
        folder: String,
        /// What the names begin with.
        prefix: String,
    },
}

/// One path of a mount that is not KV.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Leased {
    /// Its mount.
    pub(super) accessor: MountAccessor,
    /// The path.
    pub(super) path: RequestPath,
}

impl KvTarget {
    /// The API path of a key's data.
    pub(super) fn data(&self, key: &str) -> String {
        format!("{}data/{key}", self.mount)
    }

    /// The API path of a key's or folder's metadata.
    pub(super) fn metadata(&self, key: &str) -> String {
        format!("{}metadata/{key}", self.mount)
    }

    /// The API path that lists a folder with metadata.
    pub(super) fn detailed(&self, folder: &str) -> String {
        format!("{}detailed-metadata/{folder}", self.mount)
    }

    /// What the data paths of its keys begin with.
    pub(super) fn literal(&self) -> String {
        match &self.keys {
            Keys::One(key) => self.data(key),
            Keys::Below { prefix, .. } => self.data(prefix),
        }
    }
}

/// Where a leased path lives.
pub(super) fn placed(namespace: &Namespace, leased: Leased) -> Place {
    Place {
        namespace: namespace.clone(),
        mount: leased.accessor,
        path: leased.path,
    }
}

/// What `path` is among the mounts of `cluster`.
///
/// # Errors
/// If nothing is mounted there, or nothing that can be mirrored.
pub(super) fn resolve(path: &MirrorPath, cluster: &Cluster) -> Result<Target, PassError> {
    let literal = path.literal();
    let Some((at, mount)) = cluster.mount_of(literal) else {
        return Err(unsupported(format!("nothing is mounted at {literal}")));
    };
    if mount.is_kv2() {
        return kv(path, at, mount).map(Target::Kv);
    }
    match (mount.kind.as_str(), path) {
        ("kv" | "generic", _) => Err(unsupported(format!(
            "{at} is KV version 1, which is not supported yet"
        ))),
        ("system" | "identity" | "cubbyhole" | "token", _) => Err(unsupported(format!(
            "paths of {at} are not mirrored by path"
        ))),
        (kind, MirrorPath::Prefix(_)) => Err(unsupported(format!(
            "{at} is of type {kind}: give one path instead of a prefix"
        ))),
        (_, MirrorPath::Exact(exact)) => match RequestPath::parse(exact) {
            Ok(path) => Ok(Target::Leased(Leased {
                accessor: mount.accessor.clone(),
                path,
            })),
            Err(error) => Err(unsupported(error.to_string())),
        },
    }
}

fn kv(path: &MirrorPath, at: &str, mount: &Mount) -> Result<KvTarget, PassError> {
    let below = path.literal().strip_prefix(at).unwrap_or_default();
    let Some(name) = below.strip_prefix("data/") else {
        return Err(unsupported(format!(
            "{at} is KV version 2: write the path as {at}data/…"
        )));
    };
    let keys = match path {
        MirrorPath::Exact(_) if name.is_empty() || name.ends_with('/') => {
            return Err(unsupported(format!(
                "{at}data/{name} is a folder: end the path with *"
            )));
        }
        MirrorPath::Exact(_) => Keys::One(name.to_owned()),
        MirrorPath::Prefix(_) => {
            let folder = name.rfind('/').map_or(0, |slash| slash + 1);
            Keys::Below {
                folder: name.get(..folder).unwrap_or_default().to_owned(),
                prefix: name.to_owned(),
            }
        }
    };
    Ok(KvTarget {
        mount: at.to_owned(),
        accessor: mount.accessor.clone(),
        keys,
    })
}

fn unsupported(why: String) -> PassError {
    PassError::Unsupported(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{name::ClusterId, time::WallTime};

    fn cluster() -> Cluster {
        let mount = |kind: &str, version: Option<&str>| Mount {
            accessor: MountAccessor::parse(&format!("{kind}_1")).unwrap(),
            kind: kind.to_owned(),
            version: version.map(str::to_owned),
            shown: serde_json::Value::Null,
        };
        Cluster {
            id: ClusterId::parse("c").unwrap(),
            name: String::new(),
            version: String::new(),
            seal_status: serde_json::Value::Null,
            performance_mode: String::new(),
            mounts: [
                ("secret/", mount("kv", Some("2"))),
                ("team/data/", mount("kv", Some("2"))),
                ("old/", mount("kv", Some("1"))),
                ("database/", mount("database", None)),
            ]
            .map(|(at, mount)| (at.to_owned(), mount))
            .into(),
            verified_at: WallTime::EPOCH,
        }
    }

    fn kv_of(text: &str) -> KvTarget {
        match resolve(&MirrorPath::parse(text), &cluster()) {
            Ok(Target::Kv(target)) => target,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn prefixes_are_listed_by_their_folder() {
        let below = |folder: &str, prefix: &str| Keys::Below {
            folder: folder.to_owned(),
            prefix: prefix.to_owned(),
        };
        assert_eq!(kv_of("secret/data/shop/*").keys, below("shop/", "shop/"));
        assert_eq!(
            kv_of("secret/data/shop/or*").keys,
            below("shop/", "shop/or")
        );
        assert_eq!(kv_of("secret/data/*").keys, below("", ""));
        assert_eq!(kv_of("secret/data/a").keys, Keys::One("a".into()));
        assert_eq!(kv_of("team/data/data/a").data("a"), "team/data/data/a");
    }

    #[test]
    fn what_cannot_be_mirrored_says_why() {
        for (path, why) in [
            ("secret/shop/*", "secret/data/"),
            ("secret/data/shop/", "end the path with *"),
            ("old/a", "version 1"),
            ("nowhere/a", "nothing is mounted"),
            ("database/creds/*", "one path instead of a prefix"),
        ] {
            match resolve(&MirrorPath::parse(path), &cluster()) {
                Err(PassError::Unsupported(text)) => assert!(text.contains(why), "{path}: {text}"),
                other => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn one_path_of_another_mount_is_taken_for_leased() {
        let target = resolve(&MirrorPath::parse("database/creds/orders"), &cluster());
        assert!(
            matches!(target, Ok(Target::Leased(leased)) if leased.path.as_str() == "database/creds/orders")
        );
    }
}
