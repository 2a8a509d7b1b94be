//! Claims about how connections come in, and about the end of that.

use std::{future::pending, sync::atomic::AtomicUsize};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream as Client,
    time::timeout,
};

use super::*;
use crate::serve::{
    serving::LiveConnections,
    tests::rig::{Primary, Rig, Setup, request},
};

const PATIENCE: Duration = Duration::from_secs(20);

type Hand = mpsc::UnboundedSender<Arrival>;

/// What is given to `Hand` is served, and no threads are behind that.
fn fed(rig: &Rig) -> (Hand, LiveConnections) {
    let (hand, arriving) = mpsc::unbounded_channel();
    let arrivals = Arrivals {
        arriving,
        open: None,
        server: rig.server.clone(),
    };
    (
        hand,
        LiveConnections::start(rig.server.clone(), arrivals).unwrap(),
    )
}

/// Somebody who was let in, and the other end.
fn arrival(rig: &Rig) -> (Arrival, Client) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    for end in [&ours, &theirs] {
        end.set_nonblocking(true).unwrap();
    }
    let stranger = peer::meet(ours.as_fd(), Queue::SeenEmpty).unwrap();
    let admitted = rig.server.admit(ours.as_fd(), stranger);
    let arrival = Arrival {
        stream: ours,
        admitted: Ok(admitted.ok().unwrap()),
        _refusal: None,
    };
    (arrival, Client::from_std(theirs).unwrap())
}

#[tokio::test]
async fn a_socket_that_lets_nobody_in_any_more_ends_with_an_error() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let (hand, mut serving) = fed(&rig);
    drop(hand);
    let ended = timeout(PATIENCE, serving.until(pending())).await.unwrap();
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("thread"), "{error}");
}

#[tokio::test]
async fn a_stop_reaches_who_is_served_while_others_still_come() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let (hand, mut serving) = fed(&rig);
    let (arrival, mut client) = arrival(&rig);
    let ask = async {
        client
            .write_all(request("GET", "/v1/a", &[]).as_bytes())
            .await
            .unwrap();
        assert!(client.read(&mut [0; 4096]).await.unwrap() > 0);
    };
    hand.send(arrival).ok().unwrap();
    serving.until(ask).await.unwrap();
    serving.stop();
    let mut rest = Vec::new();
    tokio::select! {
        () = serving.drained() => panic!("more may come"),
        closed = timeout(PATIENCE, client.read_to_end(&mut rest)) => drop(closed.unwrap().unwrap()),
    }
    drop(hand);
    timeout(PATIENCE, serving.drained()).await.unwrap();
}

#[tokio::test]
async fn what_was_sent_before_the_stop_is_answered_by_a_connection_that_is_served_after_it() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let (hand, mut serving) = fed(&rig);
    let (arrival, mut client) = arrival(&rig);
    client
        .write_all(request("GET", "/v1/a", &[]).as_bytes())
        .await
        .unwrap();
    serving.stop();
    hand.send(arrival).ok().unwrap();
    drop(hand);
    timeout(PATIENCE, serving.drained()).await.unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert!(
        heard.starts_with(b"HTTP/1.1 200"),
        "{}",
        heard.escape_ascii()
    );
}

#[tokio::test]
async fn nobody_is_waited_for_at_the_end_where_descriptors_have_run_out() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let looks = AtomicUsize::new(0);
    let look = || -> io::Result<()> {
        looks.fetch_add(1, Ordering::Relaxed);
        Err(Errno::MFILE.into())
    };
    rig.server.is_closing.store(true, Ordering::Release);
    assert!(rig.server.with_descriptors(look).is_err());
    assert!(looks.into_inner() <= 2);
}

#[test]
fn users_that_workloads_were_seen_to_run_as_are_bounded() {
    let mut expected = Expected::default();
    for uid in 0..1000 {
        expected.seen(7);
        expected.seen(uid);
    }
    assert_eq!(expected.0.len(), EXPECTED);
    assert!(expected.has(7) && expected.has(999) && !expected.has(1));
}
