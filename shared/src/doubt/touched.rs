//! What a write touches of what is mirrored, by its request line.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde::Deserialize;

use crate::{
    api::cleaned,
    change::Cluster,
    kv::{Doubted, Place},
    name::{Namespace, RequestPath},
    percent,
    settings::{MirrorPath, Settings},
};

/// The request line of a write. Whatever the primary would take for the same path is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteLine {
    deletes: bool,
    path: String,
}

/// What a write touches.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Touched {
    /// Keys and whole mirrors. A key is of a mirror, whether or not it is held.
    pub doubted: Vec<Doubted>,
    /// Whether keys among them may be gone by it, so that lists are in doubt too.
    pub vanishes: bool,
    /// Whether it is about who may do what: policies, roles, identities, mounts.
    pub authority: bool,
}

/// Paths below which everything is about who may do what.
const OF_AUTHORITY: [&str; 7] = [
    "identity/",
    "sys/auth/",
    "sys/mounts/",
    "sys/namespaces/",
    "sys/policies/",
    "sys/policy/",
    "sys/remount",
];

/// Paths that replace what lies below any mount, from whichever namespace they are asked.
const OF_EVERYTHING: [&str; 3] = ["sys/namespaces/", "sys/raw/", "sys/storage/raft/snapshot"];

impl WriteLine {
    /// Reads method and target as they were sent. None for what only reads, and for what is not below `/v1/`.
    ///
    /// The primary decodes and cleans paths before it looks at them, and so does this; an escape or a query that is
    /// broken is not what keeps it from writing.
    pub fn parse(method: &str, target: &str) -> Option<Self> {
        if !matches!(method, "POST" | "PUT" | "PATCH" | "DELETE") {
            return None;
        }
        let path = target.split('?').next().unwrap_or_default();
        let path = percent::decode_leniently(path.as_bytes());
        let path = cleaned(&String::from_utf8_lossy(&path));
        let path = path.strip_prefix("v1/")?.to_owned();
        Some(Self {
            deletes: method == "DELETE",
            path,
        })
    }

    /// Whether the primary acts on it without its body.
    pub fn needs_no_body(&self) -> bool {
        self.deletes
    }

    /// What the path may be in the configured namespace. Without a header it may be meant from the root, or from there.
    fn inside(&self, header: Option<&Namespace>, configured: &Namespace) -> Vec<&str> {
        let below = |path| below_namespace(path, configured.as_str());
        let path = self.path.as_str();
        let Some(named) = header else {
            let meant = [Some(path), below(path)];
            let distinct = usize::from(!configured.as_str().is_empty()) + 1;
            return meant.into_iter().take(distinct).flatten().collect();
        };
        let rest = match below_namespace(configured.as_str(), named.as_str()) {
            _ if named == configured => Some(path),
            // A namespace above: the path leads on into it.
            Some(rest) => below_namespace(path, rest),
            None => None,
        };
        rest.into_iter().collect()
    }
}

/// What `write` touches if it is carried out. `namespace` is that of its header, `body` its whole body if that is known.
pub fn touched(
    write: &WriteLine,
    namespace: Option<&Namespace>,
    body: Option<&[u8]>,
    cluster: Option<&Cluster>,
    settings: &Settings,
) -> Touched {
    let mut touched = Touched::default();
    if OF_EVERYTHING.iter().any(|of| write.path.starts_with(of)) {
        touched.authority = true;
        touched.mirrors_below(&[String::new()], settings);
    }
    for path in write.inside(namespace, &settings.namespace) {
        touched.authority |= is_of_authority(path);
        touched.mirrors(path, body, settings);
        if let Some(cluster) = cluster {
            touched.key(path, write.deletes, cluster, settings);
        }
    }
    touched
}

impl Touched {
    /// Whole mirrors, by what happens to the mounts that they lie in.
    fn mirrors(&mut self, path: &str, body: Option<&[u8]>, settings: &Settings) {
        let mounts: Vec<String> = match path.strip_prefix("sys/mounts/") {
            Some(mount) => Vec::from([mount.strip_suffix("/tune").unwrap_or(mount).to_owned()]),
            None if path == "sys/remount" => moved(body, &settings.namespace),
            None => return,
        };
        self.mirrors_below(&mounts, settings);
    }

    /// Those of mounts at or below these; an empty one is everywhere.
    fn mirrors_below(&mut self, mounts: &[String], settings: &Settings) {
        let below: Vec<String> = mounts.iter().map(|mount| as_folder(mount)).collect();
        for mirror in &settings.mirrors {
            let literal = mirror.path.literal();
            let lies = |at: &String| literal.starts_with(at.as_str()) || at.starts_with(literal);
            if below.iter().any(lies) {
                self.add(Doubted::Mirror(mirror.path.configured()));
            }
        }
    }

    /// The one key that a path names, if a mirror covers it.
    fn key(&mut self, path: &str, deletes: bool, cluster: &Cluster, settings: &Settings) {
        let Some((at, mount)) = cluster.mount_of(path) else {
            return;
        };
        let below = path.get(at.len()..).unwrap_or_default();
        let versioned = below.split_once('/').filter(|_| mount.is_kv2());
        let (named, vanishes) = match versioned {
            Some((endpoint, key)) => (format!("{at}data/{key}"), endpoint == "metadata"),
            None => (path.to_owned(), true),
        };
        // A key is found with slashes at its end, too.
        let named = named.trim_end_matches('/');
        let covers = |path: &MirrorPath| path.covers(named);
        let covered = settings.mirrors.iter().any(|mirror| covers(&mirror.path));
        let Some(path) = RequestPath::parse(named).ok().filter(|_| covered) else {
            return;
        };
        self.vanishes |= deletes && vanishes;
        self.add(Doubted::Key(Place {
            namespace: settings.namespace.clone(),
            mount: mount.accessor.clone(),
            path,
        }));
    }

    fn add(&mut self, doubted: Doubted) {
        if !self.doubted.contains(&doubted) {
            self.doubted.push(doubted);
        }
    }
}

fn is_of_authority(path: &str) -> bool {
    let of_role = || {
        let rest = path.strip_prefix("auth/").unwrap_or_default();
        let mut parts = rest.split('/').skip(1);
        !rest.starts_with("token/create") && parts.any(|part| matches!(part, "role" | "roles"))
    };
    OF_AUTHORITY.iter().any(|of| path.starts_with(of)) || of_role()
}

/// Where a remount leads from and to, as mounts of the configured namespace; everywhere, where that cannot be read.
fn moved(body: Option<&[u8]>, configured: &Namespace) -> Vec<String> {
    #[derive(Deserialize)]
    struct Move {
        from: String,
        to: String,
    }
    let read = body.and_then(|body| serde_json::from_slice::<Move>(body).ok());
    let Some(Move { from, to }) = read else {
        return Vec::from([String::new()]);
    };
    let both = [from, to].map(|at| at.trim_matches('/').to_string());
    let inside = both.iter().filter_map(|at| {
        let rest = below_namespace(at, configured.as_str())?;
        Some(rest.to_owned())
    });
    both.iter().cloned().chain(inside).collect()
}

/// `path` seen from `namespace`, if it lies in it.
fn below_namespace<'p>(path: &'p str, namespace: &str) -> Option<&'p str> {
    if namespace.is_empty() {
        return Some(path);
    }
    path.strip_prefix(namespace)?.strip_prefix('/')
}

/// Empty is everywhere.
fn as_folder(mount: &str) -> String {
    match mount.trim_matches('/') {
        "" => String::new(),
        at => format!("{at}/"),
    }
}
