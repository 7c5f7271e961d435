//! What the daemon knows of itself, in numbers; the daemon fills it in when somebody asks.

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
