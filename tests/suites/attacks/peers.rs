//! Who a process is: a token that was issued in an outage is its own process's, whatever became of it, and its groups are those
//! that it connected with.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use harness::cast::{Cast, Part};
use harness::client::raw::Ask;
use harness::daemon::config::Workload;
use harness::host::{Plan, RECOVERY, login_request};
use harness::{Failure, Result, eventually, place};
use rustix::process::Gid;
use rustix::thread::set_thread_groups;
use serde_json::json;

use crate::{HOLDOVER, VISITOR};

/// What one could try with the string of a token.
fn attempts(path: &str, token: &str) -> Result<Vec<Ask>> {
    let post = |path: &str, body| Ask::post(&format!("/v1/auth/token/{path}"), &body).token(token);
    let bearer =
        Ask::get(&format!("/v1/{path}")).header("Authorization", &format!("Bearer {token}"));
    let paths = json!({ "paths": [path] });
    Ok(vec![
        Ask::get(&format!("/v1/{path}")).token(token)?,
        bearer?,
        Ask::get("/v1/auth/token/lookup-self").token(token)?,
        Ask::post("/v1/sys/capabilities-self", &paths).token(token)?,
        Ask::get("/v1/sys/internal/ui/mounts").token(token)?,
        post("renew-self", json!({}))?,
        post("create", json!({}))?,
        post("create/orders", json!({}))?,
        post("revoke-self", json!({}))?,
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_issued_in_an_outage_is_its_own_users_also_once_the_primary_stands_behind_it()
-> Result<()> {
    let cast = Cast::assemble(HOLDOVER, VISITOR).await?;
    let (path, _) = cast.host().secret("orders")?;
    cast.host().cut().await?;
    let issued = cast.send(Part::Orders, &login_request("orders")).await?;
    let token = issued.json_text("/auth/client_token")?;
    assert!(token.starts_with("ho."), "{}", issued.text());
    let own = Ask::get(&format!("/v1/{path}")).token(&token)?;
    for state in ["in the outage", "left by it", "exchanged"] {
        match state {
            "in the outage" => {
                let read = cast.send(Part::Orders, &own).await?;
                let outcome = (read.status, read.source());
                assert_eq!(outcome, (200, Some("replica")), "{}", read.text());
            }
            "left by it" => drop(cast.host().restore().await?),
            // At its first use, which is answered meanwhile.
            _ => {
                eventually(RECOVERY, "the primary's answer", async || {
                    let read = cast.send(Part::Orders, &own).await;
                    let read = read.map_err(|failure| failure.to_string())?;
                    match (read.status, read.source()) {
                        (200, Some("primary")) => Ok(()),
                        _ => Err(read.text()),
                    }
                })
                .await?
            }
        }
        for part in [Part::Billing, Part::Third] {
            for ask in attempts(path, &token)? {
                let tried = cast.send(part, &ask).await?;
                let outcome = (tried.status, tried.source());
                assert_eq!(
                    outcome,
                    (403, Some("replica")),
                    "{state} {part:?} {}: {}",
                    ask.target,
                    tried.text()
                );
            }
        }
        let read = cast.send(Part::Orders, &own).await?;
        assert_eq!(
            read.status,
            200,
            "nobody else could end it: {}",
            read.text()
        );
    }
    Ok(())
}

/// A group of nobody on this host.
const GROUP: u32 = 70_001;

/// The status line of a login that came over this connection.
fn logs_in_over(mut connection: UnixStream) -> Result<String> {
    connection.set_read_timeout(Some(Duration::from_secs(15)))?;
    let body = r#"{"role":"orders"}"#;
    let head = "PUT /v1/auth/holdover/login HTTP/1.1\r\nHost: localhost\r\nConnection: close";
    write!(
        connection,
        "{head}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// Connects from a thread that alone has `groups`, and has none of them any more once the connection is there.
fn connected_with(socket: &Path, groups: &[u32]) -> Result<UnixStream> {
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let socket = socket.to_owned();
    let connecting = std::thread::spawn(move || {
        set_thread_groups(&groups)?;
        let connection = UnixStream::connect(socket)?;
        set_thread_groups(&[])?;
        Ok(connection)
    });
    connecting
        .join()
        .map_err(|_| Failure::new("no connection"))?
}

/// Only root can change its groups: anybody else sees nothing here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_groups_of_a_process_are_those_that_it_connected_with() -> Result<()> {
    if !place::is_root() {
        return Ok(());
    }
    let orders = Workload::new("orders", "orders").set("match.gid", i64::from(GROUP));
    let host = Plan::new(HOLDOVER).workload(orders).start().await?;
    for (groups, status) in [(&[GROUP][..], "200"), (&[GROUP + 1], "403"), (&[], "403")] {
        let connection = connected_with(&host.daemon.socket(), groups)?;
        let line = tokio::task::spawn_blocking(|| logs_in_over(connection));
        let line = line
            .await
            .map_err(|error| Failure::new(error.to_string()))??;
        assert!(line.contains(status), "{groups:?}: {line}");
    }
    Ok(())
}
