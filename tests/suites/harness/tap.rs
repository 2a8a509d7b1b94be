//! The wire does to bytes what it was told, and keeps them.

use std::time::Duration;

use harness::tap::{Loss, Tap, Wire};
use harness::{Result, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long nothing must come where nothing is to come.
const SILENCE: Duration = Duration::from_millis(200);
const BOUND: Duration = Duration::from_secs(5);

/// A server that answers every five bytes with `answer`.
async fn server() -> Result<(String, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let task = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut five = [0; 5];
                while client.read_exact(&mut five).await.is_ok() {
                    let _ = client.write_all(b"answer").await;
                }
            });
        }
    });
    Ok((address, task))
}

/// What comes back for `hello` within `bound`; none if nothing does, empty if the connection is closed.
async fn hello(stream: &mut TcpStream, bound: Duration) -> Option<String> {
    let _ = stream.write_all(b"hello").await;
    let mut back = [0; 64];
    match tokio::time::timeout(bound, stream.read(&mut back)).await {
        Ok(Ok(read)) => Some(String::from_utf8_lossy(&back[..read]).into_owned()),
        Ok(Err(_)) => Some(String::new()),
        Err(_) => None,
    }
}

#[tokio::test]
async fn each_wire_breaks_in_its_own_way_and_mends() -> Result<()> {
    let (address, _server) = server().await?;
    let tap = Tap::to(&address).await?;
    for (wire, standing, fresh) in [
        (Wire::Whole, Some("answer"), Some("answer")),
        (Wire::Cut, Some(""), Some("")),
        (Wire::Silent, None, None),
        (Wire::Garbled, Some(""), Some("420 such is life\r\n\r\n")),
        (Wire::Unanswered, Some(""), Some("")),
        (Wire::Truncated(3), Some("ans"), Some("ans")),
    ] {
        let bound = |expected: Option<&str>| if expected.is_some() { BOUND } else { SILENCE };
        tap.set(Wire::Whole);
        let mut before = TcpStream::connect(tap.address()).await?;
        let answer = hello(&mut before, BOUND).await;
        assert_eq!(answer.as_deref(), Some("answer"));
        tap.set(wire);
        let answer = hello(&mut before, bound(standing)).await;
        assert_eq!(answer.as_deref(), standing, "{wire:?}");
        let mut after = TcpStream::connect(tap.address()).await?;
        let answer = hello(&mut after, bound(fresh)).await;
        assert_eq!(answer.as_deref(), fresh, "{wire:?}");
        if wire == Wire::Silent {
            tap.set(Wire::Whole);
            let mut late = [0; 6];
            before.read_exact(&mut late).await?;
            assert_eq!(&late, b"answer", "what was held back arrives");
        }
    }
    assert_eq!(tap.broken(), 4);
    Ok(())
}

#[tokio::test]
async fn both_directions_are_kept_by_connection() -> Result<()> {
    let (address, _server) = server().await?;
    let tap = Tap::to(&address).await?;
    for _ in 0..2 {
        let mut stream = TcpStream::connect(tap.address()).await?;
        for _ in 0..2 {
            let answer = hello(&mut stream, BOUND).await;
            assert_eq!(answer.as_deref(), Some("answer"));
        }
    }
    eventually(BOUND, "the records", async || {
        let (sent, received) = (tap.sent(), tap.received());
        let whole = sent == [b"hellohello".to_vec(), b"hellohello".to_vec()]
            && received == [b"answeranswer".to_vec(), b"answeranswer".to_vec()];
        if whole {
            Ok(())
        } else {
            Err(format!("{sent:?} {received:?}"))
        }
    })
    .await
}

#[tokio::test]
async fn the_answer_to_some_requests_is_lost_or_held_and_all_others_come() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let tap = Tap::to(&listener.local_addr()?.to_string()).await?;
    let _server = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 64];
                while client.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let _ = client.write_all(b"answer").await;
                }
            });
        }
    });
    let ask = async |stream: &mut TcpStream, path: &str| {
        let _ = stream
            .write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes())
            .await;
        let mut back = [0; 64];
        let read = tokio::time::timeout(SILENCE, stream.read(&mut back)).await;
        read.ok()
            .map(|read| read.is_ok_and(|read| &back[..read] == b"answer"))
    };
    tap.lose("/closed", Loss::Closed);
    tap.lose("/held", Loss::Held);
    let mut one = TcpStream::connect(tap.address()).await?;
    let mut two = TcpStream::connect(tap.address()).await?;
    assert_eq!(ask(&mut one, "/other").await, Some(true));
    assert_eq!(ask(&mut one, "/closed").await, Some(false));
    assert_eq!(ask(&mut two, "/held").await, None);
    tap.lose_nothing();
    let mut late = [0; 6];
    two.read_exact(&mut late).await?;
    assert_eq!(&late, b"answer", "what was held arrives");
    assert_eq!(ask(&mut two, "/held").await, Some(true));
    assert_eq!((tap.times_sent("/held"), tap.broken()), (2, 2));
    Ok(())
}
