//! A real PostgreSQL, for credentials that can be tried out.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::failure::{Failure, Result};
use crate::place::{self, Room};
use crate::port::Port;
use crate::process::{Launch, Output, Process, end};
use crate::provision::Parts;
use crate::random;

/// The user for servers that refuse to run as root.
const NOBODY: (u32, u32) = (65534, 65534);

/// A database server with one superuser, `postgres`. Ended when dropped.
pub struct Postgres {
    process: Process,
    port: Port,
    password: String,
    bin: PathBuf,
    room: Room,
}

impl Postgres {
    /// Makes a cluster of databases and starts it; returns once it takes logins.
    pub async fn start() -> Result<Postgres> {
        let bin = Parts::get()?.postgres;
        let room = Room::make()?;
        let user = place::is_root().then_some(NOBODY);
        let home = room.folder("pg", 0o700, user)?;
        let (port, password) = (Port::reserve()?, random::hex::<16>()?);
        let secret = room.file("pg/password", &password, 0o600, user)?;
        let data = home.join("data");
        let log = room.file("postgres.log", "", 0o666, user)?;
        let mut initdb = Launch::new("initdb", &bin.join("initdb"), &log)
            .args([
                "-U",
                "postgres",
                "-A",
                "scram-sha-256",
                "-N",
                "--locale=C",
                "-E",
                "UTF8",
                "-D",
            ])
            .args([data.as_os_str()])
            .args(["--pwfile".as_ref(), secret.as_os_str()]);
        initdb.user = user;
        initdb
            .output(b"", Duration::from_secs(60))
            .await?
            .success()?;
        let number = port.number().to_string();
        let mut server = Launch::new("postgres", &bin.join("postgres"), &log)
            .args([
                "-h",
                "127.0.0.1",
                "-k",
                "",
                "-c",
                "fsync=off",
                "-p",
                &number,
                "-D",
            ])
            .args([data.as_os_str()]);
        server.user = user;
        let postgres = Postgres {
            process: server.start()?,
            port,
            password,
            bin,
            room,
        };
        postgres.wait_up().await?;
        Ok(postgres)
    }

    /// Its TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Whether this user can log in with this password. A server that is away is a failure, not a no.
    pub async fn can_login(&self, user: &str, password: &str) -> Result<bool> {
        let output = self.psql(user, password, "SELECT 1").await?;
        let refused = [
            "authentication failed",
            "does not exist",
            "not permitted to log in",
        ];
        match output.code {
            Some(0) => Ok(true),
            _ if refused.iter().any(|text| output.stderr.contains(text)) => Ok(false),
            _ => Err(self.process.failure(format!("said: {}", output.stderr))),
        }
    }

    /// Runs a statement as the superuser; what it printed, unaligned.
    pub async fn query(&self, statement: &str) -> Result<String> {
        let output = self.psql("postgres", &self.password, statement).await?;
        Ok(output.success()?.trim().to_owned())
    }

    async fn psql(&self, user: &str, password: &str, statement: &str) -> Result<Output> {
        let port = self.port().to_string();
        Launch::new("psql", &self.bin.join("psql"), self.process.log())
            .args([
                "-X",
                "-w",
                "-A",
                "-t",
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-d",
                "postgres",
            ])
            .args(["-U", user, "-c", statement])
            .env("PGPASSWORD", password)
            .env("HOME", self.room.path())
            .output(b"", Duration::from_secs(20))
            .await
    }

    async fn wait_up(&self) -> Result<()> {
        let bound = Duration::from_secs(30);
        crate::eventually(bound, "PostgreSQL up", async || {
            match self.can_login("postgres", &self.password).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Failure::new("it refuses its own superuser")),
                Err(failure) => Err(failure),
            }
        })
        .await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate shutdown leaves no shared memory segment behind; SIGKILL would.
        end(&self.process, Signal::SIGQUIT, Duration::from_secs(5));
    }
}
