//! What the daemon costs: processor time and memory.

use netns_tests::Lab;
use nix::sys::time::TimeValLike;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Processor time that the daemon of a lab has used, to the nanosecond.
///
/// # Panics
/// When it does not run.
#[must_use]
pub fn processor_time(lab: &Lab) -> Duration {
    let pid = Pid::from_raw(lab.daemon_pid().try_into().expect("a process id"));
    let used = clock_getcpuclockid(pid)
        .and_then(clock_gettime)
        .expect("the daemon runs");
    Duration::from_nanos(used.num_nanoseconds().try_into().expect("not negative"))
}

/// Share of a core that the daemon takes while nobody asks anything of it, in percent.
///
/// # Panics
/// When it does not run.
#[must_use]
pub fn idle_percent(lab: &Lab, span: Duration) -> f64 {
    // What was started is to be over.
    sleep(Duration::from_secs(1));
    let (before, since) = (processor_time(lab), Instant::now());
    sleep(span);
    let used = processor_time(lab) - before;
    used.as_secs_f64() / since.elapsed().as_secs_f64() * 100.0
}

/// Memory that the daemon has in use, in kilobytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub rss_kb: u64,
    /// Packet memory, which the kernel shares.
    pub shared_kb: u64,
    /// Its own: tables, heap, stacks.
    pub anonymous_kb: u64,
    /// Of files: its code; and the rings, which the kernel maps.
    pub file_kb: u64,
}

impl Memory {
    /// Asks the kernel.
    ///
    /// # Panics
    /// When the daemon does not run.
    #[must_use]
    pub fn of(lab: &Lab) -> Self {
        let path = format!("/proc/{}/status", lab.daemon_pid());
        let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let field = |key: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(key));
            let value = value.and_then(|value| value.trim().strip_suffix(" kB"));
            value
                .and_then(|value| value.parse().ok())
                .unwrap_or_else(|| panic!("{path}: expected {key} in kB"))
        };
        Self {
            rss_kb: field("VmRSS:"),
            shared_kb: field("RssShmem:"),
            anonymous_kb: field("RssAnon:"),
            file_kb: field("RssFile:"),
        }
    }
}
