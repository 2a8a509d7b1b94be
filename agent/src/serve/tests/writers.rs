//! Claims about who may leave mirrored keys in doubt, and about how many requests are on their way.

use std::time::Duration;

use shared::doubt::Writer;

use super::{
    eventually,
    rig::{Act, Client, Primary, Rig, Setup, client::with_body, holdover, primary::with, request},
};
use crate::serve::replica::Replica;

const KEY: &str = "/v1/secret/data/shop/a";

fn put(key: &str) -> String {
    with_body("PUT", key, &["X-Vault-Token: s.t"], "{\"data\":{}}")
}

/// The head of a write with a body that is too large to be read before it is sent on, and the beginning of that.
fn begun(method: &str, body: &str) -> String {
    format!("{method} {KEY} HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n{body}")
}

/// How many keys are in doubt once nothing is on its way any more.
async fn doubted_in_the_end(rig: &Rig) -> usize {
    eventually("the end", || rig.server.forwards.taken() == 0).await;
    rig.replica.doubted().len()
}

#[tokio::test]
async fn a_write_by_somebody_who_may_not_leaves_nothing_in_doubt_however_its_answer_is_lost() {
    for writer in [Writer::MayNot, Writer::May, Writer::Unknown] {
        let expected = usize::from(writer != Writer::MayNot);
        let broken = Primary::start(|_| Act::Break(Vec::new())).await;
        let rig = Setup::with(&broken).start();
        rig.replica.writers_are(writer);
        assert_eq!(rig.ask(&put(KEY)).await.outcome(), (504, "replica"));
        assert_eq!(doubted_in_the_end(&rig).await, expected, "{writer:?}");
        let hanging = Primary::start(|_| Act::Hang).await;
        let rig = Setup::with(&hanging).start();
        rig.replica.writers_are(writer);
        let text = put(KEY);
        let (heard, ()) = tokio::join!(rig.ask(&text), async {
            eventually("the write", || !hanging.received().is_empty()).await;
            rig.enter(holdover());
        });
        assert_eq!(heard.status(), 504);
        assert_eq!(rig.replica.doubted().len(), expected, "{writer:?}");
    }
}

#[tokio::test]
async fn who_may_not_write_may_perhaps_once_a_policy_was_written_until_that_was_verified() {
    for (status, expected) in [("204 x", 1), ("500 x", 1), ("403 x", 0)] {
        let primary = Primary::start(move |received| match received.head.target() {
            KEY => Act::Break(Vec::new()),
            _ => Act::Say(with(status, "", "")),
        })
        .await;
        let rig = Setup::with(&primary).start();
        let policy = put("/v1/sys/policies/acl/deploy");
        let doubted_by = async |policy: &str, writer| {
            rig.replica.writers_are(Writer::May);
            rig.ask(policy).await;
            let before = doubted_in_the_end(&rig).await;
            rig.replica.writers_are(writer);
            assert_eq!(rig.ask(&put(KEY)).await.outcome(), (504, "replica"));
            doubted_in_the_end(&rig).await - before
        };
        let doubted = doubted_by(&policy, Writer::MayNot).await;
        assert_eq!(doubted, expected, "{status}");
        let later = rig.replica.now().steady.plus(Duration::from_secs(1));
        rig.anew.authority_verified(later);
        let elsewhere = request("DELETE", "/v1/elsewhere", &[]);
        assert_eq!(doubted_by(&elsewhere, Writer::MayNot).await, 0, "{status}");
    }
}

#[tokio::test]
async fn who_may_not_write_a_policy_changes_nobodys_rights_however_its_answer_is_lost() {
    let primary = Primary::start(|_| Act::Break(Vec::new())).await;
    let rig = Setup::with(&primary).start();
    rig.replica.writers_are(Writer::MayNot);
    for target in ["/v1/sys/policies/acl/deploy", KEY] {
        assert_eq!(rig.ask(&put(target)).await.outcome(), (504, "replica"));
    }
    assert_eq!(doubted_in_the_end(&rig).await, 0);
}

/// What may bring something goes on when the replica takes over.
#[tokio::test]
async fn what_was_half_sent_when_it_was_late_is_in_doubt_once_it_is_whole() {
    let primary = Primary::start(|_| Act::Hang).await;
    let mut setup = Setup::with(&primary);
    setup.rules.read_deadline = Duration::from_millis(50);
    let rig = setup.start();
    let mut client = Client::connect(&rig.path).await;
    let half = format!("{{\"data\":{{\"a\":\"{}", "x".repeat(70_000));
    let rest = format!("\"}}}}{}", " ".repeat(100_000 - half.len() - 3));
    let head = format!(
        "PUT {KEY} HTTP/1.1\r\nHost: h\r\nX-Vault-Wrap-TTL: 60\r\nContent-Length: 100000\r\n\r\n"
    );
    client.write(format!("{head}{half}").as_bytes()).await;
    eventually("the write", || rig.server.forwards.taken() == 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.replica.doubted().len(), 0, "half of it is not acted on");
    client.write(rest.as_bytes()).await;
    eventually("all of it", || !primary.received().is_empty()).await;
    rig.enter(holdover());
    eventually("the doubt", || !rig.replica.doubted().is_empty()).await;
}

/// What becomes of it is waited for all the same.
#[tokio::test]
async fn a_write_whose_client_has_gone_counts_by_its_answer() {
    for (status, expected) in [("403 x", 0), ("400 x", 0), ("204 x", 1), ("500 x", 1)] {
        let late = Duration::from_millis(100);
        let primary = Primary::start(move |_| Act::SayAfter(late, with(status, "", "{}"))).await;
        let mut setup = Setup::with(&primary);
        setup.rules.read_deadline = Duration::from_secs(20);
        let rig = setup.start();
        let mut client = Client::connect(&rig.path).await;
        client.write(put(KEY).as_bytes()).await;
        eventually("the write", || !primary.received().is_empty()).await;
        drop(client);
        assert_eq!(doubted_in_the_end(&rig).await, expected, "{status}");
    }
}

#[tokio::test]
async fn half_a_write_leaves_nothing_in_doubt_and_as_much_as_can_be_acted_on_does() {
    let half = format!("{{\"data\":{{\"a\":\"{}", "x".repeat(70_000));
    let enough = format!("{{\"data\":{{\"a\":\"b\"}}}}{}", " ".repeat(70_000));
    let sent = [
        ("PUT", half.as_str(), 0),
        ("PUT", enough.as_str(), 1),
        ("PUT", "data=1&", 1),
        ("DELETE", "", 1),
    ];
    for (method, body, expected) in sent {
        let primary = Primary::start(|_| Act::Hang).await;
        let rig = Setup::with(&primary).start();
        let mut client = Client::connect(&rig.path).await;
        client.write(begun(method, body).as_bytes()).await;
        eventually("the write", || rig.server.forwards.taken() == 1).await;
        if expected > 0 {
            eventually("the doubt", || rig.replica.doubted().len() == expected).await;
        }
        drop(client);
        let doubted = doubted_in_the_end(&rig).await;
        assert_eq!(doubted.min(1), expected, "{method} {body:.20}");
    }
}

#[tokio::test]
async fn who_makes_tokens_up_leaves_few_keys_in_doubt() {
    let primary = Primary::start(|_| Act::Hang).await;
    let rig = Setup::with(&primary).start();
    rig.replica.writers_are(Writer::Unknown);
    let mut crowd = Vec::new();
    for nr in 0..16 {
        let mut client = Client::connect(&rig.path).await;
        client.write(put(&format!("{KEY}{nr}")).as_bytes()).await;
        crowd.push(client);
    }
    eventually("the writes", || primary.received().len() == 16).await;
    let heard = rig.ask(&put(KEY)).await;
    assert_eq!(heard.outcome(), (429, "replica"));
    assert!(heard.text().contains("not sent"), "{}", heard.text());
    // Whose right is known, or what no mirror has, needs none of these places.
    rig.replica.writers_are(Writer::May);
    crowd.push(Client::connect(&rig.path).await);
    crowd[16].write(put(KEY).as_bytes()).await;
    eventually("the write", || primary.received().len() == 17).await;
    rig.enter(holdover());
    eventually("the doubts", || rig.replica.doubted().len() == 17).await;
}

#[tokio::test]
async fn who_has_its_share_of_forwards_is_told_and_reads_what_the_replica_has() {
    let primary = Primary::start(|received| match received.head.target() {
        "/v1/slow" => Act::Hang,
        _ => Act::Say(with("200 OK", "", "{}")),
    })
    .await;
    let mut setup = Setup::with(&primary);
    setup.rules.limits.forwards = 8;
    let rig = setup.start();
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(&rig.path).await;
        client
            .write(request("GET", "/v1/slow", &[]).as_bytes())
            .await;
        slow.push(client);
    }
    eventually("both", || primary.received().len() == 2).await;
    for method in ["GET", "DELETE"] {
        let heard = rig.ask(&request(method, "/v1/x", &[])).await;
        assert_eq!(heard.outcome(), (429, "replica"), "{method}");
        assert_eq!(heard.head.get("retry-after"), Some("1"));
        assert!(heard.text().contains("not sent"), "{}", heard.text());
    }
    let mirrored = request("GET", KEY, &[]);
    assert_eq!(rig.ask(&mirrored).await.outcome(), (200, "replica"));
    assert_eq!(primary.received().len(), 2, "nothing more was sent");
    slow.pop();
    eventually("a place", || rig.server.forwards.taken() == 1).await;
    assert_eq!(rig.ask(&mirrored).await.outcome(), (200, "primary"));
}
