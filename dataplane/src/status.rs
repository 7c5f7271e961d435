//! What `portcullis status` shows: the state of the daemon as one value.

mod hot;

pub use hot::HotStatus;

use crate::observe::FlowPolicy;
pub use crate::records_status::{DiskStatus, RecordsStatus};
use crate::trial::Trial;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

/// The whole state at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Way out, mode of attachment and enforcement.
    pub node: NodeStatus,
    /// Generation that control published last.
    pub generation: u64,
    /// Whether every worker uses it, the last documents were accepted, and every endpoint is ready.
    pub is_ready: bool,
    /// Documents in force.
    pub documents: DocumentsStatus,
    /// Faults of documents that were refused; the ones before them stay in force.
    pub errors: Vec<String>,
    /// Advice on documents that are in force.
    pub warnings: Vec<String>,
    /// Every interface that the daemon owns.
    pub endpoints: Vec<EndpointStatus>,
    /// Identities in use, and how many local endpoints have them.
    pub identities: Vec<IdentityStatus>,
    /// Every worker.
    pub workers: Vec<WorkerStatus>,
    /// The endpoints that asked most of their workers in the last second, the hottest first.
    #[serde(default)]
    pub hottest: Vec<HotStatus>,
    /// Dropped packets by reason; reasons that never occurred are left out.
    pub drops: BTreeMap<String, u64>,
    /// How full everything is that has a bound.
    #[serde(default)]
    pub limits: Vec<LimitStatus>,
    /// Packet memory.
    pub frames: FramesStatus,
    /// What the kernel program and the AF_XDP sockets counted. Packets lost before a ring are
    /// `receive_dropped` + `receive_ring_full`; `fill_ring_empty` is the part of the former that
    /// found no memory to be received into.
    pub kernel: BTreeMap<String, u64>,
    /// Every rule in force, and how often it decided.
    #[serde(default)]
    pub rules: Vec<RuleStatus>,
    /// Flow records kept, and all there were; records lost to a full queue.
    pub records: RecordsStatus,
}

/// Settings in force.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Interface of the way out.
    pub uplink: Option<String>,
    /// `generic` or `native`.
    pub xdp_mode: String,
    /// Why this mode.
    #[serde(default)]
    pub xdp_mode_reason: String,
    /// What each mode got through when they were tried at the start.
    #[serde(default)]
    pub xdp_trial: Option<Trial>,
    /// Why workers are pinned as they are.
    #[serde(default)]
    pub cores_reason: String,
    /// `offload` or `software`: who finishes the checksums that pods leave to their network card.
    #[serde(default)]
    pub checksums: String,
    /// `default`, `always` or `never`.
    pub policy_enforcement_mode: String,
    /// Blocks of pod addresses.
    pub pod_cidrs: Vec<String>,
}

/// Counts of documents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DocumentsStatus {
    /// How many states of the source were looked at, accepted or refused.
    pub revision: u64,
    /// Files read.
    pub files: usize,
    /// Policies of all kinds.
    pub policies: usize,
    /// Pods, here and elsewhere.
    pub pods: usize,
    /// Namespaces.
    pub namespaces: usize,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Number of the endpoint.
    pub id: u32,
    /// `pod`, `host` or `uplink`.
    pub kind: String,
    /// `namespace/name`, for a pod.
    pub name: String,
    /// Interface on the node.
    pub interface: String,
    /// Addresses behind it.
    pub addresses: Vec<IpAddr>,
    /// Identity behind it.
    pub identity: u32,
    /// Labels of that identity.
    pub labels: Vec<String>,
    /// Whether any policy isolates it from what comes in.
    pub ingress_enforced: bool,
    /// Whether any policy isolates it from what goes out.
    pub egress_enforced: bool,
    /// The worker that owns it.
    pub worker: u16,
    /// `ready`, or what it waits for.
    pub state: String,
}

/// One identity.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IdentityStatus {
    /// Its number.
    pub identity: u32,
    /// Its labels.
    pub labels: Vec<String>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// Where it was written.
    #[serde(flatten)]
    pub policy: FlowPolicy,
    /// New flows that it decided about; of what it denies, every packet.
    pub connections: u64,
    /// When the last one was.
    pub last_hit: Option<Timestamp>,
    /// Since when it is in force, as far as this daemon knows.
    pub since: Timestamp,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its number.
    pub index: u16,
    /// The core that it is pinned to.
    pub core: Option<usize>,
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
    /// Frames sent with a checksum that the kernel finishes, or knows to be partial.
    #[serde(default)]
    pub checksums_offloaded: u64,
    /// Frames sent with a checksum that was made here.
    #[serde(default)]
    pub checksums_software: u64,
    /// Frames sent with a checksum as it came in, or none.
    #[serde(default)]
    pub checksums_untouched: u64,
    /// Flows in the table.
    pub flows: u64,
    /// Those of them that are half-open.
    pub flows_half_open: u64,
    /// Half-open flows that made room for a later one of their endpoint.
    pub half_open_evicted: u64,
    /// Resets sent to the ends of connections that policy ended.
    pub resets: u64,
    /// Such resets that were not sent: too many at once.
    pub resets_lost: u64,
    /// Frames received a second, over the last second.
    pub received_per_second: f64,
    /// Bits received a second, over the last second.
    pub received_bits_per_second: f64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Turns of its loop.
    #[serde(default)]
    pub turns: u64,
    /// System calls to send.
    #[serde(default)]
    pub kicks: u64,
    /// Share of the last second that it worked, in percent.
    #[serde(default)]
    pub busy_percent: f64,
}

/// One bound of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LimitStatus {
    /// What is bounded: `flows`, `half_open`, `sessions`, `affinities`, `held_frames`, `resets`.
    pub name: String,
    /// The worker that has it.
    pub worker: u16,
    /// How many there were within the last second.
    pub now: u64,
    /// How many there may be.
    pub max: u64,
    /// How many found no room since the start.
    pub refused: u64,
    /// How many made room for a later one since the start.
    pub evicted: u64,
}

/// Packet memory, in chunks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FramesStatus {
    /// All there are.
    pub total: u64,
    /// Held by nobody.
    pub free: u64,
    /// In fill, receive, transmit and completion rings.
    pub in_rings: u64,
    /// Memory of one chunk in bytes.
    pub chunk_bytes: u64,
}

impl Status {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let state = if self.is_ready { "ready" } else { "not ready" };
        let _ = writeln!(
            out,
            "portcullis {} (pid {}), {state}, up {} s",
            self.version, self.pid, self.uptime_seconds
        );
        let node = &self.node;
        let uplink = node.uplink.as_deref().unwrap_or("none");
        let _ = writeln!(
            out,
            "Node        uplink {uplink}, XDP {}, checksums {}, enforcement {}, pods in {}",
            node.xdp_mode,
            node.checksums,
            node.policy_enforcement_mode,
            if node.pod_cidrs.is_empty() {
                "no block".into()
            } else {
                node.pod_cidrs.join(" ")
            }
        );
        let _ = writeln!(
            out,
            "XDP         {}: {}",
            node.xdp_mode, node.xdp_mode_reason
        );
        let _ = writeln!(out, "Cores       {}", node.cores_reason);
        let documents = &self.documents;
        let _ = writeln!(
            out,
            "Documents   {} files: {} policies, {} pods, {} namespaces",
            documents.files, documents.policies, documents.pods, documents.namespaces
        );
        let applied: Vec<_> = self
            .workers
            .iter()
            .map(|worker| worker.generation.to_string())
            .collect();
        let _ = writeln!(
            out,
            "Generation  {} published; applied by workers: {}",
            self.generation,
            applied.join(" ")
        );
        for error in &self.errors {
            let _ = writeln!(out, "Error       {error}");
        }
        for warning in &self.warnings {
            let _ = writeln!(out, "Warning     {warning}");
        }
        self.write_endpoints(&mut out);
        self.write_workers(&mut out);
        hot::write(&mut out, &self.hottest);
        self.write_limits(&mut out);
        let frames = &self.frames;
        let _ = writeln!(
            out,
            "Frames      {} of {} free, {} in rings",
            frames.free, frames.total, frames.in_rings
        );
        self.records.write(&mut out);
        let kernel: Vec<_> = self
            .kernel
            .iter()
            .map(|(key, n)| format!("{key} {n}"))
            .collect();
        let _ = writeln!(out, "Kernel      {}", kernel.join(", "));
        if self.drops.is_empty() {
            let _ = writeln!(out, "Drops       none");
        }
        for (reason, count) in &self.drops {
            let _ = writeln!(out, "Drops       {count:>10}  {reason}");
        }
        out
    }

    fn write_endpoints(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "\n{:<4} {:<7} {:<28} {:<16} {:<9} {:<8} {:<8} {:<6} STATE",
            "ID", "KIND", "NAME", "INTERFACE", "IDENTITY", "INGRESS", "EGRESS", "WORKER"
        );
        for endpoint in &self.endpoints {
            let on = |enforced: bool| if enforced { "enforced" } else { "open" };
            let is_pod = endpoint.kind == "pod";
            let _ = writeln!(
                out,
                "{:<4} {:<7} {:<28} {:<16} {:<9} {:<8} {:<8} {:<6} {}",
                endpoint.id,
                endpoint.kind,
                endpoint.name,
                endpoint.interface,
                endpoint.identity,
                if is_pod {
                    on(endpoint.ingress_enforced)
                } else {
                    "-"
                },
                if is_pod {
                    on(endpoint.egress_enforced)
                } else {
                    "-"
                },
                endpoint.worker,
                endpoint.state
            );
            let addresses: Vec<_> = endpoint.addresses.iter().map(ToString::to_string).collect();
            if !addresses.is_empty() {
                let _ = writeln!(out, "     {}", addresses.join(" "));
            }
        }
        let _ = writeln!(out);
        for identity in &self.identities {
            let _ = writeln!(
                out,
                "Identity    {:<6} {}",
                identity.identity,
                identity.labels.join(" ")
            );
        }
    }

    fn write_limits(&self, out: &mut String) {
        if self.limits.is_empty() {
            return;
        }
        let _ = writeln!(
            out,
            "\n{:<15} {:<6} {:>9} {:>9} {:>9} {:>9}",
            "LIMIT", "WORKER", "NOW", "MAX", "REFUSED", "EVICTED"
        );
        for limit in &self.limits {
            let _ = writeln!(
                out,
                "{:<15} {:<6} {:>9} {:>9} {:>9} {:>9}",
                limit.name, limit.worker, limit.now, limit.max, limit.refused, limit.evicted
            );
        }
        let _ = writeln!(out);
    }

    fn write_workers(&self, out: &mut String) {
        let _ = writeln!(out);
        for worker in &self.workers {
            let core = worker
                .core
                .map_or("any core".into(), |core| format!("core {core}"));
            let _ = writeln!(
                out,
                "Worker {}    {core}: received {} ({:.0}/s, {:.1} Mbit/s), transmitted {}, handed over {}, \
                 answered {}, resets {}, segments {}, checksums {} offloaded, {} in software, \
                 {} untouched, flows {} ({} half-open), kicks {}, busy {:.1} %",
                worker.index,
                worker.received,
                worker.received_per_second,
                worker.received_bits_per_second / 1e6,
                worker.transmitted,
                worker.handed_over,
                worker.answered,
                worker.resets,
                worker.segments,
                worker.checksums_offloaded,
                worker.checksums_software,
                worker.checksums_untouched,
                worker.flows,
                worker.flows_half_open,
                worker.kicks,
                worker.busy_percent
            );
        }
    }
}
