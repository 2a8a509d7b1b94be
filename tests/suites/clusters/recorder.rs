//! The recorder at the wire.

use harness::Result;
use harness::balancer::{Balancer, Standing};
use harness::recorder::Recorder;
use serde_json::json;

use crate::stage::{SECRET, Stage};

pub(crate) async fn a_recorder_tells_credentials_before_proof(stage: &Stage) -> Result<()> {
    let (cluster, active) = (&stage.cluster, stage.active().await?);
    let recorder = Recorder::before(&active.address(), cluster.authority()).await?;
    let client = cluster.client(&recorder.address(), cluster.root_token());
    client.as_token("").get("sys/health").await?.ok()?;
    client.get(&format!("{SECRET}?version=1")).await?.ok()?;
    assert_eq!(recorder.unproved(&stage.id), [""; 0]);
    let connections = recorder.connections();
    let [said] = connections.as_slice() else {
        panic!("{connections:?}");
    };
    let brief: Vec<_> = said.iter().map(|one| format!("{one:?}")).collect();
    assert_eq!(
        brief,
        [
            "GET /v1/sys/health -> Some(200)".to_owned(),
            format!("GET /v1/{SECRET}?version=1 with a token -> Some(200)"),
        ]
    );
    assert!(said[1].answer("x-vault-index").is_some());

    // The proof of another cluster, and of another connection, is none.
    assert_eq!(recorder.unproved("another").len(), 1);
    let other = cluster.client(&recorder.address(), "");
    other
        .post("auth/approle/login", &json!({ "secret_id": "s" }))
        .await?;
    let unproved = recorder.unproved(&stage.id);
    assert_eq!(unproved.len(), 1, "{unproved:?}");
    assert!(
        unproved[0].contains("auth/approle/login with a body"),
        "{unproved:?}"
    );
    recorder.forget();
    client.get(SECRET).await?.ok()?;
    assert_eq!(recorder.unproved(&stage.id), [""; 0]);

    // Before a balancer; and led elsewhere, with no connection left.
    let balancer = Balancer::per_request(&cluster.socket_addresses(), cluster.authority()).await?;
    recorder.set_backend(&balancer.address(), Standing::Close)?;
    let client = cluster.client(&recorder.address(), cluster.root_token());
    for _ in 0..2 {
        client.get(SECRET).await?.ok()?;
    }
    assert_eq!(recorder.unproved(&stage.id).len(), 2);
    Ok(())
}
