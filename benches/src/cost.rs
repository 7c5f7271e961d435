//! What the daemon costs: processor time and memory.

use crate::path::Pair;
use netns_tests::Lab;
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::fs;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Processor time that the daemon of a lab has used, to the nanosecond.
///
/// # Panics
/// When it does not run.
#[must_use]
pub fn processor_time(lab: &Lab) -> Duration {
    time_of_process(lab.daemon_pid())
}

fn time_of_process(pid: u32) -> Duration {
    let pid = Pid::from_raw(pid.try_into().expect("a process id"));
    let used = clock_getcpuclockid(pid)
        .and_then(clock_gettime)
        .expect("it runs");
    Duration::from_nanos(used.num_nanoseconds().try_into().expect("not negative"))
}

/// Processor time that everything on a path has used: generators and sinks, the forwarder, and what
/// the kernel does on their time; the daemon; who reads from it; the kernel's own threads for
/// packets, which other traffic of the machine uses, too.
#[must_use]
pub fn all_processor_time(pair: &Pair) -> Duration {
    let own = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("every process has it");
    let mut sum = Duration::from_nanos(own.num_nanoseconds().try_into().expect("not negative"));
    if pair.path.has_daemon() {
        sum += processor_time(&pair.lab);
    }
    if let Some(pid) = pair.reader_pid() {
        sum += time_of_process(pid);
    }
    sum + softirq_threads().iter().map(|pid| run_time(*pid)).sum()
}

/// The kernel's threads that take packets when interrupts are too many.
fn softirq_threads() -> &'static [u32] {
    static THREADS: OnceLock<Vec<u32>> = OnceLock::new();
    THREADS.get_or_init(|| {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.starts_with("ksoftirqd/"))
        })
        .collect()
    })
}

/// Time on a core of a process with one thread. [proc(5): schedstat]
fn run_time(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let first = text.split_whitespace().next();
    Duration::from_nanos(first.and_then(|text| text.parse().ok()).unwrap_or(0))
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
