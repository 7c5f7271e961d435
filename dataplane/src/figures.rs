//! The daemon in numbers, for metrics.

use crate::counters::{Counter, WorkerCounters};
use crate::status::{EndpointStatus, Status};
use crate::status_view::StatusView;
use portcullis_engine::Drop;
use portcullis_hubble::metrics::{
    Delays, EndpointFigures, Figures, LimitFigures, MemoryFigures, RecordFigures, WorkerFigures,
};

/// What happened since the start that status shows only as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// States of the documents that were put into force.
    pub accepted: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Faults of documents.
    pub document_faults: u64,
    /// Faults that no document is to blame for.
    pub faults: u64,
    /// Warnings about documents.
    pub document_warnings: u64,
    /// Warnings about destinations that run out of ports.
    pub port_warnings: u64,
    /// How long documents took from when they were read until they were in force.
    pub delays: Delays,
}

impl Tally {
    /// Subsystem, level and count, in the words of Cilium's metric.
    const fn messages(&self) -> [(&'static str, &'static str, u64); 4] {
        [
            ("policy", "error", self.document_faults),
            ("policy", "warning", self.document_warnings),
            ("daemon", "error", self.faults),
            ("nat", "warning", self.port_warnings),
        ]
    }
}

/// The figures of this moment.
#[must_use]
pub fn figures(view: &StatusView) -> Figures {
    let status = view.status();
    let tally = view.tally();
    Figures {
        is_ready: status.is_ready,
        generation: status.generation,
        changes_accepted: tally.accepted,
        changes_refused: tally.refused,
        errors_now: status.errors.len() as u64,
        delays: tally.delays,
        messages: tally.messages().to_vec(),
        policies: status.documents.policies as u64,
        rules: status.rules.len() as u64,
        identities: status.identities.len() as u64,
        endpoints: status.endpoints.iter().map(endpoint).collect(),
        workers: view
            .workers()
            .map(|(index, counters)| worker(index, counters))
            .collect(),
        drops: drops(view),
        limits: limits(&status),
        memory: MemoryFigures {
            total: status.frames.total,
            free: status.frames.free,
            in_rings: status.frames.in_rings,
            chunk_bytes: status.frames.chunk_bytes,
        },
        records: RecordFigures {
            kept: status.records.kept,
            written: status.records.written,
            lost: status.records.lost,
        },
        kernel: status.kernel.into_iter().collect(),
        version: status.version,
    }
}

/// Reasons that never occurred, too: a counter that appears with its first packet hides that packet
/// from `rate`.
fn drops(view: &StatusView) -> Vec<(&'static str, u64)> {
    let count = |reason: Drop| view.workers().map(|(_, c)| c.drops(reason)).sum();
    Drop::ALL
        .iter()
        .map(|reason| (reason.key(), count(*reason)))
        .collect()
}

fn endpoint(endpoint: &EndpointStatus) -> EndpointFigures {
    let of_family = |is_right: fn(&std::net::IpAddr) -> bool| {
        endpoint.addresses.iter().filter(|a| is_right(a)).count() as u64
    };
    EndpointFigures {
        kind: endpoint.kind.clone(),
        is_ready: endpoint.state == "ready",
        ingress_enforced: endpoint.ingress_enforced,
        egress_enforced: endpoint.egress_enforced,
        addresses: [
            of_family(std::net::IpAddr::is_ipv4),
            of_family(std::net::IpAddr::is_ipv6),
        ],
    }
}

fn worker(index: u16, counters: &WorkerCounters) -> WorkerFigures {
    WorkerFigures {
        index,
        generation: counters.generation.get(),
        received: counters.received.get(),
        received_bytes: counters.received_bytes.get(),
        transmitted: counters.transmitted.get(),
        transmitted_bytes: counters.transmitted_bytes.get(),
        handed_over: counters.handed_over.get(),
        answered: counters.answered.get(),
        segments: counters.segments.get(),
        checksums: [
            counters.checksums_offloaded.get(),
            counters.checksums_software.get(),
            counters.checksums_untouched.get(),
        ],
        resets: counters.resets.get(),
        resets_lost: counters.resets_lost.get(),
        turns: counters.turns.get(),
        sleeps: counters.sleeps.get(),
        kicks: counters.kicks.get(),
        busy_ns: counters.busy_ns.get(),
        taken: counters.taken.get(),
        batches: counters.batches.each_ref().map(Counter::get),
    }
}

fn limits(status: &Status) -> Vec<LimitFigures> {
    let limits = status.limits.iter();
    let figures = limits.map(|limit| LimitFigures {
        name: limit.name.clone(),
        worker: limit.worker,
        now: limit.now,
        max: limit.max,
        refused: limit.refused,
        evicted: limit.evicted,
    });
    figures.collect()
}
