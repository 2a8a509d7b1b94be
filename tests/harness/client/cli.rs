//! The clients that users already have: the `bao` command line and hvac, unchanged, pointed at a socket.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::Result;
use crate::place::Room;
use crate::process::{Launch, Output};
use crate::provision::Parts;

/// A user with a home folder of their own, who runs standard clients.
pub struct User {
    parts: Parts,
    user: Option<(u32, u32)>,
    env: Vec<(String, OsString)>,
    bound: Duration,
    room: Room,
}

impl User {
    /// Us. Each program may take 30 s.
    pub fn ourselves() -> Result<User> {
        User::make(None)
    }

    /// Another user; needs root.
    pub fn other(uid: u32, gid: u32) -> Result<User> {
        User::make(Some((uid, gid)))
    }

    /// Has `BAO_ADDR` and `VAULT_ADDR` point at this Unix socket.
    pub fn at_socket(self, socket: &Path) -> User {
        let address = format!("unix://{}", socket.display());
        let quoted = socket.to_string_lossy().replace('/', "%2F");
        self.env("BAO_ADDR", &address)
            .env("VAULT_ADDR", &address)
            .env("HVAC_URL", format!("http+unix://{quoted}"))
    }

    /// Sets a variable for every program: `BAO_TOKEN`, for example.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> User {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// How long each program may take.
    pub fn within(mut self, bound: Duration) -> User {
        self.bound = bound;
        self
    }

    /// The home folder.
    pub fn home(&self) -> PathBuf {
        self.room.join("home")
    }

    /// Runs `bao` with these arguments.
    pub async fn bao(&self, args: &[&str]) -> Result<Output> {
        self.launch(&self.parts.bao)
            .args(args)
            .output(b"", self.bound)
            .await
    }

    /// Runs a Python text. It finds `hvac`, `requests_unixsocket`, and `client()`: an hvac client of the socket given to
    /// [`User::at_socket`], with `BAO_TOKEN` as its token.
    pub async fn python(&self, script: &str) -> Result<Output> {
        let whole = format!("{PRELUDE}\n{script}");
        self.launch(&self.parts.python)
            .args(["-I", "-"])
            .output(whole.as_bytes(), self.bound)
            .await
    }

    fn make(user: Option<(u32, u32)>) -> Result<User> {
        let (parts, room) = (Parts::get()?, Room::make()?);
        room.folder("home", 0o700, user)?;
        Ok(User {
            parts,
            user,
            env: Vec::new(),
            bound: Duration::from_secs(30),
            room,
        })
    }

    fn launch(&self, program: &Path) -> Launch {
        let name = program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut launch =
            Launch::new(&name, program, &self.room.join("log")).env("HOME", self.home());
        for (name, value) in &self.env {
            launch = launch.env(name, value);
        }
        launch.user = self.user;
        launch
    }
}

const PRELUDE: &str = "
import json, os, sys
import hvac, requests_unixsocket

def client(token=None):
    return hvac.Client(
        url=os.environ['HVAC_URL'],
        token=token or os.environ.get('BAO_TOKEN'),
        session=requests_unixsocket.Session(),
    )
";
