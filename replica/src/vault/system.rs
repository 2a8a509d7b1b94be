//! `sys/health`, `sys/seal-status`, `sys/leader` and `sys/init`: answered without a token, so that clients work, with an
//! object `holdover` that says who answers. `sys/init` alone has none: there is nothing about an outage in it.

use serde::{Serialize, Serializer, ser::SerializeMap};
use shared::{
    acl::Operation,
    api::{Call, Kind, RequestNamespace, refused_in_namespaces},
    change::Cluster,
    wire,
};

use super::{
    Answer,
    case::Case,
    parameter::Params,
    refusal::{Answered, Refusal, Why},
};

/// Answers one of the four.
pub(crate) fn answer(case: &Case<'_>) -> Answered {
    let call = case.query.call;
    if call.kind == Kind::Init && call.operation == Operation::Update {
        return Err(Why::Write.into());
    }
    named_none(case)?;
    let heads = call.kind == Kind::Health && call.operation == Operation::Header;
    if call.operation != Operation::Read && !heads {
        return Err(Refusal::Method);
    }
    let cluster = case.cluster()?;
    let (status, body) = match call.kind {
        Kind::Health => (active_code(call)?, wire::to_body(&health(case, cluster))?),
        Kind::Init => (200, wire::to_body(&Init { initialized: true })?),
        Kind::Leader => {
            let leader = Leader {
                ha_enabled: false,
                holdover: holdover(case),
            };
            (200, wire::to_body(&leader)?)
        }
        _ => {
            let status = SealStatus {
                seen: cluster.seal_status.as_object(),
                holdover: holdover(case),
            };
            (200, wire::to_body(&status)?)
        }
    };
    let age = case.age(cluster.verified_at);
    Ok(match heads {
        true => Answer::empty(status, age),
        false => Answer::new(status, body, age),
    })
}

/// The primary answers these in the root namespace alone; who leads, and whether it is sealed, whatever namespace is named.
fn named_none(case: &Case<'_>) -> Answered<()> {
    let root = match case.query.namespace {
        RequestNamespace::Configured => true,
        RequestNamespace::Is(named) => named.is_root(),
        RequestNamespace::Foreign => false,
    };
    let anywhere = matches!(case.query.call.kind, Kind::Leader | Kind::SealStatus);
    let foreign = *case.query.namespace == RequestNamespace::Foreign;
    match root || (anywhere && !foreign) {
        true => Ok(()),
        false => Err(Why::Namespace.into()),
    }
}

/// Refuses what is the root's alone where another namespace is named, as that one does before it looks at anything else.
pub(crate) fn exists_here(case: &Case<'_>) -> Answered<()> {
    let configured = &case.settings().namespace;
    let named = matches!(case.query.namespace, RequestNamespace::Is(named) if named == configured);
    let refused = refused_in_namespaces(case.query.call.path.as_str());
    match refused.filter(|_| named && !configured.is_root()) {
        Some(text) => Err(Refusal::Invalid(text.into())),
        None => Ok(()),
    }
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
    replication_performance_mode: &'a str,
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
        replication_performance_mode: match cluster.performance_mode.as_str() {
            "" => "disabled",
            mode => mode,
        },
        replication_dr_mode: "disabled",
        server_time_utc: case.now().wall.as_secs(),
        version: &cluster.version,
        cluster_name: &cluster.name,
        cluster_id: cluster.id.as_str(),
        holdover: holdover(case),
    }
}

#[derive(Serialize)]
struct Init {
    initialized: bool,
}

#[derive(Serialize)]
struct Leader {
    ha_enabled: bool,
    holdover: Holdover,
}

/// The primary's order of the fields of `sys/seal-status`.
const SEAL_STATUS: [&str; 15] = [
    "type",
    "initialized",
    "sealed",
    "t",
    "n",
    "progress",
    "nonce",
    "recovery_seal",
    "version",
    "commit_date",
    "build_date",
    "migration",
    "cluster_name",
    "cluster_id",
    "storage_type",
];

struct SealStatus<'a> {
    seen: Option<&'a Params>,
    holdover: Holdover,
}

impl Serialize for SealStatus<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        for name in SEAL_STATUS {
            if let Some(value) = self.seen.and_then(|seen| seen.get(name)) {
                fields.serialize_entry(name, value)?;
            }
        }
        let others = self.seen.into_iter().flatten();
        for (name, value) in others.filter(|(name, _)| !SEAL_STATUS.contains(&name.as_str())) {
            fields.serialize_entry(name, value)?;
        }
        fields.serialize_entry("holdover", &self.holdover)?;
        fields.end()
    }
}

/// The status that the prober wants of an active node. What is no number, or no status, is 400 with nothing said.
fn active_code(call: &Call) -> Answered<u16> {
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
