//! A replica that SQLite cannot read: a page of it, the first one, the header of the last commit or a table is gone. In an outage the
//! daemon starts all the same, serves what can be proved, says what not, and is whole again once the primary answers.

use std::fs;
use std::path::Path;

use harness::Result;
use harness::client::raw::Ask;
use harness::failure::Context;
use harness::host::{Host, Login, READY};
use serde_json::{Value, json};

use super::rows::{damaged, learned, login, reasons, start, statuses, until_whole, with_rows};

const PAGE: usize = 4096;

/// A host in an outage, with two tokens that Holdover has learned, and two that it issued, of which an operator revoked the second.
struct Story {
    host: Host,
    tokens: [String; 2],
    issued: Login,
    revoked: Login,
}

impl Story {
    async fn begin() -> Result<Story> {
        let host = start().await?;
        let tokens = learned(&host).await?;
        host.cut().await?;
        let (issued, revoked) = (host.login("orders").await?, host.login("orders").await?);
        let what = json!({ "accessor": revoked.accessor });
        let revoke = Ask::post("/v1/grants/revoke", &what);
        assert_eq!(host.daemon.admin(&revoke).await?.status, 200);
        Ok(Story {
            host,
            tokens,
            issued,
            revoked,
        })
    }

    /// Overwrites that page of the stopped daemon's replica.
    async fn spoil(&self, page: impl FnOnce(&Path) -> Result<usize>) -> Result<()> {
        damaged(&self.host, |path| {
            let page = page(path)?;
            let mut bytes = fs::read(path)?;
            let spoiled = bytes.get_mut(page * PAGE..(page + 1) * PAGE);
            spoiled.context("as many pages")?.fill(0xaa);
            fs::write(path, bytes).context("the replica")
        })
        .await
    }

    /// What the start says, once it is in the outage again: the damaged file is kept.
    async fn status(&self) -> Result<Value> {
        let status = self.host.daemon.wait_state("holdover", READY).await?;
        let findings = status["findings"].to_string();
        assert!(findings.contains("state/replica.db.damaged-"), "{status}");
        let kept = self.host.daemon.folder().join("state/replica.db.damaged-1");
        assert!(kept.exists());
        Ok(status)
    }

    async fn reads(&self, login: &Login) -> Result<u16> {
        let (path, _) = self.host.secret("orders")?;
        Ok(self.host.read(path, &login.token).await?.status)
    }

    /// All is as if nothing had been.
    async fn lost_nothing(&self) -> Result<()> {
        let status = self.status().await?;
        assert!(!reasons(&status).contains("damaged"), "{status}");
        assert_eq!(statuses(&self.host, &self.tokens).await?, [200, 200]);
        assert_eq!(self.reads(&self.issued).await?, 200);
        assert_eq!(self.reads(&self.revoked).await?, 403);
        assert_eq!(login(&self.host).await?.status, 200);
        Ok(())
    }

    /// Nothing is decided: what is not known is no reason to deny it either.
    async fn decides_nothing(&self) -> Result<()> {
        assert_eq!(statuses(&self.host, &self.tokens).await?, [503, 503]);
        assert_eq!(self.reads(&self.issued).await?, 503);
        assert_ne!(self.reads(&self.revoked).await?, 200);
        let refused = login(&self.host).await?;
        assert_eq!(refused.status, 503, "{}", refused.text());
        Ok(())
    }

    /// Once the primary answers it is whole, and stays so without it.
    async fn is_mended(&self) -> Result<()> {
        let host = &self.host;
        until_whole(host).await?;
        assert_eq!(statuses(host, &self.tokens).await?, [200, 200]);
        assert_ne!(self.reads(&self.revoked).await?, 200);
        for token in &self.tokens {
            host.until_learned(token).await?;
        }
        host.cut().await?;
        assert_eq!(statuses(host, &self.tokens).await?, [200, 200]);
        assert_eq!(login(host).await?.status, 200);
        assert_ne!(self.reads(&self.revoked).await?, 200);
        Ok(())
    }
}

/// Where the table, or its index, begins.
fn root(path: &Path, kind: &str, table: &str) -> Result<usize> {
    let connection = rusqlite::Connection::open(path).context("the replica")?;
    let sql = "SELECT rootpage FROM sqlite_schema WHERE type = ?1 AND tbl_name = ?2";
    let root: i64 = connection
        .query_row(sql, [kind, table], |row| row.get(0))
        .context(sql)?;
    usize::try_from(root - 1).context("a page")
}

/// The leaf of the table of rows that has the youngest record of a token in it.
fn last_token(path: &Path) -> Result<usize> {
    let root = root(path, "table", "row")?;
    let connection = rusqlite::Connection::open(path).context("the replica")?;
    let sql = "SELECT max(id) FROM row WHERE tab = 5";
    let id: i64 = connection
        .query_row(sql, [], |row| row.get(0))
        .context(sql)?;
    let bytes = fs::read(path)?;
    let page = bytes
        .get(root * PAGE..(root + 1) * PAGE)
        .context("the page")?;
    assert_eq!(page[0], 5, "the table has more than one page");
    let number = |at: usize, bytes: usize| {
        let digits = page[at..at + bytes].iter();
        digits.fold(0, |number, digit| number << 8 | usize::from(*digit))
    };
    // Each cell is a child, and the last number in it, in sevens of bits.
    let cells = (0..number(3, 2)).map(|n| number(12 + 2 * n, 2));
    let mut children = cells.map(|cell| {
        let mut last = 0;
        for digit in &page[cell + 4..] {
            last = last << 7 | i64::from(digit & 0x7f);
            if digit & 0x80 == 0 {
                break;
            }
        }
        (number(cell, 4), last)
    });
    let child = children.find(|(_, last)| id <= *last);
    let child = child.map_or(number(8, 4), |(child, _)| child);
    Ok(child - 1)
}

#[tokio::test]
async fn with_its_first_page_or_an_index_gone_nothing_is_lost() -> Result<()> {
    let story = Story::begin().await?;
    story.spoil(|_| Ok(0)).await?;
    story.lost_nothing().await?;
    story.spoil(|path| root(path, "index", "row")).await?;
    story.lost_nothing().await
}

#[tokio::test]
async fn with_a_page_of_rows_gone_what_was_there_is_named_and_whoever_may_have_been_is_left_to_the_primary()
-> Result<()> {
    let story = Story::begin().await?;
    story.spoil(last_token).await?;
    let status = story.status().await?;
    assert!(reasons(&status).contains("rows are missing"), "{status}");
    for status in statuses(&story.host, &story.tokens).await? {
        assert!([200, 503].contains(&status), "{status}");
    }
    assert!([200, 503].contains(&story.reads(&story.issued).await?));
    assert_ne!(story.reads(&story.revoked).await?, 200);
    story.host.restore().await?;
    story.is_mended().await
}

#[tokio::test]
async fn with_the_header_of_the_last_commit_gone_only_what_refuses_is_believed() -> Result<()> {
    let story = Story::begin().await?;
    story.spoil(|path| root(path, "table", "header")).await?;
    let status = story.status().await?;
    let told = "tokens of clients (rows are missing or were replaced)";
    assert!(reasons(&status).contains(told), "{status}");
    story.decides_nothing().await?;
    story.host.restore().await?;
    // What was in quarantine nobody can tell, so all may have been: only an operator lifts that.
    let told = "what was in quarantine was lost with a damaged replica";
    story
        .host
        .daemon
        .wait_for(told, READY, |status| reasons(status).contains(told))
        .await?;
    let lift = ["parity", "lift", "--all"];
    let lifted = story.host.daemon.cli(&lift, READY).await?;
    assert!(lifted.code == Some(0), "{lifted:?}");
    story.is_mended().await
}

#[tokio::test]
async fn with_a_table_gone_what_was_in_it_is_missed() -> Result<()> {
    let story = Story::begin().await?;
    with_rows(&story.host, "DROP TABLE ledger").await?;
    story.lost_nothing().await?;
    with_rows(&story.host, "DROP TABLE row").await?;
    story.decides_nothing().await?;
    story.host.restore().await?;
    story.is_mended().await
}
