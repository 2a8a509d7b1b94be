//! Somebody changes rows of the stored replica, one at a time, without its key: every decision is as before or is left to
//! the primary, and only where it depends on that row.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use rusqlite::{Connection, params};
use serde_json::json;
use shared::{
    change::{Change, CredentialName, Expects, QueuedRevocation, RevocationTarget},
    failover::Phase,
    grant::{Revocation, RevokeCause, Settled},
    identity::{Entity, Identity},
    lease::LeaseHolder,
    name::{Accessor, EntityId, LeaseId, WorkloadName},
    offboarding::Offboarded,
    quarantine::{Quarantine, Quarantined},
    secret::SecretBytes,
    settings::Settings,
};

use super::{
    approle::{ROLE_ID, SECRET_ID, known},
    asked::Ask,
    world::{CUTOVER, HO, NOW, World, authority, names, outage, peer, phase, replica, workload},
};
use crate::{
    entropy::Entropy as _,
    samples::{self, Seeded, T0, now},
    sequencer::Lane,
    store::tests::{Home, rounds, wait},
    view::View,
};

mod policies;

const APP: &str = "s.app";
const CHILD: &str = "s.child";
const ENTITY: &str = "s.entity";
const PAGED: &str = "s.paged";
const PARENT: &str = "s.parent";
const REVOKED: &str = "s.revoked";

/// A replica on disk, and what is asked of it.
struct Stored {
    home: Home,
    settings: Arc<Settings>,
    /// Rows as an earlier commit left them.
    earlier: Vec<Row>,
    whole: Vec<u8>,
    anchor: Vec<u8>,
}

/// A row as it lies there.
#[derive(Clone, PartialEq, Debug)]
struct Row {
    tab: i64,
    key: Vec<u8>,
    version: i64,
    epoch: i64,
    payload: Vec<u8>,
}

/// What came of each question: its status, and its body without what differs each time.
type Answers = BTreeMap<&'static str, (u16, String)>;

impl Stored {
    fn made(seed: u64, offboarded: bool) -> Self {
        let home = Home::made_in_memory(seed);
        let keys = home.open().view.keys().clone();
        // Everything that may be put back gives more than what came after it.
        let lenient = world(keys.clone(), true, false);
        let settings = Arc::new(lenient.settings.clone());
        let strict = world(keys, false, offboarded);
        let store = |changes| {
            let opened = home.try_open_with(Arc::clone(&settings)).unwrap();
            let sequencer = opened.start(|| now(CUTOVER)).unwrap();
            wait(&sequencer, Lane::Grant, changes, Expects::default()).unwrap();
            sequencer.stop();
        };
        store(lenient.changes);
        let earlier = rows(&home.location.path);
        store(strict.changes);
        Self {
            settings,
            earlier,
            whole: fs::read(&home.location.path).unwrap(),
            anchor: fs::read(home.location.anchor.as_ref().unwrap()).unwrap(),
            home,
        }
    }

    /// As it was stored, but for what `change` does to the file.
    fn after(&self, change: impl FnOnce(&Connection)) -> View {
        let path = &self.home.location.path;
        let _ = fs::remove_file(path.with_extension("db-wal"));
        fs::write(path, &self.whole).unwrap();
        fs::write(self.home.location.anchor.as_ref().unwrap(), &self.anchor).unwrap();
        let connection = Connection::open(path).unwrap();
        change(&connection);
        connection.close().unwrap();
        self.open()
    }

    fn open(&self) -> View {
        let opened = self.home.try_open_with(Arc::clone(&self.settings));
        let opened = opened.unwrap_or_else(|error| panic!("{error}"));
        Arc::into_inner(opened.view).unwrap()
    }
}

fn world(keys: crate::key::Keys, lenient: bool, offboarded: bool) -> World {
    let mut world = World::following();
    world.keys = keys;
    world.settings.workloads.push(workload("cron"));
    let entity = |policies: &[&str]| {
        let identity = Identity {
            entity: Some(Entity {
                id: "entity-1".into(),
                name: "app".into(),
                policies: policies.iter().map(|name| (*name).to_owned()).collect(),
                disabled: false,
                ..Entity::default()
            }),
            groups: Vec::new(),
        };
        let id = EntityId::parse("entity-1").unwrap();
        Change::Identity(id, Box::new(identity), T0)
    };
    let more: &[&str] = if lenient {
        &["app", "default", "admin"]
    } else {
        &["app", "default"]
    };
    let mut world = known(world, |_| {}, |_| {})
        .secret("app/db", 2)
        .secret("app/doubted", 1)
        .secret("shop", 1)
        .token(APP, more)
        .token(PAGED, &["paged", "default"])
        .token(REVOKED, &["app", "default"])
        .token(PARENT, &["parent", "default"])
        .token_as(ENTITY, &["default"], |grant| {
            grant.facts.entity_id = EntityId::parse("entity-1").ok();
        })
        .and(authority("cron", T0))
        .and(entity(if lenient { &["app", "admin"] } else { &["app"] }))
        .and(Change::Mark(samples::mark(CUTOVER)));
    let parent = world.digest(PARENT);
    world = world.token_as(CHILD, &["app", "default"], |grant| {
        grant.parent = Some(parent)
    });
    world = replica(world, Settled::Not);
    let lease = |id: &str, holder| {
        let lease = shared::lease::Lease {
            place: samples::place("database/creds/ro"),
            holder,
            ..samples::lease(id)
        };
        let lease = shared::lease::Lease {
            place: shared::kv::Place {
                mount: shared::name::MountAccessor::parse("database_1").unwrap(),
                ..lease.place
            },
            ..lease
        };
        Change::Lease(
            Box::new(lease),
            Some(SecretBytes::new(b"{\"u\":1}".to_vec())),
        )
    };
    world = world
        .and(lease("database/creds/ro/1", LeaseHolder::Shared))
        .and(Change::Credential(
            CredentialName::Standing(WorkloadName::parse("orders").unwrap()),
            shared::change::Credential {
                token: shared::secret::SecretText::new("s.standing".into()),
                accessor: Accessor::parse("standing").unwrap(),
                expires: T0.plus(Duration::from_secs(3600)),
                renewable: true,
                issued_at: T0,
            },
        ));
    if lenient {
        let mut policies = world.changes.iter_mut().filter_map(|change| match change {
            Change::Policies(set) => Some(set),
            _ => None,
        });
        let set = policies.next().unwrap();
        let app = set.policies.get_mut("app").unwrap();
        app.text = app.text.replace("\"deny\"", "\"read\"");
        return world.and(phase(Phase::Following));
    }
    let revoked = Revocation {
        digest: world.digest(REVOKED),
        accessor: Accessor::parse(&format!("accessor-of-{REVOKED}")).unwrap(),
        cause: RevokeCause::Operator,
        at: T0,
    };
    let quarantine = |what| Quarantine {
        what,
        ..samples::quarantine("paged")
    };
    let target = RevocationTarget::Lease(LeaseId::parse("database/creds/ro/gone").unwrap());
    world = world
        .and(Change::Revoked(revoked))
        .and(Change::Quarantine(Box::new(quarantine(
            Quarantined::Policy(names(&["paged"]).remove(0)),
        ))))
        .and(Change::Quarantine(Box::new(quarantine(
            Quarantined::Issuing(WorkloadName::parse("cron").unwrap()),
        ))))
        .and(Change::Queue(Box::new(QueuedRevocation::own(
            9, target, T0,
        ))))
        .and(samples::doubted("secret/data/app/doubted", T0))
        .and(phase(Phase::Holdover(outage("o-1"))));
    match offboarded {
        true => world.and(Change::Offboarded(Some(Offboarded { at: T0 }))),
        false => world,
    }
}

/// Every question, put to `view`.
fn answers(view: &View) -> Answers {
    let read = |token, path| {
        Ask::new(view, "GET", path)
            .token(token)
            .peer(peer("orders"))
    };
    let app = |path| read(APP, path);
    let login = |workload: &str| {
        let ask = Ask::new(view, "PUT", "/v1/auth/holdover/login");
        ask.peer(peer(workload)).body(json!({"role": workload}))
    };
    let standing = |workload| {
        let ask = Ask::new(view, "GET", "/v1/secret/data/app/db");
        ask.standing(workload).peer(peer(workload))
    };
    let list = Ask::new(view, "LIST", "/v1/secret/metadata/app").token(APP);
    let paged = Ask::new(view, "LIST", "/v1/secret/metadata/app").token(PAGED);
    let approle = Ask::new(view, "PUT", "/v1/auth/approle/login").peer(peer("orders"));
    let approle = approle.body(json!({"role_id": ROLE_ID, "secret_id": SECRET_ID}));
    let create = Ask::new(view, "PUT", "/v1/auth/token/create")
        .token(HO)
        .peer(peer("orders"));
    let create = create.body(json!({"policies": ["default"]}));
    let renew = Ask::new(view, "PUT", "/v1/auth/token/renew-self")
        .token(HO)
        .peer(peer("orders"));
    let gone = Ask::new(view, "PUT", "/v1/sys/leases/lookup").token(APP);
    let gone = gone.body(json!({"lease_id": "database/creds/ro/gone"}));
    let all = [
        ("a value", app("/v1/secret/data/app/db")),
        ("another value", app("/v1/secret/data/shop")),
        ("what is denied", app("/v1/secret/data/app/hidden")),
        ("what is absent", app("/v1/secret/data/app/none")),
        ("what is doubted", app("/v1/secret/data/app/doubted")),
        ("a list", list),
        ("a lease", app("/v1/database/creds/ro")),
        (
            "a look-up of what an admin has",
            Ask::new(view, "PUT", "/v1/auth/token/create-orphan")
                .token(APP)
                .peer(peer("orders")),
        ),
        ("itself", app("/v1/auth/token/lookup-self")),
        ("by a policy in quarantine", paged),
        (
            "by a revoked token",
            read(REVOKED, "/v1/secret/data/app/db"),
        ),
        (
            "by a parent, itself",
            read(PARENT, "/v1/auth/token/lookup-self"),
        ),
        ("by a child", read(CHILD, "/v1/secret/data/app/db")),
        ("by an identity", read(ENTITY, "/v1/secret/data/app/db")),
        (
            "by an identity, itself",
            read(ENTITY, "/v1/auth/token/lookup-self"),
        ),
        ("by a replica grant", read(HO, "/v1/secret/data/app/db")),
        (
            "by an unknown token",
            read("s.unknown", "/v1/secret/data/app/db"),
        ),
        ("a creation", create),
        ("a renewal", renew),
        ("a lease that was given up", gone),
        ("by a standing token", standing("orders")),
        ("by another standing token", standing("cron")),
        ("a login", login("orders")),
        ("a login in quarantine", login("cron")),
        ("a login by AppRole", approle),
    ];
    all.into_iter()
        .map(|(name, ask)| {
            let said = ask.said();
            let text = match said.status {
                // A new token is new each time, and ages follow what was verified.
                200 if !name.contains("login") && name != "a creation" => {
                    let mut body = said.body.clone();
                    body["request_id"] = json!(null);
                    body["warnings"] = json!(null);
                    body.to_string()
                }
                _ => String::new(),
            };
            (name, (said.status, text))
        })
        .collect()
}

/// Those that are left to the primary where `base` was not.
fn compare(base: &Answers, after: &Answers, context: &str) -> Vec<&'static str> {
    let mut lost = Vec::new();
    for (name, (status, text)) in after {
        let (expected, body) = &base[name];
        // What a draining token is told, which lengthens nothing.
        let less = *name == "a renewal" && renewed_for(text).is_some_and(|left| left <= LEFT);
        if less || status == expected && (text == body || *status != 200) {
            continue;
        }
        assert_eq!(
            *status, 503,
            "{context}: {name} was {expected}, {text} {body}"
        );
        lost.push(*name);
    }
    lost
}

/// What is left of the replica grant's life, in seconds.
const LEFT: u64 = 900 + CUTOVER - NOW;

/// How long a renewed token lives.
fn renewed_for(body: &str) -> Option<u64> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    body["auth"]["lease_duration"].as_u64()
}

fn rows(path: &Path) -> Vec<Row> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT tab, key, version, epoch, payload FROM row ORDER BY tab, key";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        Ok(Row {
            tab: row.get(0)?,
            key: row.get(1)?,
            version: row.get(2)?,
            epoch: row.get(3)?,
            payload: row.get(4)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn delete(connection: &Connection, row: &Row) {
    let sql = "DELETE FROM row WHERE tab = ?1 AND key = ?2";
    connection.execute(sql, params![row.tab, row.key]).unwrap();
}

fn put(connection: &Connection, row: &Row) {
    let sql =
        "INSERT OR REPLACE INTO row(tab, key, version, epoch, payload) VALUES (?1, ?2, ?3, ?4, ?5)";
    let of = params![row.tab, row.key, row.version, row.epoch, row.payload];
    connection.execute(sql, of).unwrap();
}

/// What somebody may do to a row.
fn changed(row: &Row, random: &Seeded) -> Vec<(&'static str, Row)> {
    let flip = |bytes: &[u8]| {
        let mut at = [0; 8];
        random.fill(&mut at).unwrap();
        let mut bytes = bytes.to_vec();
        let at = usize::try_from(u64::from_le_bytes(at) % bytes.len() as u64).unwrap();
        bytes[at] ^= 1 << (at % 8);
        bytes
    };
    vec![
        (
            "payload",
            Row {
                payload: flip(&row.payload),
                ..row.clone()
            },
        ),
        (
            "cut",
            Row {
                payload: row.payload[..row.payload.len() / 2].to_vec(),
                ..row.clone()
            },
        ),
        (
            "no payload",
            Row {
                payload: Vec::new(),
                ..row.clone()
            },
        ),
        (
            "key",
            Row {
                key: flip(&row.key),
                ..row.clone()
            },
        ),
        (
            "short key",
            Row {
                key: row.key[..5].to_vec(),
                ..row.clone()
            },
        ),
        (
            "version",
            Row {
                version: row.version + 1,
                ..row.clone()
            },
        ),
        (
            "no version",
            Row {
                version: -1,
                ..row.clone()
            },
        ),
        (
            "epoch",
            Row {
                epoch: row.epoch + 1,
                ..row.clone()
            },
        ),
        (
            "no epoch",
            Row {
                epoch: -1,
                ..row.clone()
            },
        ),
        (
            "table",
            Row {
                tab: next_table(row),
                ..row.clone()
            },
        ),
    ]
}

fn next_table(row: &Row) -> i64 {
    row.tab % 27 + 1
}

/// Questions that may depend on a row of this table. Of the others each is answered as before.
fn may_depend(tab: i64, name: &str) -> bool {
    let issues = name.contains("login") || name == "a creation" || name == "a renewal";
    let reads_by = |by: &str| name.starts_with(by);
    match tab {
        1 => issues || name.contains("standing"),
        // Without mounts little can be told; whoever is denied at the door is so all the same.
        2 => true,
        3 | 4 | 12 | 16 | 21 | 23 => {
            matches!((tab, name), (12, "what is absent" | "a list"))
                || tab == 16 && name == "a lease that was given up"
                || tab == 21 && name == "a login by AppRole"
        }
        // Whose record it is, and whatever hangs on it.
        5 | 19 => !issues || name != "a login",
        6 => reads_by("by an identity"),
        7 | 17 | 18 | 24 => !issues && !name.ends_with("itself"),
        8 | 9 => name == "a lease",
        27 => issues || name == "a lease",
        11 | 13 => true,
        14 | 15 => true,
        20 => name == "a login by AppRole",
        // One of which cannot be told may be of anything.
        22 => true,
        _ => true,
    }
}

#[test]
fn whatever_is_done_to_a_row_nothing_more_is_granted_and_what_does_not_depend_on_it_is() {
    let seed = 20_261_128;
    println!("seed {seed}");
    let random = Seeded::new(seed);
    for offboarded in [false, true] {
        let stored = Stored::made(1, offboarded);
        let base = answers(&stored.after(|_| {}));
        let good: Vec<_> = base
            .iter()
            .filter(|(_, (status, _))| *status == 200)
            .collect();
        assert!(good.len() >= if offboarded { 8 } else { 14 }, "{base:#?}");
        let present = rows(&stored.home.location.path);
        let check = |what: &str, row: &Row, change: &dyn Fn(&Connection)| {
            let context = format!(
                "{what} of a row of table {}, offboarded {offboarded}",
                row.tab
            );
            let view = stored.after(change);
            let lost = compare(&base, &answers(&view), &context);
            for name in &lost {
                // A row that was moved leaves the other table with one too many.
                let other = what == "table" && may_depend(next_table(row), name);
                assert!(
                    other || may_depend(row.tab, name),
                    "{context}: {name} is lost"
                );
            }
            let damage = view.damage();
            drop(view);
            let again = stored.open();
            let (first, second) = (format!("{damage:?}"), format!("{:?}", again.damage()));
            let lost_again = compare(&base, &answers(&again), &format!("{context}, again"));
            // What is told, and what it costs, is no less after another start.
            assert_eq!(first, second, "{context}");
            for name in lost {
                assert!(
                    lost_again.contains(&name),
                    "{context}: {name} is back by a restart"
                );
            }
        };
        for row in &present {
            check("deletion", row, &|connection| delete(connection, row));
            let ways = changed(row, &random).into_iter();
            // The other world differs in one row alone.
            for (what, changed) in ways.take(if offboarded { 1 } else { usize::MAX }) {
                check(what, row, &|connection| {
                    delete(connection, row);
                    put(connection, &changed);
                });
            }
            let before = stored.earlier.iter();
            let mut before = before.filter(|old| (old.tab, &old.key) == (row.tab, &row.key));
            if let Some(old) = before.next().filter(|old| *old != row) {
                check("an older version", row, &|connection| put(connection, old));
            }
            for other in present
                .iter()
                .filter(|other| other.tab == row.tab && *other != row)
            {
                check("an exchange", row, &|connection| {
                    let (one, two) = (row.payload.clone(), other.payload.clone());
                    put(
                        connection,
                        &Row {
                            payload: two,
                            ..row.clone()
                        },
                    );
                    put(
                        connection,
                        &Row {
                            payload: one,
                            ..other.clone()
                        },
                    );
                });
            }
        }
    }
}

/// Several at once, of any tables, in any way.
#[test]
fn whatever_is_done_to_several_rows_nothing_more_is_granted() {
    let seed = 7;
    println!("seed {seed}");
    let random = Seeded::new(seed);
    let draw = |below: usize| {
        let mut bytes = [0; 8];
        random.fill(&mut bytes).unwrap();
        usize::try_from(u64::from_le_bytes(bytes) % below as u64).unwrap()
    };
    let stored = Stored::made(1, false);
    let base = answers(&stored.after(|_| {}));
    let present = rows(&stored.home.location.path);
    for round in 0..rounds(150) {
        let mut done = Vec::new();
        let view = stored.after(|connection| {
            for _ in 0..=draw(4) {
                let row = &present[draw(present.len())];
                let ways = changed(row, &random);
                let way = draw(ways.len() + 2);
                done.push((row.tab, way));
                delete(connection, row);
                match ways.get(way) {
                    Some((_, changed)) => put(connection, changed),
                    None if way == ways.len() => {}
                    None => stored
                        .earlier
                        .iter()
                        .filter(|old| old.tab == row.tab)
                        .for_each(|old| put(connection, old)),
                }
            }
        });
        let context = format!("round {round}: {done:?}");
        compare(&base, &answers(&view), &context);
        drop(view);
        compare(&base, &answers(&stored.open()), &context);
    }
}
