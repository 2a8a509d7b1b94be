//! Stand-ins for a daemon that this suite does not need: a socket that passes bytes on to the primary, and one that
//! answers as it is told.

use std::os::fd::AsFd;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;

use harness::Result;

/// Serves until it is dropped.
pub(crate) struct StandIn(JoinHandle<()>);

impl Drop for StandIn {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Passes every connection on to a TCP address.
pub(crate) fn pipe(socket: &Path, address: &str) -> Result<StandIn> {
    let (listener, address) = (listen(socket)?, address.to_owned());
    Ok(StandIn(tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let address = address.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(address).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    })))
}

/// Answers every request with what `answer` makes of its head and its peer's uid; none closes the connection.
pub(crate) fn answering<F>(socket: &Path, answer: F) -> Result<StandIn>
where
    F: Fn(&str, u32) -> Option<String> + Clone + Send + 'static,
{
    let listener = listen(socket)?;
    Ok(StandIn(tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(converse(client, answer.clone()));
        }
    })))
}

/// A response with a JSON body and one more header line.
pub(crate) fn response(status: u16, header: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\n{header}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn converse(
    mut client: UnixStream,
    answer: impl Fn(&str, u32) -> Option<String>,
) -> Result<()> {
    let uid = rustix::net::sockopt::socket_peercred(client.as_fd())?
        .uid
        .as_raw();
    let mut head = Vec::new();
    loop {
        let mut byte = [0];
        if client.read(&mut byte).await? == 0 {
            return Ok(());
        }
        head.extend(byte);
        if head.ends_with(b"\r\n\r\n") {
            let Some(reply) = answer(&String::from_utf8_lossy(&head), uid) else {
                return Ok(());
            };
            client.write_all(reply.as_bytes()).await?;
            head.clear();
        }
    }
}

fn listen(socket: &Path) -> Result<UnixListener> {
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    Ok(listener)
}
