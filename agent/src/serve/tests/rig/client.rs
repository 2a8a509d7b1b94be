//! A client that writes and reads raw bytes, so that nothing is normalised on the way.

use std::{path::Path, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// Nothing in these tests takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the socket.
pub(crate) struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
}

/// The first line and the headers of a message, byte for byte.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Head {
    /// The first header of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The target of a request.
    pub(crate) fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap()
    }
}

impl Heard {
    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.head.first.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// `X-Holdover-Source`.
    pub(crate) fn source(&self) -> &str {
        self.head.get("x-holdover-source").unwrap_or("nobody")
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Status and source at once.
    pub(crate) fn outcome(&self) -> (u16, &str) {
        (self.status(), self.source())
    }
}

impl Client {
    pub(crate) async fn connect(path: &Path) -> Self {
        Self {
            stream: UnixStream::connect(path).await.unwrap(),
            buffer: Vec::new(),
        }
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask(&mut self, request: &str) -> Heard {
        self.try_ask(request).await.expect("an answer")
    }

    /// The same; none where the connection is closed instead.
    pub(crate) async fn try_ask(&mut self, request: &str) -> Option<Heard> {
        self.write(request.as_bytes()).await;
        self.hear(request.starts_with("HEAD ")).await
    }

    /// Writes bytes; the other side may be gone.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads an answer; none where the connection is closed instead.
    pub(crate) async fn hear(&mut self, to_head: bool) -> Option<Heard> {
        let hearing = async {
            let head = read_head(&mut self.stream, &mut self.buffer).await?;
            let body = read_body(&mut self.stream, &mut self.buffer, &head, to_head).await?;
            Some(Heard { head, body })
        };
        tokio::time::timeout(PATIENCE, hearing)
            .await
            .expect("an answer or an end in time")
    }

    /// Reads the head of an answer; none where the connection is closed instead.
    pub(crate) async fn hear_head(&mut self) -> Option<Head> {
        let hearing = read_head(&mut self.stream, &mut self.buffer);
        tokio::time::timeout(PATIENCE, hearing)
            .await
            .expect("an answer or an end in time")
    }

    /// Reads so many bytes, or until the connection is closed: how many there were.
    pub(crate) async fn read_for(&mut self, wanted: usize) -> usize {
        let reading = async {
            while self.buffer.len() < wanted {
                match self.stream.read_buf(&mut self.buffer).await {
                    Ok(1..) => {}
                    _ => break,
                }
            }
            std::mem::take(&mut self.buffer).len()
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("bytes or an end in time")
    }

    /// A client over a connection that is there.
    pub(crate) fn over(connection: std::os::unix::net::UnixStream) -> Self {
        connection.set_nonblocking(true).unwrap();
        Self {
            stream: UnixStream::from_std(connection).unwrap(),
            buffer: Vec::new(),
        }
    }
}

/// A request without a body, with these header lines.
pub(crate) fn request(method: &str, target: &str, headers: &[&str]) -> String {
    with_body(method, target, headers, "")
}

/// A request with a body.
pub(crate) fn with_body(method: &str, target: &str, headers: &[&str], body: &str) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for header in headers {
        text += header;
        text += "\r\n";
    }
    if !body.is_empty() {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    text + "\r\n" + body
}

/// Reads up to the empty line.
pub(crate) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Option<Head> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
            break at;
        }
        more(stream, buffer).await?;
    };
    let head: Vec<u8> = buffer.drain(..end + 4).collect();
    let text = String::from_utf8_lossy(&head[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let first = lines.next()?.to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Some(Head { first, headers })
}

/// Reads a body of a stated length, or in chunks.
pub(crate) async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    head: &Head,
    none: bool,
) -> Option<Vec<u8>> {
    if none {
        return Some(Vec::new());
    }
    if head.get("transfer-encoding").is_some() {
        return read_chunks(stream, buffer).await;
    }
    let length = head
        .get("content-length")
        .map_or(0, |text| text.parse().unwrap());
    while buffer.len() < length {
        more(stream, buffer).await?;
    }
    Some(buffer.drain(..length).collect())
}

async fn read_chunks(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(2).position(|part| part == b"\r\n") {
                break at;
            }
            more(stream, buffer).await?;
        };
        let line: Vec<u8> = buffer.drain(..end + 2).collect();
        let length = usize::from_str_radix(std::str::from_utf8(&line[..end]).ok()?, 16).ok()?;
        while buffer.len() < length + 2 {
            more(stream, buffer).await?;
        }
        body.extend(buffer.drain(..length));
        buffer.drain(..2);
        if length == 0 {
            return Some(body);
        }
    }
}

async fn more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}
