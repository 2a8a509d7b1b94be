//! `sys/health`, `sys/seal-status` and `sys/leader`: answered without a token, so that clients work, with an object
//! `holdover` that says who answers.

use serde::Serialize;
use serde_json::{Map, Value};
use shared::{
    acl::Operation,
    api::{Call, Kind},
    change::Cluster,
    wire,
};

use super::{case::Case, envelope::Granted, refusal::Refusal};

/// Answers one of the three.
pub(crate) fn answer(case: &Case<'_>) -> Result<Granted, Refusal> {
    let call = case.query.call;
    let heads = call.kind == Kind::Health && call.operation == Operation::Header;
    if call.operation != Operation::Read && !heads {
        return Err(Refusal::Method);
    }
    let cluster = case.cluster()?;
    let (status, body) = match call.kind {
        Kind::Health => (active_code(call)?, wire::to_body(&health(case, cluster))?),
        Kind::Leader => (200, wire::to_body(&leader(case))?),
        _ => (200, wire::to_body(&seal_status(case, cluster))?),
    };
    let age = case.age(cluster.verified_at);
    Ok(match heads {
        true => Granted::empty(status, age),
        false => Granted::new(status, body, age),
    })
}

/// Who answers, and since when.
#[derive(Serialize)]
struct Holdover {
    state: &'static str,
    since: Option<String>,
    outage: Option<String>,
}

fn holdover(case: &Case<'_>) -> Holdover {
    let outage = case.outage();
    Holdover {
        state: case.authority.phase.name(),
        since: outage.map(|outage| outage.started_at.to_string()),
        outage: outage.map(|outage| outage.id.as_str().to_owned()),
    }
}

#[derive(Serialize)]
struct Health<'a> {
    initialized: bool,
    sealed: bool,
    standby: bool,
    replication_performance_mode: &'static str,
    replication_dr_mode: &'static str,
    server_time_utc: i64,
    version: &'a str,
    cluster_name: &'a str,
    cluster_id: &'a str,
    holdover: Holdover,
}

fn health<'a>(case: &Case<'_>, cluster: &'a Cluster) -> Health<'a> {
    Health {
        initialized: true,
        sealed: false,
        standby: false,
        replication_performance_mode: "disabled",
        replication_dr_mode: "disabled",
        server_time_utc: case.now().wall.as_secs(),
        version: &cluster.version,
        cluster_name: &cluster.name,
        cluster_id: cluster.id.as_str(),
        holdover: holdover(case),
    }
}

#[derive(Serialize)]
struct Leader {
    ha_enabled: bool,
    holdover: Holdover,
}

fn leader(case: &Case<'_>) -> Leader {
    Leader {
        ha_enabled: false,
        holdover: holdover(case),
    }
}

#[derive(Serialize)]
struct SealStatus<'a> {
    #[serde(flatten)]
    seen: Option<&'a Map<String, Value>>,
    holdover: Holdover,
}

fn seal_status<'a>(case: &Case<'_>, cluster: &'a Cluster) -> SealStatus<'a> {
    SealStatus {
        seen: cluster.seal_status.as_object(),
        holdover: holdover(case),
    }
}

/// The status that the prober wants of an active node. What is no number, or no status, is 400 with nothing said.
fn active_code(call: &Call) -> Result<u16, Refusal> {
    const CODES: [&str; 4] = ["activecode", "standbycode", "sealedcode", "uninitcode"];
    let mut active = 200;
    for name in CODES {
        let Some(text) = call.parameter(name) else {
            continue;
        };
        let code = text.parse().ok().filter(|code| (200..600).contains(code));
        let code = code.ok_or(Refusal::Malformed)?;
        if name == "activecode" {
            active = code;
        }
    }
    Ok(active)
}
