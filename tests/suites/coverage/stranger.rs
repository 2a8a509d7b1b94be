//! A process that no entry matches: it is a plain client of the primary's until its entry is suggested and taken.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use harness::client::raw::{Ask, Reply};
use harness::client::visitor::Visitor;
use harness::host::{Host, Plan, login_request, own_uid};
use harness::{Context, Result, eventually, place, world};
use rustix::process::getegid;

use crate::{BOUND, HOLDOVER, VISITOR, coverage, printed};

/// A user of the host, where we may choose one.
const STRANGER: u32 = 4407;

struct Stranger {
    uid: u32,
    visitor: Visitor,
}

impl Stranger {
    fn arrives() -> Result<Stranger> {
        let (uid, gid) = match place::is_root() {
            true => (STRANGER, STRANGER),
            false => (own_uid(), getegid().as_raw()),
        };
        let visitor = Visitor::new(Path::new(VISITOR), uid, gid)?;
        Ok(Stranger { uid, visitor })
    }

    async fn send(&self, host: &Host, ask: &Ask) -> Result<Reply> {
        let socket = host.daemon.socket();
        let sent = self.visitor.send(&socket, ask, BOUND).await;
        sent.map_err(|failure| host.daemon.failure(failure))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_no_entry_matches_gets_the_entry_that_was_suggested() -> Result<()> {
    let host = Plan::new(HOLDOVER).start().await?;
    let stranger = Stranger::arrives()?;
    let (path, _) = host.secret("orders")?;
    let token = world::token(&host.primary.root(), "orders").await?;
    let read = Ask::get(&format!("/v1/{path}")).token(&token)?;
    assert_eq!(stranger.send(&host, &read).await?.status, 200);
    host.until_learned(&token).await?;
    assert_eq!(stranger.send(&host, &read).await?.status, 200);
    let refused = stranger.send(&host, &login_request("orders")).await?;
    assert_eq!(refused.status, 403, "{}", refused.text());

    let report = coverage(&host, &[]).await?;
    let carried = &report["carried"][0];
    assert_eq!(carried["uid"], stranger.uid, "{report}");
    assert_eq!(carried["role"], "orders", "{report}");
    let verdicts = crate::verdicts(&report, "auth/holdover/login");
    assert_eq!(verdicts[0].0, "refused", "{report}");
    assert!(!report.to_string().contains(&token), "a token is in it");

    let lines = printed(&host, &["config", "suggest"]).await?;
    let entry = format!(
        "[[workload]]\nname = \"uid-{0}\"\nmatch = {{ uid = {0} }}\nrole = \"orders\"\n",
        stranger.uid
    );
    assert!(lines.contains(&entry), "{lines}");
    let policy = printed(&host, &["config", "suggest", "--policy"]).await?;
    world::policy(
        &host.primary.root(),
        "holdover",
        &format!("{}\n{policy}", host.policy),
    )
    .await?;
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(host.daemon.config_file())?;
    file.write_all(format!("\n{lines}").as_bytes())?;
    host.daemon.reload()?;
    let login = login_request(&format!("uid-{}", stranger.uid));
    let bound = Duration::from_secs(30);
    let logged_in = eventually(bound, "the login of the new entry", async || match stranger
        .send(&host, &login)
        .await
    {
        Ok(reply) if reply.status == 200 => Ok(reply),
        Ok(reply) => Err(format!("{}: {}", reply.status, reply.text())),
        Err(failure) => Err(failure.to_string()),
    });
    let policies = logged_in.await?.json()?["auth"]["policies"].clone();
    let policies: Vec<String> = serde_json::from_value(policies).context("policies")?;
    assert!(policies.contains(&"orders".to_owned()), "{policies:?}");
    let again = printed(&host, &["config", "suggest"]).await?;
    assert!(!again.contains("[[workload]]"), "{again}");
    Ok(())
}
