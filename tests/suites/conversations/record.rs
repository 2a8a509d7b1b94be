//! Makes the recordings anew: each client, as it is, says its part to a real primary through a wire that keeps it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::bao::{DatabaseRole, Primary, Transport};
use harness::place::Room;
use harness::postgres::Postgres;
use harness::process::Launch;
use harness::provision::Parts;
use harness::world::World;
use harness::{Context, Failure, Result};

use crate::cast::Cast;
use crate::conversation::{CLIENTS, Conversation, Recorded, folder};
use crate::names::Names;
use crate::stage;
use crate::wire::RecordingWire;

/// As it is installed: the version that is recorded.
const NODE_VAULT: &str = "node-vault@0.12.0";

/// How long a client may take to be built or installed, and to say its part.
const PATIENCE: Duration = Duration::from_secs(300);

/// Records the clients that `wanted` names, with commas between them.
pub(crate) async fn all(wanted: &str) -> Result<()> {
    let postgres = Postgres::start().await?;
    let primary = Primary::start(Transport::Plain).await?;
    World::seed(&primary, 2).await?;
    let role = DatabaseRole {
        name: "orders",
        default_ttl: stage::LEASE.0,
        max_ttl: stage::LEASE.1,
    };
    primary.enable_database(&postgres, &role).await?;
    stage::dress(&primary).await?;
    for client in wanted.split(',') {
        if !CLIENTS.contains(&client) {
            return Err(Failure::new(format!("{client}: one of {CLIENTS:?}")));
        }
        stage::reset(&primary).await?;
        let conversation = one(client, &primary).await?;
        conversation.keep()?;
    }
    Ok(())
}

async fn one(client: &str, primary: &Primary) -> Result<Conversation> {
    let address = primary.address();
    let wire = RecordingWire::to(address.rsplit('/').next().context("an address")?).await?;
    let names = Cast::make(primary).await?.names;
    let room = Room::make()?;
    let mut launch = program(client, &room)?
        .env("HOME", room.path())
        .env("ADDRESS", wire.address())
        .env("BAO_ADDR", wire.address());
    for (name, value) in names.environment() {
        launch = launch.env(&name, value);
    }
    let version = launch.output(b"", PATIENCE).await?.success()?;
    let health = primary.api("").get("sys/health").await?;
    let said = wire.said();
    let requests = recorded(names, &said)?;
    Ok(Conversation {
        version: version.lines().next().unwrap_or_default().to_owned(),
        primary: format!("OpenBao {}", health.text("/version")?),
        requests,
    })
}

/// What was said, with names in the place of what each replay has of its own.
fn recorded(
    mut names: Names,
    said: &[(harness::client::raw::Ask, harness::client::raw::Reply)],
) -> Result<Vec<Recorded>> {
    let mut requests = Vec::new();
    for (number, (ask, reply)) in said.iter().enumerate() {
        let headers = ask.headers.iter().map(|(name, value)| {
            let value = names.rename(value.to_str()?);
            Ok((name.to_string(), value))
        });
        requests.push(Recorded {
            method: ask.method.to_string(),
            target: names.rename(&ask.target),
            headers: headers.collect::<Result<_>>()?,
            body: names.rename(std::str::from_utf8(&ask.body)?),
            answered: reply.status,
        });
        names.learn(number, reply);
    }
    Ok(requests)
}

/// How a client is run.
fn program(client: &str, room: &Room) -> Result<Launch> {
    let scripts = folder().join("record");
    let parts = Parts::get()?;
    let run = |program: &Path, script: &str| {
        Launch::new(client, program, &room.join("log")).args([scripts.join(script)])
    };
    match client {
        "bao" => {
            let bin = parts.bao.parent().context("bao's folder")?;
            let path = format!("{}:/usr/bin:/bin", bin.display());
            Ok(run(Path::new("/bin/sh"), "say_bao.sh").env("PATH", path))
        }
        "hvac" => Ok(run(&parts.python, "say_hvac.py")),
        "node-vault" => {
            let to = room.path().display().to_string();
            build(
                "npm",
                &[
                    "install",
                    "--no-audit",
                    "--no-fund",
                    "--prefix",
                    &to,
                    NODE_VAULT,
                ],
            )?;
            let launch = run(Path::new("/usr/bin/env"), "say_node_vault.cjs");
            let mut args = launch.args.clone();
            args.insert(0, "node".into());
            Ok(Launch { args, ..launch }.env("NODE_PATH", room.join("node_modules")))
        }
        _ => Ok(Launch::new(client, &vaultrs(&scripts)?, &room.join("log"))),
    }
}

/// vaultrs is a Rust crate: its part is a small program of its own.
fn vaultrs(scripts: &Path) -> Result<PathBuf> {
    let target = scripts.join("say_vaultrs/target");
    let manifest = scripts.join("say_vaultrs/Cargo.toml").display().to_string();
    let (at, dir) = (manifest.as_str(), target.display().to_string());
    build(
        "cargo",
        &[
            "build",
            "--quiet",
            "--manifest-path",
            at,
            "--target-dir",
            &dir,
        ],
    )?;
    Ok(target.join("debug/record-vaultrs"))
}

fn build(program: &str, args: &[&str]) -> Result<()> {
    let status = Command::new(program).args(args).status().context(program)?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "{program} {}: {status}",
            args.join(" ")
        ))),
    }
}
