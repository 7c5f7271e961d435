//! What is told of flows that have passed: their ends, and now and then how far they have come.

use crate::engine::Engine;
use crate::flow::{Flow, Side};
use crate::tcp_state::FlowState;
use crate::{Ending, EndpointKind, Now, Record, RecordKind, Snapshot, Totals};
use std::net::IpAddr;

/// Ends that wait to be told: a worker asks after each batch.
const ENDINGS_MAX: usize = 1024;
/// Flows that go on are told of this often.
const UPDATE_PERIOD_NS: u64 = 10_000_000_000;
/// Entries that one call looks at, for how far they have come.
const UPDATE_LOOKS_MAX: u64 = 1024;

impl Ending {
    /// How an entry ended that nothing came for.
    pub(crate) const fn of_expired(state: FlowState) -> Self {
        match state {
            FlowState::Opening | FlowState::Answered => Self::Unanswered,
            FlowState::Closing => Self::Finished,
            _ => Self::Idle,
        }
    }
}

/// The last that was known of flows that are gone.
#[derive(Debug)]
pub(crate) struct Endings {
    gone: Vec<(Flow, Ending)>,
    lost: u64,
}

impl Endings {
    pub fn new() -> Self {
        Self {
            gone: Vec::with_capacity(ENDINGS_MAX),
            lost: 0,
        }
    }

    /// Notes the end of a flow whose entry is about to go, unless it has been told.
    pub fn note(&mut self, flow: &Flow, ending: Ending) {
        if !flow.is_telling() {
            return;
        }
        if self.gone.len() < ENDINGS_MAX {
            self.gone.push((*flow, ending));
        } else {
            self.lost += 1;
        }
    }

    /// Notes the end of a connection that has just been closed; its entry stays for a while.
    pub fn close(&mut self, flow: &mut Flow) {
        let ending = if flow.was_reset() {
            Ending::Reset
        } else {
            Ending::Finished
        };
        self.note(flow, ending);
        flow.set_telling(false);
    }
}

/// Where the walk over all entries for their updates has come.
#[derive(Debug, Default)]
pub(crate) struct UpdateCursor {
    place: usize,
    at: Now,
}

impl Engine {
    /// Writes what there is to tell of flows that ended or go on, into what room `records` has. To
    /// be asked after each batch.
    pub fn tell_flows(&mut self, now: Now, records: &mut Vec<Record>) {
        let Some(snapshot) = self.snapshot.as_deref() else {
            return;
        };
        let endings = self.flows.endings();
        while let Some((flow, ending)) = endings.gone.last()
            && records.len() < records.capacity()
        {
            records.push(record_of(snapshot, flow, RecordKind::End(*ending)));
            endings.gone.pop();
        }
        self.records_lost += std::mem::take(&mut endings.lost);
        self.tell_updates(now, records);
    }

    /// Looks at a piece of the table: at all of it in each period.
    fn tell_updates(&mut self, now: Now, records: &mut Vec<Record>) {
        let Some(snapshot) = self.snapshot.as_deref() else {
            return;
        };
        let cursor = &mut self.updates;
        let places = self.flows.places_used();
        let elapsed = now.0.saturating_sub(cursor.at.0).min(UPDATE_PERIOD_NS);
        let looks = places as u64 * elapsed / UPDATE_PERIOD_NS;
        if looks == 0 {
            return;
        }
        let looks = looks.min(UPDATE_LOOKS_MAX);
        // What is left for later stays due: after a sleep the next calls catch up.
        let behind = elapsed - (looks * UPDATE_PERIOD_NS / places as u64).min(elapsed);
        cursor.at = Now(now.0 - behind);
        for _ in 0..looks {
            // Drops have a right to the other half.
            if records.len() >= records.capacity() / 2 {
                return;
            }
            cursor.place = (cursor.place + 1) % places;
            if let Some(flow) = self.flows.live_at(cursor.place)
                && flow.is_telling()
                && !flow.state().is_half_open()
                && now.0.saturating_sub(flow.seen.0) < UPDATE_PERIOD_NS
                && now.0.saturating_sub(flow.opened().0) >= UPDATE_PERIOD_NS
            {
                records.push(record_of(snapshot, flow, RecordKind::Update));
            }
        }
    }
}

/// Whether an entry tells of its flow: that of who began it, where it is one of our pods; else that
/// of the other.
pub(crate) fn is_telling(snapshot: &Snapshot, flow: &Flow) -> bool {
    let is_pod = |address: IpAddr| {
        let owner = snapshot.owner_of(address);
        owner.is_some_and(|(_, endpoint)| endpoint.kind == EndpointKind::Pod)
    };
    flow.initiator() == Side::Local || !is_pod(flow.key.addresses().1)
}

/// What has passed in a flow.
pub(crate) fn totals_of(flow: &Flow) -> Totals {
    let began = flow.initiator();
    let (own, other) = (flow.sent(began), flow.sent(began.other()));
    Totals {
        packets: [own.0, other.0],
        bytes: [own.1, other.1],
        opened: flow.opened(),
        round_trip_us: flow.round_trip_us(),
    }
}

/// The record of a flow, from who began it to the other.
fn record_of(snapshot: &Snapshot, flow: &Flow, kind: RecordKind) -> Record {
    let (local, remote) = flow.key.addresses();
    let ports = flow.key.ports();
    let here = Some(flow.key.endpoint());
    // Not as the entry knows it: that is found with the first answer, and forgotten with each
    // snapshot. All records of a flow are to name the same ends, else its sums are taken for two.
    let way = snapshot.way_to(remote);
    let there = way.and_then(|way| Some(snapshot.endpoint(way.to)?.id));
    let (from, to, addresses, ports) = match flow.initiator() {
        Side::Local => (here, there, (local, remote), ports),
        Side::Remote => (there, here, (remote, local), (ports.1, ports.0)),
    };
    let mut record = Record {
        kind,
        generation: snapshot.generation,
        from,
        to,
        addresses: Some(addresses),
        protocol: Some(flow.key.protocol()),
        ports: (ports.0, flow.key.service_port(flow.initiator())),
        is_reply: Some(false),
        totals: totals_of(flow),
        ..Record::BLANK
    };
    if let Some(tables) = snapshot.tables.as_deref() {
        record.source_identity = snapshot.identity_of(tables, addresses.0);
        record.destination_identity = snapshot.identity_of(tables, addresses.1);
    }
    record
}
