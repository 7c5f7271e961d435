//! What each worker counts: written by one thread, read by anyone.

use crate::control::SLOTS_MAX;
use portcullis_engine::{Drop, EndpointIndex, Gauge, Limit};
use portcullis_hubble::metrics::BATCH_STEPS;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one worker. Only its thread adds, so a plain load and store is enough.
#[derive(Debug)]
pub struct WorkerCounters {
    drops: Vec<AtomicU64>,
    limits: Vec<[Counter; 4]>,
    loads: Vec<EndpointLoad>,
    /// Frames received.
    pub received: Counter,
    /// Bytes received.
    pub received_bytes: Counter,
    /// Frames given to the kernel for transmission.
    pub transmitted: Counter,
    /// Bytes given to the kernel for transmission.
    pub transmitted_bytes: Counter,
    /// Frames handed to another worker.
    pub handed_over: Counter,
    /// Answers made here: ARP, neighbour discovery, ICMP errors.
    pub answered: Counter,
    /// Resets sent to the ends of connections that policy ended.
    pub resets: Counter,
    /// Such resets that were not sent: too many at once.
    pub resets_lost: Counter,
    /// Packets made by cutting up larger ones.
    pub segments: Counter,
    /// Frames sent with a checksum that the kernel finishes, or knows to be partial.
    pub checksums_offloaded: Counter,
    /// Frames sent with a checksum that was made here: finished, or anew for a part of a frame.
    pub checksums_software: Counter,
    /// Frames sent with a checksum as it came in, or none.
    pub checksums_untouched: Counter,
    /// Packets that the kernel dropped because the fill ring of their interface was empty; also in
    /// `receive_dropped`.
    pub fill_ring_empty: Counter,
    /// Packets that the kernel dropped because the receive ring of their interface was full.
    pub receive_ring_full: Counter,
    /// Packets that the kernel dropped before a ring, for whatever reason.
    pub receive_dropped: Counter,
    /// Frames whose descriptors the kernel refused to send.
    pub transmit_invalid: Counter,
    /// Records that found the queue to the observer full.
    pub records_lost: Counter,
    /// Flows in the table now.
    pub flows: Counter,
    /// Those of them that are half-open.
    pub flows_half_open: Counter,
    /// Half-open flows that made room for a later one of their endpoint.
    pub half_open_evicted: Counter,
    /// Free chunks that this worker holds now.
    pub frames_free: Counter,
    /// Generation of the snapshot in use.
    pub generation: Counter,
    /// Turns of the loop.
    pub turns: Counter,
    /// Times it went to sleep.
    pub sleeps: Counter,
    /// System calls to send.
    pub kicks: Counter,
    /// Nanoseconds of turns in which there was something to do.
    pub busy_ns: Counter,
    /// Turns by the frames that they took: 1, up to 2, up to 4, and so on; the last more than that.
    pub batches: [Counter; BATCH_STEPS],
    /// Frames that those turns took.
    pub taken: Counter,
}

/// What one interface asks of its worker. Belongs to a place, not to who has it now.
#[derive(Debug, Default)]
pub struct EndpointLoad {
    /// Frames received from it.
    pub frames: Counter,
    /// Nanoseconds that they took, sending them included.
    pub busy_ns: Counter,
    /// Packets from it that the kernel dropped before or at its rings.
    pub lost: Counter,
}

/// One number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the owning thread may.
    pub fn add(&self, amount: u64) {
        self.0
            .store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Replaces. Only the owning thread may.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value as it was a moment ago.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            drops: Drop::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            limits: Limit::ALL.iter().map(|_| Default::default()).collect(),
            loads: (0..SLOTS_MAX).map(|_| Default::default()).collect(),
            received: Counter::default(),
            received_bytes: Counter::default(),
            transmitted: Counter::default(),
            transmitted_bytes: Counter::default(),
            handed_over: Counter::default(),
            answered: Counter::default(),
            segments: Counter::default(),
            resets: Counter::default(),
            checksums_offloaded: Counter::default(),
            checksums_software: Counter::default(),
            checksums_untouched: Counter::default(),
            resets_lost: Counter::default(),
            fill_ring_empty: Counter::default(),
            receive_ring_full: Counter::default(),
            receive_dropped: Counter::default(),
            transmit_invalid: Counter::default(),
            records_lost: Counter::default(),
            flows: Counter::default(),
            flows_half_open: Counter::default(),
            half_open_evicted: Counter::default(),
            frames_free: Counter::default(),
            generation: Counter::default(),
            turns: Counter::default(),
            sleeps: Counter::default(),
            kicks: Counter::default(),
            busy_ns: Counter::default(),
            batches: Default::default(),
            taken: Counter::default(),
        }
    }
}

impl WorkerCounters {
    /// Counts a turn that took frames.
    pub fn took(&self, frames: usize) {
        let Some(above_one) = frames.checked_sub(1) else {
            return;
        };
        let step = (usize::BITS - above_one.leading_zeros()) as usize;
        self.batches[step.min(BATCH_STEPS - 1)].add(1);
        self.taken.add(frames as u64);
    }

    /// Counts a dropped packet.
    pub fn dropped(&self, reason: Drop) {
        let counter = &self.drops[reason as usize];
        counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Packets dropped for a reason.
    #[must_use]
    pub fn drops(&self, reason: Drop) -> u64 {
        self.drops[reason as usize].load(Relaxed)
    }

    /// What an interface asks of this worker.
    #[must_use]
    pub fn load(&self, index: EndpointIndex) -> &EndpointLoad {
        &self.loads[usize::from(index.0)]
    }

    /// Shows how full something is.
    pub fn set_limit(&self, limit: Limit, gauge: Gauge) {
        let [now, max, refused, evicted] = &self.limits[limit as usize];
        now.set(gauge.now);
        max.set(gauge.max);
        refused.set(gauge.refused);
        evicted.set(gauge.evicted);
    }

    /// How full something was within the last second.
    #[must_use]
    pub fn limit(&self, limit: Limit) -> Gauge {
        let [now, max, refused, evicted] = &self.limits[limit as usize];
        Gauge {
            now: now.get(),
            max: max.get(),
            refused: refused.get(),
            evicted: evicted.get(),
        }
    }
}
