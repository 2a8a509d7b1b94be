//! The process's own hardening: no core dumps, not ptraceable, private files, pages locked as they are touched.

use rustix::{
    fs::Mode,
    mm::{MlockAllFlags, mlockall},
    process::{
        DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
    },
    thread::{CapabilitySet, capabilities},
};

/// Hardens this process. What could not be done is returned as findings: none of it is a reason not to serve.
pub fn harden() -> Vec<String> {
    umask(Mode::RWXG | Mode::RWXO);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let cores = setrlimit(Resource::Core, none)
        .err()
        .map(|error| format!("core dumps are not off: {error}"));
    let traces = set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .err()
        .map(|error| format!("other processes of this user may read our memory: {error}"));
    [cores, traces, lock_memory()]
        .into_iter()
        .flatten()
        .collect()
}

/// Keeps what is in memory out of swap. With a limit on locked memory this would make later allocations fail, so it
/// is not tried then.
fn lock_memory() -> Option<String> {
    const REMEDY: &str = "memory may be swapped to disk; set LimitMEMLOCK=infinity in the unit";
    let privileged =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if !privileged && getrlimit(Resource::Memlock).current.is_some() {
        return Some(REMEDY.to_owned());
    }
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    mlockall(flags)
        .err()
        .map(|error| format!("{REMEDY} ({error})"))
}
