//! What is believed of answers that come through a balancer which chooses for each request.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, uri::PathAndQuery};
use shared::{name::ClusterId, provenance::ClusterShown};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    Link,
    own::{OwnCall, OwnFailure},
};
use crate::{clock::Clock, config::Address, samples};

const OURS: &str = "ours";

fn health(status: &str, cluster: &str) -> String {
    let body = format!(
        r#"{{"initialized":true,"sealed":false,"cluster_id":"{cluster}","version":"2.7.2"}}"#
    );
    answer(status, &body)
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Answers the requests of one connection with these, in order.
async fn play(listener: TcpListener, answers: Vec<String>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    for answer in answers {
        head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    let _ = stream.read_u8().await;
}

async fn head(stream: &mut TcpStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(stream.read_u8().await.unwrap());
    }
}

/// A way to what this listens for, which trusts our cluster.
fn link_to(listener: &TcpListener) -> Link {
    let at = listener.local_addr().unwrap();
    let address = Address {
        url: format!("http://{at}"),
        tls: false,
        host: at.ip().to_string(),
        port: at.port(),
    };
    let clock = Arc::new(Clock::start(None).unwrap());
    let pinned = Some(ClusterId::parse(OURS).unwrap());
    Link::new(&samples::primary_config(&[address]), pinned, clock).unwrap()
}

fn login() -> OwnCall {
    OwnCall {
        method: Method::POST,
        target: PathAndQuery::from_static("/v1/auth/approle/login"),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        repeatable: false,
        current: false,
        patience: Duration::from_secs(10),
        largest: 1024,
    }
}

/// What comes of a write that is refused without an index, where health right after it shows this cluster.
async fn refused(shown_after: &str) -> Result<ClusterShown, OwnFailure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = link_to(&listener);
    let answers = vec![
        health("200 OK", OURS),
        health("429 Too Many Requests", OURS),
        answer("403 Forbidden", r#"{"errors":["permission denied"]}"#),
        health("200 OK", shown_after),
    ];
    let playing = tokio::spawn(play(listener, answers));
    let called = link.call(&login()).await;
    playing.abort();
    called.map(|answer| answer.provenance.cluster)
}

#[tokio::test]
async fn a_refusal_that_names_no_cluster_counts_where_the_trusted_one_is_seen_around_it() {
    assert_eq!(refused(OURS).await, Ok(ClusterShown::Pinned));
}

#[tokio::test]
async fn a_stranger_s_refusal_of_holdovers_own_login_is_none() {
    let refused = refused("theirs").await;
    assert!(
        matches!(refused, Err(OwnFailure::Unknown(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_connection_outlives_the_runtime_of_whoever_sent_over_it_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = link_to(&listener);
    let refusal = || answer("403 Forbidden", r#"{"errors":["permission denied"]}"#);
    // The first connection is asked twice.
    let answers = vec![
        health("200 OK", OURS),
        health("200 OK", OURS),
        refusal(),
        health("200 OK", OURS),
        refusal(),
        health("200 OK", OURS),
    ];
    let playing = tokio::spawn(play(listener, answers));
    let of_other = link.clone();
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { of_other.call(&login()).await.map(drop) })
    });
    let first = tokio::task::spawn_blocking(|| other.join().unwrap()).await;
    first.unwrap().unwrap();
    // Only one connection is accepted.
    link.call(&login()).await.unwrap();
    playing.abort();
}
