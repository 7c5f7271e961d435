//! Several workers, packets in flight between them, tables that change under way, a clock that
//! jumps: nothing is delivered that the plain reading denies, and every frame ends once.
//!
//! `PORTCULLIS_SEED=7 cargo test -p portcullis-engine --test simulation` replays one seed,
//! `PORTCULLIS_SEEDS=5000` runs more.

mod network;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/world.rs"]
mod world;

use network::build::has_valid_checksums;
use network::{CLIENT, End, SERVER, STRANGER, end_of, with_frame};
use oracle::{Oracle, Side};
use portcullis_engine::{
    Drop, EndpointIndex, EndpointKind, Engine, EngineSettings, Handover, HoldSlot, Now, Outcome,
    Packet, Parsed, Record, RecordKind, Released, Snapshot, parse,
};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use world::{Chance, ENDPOINTS, Population, WORKERS, frames_by, snapshot_by};

const SEEDS: u64 = 150;
const STEPS: usize = 600;
const SECOND: u64 = 1_000_000_000;

/// A frame between two workers.
struct Flight {
    handover: Handover,
    frame: Vec<u8>,
    /// The packet that judges it, when it is a later fragment.
    first: Option<Packet>,
}

/// How all frames of a run ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    came: usize,
    sent: usize,
    answered: usize,
    dropped: usize,
    lost: usize,
    /// Later fragments among those that were sent.
    later: usize,
}

struct Simulation {
    chance: Chance,
    now: Now,
    published: (Arc<Snapshot>, Population),
    workers: Vec<Worker>,
    flights: VecDeque<Flight>,
    withdrawals: VecDeque<Handover>,
    oracle: Oracle,
    count: Count,
}

struct Worker {
    engine: Engine,
    snapshot: Arc<Snapshot>,
    records: Vec<Record>,
    /// Frames that wait.
    held: HashMap<HoldSlot, (EndpointIndex, Vec<u8>)>,
}

impl Worker {
    /// Takes the records of one half: one at the end of a packet, none on its way.
    fn told(&mut self) -> Vec<Record> {
        assert_eq!(self.engine.records_lost(), 0);
        self.records.drain(..).collect()
    }
}

fn packet_of(frame: &mut Vec<u8>) -> Packet {
    match with_frame(frame, |frame| parse(frame)) {
        Ok(Parsed::Ip(packet)) => packet,
        other => panic!("forwarded although it reads as {other:?}"),
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let (snapshot, population) = snapshot_by(&mut chance, None);
        let snapshot = Arc::new(snapshot);
        let settings = EngineSettings {
            flows_max: if chance.one_in(4) { 24 } else { 4096 },
            datagrams_max: if chance.one_in(4) { 8 } else { 4096 },
            ..EngineSettings::default()
        };
        let workers = (0..WORKERS)
            .map(|number| {
                let mut engine = Engine::new(settings, (seed, number as u64));
                engine.adopt(Arc::clone(&snapshot));
                Worker {
                    engine,
                    snapshot: Arc::clone(&snapshot),
                    records: Vec::with_capacity(8),
                    held: HashMap::new(),
                }
            })
            .collect();
        Self {
            chance,
            now: Now(1000 * SECOND),
            published: (snapshot, population),
            workers,
            flights: VecDeque::new(),
            withdrawals: VecDeque::new(),
            oracle: Oracle::default(),
            count: Count::default(),
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            match self.chance.below(100) {
                0..=59 => self.receive(),
                60..=84 => self.land(),
                85..=90 => self.withdraw(),
                91..=92 => self.publish(),
                93..=96 => self.adopt(),
                _ => self.wait(),
            }
        }
        // Nothing waits for ever, neither frames nor answers.
        self.now = Now(self.now.0 + 2 * SECOND);
        for number in 0..WORKERS {
            self.workers[number].engine.expire(self.now);
            self.release(number);
            assert!(self.workers[number].held.is_empty());
        }
        while !self.flights.is_empty() || !self.withdrawals.is_empty() {
            self.land();
            self.withdraw();
        }
        let Count {
            came,
            sent,
            answered,
            dropped,
            lost,
            later: _,
        } = self.count;
        assert_eq!(came, sent + answered + dropped + lost, "{:?}", self.count);
        self.now = Now(self.now.0 + 8001 * SECOND);
        for worker in &mut self.workers {
            (0..9).for_each(|_| worker.engine.expire(self.now));
            assert_eq!(worker.engine.flows_count(), 0);
        }
    }

    fn publish(&mut self) {
        let before = Some((&*self.published.0, self.published.1));
        let (snapshot, population) = snapshot_by(&mut self.chance, before);
        self.published = (Arc::new(snapshot), population);
    }

    fn adopt(&mut self) {
        let worker = &mut self.workers[self.chance.below(WORKERS)];
        worker.snapshot = Arc::clone(&self.published.0);
        worker.engine.adopt(Arc::clone(&self.published.0));
    }

    fn wait(&mut self) {
        let seconds = self.chance.pick(&[0, 1, 5, 11, 30, 61, 200, 8001]);
        self.now = Now(self.now.0 + seconds * SECOND + 1);
        let number = self.chance.below(WORKERS);
        self.workers[number].engine.expire(self.now);
        self.release(number);
    }

    /// Frames go on whose wait is over.
    fn release(&mut self, number: usize) {
        while let Some(released) = self.workers[number].engine.take_released() {
            let held = self.workers[number].held.remove(&released.slot);
            let (from, bytes) = held.expect("no frame in the slot");
            self.walk(from, bytes, Some(released));
        }
    }

    fn withdraw(&mut self) {
        let Some(handover) = self.withdrawals.pop_front() else {
            return;
        };
        let worker = &mut self.workers[owner(handover.from)];
        worker.engine.withdraw(&handover);
        if let Some(ticket) = handover.flow {
            self.oracle.withdraw(ticket, handover.from_id);
        }
    }

    /// A frame comes in somewhere.
    fn receive(&mut self) {
        let from = self.chance.pick(&ENDPOINTS);
        let worker = &mut self.workers[owner(from)];
        for bytes in frames_by(&mut self.chance, &worker.snapshot, from) {
            self.count.came += 1;
            self.walk(from, bytes, None);
            self.release(owner(from));
        }
    }

    /// The egress half, and the other where it is on the same worker.
    fn walk(&mut self, from: EndpointIndex, mut bytes: Vec<u8>, released: Option<Released>) {
        let worker = &mut self.workers[owner(from)];
        let (engine, records, now) = (&mut worker.engine, &mut worker.records, self.now);
        let before = bytes.clone();
        let (outcome, end) = with_frame(&mut bytes, |frame| {
            let outcome = match released {
                Some(released) => engine.resume(released, frame, now, records),
                None => engine.egress(from, frame, now, records),
            };
            let end = match outcome {
                Outcome::HandOver(_) => None,
                other => Some(end_of(other, frame)),
            };
            (outcome, end)
        });
        let told = worker.told();
        if let Some(End::Held(slot)) = end {
            assert_eq!(told, vec![]);
            let before = worker.held.insert(slot, (from, bytes));
            assert!(before.is_none(), "two frames in one slot");
            return;
        }
        let Outcome::HandOver(handover) = outcome else {
            self.check_complete(from, &before, &end);
            return self.finish(&end.unwrap(), &told);
        };
        assert_eq!(told, vec![]);
        let first = self.check_egress(from, &handover, &mut bytes);
        if self.chance.one_in(30) {
            self.count.lost += 1;
            return;
        }
        let flight = Flight {
            handover,
            frame: bytes,
            first,
        };
        if owner(handover.to) == owner(from) {
            self.deliver(flight);
        } else {
            self.flights.push_back(flight);
        }
    }

    fn land(&mut self) {
        if let Some(flight) = self.flights.pop_front() {
            self.deliver(flight);
        }
    }

    fn deliver(&mut self, flight: Flight) {
        let Flight {
            handover,
            frame: mut bytes,
            first,
        } = flight;
        let worker = &mut self.workers[owner(handover.to)];
        let (engine, records, now) = (&mut worker.engine, &mut worker.records, self.now);
        let (outcome, end) = with_frame(&mut bytes, |frame| {
            let outcome = engine.ingress(&handover, frame, now, records);
            (outcome, end_of(outcome, frame))
        });
        let told = worker.told();
        let is_denied = matches!(end, End::Dropped(reason) if reason.is_denial());
        let is_dropped = matches!(end, End::Dropped(_));
        if handover.flow.is_some() && (is_denied || is_dropped && handover.is_opening) {
            assert!(handover.must_be_withdrawn(&outcome));
        }
        if handover.must_be_withdrawn(&outcome) {
            self.withdrawals.push_back(handover);
            if owner(handover.from) == owner(handover.to) {
                while !self.withdrawals.is_empty() {
                    self.withdraw();
                }
            }
        }
        match &end {
            End::Sent { to, frame } => {
                self.count.later += usize::from(first.is_some());
                self.check_ingress(&handover, *to, frame.clone(), first);
            }
            End::Cut { to, frames } => {
                self.check_ingress(&handover, *to, frames[0].clone(), first);
            }
            End::Answered { .. } => panic!("the ingress half answers nothing"),
            End::Held(_) => panic!("the ingress half lets nothing wait"),
            End::Dropped(_) => {}
        }
        self.finish(&end, &told);
    }

    fn finish(&mut self, end: &End, told: &[Record]) {
        match end {
            End::Sent { .. } | End::Cut { .. } => {
                self.count.sent += 1;
                let kinds: Vec<_> = told.iter().map(|record| record.kind).collect();
                assert!(matches!(kinds[..], [] | [RecordKind::Flow]), "{kinds:?}");
            }
            End::Answered { reason, .. } => {
                self.count.answered += 1;
                assert_eq!(told.len(), usize::from(reason.is_some()));
            }
            End::Held(_) => unreachable!("it has not ended"),
            End::Dropped(reason) => {
                self.count.dropped += 1;
                let [record] = told else {
                    panic!("a drop for {reason:?} told {told:?}");
                };
                let is_named = record.kind == RecordKind::Drop(*reason)
                    || record.kind == RecordKind::Revoked(*reason);
                assert!(is_named, "{reason:?}: {record:?}");
            }
        }
    }

    /// What left the egress half must be allowed at its source by the plain reading. Returns what
    /// judges a later fragment.
    fn check_egress(
        &mut self,
        from: EndpointIndex,
        handover: &Handover,
        bytes: &mut Vec<u8>,
    ) -> Option<Packet> {
        let packet = packet_of(bytes);
        let first = self.oracle.first_of(handover.from_id, &packet);
        let judged = first.unwrap_or(packet);
        let snapshot = Arc::clone(&self.workers[owner(from)].snapshot);
        let endpoint = snapshot.endpoint(from).unwrap();
        assert_eq!(handover.from_id, endpoint.id);
        match endpoint.kind {
            EndpointKind::Pod => {
                assert!(
                    endpoint.addresses.contains(&packet.source),
                    "spoofed: {packet:?}"
                );
                assert_eq!(handover.source, endpoint.identity);
                self.check_pod(from, Side::Pod, &judged, bytes, handover.flow);
            }
            EndpointKind::Host | EndpointKind::Uplink => {
                let owner = snapshot.owner_of(packet.source).map(|(index, _)| index);
                let is_own = endpoint.kind == EndpointKind::Host && owner == Some(from);
                assert!(owner.is_none() || is_own, "spoofed: {packet:?}");
                assert_eq!(
                    handover.source,
                    oracle::identity_at(&snapshot, packet.source)
                );
            }
        }
        first
    }

    /// What is sent must be allowed at its destination, and rewritten as it should be.
    fn check_ingress(
        &mut self,
        handover: &Handover,
        to: EndpointIndex,
        mut frame: Vec<u8>,
        first: Option<Packet>,
    ) {
        assert_eq!(to, handover.to);
        let packet = packet_of(&mut frame);
        let snapshot = Arc::clone(&self.workers[owner(to)].snapshot);
        let endpoint = snapshot.endpoint(to).unwrap();
        assert_eq!(handover.to_id, endpoint.id);
        if handover.generation != snapshot.generation {
            let from = snapshot.endpoint(handover.from).map(|from| from.id);
            assert_eq!(from, Some(handover.from_id), "sent by nobody: {packet:?}");
        }
        let next_hop = endpoint.peer_mac.or(handover.next_hop).unwrap();
        assert_eq!(packet.destination_mac, next_hop);
        assert_eq!(packet.source_mac, endpoint.own_mac);
        assert!(packet.ip_length <= endpoint.mtu);
        assert!(packet.hops_left >= 1);
        if endpoint.kind != EndpointKind::Uplink {
            assert!(endpoint.addresses.contains(&packet.destination));
        }
        if endpoint.kind == EndpointKind::Pod {
            let judged = first.unwrap_or(packet);
            self.check_pod(to, Side::Peer, &judged, &mut frame, None);
        }
    }

    fn check_pod(
        &mut self,
        index: EndpointIndex,
        sender: Side,
        packet: &Packet,
        bytes: &mut [u8],
        ticket: Option<portcullis_engine::FlowTicket>,
    ) {
        let snapshot = Arc::clone(&self.workers[owner(index)].snapshot);
        let pod = snapshot.endpoint(index).unwrap();
        let now = self.now;
        if packet.is_icmp_error() {
            let flow = quoted_flow(pod.id, sender, packet, bytes);
            let may = self.oracle.may_relate(&snapshot, pod, &flow, now);
            assert!(may, "unrelated: {packet:?} about {flow:?}");
            return;
        }
        let may = self.oracle.may_pass(&snapshot, pod, sender, packet, now);
        assert!(may, "denied by the plain reading at {index:?}: {packet:?}");
        self.oracle.remember(pod.id, sender, packet, ticket, now);
    }

    /// A pod's honest opener that policy allows at its source must leave the egress half.
    fn check_complete(&mut self, from: EndpointIndex, bytes: &[u8], end: &Option<End>) {
        let mut bytes = bytes.to_vec();
        let Ok(Parsed::Ip(packet)) = with_frame(&mut bytes, |frame| parse(frame)) else {
            return;
        };
        let Some(End::Dropped(Drop::PolicyDenied | Drop::PolicyDeniedByRule | Drop::FlowUnknown)) =
            end
        else {
            return;
        };
        if packet.is_later_fragment()
            || packet.is_icmp_error()
            || oracle::read(&packet).0 != oracle::Sort::Opener
        {
            return;
        }
        let snapshot = &self.workers[owner(from)].snapshot;
        let pod = snapshot.endpoint(from).unwrap();
        let flow = oracle::flow_of(pod.id, Side::Pod, &packet);
        let is_allowed = oracle::is_allowed(snapshot, pod, &flow, Side::Pod);
        // An entry of this very opener may have been judged again, and revoked: same verdict.
        assert!(!is_allowed, "denied although allowed: {packet:?}");
    }
}

/// The flow that an ICMP error quotes, read by plain offsets: the simulation's own quotes have
/// neither options nor extension headers, and a flipped bit may only make the error unrelated.
fn quoted_flow(
    pod: portcullis_engine::EndpointId,
    sender: Side,
    packet: &Packet,
    bytes: &[u8],
) -> oracle::Flow {
    let quote = &bytes[usize::from(packet.transport_offset) + 8..];
    let word = |at: usize| u16::from_be_bytes([quote[at], quote[at + 1]]);
    let (protocol, addresses, above) = if quote[0] >> 4 == 4 {
        let four = |at: usize| <[u8; 4]>::try_from(&quote[at..at + 4]).unwrap().into();
        (
            quote[9],
            (four(12), four(16)),
            usize::from(quote[0] & 15) * 4,
        )
    } else {
        let sixteen = |at: usize| <[u8; 16]>::try_from(&quote[at..at + 16]).unwrap().into();
        (quote[6], (sixteen(8), sixteen(24)), 40)
    };
    let ends = ((addresses.0, word(above)), (addresses.1, word(above + 2)));
    let quoted_sender = match sender {
        Side::Pod => Side::Peer,
        Side::Peer => Side::Pod,
    };
    oracle::between(pod, quoted_sender, protocol, 0, ends)
}

fn owner(index: EndpointIndex) -> usize {
    usize::from(index.0) * 7 % WORKERS
}

/// Says which seed was running, when a run fails.
struct Running(u64);

impl std::ops::Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with PORTCULLIS_SEED={}", self.0);
        }
    }
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nothing_is_delivered_that_the_plain_reading_denies() {
    let seeds = match number_of("PORTCULLIS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_of("PORTCULLIS_SEEDS").unwrap_or(SEEDS),
    };
    let mut sum = Count::default();
    let is_whole = seeds.end - seeds.start > 1;
    for seed in seeds {
        let running = Running(seed);
        let mut simulation = Simulation::new(seed);
        simulation.run();
        sum.came += simulation.count.came;
        sum.sent += simulation.count.sent;
        sum.dropped += simulation.count.dropped;
        sum.later += simulation.count.later;
        drop(running);
    }
    // A simulation that delivers next to nothing proves next to nothing.
    if is_whole {
        assert!(sum.sent * 10 > sum.came, "{sum:?}");
        assert!(sum.dropped * 10 > sum.came, "{sum:?}");
        assert!(sum.later * 100 > sum.came, "{sum:?}");
    }
}

#[test]
fn the_checks_of_the_simulation_tell_good_frames_from_bad() {
    let mut frame = network::build::v4(CLIENT, SERVER).udp((1, 2), b"x");
    assert!(has_valid_checksums(&frame));
    frame[42] ^= 1;
    assert!(!has_valid_checksums(&frame));
    assert_ne!(owner(CLIENT), owner(SERVER));
    assert_ne!(owner(SERVER), owner(STRANGER));
}
