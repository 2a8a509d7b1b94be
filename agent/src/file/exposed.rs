//! Files that hold secrets and that others than root and the daemon's own user may read, or put something else into.
//!
//! That is told, and no reason to stop: such files are often mounted by something else, which may have its reasons.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// systemd closes this folder itself, and lets a service in by an access list, which shows as rights of the group.
const CLOSED_BY_SYSTEMD: &str = "/run/credentials/";

/// What is wrong with who may use a file, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Exposed {
    /// Its mode lets others in.
    #[error("{} holds a secret and has mode {mode:04o}, so that others may use it; run `chmod {closed:o} {}`", path.display(), path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The same without those of others.
        closed: u32,
    },
    /// It is somebody else's, who may read and change it whatever its mode.
    #[error("{} holds a secret and belongs to uid {owner}, which is neither root nor the daemon's; run `chown {wanted} {}`", path.display(), path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        wanted: u32,
    },
}

/// What is wrong with the file at `path`, for a daemon of this user. Nothing where there is no file: that is told by who reads
/// it. Blocks for as long as its filesystem does.
pub fn exposed(path: &Path, daemon: u32) -> Vec<Exposed> {
    if path.starts_with(CLOSED_BY_SYSTEMD) {
        return Vec::new();
    }
    let meta = std::fs::metadata(path).ok();
    let file = meta.filter(Metadata::is_file);
    file.map_or_else(Vec::new, |meta| {
        judged(path, meta.mode() & 0o7777, meta.uid(), daemon)
    })
}

fn judged(path: &Path, mode: u32, owner: u32, daemon: u32) -> Vec<Exposed> {
    let (by_mode, by_owner) = (mode & 0o077 != 0, owner != 0 && owner != daemon);
    let path = || path.to_owned();
    let mode = by_mode.then(|| Exposed::Mode {
        path: path(),
        mode,
        closed: mode & 0o700,
    });
    let owner = by_owner.then(|| Exposed::Owner {
        path: path(),
        owner,
        wanted: daemon,
    });
    mode.into_iter().chain(owner).collect()
}

/// Who the daemon runs as, as far as that shows to somebody else: whoever the replica is of, or the folder that it is to be in.
pub fn daemon_of(replica: &Path) -> u32 {
    let own = rustix::process::geteuid().as_raw();
    let folder = replica.parent().unwrap_or(Path::new("/"));
    let meta = std::fs::metadata(replica).or_else(|_| std::fs::metadata(folder));
    match meta {
        Ok(meta) if own == 0 => meta.uid(),
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn said(mode: u32, owner: u32) -> Vec<String> {
        let all = judged(Path::new("/etc/id"), mode, owner, 43);
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_right_of_others_and_every_other_owner_is_told_with_a_remedy() {
        for mode in [0o600, 0o400, 0o700] {
            assert!(said(mode, 0).is_empty() && said(mode, 43).is_empty());
        }
        for bit in [0o040, 0o020, 0o010, 0o004, 0o002, 0o001] {
            let [told] = &said(0o600 | bit, 43)[..] else {
                panic!("{bit:o}");
            };
            let named = format!("/etc/id holds a secret and has mode {:04o}", 0o600 | bit);
            assert!(told.starts_with(&named), "{told}");
            assert!(told.ends_with("run `chmod 600 /etc/id`"), "{told}");
        }
        let [told] = &said(0o600, 44)[..] else {
            panic!("an owner");
        };
        assert!(told.contains("belongs to uid 44") && told.ends_with("run `chown 43 /etc/id`"));
        assert_eq!(said(0o644, 44).len(), 2);
    }

    #[test]
    fn what_is_looked_at_is_what_a_link_leads_to_and_nothing_that_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("id"), folder.path().join("link"));
        let own = rustix::process::geteuid().as_raw();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(exposed(&link, own).is_empty(), "nothing is there");
        std::fs::write(&file, "id").unwrap();
        let set = |mode| std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        set(0o600);
        assert!(exposed(&link, own).is_empty());
        set(0o640);
        assert_eq!(exposed(&link, own).len(), 1);
        assert!(exposed(folder.path(), own).is_empty());
    }
}
