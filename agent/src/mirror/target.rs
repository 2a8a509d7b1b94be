//! What a configured path is at the primary, by its mount: keys of KV v2 or v1, or one path of something else. Pure.

use shared::{
    change::{Cluster, Mount},
    name::{MountAccessor, RequestPath},
    settings::MirrorPath,
};

use super::PassError;

/// What a configured path is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// Keys of a KV mount.
    Kv(KvTarget),
    /// One path of any other mount: only its answer tells whether it comes with a lease.
    Path(MountAccessor, RequestPath),
}

/// Keys of a KV mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KvTarget {
    /// The mount, with its slash: `secret/`.
    pub(super) mount: String,
    /// Its name for good.
    pub(super) accessor: MountAccessor,
    pub(super) version: KvEngine,
    /// Which keys.
    pub(super) keys: Keys,
}

/// Which KV engine a mount is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum KvEngine {
    /// Version 1: a key's path is its name.
    One,
    /// Version 2: values are below `data/`.
    Two,
}

/// Which keys of a KV mount, by their names below it, or below its `data/` in version 2.
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

impl KvTarget {
    /// The API path of a key's data.
    pub(super) fn data(&self, key: &str) -> String {
        match self.version {
            KvEngine::One => format!("{}{key}", self.mount),
            KvEngine::Two => format!("{}data/{key}", self.mount),
        }
    }

    /// The API path of a key's or folder's metadata, in version 2.
    pub(super) fn metadata(&self, key: &str) -> String {
        format!("{}metadata/{key}", self.mount)
    }

    /// The API path that lists a folder with metadata, in version 2.
    pub(super) fn detailed(&self, folder: &str) -> String {
        format!("{}detailed-metadata/{folder}", self.mount)
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
    let below = literal.strip_prefix(at).unwrap_or_default();
    let exact = matches!(path, MirrorPath::Exact(_));
    if mount.is_kv2() && exact && below == "config" {
        return one_path(literal, mount);
    }
    if mount.is_kv2() {
        let Some(name) = below.strip_prefix("data/") else {
            let why = format!("{at} is KV version 2: write the path as {at}data/…");
            return Err(unsupported(why));
        };
        let keys = keys(path, &format!("{at}data/"), name)?;
        return Ok(kv(at, mount, KvEngine::Two, keys));
    }
    if mount.is_kv1() {
        return Ok(kv(at, mount, KvEngine::One, keys(path, at, below)?));
    }
    let (kind, oidc) = (&mount.kind, below.starts_with("oidc/"));
    if kind.is_of_the_server() && !(kind.is_identity() && exact && oidc) {
        let why = format!("paths of {at} are not mirrored by path");
        return Err(unsupported(why));
    }
    if !exact {
        let kind = kind.as_str();
        let why = format!("{at} is of type {kind}: give one path instead of a prefix");
        return Err(unsupported(why));
    }
    one_path(literal, mount)
}

fn one_path(path: &str, mount: &Mount) -> Result<Target, PassError> {
    let path = RequestPath::parse(path).map_err(|error| unsupported(error.to_string()))?;
    Ok(Target::Path(mount.accessor.clone(), path))
}

fn kv(at: &str, mount: &Mount, version: KvEngine, keys: Keys) -> Target {
    Target::Kv(KvTarget {
        mount: at.to_owned(),
        accessor: mount.accessor.clone(),
        version,
        keys,
    })
}

/// The keys that `name`, the part of the path below `at`, stands for.
fn keys(path: &MirrorPath, at: &str, name: &str) -> Result<Keys, PassError> {
    match path {
        MirrorPath::Exact(_) if name.is_empty() || name.ends_with('/') => Err(unsupported(
            format!("{at}{name} is a folder: end the path with *"),
        )),
        MirrorPath::Exact(_) => Ok(Keys::One(name.to_owned())),
        MirrorPath::Prefix(_) => {
            let folder = name.rfind('/').map_or(0, |slash| slash + 1);
            Ok(Keys::Below {
                folder: name.get(..folder).unwrap_or_default().to_owned(),
                prefix: name.to_owned(),
            })
        }
    }
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
            kind: kind.into(),
            version: version.map(str::to_owned),
            shown: serde_json::Value::Null,
        };
        Cluster {
            id: ClusterId::parse("c").unwrap(),
            namespace: Default::default(),
            name: String::new(),
            version: String::new(),
            seal_status: serde_json::Value::Null,
            performance_mode: String::new(),
            mounts: [
                ("secret/", mount("kv", Some("2"))),
                ("team/data/", mount("kv", Some("2"))),
                ("old/", mount("kv", Some("1"))),
                ("database/", mount("database", None)),
                ("identity/", mount("identity", None)),
                ("pki/", mount("pki", None)),
            ]
            .map(|(at, mount)| (at.to_owned(), mount))
            .into(),
            token_ttls: None,
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
            ("old/a/", "end the path with *"),
            ("identity/oidc/*", "not mirrored by path"),
            ("identity/entity/id/x", "not mirrored by path"),
            ("pki/*", "one path instead of a prefix"),
            ("secret/config/x", "secret/data/"),
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
    fn keys_of_version_1_are_named_below_their_mount() {
        let of = |text: &str| match resolve(&MirrorPath::parse(text), &cluster()) {
            Ok(Target::Kv(target)) => target,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(of("old/a").keys, Keys::One("a".into()));
        let below = of("old/shop/or*");
        assert_eq!(below.data("shop/order"), "old/shop/order");
        assert_eq!(
            below.keys,
            Keys::Below {
                folder: "shop/".into(),
                prefix: "shop/or".into()
            }
        );
        assert_eq!(of("old/*").data(""), "old/");
    }

    #[test]
    fn one_path_of_another_mount_is_told_by_its_answer() {
        for path in [
            "database/creds/orders",
            "pki/cert/ca",
            "identity/oidc/.well-known/keys",
            "secret/config",
        ] {
            let target = resolve(&MirrorPath::parse(path), &cluster());
            assert!(
                matches!(&target, Ok(Target::Path(_, one)) if one.as_str() == path),
                "{target:?}"
            );
        }
    }
}
