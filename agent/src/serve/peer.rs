//! Who is at the other end of a connection: what the kernel says of a process that provably still lives.
//!
//! A process id alone names nobody for long. Whatever is read below `/proc` is believed only if the pidfd, which the
//! kernel gave for the peer itself, says afterwards that this very process has not ended meanwhile.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{UnixCredentials, getsockopt, sockopt},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use shared::{name::WorkloadName, share::Party, workload::Peer};

use super::peer_groups::peer_groups;
use crate::config::PeerMatch;

/// A process that is named by a pidfd, so that a recycled id cannot stand in for it.
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
}

/// What `/proc` says of a process.
struct Seen {
    cgroup: String,
    status: String,
    /// Whether it lives in our own user and PID namespaces.
    at_home: bool,
}

/// What is known of a process: as it was when it was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerFacts {
    /// The user id that the kernel named.
    pub uid: u32,
    /// Its group ids, supplementary ones included: those that it connected with.
    pub gids: Vec<u32>,
    /// The systemd unit that PID 1 placed it in.
    pub unit: Option<String>,
    /// Whether it lives in our own user and PID namespaces.
    pub at_home: bool,
    /// Whether all of this was proved; otherwise no entry matches.
    pub proved: bool,
}

/// Whether connections may have queued while nobody accepted them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queue {
    /// The queue was seen empty since this process accepts: what comes now was made just now.
    SeenEmpty,
    /// It was not: the process behind an id may be another by now.
    Unknown,
}

/// The peer of a connection that was just accepted, before it is looked at: which process it is cannot change any more.
pub struct Stranger {
    credentials: UnixCredentials,
    process: Option<Process>,
}

/// Meets the peer of an accepted connection, which takes little time.
///
/// # Errors
/// If the socket has no peer credentials at all, or this process may have no more descriptors: then nobody may be taken for a
/// stranger.
pub fn meet(socket: BorrowedFd<'_>, queue: Queue) -> io::Result<Stranger> {
    let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
    let process = peer_process(socket, credentials.pid(), queue)?;
    Ok(Stranger {
        credentials,
        process,
    })
}

impl Stranger {
    /// The user id that the kernel named.
    pub fn uid(&self) -> u32 {
        self.credentials.uid()
    }

    /// The id of the process that connected; zero where it is in no PID namespace that we see.
    pub fn pid(&self) -> i32 {
        self.credentials.pid()
    }

    /// Looks at the peer of `socket`, which it was met at.
    ///
    /// One that cannot be looked at is somebody that no entry matches: it is proxied with the token that it brings.
    ///
    /// # Errors
    /// If this process may have no more descriptors: then nobody may be taken for a stranger.
    pub fn attest(&self, socket: BorrowedFd<'_>) -> io::Result<PeerFacts> {
        let groups = peer_groups(socket).ok();
        let known = self.process.as_ref().zip(groups);
        match known.map(|(process, groups)| process.connected(&self.credentials, groups)) {
            Some(Ok(facts)) => Ok(facts),
            Some(Err(error)) if is_exhausted(&error) => Err(error),
            Some(Err(_)) | None => Ok(PeerFacts {
                uid: self.credentials.uid(),
                gids: vec![self.credentials.gid()],
                unit: None,
                at_home: false,
                proved: false,
            }),
        }
    }

    /// The process, if it could be named.
    pub fn into_process(self) -> Option<Process> {
        self.process
    }
}

/// Whether something failed because there are no more descriptors, for this process or for all.
pub fn is_exhausted(error: &io::Error) -> bool {
    [Errno::EMFILE, Errno::ENFILE]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// `SO_PEERPIDFD` names the peer itself. Before Linux 6.5 its id has to do, and only for a fresh connection.
fn peer_process(socket: BorrowedFd<'_>, pid: i32, queue: Queue) -> Result<Option<Process>, Errno> {
    match getsockopt(&socket, sockopt::PeerPidfd) {
        Ok(pidfd) => Ok(Some(Process { pid, pidfd })),
        Err(error @ (Errno::EMFILE | Errno::ENFILE)) => Err(error),
        Err(Errno::ENOPROTOOPT) if queue == Queue::SeenEmpty => Ok(Process::open(pid).ok()),
        Err(_) => Ok(None),
    }
}

impl Process {
    /// The process that bears this id now.
    ///
    /// # Errors
    /// If there is none, or it is in no PID namespace that we see.
    pub fn open(pid: i32) -> io::Result<Self> {
        let id = (pid > 0)
            .then(|| Pid::from_raw(pid))
            .flatten()
            .ok_or(io::ErrorKind::NotFound)?;
        let pidfd = pidfd_open(id, PidfdFlags::empty())?;
        Ok(Self { pid, pidfd })
    }

    /// Its id, which is its own as long as it lives.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it has not ended. Where that cannot be told it has.
    pub fn is_alive(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN)];
        let now = Timespec::default();
        matches!(poll(&mut fds, Some(&now)), Ok(0))
    }

    /// What is known of it as the peer of a connection that it made with these credentials and groups, if it still lives once
    /// `/proc` was read.
    ///
    /// # Errors
    /// If it has ended, or `/proc` does not show it.
    fn connected(&self, credentials: &UnixCredentials, groups: Vec<u32>) -> io::Result<PeerFacts> {
        Ok(self.seen()?.facts(credentials, groups))
    }

    /// What is known of it as the writer of bytes that came with these credentials. Its groups are those that it has now,
    /// which count only while it runs as who wrote: not those of a program with privileges that it became since.
    ///
    /// # Errors
    /// If it has ended, `/proc` does not show it, or it runs as somebody else.
    pub fn wrote(&self, credentials: &UnixCredentials) -> io::Result<PeerFacts> {
        let seen = self.seen()?;
        let runs_as = |name: &str, id: u32| {
            let ids = field(&seen.status, name).unwrap_or_default();
            let mut ids = ids.split_ascii_whitespace().map(str::parse);
            // The real one and the effective one.
            [ids.next(), ids.next()]
                .iter()
                .all(|shown| *shown == Some(Ok(id)))
        };
        if !runs_as("Uid:", credentials.uid()) || !runs_as("Gid:", credentials.gid()) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(seen.facts(credentials, groups(&seen.status)))
    }

    /// What `/proc` says of it, if it still lives once that was read.
    fn seen(&self) -> io::Result<Seen> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", self.pid));
        let (cgroup, status, uid_map) = (read("cgroup")?, read("status")?, read("uid_map")?);
        let home_map = fs::read_to_string("/proc/self/uid_map")?;
        let at_home =
            uid_map == home_map && one_pid_namespace(&status) && !self.is_in_another_namespace();
        if !self.is_alive() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Seen {
            cgroup,
            status,
            at_home,
        })
    }

    /// Whether a link to a namespace can be read and is not ours. Another user's cannot without privilege.
    fn is_in_another_namespace(&self) -> bool {
        ["user", "pid"].iter().any(|kind| {
            let theirs = fs::read_link(format!("/proc/{}/ns/{kind}", self.pid));
            let ours = fs::read_link(format!("/proc/self/ns/{kind}"));
            matches!((theirs, ours), (Ok(theirs), Ok(ours)) if theirs != ours)
        })
    }
}

impl Seen {
    fn facts(&self, credentials: &UnixCredentials, groups: Vec<u32>) -> PeerFacts {
        PeerFacts {
            uid: credentials.uid(),
            gids: [vec![credentials.gid()], groups].concat(),
            unit: unit(&self.cgroup),
            at_home: self.at_home,
            proved: true,
        }
    }
}

impl PeerFacts {
    /// Whom what it takes is counted to, under the entries now in force.
    pub(crate) fn party(&self, entries: &[(WorkloadName, PeerMatch)]) -> Party {
        Party {
            matched: entries.iter().any(|(_, wanted)| self.matches(wanted)),
            uid: self.uid,
            unit: self.unit.clone(),
        }
    }

    /// The peer that these facts make under the entries now in force.
    pub fn peer(&self, entries: &[(WorkloadName, PeerMatch)]) -> Peer {
        let workloads = entries
            .iter()
            .filter(|(_, wanted)| self.matches(wanted))
            .map(|(name, _)| name.clone())
            .collect();
        Peer {
            uid: self.uid,
            unit: self.unit.clone(),
            workloads,
        }
    }

    /// Every field that is set holds, and at least one is set. Only a unit, which PID 1 gave, vouches for a process
    /// in namespaces of its own.
    fn matches(&self, wanted: &PeerMatch) -> bool {
        let PeerMatch { uid, gid, unit } = wanted;
        let names_somebody = uid.is_some() || gid.is_some() || unit.is_some();
        self.proved
            && names_somebody
            && uid.is_none_or(|uid| uid == self.uid)
            && gid.is_none_or(|gid| self.gids.contains(&gid))
            && match unit {
                Some(unit) => self.unit.as_ref() == Some(unit),
                None => self.at_home,
            }
    }
}

/// The first component of the cgroup path that is no slice, as PID 1 placed it. Nothing below it counts: there a
/// user's own systemd or a container may name things as it likes.
fn unit(cgroup: &str) -> Option<String> {
    let path = |prefix: &str| {
        cgroup
            .lines()
            .find_map(|line| line.split_once(prefix).filter(|(id, _)| is_number(id)))
            .map(|(_, path)| path)
    };
    let path = path("::")
        .filter(|path| *path != "/")
        .or_else(|| path(":name=systemd:"))?;
    let first = path
        .strip_prefix('/')?
        .split('/')
        .find(|name| !name.ends_with(".slice"))?;
    // systemd puts `_` before names that the kernel would take for its own.
    let name = first.strip_prefix('_').unwrap_or(first);
    (name.ends_with(".service") || name.ends_with(".scope")).then(|| name.to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn groups(status: &str) -> Vec<u32> {
    field(status, "Groups:")
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|gid| gid.parse().ok())
        .collect()
}

/// One id in `NSpid` means that no PID namespace lies between the process and this `/proc`.
fn one_pid_namespace(status: &str) -> bool {
    field(status, "NSpid:").is_some_and(|ids| ids.split_ascii_whitespace().count() == 1)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::{process::Gid, thread::set_thread_groups};

    use super::*;

    fn entry(name: &str, wanted: PeerMatch) -> (WorkloadName, PeerMatch) {
        (WorkloadName::parse(name).unwrap(), wanted)
    }

    fn facts() -> PeerFacts {
        PeerFacts {
            uid: 1000,
            gids: vec![1000, 27],
            unit: Some("orders.service".into()),
            at_home: true,
            proved: true,
        }
    }

    #[test]
    fn the_unit_is_what_pid_1_placed_and_nothing_below_it() {
        for (cgroup, expected) in [
            ("0::/system.slice/orders.service\n", Some("orders.service")),
            (
                "0::/system.slice/system-orders.slice/orders@1.service/payload\n",
                Some("orders@1.service"),
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/orders.service\n",
                Some("user@1000.service"),
            ),
            (
                "0::/user.slice/user-1000.slice/session-3.scope\n",
                Some("session-3.scope"),
            ),
            (
                "0::/machine.slice/box.scope/system.slice/orders.service\n",
                Some("box.scope"),
            ),
            ("0::/system.slice/_memory.service\n", Some("memory.service")),
            (
                "12:pids:/x\n1:name=systemd:/system.slice/orders.service\n0::/\n",
                Some("orders.service"),
            ),
            ("0::/init.scope\n", Some("init.scope")),
            ("0::/../orders.service\n", None),
            ("0::/docker/orders.service\n", None),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit(cgroup).as_deref(), expected, "{cgroup:?}");
        }
    }

    #[test]
    fn fields_of_a_match_must_all_hold() {
        let matches = |uid, gid, unit: Option<&str>| {
            let unit = unit.map(String::from);
            facts().matches(&PeerMatch { uid, gid, unit })
        };
        assert!(matches(Some(1000), None, None));
        assert!(matches(Some(1000), Some(27), Some("orders.service")));
        assert!(!matches(Some(1001), Some(27), Some("orders.service")));
        assert!(!matches(Some(1000), Some(28), Some("orders.service")));
        assert!(!matches(Some(1000), Some(27), Some("billing.service")));
        assert!(!matches(None, None, None), "an empty match is nobody's");
    }

    #[test]
    fn without_a_unit_a_peer_from_other_namespaces_matches_nothing() {
        let wanted = |unit: Option<&str>| PeerMatch {
            uid: Some(1000),
            unit: unit.map(String::from),
            ..PeerMatch::default()
        };
        let away = PeerFacts {
            at_home: false,
            ..facts()
        };
        assert!(!away.matches(&wanted(None)));
        assert!(away.matches(&wanted(Some("orders.service"))));
    }

    #[test]
    fn what_was_not_proved_matches_nothing() {
        let guessed = PeerFacts {
            proved: false,
            ..facts()
        };
        let uid = PeerMatch {
            uid: Some(1000),
            ..PeerMatch::default()
        };
        assert!(guessed.peer(&[entry("orders", uid)]).workloads.is_empty());
    }

    #[test]
    fn every_entry_that_matches_is_named_in_the_configurations_order() {
        let by_uid = |uid| PeerMatch {
            uid: Some(uid),
            ..PeerMatch::default()
        };
        let entries = [
            entry("b", by_uid(1000)),
            entry("other", by_uid(7)),
            entry("a", by_uid(1000)),
        ];
        let names: Vec<String> = facts()
            .peer(&entries)
            .workloads
            .into_iter()
            .map(String::from)
            .collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn a_live_peer_is_proved_by_its_pidfd() {
        let (one, _other) = UnixStream::pair().unwrap();
        let stranger = meet(one.as_fd(), Queue::Unknown).unwrap();
        let facts = stranger.attest(one.as_fd()).unwrap();
        assert!(facts.proved && facts.at_home);
        assert_eq!(facts.uid, rustix::process::geteuid().as_raw());
        assert!(stranger.into_process().unwrap().is_alive());
    }

    #[test]
    fn the_groups_of_a_peer_are_those_that_it_connected_with() {
        let groups = [Gid::from_raw(70_001)];
        if set_thread_groups(&groups).is_err() {
            assert!(!rustix::process::geteuid().is_root(), "root may");
            return;
        }
        let (one, _other) = UnixStream::pair().unwrap();
        set_thread_groups(&[]).unwrap();
        let stranger = meet(one.as_fd(), Queue::Unknown).unwrap();
        let facts = stranger.attest(one.as_fd()).unwrap();
        let own = rustix::process::getegid().as_raw();
        assert_eq!(facts.gids, [own, 70_001]);
    }

    #[test]
    fn a_writer_that_runs_as_somebody_else_by_now_is_not_believed() {
        let process = Process::open(i32::try_from(std::process::id()).unwrap()).unwrap();
        let own = UnixCredentials::new();
        assert!(process.wrote(&own).unwrap().proved);
        let another = UnixCredentials::from(libc::ucred {
            uid: own.uid() + 1,
            ..own.into()
        });
        assert!(process.wrote(&another).is_err());
        let another = UnixCredentials::from(libc::ucred {
            gid: own.gid() + 1,
            ..own.into()
        });
        assert!(process.wrote(&another).is_err());
    }

    #[test]
    fn a_process_that_ended_is_no_longer_believed() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let process = Process::open(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(process.is_alive());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!process.is_alive());
        assert!(process.wrote(&UnixCredentials::new()).is_err());
    }

    #[test]
    fn supplementary_groups_and_pid_namespaces_are_read_from_status() {
        let status = "Name:\tx\nGroups:\t4 27 1000 \nNSpid:\t812\n";
        assert_eq!(groups(status), [4, 27, 1000]);
        assert!(one_pid_namespace(status));
        assert!(!one_pid_namespace("NSpid:\t812\t1\n"));
        assert!(!one_pid_namespace("Name:\tx\n"));
    }
}
