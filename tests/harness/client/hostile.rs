//! A user of the host who does to a socket all that a user can, and everything at once: a process of its own, so that the
//! kernel counts connections and bytes to that user.

mod deeds;
mod words;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Context, Failure, Result};
use crate::place::Room;
use crate::process::{Launch, Process};
use crate::random::Seeded;

use deeds::{LANES, lane};

/// The first argument of a process that is hostile.
pub const WORD: &str = "hostile";

/// Whom a hostile user turns against, and what it knows.
#[derive(Clone, Serialize, Deserialize)]
pub struct Target {
    /// The socket.
    pub socket: PathBuf,
    /// The target of a request that is answered with much.
    pub large: String,
    /// The token for it, which is the user's own. All others are made up.
    pub token: String,
    /// The `role_id` of an AppRole of which it knows no secret id.
    pub role_id: String,
    /// Decides what it draws.
    pub seed: u64,
}

/// A hostile user at work, until it is dropped.
pub struct Hostile {
    process: Process,
    _room: Room,
}

impl Hostile {
    /// Sets a process of this user and group on a target; needs root. `executable` is a program that calls [`perform`] where
    /// [`WORD`] comes first.
    pub fn begin(executable: &Path, target: &Target, user: (u32, u32)) -> Result<Hostile> {
        let room = Room::make()?;
        let executable = room.executable("holdover-test-client", executable)?;
        let knows = serde_json::to_vec(target)?;
        let knows = room.file("target.json", knows, 0o600, Some(user))?;
        let mut launch = Launch::new("hostile", &executable, &room.join("log"));
        launch.user = Some(user);
        let process = launch.args([WORD.into(), knows.into_os_string()]).start()?;
        Ok(Hostile {
            process,
            _room: room,
        })
    }

    /// Fails, with what it said, if it is not there any more.
    pub fn is_there(&self) -> Result<()> {
        match self.process.running() {
            true => Ok(()),
            false => Err(self.process.failure("has ended")),
        }
    }
}

/// The hostile process, with the arguments after [`WORD`]: a file with its [`Target`] in JSON. Never ends by itself.
///
/// # Errors
/// If there is no such file.
pub fn perform(args: &[String]) -> Result<()> {
    let [target] = args else {
        return Err(Failure::new(
            "a hostile process needs a file with its target",
        ));
    };
    let target: Target = serde_json::from_slice(&std::fs::read(target)?).context(target)?;
    let target: &'static Target = Box::leak(Box::new(target));
    let mut seeded = Seeded::of(target.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for (deed, lanes) in LANES {
            for _ in 0..*lanes {
                tokio::spawn(lane(*deed, target, seeded.fork()));
            }
        }
        std::future::pending::<()>().await;
    });
    Ok(())
}
