//! Where a path that no mirror covers would be mirrored, if it can be at all.

use shared::{change::Cluster, settings::MirrorPath};

use crate::{mirror, status::coverage::Place};

/// What the mirror of a KV v2 key answers besides its data, and where its data is.
const OF_KEYS: [&str; 4] = ["data/", "detailed-metadata/", "metadata/", "subkeys/"];

/// The place of `path`, as it is counted.
///
/// # Errors
/// Why it cannot be mirrored, in words.
pub fn of(path: &str, cluster: Option<&Cluster>) -> Result<Place, String> {
    let Some(cluster) = cluster else {
        return Err("the primary's mounts have not been seen yet".to_owned());
    };
    let path = match path.strip_suffix("/*") {
        Some(folder) => format!("{folder}/"),
        None => path.to_owned(),
    };
    if path.contains('*') {
        return Err("the path differs from request to request, or is too long".to_owned());
    }
    let Some((mount, found)) = cluster.mount_of(&path) else {
        return Err("nothing is mounted there".to_owned());
    };
    let below = path.strip_prefix(mount).unwrap_or_default();
    let (kind, base, key) = if found.is_kv2() {
        let of_keys = OF_KEYS.iter().find_map(|part| below.strip_prefix(part));
        match of_keys {
            Some(key) => ("kv2".to_owned(), format!("{mount}data/"), key),
            None => ("kv2".to_owned(), mount.to_owned(), below),
        }
    } else {
        (found.kind.as_str().to_owned(), mount.to_owned(), below)
    };
    let folder = MirrorPath::Prefix(format!("{base}folder/"));
    let place = Place {
        mount: mount.to_owned(),
        kind,
        key: key.to_owned(),
        folders: mirror::is_mirrorable(&folder, cluster).is_ok(),
        base,
    };
    if place.is_folder() && place.folders {
        return Ok(place);
    }
    let exact = MirrorPath::Exact(place.path());
    match mirror::is_mirrorable(&exact, cluster) {
        Ok(()) if place.is_folder() => Err(format!("folders of {mount} cannot be mirrored")),
        Ok(()) => Ok(place),
        Err(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{
        change::Mount,
        name::{ClusterId, MountAccessor},
        time::WallTime,
    };

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
            mounts: [
                ("secret/", mount("kv", Some("2"))),
                ("database/", mount("database", None)),
                ("pki/", mount("pki", None)),
            ]
            .map(|(at, mount)| (at.to_owned(), mount))
            .into(),
            performance_mode: String::new(),
            token_ttls: None,
            verified_at: WallTime::EPOCH,
        }
    }

    fn path(counted: &str) -> Result<String, String> {
        of(counted, Some(&cluster())).map(|place| place.path())
    }

    #[test]
    fn reads_lists_and_metadata_of_kv_are_mirrored_as_data() {
        for (counted, mirrored) in [
            ("secret/data/shop/db", "secret/data/shop/db"),
            ("secret/metadata/shop/db", "secret/data/shop/db"),
            ("secret/metadata/shop/", "secret/data/shop/"),
            ("secret/metadata/", "secret/data/"),
            ("secret/data/users/*", "secret/data/users/"),
            ("secret/subkeys/shop/db", "secret/data/shop/db"),
            ("secret/detailed-metadata/shop/", "secret/data/shop/"),
        ] {
            assert_eq!(path(counted).as_deref(), Ok(mirrored), "{counted}");
        }
    }

    #[test]
    fn what_is_no_key_is_mirrored_by_itself() {
        let place = of("database/creds/orders", Some(&cluster())).unwrap();
        assert_eq!(
            (place.path().as_str(), place.folders, place.kind.as_str()),
            ("database/creds/orders", false, "database")
        );
        assert!(path("database/creds/").is_err());
        assert_eq!(path("pki/ca/pem").as_deref(), Ok("pki/ca/pem"));
        assert_eq!(path("secret/config").as_deref(), Ok("secret/config"));
    }

    #[test]
    fn what_cannot_be_mirrored_says_why() {
        for (counted, why) in [
            ("secret/undelete/a", "write the path as"),
            ("nowhere/x", "nothing is mounted"),
            ("secret/data/*/x", "differs from request"),
        ] {
            let said = path(counted).unwrap_err();
            assert!(said.contains(why), "{counted}: {said}");
        }
        assert!(
            of("secret/data/a", None)
                .unwrap_err()
                .contains("not been seen")
        );
    }
}
