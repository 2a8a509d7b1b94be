//! While the primary answers, Holdover is a wire: nothing is added but the source, nothing taken but what would lie.

use harness::Result;
use harness::client::raw::{Ask, Client};
use harness::host::Host;
use serde_json::json;

use crate::{plan, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_arrives_as_it_was_sent_without_what_it_claims_of_its_way() -> Result<()> {
    let host = start(plan().tapped()).await?;
    let token = host.login("orders").await?.token;
    for target in [
        "/v1/secret/data/shop/orders/item-0000?b=%20%7B%7d&a=x+y&a=",
        "/v1/secret/data/elsewhere/A%20b%2Fc",
        "/v1/no-such-mount/./x",
    ] {
        let ask = Ask::get(target)
            .token(&token)?
            .header("X-Vault-Request", "true")?
            .header("X-Vault-Of-Its-Own", "kept")?
            .header("X-Forwarded-For", "198.51.100.7")?
            .header("X-Holdover-Source", "a lie")?;
        let reply = host.ask(&ask).await?;
        assert_eq!(reply.source(), Some("primary"), "{}", reply.text());
        let arrived = heads(&host)?;
        let line = format!("GET {target} HTTP/1.1");
        let head = arrived.iter().find(|head| head.starts_with(&line));
        let head = head.unwrap_or_else(|| panic!("{line} did not arrive"));
        let head = head.to_lowercase();
        assert!(
            head.contains("x-vault-request: true") && head.contains("x-vault-of-its-own: kept")
        );
        assert!(
            !head.contains("x-forwarded-for") && !head.contains("x-holdover"),
            "{head}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_of_the_primary_are_passed_on_and_open_no_outage() -> Result<()> {
    let host = start(plan().tapped()).await?;
    let token = host.login("orders").await?.token;
    let direct = Client::tcp(host.primary.address().trim_start_matches("http://"));
    let (foreign, _) = host.secret("billing")?;
    let asks = [
        Ask::get("/v1/secret/data/shop/orders/item-0000"),
        Ask::get("/v1/secret/data/shop/orders/no-such"),
        Ask::get(&format!("/v1/{foreign}")),
        Ask::get("/v1/secret/data/shop/orders/twice?version=x"),
        Ask::get("/v1/secret/data/elsewhere/no-such"),
        Ask::post("/v1/secret/data/elsewhere/", &json!({})),
        Ask::new("BREW", "/v1/secret/data/elsewhere/one")?,
        Ask::get("/v1/sys/health?activecode=418"),
    ];
    for ask in asks {
        let ask = ask.token(&token)?;
        let (through, straight) = (host.ask(&ask).await?, direct.send(&ask).await?);
        assert_eq!(through.status, straight.status, "{}", ask.target);
        assert_eq!(through.source(), Some("primary"), "{}", ask.target);
        for name in ["content-type", "cache-control", "strict-transport-security"] {
            assert_eq!(through.header(name), straight.header(name), "{name}");
        }
        let essence = |text: &str| {
            text.split_once("\"lease_id\"")
                .map(|(_, rest)| rest.to_owned())
        };
        assert_eq!(
            essence(&through.text()),
            essence(&straight.text()),
            "{}",
            ask.target
        );
    }
    for _ in 0..20 {
        let stray = host.read("secret/data/shop/shared", "s.abcdefghijklmnopqrstuvwx");
        assert_eq!(stray.await?.status, 403);
    }
    assert_eq!(host.daemon.status().await?["state"], "following");
    Ok(())
}

/// Larger than what is buffered, both ways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_large_streams_through() -> Result<()> {
    let host = start(plan()).await?;
    let token = host.login("orders").await?.token;
    let plaintext = "QUJD".repeat(700_000);
    let sealed = host
        .write(
            "transit/encrypt/one",
            &token,
            &json!({ "plaintext": plaintext }),
        )
        .await?;
    assert_eq!((sealed.status, sealed.source()), (200, Some("primary")));
    assert!(sealed.body.len() > 2_000_000, "{} bytes", sealed.body.len());
    let ciphertext = sealed.json_text("/data/ciphertext")?;
    let body = json!({ "ciphertext": ciphertext });
    let opened = host.write("transit/decrypt/one", &token, &body).await?;
    assert!(
        opened.json_text("/data/plaintext")? == plaintext,
        "changed on its way"
    );
    Ok(())
}

/// Heads of the requests that reached the primary.
fn heads(host: &Host) -> Result<Vec<String>> {
    let all = host.tap()?.sent();
    let texts = all
        .iter()
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Ok(texts
        .flat_map(|text| {
            text.split("\r\n\r\n")
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect())
}
