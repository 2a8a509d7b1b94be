//! A grant is judged when it is used: by what the primary says then of all that it hangs on, once for all who use it.

use harness::client::raw::{Ask, Reply};
use harness::gate::Act;
use harness::host::Login;
use harness::{Context, Result, eventually, together, world};
use serde_json::{Value, json};

use crate::rig::{SOON, Stage, entry, is_mint, plan};
use crate::roles::Role;

/// By which Holdover reads the token role of the entry.
const ROLE_RULE: &str = "auth/token/roles/orders";

/// Requests at the same time.
const AT_ONCE: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hangs_on_a_dead_token_is_refused_and_nothing_is_minted_for_it() -> Result<()> {
    let stage = Stage::start(plan()).await?;
    let (revoked, living) = (stage.brought().await?, stage.brought().await?);
    stage.cut().await?;
    let dead = stage.child_of(&revoked).await?;
    let below = stage.child_of(&dead).await?;
    let alive = stage.child_of(&living).await?;
    for child in [&dead, &below, &alive] {
        assert_eq!(stage.read_own("orders", &child.token).await?.status, 200);
    }
    let root = stage.host.primary.root();
    let accessor = json!({ "accessor": revoked.accessor });
    root.write("auth/token/revoke-accessor", &accessor).await?;
    stage.reopen().await?;
    for child in [&below, &dead] {
        stage.is_refused(&child.token).await?;
    }
    stage.is_whole("orders", &alive.token).await?;
    assert_eq!(stage.mints().len(), 1, "for the one that lives");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_was_narrowed_or_went_leaves_less_or_nothing() -> Result<()> {
    let narrowed = "narrowed";
    let stage = Stage::prepare(plan().workload(entry(narrowed)).workload(entry("billing"))).await?;
    stage
        .role(narrowed, &["orders", "billing", "keeps"])
        .await?;
    let mut stage = stage;
    stage.host.start().await?;
    stage.cut().await?;
    let wide = stage.issued(narrowed).await?;
    let gone = stage.issued("orders").await?;
    let same = stage.issued("billing").await?;
    let (public, own) = ("secret/data/shop/billing/public", "secret/data/shop/shared");
    for path in [public, own] {
        assert_eq!(stage.host.read(path, &wide.token).await?.status, 200);
    }
    stage.role(narrowed, &["keeps"]).await?;
    let root = stage.host.primary.root();
    root.delete(ROLE_RULE).await?.ok()?;
    stage.reopen().await?;
    let refused = stage.host.read(public, &wide.token).await?;
    assert_eq!(refused.status, 403, "{}", stage.told(&refused));
    let kept = stage.keep(&wide.token).await?;
    assert_eq!(kept.status, 200, "{}", stage.told(&kept));
    let refused = stage.host.read(own, &wide.token).await?;
    assert_eq!(refused.status, 403, "{}", stage.told(&refused));
    stage.is_refused(&gone.token).await?;
    stage.is_whole("billing", &same.token).await?;
    let minted = stage.mints();
    assert_eq!(minted.len(), 2, "for those that live");
    let minted = minted.iter().find(|one| one.target.ends_with(narrowed));
    let body: Value = serde_json::from_slice(&minted.context("a mint")?.body)?;
    assert_eq!(body["policies"], json!(["default", "keeps"]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_authority_is_missing_a_grant_drains_until_it_is_back_and_nothing_of_that_is_stored()
-> Result<()> {
    let stage = Stage::start(plan()).await?;
    let root = stage.host.primary.root();
    let policy = &stage.host.policy;
    assert!(policy.contains(ROLE_RULE), "{policy}");
    stage.cut().await?;
    let login = stage.issued("orders").await?;
    let without = policy.replace(ROLE_RULE, "auth/token/roles/none-of-these");
    world::policy(&root, "holdover", &without).await?;
    stage.reopen().await?;
    stage.drains("orders", &login.token).await?;
    for path in ["auth/token/lookup-self", "auth/token/renew-self"] {
        let around = match path.ends_with("lookup-self") {
            true => stage.host.read(path, &login.token).await?,
            false => stage.host.write(path, &login.token, &json!({})).await?,
        };
        assert_eq!(around.status, 200, "{path}: {}", stage.told(&around));
    }
    assert_eq!(stage.unsettled().await?, 1, "stored");
    let listed = stage.host.daemon.admin(&Ask::get("/v1/grants")).await?;
    assert!(!listed.text().contains("draining"), "{}", listed.text());
    assert_eq!(stage.mints().len(), 0);
    world::policy(&root, "holdover", policy).await?;
    eventually(SOON, "the grant in full again", async || {
        match stage.keep(&login.token).await {
            Ok(kept) if kept.status == 200 => Ok(()),
            Ok(kept) => Err(stage.told(&kept)),
            Err(failure) => Err(failure.to_string()),
        }
    })
    .await?;
    stage.is_whole("orders", &login.token).await?;
    assert_eq!((stage.unsettled().await?, stage.mints().len()), (0, 1));
    Ok(())
}

/// Whose templated policy is nothing without the entity.
const OF_ENTITY: &str = r#"
path "secret/data/of/{{identity.entity.id}}/*" { capabilities = ["read"] }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approle_grant_is_judged_by_its_secret_id_and_its_entity() -> Result<()> {
    let stage = Stage::prepare(plan()).await?;
    let root = stage.host.primary.root();
    world::policy(&root, "of-entity", OF_ENTITY).await?;
    stage
        .role("orders", &["orders", "keeps", "of-entity"])
        .await?;
    let mut stage = stage;
    stage.host.start().await?;
    let plain = ["orders", "keeps"];
    let kept = Role::proven(&stage, "kept", &plain).await?;
    let destroyed = Role::proven(&stage, "destroyed", &plain).await?;
    let disabled = Role::proven(&stage, "disabled", &plain).await?;
    let templated = Role::proven(&stage, "templated", &["orders", "keeps", "of-entity"]).await?;
    stage.cut().await?;
    let of_kept = kept.issued(&stage).await?;
    let of_destroyed = destroyed.issued(&stage).await?;
    let of_disabled = disabled.issued(&stage).await?;
    let of_templated = templated.issued(&stage).await?;
    destroyed.destroy_secret_id(&stage).await?;
    disabled.disable_entity(&stage).await?;
    stage.reopen().await?;
    for refused in [&of_destroyed, &of_disabled] {
        stage.is_refused(&refused.token).await?;
    }
    stage.drains("orders", &of_templated.token).await?;
    assert_eq!(stage.mints().len(), 0, "for what drains or is dead");
    // No policy of its own says anything of its entity: it is whole, for as long as that entity stands.
    stage.is_whole("orders", &of_kept.token).await?;
    assert_eq!(stage.mints().len(), 1);
    kept.disable_entity(&stage).await?;
    eventually(SOON, "the end of an exchanged grant", async || match stage
        .keep(&of_kept.token)
        .await
    {
        Ok(refused) if refused.status == 403 => Ok(()),
        Ok(kept) => Err(stage.told(&kept)),
        Err(failure) => Err(failure.to_string()),
    })
    .await?;
    stage.is_refused(&of_kept.token).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_look_ups_and_self_revocations_settle_nothing() -> Result<()> {
    let stage = Stage::start(plan()).await?;
    let other = stage.brought().await?;
    stage.cut().await?;
    let (one, given_up) = (stage.issued("orders").await?, stage.issued("orders").await?);
    stage.reopen().await?;
    listed(&stage, &one).await?;
    found_by_accessor(&stage, &other, &one).await?;
    let looked = stage
        .host
        .read("auth/token/lookup-self", &one.token)
        .await?;
    let outcome = (looked.status, looked.source());
    assert_eq!(outcome, (200, Some("replica")), "{}", stage.told(&looked));
    assert_eq!((stage.unsettled().await?, stage.mints().len()), (2, 0));
    stage.gives_up(&given_up.token).await?;
    stage.is_refused(&given_up.token).await?;
    assert_eq!((stage.unsettled().await?, stage.mints().len()), (1, 0));
    stage.is_whole("orders", &one.token).await?;
    assert_eq!((stage.unsettled().await?, stage.mints().len()), (0, 1));
    // The primary knows the token behind it by another accessor: this one is the replica's to answer still.
    found_by_accessor(&stage, &other, &one).await
}

/// By the operator here, and by the primary's.
async fn listed(stage: &Stage, one: &Login) -> Result<()> {
    let listed = stage.host.daemon.cli(&["grants", "list"], SOON).await?;
    let listed = listed.success()?;
    assert!(listed.contains(&one.accessor), "{listed}");
    let list = Ask::new("LIST", "/v1/auth/token/accessors")?;
    let list = list.token(stage.host.primary.root_token())?;
    let accessors = stage.host.ask(&list).await?;
    let outcome = (accessors.status, accessors.source());
    assert_eq!(
        outcome,
        (200, Some("primary")),
        "{}",
        stage.told(&accessors)
    );
    assert!(!accessors.text().contains(&one.accessor));
    Ok(())
}

async fn found_by_accessor(stage: &Stage, by: &Login, one: &Login) -> Result<()> {
    let body = json!({ "accessor": one.accessor });
    let found = stage
        .host
        .write("auth/token/lookup-accessor", &by.token, &body);
    let found = found.await?;
    let outcome = (found.status, found.source());
    assert_eq!(outcome, (200, Some("replica")), "{}", stage.told(&found));
    assert_eq!(found.json_text("/data/accessor")?, one.accessor);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_is_minted_however_many_requests_wait_for_it() -> Result<()> {
    let stage = Stage::start(plan()).await?;
    stage.cut().await?;
    let (written, read) = (stage.issued("orders").await?, stage.issued("orders").await?);
    stage.reopen().await?;
    stage.gate.rule(|asked| match is_mint(asked) {
        true => Act::HoldAnswer,
        false => Act::Pass,
    });
    let let_go = async {
        stage.gate.until_held(SOON).await?;
        // While the mint is under way the replica answers reads.
        let waits = stage.read_own("orders", &written.token).await?;
        let outcome = (waits.status, waits.source());
        assert_eq!(outcome, (200, Some("replica")), "{}", stage.told(&waits));
        stage.gate.no_rule();
        stage.gate.release();
        Ok(())
    };
    let writes = async {
        let all = (0..AT_ONCE).map(|_| stage.keep(&written.token));
        all_are(&stage, together(all).await?, 200)
    };
    let (writes, let_go) = tokio::join!(writes, let_go);
    writes.and(let_go)?;
    assert_eq!(stage.mints().len(), 1);
    let reads = (0..AT_ONCE).map(|_| stage.read_own("orders", &read.token));
    all_are(&stage, together(reads).await?, 200)?;
    // A read is answered at once, and starts the mint.
    eventually(SOON, "the mint that a read started", async || {
        match stage.mints().len() {
            2 => Ok(()),
            count => Err(format!("{count} minted")),
        }
    })
    .await?;
    stage.is_whole("orders", &read.token).await?;
    assert_eq!(stage.mints().len(), 2);
    Ok(())
}

fn all_are(stage: &Stage, replies: Vec<Reply>, status: u16) -> Result<()> {
    for reply in replies {
        assert_eq!(reply.status, status, "{}", stage.told(&reply));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_three_mints_that_were_not_heard_of_the_grant_drains() -> Result<()> {
    let stage = Stage::start(plan()).await?;
    stage.cut().await?;
    let login = stage.issued("orders").await?;
    stage.reopen().await?;
    stage.gate.rule(|asked| match is_mint(asked) {
        true => Act::LoseAnswer,
        false => Act::Pass,
    });
    for nr in 1..=2 {
        let unknown = stage.keep(&login.token).await?;
        assert_eq!(unknown.status, 503, "{}", stage.told(&unknown));
        assert_eq!(stage.mints().len(), nr, "one request for each use");
        assert_eq!(stage.unsettled().await?, 1);
    }
    let drained = stage.keep(&login.token).await?;
    assert_eq!(drained.status, 403, "{}", stage.told(&drained));
    stage.gate.no_rule();
    stage.drains("orders", &login.token).await?;
    assert_eq!((stage.unsettled().await?, stage.mints().len()), (0, 3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_outage_takes_an_unsettled_grant_as_it_is_and_no_further() -> Result<()> {
    let stage = Stage::start(plan()).await?;
    let parent = stage.brought().await?;
    stage.cut().await?;
    let login = stage.issued("orders").await?;
    let child = stage.child_of(&parent).await?;
    stage.reopen().await?;
    let ends = end(&stage, &login).await?;
    stage.cut().await?;
    for token in [&login.token, &child.token] {
        let read = stage.read_own("orders", token).await?;
        let outcome = (read.status, read.source());
        assert_eq!(outcome, (200, Some("replica")), "{}", stage.told(&read));
    }
    let body = json!({ "increment": 3600 });
    let renewed = stage
        .host
        .write("auth/token/renew-self", &login.token, &body);
    let renewed = renewed.await?;
    assert_eq!(renewed.status, 200, "{}", stage.told(&renewed));
    let renewed = renewed.json()?;
    let left = renewed["auth"]["lease_duration"]
        .as_u64()
        .unwrap_or_default();
    assert!((1..=login.ttl.as_secs()).contains(&left), "{renewed}");
    let warnings = renewed["warnings"].as_array().map_or(0, Vec::len);
    assert!(warnings > 0, "{renewed}");
    assert_eq!(end(&stage, &login).await?, ends, "its deadline moved");
    stage.reopen().await?;
    assert_eq!((stage.unsettled().await?, stage.mints().len()), (2, 0));
    for token in [&login.token, &child.token] {
        stage.is_whole("orders", token).await?;
    }
    assert_eq!((stage.unsettled().await?, stage.mints().len()), (0, 2));
    Ok(())
}

/// When the grant ends, as the operator sees it.
async fn end(stage: &Stage, login: &Login) -> Result<String> {
    let listed = stage.host.daemon.admin(&Ask::get("/v1/grants")).await?;
    let listed = listed.json()?;
    let grants = listed["grants"].as_array().context("grants")?;
    let grant = grants
        .iter()
        .find(|one| one["accessor"] == login.accessor.as_str());
    let ends = grant.and_then(|grant| grant["expires_at"].as_str());
    ends.map(str::to_owned).context(format!("{listed}"))
}
