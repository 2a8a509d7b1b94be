//! Health, and what `X-Vault-Index` stands on and does.

use harness::bao::api::Answer;
use harness::cluster::Node;
use harness::{Context, Result};
use http::Method;
use serde_json::{Value, json};

use crate::stage::{MISSING, SECRET, Stage, encoded, errors, index};

/// An answer that is no more than its status.
fn bare(answer: &Answer) -> bool {
    answer.body == json!({ "errors": [] })
}

pub(crate) async fn health_says_which_node_is_active(stage: &Stage) -> Result<()> {
    let active = stage.active().await?;
    for node in stage.cluster.nodes() {
        let is_active = node.number() == active.number();
        let health = node.api("").get("sys/health").await?;
        assert_eq!(health.status, if is_active { 200 } else { 429 });
        assert_eq!(health.body["standby"], !is_active);
        assert_eq!(health.body["cluster_id"], *stage.id);
        assert_eq!(health.body["replication_performance_mode"], "primary");
        assert_eq!(health.header("x-node"), Some(node.name()));
        let leader = node.leader().await?;
        assert_eq!(leader["is_self"], is_active);
        assert_eq!(leader["leader_address"], active.address());
        assert!(leader["raft_applied_index"].is_u64(), "{leader}");
    }
    Ok(())
}

/// A request, and the status that it has.
struct Case<'a> {
    method: Method,
    path: &'a str,
    token: &'a str,
    body: Option<Value>,
    status: u16,
}

impl<'a> Case<'a> {
    fn get(path: &'a str, token: &'a str, status: u16) -> Case<'a> {
        Case {
            method: Method::GET,
            path,
            token,
            body: None,
            status,
        }
    }

    fn post(path: &'a str, token: &'a str, body: Value, status: u16) -> Case<'a> {
        Case {
            method: Method::POST,
            body: Some(body),
            ..Case::get(path, token, status)
        }
    }
}

pub(crate) async fn successes_carry_an_index_and_errors_none(stage: &Stage) -> Result<()> {
    let token = stage.known_token().await?;
    let root = stage.cluster.root_token();
    let carry = [
        Case::get(SECRET, root, 200),
        Case::get("secret/metadata/shop?list=true", root, 200),
        Case::get("sys/mounts", root, 200),
        Case::get("sys/policies/acl/orders", root, 200),
        Case::get("auth/token/lookup-self", &token, 200),
        Case::get("auth/token/roles/orders", root, 200),
        Case::get("sys/internal/ui/mounts", "", 200),
    ];
    let accessor = json!({ "accessor": "none" });
    let login = json!({ "role_id": "none", "secret_id": "none" });
    let carry_none = [
        Case::get(MISSING, root, 404),
        Case::get("sys/policies/acl/none", root, 404),
        Case::get("none/x", root, 404),
        Case::get("secret/data/shop/billing/item-0000", &token, 403),
        Case::get("auth/token/lookup-self", "none", 403),
        Case::post("auth/token/lookup-accessor", root, accessor, 400),
        Case::post("auth/approle/login", "", login, 403),
        Case::get("sys/leader", "", 200),
        Case::get("sys/seal-status", "", 200),
        Case::get("secret/data/x?help=1", root, 200),
    ];
    for node in [stage.active().await?, stage.standby().await?] {
        for case in &carry {
            let (shown, index) = asked(node, case).await?;
            let (cluster, value) = index.context(&shown)?;
            assert_eq!(cluster, stage.id, "{shown}");
            assert!(value.parse::<u64>().is_ok(), "{shown}: {value}");
        }
        for case in &carry_none {
            let (shown, index) = asked(node, case).await?;
            assert_eq!(index, None, "{shown}");
        }
    }
    Ok(())
}

/// The answer in short, and its index.
async fn asked(node: &Node, case: &Case<'_>) -> Result<(String, Option<(String, String)>)> {
    let client = node.api(case.token);
    let answer = client.request(case.method.clone(), case.path, case.body.as_ref());
    let answer = answer.await?;
    let shown = format!(
        "{} {} at {}: {}",
        case.method,
        case.path,
        node.name(),
        answer.body
    );
    assert_eq!(answer.status, case.status, "{shown}");
    Ok((shown, index(&answer)?))
}

pub(crate) async fn an_index_beyond_any_is_refused_by_standbys_alone(stage: &Stage) -> Result<()> {
    let paths = [
        SECRET,
        MISSING,
        "sys/health",
        "sys/leader",
        "sys/internal/ui/mounts",
    ];
    for otherwise in ["fail", "await-state"] {
        for path in paths {
            let standby = stage.beyond(stage.standby().await?.api(""), otherwise);
            let refused = standby.get(path).await?;
            assert_eq!(refused.status, 429, "{path}");
            assert!(bare(&refused), "{path}: {}", refused.body);
            let active = stage.beyond(stage.active().await?.api(""), otherwise);
            assert_ne!(active.get(path).await?.status, 429, "{path}");
        }
    }
    // It is the index that asks; what is to be done otherwise only says how to refuse.
    let standby = stage.standby().await?.root();
    let index_alone = standby.clone().with("x-vault-index", &stage.beyond_any);
    assert_eq!(index_alone.get(SECRET).await?.status, 429);
    for otherwise in ["fail", "forward-active-node"] {
        let without = standby.clone().with("x-vault-inconsistent", otherwise);
        assert_eq!(without.get(SECRET).await?.status, 200);
    }
    Ok(())
}

pub(crate) async fn honouring_shows_without_a_credential(stage: &Stage) -> Result<()> {
    for node in stage.cluster.nodes() {
        let undecodable = node.api("").with("x-vault-index", "!");
        let unknown = node.api("").with("x-vault-inconsistent", "none");
        for path in ["sys/health", "sys/leader", "sys/seal-status"] {
            let answer = undecodable.get(path).await?;
            let said = (answer.status, errors(&answer));
            assert_eq!(said, (400, "failed to decode \"X-Vault-Index\"".to_owned()));
            assert_eq!(unknown.get(path).await?.status, 400, "{path}");
        }
    }
    Ok(())
}

pub(crate) async fn what_is_no_index_of_this_cluster_is_ignored(stage: &Stage) -> Result<()> {
    let beyond = json!("9223372036854775807");
    let other = "00000000-0000-0000-0000-000000000000";
    let ignored = [
        encoded(other, &beyond),
        encoded(&stage.id, &json!("FFFFFFFF/FFFFFFFF")),
        encoded(&stage.id, &json!("0")),
        encoded(&stage.id, &json!("28446744073709551615")),
    ];
    let standby = stage.standby().await?.root();
    for index in ignored {
        let asks = standby.clone().with("x-vault-index", &index);
        assert_eq!(asks.get(SECRET).await?.status, 200, "{index}");
    }
    let number = encoded(&stage.id, &json!(5));
    let asks = standby.clone().with("x-vault-index", &number);
    assert_eq!(asks.get(SECRET).await?.status, 400);
    let largest = encoded(&stage.id, &json!(u64::MAX.to_string()));
    let asks = standby.with("x-vault-index", &largest);
    assert_eq!(asks.get(SECRET).await?.status, 429);
    Ok(())
}
