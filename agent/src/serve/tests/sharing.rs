//! Claims about what callers share: connections, bytes of requests, bytes of answers.

use shared::share::Party;

use super::{
    eventually,
    rig::{Client, Primary, Rig, Setup, holdover, request, rules, says},
};
use crate::serve::SocketRules;

/// Rules with these connections and an entry for our own uid, or for another one.
fn rules_of(connections: u32, matched: bool) -> SocketRules {
    let mut rules = rules();
    rules.limits.connections = connections;
    rules.limits.connections_per_uid = connections;
    if !matched {
        for (_, wanted) in &mut rules.matches {
            wanted.uid = wanted.uid.map(|uid| uid + 1);
        }
    }
    rules
}

async fn served(rig: &Rig) -> Client {
    let mut client = Client::connect(&rig.path).await;
    let heard = client.ask(&request("GET", "/v1/x", &[])).await;
    assert_eq!(heard.status(), 200, "{}", heard.text());
    client
}

#[tokio::test]
async fn a_workload_is_served_whoever_sits_idle() {
    let primary = Primary::saying("{}").await;
    let mut setup = Setup::with(&primary);
    setup.rules = rules_of(4, false);
    let rig = setup.start();
    let get = request("GET", "/v1/x", &[]);
    let mut crowd = vec![served(&rig).await, Client::connect(&rig.path).await];
    let heard = rig.ask(&get).await;
    assert_eq!(
        heard.outcome(),
        (429, "replica"),
        "half of them and no more"
    );
    assert!(heard.text().contains("too many connections"));
    rig.server.apply(rules_of(4, true));
    let mut workload = Vec::new();
    for _ in 0..4 {
        workload.push(served(&rig).await);
    }
    assert_eq!(rig.server.connections(), 4);
    for idle in &mut crowd {
        assert!(idle.hear(false).await.is_none(), "it made room");
    }
    // Among themselves they keep what they have.
    let heard = rig.ask(&get).await;
    assert!(heard.text().contains("too many connections of this user"));
    for client in &mut workload {
        assert_eq!(client.ask(&get).await.status(), 200);
    }
}

#[tokio::test]
async fn half_a_request_makes_room_as_well() {
    let primary = Primary::saying("{}").await;
    let mut setup = Setup::with(&primary);
    setup.rules = rules_of(4, false);
    let rig = setup.start();
    let mut crowd = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(&rig.path).await;
        let half =
            "PUT /v1/secret/data/shop/x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{\"a\"";
        client.write(half.as_bytes()).await;
        crowd.push(client);
    }
    eventually("both", || rig.server.connections() == 2).await;
    rig.server.apply(rules_of(4, true));
    let mut workload = Vec::new();
    for _ in 0..4 {
        workload.push(served(&rig).await);
    }
    for half in &mut crowd {
        assert!(half.hear(false).await.is_none(), "it made room");
    }
}

/// Whoever is idle by now may not have read its answer yet.
#[tokio::test]
async fn an_answer_that_is_being_read_is_not_cut_off_for_somebody_else() {
    let primary = Primary::saying("{}").await;
    let mut setup = Setup::with(&primary);
    setup.rules = rules_of(2, false);
    let rig = setup.start();
    rig.enter(holdover());
    let large = format!("\"{}\"", "x".repeat(4 << 20));
    rig.replica.decides(move |_| says(200, &large));
    let get = request("GET", "/v1/secret/data/shop/x", &[]);
    let mut slow = Client::connect(&rig.path).await;
    slow.write(get.as_bytes()).await;
    assert_eq!(
        slow.hear_head().await.unwrap().get("content-length"),
        Some("4194306")
    );
    rig.replica.decides(|_| says(200, "{}"));
    rig.server.apply(rules_of(2, true));
    let mut workload = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(&rig.path).await;
        assert_eq!(client.ask(&get).await.status(), 200);
        workload.push(client);
    }
    assert_eq!(rig.server.connections(), 2, "its place is another's");
    assert_eq!(slow.read_for(4_194_306).await, 4_194_306);
    assert!(slow.hear(false).await.is_none(), "and then it is closed");
}

/// The head of a request with a body of `length` bytes, of which so many are sent.
fn beginning(length: usize, sent: usize, headers: &str) -> String {
    let head = format!(
        "PUT /v1/secret/data/shop/x HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    head + &"x".repeat(sent)
}

#[tokio::test]
async fn unfinished_bodies_have_a_bound_and_go_back() {
    let primary = Primary::saying("{}").await;
    let mut setup = Setup::with(&primary);
    setup.rules.limits.unfinished_bytes = 1 << 20;
    let rig = setup.start();
    rig.enter(holdover());
    let mut first = Client::connect(&rig.path).await;
    first
        .write(beginning(200_000, 150_000, "").as_bytes())
        .await;
    let came = || rig.server.unfinished.taken() >= 150_000;
    eventually("what was sent", came).await;
    assert!(
        rig.server.unfinished.taken() <= 200_000,
        "no more than can come"
    );
    let mut second = Client::connect(&rig.path).await;
    second
        .write(beginning(200_000, 150_000, "").as_bytes())
        .await;
    let heard = second.hear(false).await.unwrap();
    assert_eq!(heard.outcome(), (429, "replica"));
    assert!(heard.text().contains("unfinished requests of this user"));
    assert!(
        second.hear(false).await.is_none(),
        "nothing more is read of it"
    );
    // What is small goes on, and so does what was there before.
    let heard = rig.ask(&beginning(1000, 1000, "")).await;
    assert_eq!(heard.outcome(), (200, "replica"));
    first.write("x".repeat(50_000).as_bytes()).await;
    assert_eq!(first.hear(false).await.unwrap().status(), 200);
    eventually("the room", || rig.server.unfinished.taken() == 0).await;
}

#[tokio::test]
async fn bodies_of_those_who_went_take_nothing() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    rig.enter(holdover());
    let mut crowd = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(&rig.path).await;
        client
            .write(beginning(900_000, 400_000, "").as_bytes())
            .await;
        crowd.push(client);
    }
    let came = || rig.server.unfinished.taken() >= 20 * 400_000;
    eventually("what was sent", came).await;
    drop(crowd);
    eventually("the room", || rig.server.unfinished.taken() == 0).await;
}

#[tokio::test]
async fn a_token_that_is_refused_is_refused_before_the_body_comes() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    rig.enter(holdover());
    let mut client = Client::connect(&rig.path).await;
    let unknown = beginning(1_000_000, 0, "X-Vault-Token: s.unknown\r\n");
    client.write(unknown.as_bytes()).await;
    let heard = client.hear(false).await.unwrap();
    assert_eq!(heard.outcome(), (503, "replica"));
    assert!(client.hear(false).await.is_none(), "its body is not read");
    // While the primary decides, it has the body.
    rig.enter(shared::failover::Phase::Following);
    let heard = rig
        .ask(&beginning(10, 10, "X-Vault-Token: s.unknown\r\n"))
        .await;
    assert_eq!(heard.outcome(), (200, "primary"));
}

#[tokio::test]
async fn answers_that_nobody_reads_have_a_bound_and_go_back() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    rig.enter(holdover());
    let large = format!("\"{}\"", "x".repeat(4 << 20));
    rig.replica.decides(move |_| says(200, &large));
    let get = request("GET", "/v1/secret/data/shop/x", &[]);
    let mut crowd = Vec::new();
    for asked in 1..=3 {
        let mut client = Client::connect(&rig.path).await;
        client.write(get.as_bytes()).await;
        crowd.push(client);
        let came = || rig.server.buffers.taken() >= asked * (4 << 20);
        eventually("the answer", came).await;
    }
    let heard = rig.ask(&get).await;
    assert_eq!(heard.outcome(), (429, "replica"));
    assert!(heard.text().contains("not read"), "{}", heard.text());
    assert_eq!(
        crowd.pop().unwrap().hear(false).await.unwrap().status(),
        200
    );
    drop(crowd);
    eventually("the room", || rig.server.buffers.taken() == 0).await;
}

#[test]
fn a_party_is_matched_by_what_is_proved_of_it() {
    let uid = rustix::process::geteuid().as_raw();
    let mut facts = crate::serve::peer::PeerFacts {
        uid,
        gids: Vec::new(),
        unit: None,
        at_home: true,
        proved: true,
    };
    let matched = Party {
        matched: true,
        uid,
        unit: None,
    };
    assert_eq!(facts.party(&rules().matches), matched);
    facts.at_home = false;
    assert!(!facts.party(&rules().matches).matched);
}
