//! More at the primary than there is room for: what is kept stays current, the rest is told of, and other mirrors have theirs.

use std::collections::BTreeSet;

use harness::{
    Result,
    bao::{Primary, Transport},
    world::World,
};
use serde_json::json;
use shared::share::commons::Amount;

use super::rig::{Host, Plan, audited};

const BIG: &str = "secret/data/big/*";
const SMALL: &str = "secret/data/small/*";

/// In common there is room for 19 keys with their values that were not kept before, and of each mirror's own for 9.
const COMMON: Amount = Amount {
    entries: 40,
    bytes: 64 * 1024,
};

async fn write(primary: &Primary, path: &str, value: &str) -> Result<()> {
    let body = json!({ "data": { "value": value } });
    let path = format!("secret/data/{path}");
    primary.root().write(&path, &body).await.map(drop)
}

async fn remove(primary: &Primary, path: &str) -> Result<()> {
    let path = format!("secret/metadata/{path}");
    primary.root().delete(&path).await?.ok().map(drop)
}

fn held(host: &Host, folder: &str) -> BTreeSet<String> {
    let of = format!("secret/data/{folder}/");
    let keys = host.keys().into_iter();
    keys.filter(|path| path.starts_with(&of)).collect()
}

fn is_partial(host: &Host, path: &str) -> bool {
    let authority = host.local.view.authority();
    authority
        .mirrors
        .get(path)
        .is_some_and(|state| state.partial)
}

#[tokio::test]
async fn what_finds_no_room_is_told_and_takes_nothing_from_what_is_kept() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    World::seed(&primary, 1).await?;
    for nr in 10..40 {
        write(&primary, &format!("big/{nr}"), "first").await?;
    }
    let plan = Plan::new(&primary)?.room_in_common(COMMON);
    let host = plan
        .mirror(BIG, &[])
        .mirror(SMALL, &[])
        .start(&primary)
        .await?;
    host.pass_of(BIG).await?;
    let first = held(&host, "big");
    let status = host.status_of(BIG)?;
    assert_eq!((first.len(), status.left_out), (19, 11), "{status:?}");
    let finding = format!("11 keys of {BIG} find no room");
    assert!(
        status.findings.iter().any(|one| one.starts_with(&finding)),
        "{status:?}"
    );
    assert!(is_partial(&host, BIG) && !is_partial(&host, SMALL));
    // The other mirror finds its own part, whatever this one keeps.
    for nr in 10..19 {
        write(&primary, &format!("small/{nr}"), "first").await?;
    }
    host.pass_of(SMALL).await?;
    let status = host.status_of(SMALL)?;
    assert_eq!((held(&host, "small").len(), status.left_out), (9, 0));
    // What is kept stays current, and the same is kept pass after pass.
    for path in &first {
        let name = path.trim_start_matches("secret/data/");
        write(&primary, name, "second").await?;
    }
    host.pass_of(BIG).await?;
    host.pass_of(BIG).await?;
    assert_eq!(held(&host, "big"), first);
    for path in &first {
        let data = host.value(path, 2).map(|(_, data)| data["data"].clone());
        assert_eq!(data, Some(json!({ "value": "second" })), "{path}");
    }
    // One that does not fit is not asked for again and again.
    host.doubt("secret/data/big/39").await?;
    host.until_sure().await?;
    let asked = audited(&primary)?.len();
    let reads = |from: usize| -> Result<usize> {
        let all = audited(&primary)?;
        let reads = all.iter().skip(from);
        Ok(reads
            .filter(|one| one.path.starts_with("secret/data/"))
            .count())
    };
    for _ in 0..5 {
        host.pass_of(BIG).await?;
    }
    assert_eq!(reads(asked)?, 0);
    // One that grows beyond all room is not kept as it was before.
    write(&primary, "big/10", &"x".repeat(100 * 1024)).await?;
    host.pass_of(BIG).await?;
    assert!(host.value("secret/data/big/10", 2).is_none());
    assert!(host.value("secret/data/big/11", 2).is_some());
    // Once there is room, all of it is there.
    remove(&primary, "big/10").await?;
    for nr in 11..30 {
        remove(&primary, &format!("big/{nr}")).await?;
        host.pass_of(BIG).await?;
    }
    host.until("all that is left", |host| match held(host, "big").len() {
        10 => Ok(()),
        other => Err(other.to_string()),
    })
    .await?;
    host.pass_of(BIG).await?;
    assert!(!is_partial(&host, BIG));
    assert_eq!(host.status_of(BIG)?.left_out, 0);
    Ok(())
}
