//! What the daemon may hold after all of it.

use std::time::Duration;

use harness::host::Host;
use harness::{Result, eventually};

/// Lines of metrics, however many kinds of requests there were.
pub(crate) const MOST_SERIES: usize = 1500;

/// Of the report on what passed through the socket, which counts by path.
pub(crate) const MOST_BYTES: usize = 4 << 20;

/// Descriptors of a daemon that nobody is connected to.
const MOST_DESCRIPTORS: usize = 100;

/// Waits until connections of clients that went away are closed.
pub(crate) async fn descriptors_are_given_back(host: &Host) -> Result<()> {
    let folder = format!("/proc/{}/fd", host.daemon.id()?);
    let bound = Duration::from_secs(30);
    eventually(bound, "connections to be closed", async || {
        let open = std::fs::read_dir(&folder).map_err(|error| error.to_string())?;
        match open.count() {
            few if few <= MOST_DESCRIPTORS => Ok(()),
            many => Err(format!("{many} descriptors")),
        }
    })
    .await
    .map_err(|failure| host.daemon.failure(failure))
}
