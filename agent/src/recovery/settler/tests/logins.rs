//! Grants that an AppRole login was given: judged by role, secret id and entity, read at their use.

use shared::{
    approle::{AppRole, Basis, MountFacts, ProofDigest, RoleKey, SecretId},
    name::{MountAccessor, PolicyName, RoleName},
};

use super::*;

/// As OpenBao shows a role.
const ROLE: &str = r#"{"bind_secret_id":true,"secret_id_num_uses":0,"token_no_default_policy":true,
    "token_policies":["orders"],"token_ttl":600,"token_type":"default"}"#;

fn basis() -> Basis {
    Basis {
        role: RoleKey {
            mount: MountAccessor::parse("auth_approle_1").unwrap(),
            name: RoleName::parse("ci").unwrap(),
        },
        secret_id: ProofDigest([2; 32]),
    }
}

fn entity() -> EntityId {
    EntityId::parse("e-1").unwrap()
}

fn name(text: &str) -> PolicyName {
    PolicyName::parse(text).unwrap()
}

fn identity(disabled: bool) -> Identity {
    Identity {
        entity: Some(Entity {
            id: "e-1".into(),
            policies: vec!["of-entity".into()],
            disabled,
            ..Entity::default()
        }),
        groups: Vec::new(),
    }
}

/// The policies of the login, where that of its entity says this.
fn policies(of_entity: &str, left: &Left) -> PolicySet {
    let now = left.bench.now();
    let mut set = samples::policies("orders", "path \"a\" { capabilities = [\"read\"] }", 1, now);
    let more = samples::policies("of-entity", of_entity, 1, now);
    set.policies.extend(more.policies);
    set
}

const PLAIN: &str = "path \"b\" { capabilities = [\"read\"] }";

const TEMPLATED: &str = "path \"b/{{identity.entity.name}}\" { capabilities = [\"read\"] }";

/// What the login stands on, as it was known before the outage.
fn known(at: WallTime) -> Vec<Change> {
    let role = AppRole {
        key: basis().role,
        role_id: ProofDigest([1; 32]),
        facts: serde_json::from_str(ROLE).unwrap(),
        mount: MountFacts {
            default_lease_ttl: 3600,
            max_lease_ttl: 3600,
            token_type: "default-service".into(),
        },
        mfa: false,
        verified_at: at,
    };
    let proof = SecretId {
        digest: basis().secret_id,
        role: basis().role,
        role_id: ProofDigest([1; 32]),
        accessor: Accessor::parse("secret-id").unwrap(),
        metadata: [].into(),
        cidrs: Vec::new(),
        token_cidrs: Vec::new(),
        expires: None,
        entity: Some(entity()),
        identity_policies: vec![name("of-entity")],
        login_at: at,
        verified_at: at,
        accepted_from: Vec::new(),
        dead: None,
        doubted_at: None,
    };
    vec![
        Change::AppRole(Box::new(role)),
        Change::SecretId(Box::new(proof)),
        Change::Identity(entity(), Box::new(identity(false)), at),
    ]
}

/// A grant of a login whose entity has this policy.
async fn logged_in(of_entity: &str) -> Left {
    let left = Left::with(OnRecovery::Exchange, |mut grant| {
        grant.facts.entity_id = Some(entity());
        grant.facts.identity_policies = vec![name("of-entity")];
        if let Origin::Replica(replica) = &mut grant.origin {
            replica.approle = Some(Box::new(basis()));
        }
        grant
    })
    .await;
    left.store(known(left.bench.now().steady.minus(MINUTE)))
        .await;
    let policies = Change::Policies(Box::new(policies(of_entity, &left)));
    left.store(vec![policies]).await;
    left
}

#[tokio::test]
async fn a_login_is_read_at_its_use_and_exchanged_without_its_entity_where_no_policy_is_templated()
{
    let left = logged_in(PLAIN).await;
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.primary.questions(), ["login", "mint"]);
    assert_eq!(left.settled(), exchanged(1));
    let [wanted] = &left.primary.minted()[..] else {
        panic!("one mint");
    };
    assert_eq!(wanted.stands_for, StandsFor::Nobody);
    assert_eq!(wanted.policies, [name("of-entity"), name("orders")]);
}

#[tokio::test]
async fn where_a_policy_is_templated_it_drains_and_one_that_is_gone_is_in_nobodys_way() {
    let left = logged_in(TEMPLATED).await;
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.settled(), Some(Settled::Draining));
    assert_eq!(left.primary.questions(), ["login"]);
    let left = logged_in(TEMPLATED).await;
    let now = left.bench.now();
    let less = samples::policies("orders", PLAIN, 1, now);
    left.store(vec![Change::Policies(Box::new(less))]).await;
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.settled(), exchanged(1));
}

/// What the login's policies said before the outage.
async fn not_read_since(left: &Left) {
    let mut old = policies(PLAIN, left);
    old.verified_at = old.verified_at.minus(MINUTE);
    left.store(vec![Change::Policies(Box::new(old))]).await;
}

#[tokio::test]
async fn what_its_policies_say_is_read_before_a_token_of_nobodys_is_minted() {
    let left = logged_in(PLAIN).await;
    not_read_since(&left).await;
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.primary.questions(), ["login", "policy", "mint"]);
    assert_eq!(left.settled(), exchanged(1));
}

#[tokio::test]
async fn where_its_policies_cannot_be_read_nothing_is_minted_until_they_can() {
    for said in [
        Said::Status(403),
        Said::Status(429),
        Said::Status(500),
        Said::Lost,
    ] {
        let left = logged_in(PLAIN).await;
        not_read_since(&left).await;
        left.primary.says("policy", said);
        let outcome = left.used().await;
        match said {
            // Of its login all is known: what is mirrored can be read with what that leaves to it.
            Said::Status(403) => assert_eq!(outcome, Settlement::Drains),
            _ => assert!(tells_of(said, &outcome), "{outcome:?}"),
        }
        assert_eq!(left.settled(), Some(Settled::Not), "{said:?}");
        assert_eq!(left.primary.times("mint"), 0, "{said:?}");
        left.primary.says("policy", Said::Yes);
        eventually_settled(&left).await;
        assert_eq!(left.settled(), exchanged(1), "{said:?}");
    }
}

#[tokio::test]
async fn a_policy_that_comes_to_name_the_entity_during_the_mint_leaves_it_no_token() {
    let left = logged_in(PLAIN).await;
    let templated = policies(TEMPLATED, &left);
    left.primary.meanwhile(move |local| async move {
        let read = vec![Change::Policies(Box::new(templated))];
        let stored = local.commit(Lane::Mirror, read, Expects::default());
        stored.await.unwrap();
    });
    let outcome = left.used().await;
    assert!(unread(&outcome), "{outcome:?}");
    assert_eq!(left.queued(), [token(1)]);
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.settled(), Some(Settled::Draining));
    assert_eq!(left.primary.times("mint"), 1);
}

#[tokio::test]
async fn a_login_that_is_gone_or_whose_entity_is_disabled_is_revoked() {
    let left = logged_in(PLAIN).await;
    left.primary.says("login", Said::Gone);
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.settled(), None);
    let left = logged_in(PLAIN).await;
    let at = left.bench.now().steady.minus(MINUTE);
    let disabled = Change::Identity(entity(), Box::new(identity(true)), at);
    left.store(vec![disabled]).await;
    assert_eq!(left.used().await, Settlement::Settled);
    assert_eq!(left.settled(), None);
    assert_eq!(left.primary.times("mint"), 0);
}

#[tokio::test]
async fn a_login_that_cannot_be_read_waits_for_the_next_use() {
    for said in [
        Said::Status(403),
        Said::Status(429),
        Said::Status(500),
        Said::Lost,
    ] {
        let left = logged_in(PLAIN).await;
        left.primary.says("login", said);
        let outcome = left.used().await;
        assert!(tells_of(said, &outcome), "{outcome:?}");
        assert_eq!(left.settled(), Some(Settled::Not), "{said:?}");
        left.primary.says("login", Said::Yes);
        eventually_settled(&left).await;
        assert_eq!(left.settled(), exchanged(1), "{said:?}");
    }
}
