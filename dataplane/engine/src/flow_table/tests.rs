//! The table against a plain map, its bounds, its list.

use super::*;
use crate::flow_key::Role;
use crate::flow_timeouts::FlowTimeouts;
use crate::flow_view::FlowView;
use crate::packet::{TcpFlags, Transport};
use crate::{FlowState, MacAddress};
use portcullis_policy::{Generation, RuleId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

const FLOWS_MAX: u32 = 8;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ONE: EndpointId = EndpointId(1);
const OTHER: EndpointId = EndpointId(2);
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

impl FlowTable {
    fn insert(&mut self, flow: Flow, now: Now) -> Result<FlowTicket, Drop> {
        self.insert_for(flow.key.endpoint(), flow, now)
    }
}

fn settings() -> EngineSettings {
    EngineSettings {
        flows_max: FLOWS_MAX,
        half_open_max: 4,
        endpoint_share_percent: 100,
        ..EngineSettings::default()
    }
}

fn table_of(settings: EngineSettings) -> FlowTable {
    FlowTable::new(&settings, (5, 6))
}

fn key(endpoint: EndpointId, protocol: u8, port: u16) -> FlowKey {
    let ports = (port, 53);
    FlowKey::between(endpoint, Side::Local, protocol, 0, (LOCAL, REMOTE), ports)
}

fn flow_at(key: FlowKey, now: Now) -> Flow {
    let role = match key.protocol().number() {
        TCP => Role::Opens,
        _ => Role::MayOpen,
    };
    let mut flow = Flow::new(key, Side::Local, role, Generation(1), now);
    flow.judged(Generation(1), Some(RuleId(3)));
    flow
}

fn after(seconds: u64) -> Now {
    Now(seconds * SECOND_NS)
}

/// A packet of the flow with this key; TCP counts from 1000 at the local side, 5000 at the other.
fn packet(key: &FlowKey, sender: Side, flags: u8) -> Packet {
    let (sequence, acknowledgement) = match sender {
        Side::Local => (1000, 5001),
        Side::Remote => (5000, 1001),
    };
    let transport = match key.protocol().number() {
        TCP => Transport::Tcp {
            ports: key.ports(),
            flags: TcpFlags(flags),
            sequence,
            acknowledgement,
            header_length: 20,
            payload_max: None,
        },
        _ => Transport::Udp { ports: key.ports() },
    };
    Packet {
        source_mac: MacAddress::default(),
        destination_mac: MacAddress::default(),
        source: LOCAL,
        destination: REMOTE,
        hops_left: 64,
        ip_length: 40,
        transport_offset: 34,
        fragment: None,
        has_fragment_header: false,
        transport,
    }
}

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const RST: u8 = TcpFlags::RST;

/// Inserts a connection as its SYN does.
fn open(table: &mut FlowTable, endpoint: EndpointId, port: u16) -> Result<FlowTicket, Drop> {
    let key = key(endpoint, TCP, port);
    let mut flow = flow_at(key, table.now());
    flow.note(Side::Local, &packet(&key, Side::Local, SYN), table.now());
    table.insert(flow, table.now())
}

fn note(table: &mut FlowTable, ticket: FlowTicket, sender: Side, flags: u8) -> Result<(), Drop> {
    let key = table.flow(ticket).unwrap().key;
    table.note(ticket, sender, &packet(&key, sender, flags), table.now())
}

/// Opens a connection to the end of its handshake.
fn establish(table: &mut FlowTable, endpoint: EndpointId, port: u16) -> Result<FlowTicket, Drop> {
    let ticket = open(table, endpoint, port)?;
    note(table, ticket, Side::Remote, SYN | ACK)?;
    note(table, ticket, Side::Local, ACK)?;
    Ok(ticket)
}

fn is_there(table: &mut FlowTable, endpoint: EndpointId, protocol: u8, port: u16) -> bool {
    table
        .find(&key(endpoint, protocol, port), table.now())
        .is_some()
}

fn list_all(table: &FlowTable, room: usize) -> Vec<FlowView> {
    let (mut all, mut some, mut cursor) = (Vec::new(), Vec::with_capacity(room), Some(0));
    while let Some(from) = cursor {
        cursor = table.list(from, &mut some);
        assert!(some.len() <= room);
        all.append(&mut some);
    }
    all
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Insert(u8),
    Find(u8),
    Note(u8, Side, u8),
    Remove(u8),
    Expire,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let number = || 0_u8..32;
    let side = prop_oneof![Just(Side::Local), Just(Side::Remote)];
    let flags = prop_oneof![
        1 => Just(SYN),
        3 => Just(SYN | ACK),
        4 => Just(ACK),
        1 => Just(TcpFlags::FIN | ACK),
        1 => Just(RST)
    ];
    prop_oneof![
        6 => number().prop_map(Step::Insert),
        4 => number().prop_map(Step::Find),
        8 => (number(), side, flags).prop_map(|(number, side, flags)| Step::Note(number, side, flags)),
        2 => number().prop_map(Step::Remove),
        2 => Just(Step::Expire),
        2 => prop_oneof![6 => 1_u64..40, 1 => Just(513), 1 => Just(8001), 1 => 20_000_u64..400_000]
            .prop_map(Step::Wait),
    ]
}

/// What the plain map knows of an entry; the state machine has its own tests.
#[derive(Debug, Clone, Copy)]
struct Plain {
    flow: Flow,
    is_half_open: bool,
    turn: usize,
}

#[derive(Debug, Default)]
struct Model {
    entries: BTreeMap<u8, Plain>,
    evicted: u64,
    turn: usize,
}

const SHARE: usize = 4;
const HALF_OPEN_SHARE: usize = 2;

fn number_key(number: u8) -> FlowKey {
    let protocol = if number.is_multiple_of(2) { TCP } else { UDP };
    key(
        EndpointId(u32::from(number / 2 % 3)),
        protocol,
        u16::from(number / 6),
    )
}

impl Model {
    fn expire(&mut self, now: Now) {
        let lives = FlowTimeouts::default().into();
        self.entries
            .retain(|_, plain| !plain.flow.is_expired(&lives, now));
    }

    fn has_room(&mut self, endpoint: EndpointId, is_half_open: bool) -> Result<(), Drop> {
        let pool: Vec<(u8, Plain)> = self
            .entries
            .iter()
            .filter(|(_, plain)| plain.is_half_open == is_half_open)
            .map(|(number, plain)| (*number, *plain))
            .collect();
        let own = pool
            .iter()
            .filter(|(_, plain)| plain.flow.key.endpoint() == endpoint);
        let held = own.clone().count();
        if !is_half_open {
            return match (held >= SHARE, pool.len() >= FLOWS_MAX as usize) {
                (true, _) => Err(Drop::FlowShareFull),
                (_, true) => Err(Drop::FlowTableFull),
                _ => Ok(()),
            };
        }
        if held < HALF_OPEN_SHARE && pool.len() < 4 {
            return Ok(());
        }
        let oldest = own
            .min_by_key(|(_, plain)| plain.turn)
            .map(|(number, _)| *number);
        self.entries.remove(&oldest.ok_or(Drop::HalfOpenFull)?);
        self.evicted += 1;
        Ok(())
    }

    fn insert(&mut self, number: u8, flow: Flow) -> Result<(), Drop> {
        let is_half_open = flow.state().is_half_open();
        let old = self.entries.get(&number);
        if old.is_none_or(|old| old.is_half_open != is_half_open) {
            self.has_room(flow.key.endpoint(), is_half_open)?;
        }
        self.turn += 1;
        let turn = self.turn;
        self.entries.insert(
            number,
            Plain {
                flow,
                is_half_open,
                turn,
            },
        );
        Ok(())
    }

    fn note(&mut self, number: u8, sender: Side, packet: &Packet, now: Now) -> Result<(), Drop> {
        let Some(mut plain) = self.entries.get(&number).copied() else {
            return Ok(());
        };
        plain.flow.note(sender, packet, now);
        if plain.is_half_open && plain.flow.state().is_established() {
            self.has_room(plain.flow.key.endpoint(), false)?;
            plain.is_half_open = false;
        }
        self.entries.insert(number, plain);
        Ok(())
    }
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_plain_map(steps in proptest::collection::vec(step(), 0..400)) {
        let mut table = table_of(EngineSettings { endpoint_share_percent: 50, ..settings() });
        let mut model = Model::default();
        let mut now = Now(7 * SECOND_NS);
        for step in steps {
            model.expire(now);
            match step {
                Step::Wait(seconds) => now = Now(now.0 + seconds * SECOND_NS),
                Step::Expire => {
                    table.expire(now);
                    prop_assert_eq!(table.count(), model.entries.len());
                }
                Step::Find(number) => {
                    let found = table.find(&number_key(number), now);
                    let seen = found.and_then(|ticket| table.flow(ticket)).map(|flow| flow.seen);
                    let expected = model.entries.get(&number).map(|plain| plain.flow.seen);
                    prop_assert_eq!(seen, expected);
                }
                Step::Note(number, sender, flags) => {
                    let key = number_key(number);
                    let packet = packet(&key, sender, flags);
                    let noted = match table.find(&key, now) {
                        Some(ticket) => table.note(ticket, sender, &packet, now),
                        None => Ok(()),
                    };
                    prop_assert_eq!(noted, model.note(number, sender, &packet, now));
                }
                Step::Remove(number) => {
                    if let Some(ticket) = table.find(&number_key(number), now) {
                        table.remove(ticket);
                        prop_assert!(table.flow(ticket).is_none());
                        table.remove(ticket);
                    }
                    model.entries.remove(&number);
                }
                Step::Insert(number) => {
                    let mut flow = flow_at(number_key(number), now);
                    flow.note(Side::Local, &packet(&flow.key, Side::Local, SYN), now);
                    let inserted = table.insert(flow, now).map(|_| ());
                    prop_assert_eq!(inserted, model.insert(number, flow));
                }
            }
            if matches!(step, Step::Wait(_)) {
                // The next step meets entries that are past their time.
                continue;
            }
            let half_open = model.entries.values().filter(|plain| plain.is_half_open).count();
            table.expire(now);
            let listed: Vec<_> = list_all(&table, 3).iter().map(|view| view.seen).collect();
            prop_assert_eq!(listed.len(), model.entries.len());
            let gauges = table.gauges();
            prop_assert_eq!(gauges.half_open_evicted, model.evicted);
            prop_assert_eq!(gauges.half_open as usize, half_open);
            prop_assert_eq!(gauges.settled as usize, model.entries.len() - half_open);
            prop_assert_eq!(table.count(), model.entries.len());
        }
    }

    #[test]
    fn a_flood_of_syns_takes_nothing_from_others(
        ports in proptest::collection::vec(any::<u16>(), 0..200),
        is_answered in any::<bool>(),
        is_own in any::<bool>(),
    ) {
        let mut table = table_of(EngineSettings { endpoint_share_percent: 75, ..settings() });
        let settled = 5;
        for port in 0..settled {
            establish(&mut table, ONE, port).unwrap();
        }
        open(&mut table, ONE, 100).unwrap();
        let attacker = if is_own { ONE } else { OTHER };
        for port in ports.into_iter().filter(|port| *port > 100) {
            let ticket = open(&mut table, attacker, port).unwrap();
            if is_answered {
                note(&mut table, ticket, Side::Remote, SYN | ACK).unwrap();
            }
        }
        for port in 0..settled {
            prop_assert!(is_there(&mut table, ONE, TCP, port));
        }
        prop_assert!(is_own || is_there(&mut table, ONE, TCP, 100));
        prop_assert_eq!(table.gauges().settled, u32::from(settled));
        prop_assert!(table.gauges().half_open <= 4);
        // And others still have room, in either pool as far as it goes.
        table.insert(flow_at(key(ONE, UDP, 1), table.now()), table.now()).unwrap();
        prop_assert!(establish(&mut table, OTHER, 1).is_ok());
    }
}

#[test]
fn the_oldest_half_open_connection_of_the_endpoint_makes_room() {
    let mut table = table_of(settings());
    for port in 0..3 {
        open(&mut table, ONE, port).unwrap();
    }
    open(&mut table, OTHER, 0).unwrap();
    open(&mut table, ONE, 3).unwrap();
    let left = [0, 1, 2, 3].map(|port| is_there(&mut table, ONE, TCP, port));
    assert_eq!(left, [false, true, true, true]);
    assert!(is_there(&mut table, OTHER, TCP, 0));
    // Who has none waits until others have come through.
    let third = EndpointId(3);
    assert_eq!(open(&mut table, third, 0), Err(Drop::HalfOpenFull));
    let gauges = FlowTableGauges {
        settled: 0,
        settled_max: 8,
        half_open: 4,
        half_open_max: 4,
        half_open_evicted: 1,
        refused_half_open: 1,
        ..FlowTableGauges::default()
    };
    assert_eq!(table.gauges(), gauges);
    establish(&mut table, OTHER, 0).unwrap();
    open(&mut table, third, 0).unwrap();
}

#[test]
fn a_flood_pushes_out_only_so_many_of_its_own_in_a_second() {
    let mut table = table_of(settings());
    let mut opened = 0;
    for port in 0..5000 {
        opened += u32::from(open(&mut table, ONE, port).is_ok());
    }
    // Four have room, and two thousand push out others.
    assert_eq!(opened, 2004);
    assert_eq!(table.gauges().refused_half_open, 5000 - 2004);
    table.advance(after(1));
    assert!(open(&mut table, ONE, 6000).is_ok());
}

#[test]
fn an_endpoint_has_no_more_half_open_connections_than_its_own_bound() {
    let settings = EngineSettings {
        half_open_per_endpoint_max: 2,
        ..settings()
    };
    let mut table = table_of(settings);
    for port in 0..5 {
        open(&mut table, ONE, port).unwrap();
    }
    assert_eq!(table.gauges().half_open, 2);
    assert_eq!(table.gauges().half_open_evicted, 3);
}

#[test]
fn an_endpoint_holds_its_share_and_no_more() {
    let settings = EngineSettings {
        endpoint_share_percent: 25,
        ..settings()
    };
    let mut table = table_of(settings);
    let mut add = |endpoint, port| {
        let flow = flow_at(key(endpoint, UDP, port), Now(0));
        table.insert(flow, Now(0)).map(|_| ())
    };
    assert_eq!(add(ONE, 1), Ok(()));
    assert_eq!(add(ONE, 2), Ok(()));
    assert_eq!(add(ONE, 3), Err(Drop::FlowShareFull));
    assert_eq!(add(ONE, 2), Ok(()), "in its own place");
    for endpoint in 2..5 {
        assert_eq!(add(EndpointId(endpoint), 1), Ok(()));
        assert_eq!(add(EndpointId(endpoint), 2), Ok(()));
    }
    assert_eq!(add(EndpointId(9), 1), Err(Drop::FlowTableFull));
    let gauges = table.gauges();
    assert_eq!((gauges.refused_share, gauges.refused_full), (1, 1));
    assert_eq!(gauges.settled, 8);
}

#[test]
fn connections_that_have_ended_make_room_for_new_ones_of_their_endpoint() {
    let mut table = table_of(settings());
    let fin = TcpFlags::FIN | TcpFlags::ACK;
    for port in 0..FLOWS_MAX as u16 {
        let ticket = establish(&mut table, ONE, port).unwrap();
        if port < 2 {
            note(&mut table, ticket, Side::Local, fin).unwrap();
            note(&mut table, ticket, Side::Remote, fin).unwrap();
        }
    }
    // Nobody else's, and the one that ended first.
    assert_eq!(establish(&mut table, OTHER, 100), Err(Drop::FlowTableFull));
    establish(&mut table, ONE, 101).unwrap();
    assert!(!is_there(&mut table, ONE, TCP, 0));
    assert!(is_there(&mut table, ONE, TCP, 1));
    establish(&mut table, ONE, 102).unwrap();
    assert!(!is_there(&mut table, ONE, TCP, 1));
    // What goes on stays.
    assert_eq!(establish(&mut table, ONE, 103), Err(Drop::FlowShareFull));
    assert!((2..FLOWS_MAX as u16).all(|port| is_there(&mut table, ONE, TCP, port)));
    assert_eq!(table.gauges().closing_evicted, 2);
}

#[test]
fn a_handshake_that_finds_no_room_stays_half_open_until_there_is_some() {
    let mut table = table_of(settings());
    let full: Vec<_> = (0..8)
        .map(|port| establish(&mut table, ONE, port).unwrap())
        .collect();
    let ticket = open(&mut table, OTHER, 1).unwrap();
    note(&mut table, ticket, Side::Remote, SYN | ACK).unwrap();
    assert_eq!(
        note(&mut table, ticket, Side::Local, ACK),
        Err(Drop::FlowTableFull)
    );
    assert_eq!(table.flow(ticket).unwrap().state(), FlowState::Answered);
    table.remove(full[0]);
    note(&mut table, ticket, Side::Local, ACK).unwrap();
    assert_eq!(table.flow(ticket).unwrap().state(), FlowState::Established);
}

#[test]
fn a_reset_earns_a_half_open_connection_no_room_among_the_others() {
    let mut table = table_of(settings());
    for port in 0..100 {
        let ticket = open(&mut table, ONE, port).unwrap();
        note(&mut table, ticket, Side::Local, RST).unwrap();
        assert!(table.flow(ticket).unwrap().is_closing());
    }
    assert_eq!((table.gauges().settled, table.gauges().half_open), (0, 4));
}

#[test]
fn a_full_table_finds_room_where_time_is_over() {
    let mut table = table_of(settings());
    for port in 0..8 {
        let flow = flow_at(key(ONE, UDP, port), Now(0));
        table.insert(flow, Now(0)).unwrap();
    }
    let flow = |now| flow_at(key(ONE, UDP, 9), now);
    let now = after(60);
    assert_eq!(table.insert(flow(now), now), Err(Drop::FlowShareFull));
    let now = after(61);
    assert!(table.insert(flow(now), now).is_ok());
}

#[test]
fn a_life_that_became_shorter_ends_sooner() {
    let mut table = table_of(settings());
    let ticket = establish(&mut table, ONE, 1).unwrap();
    table.expire(after(7999));
    assert_eq!(table.count(), 1);
    let reset = packet(&key(ONE, TCP, 1), Side::Local, RST);
    table
        .note(ticket, Side::Local, &reset, after(7999))
        .unwrap();
    table.expire(after(8009));
    assert_eq!(table.count(), 1);
    table.expire(after(8010));
    assert_eq!(table.count(), 0);
}

#[test]
fn a_clock_that_jumps_back_neither_ends_nor_prolongs_a_life() {
    let mut table = table_of(settings());
    let flow = flow_at(key(ONE, UDP, 1), after(1000));
    table.insert(flow, after(1000)).unwrap();
    table.expire(after(1));
    let ticket = table.find(&key(ONE, UDP, 1), after(1)).unwrap();
    let datagram = packet(&key(ONE, UDP, 1), Side::Local, 0);
    table
        .note(ticket, Side::Local, &datagram, after(1))
        .unwrap();
    assert_eq!(table.flow(ticket).unwrap().seen, after(1000));
    table.expire(after(1061));
    assert_eq!(table.count(), 0);
}

#[test]
fn one_call_of_expire_looks_at_a_bounded_piece() {
    let settings = EngineSettings {
        flows_max: 1000,
        endpoint_share_percent: 100,
        ..EngineSettings::default()
    };
    let mut table = table_of(settings);
    for port in 0..1000 {
        table
            .insert(flow_at(key(ONE, UDP, port), Now(0)), Now(0))
            .unwrap();
    }
    let day = after(86_400);
    for left in [744, 488, 232, 0, 0] {
        table.expire(day);
        assert_eq!(table.count(), left);
    }
}

#[test]
fn an_old_ticket_does_not_fit_the_next_flow_in_its_place() {
    let mut table = table_of(settings());
    let old = table
        .insert(flow_at(key(ONE, UDP, 1), Now(0)), Now(0))
        .unwrap();
    table.remove(old);
    let new = table
        .insert(flow_at(key(ONE, UDP, 2), Now(0)), Now(0))
        .unwrap();
    assert_eq!(new.place, old.place);
    table.remove(old);
    let found = table.flow(new).map(|flow| flow.key);
    assert_eq!(found, Some(key(ONE, UDP, 2)));
}

#[test]
fn the_list_has_every_entry_once_whatever_room_it_is_given() {
    let settings = EngineSettings {
        flows_max: 10_000,
        endpoint_share_percent: 100,
        ..EngineSettings::default()
    };
    let mut table = table_of(settings);
    let mut expected = BTreeSet::new();
    for port in 0..9000 {
        table
            .insert(flow_at(key(ONE, UDP, port), Now(0)), Now(0))
            .unwrap();
        expected.insert(port);
    }
    for port in (0..9000).filter(|port| port % 3 == 0 || (2000..7000).contains(port)) {
        let ticket = table.find(&key(ONE, UDP, port), Now(0)).unwrap();
        table.remove(ticket);
        expected.remove(&port);
    }
    for room in [1, 7, 100_000] {
        let ports: Vec<u16> = list_all(&table, room)
            .iter()
            .map(|view| view.local.1)
            .collect();
        assert_eq!(ports.len(), expected.len());
        assert_eq!(ports.into_iter().collect::<BTreeSet<_>>(), expected);
    }
    // A piece of the table that is empty ends a call, too.
    let mut out = Vec::with_capacity(10_000);
    assert_eq!(table.list(0, &mut out), Some(4096));
    assert_eq!(table.list(9_999, &mut out), None);
    assert_eq!(table.list(u32::MAX, &mut out), None);
    table.find(&key(EndpointId(77), UDP, 1), after(61));
    assert_eq!(list_all(&table, 10), vec![], "past their time");
}

#[test]
fn the_list_shows_all_that_is_known_of_a_flow() {
    let mut table = table_of(settings());
    table.expire(after(100));
    let ticket = establish(&mut table, ONE, 40_000).unwrap();
    table.flow_mut(ticket).unwrap().set_translated(true);
    table.expire(after(103));
    let view = FlowView {
        endpoint: ONE,
        protocol: portcullis_policy::Protocol::Tcp,
        local: (LOCAL, 40_000),
        remote: (REMOTE, 53),
        initiator: Side::Local,
        state: FlowState::Established,
        opened: after(100),
        seen: after(100),
        time_left: std::time::Duration::from_secs(7997),
        sent: (2, 80),
        received: (1, 40),
        generation: Generation(1),
        rule: Some(RuleId(3)),
        is_translated: true,
    };
    assert_eq!(list_all(&table, 10), vec![view]);
}
