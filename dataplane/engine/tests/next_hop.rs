//! Packets whose next hop has not been found yet: they wait for it.

mod network;

use network::build::{Build, SYN, forwarded, v4, v6};
use network::*;
use portcullis_engine::{
    Drop, EndpointId, EndpointIndex, EngineSettings, HOLDS_MAX, RecordKind, RuleHits, Snapshot,
};
use portcullis_policy::RuleId;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const MAY_SPEAK: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: may-speak, namespace: frontend}
spec:
  endpointSelector: {}
  egress: [{toEntities: [all]}]
";

/// The server has not shown its MAC address, nor has the router.
fn nobody_known(generation: u64) -> Snapshot {
    unknown(&[], generation)
}

fn unknown(policies: &[&str], generation: u64) -> Snapshot {
    let mut snapshot = snapshot(policies, generation);
    snapshot.neighbours.clear();
    snapshot.endpoints[1].as_mut().unwrap().peer_mac = None;
    snapshot
}

fn node() -> Node {
    Node::with(EngineSettings::default(), nobody_known(1))
}

fn packet(build: &Build) -> Vec<u8> {
    build.udp((1, 2), b"x")
}

#[track_caller]
fn assert_waits(node: &mut Node, from: EndpointIndex, bytes: Vec<u8>) {
    let end = node.send(from, bytes);
    assert!(matches!(end, End::Held(_)), "{end:?}");
}

#[test]
fn an_unknown_next_hop_is_asked_for_once() {
    let mut node = node();
    for _ in 0..2 {
        assert_waits(&mut node, CLIENT, packet(&v4(CLIENT, UPLINK)));
        assert_waits(&mut node, CLIENT, packet(&v6(CLIENT, SERVER)));
    }
    let wanted: Vec<_> = std::iter::from_fn(|| node.engine.take_wanted_neighbour()).collect();
    let expected = vec![
        (UPLINK, IpAddr::V4(ROUTER_V4)),
        (SERVER, IpAddr::V6(SERVER_PARTY.v6)),
    ];
    assert_eq!(wanted, expected);
    assert_eq!(node.engine.flows_count(), 0);
}

#[test]
fn packets_go_out_in_their_order_once_their_next_hop_is_found() {
    let mut node = node();
    let (world, server) = (v4(CLIENT, UPLINK), v6(CLIENT, SERVER));
    assert_waits(&mut node, CLIENT, packet(&world));
    assert_waits(&mut node, CLIENT, packet(&server));
    assert_waits(&mut node, CLIENT, packet(&world));
    assert_eq!(node.records, []);
    // One of them is found.
    let mut next = nobody_known(1);
    next.neighbours = snapshot(&[], 1).neighbours;
    node.engine.adopt(Arc::new(next));
    let to_world = End::Sent {
        to: UPLINK,
        frame: forwarded(&world, UPLINK, packet),
    };
    assert_eq!(node.release(), [to_world.clone(), to_world]);
    node.engine.adopt(Arc::new(snapshot(&[], 1)));
    let to_server = End::Sent {
        to: SERVER,
        frame: forwarded(&server, SERVER, packet),
    };
    assert_eq!(node.release(), [to_server]);
    let told: Vec<_> = node.records.iter().map(|record| record.kind).collect();
    assert_eq!(told, [RecordKind::Flow, RecordKind::Flow], "one of each");
}

#[test]
fn a_rule_counts_a_connection_once_however_many_of_its_packets_wait() {
    let hits = Arc::new(RuleHits::new(8));
    let counts = |hits: &RuleHits| -> u64 {
        let all = (0..8).map(|rule| hits.of(RuleId(rule)).connections);
        all.sum()
    };
    let mut node = Node::with(EngineSettings::default(), unknown(&[MAY_SPEAK], 1));
    node.engine.count_in(Arc::clone(&hits));
    for _ in 0..2 {
        assert_waits(&mut node, CLIENT, v4(CLIENT, SERVER).tcp((1, 80), SYN, b""));
    }
    assert_eq!(counts(&hits), 0);
    node.engine.adopt(Arc::new(snapshot(&[MAY_SPEAK], 1)));
    assert_eq!(node.release().len(), 2);
    assert_eq!(counts(&hits), 1);
}

#[test]
fn what_is_not_found_within_a_second_is_dropped_and_told() {
    let mut node = node();
    assert_waits(&mut node, CLIENT, packet(&v4(CLIENT, UPLINK)));
    node.engine.adopt(Arc::new(nobody_known(2)));
    node.engine.expire(node.now);
    assert_eq!(node.release(), []);
    node.wait(1);
    node.engine.expire(node.now);
    assert_eq!(node.release(), [End::Dropped(Drop::NeighbourUnknown)]);
    let told: Vec<_> = node.records.iter().map(|record| record.kind).collect();
    assert_eq!(told, [RecordKind::Drop(Drop::NeighbourUnknown)]);
}

#[test]
fn what_has_waited_is_judged_by_the_policy_of_now() {
    let mut node = node();
    assert_waits(&mut node, CLIENT, packet(&v4(CLIENT, SERVER)));
    let mut next = snapshot(&[ALLOW_CLIENT], 2);
    node.engine.adopt(Arc::new(next));
    assert_eq!(node.release(), [End::Dropped(Drop::PolicyDenied)]);
    // Nor does anything wait for who has gone.
    let mut node = self::node();
    assert_waits(&mut node, CLIENT, packet(&v4(CLIENT, SERVER)));
    next = nobody_known(2);
    next.endpoints[1] = None;
    node.engine.adopt(Arc::new(next));
    assert_eq!(node.release().len(), 1);
}

#[test]
fn few_wait_for_next_hops_and_fragments_keep_their_room() {
    let mut node = node();
    let away = |from, last: u8| {
        let on_link = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        packet(&v4(from, UPLINK).destination(on_link))
    };
    for from in [CLIENT, STRANGER] {
        for number in 0..8 {
            assert_waits(&mut node, from, away(from, 100 + number));
        }
        assert_eq!(node.reason(from, away(from, 120)), Drop::NeighbourUnknown);
    }
    assert_eq!(node.held.len(), 16);
    assert!(node.held.len() <= HOLDS_MAX / 2);
    node.wait(1);
    node.engine.expire(node.now);
    let all_dropped = vec![End::Dropped(Drop::NeighbourUnknown); 16];
    assert_eq!(node.release(), all_dropped);
    // And again.
    assert_waits(&mut node, CLIENT, away(CLIENT, 1));
}

#[test]
fn what_waits_ends_with_the_endpoint_that_sent_it() {
    let mut node = node();
    assert_waits(&mut node, CLIENT, packet(&v4(CLIENT, UPLINK)));
    let mut next = snapshot(&[], 2);
    next.endpoints[0].as_mut().unwrap().id = EndpointId(900);
    node.engine.adopt(Arc::new(next));
    assert_eq!(node.release(), [End::Dropped(Drop::EndpointGone)]);
}
