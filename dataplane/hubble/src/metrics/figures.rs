//! What the daemon knows of itself, in numbers; the daemon fills it in when somebody asks.

use std::time::Duration;

/// The daemon at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures {
    /// Its version.
    pub version: String,
    /// Whether every worker uses the published generation and every endpoint is ready.
    pub is_ready: bool,
    /// The generation that was published last.
    pub generation: u64,
    /// States of the documents that were put into force since the start.
    pub changes_accepted: u64,
    /// Those that were refused.
    pub changes_refused: u64,
    /// Faults of documents that are refused now.
    pub errors_now: u64,
    /// How long documents took from when they were read until all of the daemon applied them.
    pub delays: Delays,
    /// What was warned of and what failed since the start: subsystem, level, count.
    pub messages: Vec<(&'static str, &'static str, u64)>,
    /// Policies in force.
    pub policies: u64,
    /// Rules in force.
    pub rules: u64,
    /// Identities of pods and blocks.
    pub identities: u64,
    /// Interfaces that the daemon owns.
    pub endpoints: Vec<EndpointFigures>,
    /// Threads of the packet path.
    pub workers: Vec<WorkerFigures>,
    /// How full everything is that has a bound.
    pub limits: Vec<LimitFigures>,
    /// Dropped packets, by the key of their reason.
    pub drops: Vec<(&'static str, u64)>,
    /// What the kernel program and the sockets counted, by key.
    pub kernel: Vec<(String, u64)>,
    /// Packet memory.
    pub memory: MemoryFigures,
    /// Records of flows and drops.
    pub records: RecordFigures,
}

/// Upper bounds of how long something took, in seconds; the last is none.
const DELAY_BOUNDS: [f64; 10] = [
    0.001,
    0.005,
    0.01,
    0.05,
    0.1,
    0.5,
    1.0,
    5.0,
    10.0,
    f64::INFINITY,
];

/// How long something took, each time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Delays {
    /// Within each bound and not within the one before.
    counts: [u64; DELAY_BOUNDS.len()],
    seconds: f64,
}

impl Delays {
    /// Counts one.
    pub fn note(&mut self, delay: Duration) {
        let seconds = delay.as_secs_f64();
        let place = DELAY_BOUNDS.iter().position(|bound| seconds <= *bound);
        self.counts[place.unwrap_or(DELAY_BOUNDS.len() - 1)] += 1;
        self.seconds += seconds;
    }

    /// Upper bounds with their counts, and the sum in seconds.
    pub(super) fn told(&self) -> (Vec<(f64, u64)>, f64) {
        let buckets = DELAY_BOUNDS.into_iter().zip(self.counts);
        (buckets.collect(), self.seconds)
    }
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointFigures {
    /// `pod`, `host` or `uplink`.
    pub kind: String,
    /// Whether packets pass.
    pub is_ready: bool,
    /// Whether any policy isolates it from what comes in.
    pub ingress_enforced: bool,
    /// Whether any policy isolates it from what goes out.
    pub egress_enforced: bool,
    /// Addresses of IPv4 and of IPv6 behind it.
    pub addresses: [u64; 2],
}

/// Steps in which the frames of a turn are counted: up to 256 and more.
pub const BATCH_STEPS: usize = 10;

/// One worker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkerFigures {
    /// Its number.
    pub index: u16,
    /// The generation that it applies.
    pub generation: u64,
    /// Frames received.
    pub received: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Frames transmitted.
    pub transmitted: u64,
    /// Bytes transmitted.
    pub transmitted_bytes: u64,
    /// Frames handed to another worker.
    pub handed_over: u64,
    /// ARP, neighbour discovery and ICMP answers made.
    pub answered: u64,
    /// Packets made by cutting up larger ones.
    pub segments: u64,
    /// Frames sent with a checksum that the kernel finishes, that was made here, that was let be.
    pub checksums: [u64; 3],
    /// Resets sent to the ends of connections that policy ended.
    pub resets: u64,
    /// Such resets that were not sent.
    pub resets_lost: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// System calls to send.
    pub kicks: u64,
    /// Nanoseconds of turns in which there was something to do.
    pub busy_ns: u64,
    /// Turns by the frames that they took: 1, up to 2, up to 4, and so on; the last more than that.
    pub batches: [u64; BATCH_STEPS],
    /// Frames that those turns took, those that other workers handed over included.
    pub taken: u64,
}

/// One bound of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LimitFigures {
    /// What is bounded.
    pub name: String,
    /// The worker that has it.
    pub worker: u16,
    /// How many there are.
    pub now: u64,
    /// How many there may be.
    pub max: u64,
    /// How many found no room since the start.
    pub refused: u64,
    /// How many made room for a later one since the start.
    pub evicted: u64,
}

/// Packet memory, in chunks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryFigures {
    /// All there are.
    pub total: u64,
    /// Held by nobody.
    pub free: u64,
    /// In the rings of sockets.
    pub in_rings: u64,
    /// Bytes of one.
    pub chunk_bytes: u64,
}

/// Records of flows and drops.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordFigures {
    /// Kept to be looked back on.
    pub kept: u64,
    /// All there ever were.
    pub written: u64,
    /// Lost because the observer's queue was full.
    pub lost: u64,
}
