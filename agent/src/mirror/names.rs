//! Names of keys: by one SCAN, or where there is none by LIST, folder by folder.

use serde::Deserialize;

use super::{Occasion, PassError, ground::Ground};
use crate::{
    status::MirrorSource,
    upstream::{Request, UpstreamError},
};

/// Passes by LIST until SCAN is tried again.
const SCAN_AGAIN: u32 = 10;

/// `data` of a LIST or a SCAN.
#[derive(Deserialize)]
pub(super) struct NameList<Name = String> {
    #[serde(default = "Vec::new")]
    pub(super) keys: Vec<Name>,
}

/// What there is, of one kind or another.
pub(super) struct Listing<Found> {
    pub(super) found: Found,
    /// Whether nothing was left out.
    pub(super) complete: bool,
    pub(super) source: MirrorSource,
    /// Names that no request can be made for.
    pub(super) unreadable: usize,
}

impl<Found: Default> Listing<Found> {
    pub(super) fn new(source: MirrorSource, complete: bool) -> Self {
        Self {
            found: Found::default(),
            complete,
            source,
            unreadable: 0,
        }
    }
}

/// What LIST found.
#[derive(Default)]
pub(super) struct WalkedNames {
    /// Relative to the mount's root of keys.
    pub(super) names: Vec<String>,
    /// A folder below the first may not be listed.
    pub(super) partial: bool,
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
        if *refused > 0 && self.occasion == Occasion::Cycle {
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
            let reply = self.reader().ask(&Request::list(listed(&at))).await?;
            let names: NameList = match reply.status() {
                404 => continue,
                // The first refusal says that nothing can be listed at all.
                403 if at == folder => {
                    return Err(PassError::NotListable {
                        scan: scanned(&at),
                        list: listed(&at),
                    });
                }
                403 => {
                    walked.partial = true;
                    continue;
                }
                _ => reply.success()?.data()?,
            };
            for name in names.keys {
                let name = format!("{at}{name}");
                if name.ends_with('/') {
                    folders.push(name);
                } else if name.starts_with(prefix) {
                    walked.names.push(name);
                }
            }
        }
        Ok(walked)
    }
}

/// Whether SCAN or detailed metadata is refused, or not known at all. That nothing is mounted is neither.
pub(super) fn is_without_scan(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Decision(decision) if decision.status() == 404 => {
            let mut errors = decision.errors().iter();
            errors.any(|text| text.contains("unsupported path"))
        }
        error => error.is_decision(403) || error.is_decision(405),
    }
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
