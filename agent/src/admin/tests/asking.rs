//! What the command line says of a daemon that does not answer, or not well.

use std::{os::unix::net::UnixListener, path::Path};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// What a daemon has that never answers.
const BRIEFLY: Duration = Duration::from_millis(50);

async fn ask(socket: &Path, within: Duration) -> AdminClientError {
    let client = AdminClient::new(socket).unwrap();
    let asked = client.get::<DaemonStatus>("/v1/status", within).await;
    asked.unwrap_err()
}

/// Listens at `socket`, and answers one request with these bytes before it closes the connection.
fn answering(socket: &Path, answer: String) {
    let listener = UnixListener::bind(socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
}

#[tokio::test]
async fn a_daemon_that_is_away_is_named_with_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let remedy = "check that holdover run is running and that you may use its socket";
    let unreachable = |error: AdminClientError, why: &str| {
        let at = socket.display();
        let said = format!("cannot reach the daemon at {at}: {why}; {remedy}");
        assert_eq!(error.to_string(), said);
        assert!(matches!(error, AdminClientError::Unreachable { .. }));
    };
    let missing = ask(&socket, PATIENCE).await;
    unreachable(missing, "No such file or directory (os error 2)");
    drop(UnixListener::bind(&socket).unwrap());
    let dead = ask(&socket, PATIENCE).await;
    unreachable(dead, "Connection refused (os error 111)");
    std::fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let silent = ask(&socket, BRIEFLY).await;
    assert!(matches!(silent, AdminClientError::Timeout { within, .. } if within == BRIEFLY));
    assert!(silent.to_string().contains("did not answer within 0 s"));
    drop(listener);
}

/// Root may use any socket.
#[tokio::test]
async fn a_socket_that_one_may_not_use_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o000)).unwrap();
    let denied = ask(&socket, BRIEFLY).await;
    match rustix::process::geteuid().is_root() {
        true => assert!(matches!(denied, AdminClientError::Timeout { .. })),
        false => assert!(
            denied
                .to_string()
                .contains("Permission denied (os error 13)")
        ),
    }
    drop(listener);
}

#[tokio::test]
async fn an_answer_that_is_none_says_what_is_wrong_with_it() {
    let whole = |status: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let not_understood = "answered what this version does not understand: ";
    let closed = "closed the connection: connection closed before message completed";
    let cases = [
        (String::new(), closed),
        ("SSH-2.0\r\n".to_owned(), "closed the connection: "),
        (whole("200 OK", "{}").replace(": 2", ": 9"), not_understood),
        (whole("200 OK", "yes"), not_understood),
        (whole("502 x", "yes"), "the daemon answered 502 Bad Gateway"),
        (
            whole("307 x\r\nLocation: http://localhost/", ""),
            "the daemon answered 307 Temporary Redirect",
        ),
        (whole("403 x", "{\"errors\":[\"a\",\"b\"]}"), "a; b"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (nr, (answer, said)) in cases.into_iter().enumerate() {
        let socket = folder.path().join(nr.to_string());
        answering(&socket, answer.clone());
        let error = ask(&socket, PATIENCE).await.to_string();
        assert!(error.contains(said), "{answer:?}: {error}");
    }
}
