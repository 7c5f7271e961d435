//! Flows: replies, generations, revocation, connection states, learning in mid-stream.

mod network;

use network::build::{ACK, FIN, RST, SYN, quote, v4, v6};
use network::*;
use portcullis_engine::{
    Drop, EngineSettings, FlowState, Now, RecordKind, RuleHit, RuleHits, Side,
};
use portcullis_policy::RuleId;
use std::sync::Arc;

const PORTS: (u16, u16) = (40_000, 80);
const BACK: (u16, u16) = (80, 40_000);

/// The server opens nothing, and takes TCP 80 from the client: only replies get out.
const SERVER_SILENT: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: silent, namespace: backend}
spec:
  podSelector: {}
  policyTypes: [Egress]
";

fn syn() -> Vec<u8> {
    v4(CLIENT, SERVER).tcp(PORTS, SYN, b"")
}

fn syn_ack() -> Vec<u8> {
    v4(SERVER, CLIENT).tcp(BACK, SYN | ACK, b"")
}

fn ack() -> Vec<u8> {
    v4(CLIENT, SERVER).tcp(PORTS, ACK, b"")
}

fn reply(flags: u8) -> Vec<u8> {
    v4(SERVER, CLIENT).tcp(BACK, flags, b"data")
}

fn established(policies: &[&str]) -> Node {
    let mut node = Node::new(policies);
    node.delivered(CLIENT, SERVER, syn());
    node.delivered(SERVER, CLIENT, syn_ack());
    node.delivered(CLIENT, SERVER, ack());
    node
}

#[test]
fn replies_pass_where_neither_side_may_open() {
    let mut node = established(&[ALLOW_CLIENT, SERVER_SILENT]);
    node.delivered(SERVER, CLIENT, reply(ACK));
    assert_eq!(node.records.len(), 1);
    let opening = v4(SERVER, CLIENT).tcp((50_000, 22), SYN, b"");
    assert_eq!(node.reason(SERVER, opening), Drop::PolicyDenied);
}

#[test]
fn a_syn_from_the_answering_side_is_judged_as_a_connection_of_its_own() {
    let mut node = established(&[ALLOW_CLIENT, SERVER_SILENT]);
    assert_eq!(node.reason(SERVER, reply(SYN)), Drop::PolicyDenied);
    // The connection that was there stays.
    node.delivered(SERVER, CLIENT, reply(ACK));
}

#[test]
fn segments_of_no_connection_are_unknown() {
    let mut node = Node::new(&[]);
    for flags in [ACK, SYN | ACK, FIN | ACK, RST, 0] {
        let frame = v4(CLIENT, SERVER).tcp(PORTS, flags, b"");
        assert_eq!(node.reason(CLIENT, frame), Drop::FlowUnknown, "{flags:#x}");
    }
    assert_eq!(node.engine.flows_count(), 0);
}

#[test]
fn in_the_first_seconds_connections_are_learned_towards_the_lower_port() {
    let learning = || {
        let mut node = Node::with(
            EngineSettings::default(),
            snapshot(&[ALLOW_CLIENT, SERVER_SILENT], 1),
        );
        node.now = Now(1_000_000_000);
        node
    };
    // The server's side of a connection that the client had opened: allowed in that direction.
    let mut node = learning();
    node.delivered(SERVER, CLIENT, reply(ACK));
    node.delivered(CLIENT, SERVER, ack());
    // Nobody may open towards this port.
    let frame = v4(SERVER, CLIENT).tcp((50_000, 22), ACK, b"");
    assert_eq!(learning().reason(SERVER, frame), Drop::PolicyDenied);
    // Who answers a SYN has not begun, whatever the ports are.
    let frame = v4(SERVER, CLIENT).tcp((50_000, 22), SYN | ACK, b"");
    assert_eq!(learning().reason(SERVER, frame), Drop::PolicyDenied);
    assert_eq!(learning().reason(CLIENT, syn_reset()), Drop::FlowUnknown);
    let mut node = learning();
    node.now = Now(30_000_000_000);
    assert_eq!(node.reason(SERVER, reply(ACK)), Drop::FlowUnknown);
}

fn syn_reset() -> Vec<u8> {
    v4(CLIENT, SERVER).tcp(PORTS, RST, b"")
}

#[test]
fn a_new_generation_that_allows_it_keeps_the_flow_and_writes_no_record() {
    let mut node = established(&[ALLOW_CLIENT]);
    node.adopt(&[ALLOW_CLIENT, SERVER_SILENT], 2);
    node.delivered(SERVER, CLIENT, reply(ACK));
    node.delivered(CLIENT, SERVER, ack());
    assert_eq!(node.records.len(), 1);
}

/// What was counted of the rules of the node's tables.
fn counted(hits: &RuleHits) -> Vec<RuleHit> {
    (0..2).map(|number| hits.of(RuleId(number))).collect()
}

#[test]
fn a_rule_counts_each_connection_once_and_each_denied_packet() {
    const DENY_CLIENT: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: deny-client, namespace: backend}
spec:
  endpointSelector: {}
  ingress: [{fromEntities: [all]}]
  ingressDeny: [{toPorts: [{ports: [{port: '22', protocol: TCP}]}]}]
";
    let mut node = Node::new(&[DENY_CLIENT]);
    let hits = Arc::new(RuleHits::new(2));
    assert!(node.engine.count_in(Arc::clone(&hits)).is_none());
    let never = RuleHit::default();
    assert_eq!(counted(&hits), [never, never]);
    node.delivered(CLIENT, SERVER, syn());
    node.delivered(SERVER, CLIENT, reply(SYN | ACK));
    node.delivered(CLIENT, SERVER, ack());
    let hit = |connections, last| RuleHit { connections, last };
    assert_eq!(counted(&hits), [hit(1, LATER), never]);
    node.wait(5);
    for _ in 0..2 {
        let frame = v4(CLIENT, SERVER).tcp((40_000, 22), SYN, b"");
        assert_eq!(node.reason(CLIENT, frame), Drop::PolicyDeniedByRule);
    }
    assert_eq!(counted(&hits), [hit(1, LATER), hit(2, node.now)]);
    // The same tables under a new number: judged again, not counted again.
    node.adopt(&[DENY_CLIENT], 2);
    node.delivered(CLIENT, SERVER, ack());
    assert_eq!(counted(&hits), [hit(1, LATER), hit(2, node.now)]);
    // Counters of other tables count nothing they do not have.
    let none = Arc::new(RuleHits::new(0));
    let replaced = node.engine.count_in(none).expect("those of before");
    assert!(Arc::ptr_eq(&replaced, &hits));
    let frame = v4(CLIENT, SERVER).tcp((40_001, 22), SYN, b"");
    assert_eq!(node.reason(CLIENT, frame), Drop::PolicyDeniedByRule);
    assert_eq!(counted(&hits), [hit(1, LATER), hit(2, node.now)]);
}

#[test]
fn a_new_generation_revokes_an_open_flow() {
    let mut node = established(&[ALLOW_CLIENT]);
    node.adopt(&[DENY_ALL], 2);
    assert_eq!(node.reason(CLIENT, ack()), Drop::PolicyDenied);
    assert_eq!(
        node.records.last().unwrap().kind,
        RecordKind::Revoked(Drop::PolicyDenied)
    );
    // Both entries have gone: the next segments belong to nothing.
    assert_eq!(node.engine.flows_count(), 0);
    assert_eq!(node.reason(SERVER, reply(ACK)), Drop::FlowUnknown);
}

#[test]
fn a_revoked_flow_does_not_go_on_as_replies() {
    let mut node = established(&[ALLOW_CLIENT]);
    node.adopt(&[DENY_ALL], 2);
    assert_eq!(node.reason(SERVER, reply(ACK)), Drop::PolicyDenied);
    assert_eq!(node.reason(SERVER, reply(ACK)), Drop::FlowUnknown);
    assert_eq!(node.reason(CLIENT, ack()), Drop::FlowUnknown);
}

#[test]
fn a_half_open_connection_dies_after_a_minute_and_an_established_one_does_not() {
    let mut node = Node::new(&[]);
    node.delivered(CLIENT, SERVER, syn());
    node.wait(61);
    assert_eq!(node.reason(SERVER, syn_ack()), Drop::FlowUnknown);
    let mut node = established(&[]);
    node.wait(7999);
    node.delivered(SERVER, CLIENT, reply(ACK));
    node.wait(8001);
    assert_eq!(node.reason(SERVER, reply(ACK)), Drop::FlowUnknown);
}

#[test]
fn a_flood_of_answered_syns_does_not_earn_long_lives() {
    let mut node = Node::new(&[]);
    node.delivered(CLIENT, SERVER, syn());
    node.delivered(SERVER, CLIENT, syn_ack());
    node.wait(61);
    assert_eq!(node.reason(CLIENT, ack()), Drop::FlowUnknown);
}

#[test]
fn a_connection_lingers_ten_seconds_after_both_fins_or_a_reset() {
    let mut node = established(&[]);
    node.delivered(
        CLIENT,
        SERVER,
        v4(CLIENT, SERVER).tcp(PORTS, FIN | ACK, b""),
    );
    // Half closed: the other side may go on for long.
    node.wait(1000);
    node.delivered(SERVER, CLIENT, reply(FIN | ACK));
    node.wait(9);
    node.delivered(CLIENT, SERVER, ack());
    node.wait(11);
    assert_eq!(node.reason(CLIENT, ack()), Drop::FlowUnknown);
    let mut node = established(&[]);
    node.delivered(SERVER, CLIENT, reply(RST));
    node.wait(11);
    assert_eq!(node.reason(CLIENT, ack()), Drop::FlowUnknown);
}

#[test]
fn a_reset_far_from_the_connection_passes_and_ends_nothing() {
    let mut node = established(&[]);
    let reset = v4(SERVER, CLIENT).sequence(1 << 31).tcp(BACK, RST, b"");
    node.delivered(SERVER, CLIENT, reset);
    node.wait(1000);
    node.delivered(CLIENT, SERVER, ack());
}

#[test]
fn the_flows_are_listed_with_who_began_them_and_the_rule_that_allowed_them() {
    let node = established(&[ALLOW_CLIENT]);
    let mut views = Vec::with_capacity(8);
    assert_eq!(node.engine.list_flows(0, &mut views), None);
    let told: Vec<_> = views
        .iter()
        .map(|view| (view.initiator, view.state, view.rule, view.sent.0))
        .collect();
    let at_client = (Side::Local, FlowState::Established, None, 2);
    let at_server = (Side::Remote, FlowState::Established, Some(RuleId(0)), 1);
    assert_eq!(told, [at_client, at_server]);
    assert_eq!(views[0].local, views[1].remote);
    assert_eq!(views[0].sent, views[1].received);
    let gauges = node.engine.flow_table_gauges();
    assert_eq!((gauges.settled, gauges.half_open), (2, 0));
}

#[test]
fn a_syn_after_the_end_is_a_new_flow_with_its_own_record() {
    let mut node = established(&[]);
    node.delivered(SERVER, CLIENT, reply(RST));
    node.delivered(CLIENT, SERVER, syn());
    assert_eq!(node.records.len(), 2);
    // A repeated SYN is not.
    node.delivered(CLIENT, SERVER, syn());
    assert_eq!(node.records.len(), 2);
}

#[test]
fn datagrams_are_answered_for_a_minute() {
    let mut node = Node::new(&[ALLOW_CLIENT, SERVER_SILENT]);
    let query = v4(CLIENT, SERVER).udp((5000, 53), b"q");
    let answer = || v4(SERVER, CLIENT).udp((53, 5000), b"a");
    assert_eq!(node.reason(SERVER, answer()), Drop::PolicyDenied);
    node.delivered(CLIENT, SERVER, query);
    node.delivered(SERVER, CLIENT, answer());
    node.wait(61);
    assert_eq!(node.reason(SERVER, answer()), Drop::PolicyDenied);
}

#[test]
fn sctp_flows_by_its_ports() {
    let mut node = Node::new(&[SERVER_SILENT]);
    node.delivered(CLIENT, SERVER, v4(CLIENT, SERVER).sctp((1, 2), b"INIT"));
    node.delivered(SERVER, CLIENT, v4(SERVER, CLIENT).sctp((2, 1), b"INIT"));
    let other = v4(SERVER, CLIENT).sctp((3, 1), b"INIT");
    assert_eq!(node.reason(SERVER, other), Drop::PolicyDenied);
}

#[test]
fn echo_replies_pass_only_for_a_request_with_their_identifier() {
    for (there, back) in [
        (v4(CLIENT, SERVER), v4(SERVER, CLIENT)),
        (v6(CLIENT, SERVER), v6(SERVER, CLIENT)),
    ] {
        let mut node = Node::new(&[SERVER_SILENT]);
        assert_eq!(node.reason(SERVER, back.echo(false, 7)), Drop::FlowUnknown);
        node.delivered(CLIENT, SERVER, there.echo(true, 7));
        node.delivered(SERVER, CLIENT, back.echo(false, 7));
        assert_eq!(node.reason(SERVER, back.echo(false, 8)), Drop::FlowUnknown);
        assert_eq!(node.reason(SERVER, back.echo(true, 7)), Drop::PolicyDenied);
    }
}

#[test]
fn both_ends_may_ping_with_one_identifier() {
    let (there, back) = (v4(CLIENT, SERVER), v4(SERVER, CLIENT));
    let mut node = Node::new(&[]);
    for _ in 0..2 {
        node.delivered(CLIENT, SERVER, there.echo(true, 7));
        node.delivered(SERVER, CLIENT, back.echo(true, 7));
        node.delivered(CLIENT, SERVER, there.echo(false, 7));
        node.delivered(SERVER, CLIENT, back.echo(false, 7));
    }
    assert_eq!(node.records.len(), 2);
}

#[test]
fn other_icmp_messages_are_judged_by_type_and_answered_by_nothing() {
    let mut node = Node::new(&[SERVER_SILENT]);
    let request = v4(CLIENT, SERVER).icmp(13, 0, [0; 4], b"");
    let reply = v4(SERVER, CLIENT).icmp(14, 0, [0; 4], b"");
    node.delivered(CLIENT, SERVER, request);
    assert_eq!(node.reason(SERVER, reply), Drop::PolicyDenied);
}

#[test]
fn an_icmp_error_passes_with_the_flow_that_it_quotes() {
    let mut node = Node::new(&[ALLOW_CLIENT, SERVER_SILENT]);
    let query = v4(CLIENT, SERVER).udp((5000, 53), b"q");
    let error = v4(SERVER, CLIENT).icmp(3, 3, [0; 4], quote(&query));
    assert_eq!(node.reason(SERVER, error.clone()), Drop::IcmpErrorUnrelated);
    node.delivered(CLIENT, SERVER, query);
    node.delivered(SERVER, CLIENT, error);
    let query = v6(CLIENT, SERVER).udp((5000, 53), b"q");
    let error = v6(SERVER, CLIENT).icmp(1, 4, [0; 4], quote(&query));
    node.delivered(CLIENT, SERVER, query);
    node.delivered(SERVER, CLIENT, error);
    assert_eq!(node.records.len(), 3);
}

#[test]
fn an_icmp_error_from_a_router_on_the_way_passes() {
    let mut node = Node::new(&[DENY_ALL]);
    let query = v4(SERVER, UPLINK).udp((5000, 53), b"q");
    let router = std::net::IpAddr::V4([203, 0, 113, 1].into());
    let error = |query: &[u8]| {
        v4(UPLINK, SERVER)
            .source(router)
            .icmp(11, 0, [0; 4], quote(query))
    };
    node.delivered(SERVER, UPLINK, query.clone());
    node.delivered(UPLINK, SERVER, error(&query));
    let other = v4(SERVER, UPLINK).udp((5001, 53), b"q");
    assert_eq!(node.reason(UPLINK, error(&other)), Drop::IcmpErrorUnrelated);
}

#[test]
fn an_icmp_error_about_an_echo_passes() {
    let mut node = Node::new(&[DENY_ALL]);
    let request = v4(SERVER, UPLINK).echo(true, 9);
    let error = v4(UPLINK, SERVER).icmp(3, 1, [0; 4], quote(&request));
    node.delivered(SERVER, UPLINK, request);
    node.delivered(UPLINK, SERVER, error);
}

#[test]
fn an_icmp_error_to_another_than_the_quoted_sender_is_unrelated() {
    let mut node = Node::new(&[]);
    let query = v4(CLIENT, SERVER).udp((5000, 53), b"q");
    node.delivered(CLIENT, SERVER, query.clone());
    for other in [STRANGER, HOST, UPLINK] {
        let error = v4(SERVER, other).icmp(3, 3, [0; 4], quote(&query));
        assert_eq!(node.reason(SERVER, error), Drop::IcmpErrorUnrelated);
    }
}

#[test]
fn an_icmp_error_about_a_revoked_flow_is_dropped() {
    let mut node = Node::new(&[ALLOW_CLIENT]);
    let query = v4(CLIENT, SERVER).udp((5000, 53), b"q");
    let error = v4(SERVER, CLIENT).icmp(3, 3, [0; 4], quote(&query));
    node.delivered(CLIENT, SERVER, query);
    node.adopt(&[DENY_ALL], 2);
    assert_eq!(node.reason(SERVER, error), Drop::PolicyDenied);
}

#[test]
fn an_icmp_redirect_never_passes() {
    let mut node = Node::new(&[]);
    let query = v4(SERVER, UPLINK).udp((5000, 53), b"q");
    let redirect = v4(UPLINK, SERVER).icmp(5, 1, [10, 0, 0, 9], quote(&query));
    node.delivered(SERVER, UPLINK, query);
    assert_eq!(node.reason(UPLINK, redirect), Drop::IcmpRedirect);
}

#[test]
fn an_expired_flow_is_swept_without_a_packet() {
    let mut node = Node::new(&[]);
    for port in 0..1000 {
        node.delivered(CLIENT, SERVER, v4(CLIENT, SERVER).udp((5000, port), b"q"));
    }
    assert_eq!(node.engine.flows_count(), 2000);
    node.wait(61);
    node.engine.expire(node.now);
    let left = node.engine.flows_count();
    assert!((1..2000).contains(&left), "one call does a bounded piece");
    (0..7).for_each(|_| node.engine.expire(node.now));
    assert_eq!(node.engine.flows_count(), 0);
}
