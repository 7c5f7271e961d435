//! What the daemon may do once it has started: no more than it needs.

use caps::{CapSet, Capability, CapsHashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// What is kept: links and XDP, AF_XDP sockets, BPF maps and programs, packet memory beyond the
/// memlock limit. [measured: ../shared/design/kubernetes.md]
const NEEDED: [Capability; 4] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
    Capability::CAP_BPF,
    Capability::CAP_IPC_LOCK,
];

/// What is kept at first. Only workers keep the last one, to come first again when they have stood
/// back: a limit (`RLIMIT_NICE`) would do, but a container's root may not raise it.
const KEPT: [Capability; 5] = {
    let [a, b, c, d] = NEEDED;
    [a, b, c, d, Capability::CAP_SYS_NICE]
};

/// How much sooner than others workers get their turn: a pod that floods runs on the node's cores,
/// too, and without it would starve who has to judge its packets. [setpriority(2)]
const WORKERS_FIRST: i32 = -10;

/// Workers that go first, where the place of the whole session is at stake.
static FIRST: AtomicUsize = AtomicUsize::new(0);

/// Puts this thread, and those that it starts, before others. Where the kernel does not allow it
/// everything runs all the same, only later when cores are short.
pub fn come_first() {
    set_niceness(WORKERS_FIRST);
}

/// Sessions share cores before threads do: one that is ours alone comes first, too. [sched(7)]
pub fn bring_session_first() {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if leads_session(&stat) {
        IS_SESSION_OURS.store(true, Relaxed);
        set_session_niceness(WORKERS_FIRST);
    }
}

/// Whether the session's place among others is for us to change.
static IS_SESSION_OURS: AtomicBool = AtomicBool::new(false);

/// A worker's place among the threads of its core, changed as its work changes.
#[derive(Debug)]
pub(crate) struct Place {
    is_first: bool,
}

impl Place {
    /// Of this thread, which goes first.
    pub fn first() -> Self {
        FIRST.fetch_add(1, Relaxed);
        Self { is_first: true }
    }

    /// Goes first, or takes turns with the others.
    pub fn set(&mut self, is_first: bool) {
        if self.is_first == is_first {
            return;
        }
        let niceness = if is_first { WORKERS_FIRST } else { 0 };
        let others = if is_first {
            FIRST.fetch_add(1, Relaxed)
        } else {
            FIRST.fetch_sub(1, Relaxed) - 1
        };
        self.is_first = is_first;
        set_niceness(niceness);
        if others == 0 && IS_SESSION_OURS.load(Relaxed) {
            set_session_niceness(niceness);
        }
    }
}

/// Whether a process is the first of its session. That one may be out of sight, in another namespace
/// of processes: its number is zero then. [proc_pid_stat(5)]
fn leads_session(stat: &str) -> bool {
    let session = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(3));
    session.is_some_and(|session| stat.split_whitespace().next() == Some(session))
}

/// Takes the place of any other thread, and gives up the right to come first again, which is for
/// workers alone.
pub fn stand_back() {
    set_niceness(0);
    for set in [CapSet::Effective, CapSet::Permitted] {
        // What one does not have cannot be dropped, and need not be.
        let _ = caps::drop(None, set, Capability::CAP_SYS_NICE);
    }
}

/// Changes it for the session of this process. The kernel refuses more than ten changes a second.
fn set_session_niceness(niceness: i32) {
    let _ = std::fs::write("/proc/self/autogroup", niceness.to_string());
}

fn set_niceness(niceness: i32) {
    // Linux keeps this for each thread. [setpriority(2), NOTES]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), niceness);
}

/// Gives up all other capabilities, for this thread and those that it starts.
///
/// # Errors
/// When the kernel refuses.
pub fn drop_unneeded() -> Result<(), String> {
    let fault = |e: caps::errors::CapsError| format!("cannot drop capabilities: {e}");
    let permitted = caps::read(None, CapSet::Permitted).map_err(fault)?;
    // Programs that the daemon starts (`ip`, `ethtool`) get no more than it has itself.
    for capability in caps::all() {
        let is_there = caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false);
        if is_there && !KEPT.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(fault)?;
        }
    }
    let kept: CapsHashSet = KEPT
        .into_iter()
        .filter(|cap| permitted.contains(cap))
        .collect();
    caps::clear(None, CapSet::Ambient).map_err(fault)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(fault)?;
    caps::set(None, CapSet::Effective, &kept).map_err(fault)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(fault)?;
    rustix::thread::set_no_new_privs(true).map_err(|e| format!("cannot set no_new_privs: {e}"))
}

/// Says what is missing before something fails for it.
///
/// # Errors
/// The capabilities that are missing.
pub fn check() -> Result<(), String> {
    let effective = caps::read(None, CapSet::Effective).map_err(|e| e.to_string())?;
    let missing: Vec<_> = NEEDED
        .into_iter()
        .filter(|cap| !effective.contains(cap))
        .map(|cap| cap.to_string())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "`portcullis run` needs {}: run it as root",
        missing.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_a_session_is_read_also_where_the_leader_is_out_of_sight() {
        assert!(leads_session("41 (a ) name) S 1 41 41 0 -1"));
        assert!(!leads_session("42 (portcullis) S 41 41 41 0 -1"));
        assert!(!leads_session("3 (portcullis) S 1 1 0 0 -1"));
        assert!(!leads_session(""));
    }
}
