//! Claims about limits, connections and the end of serving.

use std::time::Duration;

use super::{
    eventually,
    rig::{Act, Client, Primary, Setup, primary::ok, request},
};
use crate::serve::stats::RequestLabels;

#[tokio::test]
async fn connections_over_the_limit_are_told_and_others_go_on() {
    let primary = Primary::saying("{}").await;
    let mut setup = Setup::with(&primary);
    setup.rules.limits.connections_per_uid = 2;
    let rig = setup.start();
    let get = request("GET", "/v1/x", &[]);
    let (mut one, mut two) = (
        Client::connect(&rig.path).await,
        Client::connect(&rig.path).await,
    );
    assert_eq!(one.ask(&get).await.status(), 200);
    assert_eq!(two.ask(&get).await.status(), 200);
    let heard = rig.ask(&get).await;
    assert_eq!(heard.outcome(), (429, "replica"));
    assert_eq!(heard.head.get("connection"), Some("close"));
    assert!(heard.text().contains("too many connections of this user"));
    assert_eq!(one.ask(&get).await.status(), 200);
    drop(two);
    eventually("the end of a connection", || rig.server.connections() == 1).await;
    assert_eq!(rig.ask(&get).await.status(), 200);
}

#[tokio::test]
async fn requests_over_the_limit_are_refused_at_once() {
    let primary = Primary::saying("{}").await;
    let mut setup = Setup::with(&primary);
    setup.rules.limits.requests_per_second_per_uid = 3;
    let rig = setup.start();
    let mut client = Client::connect(&rig.path).await;
    let mut refused = 0;
    for _ in 0..6 {
        let heard = client.ask(&request("GET", "/v1/x", &[])).await;
        refused += usize::from(heard.status() == 429);
    }
    assert!(refused >= 2, "{refused}");
    assert!(primary.received().len() <= 4);
}

#[tokio::test]
async fn a_changed_configuration_binds_the_next_request_of_an_open_connection() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let mut client = Client::connect(&rig.path).await;
    let get = request("GET", "/v1/x", &[]);
    assert_eq!(client.ask(&get).await.status(), 200);
    let mut rules = super::rig::rules();
    rules.limits.requests_per_second_per_uid = 0;
    rig.server.apply(rules);
    assert_eq!(client.ask(&get).await.status(), 429);
}

#[tokio::test]
async fn what_is_being_answered_is_answered_before_the_end() {
    let primary =
        Primary::start(|_| Act::SayAfter(Duration::from_millis(300), ok("{\"late\":1}"))).await;
    let mut rig = Setup::with(&primary).start();
    let mut idle = Client::connect(&rig.path).await;
    assert_eq!(idle.ask(&request("GET", "/v1/x", &[])).await.status(), 200);
    let mut busy = Client::connect(&rig.path).await;
    let text = request("GET", "/v1/y", &[]);
    busy.write(text.as_bytes()).await;
    eventually("the request", || primary.received().len() == 2).await;
    rig.begin_to_stop();
    let heard = busy.hear(false).await.unwrap();
    assert_eq!(heard.text(), "{\"late\":1}");
    assert!(idle.hear(false).await.is_none(), "an idle connection ends");
    let path = rig.path.clone();
    rig.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn answers_are_counted_by_who_wrote_them() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    rig.ask(&request("GET", "/v1/secret/data/x", &[])).await;
    let labels = RequestLabels {
        source: "primary",
        operation: "read",
        code: 200,
    };
    assert_eq!(rig.server.stats.requests.get_or_create(&labels).get(), 1);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let header = format!("X-Large: {}", "x".repeat(100_000));
    let heard = rig.ask(&request("GET", "/v1/x", &[&header])).await;
    assert_eq!(heard.status(), 431);
    assert!(primary.received().is_empty());
}
