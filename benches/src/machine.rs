//! Where it was measured: figures mean nothing without it.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, setsid};
use serde_json::{Value, json};
use std::fs;
use std::thread::available_parallelism;

/// Where workers, servers, and both ends of round trips run.
pub const WORKER_CORE: usize = 0;
/// Where clients and generators run.
pub const CLIENT_CORE: usize = 1;

/// What runs where, for people.
pub const PLACEMENT: &str = "generators and clients on core 1, with all that the kernel does \
    inline for them; servers and the AF_XDP worker on core 0; two senders: one on each core; \
    request/response: client, server and worker all on core 0";

/// Binds this thread to a core, or to the last there is.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    let last = available_cores().saturating_sub(1);
    // A machine that does not allow it measures all the same.
    let _ = set
        .set(core.min(last))
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
}

fn available_cores() -> usize {
    // Before any thread was bound: that would count only its own.
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from))
}

/// Lets this process open as many sockets as it may.
pub fn raise_file_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Else the sender of many flows fails, and says so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Whether a tool is in the search path.
#[must_use]
pub fn has_tool(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// The machine and its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// Model of the processor.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in megabytes.
    pub memory_mb: u64,
    /// Processes that wanted to run in the last minute, at the start.
    pub load_before: f64,
    /// As before, at the end: some of it is the run's own.
    pub load_after: f64,
    /// Whether the run had precedence over what else ran.
    pub has_precedence: bool,
}

impl Machine {
    /// The machine at the start of a run.
    #[must_use]
    pub fn at_start(has_precedence: bool) -> Self {
        let field = |text: &str, key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key));
            value.map(|value| value.trim_start_matches([':', ' ', '\t']).to_owned())
        };
        let processor = field(&read("/proc/cpuinfo"), "model name");
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let memory_kb: Option<u64> =
            memory.and_then(|text| text.trim_end_matches(" kB").parse().ok());
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: processor.unwrap_or_else(|| "unknown".into()),
            cores: available_cores(),
            memory_mb: memory_kb.unwrap_or(0) / 1024,
            load_before: load(),
            load_after: 0.0,
            has_precedence,
        }
    }

    /// Notes the load at the end of a run.
    pub fn end(&mut self) {
        self.load_after = load();
    }

    /// For JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "processor": self.processor,
            "cores": self.cores,
            "memory_mb": self.memory_mb,
            "load_before": self.load_before,
            "load_after": self.load_after,
            "has_precedence": self.has_precedence,
            "placement": PLACEMENT,
        })
    }
}

/// Gives this run precedence over other sessions, in a session of its own; says whether it has.
///
/// Between sessions it is the session's priority that counts, not that of a process. [sched(7),
/// the autogroup feature]
#[must_use]
pub fn take_precedence() -> bool {
    // Interrupted from a terminal, the caller ends; so this has to end with it.
    let is_bound = set_pdeathsig(Signal::SIGTERM).is_ok();
    // Fails for the leader of a process group, as of a command typed into a shell: then the
    // priority would be the shell's, too.
    is_bound && setsid().is_ok() && fs::write("/proc/self/autogroup", "-20").is_ok()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn load() -> f64 {
    let text = read("/proc/loadavg");
    let first = text.split_whitespace().next();
    first.and_then(|load| load.parse().ok()).unwrap_or(0.0)
}
