//! Several workers, packets in flight between them, tables that change under way, a clock that
//! jumps: nothing is delivered that the plain reading denies, and every frame ends once.
//!
//! `PORTCULLIS_SEED=7 cargo test -p portcullis-engine --test simulation` replays one seed,
//! `PORTCULLIS_SEEDS=5000` runs more.

mod network;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/translations.rs"]
mod translations;
#[path = "simulation/world.rs"]
mod world;

use network::build::has_valid_checksums;
use network::{CLIENT, End, HEAD_MAX, SERVER, STRANGER, end_of, with_frame};
use oracle::{Oracle, Side};
use portcullis_engine::{
    Drop, EndpointIndex, EndpointKind, Engine, EngineSettings, Handover, HoldSlot, Now, Outcome,
    Packet, Parsed, Record, RecordKind, Released, Snapshot, finish_checksum, parse,
};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use translations::{Half, Translations};
use world::{Chance, ENDPOINTS, Population, WORKERS, frames_by, reply_by, snapshot_by};

const SEEDS: u64 = 1000;
const STEPS: usize = 300;
const SECOND: u64 = 1_000_000_000;

/// A frame between two workers.
struct Flight {
    handover: Handover,
    frame: Vec<u8>,
    /// The packet that judges it, when it is a later fragment.
    first: Option<Packet>,
    /// Whether its checksums were right, or partial, when it came.
    is_right: bool,
    /// Who had opened its flow when it left its pod.
    opened_by: Option<Side>,
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
    /// Those that were sent with other addresses or ports than they had.
    translated: usize,
    /// Resets of ours among those that came.
    resets: usize,
    /// Answers of the uplink to a pod.
    returned: usize,
}

struct Simulation {
    chance: Chance,
    now: Now,
    published: (Arc<Snapshot>, Population),
    workers: Vec<Worker>,
    flights: VecDeque<Flight>,
    withdrawals: VecDeque<Handover>,
    oracle: Oracle,
    translations: Translations,
    /// What was sent to each endpoint last, to be answered.
    arrived: HashMap<EndpointIndex, VecDeque<Vec<u8>>>,
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
            sessions_max: if chance.one_in(4) { 12 } else { 1024 },
            affinities_max: 16,
            half_open_max: if chance.one_in(4) { 8 } else { 1024 },
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
            translations: Translations::default(),
            arrived: HashMap::new(),
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
            self.send_resets();
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
            self.send_resets();
        }
        let Count {
            came,
            sent,
            answered,
            dropped,
            lost,
            ..
        } = self.count;
        assert_eq!(came, sent + answered + dropped + lost, "{:?}", self.count);
        self.now = Now(self.now.0 + 8001 * SECOND);
        for worker in &mut self.workers {
            (0..9).for_each(|_| worker.engine.expire(self.now));
            assert_eq!(worker.engine.flows_count(), 0);
            assert_eq!(worker.engine.sessions_count(), 0);
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
        self.check_sessions(number);
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

    /// Both ends of what policy has just ended are told, on their workers.
    fn send_resets(&mut self) {
        for number in 0..WORKERS {
            while let Some(reset) = self.workers[number].engine.take_reset() {
                let mut frame = vec![0; HEAD_MAX];
                let length = reset.write(&mut frame);
                assert!(length > 0);
                frame.truncate(length);
                self.count.came += 1;
                self.count.resets += 1;
                let handover = *reset.handover();
                let opened_by = self.opener_of(&handover, &mut frame, None);
                self.fly(Flight {
                    handover,
                    frame,
                    first: None,
                    is_right: true,
                    opened_by,
                });
            }
        }
    }

    fn fly(&mut self, flight: Flight) {
        self.flights.push_back(flight);
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
        let arrived = self
            .arrived
            .get(&from)
            .filter(|arrived| !arrived.is_empty());
        let mut frames = match arrived {
            Some(arrived) if self.chance.one_in(2) => {
                let frame = &arrived[self.chance.below(arrived.len())];
                reply_by(&mut self.chance, from, frame)
                    .into_iter()
                    .collect()
            }
            _ => frames_by(&mut self.chance, &self.workers[owner(from)].snapshot, from),
        };
        if self.chance.one_in(15) {
            frames.extend(frames.clone());
        }
        for bytes in frames {
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
        let first = self.check_egress(from, &handover, &before, &mut bytes);
        if self.chance.one_in(30) {
            self.count.lost += 1;
            return;
        }
        let opened_by = self.opener_of(&handover, &mut bytes, first);
        let flight = Flight {
            handover,
            frame: bytes,
            first,
            is_right: is_right(before),
            opened_by,
        };
        if owner(handover.to) == owner(from) {
            self.deliver(flight);
        } else {
            self.fly(flight);
        }
    }

    /// Any of those in flight arrives.
    fn land(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let any = self.chance.below(self.flights.len());
        if let Some(flight) = self.flights.swap_remove_back(any) {
            self.deliver(flight);
        }
    }

    fn deliver(&mut self, flight: Flight) {
        let Flight {
            handover,
            frame: mut bytes,
            first,
            is_right,
            opened_by,
        } = flight;
        let before = bytes.clone();
        let worker = &mut self.workers[owner(handover.to)];
        let (engine, records, now) = (&mut worker.engine, &mut worker.records, self.now);
        let (outcome, end) = with_frame(&mut bytes, |frame| {
            let outcome = engine.ingress(&handover, frame, now, records);
            let end = match outcome {
                Outcome::Return { length, .. } => {
                    frame.head_length = usize::from(length);
                    None
                }
                other => Some(end_of(other, frame)),
            };
            (outcome, end)
        });
        let told = worker.told();
        let is_denied = matches!(end, Some(End::Dropped(reason)) if reason.is_denial());
        let is_dropped = matches!(end, Some(End::Dropped(_)));
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
        let Some(end) = end else {
            return self.go_back(&handover, outcome, bytes, &told);
        };
        match &end {
            End::Sent { to, frame } => {
                self.count.later += usize::from(first.is_some());
                self.check_ingress(&handover, *to, &before, frame.clone(), (first, opened_by));
                assert!(!is_right || self::is_right(frame.clone()), "{frame:02x?}");
                let arrived = self.arrived.entry(*to).or_default();
                arrived.push_back(frame.clone());
                arrived.truncate(40);
                if arrived.len() == 40 {
                    arrived.drain(..20);
                }
            }
            End::Cut { to, frames } => {
                self.check_ingress(
                    &handover,
                    *to,
                    &before,
                    frames[0].clone(),
                    (first, opened_by),
                );
                let are_right = frames.iter().all(|frame| self::is_right(frame.clone()));
                assert!(!is_right || are_right);
            }
            End::Answered { .. } => panic!("the ingress half answers nothing"),
            End::Held(_) => panic!("the ingress half lets nothing wait"),
            End::Dropped(_) => {}
        }
        self.finish(&end, &told);
    }

    /// An answer of the uplink to the pod that sent something: made in its frame.
    fn go_back(&mut self, sent: &Handover, outcome: Outcome, mut bytes: Vec<u8>, told: &[Record]) {
        let Outcome::Return {
            handover,
            length,
            reason,
        } = outcome
        else {
            panic!("only what returns has not ended");
        };
        assert_eq!((handover.to, handover.to_id), (sent.from, sent.from_id));
        let kinds: Vec<_> = told.iter().map(|record| record.kind).collect();
        assert_eq!(kinds, [RecordKind::Drop(reason)]);
        self.count.returned += 1;
        bytes.truncate(usize::from(length));
        assert!(is_right(bytes.clone()));
        self.fly(Flight {
            handover,
            frame: bytes,
            first: None,
            is_right: true,
            opened_by: None,
        });
    }

    /// Who opened the flow of a packet that comes from its pod.
    fn opener_of(
        &self,
        handover: &Handover,
        bytes: &mut Vec<u8>,
        first: Option<Packet>,
    ) -> Option<Side> {
        if ![CLIENT, SERVER, STRANGER].contains(&handover.from) {
            return None;
        }
        let packet = packet_of(bytes);
        let flow = match packet.is_icmp_error() {
            true => quoted_flow(handover.from_id, Side::Pod, &packet, bytes),
            false => oracle::flow_of(handover.from_id, Side::Pod, &first.unwrap_or(packet)),
        };
        self.oracle.opened_by(&flow)
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
        before: &[u8],
        bytes: &mut Vec<u8>,
    ) -> Option<Packet> {
        let packet = packet_of(bytes);
        let original = packet_of(&mut before.to_vec());
        let snapshot = Arc::clone(&self.workers[owner(from)].snapshot);
        let endpoint = snapshot.endpoint(from).unwrap();
        assert_eq!(handover.from_id, endpoint.id);
        let first = self.oracle.first_of(handover.from_id, &original, &packet);
        let half = Half::Egress(from);
        let translated =
            self.translations
                .check(&snapshot, half, (&original, before), (&packet, bytes));
        self.count.translated += usize::from(translated);
        if handover.is_own {
            // A pod that reaches itself asks nobody.
            assert_eq!((handover.to, packet.destination), (from, original.source));
            return first;
        }
        let judged = first.unwrap_or(packet);
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
                let owner = snapshot.owner_of(original.source).map(|(index, _)| index);
                let is_own = endpoint.kind == EndpointKind::Host && owner == Some(from);
                assert!(owner.is_none() || is_own, "spoofed: {packet:?}");
                assert_eq!(
                    handover.source,
                    oracle::identity_at(&snapshot, original.source)
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
        before: &[u8],
        mut frame: Vec<u8>,
        (first, opened_by): (Option<Packet>, Option<Side>),
    ) {
        assert_eq!(to, handover.to);
        let packet = packet_of(&mut frame);
        let mut before = before.to_vec();
        let seen = packet_of(&mut before);
        let snapshot = Arc::clone(&self.workers[owner(to)].snapshot);
        let endpoint = snapshot.endpoint(to).unwrap();
        assert_eq!(handover.to_id, endpoint.id);
        if handover.generation != snapshot.generation && !handover.is_own {
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
        let half = Half::Ingress(to);
        let translated =
            self.translations
                .check(&snapshot, half, (&seen, &before), (&packet, &frame));
        self.count.translated += usize::from(translated);
        if endpoint.kind == EndpointKind::Pod && !handover.is_own {
            let judged = first.unwrap_or(seen);
            self.check_pod(to, Side::Peer, &judged, &mut before, None);
        }
        if endpoint.kind == EndpointKind::Uplink {
            check_exit(&snapshot, handover, &seen, &packet, opened_by);
        }
    }

    /// No two sessions of an endpoint share a tuple, of either way.
    fn check_sessions(&self, number: usize) {
        let mut views = Vec::with_capacity(2048);
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            cursor = self.workers[number].engine.list_sessions(from, &mut views);
        }
        let mut tuples = std::collections::HashSet::new();
        for view in views {
            for tuple in [view.before, view.after.reversed()] {
                assert!(tuples.insert((view.endpoint, tuple)), "twice: {tuple:?}");
            }
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
        self.oracle
            .remember(&snapshot, pod, sender, packet, ticket, now);
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
        if snapshot.services.has_address(packet.destination) {
            return;
        }
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
    let (kind, ports) = match (protocol, quote[above]) {
        (1, 8) | (58, 128) => (0, (word(above + 4), 0)),
        (1, 0) | (58, 129) => (0, (0, word(above + 4))),
        (1 | 58, kind) => (kind, (1, 0)),
        _ => (0, (word(above), word(above + 2))),
    };
    let ends = ((addresses.0, ports.0), (addresses.1, ports.1));
    let quoted_sender = match sender {
        Side::Pod => Side::Peer,
        Side::Peer => Side::Pod,
    };
    oracle::between(pod, quoted_sender, protocol, kind, ends)
}

/// Nothing leaves under a pod's address that is to leave under another, but for the answers to
/// who knows the pod by it.
fn check_exit(
    snapshot: &Snapshot,
    handover: &Handover,
    seen: &Packet,
    packet: &Packet,
    opened_by: Option<Side>,
) {
    let Some(from) = snapshot.endpoint(handover.from) else {
        return;
    };
    if from.kind != EndpointKind::Pod || packet.source != seen.source {
        return;
    }
    let is_hidden = translations::must_be_hidden(snapshot, from, seen.destination);
    let is_bare = !is_hidden || opened_by == Some(Side::Peer);
    assert!(is_bare, "shows the pod: {seen:?} to {packet:?}");
}

/// Whether the checksums of a frame are right once they are whole; true of what has none that
/// can be told: fragments, extension headers, SCTP.
fn is_right(mut frame: Vec<u8>) -> bool {
    let network = &frame[14..];
    let is_plain = match network.first().map_or(0, |first| first >> 4) {
        4 => network.len() > 20 && network[6] & 0x3f == 0 && network[7] == 0 && network[9] != 132,
        6 => network.len() > 40 && matches!(network[6], 6 | 17 | 58),
        _ => false,
    };
    if !is_plain {
        return true;
    }
    with_frame(&mut frame, finish_checksum);
    has_valid_checksums(&frame)
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
        sum.translated += simulation.count.translated;
        sum.resets += simulation.count.resets;
        sum.returned += simulation.count.returned;
        drop(running);
    }
    // A simulation that delivers next to nothing proves next to nothing.
    if is_whole {
        assert!(sum.sent * 10 > sum.came, "{sum:?}");
        assert!(sum.dropped * 10 > sum.came, "{sum:?}");
        assert!(sum.later * 200 > sum.came, "{sum:?}");
        assert!(sum.translated * 25 > sum.came, "{sum:?}");
        assert!(sum.resets * 2000 > sum.came, "{sum:?}");
        assert!(sum.returned * 2000 > sum.came, "{sum:?}");
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
