//! Policy texts: the primary and the replica accept and reject alike, and what both accept decides alike.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use harness::{
    Context, Failure, Result,
    bao::{Primary, api::Api},
    clock,
    random::Seeded,
};
use serde_json::{Map, Value, json};
use shared::{
    acl::{Acl, AclRequest, Decision, Operation, Policy, PolicyEntry, PolicyError, Reason},
    identity::Identity,
    time::WallTime,
};
use tokio::task::JoinSet;

use crate::{mutate, rules};

/// Texts that are on their way at a time.
const LANES: usize = 6;

/// Attempts at making a text smaller.
const SHRINKING: usize = 300;

/// What is asked with every accepted text, besides the words of the text itself.
const PATHS: [&str; 9] = [
    "kv/a",
    "kv/",
    "kv/aA",
    "path",
    "a",
    "x/y",
    "kv/data/a",
    "np/x",
    "sys/policies/acl",
];

/// What the texts came to.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    pub(crate) texts: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    /// Decisions with accepted texts.
    pub(crate) decisions: u64,
    /// Accepted by the primary, and why not here.
    pub(crate) left: BTreeMap<&'static str, u64>,
    /// Why texts were rejected here.
    reasons: BTreeMap<String, u64>,
    pub(crate) differences: Vec<String>,
}

/// How one text fared.
enum Fate {
    Accepted { decisions: u64, unmodelled: bool },
    Rejected(Reason),
    Left(&'static str),
    Different(String),
}

/// Puts `count` texts to both sides.
pub(crate) async fn compare(random: &mut Seeded, primary: &Primary, count: u64) -> Result<Tally> {
    let samples = mutate::samples()?;
    let hot: Vec<_> = (0..40)
        .map(|_| crate::words::path(random, &["a".to_owned(), "a/b".to_owned()]))
        .collect();
    let expressions = [
        "identity.entity.id",
        "identity.groups.names.g.id",
        "time.now",
        "x",
    ]
    .map(str::to_owned);
    let ground = rules::Ground {
        hot: &hot,
        planted: &["a".to_owned()],
        expressions: &expressions,
        now: clock::wall().as_secs(),
    };
    let mut texts: Vec<_> = samples
        .iter()
        .map(|text| text.clone().into_bytes())
        .collect();
    while u64::try_from(texts.len())? < count {
        texts.push(mutate::text(random, &samples, &ground));
    }
    let (texts, next) = (Arc::new(texts), Arc::new(AtomicUsize::new(0)));
    let mut lanes = JoinSet::new();
    for nr in 0..LANES {
        let lane = Lane::new(primary.root(), nr).await?;
        let (texts, next) = (texts.clone(), next.clone());
        lanes.spawn(async move {
            let mut tally = Tally::default();
            while let Some(text) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
                let fate = lane.fate(text).await?;
                if let Fate::Different(what) = &fate {
                    let small = lane.shrunk(text).await?;
                    tally
                        .differences
                        .push(format!("{what}\n{:?}", String::from_utf8_lossy(&small)));
                }
                tally.count(fate);
                if tally.differences.len() > 3 {
                    break;
                }
            }
            Ok::<_, Failure>(tally)
        });
    }
    let mut tally = Tally::default();
    while let Some(done) = lanes.join_next().await {
        tally.join(done??);
    }
    Ok(tally)
}

impl Tally {
    fn count(&mut self, fate: Fate) {
        self.texts += 1;
        match fate {
            Fate::Accepted {
                decisions,
                unmodelled,
            } => {
                self.accepted += 1;
                self.decisions += decisions;
                if unmodelled {
                    *self.left.entry("a rule that is not modelled").or_default() += 1;
                }
            }
            Fate::Rejected(reason) => {
                self.rejected += 1;
                let text = reason.to_string();
                let kind = text
                    .split(['"', '\''])
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                *self.reasons.entry(kind).or_default() += 1;
            }
            Fate::Left(cause) => *self.left.entry(cause).or_default() += 1,
            Fate::Different(_) => {}
        }
    }

    fn join(&mut self, other: Tally) {
        self.texts += other.texts;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.decisions += other.decisions;
        for (cause, count) in other.left {
            *self.left.entry(cause).or_default() += count;
        }
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        self.differences.extend(other.differences);
    }
}

/// One policy at the primary, rewritten with every text, and a token that has it.
struct Lane {
    root: Api,
    name: String,
    token: String,
    api: Api,
}

impl Lane {
    async fn new(root: Api, nr: usize) -> Result<Lane> {
        let name = format!("text-{nr}");
        let body = json!({ "policies": [name], "no_default_policy": true });
        let token = root
            .post("auth/token/create", &body)
            .await?
            .text("/auth/client_token")?;
        let api = root.as_token(&token);
        Ok(Lane {
            root,
            name,
            token,
            api,
        })
    }

    async fn fate(&self, text: &[u8]) -> Result<Fate> {
        // What is no text can be sent in base64 alone, and is shown as what can be read of it.
        let sent = match String::from_utf8(text.to_vec()) {
            Ok(text) => text,
            Err(_) => base64::engine::general_purpose::STANDARD.encode(text),
        };
        let answer = self
            .root
            .put(
                &format!("sys/policies/acl/{}", self.name),
                &json!({ "policy": sent }),
            )
            .await;
        // Some texts (`"\\400"`) break the primary's handler, which then closes the connection: it did not take them.
        let (status, said) =
            answer.map_or((400, Value::Null), |answer| (answer.status, answer.body));
        let stored = decoded(&sent);
        let now = now()?;
        let ours = match std::str::from_utf8(&stored) {
            Ok(stored) => Policy::parse(&self.name, stored, now),
            Err(_) if status == 400 => return Ok(Fate::Rejected(Reason::NotUtf8)),
            Err(_) => return Ok(Fate::Left("not UTF-8")),
        };
        match (status, ours) {
            (200 | 204, Ok(policy)) => {
                self.decide(&policy, &String::from_utf8_lossy(&stored))
                    .await
            }
            (200 | 204, Err(error)) => Ok(match left(&error) {
                Some(cause) => Fate::Left(cause),
                None => Fate::Different(format!("the primary takes it; here: {error}")),
            }),
            (400, Err(error)) => Ok(Fate::Rejected(error.reason)),
            (400, Ok(_))
                if said
                    .to_string()
                    .contains("list_scan_response_keys_filter_path") =>
            {
                Ok(Fate::Left("list filter in a template that is not modelled"))
            }
            (400, Ok(_)) if stored.is_empty() => {
                Ok(Fate::Rejected(Reason::Expected { expected: "a text" }))
            }
            (status, ours) => {
                let ours = ours.map(|_| "accepted");
                Ok(Fate::Different(format!(
                    "the primary says {status} {said}; here: {ours:?}"
                )))
            }
        }
    }

    /// A few decisions by a text that both sides took.
    async fn decide(&self, policy: &Policy, text: &str) -> Result<Fate> {
        let unmodelled = policy.undecided().count() > 0;
        let compiled = Acl::compile([PolicyEntry::Known(policy)], &Identity::default(), now()?);
        let Ok(acl) = compiled else {
            return Ok(Fate::Accepted {
                decisions: 0,
                unmodelled,
            });
        };
        let paths = paths(text);
        let asked = json!({ "token": self.token, "paths": paths });
        let shown = self.root.post("sys/capabilities", &asked).await?.data()?;
        let mut decisions = 0;
        for path in &paths {
            let Ok(ours) = acl.capabilities(path) else {
                continue;
            };
            decisions += 1;
            if shown[path.as_str()] != json!(ours) {
                let what = format!(
                    "capabilities of {path:?}: {} at the primary, here {ours:?}",
                    shown[path.as_str()]
                );
                return Ok(Fate::Different(what));
            }
        }
        let Some(path) = paths.iter().find(|path| is_plain(path)) else {
            return Ok(Fate::Accepted {
                decisions,
                unmodelled,
            });
        };
        let data = json!({ "a": "x", "b": 1 });
        for (operation, data) in [
            (Operation::Read, json!({})),
            (Operation::List, json!({})),
            (Operation::Update, data),
        ] {
            let Some(same) = self.asked(&acl, operation, path, &data).await? else {
                continue;
            };
            decisions += 1;
            if let Err(what) = same {
                return Ok(Fate::Different(what));
            }
        }
        Ok(Fate::Accepted {
            decisions,
            unmodelled,
        })
    }

    /// Whether one request is decided alike; nothing where that is left to the primary.
    async fn asked(
        &self,
        acl: &Acl,
        operation: Operation,
        path: &str,
        data: &Value,
    ) -> Result<Option<std::result::Result<(), String>>> {
        let (answer, path) = match operation {
            Operation::List => (self.api.list(path).await?, format!("{path}/")),
            Operation::Update => (self.api.post(path, data).await?, path.to_owned()),
            _ => (self.api.get(path).await?, path.to_owned()),
        };
        let empty = Map::new();
        let decision = acl.decide(&AclRequest {
            namespace: "",
            path: &path,
            operation,
            data: data.as_object().unwrap_or(&empty),
            wrap_ttl: None::<Duration>,
            help: false,
        });
        let denied = answer.status == 403;
        let same = match decision {
            Decision::Undecidable(_) => return Ok(None),
            Decision::Deny => denied,
            Decision::Allow(_) => !denied,
        };
        Ok(Some(match same {
            true => Ok(()),
            false => Err(format!(
                "{operation:?} {path}: {} at the primary, here {decision:?}",
                answer.status
            )),
        }))
    }

    /// A smaller text that still fares differently.
    async fn shrunk(&self, text: &[u8]) -> Result<Vec<u8>> {
        let (mut text, mut attempts) = (text.to_vec(), SHRINKING);
        let mut size = text.len() / 2;
        while size > 0 && attempts > 0 {
            let mut at = 0;
            while at < text.len() && attempts > 0 {
                attempts -= 1;
                let mut less = text.clone();
                drop(less.drain(at..(at + size).min(text.len())));
                match self.fate(&less).await? {
                    Fate::Different(_) => text = less,
                    _ => at += size,
                }
            }
            size /= 2;
        }
        Ok(text)
    }
}

/// What the primary takes, and this replica leaves to it.
fn left(error: &PolicyError) -> Option<&'static str> {
    match error.reason {
        Reason::NotUtf8 => Some("escapes that are not UTF-8"),
        Reason::TooDeep => Some("nested too deep"),
        Reason::TooLong => Some("too long"),
        _ => None,
    }
}

fn now() -> Result<WallTime> {
    Ok(WallTime::from_millis(i64::try_from(
        clock::wall().as_millis(),
    )?))
}

/// What the primary makes of the field: base64, as Go reads it, is decoded.
fn decoded(sent: &str) -> Vec<u8> {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
    let engine = GeneralPurpose::new(&alphabet::STANDARD, config);
    let one_line = sent.replace(['\r', '\n'], "");
    engine
        .decode(one_line)
        .unwrap_or_else(|_| sent.as_bytes().to_vec())
}

/// Quoted words of the text, and things near them.
fn paths(text: &str) -> Vec<String> {
    let mut paths: Vec<String> = PATHS.map(str::to_owned).to_vec();
    for word in text.split('"').skip(1).step_by(2).take(12) {
        let word = word.trim_end_matches('*').replace('+', "q");
        if !word.is_empty() && word.len() < 200 {
            paths.push(word.clone());
            paths.push(format!("{word}x"));
        }
    }
    // What the server would split, trim or refuse.
    paths.retain(|path| {
        !path.contains([',', '\\']) && path.trim() == path && !path.chars().any(char::is_control)
    });
    paths.sort();
    paths.dedup();
    paths
}

fn is_plain(path: &str) -> bool {
    let plain = path
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_'));
    let mounted = ["sys", "auth", "identity", "cubbyhole"]
        .iter()
        .any(|mount| path.starts_with(mount));
    plain && !mounted && !path.contains("//") && !path.starts_with('/') && !path.ends_with('/')
}

/// What must hold of a run.
pub(crate) fn assert_alike(tally: &Tally) -> Result<()> {
    let left: u64 = tally.left.values().sum();
    if !tally.differences.is_empty() {
        let shown: Vec<_> = tally.differences.iter().take(8).cloned().collect();
        return Err(Failure::new(shown.join("\n=====\n")));
    }
    let balanced = tally.accepted * 5 >= tally.texts
        && tally.rejected * 5 >= tally.texts
        && left * 100 <= tally.texts;
    balanced.then_some(()).context(format!("{tally:?}"))
}
