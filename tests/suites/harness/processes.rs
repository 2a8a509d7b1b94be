//! What the harness starts ends with it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::place::Room;
use harness::port::Port;
use harness::process::Launch;
use harness::{Result, eventually};

const BOUND: Duration = Duration::from_secs(10);

/// Set in the process of this test that is to be killed: the log of its child.
const VICTIM: &str = "HOLDOVER_HARNESS_VICTIM";

/// Ends only by force, as does its child.
fn sleeper(room: &Room) -> Launch {
    Launch::new("sleeper", Path::new("/bin/sh"), &room.join("log"))
        .args(["-c", "echo awake; sleep 600 & wait"])
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(
        stat.rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next()),
        None | Some('Z' | 'X')
    )
}

#[tokio::test]
async fn children_end_with_a_parent_that_is_killed() -> Result<()> {
    if let Some(log) = std::env::var_os(VICTIM) {
        let child = Launch::new("child", Path::new("/bin/sh"), Path::new(&log))
            .args(["-c", "echo awake; exec sleep 600"])
            .start()?;
        // Until it runs its own program, it may not yet have asked the kernel to end with us.
        let awake = async || {
            if child.log_tail(1) == "awake\n" {
                Ok(())
            } else {
                Err("asleep")
            }
        };
        eventually(BOUND, "the child's program", awake).await?;
        eprintln!("\nchild {}", child.id());
        std::future::pending::<()>().await;
    }
    let room = Room::make()?;
    let mut parent = Command::new(std::env::current_exe()?)
        .args([
            "--exact",
            "processes::children_end_with_a_parent_that_is_killed",
            "--nocapture",
        ])
        .env(VICTIM, room.join("log"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(parent.stderr.take().unwrap()).lines();
    let said = lines
        .map_while(|line| line.ok())
        .find_map(|line| line.strip_prefix("child ")?.parse().ok());
    let child: u32 = said.expect("the parent started no child");
    assert!(lives(child));
    parent.kill()?;
    parent.wait()?;
    eventually(BOUND, "the child's end", async || {
        if lives(child) { Err("alive") } else { Ok(()) }
    })
    .await
}

#[tokio::test]
async fn a_whole_group_ends_when_its_process_is_dropped() -> Result<()> {
    let room = Room::make()?;
    let process = sleeper(&room).start()?;
    let group = process.id();
    let grandchild = eventually(BOUND, "a grandchild", async || {
        let children = std::fs::read_to_string(format!("/proc/{group}/task/{group}/children"))
            .unwrap_or_default();
        children
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok())
            .ok_or("none")
    })
    .await?;
    assert!(lives(grandchild) && process.running());
    drop(process);
    assert!(!lives(group));
    eventually(BOUND, "its end", async || {
        if lives(grandchild) {
            Err("alive")
        } else {
            Ok(())
        }
    })
    .await
}

#[tokio::test]
async fn an_ended_process_is_known_by_its_status_and_log() -> Result<()> {
    let room = Room::make()?;
    let launch = Launch::new("failing", Path::new("/bin/sh"), &room.join("log"))
        .args(["-c", "echo why; exit 7"]);
    let process = launch.start()?;
    assert_eq!(process.exited(BOUND).await?.code(), Some(7));
    assert!(!process.running() && process.stop().is_err());
    assert!(process.failure("ended").to_string().ends_with("why\n"));
    let output = launch.output(b"", BOUND).await?;
    assert_eq!((output.code, output.stdout.as_str()), (Some(7), "why\n"));
    let slow = Launch::new("slow", Path::new("/bin/sleep"), &room.join("log")).args(["600"]);
    assert!(slow.output(b"", Duration::from_millis(50)).await.is_err());
    Ok(())
}

#[test]
fn reserved_ports_differ_and_can_be_bound_again_and_again() -> Result<()> {
    let ports = (0..20)
        .map(|_| Port::reserve())
        .collect::<Result<Vec<_>>>()?;
    let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 20);
    for _ in 0..2 {
        std::net::TcpListener::bind(("127.0.0.1", ports[0].number()))?;
    }
    Ok(())
}
