//! Claims about who writes on a connection: descriptors that are passed on, to kin and to strangers.

use std::{
    os::{
        fd::OwnedFd,
        unix::{
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    process::{Command, Stdio},
    time::Duration,
};

use shared::name::WorkloadName;

use super::rig::{Client, Heard, Primary, Setup, request};
use crate::{config::PeerMatch, socket::adopt};

const GET: &str = "GET /v1/x HTTP/1.1\r\nHost: h\r\n\r\n";

/// Has another process, of another user where `uid` is given, write a request on this connection.
fn write_by_another(connection: &UnixStream, uid: Option<u32>) {
    let end: OwnedFd = connection.try_clone().unwrap().into();
    let script = "printf 'GET /v1/x HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n'; exec sleep 5";
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).stdout(Stdio::from(end));
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    // It stays until the test's end, so that its credentials can be looked at; it is ours, and waited for.
    let mut child = command.spawn().unwrap();
    std::thread::spawn(move || child.wait());
}

async fn hear(connection: UnixStream) -> Option<Heard> {
    Client::over(connection).hear(false).await
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn another_process_of_the_same_identity_may_write() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let connection = UnixStream::connect(&rig.path).unwrap();
    write_by_another(&connection, None);
    assert_eq!(hear(connection).await.unwrap().status(), 200);
}

/// Only root can have another user write: then the connection ends. Others see that the same call is served when it
/// is their own.
#[tokio::test]
async fn a_connection_that_was_passed_to_another_user_ends_unheard() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let connection = UnixStream::connect(&rig.path).unwrap();
    let stranger = is_root().then_some(54_321);
    write_by_another(&connection, stranger);
    let heard = hear(connection).await;
    assert_eq!(heard.is_none(), stranger.is_some());
    assert_eq!(primary.received().is_empty(), stranger.is_some());
}

/// The other way round: who connected decides, and a privileged writer does not lend its rights to the connection.
#[tokio::test]
async fn a_peer_of_another_user_is_that_user() {
    let primary = Primary::saying("{}").await;
    let mut setup = Setup::with(&primary);
    let uid = if is_root() {
        54_321
    } else {
        rustix::process::geteuid().as_raw()
    };
    let theirs = PeerMatch {
        uid: Some(uid),
        ..PeerMatch::default()
    };
    setup.rules.matches = vec![(WorkloadName::parse("billing").unwrap(), theirs)];
    let rig = setup.start();
    rig.minter.mints(|workload| {
        Ok(format!(
            "{{\"auth\":{{\"client_token\":\"s.{workload}\"}}}}"
        ))
    });
    std::fs::set_permissions(
        rig.path.parent().unwrap(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let script = format!(
        "import socket\ns=socket.socket(socket.AF_UNIX)\ns.connect({:?})\n\
         s.sendall(b'PUT /v1/auth/holdover/login HTTP/1.1\\r\\nHost: h\\r\\nConnection: close\\r\\n\\r\\n')\n\
         print(s.makefile().read())",
        rig.path.to_str().unwrap()
    );
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).uid(uid).gid(uid);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("s.billing"), "{text}{output:?}");
    let own = rig
        .ask(&request("PUT", "/v1/auth/holdover/login", &[]))
        .await;
    assert_eq!(own.status(), if is_root() { 403 } else { 200 });
}

#[tokio::test]
async fn what_was_written_before_anybody_listened_for_credentials_has_them_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let mut early = UnixStream::connect(&path).unwrap();
    std::io::Write::write_all(&mut early, GET.as_bytes()).unwrap();
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let bound = adopt(listener).unwrap();
    let running = tokio::spawn(crate::serve::run(
        bound,
        rig.server.clone(),
        shutdown,
        Duration::from_secs(1),
    ));
    assert_eq!(hear(early).await.unwrap().status(), 200);
    drop(stop);
    running.await.unwrap().unwrap();
}

/// A client that sends descriptors along is refused: they would be its way to make us hold what it likes.
#[tokio::test]
async fn descriptors_that_a_client_sends_end_the_connection() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::{io::IoSlice, mem::MaybeUninit, os::fd::AsFd};
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let connection = UnixStream::connect(&rig.path).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [connection.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    let parts = [IoSlice::new(GET.as_bytes())];
    sendmsg(&connection, &parts, &mut ancillary, SendFlags::empty()).unwrap();
    assert!(hear(connection).await.is_none());
    assert!(primary.received().is_empty());
}
