//! Requests from a process of its own, under another uid and gid: the kernel attests that process, not the test.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::raw::{Ask, Client, Reply};
use crate::apart::Apart;
use crate::failure::{Context, Failure, Result};
use crate::place::Room;
use crate::process::Launch;

/// A user from whom requests come. Every request has a process of its own.
pub struct Visitor {
    executable: PathBuf,
    user: Option<(u32, u32)>,
    within: Vec<OsString>,
    room: Room,
}

impl Visitor {
    /// Requests as `uid` and `gid`, without further groups; needs root unless these are our own.
    ///
    /// `executable` is a program that calls [`serve_one`]: for suites `env!("CARGO_BIN_EXE_holdover-test-client")`.
    pub fn new(executable: &Path, uid: u32, gid: u32) -> Result<Visitor> {
        let ours = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let user = (ours != (uid, gid)).then_some((uid, gid));
        if user.is_some() && !crate::place::is_root() {
            return Err(Failure::new(format!("acting as {uid}:{gid} needs root")));
        }
        let room = Room::make()?;
        let executable = room.executable("holdover-test-client", executable)?;
        Ok(Visitor {
            executable,
            user,
            within: Vec::new(),
            room,
        })
    }

    /// Requests as ourselves, from processes in these namespaces, where we are root.
    pub fn within(executable: &Path, apart: &Apart) -> Result<Visitor> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let visitor = Visitor::new(executable, uid.as_raw(), gid.as_raw())?;
        Ok(Visitor {
            within: apart.enter(),
            ..visitor
        })
    }

    /// Sends one request from a new process and waits for its answer, at most `bound`.
    pub async fn send(&self, socket: &Path, ask: &Ask, bound: Duration) -> Result<Reply> {
        let mut all = self
            .send_all(socket, std::slice::from_ref(ask), bound)
            .await?;
        all.pop().context("the visitor gave no answer")
    }

    /// Sends several requests on one connection of one process; `bound` is for all of them.
    pub async fn send_all(
        &self,
        socket: &Path,
        asks: &[Ask],
        bound: Duration,
    ) -> Result<Vec<Reply>> {
        let errand = Errand {
            socket: socket.to_owned(),
            bound_ms: u64::try_from(bound.as_millis())?,
            asks: asks.iter().map(AskOnWire::from).collect(),
        };
        let input = serde_json::to_vec(&errand)?;
        let mut launch = Launch::new("visitor", &self.executable, &self.room.join("log"));
        launch.user = self.user;
        launch.within = self.within.clone();
        let spare = Duration::from_secs(10);
        let said = launch
            .output(&input, bound + spare)
            .await?
            .success()
            .context("visitor")?;
        let replies: Vec<ReplyOnWire> = serde_json::from_str(&said).context("visitor's answer")?;
        replies.into_iter().map(Reply::try_from).collect()
    }
}

/// The visitor's own process: reads an errand from stdin, runs it, writes the replies to stdout.
///
/// This is the `main` of `holdover-test-client`; the example calls it when it is started under that name.
pub fn serve_one() -> Result<()> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;
    let errand: Errand = serde_json::from_slice(&input)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let replies = runtime.block_on(run(errand))?;
    std::io::stdout().write_all(&serde_json::to_vec(&replies)?)?;
    Ok(())
}

async fn run(errand: Errand) -> Result<Vec<ReplyOnWire>> {
    let client = Client::unix(&errand.socket).within(Duration::from_millis(errand.bound_ms));
    let mut connection = client.connect().await?;
    let mut replies = Vec::new();
    for ask in errand.asks {
        replies.push(ReplyOnWire::from(&connection.send(&ask.try_into()?).await?));
    }
    Ok(replies)
}

#[derive(Serialize, Deserialize)]
struct Errand {
    socket: PathBuf,
    bound_ms: u64,
    asks: Vec<AskOnWire>,
}

#[derive(Serialize, Deserialize)]
struct AskOnWire {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

#[derive(Serialize, Deserialize)]
struct ReplyOnWire {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    took_us: u64,
}

impl From<&Ask> for AskOnWire {
    fn from(ask: &Ask) -> AskOnWire {
        AskOnWire {
            method: ask.method.to_string(),
            target: ask.target.clone(),
            headers: pairs(&ask.headers),
            body: STANDARD.encode(&ask.body),
        }
    }
}

impl TryFrom<AskOnWire> for Ask {
    type Error = Failure;

    fn try_from(wire: AskOnWire) -> Result<Ask> {
        let mut ask = Ask::new(&wire.method, &wire.target)?;
        ask.headers = header_map(&wire.headers)?;
        ask.body = STANDARD.decode(wire.body)?.into();
        Ok(ask)
    }
}

impl From<&Reply> for ReplyOnWire {
    fn from(reply: &Reply) -> ReplyOnWire {
        ReplyOnWire {
            status: reply.status,
            headers: pairs(&reply.headers),
            body: STANDARD.encode(&reply.body),
            took_us: u64::try_from(reply.took.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

impl TryFrom<ReplyOnWire> for Reply {
    type Error = Failure;

    fn try_from(wire: ReplyOnWire) -> Result<Reply> {
        Ok(Reply {
            status: wire.status,
            headers: header_map(&wire.headers)?,
            body: STANDARD.decode(wire.body)?.into(),
            took: Duration::from_micros(wire.took_us),
        })
    }
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

fn header_map(pairs: &[(String, String)]) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            HeaderName::from_bytes(name.as_bytes())?,
            HeaderValue::from_str(value)?,
        );
    }
    Ok(headers)
}
