//! Stand-ins for other servers.

use harness::standin::{Server, StandIn};
use harness::{Context, Result, eventually};
use serde_json::json;

use crate::stage::{BOUND, SECRET, Stage, value};

const ALL: [Server; 5] = [
    Server::OpenBao24,
    Server::OpenBao25,
    Server::OpenBao26,
    Server::Vault,
    Server::VaultPerformance,
];

pub(crate) async fn other_servers_are_told_apart_by_health(stage: &Stage) -> Result<()> {
    let cluster = &stage.cluster;
    let (active, standby) = (stage.active().await?, stage.standby().await?);
    for server in ALL {
        let nodes = StandIn::before_all(cluster, server).await?;
        let ask = |number: usize| cluster.client(&nodes[number].address(), cluster.root_token());
        let (of_active, of_standby) = (ask(active.number()), ask(standby.number()));
        let health = of_standby.get("sys/health").await?;
        let (status, enterprise, performance) = match server {
            Server::Vault => (429, json!(false), json!(false)),
            Server::VaultPerformance => (473, json!(true), json!(true)),
            _ => (429, json!(null), json!(null)),
        };
        assert_eq!(health.status, status, "{server:?}");
        assert_eq!(health.body["enterprise"], enterprise, "{server:?}");
        assert_eq!(
            health.body["performance_standby"], performance,
            "{server:?}"
        );
        assert_eq!(health.body["cluster_id"], *stage.id);
        assert_ne!(health.body["version"], "2.7.2");
        assert_eq!(of_active.get("sys/health").await?.status, 200);
        let leader = of_standby.get("sys/leader").await?;
        assert_eq!(
            leader.body["leader_address"],
            nodes[active.number()].address()
        );
        // None of them knows of indexes.
        let undecodable = of_standby.clone().with("x-vault-index", "!");
        assert_eq!(undecodable.get("sys/health").await?.status, status);
        let beyond = stage.beyond(of_standby, "fail").get(SECRET).await?;
        assert_eq!((beyond.status, beyond.header("x-vault-index")), (200, None));
        assert_eq!(of_active.get(SECRET).await?.header("x-vault-index"), None);
    }
    Ok(())
}

/// A standby that reads for itself is behind right after a write; one that forwards never is.
pub(crate) async fn old_standbys_forward_and_newer_ones_read(stage: &Stage) -> Result<()> {
    let (cluster, standby) = (&stage.cluster, stage.standby().await?);
    for server in ALL {
        let nodes = StandIn::before_all(cluster, server).await?;
        let address = nodes[standby.number()].address();
        let client = cluster.client(&address, cluster.root_token());
        client.get(SECRET).await?.ok()?;
        let mut behind = 0;
        for nr in 0..20 {
            let written = format!("{server:?} {nr}");
            stage.write_secret(&written).await?;
            let answer = client.get(SECRET).await?;
            behind += usize::from(value(&answer) != written);
            let what = "the standby to catch up";
            eventually(BOUND, what, async || match client.get(SECRET).await {
                Ok(answer) if value(&answer) == written => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await
            .context(&written)?;
        }
        let forwards = matches!(server, Server::OpenBao24 | Server::Vault);
        assert_eq!(
            behind == 0,
            forwards,
            "{server:?} was behind {behind} times"
        );
    }
    Ok(())
}
