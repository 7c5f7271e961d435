//! What an entry remembers.

use super::*;
use crate::packet::TcpFlags;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const FIN: u8 = TcpFlags::FIN;
const SYN: u8 = TcpFlags::SYN;
const RST: u8 = TcpFlags::RST;
const ACK: u8 = TcpFlags::ACK;

fn key(protocol: u8) -> FlowKey {
    let addresses = (
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
    );
    FlowKey::between(EndpointId(7), Side::Local, protocol, 0, addresses, (1, 2))
}

fn packet(flags: u8, sequence: u32, acknowledgement: u32, payload: u32) -> Packet {
    Packet {
        source_mac: MacAddress::default(),
        destination_mac: MacAddress::default(),
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        hops_left: 64,
        ip_length: 20 + 32 + payload,
        transport_offset: 34,
        fragment: None,
        has_fragment_header: false,
        transport: Transport::Tcp {
            ports: (1, 2),
            flags: TcpFlags(flags),
            sequence,
            acknowledgement,
            header_length: 32,
            payload_max: Some(1400).filter(|_| flags & SYN != 0),
        },
    }
}

fn opened() -> Flow {
    let mut flow = Flow::new(key(6), Side::Local, Role::Opens, Generation(1), Now(0));
    flow.note(Side::Local, &packet(SYN, 100, 0, 0), Now(1));
    flow
}

fn established() -> Flow {
    let mut flow = opened();
    flow.note(Side::Remote, &packet(SYN | ACK, 500, 101, 0), Now(2));
    flow.note(Side::Local, &packet(ACK, 101, 501, 10), Now(3));
    flow
}

fn reset(sequence: u32, acknowledgement: Option<u32>) -> Option<ResetNumbers> {
    Some(ResetNumbers {
        sequence,
        acknowledgement,
    })
}

#[test]
fn a_reset_carries_what_its_receiver_expects() {
    let mut flow = opened();
    assert_eq!(flow.reset_towards(Side::Local), reset(0, Some(101)));
    assert_eq!(flow.reset_towards(Side::Remote), reset(101, None));
    flow = established();
    assert_eq!(flow.reset_towards(Side::Local), reset(501, Some(111)));
    assert_eq!(flow.reset_towards(Side::Remote), reset(111, Some(501)));
    // A segment that lies is no better than what its receiver has acknowledged.
    flow.note(Side::Local, &packet(ACK, 111 + (1 << 30), 501, 0), Now(4));
    flow.note(Side::Remote, &packet(ACK, 501, 111, 0), Now(4));
    flow.note(Side::Local, &packet(ACK, 111 + (1 << 31), 501, 0), Now(4));
    assert_eq!(flow.reset_towards(Side::Remote), reset(111, Some(501)));
}

#[test]
fn what_was_learned_in_mid_stream_is_reset_by_what_was_seen() {
    let role = Role::Continues(TcpFlags(ACK));
    let mut flow = Flow::new(key(6), Side::Local, role, Generation(1), Now(0));
    assert_eq!(flow.reset_towards(Side::Local), None);
    flow.note(Side::Local, &packet(ACK, 7000, 9000, 100), Now(0));
    assert_eq!(flow.reset_towards(Side::Local), reset(9000, Some(7100)));
    assert_eq!(flow.reset_towards(Side::Remote), reset(7100, None));
}

#[test]
fn what_has_ended_and_what_is_not_tcp_is_not_reset() {
    let mut flow = established();
    flow.note(Side::Local, &packet(RST, 111, 0, 0), Now(4));
    assert!(flow.is_closing());
    assert_eq!(flow.reset_towards(Side::Local), None);
    let flow = Flow::new(key(17), Side::Local, Role::MayOpen, Generation(1), Now(0));
    assert_eq!(flow.reset_towards(Side::Remote), None);
}

#[test]
fn packets_bytes_and_limits_are_noted_for_each_side() {
    let mut flow = established();
    assert_eq!(flow.sent(Side::Local), (2, 52 + 62));
    assert_eq!(flow.sent(Side::Remote), (1, 52));
    assert_eq!(flow.payload_max, (1400, 1400));
    assert_eq!(flow.seen, Now(3));
    let foreseen = flow.state_after(Side::Local, &packet(FIN | ACK, 111, 501, 0));
    flow.note(Side::Local, &packet(FIN | ACK, 111, 501, 0), Now(2));
    assert_eq!(
        (flow.state(), foreseen),
        (FlowState::FinLocal, FlowState::FinLocal)
    );
    assert_eq!(flow.seen, Now(3));
}

#[test]
fn what_is_set_is_what_is_read() {
    let now = Now(123_456_789_012);
    let mut flow = Flow::new(key(6), Side::Remote, Role::Opens, Generation(1), now);
    assert_eq!(flow.initiator(), Side::Remote);
    assert_eq!(flow.opened(), Now(123_400_000_000));
    assert_eq!(
        (flow.way(), flow.rule(), flow.is_translated()),
        (None, None, false)
    );
    for next_hop in [None, Some(MacAddress([1, 2, 3, 4, 5, 6]))] {
        let way = CachedWay {
            to: EndpointIndex(3),
            to_id: EndpointId(4),
            next_hop,
        };
        flow.set_way(way);
        assert_eq!(flow.way(), Some(way));
    }
    flow.set_translated(true);
    flow.judged(Generation(2), Some(RuleId(9)));
    assert_eq!((flow.way(), flow.rule()), (None, Some(RuleId(9))));
    assert!(flow.is_translated());
    flow.set_translated(false);
    flow.judged(Generation(3), None);
    assert_eq!((flow.rule(), flow.is_translated()), (None, false));
    assert_eq!(
        (flow.initiator(), flow.generation()),
        (Side::Remote, Generation(3))
    );
}

#[test]
fn a_key_gives_back_what_it_was_made_of() {
    let v4 = (
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200)),
    );
    let v6 = (
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
    );
    for (source, destination) in [v4, v6] {
        let addresses = (source, destination);
        let sent = FlowKey::between(EndpointId(9), Side::Local, 17, 0, addresses, (1, 2));
        assert_eq!(sent.addresses(), addresses);
        assert_eq!((sent.endpoint(), sent.ports()), (EndpointId(9), (1, 2)));
        assert_eq!(sent.protocol(), Protocol::Udp);
        let back = (destination, source);
        let answer = FlowKey::between(EndpointId(9), Side::Remote, 17, 0, back, (2, 1));
        assert_eq!(sent, answer);
    }
}
