//! What is planted: KV v2 in every condition, KV v1, certificate authorities, keys of an identity provider, and tokens of
//! different rights.

use std::time::Duration;

use harness::balancer::{Balancer, Standing};
use harness::bao::Primary;
use harness::bao::api::Api;
use harness::client::raw::Ask;
use harness::cluster::Cluster;
use harness::host::{Host, Plan, Servers};
use harness::{Result, world};
use serde_json::{Value, json};

use crate::questions::{AUTHORITIES, Bearer, Question, encoded};

/// How long a version lives that ends in the outage.
pub(crate) const SOON: Duration = Duration::from_secs(25);

const ALL: &str = r#"
path "secret/*"   { capabilities = ["read", "list", "scan"] }
path "kv1/*"      { capabilities = ["read", "list", "scan"] }
path "whole/*"    { capabilities = ["read", "list", "scan"] }
path "whole1/*"   { capabilities = ["read", "list", "scan"] }
path "pki/*"      { capabilities = ["read", "list"] }
path "ssh/*"      { capabilities = ["read", "list"] }
path "identity/*" { capabilities = ["read", "list"] }
path "sys/mounts" { capabilities = ["read"] }
"#;

const SOME: &str = r#"
path "secret/data/app/a"      { capabilities = ["read"] }
path "secret/data/app/+/one"  { capabilities = ["read"] }
path "secret/data/app/del"    { capabilities = ["deny"] }
path "secret/data/app/d*"     { capabilities = ["read"] }
path "secret/metadata/app/*"  { capabilities = ["list"] }
path "secret/subkeys/app/a"   { capabilities = ["read"] }
path "kv1/shop/a"             { capabilities = ["read"] }
path "kv1/shop"               { capabilities = ["list"] }
path "ssh/config/ca"          { capabilities = ["deny"] }
"#;

const PAGED: &str = r#"
path "secret/*" { capabilities = ["list", "scan"] pagination_limit = 2 }
path "kv1/*"    { capabilities = ["list", "scan"] pagination_limit = 2 }
"#;

const FILTERED: &str = r#"
path "kv1/shop/a"               { capabilities = ["read"] }
path "kv1/shop/dir/*"           { capabilities = ["read"] }
path "kv1/shop/d*"              { capabilities = ["list", "scan"] }
path "kv1/*"                    { capabilities = ["list", "scan"]
  list_scan_response_keys_filter_path = "{{ .path }}{{ .key }}" }
path "secret/metadata/*"        { capabilities = ["list", "scan"]
  list_scan_response_keys_filter_path = "{{ .path | replace \"metadata\" \"data\" }}{{ .key }}" }
path "secret/detailed-metadata/*" { capabilities = ["list", "scan"]
  list_scan_response_keys_filter_path = "{{ .path | replace \"detailed-metadata\" \"data\" }}{{ .key }}" }
path "secret/data/app/a"        { capabilities = ["read"] }
path "secret/data/app/dir/*"    { capabilities = ["read"] }
path "secret/data/app/dir/"     { capabilities = ["list"] }
"#;

const BOUND: &str = r#"
path "secret/data/app/*" { capabilities = ["read"]
  allowed_parameters = { "version" = ["2", "3"] "foo" = [] } }
path "kv1/shop/*"        { capabilities = ["read"]
  denied_parameters = { "list" = [] } }
path "secret/metadata/app/*" { capabilities = ["read", "list"]
  required_parameters = ["limit"] pagination_limit = 3 }
"#;

const NOTHING: &str = r#"path "elsewhere" { capabilities = ["read"] }"#;

/// The world of the questions.
pub(crate) struct Tree<P> {
    pub(crate) host: Host<P>,
    /// Clients that ask at the same time.
    pub(crate) lanes: usize,
    /// The token that may read everything.
    pub(crate) all: String,
    tokens: Vec<(Bearer, String)>,
    /// What stands before the nodes, and they.
    balanced: Option<(Balancer, Vec<String>)>,
}

impl<P> Tree<P> {
    /// Has other nodes answer from here on, where there are several: few connections are enough for all who ask, and each
    /// stays with its node.
    pub(crate) fn turn(&self) -> Result<()> {
        match &self.balanced {
            Some((balancer, nodes)) => balancer.set_backends(nodes, Standing::Close),
            None => Ok(()),
        }
    }

    /// The question as it is sent.
    pub(crate) fn ask(&self, question: &Question) -> Result<Ask> {
        let ask = Ask::new(question.method, &question.target)?;
        let mut tokens = self.tokens.iter();
        match tokens.find(|(bearer, _)| *bearer == question.bearer) {
            Some((_, token)) => ask.token(token),
            None => Ok(ask),
        }
    }
}

/// Starts everything over one server, with every mirror through a complete pass.
pub(crate) async fn plant(executable: &str) -> Result<Tree<Primary>> {
    let host = plan(executable).prepare().await?;
    planted(host, 1).await
}

/// The same over three nodes behind a balancer that leads each connection to the next of them.
pub(crate) async fn plant_balanced(executable: &str) -> Result<Tree<Cluster>> {
    let cluster = Cluster::raft(3).await?;
    let nodes = cluster.socket_addresses();
    let balancer = Balancer::round_robin(&nodes).await?;
    let addresses = [balancer.address()];
    let host = plan(executable).prepare_over(cluster, &addresses).await?;
    let root = host.primary.root().await?;
    // Without one each node names itself, and no two answers of the primary's own are the same.
    let issuer = json!({ "issuer": "https://bao.shop.test:8200" });
    root.write("identity/oidc/config", &issuer).await?;
    // With one client after the other, one connection to the primary is enough for all of them.
    let tree = planted(host, 6).await?;
    Ok(Tree {
        balanced: Some((balancer, nodes)),
        ..tree
    })
}

fn plan(executable: &str) -> Plan {
    let second = || [("interval", toml::Value::from("1s"))];
    let two = [second()[0].clone(), ("versions", 2.into())];
    let mut plan = Plan::new(executable)
        .secrets(1)
        .mirror("secret/data/app/*", &two)
        .mirror("secret/data/one", &second())
        .mirror("secret/config", &second())
        .mirror("kv1/shop/*", &second())
        .mirror("kv1/one", &second())
        .mirror("whole/data/*", &second())
        .mirror("whole1/*", &second());
    for path in AUTHORITIES {
        plan = plan.mirror(path, &second());
    }
    plan
}

async fn planted<P: Servers>(mut host: Host<P>, lanes: usize) -> Result<Tree<P>> {
    let root = host.primary.root_api().await?;
    plant_v1(&root).await?;
    plant_authorities(&root).await?;
    plant_v2(&root).await?;
    plant_whole(&root).await?;
    let tokens = make_tokens(&root).await?;
    host.primary.known_everywhere("whole/data/x").await?;
    host.start().await?;
    let tree = Tree {
        all: tokens[0].1.clone(),
        host,
        lanes,
        tokens,
        balanced: None,
    };
    for (bearer, token) in &tree.tokens {
        if *bearer != Bearer::Unknown {
            tree.host.read("auth/token/lookup-self", token).await?;
            tree.host.until_learned(token).await?;
        }
        if *bearer == Bearer::Dead {
            let body = json!({ "token": token });
            root.post("auth/token/revoke", &body).await?.ok()?;
            tree.host.primary.known_everywhere("whole/data/x").await?;
            // It is known to be dead once it was refused.
            let refused = tree.host.read("auth/token/lookup-self", token).await?;
            assert_eq!(refused.status, 403);
        }
    }
    Ok(tree)
}

async fn make_tokens(root: &Api) -> Result<Vec<(Bearer, String)>> {
    let mut tokens = Vec::new();
    for (bearer, name, policy) in [
        (Bearer::All, "all", ALL),
        (Bearer::Some, "some", SOME),
        (Bearer::Paged, "paged", PAGED),
        (Bearer::Filtered, "filtered", FILTERED),
        (Bearer::Bound, "bound", BOUND),
        (Bearer::Nothing, "nothing", NOTHING),
        (Bearer::Dead, "dead", ALL),
    ] {
        world::policy(root, name, policy).await?;
        let body = json!({ "policies": [name] });
        let token = root.post("auth/token/create", &body).await?;
        tokens.push((bearer, token.text("/auth/client_token")?));
    }
    tokens.push((Bearer::Unknown, "s.neverseenbyanybody00000".to_owned()));
    Ok(tokens)
}

async fn plant_v1(root: &Api) -> Result<()> {
    let mount = json!({ "type": "kv", "options": { "version": "1" } });
    for at in ["kv1", "whole1"] {
        root.write(&format!("sys/mounts/{at}"), &mount).await?;
    }
    for name in ["x", "d/y"] {
        let path = format!("whole1/{name}");
        root.write(&path, &json!({ "v": 1 })).await?;
    }
    for (name, value) in [
        ("one", json!({ "v": 1 })),
        ("shop/a", numbers()),
        ("shop/a b+c%d", json!({ "v": "odd" })),
        ("shop/both", json!({ "ttl": "5s", "lease": "7s" })),
        ("shop/dir", json!({ "v": "a namesake of a folder" })),
        ("shop/dir/one", json!({ "v": 1 })),
        ("shop/dir/sub/two", json!({ "v": 2 })),
        ("shop/dir2/x", json!({ "v": 1 })),
        ("shop/lease", json!({ "lease": "1h" })),
        ("shop/ttl", json!({ "ttl": "30m" })),
        ("shop/ttlbad", json!({ "ttl": "soon" })),
        ("shop/ttlnum", json!({ "ttl": 90 })),
        ("shop/été", json!({ "v": 1 })),
        ("other", json!({ "v": 1 })),
    ] {
        root.write(&format!("kv1/{}", encoded(name)), &value)
            .await?;
    }
    Ok(())
}

/// Values that a second reading would change.
fn numbers() -> Value {
    let text = r#"{"big":12345678901234567890,"e":1e5,"f":1.10,"long":0.1234567890123456789012345,"neg":-0.0,
        "s":"<&>\u2028é\u0001","z":{"b":1,"a":[]},"nul":null}"#;
    serde_json::from_str(text).unwrap_or_default()
}

async fn plant_authorities(root: &Api) -> Result<()> {
    root.write("sys/mounts/pki", &json!({ "type": "pki" }))
        .await?;
    let ca = json!({ "common_name": "shop.test", "key_type": "ec", "key_bits": 256 });
    root.write("pki/root/generate/internal", &ca).await?;
    root.write("sys/mounts/ssh", &json!({ "type": "ssh" }))
        .await?;
    let ca = json!({ "generate_signing_key": true, "key_type": "ed25519" });
    root.write("ssh/config/ca", &ca).await?;
    let key = json!({ "allowed_client_ids": "*" });
    root.write("identity/oidc/key/shop", &key).await?;
    let role = json!({ "key": "shop" });
    root.write("identity/oidc/role/shop", &role).await.map(drop)
}

/// A KV v2 mount, which answers 400 for a moment while it sets itself up.
async fn plant_whole(root: &Api) -> Result<()> {
    let mount = json!({ "type": "kv", "options": { "version": "2" } });
    root.write("sys/mounts/whole", &mount).await?;
    for name in ["x", "d/y"] {
        let path = format!("whole/data/{name}");
        let bound = Duration::from_secs(10);
        harness::eventually(bound, "the KV mount", async || {
            let put = root.write(&path, &json!({ "data": { "v": 1 } })).await;
            put.map_err(|failure| failure.to_string())
        })
        .await?;
    }
    Ok(())
}

async fn plant_v2(root: &Api) -> Result<()> {
    let put = async |name: &str, value: Value| {
        let path = format!("secret/data/{}", encoded(name));
        root.write(&path, &json!({ "data": value })).await
    };
    let set = async |name: &str, fields: Value| {
        let path = format!("secret/metadata/{}", encoded(name));
        root.write(&path, &fields).await
    };
    put("app/a", json!({ "v": 1 })).await?;
    put("app/a", numbers()).await?;
    put(
        "app/a",
        json!({ "v": 3, "nest": { "b": { "c": 1, "d": [{ "x": 2 }], "z": {} }, "e": {} } }),
    )
    .await?;
    let custom = json!({ "custom_metadata": { "owner": "x<y", "a": "b" } });
    set("app/a", custom.clone()).await?;
    for name in [
        "app/dir",
        "app/dir/one",
        "app/dir/sub/two",
        "app/dir/zed",
        "app/dir2/x",
        "app/a b+c%d",
        "app/été",
        "app/q?#",
        "app/<&>",
        "app/100%",
        "app/+plus+",
        "app/~tilde",
        "app/semi;colon",
        "app/quo\"te",
        "one",
        "other",
    ] {
        put(name, json!({ "name": name })).await?;
    }
    put("app/numbers", numbers()).await?;
    put("app/empty", json!({})).await?;
    put("app/null", Value::Null).await?;
    for name in ["app/del", "app/destroyed", "app/back"] {
        put(name, json!({ "v": 1 })).await?;
        put(name, json!({ "v": 2 })).await?;
    }
    root.delete("secret/data/app/del").await?.ok()?;
    root.delete("secret/data/app/back").await?.ok()?;
    root.write("secret/undelete/app/back", &json!({ "versions": [2] }))
        .await?;
    root.put("secret/destroy/app/destroyed", &json!({ "versions": [1] }))
        .await?
        .ok()?;
    put("app/gone", json!({ "v": 1 })).await?;
    root.put("secret/destroy/app/gone", &json!({ "versions": [1] }))
        .await?
        .ok()?;
    set("app/meta", custom).await?;
    set(
        "app/cas",
        json!({ "cas_required": true, "max_versions": 3 }),
    )
    .await?;
    for (name, after) in [
        ("app/passed", "1s".to_owned()),
        ("app/soon", format!("{}s", SOON.as_secs())),
    ] {
        put(name, json!({ "v": 1 })).await?;
        set(name, json!({ "delete_version_after": after })).await?;
        put(name, json!({ "v": 2, "below": { "x": 1 } })).await?;
    }
    Ok(())
}
