//! A connection that policy no longer allows ends at once, at both ends, and by numbers that their
//! stacks believe. [RFC 9293 §3.10.7.4; RFC 5961 §3.2]

mod network;

use network::build::{ACK, Build, FIN, PSH, RST, SYN, has_valid_checksums, v4, v6};
use network::{
    ALLOW_CLIENT, CLIENT, CLIENT_PARTY, CLIENT_SILENT, DENY_ALL, End, Node, SERVER, SERVER_PARTY,
    UPLINK, WORLD_PARTY, gateway_mac,
};
use portcullis_engine::{Drop, EndpointIndex, MacAddress, RecordKind};

const PORTS: (u16, u16) = (40_000, 80);
const BACK: (u16, u16) = (80, 40_000);

type Make = fn(EndpointIndex, EndpointIndex) -> Build;

/// A connection on which the client has sent 100 bytes from 1001 on, and the server 300 from 5001.
fn talking(policies: &[&str], make: Make) -> Node {
    let mut node = Node::new(policies);
    let client = |sequence, acknowledgement| {
        make(CLIENT, SERVER)
            .sequence(sequence)
            .acknowledgement(acknowledgement)
    };
    let server = |sequence, acknowledgement| {
        make(SERVER, CLIENT)
            .sequence(sequence)
            .acknowledgement(acknowledgement)
    };
    node.delivered(CLIENT, SERVER, client(1000, 0).tcp(PORTS, SYN, b""));
    node.delivered(SERVER, CLIENT, server(5000, 1001).tcp(BACK, SYN | ACK, b""));
    node.delivered(CLIENT, SERVER, client(1001, 5001).tcp(PORTS, ACK, b""));
    let question = client(1001, 5001).tcp(PORTS, PSH | ACK, &[1; 100]);
    node.delivered(CLIENT, SERVER, question);
    let answer = server(5001, 1101).tcp(BACK, PSH | ACK, &[2; 300]);
    node.delivered(SERVER, CLIENT, answer);
    node
}

fn sequence(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[tcp_at(frame) + 4..][..4].try_into().unwrap())
}

fn acknowledgement(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[tcp_at(frame) + 8..][..4].try_into().unwrap())
}

fn flags(frame: &[u8]) -> u8 {
    frame[tcp_at(frame) + 13]
}

fn tcp_at(frame: &[u8]) -> usize {
    if frame[12..14] == [0x08, 0] { 34 } else { 54 }
}

fn check(frame: &[u8], to: MacAddress, from: MacAddress, numbers: (u32, u32)) {
    assert_eq!(frame[..6], to.0);
    assert_eq!(frame[6..12], from.0);
    assert_eq!(flags(frame), RST | ACK);
    assert_eq!((sequence(frame), acknowledgement(frame)), numbers);
    assert!(has_valid_checksums(frame));
}

#[test]
fn both_ends_of_a_revoked_connection_get_a_reset_that_they_believe() {
    for make in [v4 as Make, v6] {
        let mut node = talking(&[ALLOW_CLIENT], make);
        node.adopt(&[ALLOW_CLIENT, DENY_ALL], 2);
        assert_eq!(node.resets(), vec![]);
        node.adopt(&[DENY_ALL], 3);
        // What notices it is dropped, so its bytes were never sent.
        let more = make(CLIENT, SERVER).sequence(1101).tcp(PORTS, ACK, b"more");
        assert_eq!(node.reason(CLIENT, more), Drop::PolicyDenied);
        let mut resets = node.resets();
        resets.sort_by_key(|(at, _)| *at);
        let [(CLIENT, client), (SERVER, server)] = &resets[..] else {
            panic!("one for each end, not {resets:?}");
        };
        check(client, CLIENT_PARTY.mac, gateway_mac(CLIENT), (5301, 1101));
        check(server, SERVER_PARTY.mac, gateway_mac(SERVER), (1101, 5301));
        assert_eq!(node.engine.flows_count(), 0);
        let told = node.records.last().unwrap();
        assert_eq!(told.kind, RecordKind::Revoked(Drop::PolicyDenied));
        assert_eq!(told.is_reply, Some(false));
    }
}

#[test]
fn a_reply_that_is_cut_is_told_as_one_with_what_has_passed() {
    let mut node = talking(&[ALLOW_CLIENT], v4);
    node.adopt(&[DENY_ALL], 2);
    let ports = (PORTS.1, PORTS.0);
    let more = v4(SERVER, CLIENT).sequence(5301).tcp(ports, ACK, b"more");
    assert_eq!(node.reason(SERVER, more), Drop::PolicyDenied);
    let told = node.records.last().unwrap();
    assert_eq!(told.kind, RecordKind::Revoked(Drop::PolicyDenied));
    assert_eq!(told.is_reply, Some(true));
    assert!(told.totals.packets[0] > told.totals.packets[1]);
}

#[test]
fn the_egress_policy_of_the_client_revokes_as_well() {
    let mut node = talking(&[ALLOW_CLIENT], v4);
    node.adopt(&[ALLOW_CLIENT, CLIENT_SILENT], 2);
    let more = v4(CLIENT, SERVER).sequence(1101).tcp(PORTS, ACK, b"more");
    assert_eq!(node.reason(CLIENT, more), Drop::PolicyDenied);
    let ends: Vec<_> = node.resets().into_iter().map(|(at, _)| at).collect();
    assert_eq!(ends, [CLIENT, SERVER]);
    assert_eq!(node.engine.flows_count(), 0);
}

#[test]
fn a_reply_notices_that_its_connection_is_revoked() {
    let mut node = talking(&[ALLOW_CLIENT], v4);
    node.adopt(&[DENY_ALL], 2);
    let reply = v4(SERVER, CLIENT).sequence(5301).tcp(BACK, ACK, b"more");
    assert_eq!(node.reason(SERVER, reply), Drop::PolicyDenied);
    let ends: Vec<_> = node.resets().into_iter().map(|(at, _)| at).collect();
    assert_eq!(ends, [SERVER, CLIENT]);
}

#[test]
fn a_peer_beyond_the_uplink_is_told_through_its_router() {
    let mut node = Node::new(&[]);
    let back = |flags, bytes: &[u8]| {
        v4(SERVER, UPLINK)
            .sequence(5000)
            .acknowledgement(1001)
            .tcp(BACK, flags, bytes)
    };
    node.delivered(UPLINK, SERVER, v4(UPLINK, SERVER).tcp(PORTS, SYN, b""));
    node.delivered(SERVER, UPLINK, back(SYN | ACK, b""));
    let ack = v4(UPLINK, SERVER).sequence(1001).acknowledgement(5001);
    node.delivered(UPLINK, SERVER, ack.tcp(PORTS, ACK, b""));
    node.adopt(&[DENY_ALL], 2);
    assert_eq!(
        node.reason(UPLINK, ack.tcp(PORTS, ACK, b"x")),
        Drop::PolicyDenied
    );
    let mut resets = node.resets();
    resets.sort_by_key(|(at, _)| *at);
    let [(SERVER, server), (UPLINK, world)] = &resets[..] else {
        panic!("one for each end, not {resets:?}");
    };
    check(server, SERVER_PARTY.mac, gateway_mac(SERVER), (1001, 5001));
    check(world, WORLD_PARTY.mac, gateway_mac(UPLINK), (5001, 1001));
}

#[test]
fn a_connection_that_policy_still_allows_gets_no_reset() {
    let mut node = talking(&[ALLOW_CLIENT], v4);
    node.adopt(&[ALLOW_CLIENT], 2);
    let more = v4(CLIENT, SERVER).sequence(1101).tcp(PORTS, ACK, b"more");
    node.delivered(CLIENT, SERVER, more);
    assert_eq!(node.resets(), vec![]);
}

#[test]
fn a_segment_of_no_connection_is_answered_by_its_own_numbers() {
    let mut node = Node::new(&[]);
    for make in [v4 as Make, v6] {
        // With an acknowledgement: the reset begins where the sender expects more.
        let late = make(CLIENT, SERVER).sequence(700).acknowledgement(900);
        let End::Answered { to, frame, reason } = node.send(CLIENT, late.tcp(PORTS, ACK, b"late"))
        else {
            panic!("a challenge has to be answered");
        };
        assert_eq!((to, reason), (CLIENT, Some(Drop::FlowUnknown)));
        assert_eq!((sequence(&frame), flags(&frame)), (900, RST));
        assert!(has_valid_checksums(&frame));
        // Without one: it acknowledges all that came, FIN counted.
        let end = make(CLIENT, SERVER).sequence(700);
        let End::Answered { frame, .. } = node.send(CLIENT, end.tcp(PORTS, FIN, b"late")) else {
            panic!("an end of nothing has to be answered");
        };
        let numbers = (sequence(&frame), acknowledgement(&frame), flags(&frame));
        assert_eq!(numbers, (0, 705, RST | ACK));
        // A reset is never answered.
        let reset = node.send(CLIENT, end.tcp(PORTS, RST, b""));
        assert_eq!(reset, End::Dropped(Drop::FlowUnknown));
    }
}

#[test]
fn answers_to_segments_of_no_connection_are_few_in_each_second() {
    let mut node = Node::new(&[]);
    let stray = v4(CLIENT, SERVER).tcp(PORTS, ACK, b"");
    let ends: Vec<End> = (0..1100)
        .map(|_| node.send(CLIENT, stray.clone()))
        .collect();
    let answered = |end: &&End| matches!(end, End::Answered { .. });
    assert_eq!(ends.iter().filter(answered).count(), 1000);
    node.wait(1);
    assert!(matches!(node.send(CLIENT, stray), End::Answered { .. }));
}
