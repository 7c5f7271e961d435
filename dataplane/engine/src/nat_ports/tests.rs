//! The allocator against a plain set of ports.

use crate::nat_ports::{Destination, DestinationUse, PortRange, PortsExhausted, Request};
use crate::translation::{
    NewSession, SessionKind, SessionSettings, SessionTicket, SessionTimeouts, Sessions, Source,
    Tuple, Way,
};
use crate::{EndpointId, Now, TcpFlags};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

const UPLINK: EndpointId = EndpointId(1);
const EGRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const SECOND: u64 = 1_000_000_000;

fn table(sessions_max: u32, bitmaps_max: u32) -> Sessions {
    Sessions::new(&SessionSettings {
        sessions_max,
        share_percent: 100,
        bitmaps_max,
        timeouts: SessionTimeouts::default(),
        hash_key: (3, 4),
    })
}

fn server(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, number))
}

/// The packet of a client: clients have a million sources.
fn source(protocol: u8, client: u32, to: u8, range: PortRange) -> Source {
    let port = if protocol == 1 { 0 } else { 443 };
    let address = Ipv4Addr::new(10, 1, 0, 0).to_bits() + client / 1000;
    Source {
        endpoint: UPLINK,
        before: Tuple {
            protocol,
            source: IpAddr::V4(Ipv4Addr::from_bits(address)),
            destination: server(to),
            source_port: (client % 1000) as u16,
            destination_port: port,
        },
        address: EGRESS,
        destination: (server(to), port),
        range,
    }
}

/// Opens a session, and establishes it, so that nobody steals its port.
fn open(
    sessions: &mut Sessions,
    source: &Source,
    now: Now,
) -> Result<(u16, SessionTicket), PortsExhausted> {
    let after = sessions.choose_source(source, now)?;
    let new = NewSession {
        endpoint: UPLINK,
        charged: UPLINK,
        before: source.before,
        after,
        kind: SessionKind::Masquerade,
        owner: 0,
    };
    let ticket = sessions.insert(&new, now).expect("the chosen port is free");
    let (syn, ack) = (TcpFlags(TcpFlags::SYN), TcpFlags(TcpFlags::ACK));
    for (way, flags) in [(Way::Forward, syn), (Way::Reply, ack), (Way::Forward, ack)] {
        sessions.note(ticket, way, Some(flags), 40, now);
    }
    Ok((after.source_port, ticket))
}

/// Opens sessions until there is no port left. Returns them.
fn fill(
    sessions: &mut Sessions,
    protocol: u8,
    to: u8,
    range: PortRange,
) -> HashMap<u16, SessionTicket> {
    let mut found = HashMap::new();
    for client in 0.. {
        match open(sessions, &source(protocol, client, to, range), Now(0)) {
            Ok((port, ticket)) => {
                assert!(range.has(port));
                assert_eq!(found.insert(port, ticket), None, "{port} was given twice");
            }
            Err(PortsExhausted) => return found,
        }
    }
    found
}

#[test]
fn every_port_of_the_default_range_is_given_once_to_each_destination() {
    let range = PortRange::default();
    let count = range.count();
    assert_eq!(count, 64_512);
    // One bitmap: for the first of them; the other has to do without.
    let mut sessions = table(count * 2, 1);
    for to in [1, 2] {
        let mut given = fill(&mut sessions, 6, to, range);
        assert_eq!(given.len() as u32, count);
        for port in [1024, 30_000, 65_535] {
            sessions.remove(given.remove(&port).unwrap());
            let client = source(6, 900_000 + u32::from(port), to, range);
            let found = open(&mut sessions, &client, Now(0));
            assert_eq!(found.map(|found| found.0), Ok(port));
            let next = source(6, 990_000 + u32::from(port), to, range);
            let found = open(&mut sessions, &next, Now(0));
            assert_eq!(found.map(|found| found.0), Err(PortsExhausted));
        }
    }
}

#[test]
fn every_identifier_of_echo_is_given_once() {
    let range = PortRange::IDENTIFIERS;
    let mut sessions = table(1 << 16, 1);
    assert_eq!(fill(&mut sessions, 1, 1, range).len(), 1 << 16);
}

#[test]
fn a_packet_keeps_its_own_port_when_that_is_free() {
    let range = PortRange::new(100, 900).unwrap();
    let mut sessions = table(16, 1);
    let (first, second) = (source(6, 500, 1, range), source(6, 1500, 1, range));
    assert_eq!(
        open(&mut sessions, &first, Now(0)).map(|found| found.0),
        Ok(500)
    );
    // Another pod with the same port, to the same server and to another.
    assert_ne!(
        open(&mut sessions, &second, Now(0)).map(|found| found.0),
        Ok(500)
    );
    let other = source(6, 1500, 2, range);
    assert_eq!(
        open(&mut sessions, &other, Now(0)).map(|found| found.0),
        Ok(500)
    );
    // Out of the range it cannot be kept.
    let outside = open(&mut sessions, &source(6, 50, 1, range), Now(0)).unwrap();
    assert!(range.has(outside.0));
}

#[test]
fn exhaustion_is_remembered_until_a_port_comes_free_or_a_second_has_passed() {
    let range = PortRange::new(2000, 2009).unwrap();
    let mut sessions = table(64, 0);
    let given = fill(&mut sessions, 6, 1, range);
    assert_eq!(given.len(), 10);
    let destination = Destination::of(
        UPLINK,
        &Tuple {
            source: EGRESS,
            ..source(6, 0, 1, range).before
        },
    );
    let looks = |sessions: &mut Sessions, now| {
        let asked = Cell::new(0);
        let request = Request {
            destination,
            preferred: 0,
            chance: 0,
            range,
        };
        let found = sessions.ports.search(&request, now, |_| {
            asked.set(asked.get() + 1);
            false
        });
        assert_eq!(found, Err(PortsExhausted));
        asked.get()
    };
    // The four probes, and the whole range once a second.
    assert_eq!(looks(&mut sessions, Now(0)), 4);
    assert_eq!(looks(&mut sessions, Now(SECOND)), 4 + 10);
    assert_eq!(looks(&mut sessions, Now(SECOND + 1)), 4);
    sessions.remove(given[&2004]);
    sessions.remove(given[&2007]);
    for expected in [Ok(2007), Ok(2004), Err(PortsExhausted)] {
        let client = 77 + sessions.count() as u32;
        let found = open(&mut sessions, &source(6, client, 1, range), Now(SECOND + 1));
        assert_eq!(found.map(|found| found.0), expected);
    }
    // Sessions past their time count no longer, swept or not.
    let late = Now(7443 * SECOND);
    assert!(open(&mut sessions, &source(6, 99, 1, range), late).is_ok());
}

#[test]
fn bitmaps_go_back_to_the_pool_when_use_falls() {
    let range = PortRange::new(1000, 1999).unwrap();
    let mut sessions = table(4096, 1);
    for to in [1, 2, 3] {
        let given = fill(&mut sessions, 6, to, range);
        assert_eq!(given.len(), 1000);
        assert_eq!(sessions.ports.bitmaps.free_count(), 0);
        given.values().for_each(|ticket| sessions.remove(*ticket));
        assert_eq!(sessions.ports.bitmaps.free_count(), 1);
    }
    assert_eq!(sessions.ports.index.len(), 0);
    assert_eq!(sessions.count(), 0);
}

#[test]
fn the_fullest_destinations_are_told_and_three_quarters_are_a_warning() {
    let range = PortRange::new(1000, 1099).unwrap();
    let mut sessions = table(4096, 1);
    for (to, count) in [(1, 20), (2, 75), (3, 74), (4, 1)] {
        for client in 0..count {
            open(&mut sessions, &source(6, client, to, range), Now(0)).unwrap();
        }
        let after = Tuple {
            source: EGRESS,
            ..source(6, 0, to, range).before
        };
        assert_eq!(sessions.is_nearly_full(UPLINK, &after, range), to == 2);
    }
    let mut uses = Vec::with_capacity(3);
    sessions.fullest(&mut uses);
    let of = |number: u8, used| DestinationUse {
        endpoint: UPLINK,
        egress: EGRESS,
        protocol: 6,
        address: server(number),
        port: 443,
        used,
    };
    assert_eq!(uses, vec![of(2, 75), of(3, 74), of(1, 20)]);
    // The same without an order, two at a time: each once.
    let (mut listed, mut cursor) = (Vec::new(), Some(0));
    while let Some(from) = cursor {
        let mut page = Vec::with_capacity(2);
        cursor = sessions.ports.list(from, &mut page);
        assert!(page.len() <= 2);
        listed.extend(page);
    }
    listed.sort_by_key(|of| of.address);
    assert_eq!(listed, vec![of(1, 20), of(2, 75), of(3, 74), of(4, 1)]);
}

#[test]
fn a_port_that_another_session_answers_at_is_not_given() {
    let range = PortRange::new(1000, 1003).unwrap();
    for bitmaps in [0, 1] {
        let mut sessions = table(64, bitmaps);
        // A client outside reaches a node port from the very address that pods go to.
        let before = Tuple {
            protocol: 6,
            source: server(1),
            destination: EGRESS,
            source_port: 443,
            destination_port: 1002,
        };
        let new = NewSession {
            endpoint: UPLINK,
            charged: UPLINK,
            before,
            after: Tuple {
                destination: IpAddr::V4(Ipv4Addr::new(10, 1, 0, 9)),
                destination_port: 80,
                ..before
            },
            kind: SessionKind::NodePort,
            owner: 0,
        };
        sessions.insert(&new, Now(0)).unwrap();
        let given: HashSet<u16> = fill(&mut sessions, 6, 1, range).into_keys().collect();
        assert_eq!(given, HashSet::from([1000, 1001, 1003]));
    }
}

proptest! {
    #[test]
    fn the_allocator_agrees_with_a_plain_set(
        steps in proptest::collection::vec((any::<bool>(), any::<u16>(), 0_u8..2), 0..400),
        first in 0_u16..1200,
        count in 1_u16..40,
        bitmaps in 0_u32..2,
    ) {
        let range = PortRange::new(first, first + count - 1).unwrap();
        let mut sessions = table(128, bitmaps);
        let mut plain: [HashMap<u16, SessionTicket>; 2] = [HashMap::new(), HashMap::new()];
        for (client, (is_opening, number, to)) in steps.into_iter().enumerate() {
            let used = &mut plain[usize::from(to)];
            if is_opening || used.is_empty() {
                let of = source(6, u32::from(number) % 1000 + client as u32 * 1000, to, range);
                match open(&mut sessions, &of, Now(0)) {
                    Ok((port, ticket)) => {
                        prop_assert!(range.has(port));
                        prop_assert!(used.insert(port, ticket).is_none());
                    }
                    Err(PortsExhausted) => prop_assert_eq!(used.len(), usize::from(count)),
                }
            } else {
                let port = *used.keys().nth(usize::from(number) % used.len()).unwrap();
                sessions.remove(used.remove(&port).unwrap());
            }
        }
    }
}
