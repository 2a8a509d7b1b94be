//! Names of keys: by one SCAN, or where there is none by LIST, folder by folder.

use serde::Deserialize;

use shared::name::RequestPath;

use super::{PassError, ground::Ground, read::is_cut_off, status::UnreadPaths};
use crate::{
    status::MirrorSource,
    upstream::{Request, Said, ShownReply, UpstreamError},
};

/// Passes by LIST until SCAN is tried again.
const SCAN_AGAIN: u32 = 10;

/// Names that are listed folder by folder in one pass: more than there is room for. A scan's are bounded by its answer's size.
const MOST_NAMES: usize = 1 << 20;

/// `data` of a LIST or a SCAN.
#[derive(Deserialize)]
struct NameList {
    keys: Vec<String>,
}

/// The names in a list. Where there are none a LIST is 404.
///
/// # Errors
/// If it is no list, or has a name in it that is none.
pub(super) fn names(list: &ShownReply) -> Result<Vec<String>, UpstreamError> {
    let names = list.data::<NameList>()?.keys;
    match !names.is_empty() && names.iter().all(|name| is_name(name)) {
        true => Ok(names),
        false => Err(list.unexpected("no names in it, or one that is none")),
    }
}

/// The same of a SCAN, which shows an empty object where there are none.
///
/// # Errors
/// As [`names`].
pub(super) fn scanned(list: &ShownReply) -> Result<Vec<String>, UpstreamError> {
    match is_empty_scan(list)? {
        true => Ok(Vec::new()),
        false => names(list),
    }
}

/// Whether a SCAN found nothing.
///
/// # Errors
/// If it is no SCAN's answer.
pub(super) fn is_empty_scan(list: &ShownReply) -> Result<bool, UpstreamError> {
    Ok(list.object()?.get() == "{}")
}

/// An empty name would be its folder again, for ever.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('/')
}

/// What there is, of one kind or another.
pub(super) struct Listing<Found> {
    pub(super) found: Found,
    /// Whether nothing was left out.
    pub(super) complete: bool,
    pub(super) source: MirrorSource,
    /// Names that no request can be made for.
    pub(super) unreadable: usize,
    /// What could not be listed, and why.
    pub(super) unread: UnreadPaths,
}

impl<Found: Default> Listing<Found> {
    pub(super) fn new(source: MirrorSource, complete: bool) -> Self {
        Self {
            found: Found::default(),
            complete,
            source,
            unreadable: 0,
            unread: UnreadPaths::default(),
        }
    }
}

/// What LIST found.
#[derive(Default)]
pub(super) struct WalkedNames {
    /// Relative to the mount's root of keys.
    pub(super) names: Vec<String>,
    /// A folder below the first may not be listed, or could not be.
    pub(super) partial: bool,
    /// Those that could not be, and why.
    pub(super) unread: UnreadPaths,
}

impl Ground<'_> {
    /// SCAN (none where the primary has none, or refuses it), or else a walk by LIST. `refused` counts the passes until
    /// SCAN is tried again.
    pub(super) async fn scan_or_walk<T>(
        &self,
        refused: &mut u32,
        scan: impl Future<Output = Result<Option<T>, PassError>>,
        walk: impl Future<Output = Result<T, PassError>>,
    ) -> Result<T, PassError> {
        if *refused > 0 && self.occasion.is_own() {
            *refused -= 1;
        } else if let Some(scanned) = scan.await? {
            *refused = 0;
            return Ok(scanned);
        } else {
            *refused = SCAN_AGAIN;
        }
        let walked = walk.await;
        if walked.is_err() {
            // Lists are no better: SCAN may be allowed again sooner.
            *refused = 0;
        }
        walked
    }

    /// LIST, from `folder` on down: names that begin with `prefix`. `scanned` and `listed` are the paths at
    /// which a folder is.
    pub(super) async fn walk(
        &self,
        folder: &str,
        prefix: &str,
        scanned: impl Fn(&str) -> String,
        listed: impl Fn(&str) -> String,
    ) -> Result<WalkedNames, PassError> {
        let mut walked = WalkedNames::default();
        let mut folders = vec![folder.to_owned()];
        while let Some(at) = folders.pop() {
            self.go_on()?;
            if walked.names.len() + folders.len() > MOST_NAMES {
                let path = listed(folder);
                return Err(PassError::Partial(format!(
                    "more than {MOST_NAMES} names are below {path}: mirror parts of it"
                )));
            }
            let names = match self.names_in(&listed(&at)).await {
                Ok(names) => names,
                // The first refusal says that nothing can be listed at all.
                Err(error) if error.is_denial() && at == folder => {
                    return Err(PassError::NotListable {
                        scan: scanned(&at),
                        list: listed(&at),
                    });
                }
                Err(error) if error.is_denial() => {
                    walked.partial = true;
                    continue;
                }
                Err(error) if is_cut_off(&error) || at == folder => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "a folder could not be listed");
                    walked.partial = true;
                    walked.unread.add(listed(&at), error);
                    continue;
                }
            };
            for name in names {
                let name = format!("{at}{name}");
                if name.len() > RequestPath::MAX {
                    walked.partial = true;
                } else if name.ends_with('/') {
                    folders.push(name);
                } else if name.starts_with(prefix) {
                    walked.names.push(name);
                }
            }
        }
        Ok(walked)
    }

    /// What is right below a folder; nothing, where there is none.
    async fn names_in(&self, folder: &str) -> Result<Vec<String>, UpstreamError> {
        let reply = self.reader().ask(&Request::list(folder)).await?;
        match reply.said()? {
            Said::Missing(_) => Ok(Vec::new()),
            Said::Shown(listing) => names(&listing),
            other => Err(other.unfit()),
        }
    }
}

/// Whether SCAN or detailed metadata is refused, or not known at all. That nothing is mounted is neither.
pub(super) fn is_without_scan(error: &UpstreamError) -> bool {
    error.decision().is_some_and(|decision| {
        let unknown = decision.is_missing() && decision.says("unsupported path");
        unknown || decision.is_denial() || decision.is_unsupported()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Decision;

    #[test]
    fn a_mount_that_is_gone_is_no_refusal_of_scan() {
        let decision = |status, text| UpstreamError::Decision(Decision::said(status, text));
        assert!(is_without_scan(&decision(
            403,
            "1 error occurred:\n\t* permission denied"
        )));
        assert!(is_without_scan(&decision(
            405,
            "1 error occurred:\n\t* unsupported operation"
        )));
        assert!(is_without_scan(&decision(
            404,
            "1 error occurred:\n\t* unsupported path"
        )));
        assert!(!is_without_scan(&decision(
            404,
            "no handler for route \"secret/detailed-metadata/\""
        )));
        assert!(!is_without_scan(&decision(
            400,
            "Upgrading from non-versioned to versioned data"
        )));
    }
}
