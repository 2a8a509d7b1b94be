//! Steps of settling that the primary refuses: each is told with its path and rule, and holds nothing else up.

#[path = "refused/rig.rs"]
mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use harness::host::RECOVERY;
use harness::tap::Wire;
use harness::{Context, Failure, Result, eventually, together};

use self::rig::{Estate, Guest, Rights};

const BOUND: Duration = Duration::from_secs(60);

/// How a host stands after the return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Standing {
    /// Whether an attested login is answered by the primary.
    logs_in: bool,
    /// Of what an attested login of the outage gave.
    attested: Rights,
    /// Of what an AppRole login of the outage gave.
    approle: Rights,
    /// Whether what was given up in the outage is dead at the primary.
    given_up: bool,
    /// Whether status names the rule that is lacking.
    told: bool,
}

/// Nothing but what needs the very rule may differ.
const WHOLE: Standing = Standing {
    logs_in: true,
    attested: Rights::All,
    approle: Rights::All,
    given_up: true,
    told: true,
};

/// What is left without this rule.
fn expected(rule: &str) -> Standing {
    match rule {
        "auth/token/create/orders" => Standing {
            logs_in: false,
            attested: Rights::Reads,
            approle: Rights::Reads,
            ..WHOLE
        },
        "auth/token/lookup-accessor" | "auth/token/roles/orders" => Standing {
            attested: Rights::Reads,
            ..WHOLE
        },
        // Whether a policy came to depend on the login's entity is not known.
        "sys/policies/detailed/acl" => Standing {
            approle: Rights::Reads,
            ..WHOLE
        },
        "auth/token/revoke-accessor" => Standing {
            given_up: false,
            ..WHOLE
        },
        "auth/approle/role/+"
        | "auth/approle/role/+/role-id"
        | "auth/approle/role/+/secret-id-accessor/lookup"
        | "identity/entity/id/+"
        | "identity/mfa/login-enforcement"
        | "sys/mounts/auth/approle/tune" => Standing {
            approle: Rights::Later,
            ..WHOLE
        },
        _ => WHOLE,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_rule_that_is_lacking_is_told_and_holds_nothing_else_up() -> Result<()> {
    let estate = Estate::build().await?;
    together(estate.guests.iter().map(|guest| guest.prepare(&estate))).await?;
    estate.tap.set(Wire::Cut);
    together(estate.guests.iter().map(Guest::issue)).await?;
    together(estate.guests.iter().map(|guest| guest.narrow(&estate.root))).await?;
    estate.tap.set(Wire::Whole);

    let stand = together(estate.guests.iter().map(|guest| stands(&estate, guest))).await?;
    let differ: BTreeMap<_, _> = stand.into_iter().flatten().collect();
    assert!(differ.is_empty(), "{differ:#?}");

    // Given back, the rest is done without anybody asking for it.
    let again = ["auth/token/create/orders", "identity/entity/id/+"];
    let guests = estate
        .guests
        .iter()
        .filter(|guest| again.contains(&guest.rule.as_str()));
    let regained = together(guests.map(|guest| regains(&estate, guest))).await?;
    assert_eq!(regained.len(), again.len());
    Ok(())
}

/// Waits until a host follows and stands as is expected of it; how it stood instead, if it never did.
async fn stands(estate: &Estate, guest: &Guest) -> Result<Option<(String, String)>> {
    if let Err(failure) = guest.daemon.wait_state("following", RECOVERY).await {
        return Ok(Some((guest.rule.clone(), failure.to_string())));
    }
    let wanted = expected(&guest.rule);
    let stood = eventually(BOUND, "the host to stand", async || {
        let stands = observed(estate, guest).await;
        match stands.map_err(|failure| failure.to_string())? {
            stands if stands == wanted => Ok(()),
            stands => Err(format!("{stands:?}")),
        }
    });
    let differs = stood.await.err().map(|failure| failure.to_string());
    Ok(differs.map(|differs| (guest.rule.clone(), differs)))
}

async fn observed(estate: &Estate, guest: &Guest) -> Result<Standing> {
    Ok(Standing {
        logs_in: guest.logs_in().await?,
        attested: guest.rights(|issued| &issued.attested).await?,
        approle: guest.rights(|issued| &issued.approle).await?,
        given_up: guest.given_up(&estate.root).await?,
        told: guest.tells_rule().await?,
    })
}

/// Has the rule given back, and waits until everything is settled; then every right is there.
async fn regains(estate: &Estate, guest: &Guest) -> Result<()> {
    guest.widen(&estate.root).await?;
    let settled = guest.daemon.wait_for("all to be settled", BOUND, |status| {
        status["grants"]["unsettled"] == 0
    });
    settled.await.context(&guest.rule)?;
    let rights = [
        guest.rights(|issued| &issued.attested).await?,
        guest.rights(|issued| &issued.approle).await?,
    ];
    match rights {
        [Rights::All, Rights::All] => Ok(()),
        rights => Err(Failure::new(format!("{}: {rights:?}", guest.rule))),
    }
}
