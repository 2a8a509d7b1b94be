//! The keeper beside a disk that hangs, and with a primary that knows no previous token.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use replica::sequencer::Lane;
use shared::{change::Expects, workload::OnRecovery};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    config::{Address, Config},
    samples::{self, bench::Bench},
};

/// A keeper on a replica whose writer stands still until this is dropped.
struct Hanging {
    bench: Bench,
    keeper: Keeper,
    release: mpsc::Sender<()>,
}

impl Hanging {
    /// A primary at `addresses`.
    fn new(addresses: &[Address]) -> Self {
        let bench = Bench::new(OnRecovery::Exchange);
        let mut config = Config::clone(&bench.config);
        config.primary = samples::primary_config(addresses);
        let upstream = Upstream::new(&config, bench.local.clone()).unwrap();
        let (release, held) = mpsc::channel::<()>();
        let nothing = Expects::default();
        let hang = move |_| {
            let _ = held.recv();
        };
        let sequencer = &bench.local.sequencer;
        sequencer.submit(Lane::Revocation, Vec::new(), nothing, hang);
        Self {
            keeper: Keeper::new(upstream),
            bench,
            release,
        }
    }

    fn token(&self, nr: u8) -> Credential {
        let now = self.bench.now().steady;
        Credential {
            token: SecretText::new(format!("s.{nr}")),
            accessor: Accessor::parse(&format!("accessor-{nr}")).unwrap(),
            expires: now.plus(Duration::from_secs(3600)),
            renewable: true,
            issued_at: now,
        }
    }

    /// The token in use.
    fn in_use(&self) -> Option<String> {
        let token = self.keeper.upstream.own_token()?;
        Some(token.expose().to_owned())
    }
}

/// Longer than the keeper may stand still.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_disk_that_hangs_keeps_no_token_from_use_and_has_the_last_one_afterwards() {
    let mut story = Hanging::new(&[]);
    for nr in [1, 2] {
        let kept = story.token(nr);
        let keeping = story.keeper.keep_token(kept, None);
        let kept = tokio::time::timeout(PATIENCE, keeping).await;
        kept.expect("the keeper stands still");
        assert_eq!(story.in_use(), Some(format!("s.{nr}")));
    }
    assert!(story.keeper.upstream.own_times().is_some());
    drop(story.release);
    let memory = |keeper: &Keeper| keeper.upstream.unstored().facts();
    // The first that was handed over, then the last.
    for _ in 0..3 {
        story.keeper.store_unstored().await;
    }
    assert_eq!(memory(&story.keeper), None);
    let stored = story.keeper.held(CredentialName::Own).unwrap();
    assert_eq!(stored.token.expose(), "s.2");
}

#[tokio::test]
async fn a_previous_token_that_the_primary_does_not_know_is_revoked_once_though_the_disk_takes_nothing()
 {
    let (address, revoked) = primary().await;
    let mut story = Hanging::new(&[address]);
    let (own, previous) = (story.token(2), story.token(1));
    let own = Credential {
        issued_at: WallTime::EPOCH,
        ..own
    };
    story.keeper.keep_token(own, Some(previous)).await;
    for _ in 0..3 {
        story.keeper.drop_previous().await;
    }
    assert_eq!(revoked.load(Ordering::Relaxed), 1);
    // Nor is it stored once the disk takes something.
    let memory = story.keeper.upstream.unstored();
    assert!(memory.get(&CredentialName::OwnPrevious).is_none());
    assert_eq!(memory.changes().unwrap().1.len(), 1);
    drop(story.release);
}

/// A primary that refuses every token, and how often it was asked to revoke one.
async fn primary() -> (Address, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let revoked = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&revoked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&counts)));
        }
    });
    let address = Address {
        url: format!("http://{at}"),
        tls: false,
        host: at.ip().to_string(),
        port: at.port(),
    };
    (address, revoked)
}

/// How the primary's own answers look.
const FORM: &str = "Content-Type: application/json\r\nCache-Control: no-store\r\n";

async fn answer(mut stream: TcpStream, revoked: Arc<AtomicUsize>) {
    while let Some(head) = request(&mut stream).await {
        let (status, body) = match head.contains("sys/health") {
            true => (
                "200 OK",
                r#"{"initialized":true,"sealed":false,"cluster_id":"ours","version":"2.7.2"}"#,
            ),
            false => ("403 Forbidden", r#"{"errors":["permission denied"]}"#),
        };
        if head.contains("revoke-self") {
            revoked.fetch_add(1, Ordering::Relaxed);
        }
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\n{FORM}Content-Length: {length}\r\n\r\n{body}");
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

/// The head of the next request, in small letters, once its body was read too.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&read).to_lowercase();
    let length = head.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(head)
}
