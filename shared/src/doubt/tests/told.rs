//! Claims about what an answer says of a key, over a model of KV v2.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Told, kept, metadata, names, value};
use crate::{
    kv::{Content, Form, KvKey, KvVersion, Place, VersionState},
    name::{MountAccessor, Namespace, RequestPath},
    provenance::StateTold,
    time::WallTime,
};

/// What can be done to a key.
#[derive(Clone, Copy, Debug)]
enum Act {
    Write,
    Delete(u64),
    Undelete(u64),
    Destroy(u64),
    Annotate,
    Forget,
}

/// A key as the primary has it; none is no key.
#[derive(Clone, PartialEq, Debug, Default)]
struct Key {
    created: i64,
    updated: i64,
    notes: i64,
    versions: BTreeMap<u64, (i64, Option<i64>, bool)>,
}

type State = Option<Key>;

/// What an answer of the primary says.
fn say(status: u16, body: &[u8]) -> StateTold<'_> {
    StateTold {
        is_there: status == 200,
        body,
        current: false,
    }
}

fn time(at: i64) -> String {
    WallTime::from_secs(1_700_000_000 + at).to_string()
}

fn done(state: &State, act: Act, at: i64) -> State {
    let mut key = state.clone().unwrap_or(Key {
        created: at,
        ..Key::default()
    });
    let there = state.is_some();
    match act {
        Act::Write => {
            let next = key.versions.keys().next_back().map_or(1, |last| last + 1);
            key.versions.insert(next, (at, None, false));
            key.updated = at;
        }
        Act::Annotate => {
            key.notes = at;
            key.updated = at;
        }
        Act::Forget => return None,
        Act::Delete(of) | Act::Undelete(of) | Act::Destroy(of) => {
            let version = key.versions.get_mut(&of).filter(|_| there);
            let Some((_, deleted, destroyed)) = version else {
                return state.clone();
            };
            match act {
                _ if *destroyed => {}
                Act::Delete(_) => *deleted = deleted.or(Some(at)),
                Act::Undelete(_) => *deleted = None,
                _ => *destroyed = true,
            }
        }
    }
    Some(key)
}

fn text(metadata: &Value, data: &Value) -> Vec<u8> {
    json!({ "request_id": "r", "lease_id": "", "data": { "data": data, "metadata": metadata }, "auth": null })
        .to_string()
        .into_bytes()
}

/// What `data/` answers.
fn read(state: &State, wanted: Option<u64>) -> (u16, Vec<u8>) {
    let absent = || (404, b"{\"errors\":[]}".to_vec());
    let Some(key) = state else { return absent() };
    let current = key.versions.keys().next_back().copied().unwrap_or(0);
    let number = wanted.unwrap_or(current);
    let Some((created, deleted, destroyed)) = key.versions.get(&number) else {
        return absent();
    };
    let metadata = json!({
        "version": number, "created_time": time(*created), "destroyed": destroyed,
        "deletion_time": deleted.map(time).unwrap_or_default(), "custom_metadata": notes(key),
    });
    match deleted.is_some() || *destroyed {
        true => (404, text(&metadata, &Value::Null)),
        false => (200, text(&metadata, &json!({ "n": created }))),
    }
}

fn notes(key: &Key) -> Value {
    match key.notes {
        0 => Value::Null,
        at => json!({ "note": at.to_string() }),
    }
}

fn shown(key: &Key) -> String {
    let versions = key
        .versions
        .iter()
        .map(|(number, (created, deleted, destroyed))| {
            let dates = json!({
                "created_time": time(*created), "destroyed": destroyed,
                "deletion_time": deleted.map(time).unwrap_or_default(),
            });
            (number.to_string(), dates)
        });
    let versions: serde_json::Map<String, Value> = versions.collect();
    json!({
        "created_time": time(key.created), "updated_time": time(key.updated), "custom_metadata": notes(key),
        "current_version": key.versions.keys().next_back().copied().unwrap_or(0), "versions": versions,
    })
    .to_string()
}

/// What `metadata/` answers.
fn read_metadata(state: &State) -> (u16, Vec<u8>) {
    match state {
        None => (404, b"{\"errors\":[]}".to_vec()),
        Some(key) => (200, format!("{{\"data\":{}}}", shown(key)).into_bytes()),
    }
}

/// What is kept after a pass.
fn held(state: &State) -> Option<KvKey> {
    let key = state.as_ref()?;
    let versions = key
        .versions
        .iter()
        .map(|(number, (_, deleted, destroyed))| {
            let version = KvVersion {
                deletion_time: deleted.map(time).unwrap_or_default(),
                destroyed: *destroyed,
            };
            (*number, version)
        });
    Some(KvKey {
        place: Place {
            namespace: Namespace::default(),
            mount: MountAccessor::parse("kv_1").unwrap(),
            path: RequestPath::parse("secret/data/a").unwrap(),
        },
        current: key.versions.keys().next_back().copied().unwrap_or(0),
        versions: versions.collect(),
        metadata: shown(key),
    })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Write),
        2 => (1u64..4).prop_map(Act::Delete),
        1 => (1u64..4).prop_map(Act::Undelete),
        1 => (1u64..4).prop_map(Act::Destroy),
        1 => Just(Act::Annotate),
        1 => Just(Act::Forget),
    ]
}

/// The states that a key goes through.
fn history() -> impl Strategy<Value = Vec<State>> {
    proptest::collection::vec(act(), 1..14).prop_map(|acts| {
        let mut states = Vec::from([None]);
        for (at, act) in (1..).zip(acts) {
            let next = states.last().map(|last| done(last, act, at));
            states.extend(next);
        }
        states
    })
}

fn is_newer(told: Told) -> bool {
    matches!(told, Told::Newer { .. })
}

proptest! {
    /// An answer that comes later in the life of a key never counts as older, nor as the same where it shows more.
    #[test]
    fn what_came_after_is_never_taken_for_older_or_the_same(
        states in history(),
        pair in any::<(proptest::sample::Index, proptest::sample::Index)>(),
        wanted in proptest::option::of(1u64..4),
    ) {
        let (one, other) = (pair.0.index(states.len()), pair.1.index(states.len()));
        let (before, after) = (&states[one.min(other)], &states[one.max(other)]);
        let (status, body) = read(after, wanted);
        let told = value(say(status, &body), wanted, held(before).as_ref());
        let same = read(before, wanted) == (status, body.clone());
        prop_assert_ne!(told, Told::Older);
        prop_assert_ne!(told, Told::Nothing);
        prop_assert!(same || told != Told::Same, "{:?} {:?}", before, after);
        let (status, body) = read_metadata(after);
        let told = metadata(say(status, &body), held(before).as_ref());
        prop_assert_ne!(told, Told::Older);
        prop_assert_eq!(told == Told::Same, before == after);
    }

    /// What was read last time, and is read again, is the same.
    #[test]
    fn what_is_kept_is_the_same(states in history(), at in any::<proptest::sample::Index>(), wanted in proptest::option::of(1u64..4)) {
        let state = &states[at.index(states.len())];
        let (status, body) = read(state, wanted);
        prop_assert_eq!(value(say(status, &body), wanted, held(state).as_ref()), Told::Same);
        let (status, body) = read_metadata(state);
        prop_assert_eq!(metadata(say(status, &body), held(state).as_ref()), Told::Same);
    }

    /// A node that is behind by writes alone makes nothing look newer.
    #[test]
    fn a_version_from_before_is_older(writes in 2u64..8, behind in 1u64..7) {
        let mut states: Vec<State> = Vec::from([None]);
        for at in 1..=writes {
            let next = done(&states[states.len() - 1], Act::Write, i64::try_from(at).unwrap());
            states.push(next);
        }
        let (last, old) = (states.len() - 1, usize::try_from(writes - behind.min(writes - 1)).unwrap());
        let (status, body) = read(&states[old], None);
        prop_assert_eq!(value(say(status, &body), None, held(&states[last]).as_ref()), Told::Older);
        let (status, body) = read_metadata(&states[old]);
        prop_assert_eq!(metadata(say(status, &body), held(&states[last]).as_ref()), Told::Older);
        let (status, body) = read(&states[last], None);
        prop_assert!(is_newer(value(say(status, &body), None, held(&states[old]).as_ref())));
    }

    #[test]
    fn no_answer_makes_it_panic(is_there: bool, body: Vec<u8>, text in "[{}\\[\\]\":a-z0-9,]{0,60}") {
        let kept_key = held(&done(&None, Act::Write, 1));
        for body in [body.as_slice(), text.as_bytes()] {
            let told = StateTold { is_there, body, current: false };
            let _ = (value(told, None, kept_key.as_ref()), metadata(told, kept_key.as_ref()));
            let _ = (kept(told, None), names(told));
        }
    }
}

#[test]
fn a_new_version_and_a_deletion_are_newer() {
    let one = done(&None, Act::Write, 1);
    let told = |before: &State, after: &State| {
        let (status, body) = read(after, None);
        value(say(status, &body), None, held(before).as_ref())
    };
    let newer = |vanished| Told::Newer { vanished };
    assert_eq!(told(&None, &one), newer(false));
    assert_eq!(told(&one, &done(&one, Act::Write, 2)), newer(false));
    let deleted = done(&one, Act::Delete(1), 2);
    assert_eq!(told(&one, &deleted), newer(false));
    assert_eq!(told(&one, &done(&one, Act::Destroy(1), 2)), newer(false));
    assert_eq!(told(&one, &None), newer(true));
    // Whatever the primary's clock does, versions count up.
    let late = done(&None, Act::Write, 9);
    assert_eq!(told(&late, &done(&late, Act::Write, 5)), newer(false));
    // Undone, or not known yet at a node that is behind: nothing in the answer tells.
    assert_eq!(told(&deleted, &one), Told::Different);
    assert_eq!(told(&one, &done(&one, Act::Annotate, 2)), Told::Different);
    // Deleted with its metadata, and written anew: another life, with the same number.
    assert_eq!(told(&one, &done(&None, Act::Write, 9)), newer(false));
    assert_eq!(told(&done(&None, Act::Write, 9), &one), Told::Older);
}

#[test]
fn metadata_tells_by_its_last_write_what_came_first() {
    let deleted = done(&done(&None, Act::Write, 1), Act::Delete(1), 2);
    let undone = done(&deleted, Act::Undelete(1), 3);
    let noted = done(&undone, Act::Annotate, 4);
    let told = |before: &State, after: &State| {
        let (status, body) = read_metadata(after);
        metadata(say(status, &body), held(before).as_ref())
    };
    assert_eq!(told(&noted, &deleted), Told::Older);
    assert_eq!(told(&undone, &noted), Told::Newer { vanished: false });
    assert_eq!(
        told(&undone, &deleted),
        Told::Newer { vanished: false },
        "doubt costs one read"
    );
    assert_eq!(told(&deleted, &undone), Told::Different);
}

#[test]
fn answers_of_another_form_say_nothing() {
    let one = held(&done(&None, Act::Write, 1));
    for (status, body) in [
        (404, "{\"errors\":[\"no handler for route\"]}"),
        (404, "{\"data\":null,\"warnings\":[\"hint\"]}"),
        (200, "{\"data\":[]}"),
        (200, "{\"data\":{\"data\":{}}}"),
        (200, "{\"data\":null,\"wrap_info\":{}}"),
        (200, "{\"errors\":[]}"),
        (200, ""),
    ] {
        let told = say(status, body.as_bytes());
        assert_eq!(value(told, None, one.as_ref()), Told::Nothing, "{body}");
        assert_eq!(metadata(told, one.as_ref()), Told::Nothing, "{body}");
    }
}

#[test]
fn values_without_versions_are_compared_by_their_bytes() {
    let envelope = Form::default();
    let bare = Form::Bare(Content::default());
    let (live, gone) = (VersionState::Live, VersionState::Gone);
    let answer = br#"{"request_id":"r","lease_id":"","lease_duration":9,"data":{"x": 1}}"#;
    let says = |status, body: &[u8], held| kept(say(status, body), held);
    let data: &[u8] = br#"{"x": 1}"#;
    assert_eq!(says(200, answer, Some((live, &envelope, data))), Told::Same);
    assert_eq!(
        says(200, answer, Some((live, &envelope, b"{}"))),
        Told::Different
    );
    assert_eq!(
        says(200, answer, Some((gone, &envelope, data))),
        Told::Different
    );
    assert_eq!(says(200, answer, None), Told::Newer { vanished: false });
    let absent = b"{\"errors\":[]}";
    assert_eq!(
        says(404, absent, Some((live, &envelope, data))),
        Told::Newer { vanished: true }
    );
    assert_eq!(says(404, absent, None), Told::Same);
    assert_eq!(says(200, b"PEM", Some((live, &bare, b"PEM"))), Told::Same);
    assert_eq!(
        says(200, b"PEM 2", Some((live, &bare, b"PEM"))),
        Told::Different
    );
    assert_eq!(says(404, absent, Some((gone, &bare, absent))), Told::Same);
    let leased = br#"{"lease_id":"database/creds/x/1","data":{"x":1}}"#;
    assert_eq!(
        says(200, leased, Some((live, &envelope, data))),
        Told::Nothing
    );
}

#[test]
fn lists_name_what_they_show() {
    let body = br#"{"data":{"keys":["a","b/"],"key_info":{"a":{}}}}"#;
    assert_eq!(names(say(200, body)), ["a", "b/"]);
    assert!(names(say(200, b"{\"data\":{}}")).is_empty());
    assert!(names(say(404, b"{\"errors\":[]}")).is_empty());
}
