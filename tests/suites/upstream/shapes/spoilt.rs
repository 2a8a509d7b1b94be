//! Answers that are not the primary's: every way in which a good one is spoilt.

use std::sync::Arc;

use serde_json::{Value, json};

use super::stand_in::Answer;

type Change = Box<dyn Fn(&mut Value) + Send + Sync>;
type Spoil = Arc<dyn Fn(Answer) -> Answer + Send + Sync>;

/// One way, and what it is called.
pub(super) struct Spoilt {
    pub(super) name: String,
    pub(super) spoil: Spoil,
}

/// What a good answer is around its `data`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Around {
    /// A whole envelope.
    Envelope,
    /// An envelope with a lease.
    Lease,
    /// Nothing: it is one JSON object.
    Object,
    /// Nothing: it is a text of its own kind.
    Text,
}

const JSON: &str = "application/json";
const PAGE: &[u8] = b"<!DOCTYPE html><html><body><h1>It works!</h1></body></html>";

/// Every way for an answer of this kind.
pub(super) fn all(around: Around) -> Vec<Spoilt> {
    let mut all = vec![
        said("an empty body", 200, JSON, b""),
        said("a page of HTML", 200, "text/html; charset=utf-8", PAGE),
        said("a page of HTML that is called JSON", 200, JSON, PAGE),
        said("a balancer's 404", 404, "text/html", PAGE),
        said("a balancer's 403", 403, "text/html", PAGE),
        said("a balancer's 400", 400, "text/plain", b"bad request"),
        said("another's 404", 404, JSON, br#"{"message":"not found"}"#),
        said("another's 403", 403, JSON, br#"{"message":"forbidden"}"#),
        said("a redirect", 302, "text/html", b""),
        said("half a body as a whole", 206, JSON, b"{}"),
        of_answer("no Content-Type", |answer| answer.kind = None),
    ];
    if around == Around::Text {
        all.extend([
            said(
                "nothing of its kind",
                200,
                "application/pem-certificate-chain",
                b"",
            ),
            said("another kind of text", 200, "text/plain", b"-----BEGIN"),
            said("an object", 200, JSON, b"{}"),
            said("null", 200, JSON, b"null"),
            said("errors", 200, JSON, br#"{"errors":["internal error"]}"#),
            said("half an envelope", 200, JSON, br#"{"data":{"a":1}}"#),
            said("a 404 without a body", 404, JSON, b""),
            said("a 404 of null", 404, JSON, br#"{"errors":null}"#),
            said("a created thing", 201, "text/plain", b"x"),
        ]);
        return all;
    }
    all.extend([
        said("null", 200, JSON, b"null"),
        said("a list", 200, JSON, b"[]"),
        said("half an envelope", 200, JSON, br#"{"data":[]}"#),
        said("errors", 200, JSON, br#"{"errors":["internal error"]}"#),
        of_answer("half of it", |answer| {
            answer.body.truncate(answer.body.len() / 2);
        }),
        of_answer("all of it twice", |answer| {
            let again = answer.body.clone();
            answer.body.extend(again);
        }),
        of_answer("something behind it", |answer| {
            answer.body.extend_from_slice(b"<!-- cached -->");
        }),
        of_answer("called text", |answer| {
            answer.kind = Some("text/plain".to_owned());
        }),
    ]);
    if around == Around::Object {
        return all;
    }
    all.extend([
        of_answer("data twice", |answer| {
            let text = String::from_utf8_lossy(&answer.body);
            answer.body = text
                .replacen(r#""data":"#, r#""data":{},"data":"#, 1)
                .into();
        }),
        of_json("without data", |all| {
            drop(all.as_object_mut().unwrap().remove("data"))
        }),
        of_json("without a request id", |all| {
            all.as_object_mut().unwrap().remove("request_id");
        }),
        of_json("data of another name", |all| {
            all["Data"] = all["data"].take()
        }),
        of_json("data null", |all| all["data"] = Value::Null),
        of_json("data a text", |all| all["data"] = json!("data")),
        of_json("data a list", |all| all["data"] = json!([{ "a": 1 }])),
        of_json("errors beside it", |all| {
            all["errors"] = json!(["upstream failed"])
        }),
        of_json("a token in it", |all| all["auth"] = auth()),
        of_json("a wrapping in it", |all| all["wrap_info"] = wrapping()),
        of_json("warnings of another type", |all| {
            all["warnings"] = json!("old")
        }),
        of_json("a lease of nothing", |all| all["lease_id"] = json!("x/y/z")),
    ]);
    if around == Around::Lease {
        all.extend([
            of_json("without a lease", |all| all["lease_id"] = json!("")),
            of_json("a lease for no time", |all| {
                all["lease_duration"] = json!(0)
            }),
            of_json("a lease for a text", |all| {
                all["lease_duration"] = json!("1h")
            }),
        ]);
    }
    all
}

/// The field at `pointer` is missing, and is of another type.
pub(super) fn field(pointer: &str) -> [Spoilt; 2] {
    let (at, name) = pointer.rsplit_once('/').unwrap();
    let (parent, name) = (at.to_owned(), name.to_owned());
    let place = pointer.to_owned();
    [
        of_json(&format!("without {pointer}"), move |all| {
            let parent = all.pointer_mut(&parent).unwrap();
            let removed = parent.as_object_mut().unwrap().remove(&name);
            assert!(removed.is_some(), "the good answer has no {name}");
        }),
        of_json(&format!("{pointer} of another type"), move |all| {
            *all.pointer_mut(&place).unwrap() = json!([{ "no": 1 }]);
        }),
    ]
}

/// What is said of one JSON answer is changed.
pub(super) fn of_json(name: &str, change: impl Fn(&mut Value) + Send + Sync + 'static) -> Spoilt {
    let change: Change = Box::new(change);
    of_answer(name, move |answer| {
        let mut all = serde_json::from_slice(&answer.body).unwrap();
        change(&mut all);
        answer.body = serde_json::to_vec(&all).unwrap();
    })
}

fn of_answer(name: &str, change: impl Fn(&mut Answer) + Send + Sync + 'static) -> Spoilt {
    Spoilt {
        name: name.to_owned(),
        spoil: Arc::new(move |mut answer| {
            change(&mut answer);
            answer
        }),
    }
}

fn said(name: &str, status: u16, kind: &str, body: &[u8]) -> Spoilt {
    let answer = Answer {
        status,
        kind: Some(kind.to_owned()),
        body: body.to_vec(),
        endless: None,
    };
    of_answer(name, move |good| *good = answer.clone())
}

/// What 204 says is what nothing says, but where it means that there is nothing.
pub(super) fn nothing() -> Spoilt {
    said("nothing to show", 204, JSON, b"")
}

fn auth() -> Value {
    json!({
        "client_token": "s.FV7FA8g4mAmh7kjOnSwxVYLS", "accessor": "ic2DXMpznvxubkUZ1t3GOETR", "policies": ["default"],
        "token_policies": ["default"], "metadata": null, "lease_duration": 3600, "renewable": true, "entity_id": "",
        "token_type": "service", "orphan": true, "mfa_requirement": null, "num_uses": 0,
    })
}

fn wrapping() -> Value {
    json!({
        "token": "s.MQA6S6Z01SjxJ76WxW26fCNa", "accessor": "XdpgH9lkdkR9tBNXWmo7TiSN", "ttl": 60,
        "creation_time": "2026-11-28T04:46:12.820622128Z", "creation_path": "secret/data/odd",
    })
}
