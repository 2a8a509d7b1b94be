//! Bytes as they are on a connection of their own, and what comes back.

use std::path::PathBuf;
use std::time::Duration;

use harness::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::asked::Stray;

/// How long an answer may take.
const BOUND: Duration = Duration::from_secs(10);

/// How long a client that says no more keeps its connection.
const HANGS: Duration = Duration::from_millis(200);

/// How a request ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// All of it is sent.
    Whole,
    /// The client closes its side in the middle.
    Cut,
    /// The client says no more, and goes away after a while.
    Hangs,
}

/// The way to one side.
#[derive(Clone)]
pub(crate) enum Way {
    Unix(PathBuf),
    Tcp(String),
}

/// What came back.
pub(crate) enum Heard {
    Answer(Answer),
    /// The connection was closed without one.
    Closed,
    Silence,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// `X-Holdover-Source`.
    pub(crate) source: Option<String>,
}

impl Way {
    pub(crate) fn of_url(url: &str) -> Result<Way> {
        let address = url.strip_prefix("http://").context(url.to_owned())?;
        Ok(Way::Tcp(address.to_owned()))
    }

    pub(crate) async fn ask(&self, stray: &Stray) -> Result<Heard> {
        match self {
            Way::Unix(path) => {
                let stream = UnixStream::connect(path).await.context(path.display())?;
                Ok(exchange(stream, stray).await)
            }
            Way::Tcp(address) => {
                let stream = TcpStream::connect(address).await.context(address)?;
                Ok(exchange(stream, stray).await)
            }
        }
    }
}

async fn exchange(stream: impl AsyncRead + AsyncWrite, stray: &Stray) -> Heard {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let send = async {
        // One that refuses early may close before it has read everything.
        let _ = writer.write_all(&stray.bytes).await;
        match stray.ending {
            Ending::Whole => std::future::pending().await,
            Ending::Cut => {
                let _ = writer.shutdown().await;
                std::future::pending().await
            }
            Ending::Hangs => tokio::time::sleep(HANGS).await,
        }
    };
    let hear = hear(&mut reader, stray.has_no_body_back);
    tokio::select! {
        heard = tokio::time::timeout(BOUND, hear) => heard.unwrap_or(Heard::Silence),
        () = send => Heard::Silence,
    }
}

async fn hear(reader: &mut (impl AsyncRead + Unpin), bodiless: bool) -> Heard {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        let ended = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => true,
            Ok(count) => {
                all.extend_from_slice(&buffer[..count]);
                false
            }
        };
        match parsed(&all, bodiless, ended) {
            Some(answer) => return Heard::Answer(answer),
            None if ended => return Heard::Closed,
            None => {}
        }
    }
}

/// The answer in `all`, once it is whole; what has no length is once the connection has `ended`.
fn parsed(all: &[u8], bodiless: bool, ended: bool) -> Option<Answer> {
    let end = all.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let rest = &all[end + 4..];
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    if (100..200).contains(&status) {
        return parsed(rest, bodiless, ended);
    }
    let header = |wanted: &str| {
        let mut named = head
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        let found = named.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let chunked = header("transfer-encoding").is_some();
    let length = header("content-length").and_then(|text| text.parse().ok());
    let body = match length {
        _ if bodiless || matches!(status, 204 | 304) => Vec::new(),
        _ if chunked => unchunked(rest).or_else(|| ended.then(Vec::new))?,
        Some(length) => rest.get(..length)?.to_vec(),
        None => ended.then(|| rest.to_vec())?,
    };
    Some(Answer {
        status,
        body,
        source: header("x-holdover-source"),
    })
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
