//! Packets that pass, and packets that policy stops: which bytes leave where.

mod network;

use network::build::{ACK, SYN, forwarded, v4, v6};
use network::*;
use portcullis_engine::{
    Drop, EndpointId, EndpointIndex, EngineSettings, Now, Record, RecordKind, Route,
};
use portcullis_policy::{Decision, Generation, Identity, Protocol, RuleId, Verdict};
use std::net::{IpAddr, Ipv4Addr};

#[test]
fn a_permitted_syn_arrives_with_new_macs_one_hop_less_and_whole_checksums() {
    for build in [v4(CLIENT, SERVER), v6(CLIENT, SERVER)] {
        let build = build.partial();
        let make = |build: &build::Build| build.tcp((40_000, 80), SYN, b"");
        let mut node = Node::new(&[ALLOW_CLIENT]);
        let sent = node.send(CLIENT, make(&build));
        let frame = forwarded(&build, SERVER, make);
        assert_eq!(sent, End::Sent { to: SERVER, frame });
    }
}

#[test]
fn who_finishes_a_checksum_makes_no_difference_to_what_arrives() {
    for offload_checksums in [false, true] {
        let settings = EngineSettings {
            offload_checksums,
            ..EngineSettings::default()
        };
        for (from, to) in [(CLIENT, SERVER), (CLIENT, HOST), (CLIENT, UPLINK)] {
            for build in [v4(from, to), v6(from, to)] {
                for length in [0, 1, 2, 999, 1400] {
                    let data = vec![0x5a; length];
                    let make = |build: &build::Build| build.udp((5000, 6000), &data);
                    let frame = forwarded(&build, to, make);
                    for build in [
                        build.clone().partial(),
                        build.clone(),
                        build.clone().padding(5),
                    ] {
                        let mut node = Node::with(settings, snapshot(&[], 1));
                        let sent = node.send(from, make(&build));
                        let frame = frame.clone();
                        assert_eq!(sent, End::Sent { to, frame }, "{length} to {to:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_pair_of_endpoints_that_may_speak_reaches_each_other() {
    let pairs = [
        (CLIENT, SERVER),
        (CLIENT, HOST),
        (CLIENT, UPLINK),
        (HOST, SERVER),
        (UPLINK, SERVER),
    ];
    for (from, to) in pairs {
        for build in [v4(from, to), v6(from, to)] {
            let make = |build: &build::Build| build.udp((5000, 6000), b"hello");
            let frame = forwarded(&build, to, make);
            let sent = Node::new(&[]).send(from, make(&build));
            assert_eq!(sent, End::Sent { to, frame }, "{from:?} to {to:?}");
        }
    }
}

#[test]
fn default_deny_stops_a_stranger_and_other_ports() {
    let mut node = Node::new(&[ALLOW_CLIENT]);
    let stranger = v4(STRANGER, SERVER).tcp((40_000, 80), SYN, b"");
    let other_port = v4(CLIENT, SERVER).tcp((40_000, 81), SYN, b"");
    assert_eq!(node.reason(STRANGER, stranger), Drop::PolicyDenied);
    assert_eq!(node.reason(CLIENT, other_port), Drop::PolicyDenied);
}

#[test]
fn a_denial_leaves_no_entry_at_either_end() {
    let mut node = Node::new(&[ALLOW_CLIENT]);
    node.reason(STRANGER, v4(STRANGER, SERVER).tcp((40_000, 80), SYN, b""));
    node.reason(UPLINK, v4(UPLINK, SERVER).udp((40_000, 80), b"x"));
    assert_eq!(node.engine.flows_count(), 0);
}

#[test]
fn egress_default_deny_stops_the_source_itself() {
    let mut node = Node::new(&[CLIENT_SILENT]);
    let frame = v4(CLIENT, SERVER).udp((5000, 6000), b"x");
    assert_eq!(node.reason(CLIENT, frame), Drop::PolicyDenied);
    assert_eq!(node.engine.flows_count(), 0);
}

#[test]
fn a_deny_rule_is_told_from_default_deny() {
    let mut node = Node::new(&["
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: deny-world, namespace: backend}
spec:
  endpointSelector: {}
  ingressDeny:
  - fromEntities: [world]
"]);
    let frame = v4(UPLINK, SERVER).udp((5000, 6000), b"x");
    assert_eq!(node.reason(UPLINK, frame), Drop::PolicyDeniedByRule);
}

#[test]
fn the_local_host_reaches_a_pod_that_denies_everybody() {
    let mut node = Node::new(&[DENY_ALL]);
    let probe = v4(HOST, SERVER).tcp((40_000, 8080), SYN, b"");
    node.delivered(HOST, SERVER, probe);
    let answer = v4(SERVER, HOST).tcp((8080, 40_000), SYN | ACK, b"");
    node.delivered(SERVER, HOST, answer);
}

#[test]
fn a_new_flow_writes_one_record_with_both_verdicts() {
    let mut node = Node::new(&[ALLOW_CLIENT]);
    let frame = v4(CLIENT, SERVER).tcp((40_000, 80), SYN, b"");
    let length = frame.len() as u32;
    node.delivered(CLIENT, SERVER, frame.clone());
    node.delivered(CLIENT, SERVER, frame);
    let tables = tables(&[ALLOW_CLIENT], 1);
    let expected = Record {
        kind: RecordKind::Flow,
        generation: Generation(1),
        from: Some(EndpointId(100)),
        to: Some(EndpointId(101)),
        source_identity: tables.identity_of_pod("frontend", "client").unwrap(),
        destination_identity: tables.identity_of_pod("backend", "server").unwrap(),
        addresses: Some((IpAddr::V4(CLIENT_PARTY.v4), IpAddr::V4(SERVER_PARTY.v4))),
        protocol: Some(Protocol::Tcp),
        ports: (40_000, 80),
        egress: Some(Verdict {
            decision: Decision::AllowUnpoliced,
            rule: None,
        }),
        ingress: Some(Verdict {
            decision: Decision::Allow,
            rule: Some(RuleId(0)),
        }),
        length,
        tcp_flags: portcullis_engine::TcpFlags(SYN),
        is_reply: Some(false),
        ..Record::BLANK
    };
    assert_eq!(node.records, vec![expected]);
}

#[test]
fn a_denied_packet_writes_one_record_with_the_verdict() {
    let mut node = Node::new(&[ALLOW_CLIENT]);
    let frame = v4(UPLINK, SERVER).udp((5000, 53), b"x");
    let length = frame.len() as u32;
    node.reason(UPLINK, frame);
    let expected = Record {
        kind: RecordKind::Drop(Drop::PolicyDenied),
        generation: Generation(1),
        from: Some(EndpointId(104)),
        to: Some(EndpointId(101)),
        source_identity: Identity::WORLD_IPV4,
        destination_identity: tables(&[], 1).identity_of_pod("backend", "server").unwrap(),
        addresses: Some((IpAddr::V4(WORLD_PARTY.v4), IpAddr::V4(SERVER_PARTY.v4))),
        protocol: Some(Protocol::Udp),
        ports: (5000, 53),
        egress: None,
        ingress: Some(Verdict {
            decision: Decision::DenyDefault,
            rule: None,
        }),
        length,
        ..Record::BLANK
    };
    assert_eq!(node.records, vec![expected]);
}

#[test]
fn records_without_room_are_counted() {
    let mut node = Node::new(&[]);
    node.records = Vec::with_capacity(1);
    for port in 0..3 {
        let frame = v4(CLIENT, SERVER).udp((5000, port), b"x");
        node.delivered(CLIENT, SERVER, frame);
    }
    assert_eq!((node.records.len(), node.engine.records_lost()), (1, 2));
}

#[test]
fn without_a_snapshot_or_without_tables_nothing_passes() {
    let frame = || v4(CLIENT, SERVER).udp((5000, 6000), b"x");
    let mut snapshot = snapshot(&[], 1);
    snapshot.tables = None;
    let mut node = Node::with(EngineSettings::default(), snapshot);
    assert_eq!(node.reason(CLIENT, frame()), Drop::NoTables);
    node.engine = portcullis_engine::Engine::new(EngineSettings::default(), (1, 2));
    assert_eq!(node.reason(CLIENT, frame()), Drop::NoTables);
}

#[test]
fn a_pod_without_policy_neither_sends_nor_receives() {
    let mut snapshot = snapshot(&[], 1);
    snapshot.endpoints[1].as_mut().unwrap().policy = None;
    let mut node = Node::with(EngineSettings::default(), snapshot);
    let to_it = v4(CLIENT, SERVER).udp((5000, 6000), b"x");
    let from_it = v4(SERVER, CLIENT).udp((6000, 5000), b"x");
    assert_eq!(node.reason(CLIENT, to_it), Drop::PolicyDenied);
    assert_eq!(node.reason(SERVER, from_it), Drop::PolicyDenied);
}

#[test]
fn an_address_among_the_pods_that_is_nobodys_is_unknown() {
    let nobody = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 77));
    let mut node = Node::new(&[]);
    let to_it = v4(CLIENT, SERVER).destination(nobody).udp((1, 2), b"x");
    let from_it = v4(UPLINK, SERVER).source(nobody).udp((1, 2), b"x");
    let through = v4(UPLINK, SERVER).destination(nobody).udp((1, 2), b"x");
    assert_eq!(node.reason(CLIENT, to_it), Drop::IdentityUnknown);
    assert_eq!(node.reason(UPLINK, from_it), Drop::IdentityUnknown);
    assert_eq!(node.reason(UPLINK, through), Drop::IdentityUnknown);
}

#[test]
fn nothing_goes_from_the_uplink_past_the_pods() {
    let mut node = Node::new(&[]);
    let to_world = v4(UPLINK, UPLINK)
        .destination(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)))
        .udp((1, 2), b"x");
    let to_host = v4(UPLINK, HOST).udp((1, 2), b"x");
    let host_to_world = v4(HOST, UPLINK).udp((1, 2), b"x");
    assert_eq!(node.reason(UPLINK, to_world), Drop::NoRoute);
    assert_eq!(node.reason(UPLINK, to_host), Drop::NoRoute);
    assert_eq!(node.reason(HOST, host_to_world), Drop::NoRoute);
}

#[test]
fn the_longest_route_wins_and_no_route_is_a_reason() {
    let mut snapshot = snapshot(&[], 1);
    let near = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 9));
    snapshot.routes = vec![Route {
        network: IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)),
        prefix_length: 24,
        gateway: None,
    }];
    snapshot.neighbours.insert(near, mac(9));
    let mut node = Node::with(EngineSettings::default(), snapshot);
    let sent = v4(CLIENT, UPLINK).destination(near).udp((1, 2), b"x");
    let frame = node.delivered(CLIENT, UPLINK, sent);
    assert_eq!(frame[..6], mac(9).0);
    let far = v4(CLIENT, UPLINK).udp((1, 2), b"x");
    assert_eq!(node.reason(CLIENT, far), Drop::NoRoute);
}

#[test]
fn ethernet_padding_is_not_sent_on() {
    let build = v4(CLIENT, SERVER).padding(13);
    let make = |build: &build::Build| build.udp((1, 2), b"x");
    let frame = forwarded(&build, SERVER, make);
    let sent = Node::new(&[]).send(CLIENT, make(&build));
    assert_eq!(sent, End::Sent { to: SERVER, frame });
}

#[test]
fn a_handover_to_an_endpoint_that_has_gone_is_dropped() {
    let mut node = Node::new(&[]);
    let mut bytes = v4(CLIENT, SERVER).udp((1, 2), b"x");
    let mut next = snapshot(&[], 2);
    // The index is used again for another pod, the address has moved with it.
    next.endpoints[1].as_mut().unwrap().id = EndpointId(900);
    let (engine, records) = (&mut node.engine, &mut node.records);
    let outcome = with_frame(&mut bytes, |frame| {
        let portcullis_engine::Outcome::HandOver(handover) =
            engine.egress(CLIENT, frame, LATER, records)
        else {
            panic!("no handover");
        };
        engine.adopt(std::sync::Arc::new(next));
        let outcome = engine.ingress(&handover, frame, LATER, records);
        assert!(handover.must_be_withdrawn(&outcome));
        engine.withdraw(&handover);
        outcome
    });
    assert_eq!(
        outcome,
        portcullis_engine::Outcome::Drop(Drop::EndpointGone)
    );
    assert_eq!(node.engine.flows_count(), 0);
}

#[test]
fn a_source_that_has_gone_before_the_ingress_half_is_not_taken_for_its_successor() {
    let mut node = Node::new(&[ALLOW_CLIENT]);
    let mut bytes = v4(CLIENT, SERVER).tcp((40_000, 80), SYN, b"");
    let mut next = snapshot(&[ALLOW_CLIENT], 2);
    next.endpoints[0].as_mut().unwrap().id = EndpointId(900);
    let (engine, records) = (&mut node.engine, &mut node.records);
    let outcome = with_frame(&mut bytes, |frame| {
        let portcullis_engine::Outcome::HandOver(handover) =
            engine.egress(CLIENT, frame, LATER, records)
        else {
            panic!("no handover");
        };
        engine.adopt(std::sync::Arc::new(next));
        engine.ingress(&handover, frame, LATER, records)
    });
    assert_eq!(
        outcome,
        portcullis_engine::Outcome::Drop(Drop::EndpointGone)
    );
}

#[test]
fn an_index_without_endpoint_is_a_reason() {
    let frame = v4(CLIENT, SERVER).udp((1, 2), b"x");
    let mut node = Node::new(&[]);
    assert_eq!(node.reason(EndpointIndex(99), frame), Drop::EndpointGone);
}

#[test]
fn a_pod_pays_for_its_flows_at_both_ends_and_its_peer_stays_reachable() {
    let settings = EngineSettings {
        flows_max: 40,
        endpoint_share_percent: 25,
        ..EngineSettings::default()
    };
    let mut node = Node::with(settings, snapshot(&[], 1));
    let flow = |from, port| v4(from, SERVER).udp((port, 53), b"x");
    for port in 1..=5 {
        node.delivered(STRANGER, SERVER, flow(STRANGER, port));
    }
    assert_eq!(
        node.reason(STRANGER, flow(STRANGER, 6)),
        Drop::FlowShareFull
    );
    node.delivered(CLIENT, SERVER, flow(CLIENT, 1));
    // What comes from outside is the share of who it comes to.
    for port in 1..=10 {
        node.delivered(UPLINK, SERVER, flow(UPLINK, port));
    }
    assert_eq!(node.reason(UPLINK, flow(UPLINK, 11)), Drop::FlowShareFull);
    node.delivered(CLIENT, SERVER, flow(CLIENT, 2));
}

#[test]
fn a_full_flow_table_drops_and_recovers_when_flows_expire() {
    let settings = EngineSettings {
        flows_max: 4,
        endpoint_share_percent: 100,
        ..EngineSettings::default()
    };
    let mut node = Node::with(settings, snapshot(&[], 1));
    let flow = |port| v4(CLIENT, SERVER).udp((port, 53), b"x");
    node.delivered(CLIENT, SERVER, flow(1));
    // Another's: a pod whose share is full, be it all, hears of that first.
    let other = v4(STRANGER, SERVER).udp((2, 53), b"x");
    node.delivered(STRANGER, SERVER, other);
    assert_eq!(node.reason(CLIENT, flow(3)), Drop::FlowTableFull);
    assert_eq!(node.engine.flows_count(), 4);
    node.wait(61);
    node.delivered(CLIENT, SERVER, flow(3));
    node.now = Now(node.now.0 + 61_000_000_000);
    node.engine.expire(node.now);
    assert_eq!(node.engine.flows_count(), 0);
}
