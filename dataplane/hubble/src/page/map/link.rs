//! What passed from one place to another at one port.

use super::recent::{Recent, Sample};
use super::round_trips::RoundTrips;
use portcullis_engine::RecordKind;
use portcullis_observe::Passed;
use serde::Serialize;

/// What makes two events one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LinkKey {
    /// The place that began it.
    pub(crate) from: u32,
    /// The place it was for.
    pub(crate) to: u32,
    /// Where it was for.
    pub(crate) port: PortKey,
}

/// A port of a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PortKey {
    /// Number of the protocol and the port.
    At(portcullis_policy::Protocol, u16),
    /// A protocol without ports.
    Whole(portcullis_policy::Protocol),
    /// What could not be read.
    Unknown,
    /// Further ports between two places: a stranger may try all of them.
    Further,
}

/// What was counted since the link is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Counts {
    /// Connections that were allowed.
    pub(crate) forwarded: u64,
    /// Packets that were dropped, and connections that new policy cut.
    pub(crate) dropped: u64,
    /// Connections that passed though an audited policy denies them.
    pub(crate) audited: u64,
    /// Connections whose end was told.
    pub(crate) ended: u64,
    /// Packets, of the side that began first.
    pub(crate) packets: [u64; 2],
    /// Bytes.
    pub(crate) bytes: [u64; 2],
}

/// A link.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// Its number: never used again.
    pub(crate) id: u32,
    /// What was counted.
    pub(crate) counts: Counts,
    /// What of it lately.
    pub(crate) recent: Recent,
    /// How long handshakes took.
    pub(crate) round_trips: RoundTrips,
    /// Why the last packet was dropped.
    pub(crate) reason: Option<&'static str>,
    /// Second of the first event.
    pub(crate) first: i64,
    /// Second of the last event.
    pub(crate) last: i64,
    /// When it changed.
    pub(crate) version: u64,
}

impl Link {
    /// Nothing counted yet.
    pub(crate) fn new(id: u32, second: i64) -> Self {
        Self {
            id,
            counts: Counts::default(),
            recent: Recent::default(),
            round_trips: RoundTrips::default(),
            reason: None,
            first: second,
            last: second,
            version: 0,
        }
    }

    /// Counts one event; `passed` is what it adds, and whether only because nothing is enforced.
    pub(crate) fn count(&mut self, kind: RecordKind, passed: &Passed<bool>, second: i64) {
        let mut sample = Sample::default();
        let counts = &mut self.counts;
        if passed.is_new && passed.under {
            counts.audited += 1;
            sample.audited = 1;
        } else if passed.is_new {
            counts.forwarded += 1;
            sample.connections = 1;
        }
        match kind {
            RecordKind::Flow | RecordKind::Update => {}
            RecordKind::End(_) => counts.ended += 1,
            RecordKind::Drop(reason) | RecordKind::Revoked(reason) => {
                counts.dropped += 1;
                sample.dropped = 1;
                self.reason = Some(reason.key());
            }
        }
        for side in 0..2 {
            counts.packets[side] = counts.packets[side].saturating_add(passed.packets[side]);
            counts.bytes[side] = counts.bytes[side].saturating_add(passed.bytes[side]);
            sample.packets = sample.packets.saturating_add(passed.packets[side]);
            sample.bytes = sample.bytes.saturating_add(passed.bytes[side]);
        }
        self.round_trips.add(passed.round_trip_us);
        self.last = self.last.max(second);
        self.recent.add(second, sample);
    }
}
