//! Clients send what they are told, as whom they are told.

use std::path::Path;
use std::time::Duration;

use harness::Result;
use harness::bao::{Primary, Transport};
use harness::client::cli::User;
use harness::client::raw::{Ask, Client};
use harness::client::visitor::Visitor;
use harness::place::{Room, is_root};
use harness::world::{self, World};

use crate::stand_in::{answering, pipe, response};

const BOUND: Duration = Duration::from_secs(10);

/// Answers with the head that it got and the peer's uid.
fn echo(head: &str, uid: u32) -> Option<String> {
    Some(response(200, &format!("X-Uid: {uid}"), head))
}

/// A uid that is not ours where we may choose one, else our own.
fn stranger() -> (u32, u32) {
    match is_root() {
        true => (4242, 4343),
        false => (
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw(),
        ),
    }
}

#[tokio::test]
async fn the_raw_client_sends_target_and_headers_byte_for_byte() -> Result<()> {
    let room = Room::make()?;
    let _server = answering(&room.join("s"), echo)?;
    let client = Client::unix(&room.join("s"));
    let target = "/v1/secret/data/a%2Fb/../c//d?list=true&x=%20{}";
    let ask = Ask::new("LIST", target)?
        .token("t-1")?
        .header("X-Vault-Namespace", "n/")?;
    let reply = client.send(&ask).await?;
    let head = reply.text();
    assert!(
        head.starts_with(&format!("LIST {target} HTTP/1.1\r\n")),
        "{head}"
    );
    assert!(
        head.contains("x-vault-token: t-1\r\n") && head.contains("x-vault-namespace: n/\r\n"),
        "{head}"
    );
    let mut kept = client.connect().await?;
    for _ in 0..3 {
        assert_eq!(kept.send(&ask).await?.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_request_without_an_answer_fails_at_its_bound() -> Result<()> {
    let room = Room::make()?;
    let _server = answering(&room.join("s"), |_, _| {
        Some("HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n12".into())
    })?;
    let client = Client::unix(&room.join("s")).within(Duration::from_millis(100));
    let failure = client.send(&Ask::get("/")).await.unwrap_err();
    assert_eq!(failure.to_string(), "no complete answer within 100ms");
    Ok(())
}

#[tokio::test]
async fn a_visitor_is_attested_as_the_user_that_it_was_made_for() -> Result<()> {
    let room = Room::make()?;
    let _server = answering(&room.join("s"), echo)?;
    let (uid, gid) = stranger();
    let visitor = Visitor::new(
        Path::new(env!("CARGO_BIN_EXE_holdover-test-client")),
        uid,
        gid,
    )?;
    let asks = [Ask::get("/v1/a"), Ask::get("/v1/b").token("t")?];
    let replies = visitor.send_all(&room.join("s"), &asks, BOUND).await?;
    assert_eq!(replies.len(), 2);
    for (reply, target) in replies.iter().zip(["/v1/a", "/v1/b"]) {
        assert_eq!(reply.header("x-uid"), Some(uid.to_string().as_str()));
        assert!(reply.text().starts_with(&format!("GET {target} ")));
    }
    Ok(())
}

#[tokio::test]
async fn the_command_line_and_hvac_reach_the_primary_through_a_socket() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let world = World::seed(&primary, 1).await?;
    let room = Room::make()?;
    let _server = pipe(
        &room.join("s"),
        primary.address().trim_start_matches("http://"),
    )?;
    let token = world::token(&primary.root(), "orders").await?;
    let (uid, gid) = stranger();
    let user = User::other(uid, gid)?
        .at_socket(&room.join("s"))
        .env("BAO_TOKEN", token);
    let expected = world.below("orders").next().unwrap().data["data"]["password"]
        .as_str()
        .unwrap();
    let bao = user
        .bao(&[
            "kv",
            "get",
            "-field=password",
            "secret/shop/orders/item-0000",
        ])
        .await?;
    assert_eq!(bao.success()?.trim(), expected);
    let script = "r = client().secrets.kv.v2.read_secret_version('shop/orders/item-0000', \
                  raise_on_deleted_version=True)\nprint(r['data']['data']['password'], os.getuid())";
    let hvac = user.python(script).await?.success()?;
    assert_eq!(hvac.trim(), format!("{expected} {uid}"));
    let refused = user
        .bao(&["kv", "get", "secret/shop/billing/item-0000"])
        .await?;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("403"), "{}", refused.stderr);
    Ok(())
}
