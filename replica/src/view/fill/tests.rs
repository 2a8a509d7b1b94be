//! Claims about what makes room, and for whom.

use shared::{
    change::Credential,
    grant::{Origin, ReplicaGrant, Revocation, RevokeCause, Settled},
    name::{LeaseId, OutageId},
    secret::{SecretBytes, SecretText},
    time::Deadline,
    workload::PeerId,
};

use super::*;
use crate::{
    key::Keys,
    samples::{self, Seeded, T0, digest, grant, now, settings},
};

/// When it is looked.
const AT: u64 = 60;

fn view(changes: Vec<Change>) -> View {
    let entropy = Seeded::new(1);
    let keys = Keys::ephemeral(&entropy).unwrap();
    View::from_changes(settings(), keys, changes, &entropy).unwrap()
}

/// Token `nr`, of the user `uid`.
fn put(view: &View, nr: u64, uid: Option<u32>) {
    view.put_grant(&Arc::new(LiveGrant::new(grant(nr, 3600))));
    if let Some(uid) = uid {
        view.used(&digest(nr), uid, T0.plus(Duration::from_millis(nr)));
    }
}

fn of_replica(deadline: Deadline) -> Origin {
    Origin::Replica(ReplicaGrant {
        outage: OutageId::parse("o-1").unwrap(),
        issued_at: T0,
        ttl_ms: 1,
        asked_ms: 1,
        max_deadline: deadline,
        workload_end: deadline,
        settled: Settled::Not,
        approle: None,
        spared: false,
        of_nobody: false,
    })
}

fn forgotten(view: &View) -> Vec<u64> {
    let numbered = view.beyond(now(AT)).into_iter().map(|change| match change {
        Change::GrantForgotten(digest) => u64::from_le_bytes(digest.0[..8].try_into().unwrap()),
        _ => panic!("something else"),
    });
    let mut numbers: Vec<_> = numbered.collect();
    numbers.sort_unstable();
    numbers
}

fn filled(view: &View, of: &str) -> (usize, usize) {
    let all = view.filled(now(AT));
    let one = all.iter().find(|one| one.of == of).unwrap();
    (one.has, one.most)
}

#[test]
fn tokens_of_whoever_has_most_make_room_those_last_used_last() {
    let view = view(Vec::new());
    for nr in 0..100 {
        put(&view, nr, Some(7));
    }
    let loud = 1000..1000 + TOKENS as u64;
    for nr in loud {
        put(&view, nr, Some(8));
    }
    // Others hang on the one that was not used for longest.
    let child = Grant {
        parent: Some(digest(1000)),
        ..grant(999, 3600)
    };
    view.put_grant(&Arc::new(LiveGrant::new(child)));
    // What the replica issued hangs on the next: without that its end would not be known.
    let mut issued = grant(998, 3600);
    issued.parent = Some(digest(1001));
    issued.origin = of_replica(issued.deadline);
    view.put_grant(&Arc::new(LiveGrant::new(issued)));
    assert_eq!(filled(&view, "tokens"), (TOKENS + 101, TOKENS));
    let gone = forgotten(&view);
    assert_eq!(gone.len(), 101);
    assert_eq!((gone[0], gone[100]), (1002, 1102));
    for nr in gone {
        view.forget_grant(&digest(nr));
    }
    assert!(forgotten(&view).is_empty());
}

/// Tokens that each hang on the one before, of the user `uid`.
fn put_line(view: &View, numbers: std::ops::Range<u64>, uid: u32) {
    for nr in numbers.clone() {
        let mut token = grant(nr, 3600);
        token.parent = (nr > numbers.start).then(|| digest(nr - 1));
        view.put_grant(&Arc::new(LiveGrant::new(token)));
        view.used(&digest(nr), uid, T0.plus(Duration::from_secs(nr)));
    }
}

#[test]
fn a_long_line_of_tokens_makes_room_from_its_end_and_no_other_s() {
    let view = view(Vec::new());
    (0..100).for_each(|nr| put(&view, nr, Some(7)));
    let end = 1000 + TOKENS as u64;
    put_line(&view, 1000..end, 8);
    let gone = forgotten(&view);
    assert_eq!(gone, (end - 100..end).collect::<Vec<_>>());
    // What the replica issued hangs on its last: all of the line stays, and nobody makes room for it.
    let mut issued = grant(999, 3600);
    issued.parent = Some(digest(end - 1));
    issued.origin = of_replica(issued.deadline);
    view.put_grant(&Arc::new(LiveGrant::new(issued)));
    assert!(forgotten(&view).is_empty());
}

#[test]
fn records_of_dead_tokens_do_not_hold_the_living_that_they_hung_on() {
    let view = view(Vec::new());
    (0..100).for_each(|nr| put(&view, nr, Some(7)));
    let loud = 1000..1000 + TOKENS as u64;
    for nr in loud.clone() {
        put(&view, nr, Some(8));
    }
    for nr in loud.clone().take(ENDED) {
        let dead = nr + 1_000_000;
        let mut child = grant(dead, 3600);
        child.parent = Some(digest(nr));
        let revoked = Revocation::of(&child, RevokeCause::Primary, T0);
        view.put_grant(&Arc::new(LiveGrant::new(child)));
        view.used(&digest(dead), 8, T0);
        view.put_revocation(&revoked);
    }
    // Those go first on which nothing hangs.
    let free = loud.start + ENDED as u64;
    let gone = forgotten(&view);
    assert_eq!(gone, (free..free + 100).collect::<Vec<_>>());
    for nr in free..loud.end {
        view.forget_grant(&digest(nr));
    }
    (0..TOKENS as u64 - ENDED as u64).for_each(|nr| put(&view, 3_000_000 + nr, Some(8)));
    for nr in 0..TOKENS as u64 - ENDED as u64 {
        view.put_grant(&Arc::new(LiveGrant::new(Grant {
            parent: Some(digest(3_000_000 + nr)),
            ..grant(998, 3600)
        })));
    }
    assert!(!forgotten(&view).is_empty());
}

#[test]
fn where_there_are_too_many_only_whoever_has_its_share_is_not_learned_from() {
    let view = view(Vec::new());
    put(&view, 1, Some(7));
    let most = (TOKENS + ENDED) as u64 / 4 * 5;
    put_line(&view, 1000..1000 + most - 2, 8);
    let takes = |uid| view.takes_token_of(uid);
    assert!(takes(Some(7)) && takes(Some(8)) && takes(None));
    put_line(&view, 500_000..500_010, 8);
    assert!(view.grants.len() as u64 >= most);
    assert!(takes(Some(7)) && !takes(Some(8)));
    assert!(takes(Some(9)) && takes(None), "they have none yet");
    // Those that change hands are counted for whoever has them, those that are forgotten for nobody.
    let share = (TOKENS + ENDED) as u64 / 2;
    (1000..1000 + share).for_each(|nr| view.used(&digest(nr), 7, T0));
    assert!(!takes(Some(7)));
    view.forget_grant(&digest(1));
    view.put_grant(&Arc::new(LiveGrant::new(grant(1000, 3600))));
    assert!(!takes(Some(7)), "it was replaced");
    view.forget_grant(&digest(1000));
    view.forget_grant(&digest(1001));
    put(&view, 1001, None);
    put(&view, 1000, Some(9));
    assert!(!takes(Some(8)) && takes(Some(9)));
}

#[test]
fn records_of_dead_tokens_make_room_unless_the_primary_is_to_be_told() {
    let view = view(Vec::new());
    for nr in 0..ENDED as u64 + 10 {
        put(&view, nr, Some(8));
        let revoked = Revocation::of(&grant(nr, 3600), RevokeCause::Primary, T0);
        view.put_revocation(&revoked);
    }
    let untold = shared::change::QueuedRevocation::own(
        1,
        RevocationTarget::Token(grant(3, 3600).accessor),
        T0,
    );
    view.set_queued(1, Some(Arc::new(untold)));
    let gone = forgotten(&view);
    assert_eq!(gone.len(), 10);
    assert!(!gone.contains(&3));
    assert!(
        view.beyond(now(1)).is_empty(),
        "what tells of them is on its way"
    );
}

/// Forgets what makes room, and says what is fuller than it may be.
fn fuller_than_it_may_be(view: &View) -> Vec<&'static str> {
    let mut secrets = super::super::Secrets::clone(&view.secrets());
    let mut known = super::super::Known::clone(&view.authority().known);
    for change in view.beyond(now(AT)) {
        match change {
            Change::GrantForgotten(digest) => view.forget_grant(&digest),
            Change::LeaseGone(id) => drop(secrets.leases.remove(&id)),
            Change::SecretIdGone(digest) => drop(known.secret_ids.remove(&digest)),
            Change::CredentialGone(name) => view.set_credential(name, None),
            _ => panic!("something else"),
        }
    }
    view.set_secrets(secrets);
    view.set_known(known);
    let filled = view.filled(now(AT)).into_iter();
    let fuller = filled.filter(|one| one.has > one.most);
    fuller.map(|one| one.of).collect()
}

#[test]
fn whatever_is_filled_beyond_its_bound_is_within_it_after_a_look() {
    let view = view(vec![
        Change::Lease(
            Box::new(samples::lease("database/creds/orders/shared")),
            Some(SecretBytes::new(b"{}".to_vec())),
        ),
        Change::SecretId(Box::new(samples::secret_id())),
    ]);
    put_line(&view, 0..TOKENS as u64 + 500, 8);
    for nr in 0..ENDED as u64 + 500 {
        let dead = grant(1_000_000 + nr, 3600);
        let revoked = Revocation::of(&dead, RevokeCause::Primary, T0);
        view.put_grant(&Arc::new(LiveGrant::new(dead)));
        view.put_revocation(&revoked);
    }
    let mut secrets = super::super::Secrets::clone(&view.secrets());
    let body = Arc::clone(&secrets.leases.values().next().unwrap().body);
    for nr in 0..LEASES + 500 {
        let mut lease = samples::lease(&format!("database/creds/orders/{nr}"));
        lease.holder = LeaseHolder::Token(digest(nr as u64));
        secrets.put_lease(lease, Arc::clone(&body));
    }
    view.set_secrets(secrets);
    let mut known = super::super::Known::clone(&view.authority().known);
    let one = known.secret_ids.values().next().cloned().unwrap();
    for nr in 0..SECRET_IDS + 500 {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&(nr as u64).to_le_bytes());
        let mut secret_id = shared::approle::SecretId::clone(&one);
        secret_id.digest = shared::approle::ProofDigest(digest);
        known.put_secret_id(secret_id);
    }
    view.set_known(known);
    for of in ["tokens", "tokens_ended", "leases", "secret_ids"] {
        let (has, most) = filled(&view, of);
        assert!(has > most, "{of}: {has} of {most}");
    }
    assert_eq!(fuller_than_it_may_be(&view), [""; 0]);
}

#[test]
fn a_credential_goes_with_the_grant_that_it_is_behind() {
    let held = |name| {
        let credential = Credential {
            accessor: grant(90, 3600).accessor,
            expires: T0,
            renewable: false,
            issued_at: T0,
            token: SecretText::new("s.behind".to_owned()),
        };
        Change::Credential(name, credential)
    };
    let exchanged = |nr| CredentialName::Exchanged(digest(nr));
    let mut over = grant(3, 3600);
    over.deadline = Deadline::after(Duration::from_secs(9), now(0));
    let view = view(vec![
        samples::granted(1),
        samples::granted(2),
        Change::Grant(Box::new(over)),
        held(exchanged(1)),
        held(exchanged(2)),
        held(exchanged(3)),
        held(exchanged(4)),
        held(CredentialName::Own),
        samples::revoked(2),
    ]);
    let mut gone: Vec<_> = view
        .beyond(now(AT))
        .into_iter()
        .map(|change| match change {
            Change::CredentialGone(CredentialName::Exchanged(digest)) => digest.0[0],
            _ => panic!("something else"),
        })
        .collect();
    gone.sort_unstable();
    assert_eq!(gone, [2, 3, 4]);
}

#[test]
fn leases_of_the_token_that_has_most_make_room_and_holdovers_own_do_not() {
    let first = Change::Lease(
        Box::new(samples::lease("database/creds/orders/shared")),
        Some(SecretBytes::new(b"{}".to_vec())),
    );
    let view = view(vec![first]);
    let mut secrets = super::super::Secrets::clone(&view.secrets());
    let body = Arc::clone(&secrets.leases.values().next().unwrap().body);
    let mut add = |holder: u64, nr: usize| {
        let mut lease = samples::lease(&format!("database/creds/orders/{holder}-{nr}"));
        lease.holder = LeaseHolder::Token(digest(holder));
        lease.renewed_at = T0.plus(Duration::from_secs(nr as u64));
        secrets.put_lease(lease, Arc::clone(&body));
    };
    for nr in 0..LEASES {
        add(1, nr);
    }
    for nr in 0..3 {
        add(2, nr);
    }
    view.set_secrets(secrets);
    let gone = view.beyond(now(AT));
    let gone: Vec<_> = gone
        .into_iter()
        .map(|change| match change {
            Change::LeaseGone(id) => id,
            _ => panic!("something else"),
        })
        .collect();
    let oldest =
        [0, 1, 2].map(|nr| LeaseId::parse(&format!("database/creds/orders/1-{nr}")).unwrap());
    assert_eq!(gone, oldest);
    assert_eq!(filled(&view, "leases"), (LEASES + 3, LEASES));
}

#[test]
fn a_user_with_many_tokens_keeps_no_more_leases_than_with_one() {
    let view = view(vec![Change::Lease(
        Box::new(samples::lease("database/creds/orders/shared")),
        Some(SecretBytes::new(b"{}".to_vec())),
    )]);
    let mut secrets = super::super::Secrets::clone(&view.secrets());
    let body = Arc::clone(&secrets.leases.values().next().unwrap().body);
    let mut add = |holder: u64, nr: usize| {
        let mut lease = samples::lease(&format!("database/creds/orders/{holder}-{nr}"));
        lease.holder = LeaseHolder::Token(digest(holder));
        secrets.put_lease(lease, Arc::clone(&body));
    };
    put(&view, 1, Some(7));
    (0..20).for_each(|nr| add(1, nr));
    // One lease with each of another's tokens.
    for holder in 1000..1000 + LEASES as u64 {
        put(&view, holder, Some(8));
        add(holder, 0);
    }
    view.set_secrets(secrets);
    let gone = view.beyond(now(AT));
    let of_other = |change: &Change| match change {
        Change::LeaseGone(id) => !id.as_str().starts_with("database/creds/orders/1-"),
        _ => panic!("something else"),
    };
    assert_eq!(gone.len(), 20);
    assert!(gone.iter().all(of_other));
}

#[test]
fn grants_of_a_workload_are_counted_while_they_live() {
    let view = view(Vec::new());
    let [orders, billing] = ["orders", "billing"].map(|name| WorkloadName::parse(name).unwrap());
    for nr in 0..4 {
        let mut issued = grant(nr, if nr == 3 { 1 } else { 3600 });
        issued.peer = Some(PeerId {
            workload: orders.clone(),
            uid: 7,
            unit: None,
        });
        issued.origin = of_replica(issued.deadline);
        view.put_grant(&Arc::new(LiveGrant::new(issued)));
    }
    let has = |most, of| view.has_issued(most, of, now(AT));
    assert!(has(3, &orders) && !has(4, &orders), "one of them is over");
    assert!(!has(1, &billing) && has(0, &billing));
    view.strike(&samples::revocation(1, RevokeCause::Operator));
    assert!(has(2, &orders) && !has(3, &orders));
}
