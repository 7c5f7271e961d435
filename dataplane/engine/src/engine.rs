//! The engine of one worker: a snapshot, a flow table, and the two halves of every packet's walk.

use crate::endings::UpdateCursor;
use crate::flow_table::FlowTable;
use crate::fragment_table::FragmentTable;
use crate::hold::Holds;
use crate::notice::Notices;
use crate::reset::{Reset, Resets};
use crate::translation::{SessionSettings, Sessions};
use crate::walk::Walk;
use crate::{
    AffinityTable, CrowdedDestination, DestinationUse, Drop, EndpointIndex, FlowTableGauges,
    FlowTimeouts, FlowView, FrameBytes, Handover, MacAddress, Now, Outcome, Record, Released,
    RuleHits, SessionTimeouts, SessionView, Snapshot,
};
use portcullis_policy::Generation;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What the daemon decides once, at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineSettings {
    /// Entries of the flow table, the half-open besides. A pod-to-pod flow takes two, one at each
    /// end.
    pub flows_max: u32,
    /// Entries of TCP connections that are being opened; never more than `flows_max`.
    pub half_open_max: u32,
    /// How many of those one endpoint may have.
    pub half_open_per_endpoint_max: u32,
    /// The part of both kinds of entries that one endpoint may have, in percent. A pod has those of
    /// the flows that it begins, at both ends, and of those that begin outside.
    pub endpoint_share_percent: u8,
    /// How long entries live.
    pub timeouts: FlowTimeouts,
    /// When the daemon started.
    pub started: Now,
    /// For how long after the start connections are taken over in mid-stream, as if they were
    /// opened towards the lower port: an unplanned restart must not break them.
    pub midstream_learn: Duration,
    /// ICMP errors that this worker sends in a second. [RFC 4443 §2.4 (f) wants a limit]
    pub icmp_errors_per_second: u32,
    /// Datagrams whose fragments are under way; at least one.
    pub datagrams_max: u32,
    /// Translations: of services, node ports, and what leaves under another address.
    pub sessions_max: u32,
    /// How long those live.
    pub session_timeouts: SessionTimeouts,
    /// Clients whose backend is remembered, for services that ask for it.
    pub affinities_max: u32,
    /// Whether whoever sends the frames finishes partial checksums, where `Checksum` says so.
    pub offload_checksums: bool,
    /// Whether packets of known flows take the whole walk, too: the short way is held to it in tests.
    pub walks_always: bool,
}

/// Destinations whose ports are searched by bitmap, 8 KiB each; others by looking at each.
const PORT_BITMAPS_MAX: u32 = 64;

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            flows_max: 131_072,
            half_open_max: 65_536,
            half_open_per_endpoint_max: 4096,
            endpoint_share_percent: 25,
            timeouts: FlowTimeouts::default(),
            started: Now(0),
            midstream_learn: Duration::from_secs(30),
            icmp_errors_per_second: 1000,
            datagrams_max: 4096,
            sessions_max: 65_536,
            session_timeouts: SessionTimeouts::default(),
            affinities_max: 16_384,
            offload_checksums: false,
            walks_always: false,
        }
    }
}

/// One worker's engine. Allocates nothing after `new`.
#[derive(Debug)]
pub struct Engine {
    pub(crate) settings: EngineSettings,
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    hits: Option<Arc<RuleHits>>,
    pub(crate) flows: FlowTable,
    fragments: FragmentTable,
    holds: Holds,
    notices: Notices,
    resets: Resets,
    sessions: Sessions,
    affinity: AffinityTable,
    pub(crate) records_lost: u64,
    pub(crate) shortcuts: u64,
    pub(crate) updates: UpdateCursor,
}

impl Engine {
    /// An engine that drops everything until it adopts a snapshot. `hash_key` is a secret chance
    /// value: with it strangers cannot aim their flows at one bucket.
    #[must_use]
    pub fn new(settings: EngineSettings, hash_key: (u64, u64)) -> Self {
        Self {
            settings,
            snapshot: None,
            hits: None,
            flows: FlowTable::new(&settings, hash_key),
            fragments: FragmentTable::new(settings.datagrams_max, hash_key),
            holds: Holds::new(),
            notices: Notices::new(settings.icmp_errors_per_second, settings.started),
            resets: Resets::new(),
            sessions: Sessions::new(&SessionSettings {
                sessions_max: settings.sessions_max,
                share_percent: settings.endpoint_share_percent,
                bitmaps_max: PORT_BITMAPS_MAX,
                timeouts: settings.session_timeouts,
                hash_key,
            }),
            affinity: AffinityTable::new(settings.affinities_max, hash_key),
            records_lost: 0,
            shortcuts: 0,
            updates: UpdateCursor::default(),
        }
    }

    /// Takes a new snapshot, between two batches. Returns the old one: freeing it is for control.
    ///
    /// Frames that wait for a neighbour that it knows wait no longer.
    pub fn adopt(&mut self, snapshot: Arc<Snapshot>) -> Option<Arc<Snapshot>> {
        self.holds
            .release_neighbours(|at, address| snapshot.is_reachable(at, address));
        self.snapshot.replace(snapshot)
    }

    /// Takes over connections in mid-stream for a while again: an endpoint has come from another
    /// worker, and they are not known here. Policy judges them all the same.
    pub fn learn_midstream(&mut self, now: Now) {
        self.settings.started = now;
    }

    /// Counts from now on in these, which belong to the tables of the snapshot. Returns those of
    /// before.
    pub fn count_in(&mut self, hits: Arc<RuleHits>) -> Option<Arc<RuleHits>> {
        self.hits.replace(hits)
    }

    /// The generation that judges now. None before the first `adopt`.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        Some(self.snapshot.as_deref()?.generation)
    }

    /// An endpoint, as the snapshot in use has it.
    #[must_use]
    pub fn endpoint(&self, index: EndpointIndex) -> Option<&crate::Endpoint> {
        self.snapshot.as_deref()?.endpoint(index)
    }

    /// The worker that owns an endpoint.
    #[must_use]
    pub fn worker_of(&self, index: EndpointIndex) -> Option<u16> {
        Some(self.endpoint(index)?.worker)
    }

    /// Runs the egress half of a frame that came in at `from`, an endpoint of this worker.
    ///
    /// `frame.head_length` may shrink: Ethernet padding is cut off.
    pub fn egress(
        &mut self,
        from: EndpointIndex,
        frame: &mut FrameBytes<'_>,
        now: Now,
        records: &mut Vec<Record>,
    ) -> Outcome {
        let foreseen = self.foresee(from, frame);
        self.egress_foreseen(from, foreseen.as_ref(), frame, now, records)
    }

    pub(crate) fn walk_egress(
        &mut self,
        from: EndpointIndex,
        frame: &mut FrameBytes<'_>,
        now: Now,
        records: &mut Vec<Record>,
    ) -> Outcome {
        self.run(frame, now, records, |walk, frame| walk.egress(from, frame))
    }

    /// A frame whose wait is over: what it waited for has come, or did not in time. To be asked after
    /// each `egress`, `adopt`, `expire` and `release_held`, until there is none.
    pub fn take_released(&mut self) -> Option<Released> {
        self.holds.take()
    }

    /// Runs the egress half of a frame that ended in `Outcome::Hold`. It does not wait again.
    pub fn resume(
        &mut self,
        released: Released,
        frame: &mut FrameBytes<'_>,
        now: Now,
        records: &mut Vec<Record>,
    ) -> Outcome {
        self.run(frame, now, records, |walk, frame| {
            walk.has_waited = true;
            // An index is used again: nobody's frame is judged as another's.
            let endpoint = walk.snapshot.endpoint(released.from);
            match endpoint.filter(|endpoint| endpoint.id == released.from_id) {
                Some(_) => walk.egress(released.from, frame),
                None => Err(Drop::EndpointGone),
            }
        })
    }

    /// Ends the wait of all frames that came in at an endpoint: it is about to go.
    pub fn release_held(&mut self, from: EndpointIndex) {
        self.holds.release_from(from);
    }

    /// Runs the ingress half of a frame whose egress half ended in `Outcome::HandOver`.
    ///
    /// When `handover.must_be_withdrawn(&outcome)`, the source's worker has to call `withdraw`.
    pub fn ingress(
        &mut self,
        handover: &Handover,
        frame: &mut FrameBytes<'_>,
        now: Now,
        records: &mut Vec<Record>,
    ) -> Outcome {
        self.run(frame, now, records, |walk, frame| {
            walk.ingress(handover, frame)
        })
    }

    /// A reset that has to be sent: to each end of a connection that policy no longer allows.
    /// To be asked after each batch.
    pub fn take_reset(&mut self) -> Option<Reset> {
        self.resets.take()
    }

    /// Connections whose ends were not told: too many ended at once.
    #[must_use]
    pub fn resets_lost(&self) -> u64 {
        self.resets.lost()
    }

    /// Takes back the entry at the source of a flow that the ingress half denied, and the
    /// translation that it began: a denial never keeps either. Nothing happens when it has gone already.
    pub fn withdraw(&mut self, handover: &Handover) {
        if let Some(session) = handover.session {
            self.sessions.remove(session);
        }
        if let Some(flow) = handover.flow {
            self.flows.remove(flow);
        }
    }

    /// Removes flows past their time, a bounded piece of the table in each call; ends the wait of
    /// frames that have waited long enough.
    pub fn expire(&mut self, now: Now) {
        self.flows.expire(now);
        self.holds.expire(now);
        self.sessions.expire(now);
    }

    /// Packets that took the short way: of flows that are known at both ends.
    #[must_use]
    pub fn shortcuts_count(&self) -> u64 {
        self.shortcuts
    }

    /// Entries in the flow table.
    #[must_use]
    pub fn flows_count(&self) -> usize {
        self.flows.count()
    }

    /// The memory of the flow table that packets read all over, where each part begins and its bytes:
    /// worth large pages, which only the caller can ask for.
    #[must_use]
    pub fn flow_memory(&self) -> [(*const u8, usize); 2] {
        self.flows.memory()
    }

    /// How full the flow table is, and what its bounds have cost.
    #[must_use]
    pub fn flow_table_gauges(&self) -> FlowTableGauges {
        self.flows.gauges()
    }

    /// Writes flows into what room `out` has, from a cursor on that begins at zero; a bounded
    /// piece of the table in each call. Returns where to go on; None at the end.
    pub fn list_flows(&self, cursor: u32, out: &mut Vec<FlowView>) -> Option<u32> {
        self.flows.list(cursor, out)
    }

    /// Writes sessions of translation into what room `out` has, as `list_flows` does.
    pub fn list_sessions(&self, cursor: u32, out: &mut Vec<SessionView>) -> Option<u32> {
        self.sessions.list(cursor, out)
    }

    /// Sessions of translation.
    #[must_use]
    pub fn sessions_count(&self) -> usize {
        self.sessions.count()
    }

    /// Writes destinations with the ports that each takes into what room `out` has, as
    /// `list_flows` does.
    pub fn list_destinations(&self, cursor: u32, out: &mut Vec<DestinationUse>) -> Option<u32> {
        self.sessions.ports.list(cursor, out)
    }

    pub(crate) fn sessions_max(&self) -> usize {
        self.settings.sessions_max as usize
    }

    pub(crate) fn affinity(&self) -> &AffinityTable {
        &self.affinity
    }

    pub(crate) fn held_count(&self) -> usize {
        self.holds.count()
    }

    pub(crate) fn resets_waiting(&self) -> usize {
        self.resets.count()
    }

    /// The destinations that take most ports of an egress address, as many as `out` has room for.
    /// Looks at all of them: not for the packet path.
    pub fn fullest_destinations(&self, out: &mut Vec<DestinationUse>) {
        self.sessions.fullest(out);
    }

    /// Records that found no room since the start.
    #[must_use]
    pub fn records_lost(&self) -> u64 {
        self.records_lost
    }

    /// A destination that is running out of ports, or has none left.
    pub fn take_crowded(&mut self) -> Option<CrowdedDestination> {
        self.notices.crowded.take()
    }

    /// A MAC address that an endpoint has shown to be its own and that the snapshot lacks.
    pub fn take_learned(&mut self) -> Option<(EndpointIndex, MacAddress)> {
        self.notices.learned.take()
    }

    /// An address whose MAC address is wanted at an endpoint: a next hop on the uplink, or an
    /// address of a pod that has not shown itself yet (`solicit` makes the question).
    pub fn take_wanted_neighbour(&mut self) -> Option<(EndpointIndex, IpAddr)> {
        self.notices.wanted.take()
    }

    fn run(
        &mut self,
        frame: &mut FrameBytes<'_>,
        now: Now,
        records: &mut Vec<Record>,
        half: impl FnOnce(&mut Walk<'_>, &mut FrameBytes<'_>) -> Result<Outcome, Drop>,
    ) -> Outcome {
        let record = Record {
            length: u32::try_from(frame.length()).unwrap_or(u32::MAX),
            ..Record::BLANK
        };
        let Some(snapshot) = self.snapshot.as_deref() else {
            tell(records, &mut self.records_lost, record);
            return Outcome::Drop(Drop::NoTables);
        };
        let mut walk = Walk {
            snapshot,
            settings: &self.settings,
            flows: &mut self.flows,
            fragments: &mut self.fragments,
            holds: &mut self.holds,
            notices: &mut self.notices,
            resets: &mut self.resets,
            sessions: &mut self.sessions,
            affinity: &mut self.affinity,
            now,
            has_waited: false,
            record: Record {
                generation: snapshot.generation,
                ..record
            },
            deciding: [None; 2],
            is_telling: false,
        };
        let outcome = half(&mut walk, frame).unwrap_or_else(|reason| walk.end(reason));
        if let Some(hits) = &self.hits
            && !matches!(outcome, Outcome::Hold(_))
        {
            let rules = walk.deciding.into_iter().flatten();
            rules.for_each(|rule| hits.count(rule, now));
        }
        if walk.is_telling {
            tell(records, &mut self.records_lost, walk.record);
        }
        outcome
    }
}

/// Writes a record where there is room: the packet path never waits for its observers.
fn tell(records: &mut Vec<Record>, records_lost: &mut u64, record: Record) {
    if records.len() < records.capacity() {
        records.push(record);
    } else {
        *records_lost += 1;
    }
}
