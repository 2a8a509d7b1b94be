//! A primary that is a script: raw bytes in, raw bytes out, with every way to fail in between.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use shared::name::ClusterId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use super::client::{Head, read_body, read_head};
use crate::config::Address;

/// What the primary does with a request.
pub(crate) enum Act {
    /// Answers with these bytes.
    Say(Vec<u8>),
    /// The same, later.
    SayAfter(Duration, Vec<u8>),
    /// Sends these bytes, and then ends the connection.
    Break(Vec<u8>),
    /// The same, but it resets the connection.
    Reset(Vec<u8>),
    /// Says nothing, and keeps the connection.
    Hang,
}

/// What a node shows itself to be.
#[derive(Clone, Copy)]
pub(crate) enum Node {
    /// Its answers are current as of when it showed itself.
    Active,
    /// Nothing shows that its answers are current: it does not go by an index.
    Standby,
}

/// A request as the primary received it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The request line and the headers, byte for byte.
    pub(crate) head: Head,
    /// The body.
    pub(crate) body: Vec<u8>,
}

type Script = Arc<dyn Fn(&Received) -> Act + Send + Sync>;

/// A scripted primary.
pub(crate) struct Primary {
    at: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    serving: AbortHandle,
}

impl Primary {
    /// A primary that does this.
    pub(crate) async fn start(script: impl Fn(&Received) -> Act + Send + Sync + 'static) -> Self {
        Self::start_as(Node::Active, script).await
    }

    /// The same by a node of this kind.
    pub(crate) async fn start_as(
        node: Node,
        script: impl Fn(&Received) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (script, seen): (Script, _) = (Arc::new(script), received.clone());
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, node, script.clone(), seen.clone()));
            }
        });
        Self {
            at,
            received,
            serving: serving.abort_handle(),
        }
    }

    /// One that answers everything with 200 and this body.
    pub(crate) async fn saying(body: &'static str) -> Self {
        Self::start(move |_| Act::Say(ok(body))).await
    }

    /// An address at which nobody listens.
    pub(crate) async fn dead() -> Self {
        let primary = Self::saying("").await;
        primary.serving.abort();
        let refused = async {
            while TcpStream::connect(primary.at).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), refused)
            .await
            .unwrap();
        primary
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Address {
        Address {
            url: format!("http://{}", self.at),
            tls: false,
            host: self.at.ip().to_string(),
            port: self.at.port(),
        }
    }

    /// What it received so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The only request that it received.
    pub(crate) fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received[0].clone()
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut stream: TcpStream, node: Node, script: Script, seen: Arc<Mutex<Vec<Received>>>) {
    let mut buffer = Vec::new();
    if !show(&mut stream, node, &mut buffer).await {
        return;
    }
    while let Some(head) = read_head(&mut stream, &mut buffer).await {
        let Some(body) = read_body(&mut stream, &mut buffer, &head, false).await else {
            return;
        };
        let received = Received { head, body };
        seen.lock().unwrap().push(received.clone());
        match script(&received) {
            Act::Say(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::SayAfter(delay, bytes) => {
                tokio::time::sleep(delay).await;
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::Break(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Act::Reset(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.set_zero_linger();
                return;
            }
            Act::Hang => {
                let _ = stream.read_to_end(&mut buffer).await;
                return;
            }
        }
    }
}

/// What every connection asks first, until it has seen enough: the health of the node.
async fn show(stream: &mut TcpStream, node: Node, buffer: &mut Vec<u8>) -> bool {
    const ASKED: &[u8] = b"GET /v1/sys/health HTTP/1.1\r\n";
    let health = format!(
        r#"{{"initialized":true,"sealed":false,"cluster_id":"{}","version":"2.7.2"}}"#,
        cluster()
    );
    let shown = match node {
        Node::Active => ok(&health),
        Node::Standby => with("429 x", "", &health),
    };
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                break end;
            }
            match stream.read_buf(buffer).await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        };
        let text = String::from_utf8_lossy(&buffer[..end + 2]).to_lowercase();
        // A client's own request for it says nothing of who sends it.
        if !buffer.starts_with(ASKED) || !text.contains("\r\nx-vault-request: true\r\n") {
            return true;
        }
        buffer.drain(..end + 4);
        if stream.write_all(&shown).await.is_err() {
            return false;
        }
    }
}

/// The cluster that it is of.
pub(crate) fn cluster() -> ClusterId {
    ClusterId::parse("3f1f0a8c-cluster").unwrap()
}

/// A header line by which an answer shows that it is another cluster's.
pub(crate) fn of_another_cluster() -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let index = STANDARD.encode(r#"{"cluster":"another","value":"7"}"#);
    format!("X-Vault-Index: {index}\r\n")
}

/// 200 with a JSON body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    with("200 OK", "", body)
}

/// Any status, with more header lines and a body.
pub(crate) fn with(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
