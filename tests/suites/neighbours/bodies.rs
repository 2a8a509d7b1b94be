//! Bytes: whoever half sends its requests or leaves its answers unread, memory stays within its bound, and comes back.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use harness::client::crowd::Habit;
use harness::client::raw::Ask;
use harness::failure::{Context, Failure};
use harness::host::{Host, login_request};
use harness::{Result, eventually};
use serde_json::json;

use crate::rig::{SOON, crowd, gauge, plan, read, resident, until};

const UNFINISHED: &str = "holdover_memory_bytes{of=\"unfinished_requests\"}";
const UNREAD: &str = "holdover_memory_bytes{of=\"unread_answers\"}";

/// What memory may be more by than it was, in MiB, while 250 connections do what they can: a user's share of
/// `unfinished_bytes`, and 256 KiB for each connection.
const MOST: u64 = 8 + 64;

/// What may be left of it afterwards.
const LEFT: u64 = 24;

/// Most of a login, which the replica reads before it knows whose it is.
fn half_a_login() -> Vec<u8> {
    let head = "PUT /v1/auth/approle/login HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n";
    let mut says = head.as_bytes().to_vec();
    says.resize(says.len() + 900_000, b'x');
    says
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_requests_take_no_more_than_their_share_and_it_comes_back() -> Result<()> {
    let host = plan().start().await?;
    host.cut().await?;
    let ask = read(&host)?;
    let client = host.daemon.client();
    assert_eq!(client.send(&ask).await?.status, 200);
    let before = resident(&host)?;
    let habit = Habit {
        connections: 250,
        says: half_a_login(),
        listens: true,
    };
    let hostile = crowd(&host, &habit).await?;
    until(&host, UNFINISHED, |taken| taken > 4 << 20).await?;
    for _ in 0..50 {
        let reply = client.send(&ask).await?;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let reply = client.send(&login_request("orders")).await?;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let now = resident(&host)?;
        assert!(now <= before + MOST, "{before} MiB became {now}");
    }
    assert!(hostile.is_there());
    drop(hostile);
    until(&host, UNFINISHED, |taken| taken == 0).await?;
    comes_back(&host, before).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_an_unknown_token_is_refused_before_its_body_comes() -> Result<()> {
    let host = plan().start().await?;
    host.cut().await?;
    let (path, _) = host.secret("orders")?;
    for (token, status) in [("s.unknown", "503"), ("ho.unknown", "403")] {
        let mut stream = UnixStream::connect(host.daemon.socket())?;
        stream.set_read_timeout(Some(SOON))?;
        let head = format!(
            "PUT /v1/{path} HTTP/1.1\r\nHost: h\r\nX-Vault-Token: {token}\r\nContent-Length: 1000000\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut heard = String::new();
        stream.read_to_string(&mut heard)?;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(heard.starts_with(&expected), "{token}: {heard}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_read_take_no_more_than_their_share_and_it_comes_back() -> Result<()> {
    let host = plan().start().await?;
    let root = host.primary.root();
    let large = json!({ "data": { "large": "x".repeat(400_000) } });
    let path = "secret/data/shop/orders/large";
    root.write(path, &large).await?;
    let made = root
        .write("auth/token/create", &json!({ "policies": ["orders"] }))
        .await?;
    let token = made["auth"]["client_token"]
        .as_str()
        .context("a token")?
        .to_owned();
    host.until_status(200, path, &token, SOON).await?;
    host.daemon
        .client()
        .send(&Ask::get(&format!("/v1/{path}")).token(&token)?)
        .await?;
    let known = |status: &serde_json::Value| status["grants"]["primary"].as_u64() > Some(0);
    host.daemon.wait_for("the token", SOON, known).await?;
    host.cut().await?;
    host.until_status(200, path, &token, SOON).await?;
    let (ask, before) = (read(&host)?, resident(&host)?);
    let says = format!("GET /v1/{path} HTTP/1.1\r\nHost: h\r\nX-Vault-Token: {token}\r\n\r\n");
    let habit = Habit {
        connections: 60,
        says: says.into_bytes(),
        listens: false,
    };
    let hostile = crowd(&host, &habit).await?;
    until(&host, UNREAD, |taken| taken > 4 << 20).await?;
    for _ in 0..20 {
        let reply = host.daemon.client().send(&ask).await?;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(gauge(&host, UNREAD).await? <= 8 << 20);
        let now = resident(&host)?;
        assert!(now <= before + 8 + MOST, "{before} MiB became {now}");
    }
    drop(hostile);
    until(&host, UNREAD, |taken| taken == 0).await?;
    comes_back(&host, before).await
}

async fn comes_back(host: &Host, before: u64) -> Result<()> {
    eventually(SOON, "memory", async || match resident(host)? {
        now if now <= before + LEFT => Ok(()),
        now => Err(Failure::new(format!("{before} MiB became {now}"))),
    })
    .await
}
