//! What is told of flows that have passed: how they ended, and what went through them.

mod network;

use network::build::{ACK, FIN, RST, SYN, v4};
use network::*;
use portcullis_engine::{Ending, EndpointId, Now, Record, RecordKind, Totals};
use portcullis_policy::Protocol;

const REQUEST: (u16, u16) = (40_000, 80);
const ANSWER: (u16, u16) = (80, 40_000);

/// What there is to tell now, first the ends.
fn told(node: &mut Node) -> Vec<Record> {
    let mut records = Vec::with_capacity(64);
    node.engine.tell_flows(node.now, &mut records);
    records
}

fn microseconds(node: &mut Node, us: u64) {
    node.now = Now(node.now.0 + us * 1000);
}

/// Opens a connection whose answer takes half a millisecond.
fn open(node: &mut Node) {
    let there = v4(CLIENT, SERVER).sequence(100);
    let back = v4(SERVER, CLIENT).sequence(500).acknowledgement(101);
    node.delivered(CLIENT, SERVER, there.tcp(REQUEST, SYN, b""));
    microseconds(node, 500);
    node.delivered(SERVER, CLIENT, back.tcp(ANSWER, SYN | ACK, b""));
    let there = v4(CLIENT, SERVER).sequence(101).acknowledgement(501);
    node.delivered(CLIENT, SERVER, there.tcp(REQUEST, ACK, b""));
}

/// The end of that connection, but for its totals.
fn end(node: &Node, ending: Ending, totals: Totals) -> Record {
    let first = node.records[0];
    Record {
        kind: RecordKind::End(ending),
        from: Some(EndpointId(100)),
        to: Some(EndpointId(101)),
        protocol: Some(Protocol::Tcp),
        ports: REQUEST,
        is_reply: Some(false),
        totals,
        egress: None,
        ingress: None,
        length: 0,
        tcp_flags: Default::default(),
        ..first
    }
}

#[test]
fn a_connection_that_both_close_tells_what_passed_once() {
    let mut node = Node::new(&[]);
    open(&mut node);
    let there = v4(CLIENT, SERVER).sequence(101).acknowledgement(501);
    node.delivered(CLIENT, SERVER, there.tcp(REQUEST, ACK, &[0; 60]));
    node.delivered(
        CLIENT,
        SERVER,
        there.sequence(161).tcp(REQUEST, FIN | ACK, b""),
    );
    assert_eq!(told(&mut node), vec![]);
    let back = v4(SERVER, CLIENT).sequence(501).acknowledgement(162);
    node.delivered(SERVER, CLIENT, back.tcp(ANSWER, FIN | ACK, b""));
    let totals = Totals {
        packets: [4, 2],
        bytes: [4 * 40 + 60, 2 * 40],
        opened: LATER,
        // Kept in one byte: to six percent.
        round_trip_us: 496,
    };
    assert_eq!(told(&mut node), vec![end(&node, Ending::Finished, totals)]);
    node.wait(100_000);
    node.engine.expire(node.now);
    assert_eq!(told(&mut node), vec![]);
}

#[test]
fn a_reset_a_silence_and_a_handshake_without_answer_are_told_apart() {
    let endings = |finish: &dyn Fn(&mut Node)| -> Vec<RecordKind> {
        let mut node = Node::new(&[]);
        finish(&mut node);
        node.wait(100_000);
        for _ in 0..4 {
            node.engine.expire(node.now);
        }
        told(&mut node).iter().map(|record| record.kind).collect()
    };
    let reset = endings(&|node| {
        open(node);
        let back = v4(SERVER, CLIENT).sequence(501);
        node.delivered(SERVER, CLIENT, back.tcp(ANSWER, RST, b""));
    });
    assert_eq!(reset, [RecordKind::End(Ending::Reset)]);
    assert_eq!(endings(&open), [RecordKind::End(Ending::Idle)]);
    let unanswered = endings(&|node| {
        node.delivered(CLIENT, SERVER, v4(CLIENT, SERVER).tcp(REQUEST, SYN, b""));
    });
    assert_eq!(unanswered, [RecordKind::End(Ending::Unanswered)]);
}

#[test]
fn a_flow_from_outside_is_told_by_the_pod_it_is_for() {
    let mut node = Node::new(&[]);
    node.delivered(UPLINK, SERVER, v4(UPLINK, SERVER).udp((5000, 53), b"x"));
    node.wait(100_000);
    node.engine.expire(node.now);
    let [record] = told(&mut node)[..] else {
        panic!("expected one record");
    };
    assert_eq!(record.to, Some(EndpointId(101)));
    assert_eq!(record.totals.packets, [1, 0]);
}

#[test]
fn a_flow_that_goes_on_is_told_of_every_ten_seconds() {
    let mut node = Node::new(&[]);
    let mut updates = Vec::new();
    for second in 0..40 {
        node.delivered(CLIENT, SERVER, v4(CLIENT, SERVER).udp(REQUEST, b"x"));
        updates.extend(
            told(&mut node)
                .iter()
                .map(|record| (second, record.totals.packets[0])),
        );
        node.wait(1);
    }
    assert!((2..=4).contains(&updates.len()), "{updates:?}");
    assert!(updates.is_sorted());
}

#[test]
fn denied_and_withdrawn_flows_have_no_end() {
    let mut node = Node::new(&[DENY_ALL]);
    node.reason(CLIENT, v4(CLIENT, SERVER).tcp(REQUEST, SYN, b""));
    node.wait(100_000);
    node.engine.expire(node.now);
    assert_eq!(told(&mut node), vec![]);
}

#[test]
fn after_a_sleep_every_flow_of_a_large_table_is_told_of() {
    const FLOWS: u16 = 3000;
    let mut node = Node::new(&[]);
    let send_all = |node: &mut Node| {
        for port in 0..FLOWS {
            let frame = v4(CLIENT, SERVER).udp((5000 + port, 80), b"x");
            node.delivered(CLIENT, SERVER, frame);
            node.records.clear();
        }
    };
    send_all(&mut node);
    node.wait(11);
    send_all(&mut node);
    // One call looks at a piece only.
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let mut records = Vec::with_capacity(4096);
        node.engine.tell_flows(node.now, &mut records);
        ports.extend(records.iter().map(|record| record.ports.0));
    }
    assert_eq!(ports.len(), usize::from(FLOWS));
}

#[test]
fn an_end_names_both_ends_also_of_a_flow_that_nobody_answered() {
    for (from, to, ids) in [(CLIENT, SERVER, (100, 101)), (UPLINK, SERVER, (104, 101))] {
        let mut node = Node::new(&[]);
        node.delivered(from, to, v4(from, to).udp((5000, 80), b"x"));
        node.wait(100_000);
        node.engine.expire(node.now);
        let ends: Vec<_> = told(&mut node)
            .iter()
            .map(|record| (record.from, record.to))
            .collect();
        let expected = (Some(EndpointId(ids.0)), Some(EndpointId(ids.1)));
        assert_eq!(ends, [expected]);
    }
}
