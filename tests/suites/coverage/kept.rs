//! Counts across the ends of the process.

use std::time::Duration;

use harness::client::raw::Ask;
use harness::host::Host;
use harness::{Result, eventually};
use serde_json::{Value, json};

use crate::{BOUND, coverage, plain_proxy};

/// How long counts may wait to be stored: they are every ten seconds.
const STORED: Duration = Duration::from_secs(40);

const TOKEN: &str = "hvs.CAESIJstraytokenofsomebodyelse0000000000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_survive_an_orderly_end_entirely_and_a_kill_up_to_the_last_time_they_were_stored()
-> Result<()> {
    let mut host = plain_proxy().start().await?;
    reads(&host, 7).await?;
    assert_eq!(counted(&coverage(&host, &[]).await?), 7);
    host.daemon.terminate(BOUND).await?;
    host.start().await?;
    assert_eq!(counted(&coverage(&host, &[]).await?), 7);

    reads(&host, 5).await?;
    let stored = eventually(
        STORED,
        "the counts to be stored",
        async || match coverage(&host, &[]).await {
            Ok(report) if report["stored"] == true && counted(&report) == 12 => Ok(()),
            Ok(report) => Err(report.to_string()),
            Err(failure) => Err(failure.to_string()),
        },
    );
    stored.await?;
    host.daemon.kill9()?;
    host.start().await?;
    assert_eq!(counted(&coverage(&host, &[]).await?), 12);
    no_token_and_no_path_is_to_be_found(&host).await
}

async fn reads(host: &Host, times: u32) -> Result<()> {
    for _ in 0..times {
        let read = host.read("secret/data/shop/shared?version=0", "").await?;
        assert_eq!(read.status, 200, "{}", read.text());
    }
    Ok(())
}

fn counted(report: &Value) -> u64 {
    let rows = report["rows"].as_array().into_iter().flatten();
    rows.filter(|row| row["path"] == "secret/data/shop/shared")
        .filter_map(|row| row["requests"].as_u64())
        .sum()
}

/// Tokens in paths are not counted, and nothing of the counts is in clear on disk.
async fn no_token_and_no_path_is_to_be_found(host: &Host) -> Result<()> {
    let lookup = Ask::post(&format!("/v1/auth/token/revoke/{TOKEN}"), &json!({}));
    host.ask(&lookup).await?;
    let report = coverage(host, &[]).await?;
    let shown = report.to_string();
    assert!(
        shown.contains("auth/token/revoke/*") && !shown.contains("hvs."),
        "{shown}"
    );
    assert!(!shown.contains("version="), "{shown}");
    host.daemon.terminate(BOUND).await?;
    let mut bytes = Vec::new();
    let mut folders = vec![host.daemon.folder().join("state")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false => bytes.extend(std::fs::read(path)?),
            }
        }
    }
    let has = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(has("CREATE TABLE"), "the replica was not looked at");
    assert!(!has("secret/data") && !has("hvs.CAESIJ"));
    Ok(())
}
