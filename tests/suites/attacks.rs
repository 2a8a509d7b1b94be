//! What an attacker would try who can cut the network, holds a token that was taken away, or wants more in an outage than the
//! primary would give: none of it gains anything. `SECURITY.md` lists each attack with its test.

#[path = "attacks/aftermath.rs"]
mod aftermath;
#[path = "attacks/ages.rs"]
mod ages;
#[path = "attacks/children.rs"]
mod children;
#[path = "attacks/guesses.rs"]
mod guesses;
#[path = "attacks/headers.rs"]
mod headers;
#[path = "attacks/issuing.rs"]
mod issuing;
#[path = "attacks/namespaces.rs"]
mod namespaces;
#[path = "attacks/offboarding.rs"]
mod offboarding;
#[path = "attacks/peers.rs"]
mod peers;
#[path = "attacks/quarantine.rs"]
mod quarantine;
#[path = "attacks/revoked.rs"]
mod revoked;
#[path = "attacks/rights.rs"]
mod rights;
#[path = "attacks/untokened.rs"]
mod untokened;

use harness::Result;
use harness::host::{FAILOVER, Host, RECOVERY};
use harness::tap::Wire;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");
const VISITOR: &str = env!("CARGO_BIN_EXE_holdover-test-client");

/// Cuts Holdover's way to the primary, which goes on, and waits until the replica is in charge.
async fn cut(host: &Host) -> Result<()> {
    host.tap()?.set(Wire::Cut);
    host.daemon.wait_state("holdover", FAILOVER).await.map(drop)
}

/// Opens the way again, and waits until Holdover follows.
async fn reopen(host: &Host) -> Result<()> {
    host.tap()?.set(Wire::Whole);
    host.daemon
        .wait_state("following", RECOVERY)
        .await
        .map(drop)
}
