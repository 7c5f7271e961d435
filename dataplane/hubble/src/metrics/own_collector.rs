//! What no other dataplane has to tell: rings, tables, generations, translations, workers.

use super::family::{Families, Labels, label};
use super::figures::{BATCH_STEPS, Figures, LimitFigures, WorkerFigures};
use std::fmt;

/// A counter of each worker: name, help, value.
type WorkerCounter = (&'static str, &'static str, fn(&WorkerFigures) -> u64);

const WORKER_COUNTERS: [WorkerCounter; 12] = [
    (
        "portcullis_worker_received_frames",
        "Frames that the worker took from receive rings.",
        |w| w.received,
    ),
    (
        "portcullis_worker_received_bytes",
        "Bytes of the frames that the worker took from receive rings.",
        |w| w.received_bytes,
    ),
    (
        "portcullis_worker_transmitted_frames",
        "Frames that the worker put into transmit rings.",
        |w| w.transmitted,
    ),
    (
        "portcullis_worker_transmitted_bytes",
        "Bytes of the frames that the worker put into transmit rings.",
        |w| w.transmitted_bytes,
    ),
    (
        "portcullis_worker_handed_over_frames",
        "Frames that the worker handed to the worker of their destination.",
        |w| w.handed_over,
    ),
    (
        "portcullis_worker_answered",
        "Answers that the worker made itself: ARP, neighbour discovery, ICMP errors.",
        |w| w.answered,
    ),
    (
        "portcullis_worker_segments",
        "Packets that the worker made by cutting up larger ones.",
        |w| w.segments,
    ),
    (
        "portcullis_worker_resets",
        "Resets that the worker sent to the ends of connections that policy ended.",
        |w| w.resets,
    ),
    (
        "portcullis_worker_resets_lost",
        "Such resets that were not sent, because too many were due at once.",
        |w| w.resets_lost,
    ),
    (
        "portcullis_worker_turns",
        "Turns of the worker's loop. With frames received: how many frames each turn takes.",
        |w| w.turns,
    ),
    (
        "portcullis_worker_kicks",
        "System calls by which the worker had the kernel send.",
        |w| w.kicks,
    ),
    (
        "portcullis_worker_sleeps",
        "Times the worker found nothing to do and slept. A busy worker does not sleep.",
        |w| w.sleeps,
    ),
];

/// Writes them.
pub(super) fn write(families: &mut Families<'_>, figures: &Figures) -> fmt::Result {
    families.number(
        "portcullis_ready",
        "1 when every worker uses the published generation and every endpoint is ready.",
        u64::from(figures.is_ready),
    )?;
    write_generations(families, figures)?;
    for (name, help, value) in WORKER_COUNTERS {
        let samples = figures.workers.iter();
        let samples = samples.map(|worker| (label("worker", worker.index), value(worker)));
        families.counter(name, help, samples)?;
    }
    families.counter(
        "portcullis_worker_busy_seconds",
        "Seconds that the worker spent in turns of its loop that found something to do: its rate is the load, 1 is a whole core.",
        figures
            .workers
            .iter()
            .map(|worker| (label("worker", worker.index), worker.busy_ns as f64 / 1e9)),
    )?;
    families.histogram(
        "portcullis_worker_batch_frames",
        "Turns of the worker's loop that took frames, from rings or from other workers, by how many they took.",
        figures.workers.iter().map(|worker| {
            let buckets = worker.batches.iter().enumerate().map(|(step, count)| {
                let is_last = step == BATCH_STEPS - 1;
                let bound = if is_last { f64::INFINITY } else { f64::from(1_u32 << step) };
                (bound, *count)
            });
            (label("worker", worker.index), buckets.collect(), worker.taken as f64)
        }),
    )?;
    families.counter(
        "portcullis_worker_checksums",
        "Frames that the worker sent, by who finished their checksum: offloaded to the kernel, software here, untouched where there was nothing to do.",
        figures.workers.iter().flat_map(|worker| {
            let ways = ["offloaded", "software", "untouched"].iter();
            ways.zip(worker.checksums).map(|(way, count)| {
                let mut labels = label("worker", worker.index);
                labels.push(("way", (*way).to_owned()));
                (labels, count)
            })
        }),
    )?;
    families.counter(
        "portcullis_drops",
        "Dropped packets by reason, exactly: counted by the workers themselves. Reasons are those of portcullis status.",
        figures
            .drops
            .iter()
            .map(|(reason, count)| (label("reason", reason), *count)),
    )?;
    families.counter(
        "portcullis_kernel_packets",
        "What kernel program and sockets counted: packets redirected to us, passed to the host, and lost before a ring of ours (fill_ring_empty, receive_ring_full, receive_dropped).",
        figures
            .kernel
            .iter()
            .map(|(event, count)| (label("event", event), *count)),
    )?;
    write_tables(families, &figures.limits)?;
    write_memory(families, figures)?;
    write_records(families, figures)
}

fn write_generations(families: &mut Families<'_>, figures: &Figures) -> fmt::Result {
    families.number(
        "portcullis_generation",
        "The generation of policy that control published last.",
        figures.generation,
    )?;
    families.gauge(
        "portcullis_worker_generation",
        "The generation of policy that the worker applies; behind portcullis_generation for a moment after each change.",
        figures
            .workers
            .iter()
            .map(|worker| (label("worker", worker.index), worker.generation as f64)),
    )?;
    families.number("portcullis_rules", "Rules in force.", figures.rules)?;
    families.number(
        "portcullis_document_errors",
        "Faults of the documents in the state directory that keep them from being put into force now.",
        figures.errors_now,
    )
}

fn write_tables(families: &mut Families<'_>, limits: &[LimitFigures]) -> fmt::Result {
    fn labels(limit: &LimitFigures) -> Labels<'static> {
        let mut labels = label("table", &limit.name);
        labels.push(("worker", limit.worker.to_string()));
        labels
    }
    families.gauge(
        "portcullis_table_entries",
        "Entries of each bounded table of a worker: flows, half-open connections, sessions of translation (NAT and services), clients with affinity, fragments held, resets due.",
        limits.iter().map(|limit| (labels(limit), limit.now as f64)),
    )?;
    families.gauge(
        "portcullis_table_entries_max",
        "Entries that the table may have.",
        limits.iter().map(|limit| (labels(limit), limit.max as f64)),
    )?;
    families.counter(
        "portcullis_table_refused",
        "Entries that found no room in the table.",
        limits.iter().map(|limit| (labels(limit), limit.refused)),
    )?;
    families.counter(
        "portcullis_table_evicted",
        "Entries that made room for a later one.",
        limits.iter().map(|limit| (labels(limit), limit.evicted)),
    )
}

fn write_memory(families: &mut Families<'_>, figures: &Figures) -> fmt::Result {
    let memory = &figures.memory;
    let held = memory.total.saturating_sub(memory.free + memory.in_rings);
    families.gauge(
        "portcullis_packet_memory_chunks",
        "Chunks of packet memory: free, in rings of the kernel, or held by a worker.",
        [
            ("free", memory.free),
            ("in_rings", memory.in_rings),
            ("held", held),
        ]
        .map(|(state, count)| (label("state", state), count as f64)),
    )?;
    families.number(
        "portcullis_packet_memory_chunk_bytes",
        "Bytes of one chunk of packet memory.",
        memory.chunk_bytes,
    )
}

fn write_records(families: &mut Families<'_>, figures: &Figures) -> fmt::Result {
    let records = &figures.records;
    families.number(
        "portcullis_records_kept",
        "Records of flows and drops that can be looked back on.",
        records.kept,
    )?;
    families.counter(
        "portcullis_records_written",
        "Records of flows and drops that workers made and the history took.",
        [(Labels::new(), records.written)],
    )?;
    families.counter(
        "portcullis_records_lost",
        "Records that found the queue to the observer full.",
        [(Labels::new(), records.lost)],
    )
}
