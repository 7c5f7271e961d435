//! What leaves by the uplink under another address: gateways of policies, and masquerade.

mod network;

use network::build::{ACK, Build, RST, SYN, forwarded, has_valid_checksums, quote, v4, v6};
use network::services::*;
use network::*;
use portcullis_engine::{
    CrowdedDestination, Drop, EngineSettings, ExitPlan, GatewayPlace, SessionKind, SessionView,
};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const PORTS: (u16, u16) = (40_000, 443);

fn node(policies: &[&str], plan: ExitPlan) -> Node {
    Node::with(EngineSettings::default(), leaving(policies, 1, plan))
}

fn through(place: GatewayPlace) -> Node {
    node(
        &[GATEWAY_NODE, CLIENT_THROUGH_GATEWAY],
        gateway(place, (1024, 65_535)),
    )
}

fn here() -> GatewayPlace {
    GatewayPlace::Here(vec![EGRESS, EGRESS_V6])
}

fn back(ports: (u16, u16)) -> (u16, u16) {
    (ports.1, ports.0)
}

fn out() -> Build {
    v4(CLIENT, UPLINK)
}

fn answer(egress: IpAddr) -> Build {
    match egress {
        IpAddr::V4(_) => v4(UPLINK, CLIENT).destination(egress),
        IpAddr::V6(_) => v6(UPLINK, CLIENT).destination(egress),
    }
}

fn source(frame: &[u8]) -> IpAddr {
    IpAddr::from(<[u8; 4]>::try_from(&frame[26..30]).unwrap())
}

fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

fn sessions(node: &Node) -> Vec<SessionView> {
    let mut views = Vec::with_capacity(64);
    node.engine.list_sessions(0, &mut views);
    views
}

/// The drop that a pod is told of, and its bytes.
fn told(end: End) -> (Drop, Vec<u8>) {
    match end {
        End::Answered {
            to: CLIENT,
            frame,
            reason: Some(reason),
        } => (reason, frame),
        other => panic!("the pod is not told: {other:?}"),
    }
}

#[test]
fn out_and_back_is_the_identity() {
    type Send = fn(&Build, (u16, u16)) -> Vec<u8>;
    let tcp: Send = |build, ports| build.tcp(ports, SYN, b"");
    let tcp_back: Send = |build, ports| build.tcp(ports, SYN | ACK, b"");
    let udp: Send = |build, ports| build.udp(ports, b"payload");
    for is_gateway in [true, false] {
        let mut node = match is_gateway {
            true => through(here()),
            false => node(&[], masquerade((1024, 65_535))),
        };
        let egress = if is_gateway {
            [EGRESS, EGRESS_V6]
        } else {
            [NODE, NODE_V6]
        };
        for (there, egress) in [(out(), egress[0]), (v6(CLIENT, UPLINK), egress[1])] {
            let seen = there.clone().source(egress);
            let back_there = answer(egress).destination(there.source);
            for (send, reply) in [(tcp, tcp_back), (udp, udp)] {
                let arrived = node.delivered(CLIENT, UPLINK, send(&there.clone().partial(), PORTS));
                assert_eq!(
                    arrived,
                    forwarded(&seen, UPLINK, |build| send(build, PORTS))
                );
                let arrived = node.delivered(UPLINK, CLIENT, reply(&answer(egress), back(PORTS)));
                let right = forwarded(&back_there, CLIENT, |build| reply(build, back(PORTS)));
                assert_eq!(arrived, right);
            }
            let arrived = node.delivered(CLIENT, UPLINK, there.echo(true, 7));
            assert_eq!(
                arrived,
                forwarded(&seen, UPLINK, |build| build
                    .echo(true, word(&arrived, arrived.len() - 12)))
            );
            let identifier = word(&arrived, arrived.len() - 12);
            let arrived = node.delivered(UPLINK, CLIENT, answer(egress).echo(false, identifier));
            assert_eq!(
                arrived,
                forwarded(&back_there, CLIENT, |build| build.echo(false, 7))
            );
        }
        let kind = if is_gateway {
            SessionKind::Gateway
        } else {
            SessionKind::Masquerade
        };
        assert!(sessions(&node).iter().all(|view| view.kind == kind));
        assert_eq!(sessions(&node).len(), 6);
    }
}

#[test]
fn every_answer_comes_back_not_only_the_first() {
    let mut node = node(&[], masquerade((1024, 65_535)));
    node.delivered(CLIENT, UPLINK, out().udp(PORTS, b"q"));
    for _ in 0..3 {
        let arrived = node.delivered(UPLINK, CLIENT, answer(NODE).udp(back(PORTS), b"a"));
        let right = forwarded(&v4(UPLINK, CLIENT), CLIENT, |build| {
            build.udp(back(PORTS), b"a")
        });
        assert_eq!(arrived, right);
        node.delivered(CLIENT, UPLINK, out().udp(PORTS, b"q"));
    }
}

#[test]
fn policy_judges_the_pod_before_its_address_changes() {
    let mut node = node(&[CLIENT_SILENT], masquerade((1024, 2047)));
    assert_eq!(
        node.reason(CLIENT, out().tcp(PORTS, SYN, b"")),
        Drop::PolicyDenied
    );
    assert_eq!(node.engine.sessions_count(), 0);
}

#[test]
fn answers_to_who_came_in_by_the_pods_own_address_leave_with_it() {
    let mut node = node(&[], masquerade((1024, 2047)));
    let asked = v4(UPLINK, SERVER);
    node.delivered(UPLINK, SERVER, asked.udp((5000, 53), b"q"));
    let reply = v4(SERVER, UPLINK);
    let arrived = node.delivered(SERVER, UPLINK, reply.udp((53, 5000), b"a"));
    assert_eq!(
        arrived,
        forwarded(&reply, UPLINK, |build| build.udp((53, 5000), b"a"))
    );
    // And so does an error about what they sent.
    let error = reply.icmp(3, 3, [0; 4], quote(&asked.udp((5000, 53), b"q")));
    let arrived = node.delivered(SERVER, UPLINK, error);
    assert_eq!(source(&arrived), SERVER_PARTY.v4);
    assert_eq!(node.engine.sessions_count(), 0);
}

#[test]
fn excluded_and_unmasked_networks_see_the_pod() {
    let mut node = through(here());
    let excluded: IpAddr = "198.51.100.200".parse().unwrap();
    let arrived = node.delivered(CLIENT, UPLINK, out().destination(excluded).udp(PORTS, b"q"));
    assert_eq!(source(&arrived), CLIENT_PARTY.v4);
    // The policy is about the client only.
    let arrived = node.delivered(STRANGER, UPLINK, v4(STRANGER, UPLINK).udp(PORTS, b"q"));
    assert_eq!(source(&arrived), STRANGER_PARTY.v4);
    let plan = ExitPlan {
        unmasked: vec!["198.51.100.128/25".parse().unwrap()],
        ..masquerade((1024, 2047))
    };
    node.engine.adopt(Arc::new(leaving(&[], 2, plan)));
    let arrived = node.delivered(
        STRANGER,
        UPLINK,
        v4(STRANGER, UPLINK).destination(excluded).udp((1, 2), b"q"),
    );
    assert_eq!(source(&arrived), STRANGER_PARTY.v4);
    let arrived = node.delivered(STRANGER, UPLINK, v4(STRANGER, UPLINK).udp((1, 2), b"q"));
    assert_eq!(source(&arrived), NODE);
}

#[test]
fn what_cannot_leave_as_it_should_does_not_leave_and_the_pod_is_told() {
    let elsewhere = GatewayPlace::Elsewhere(IpAddr::V4(Ipv4Addr::new(192, 168, 0, 11)));
    for (place, expected) in [
        (elsewhere, Drop::EgressGatewayElsewhere),
        (GatewayPlace::NoAddress, Drop::EgressAddressMissing),
        (GatewayPlace::Here(vec![]), Drop::EgressAddressMissing),
    ] {
        let mut node = through(place);
        for frame in [
            out().tcp(PORTS, SYN, b""),
            out().udp(PORTS, b"q"),
            out().echo(true, 7),
        ] {
            let (reason, error) = told(node.send(CLIENT, frame.clone()));
            assert_eq!((reason, error[34], error[35]), (expected, 3, 13));
            assert_eq!(error[42..], frame[14..]);
            assert_eq!(error[..6], CLIENT_PARTY.mac.0);
            assert!(has_valid_checksums(&error));
        }
        let (reason, error) = told(node.send(CLIENT, v6(CLIENT, UPLINK).udp(PORTS, b"q")));
        assert_eq!((reason, error[54], error[55]), (expected, 1, 1));
        assert!(has_valid_checksums(&error));
        assert_eq!(
            (node.engine.sessions_count(), node.engine.flows_count()),
            (0, 0)
        );
    }
    let other = CLIENT_THROUGH_GATEWAY
        .replace("client-out", "client-other")
        .replace("192.0.2.50", "192.0.2.51");
    let policies = [GATEWAY_NODE, CLIENT_THROUGH_GATEWAY, &other];
    let mut node = node(&policies, gateway(here(), (1024, 2047)));
    let (reason, _) = told(node.send(CLIENT, out().udp(PORTS, b"q")));
    assert_eq!(reason, Drop::EgressPolicyConflict);
    // What has no port cannot leave either.
    let mut node = through(here());
    let end = node.send(CLIENT, out().icmp(13, 0, [0; 4], &[0; 12]));
    assert_eq!(told(end).0, Drop::NatUntranslatable);
}

#[test]
fn an_address_without_ports_of_ours_is_as_good_as_missing() {
    let mut plan = gateway(here(), (1024, 2047));
    plan.ports.remove(&EGRESS);
    let mut node = node(&[GATEWAY_NODE, CLIENT_THROUGH_GATEWAY], plan);
    let (reason, _) = told(node.send(CLIENT, out().udp(PORTS, b"q")));
    assert_eq!(reason, Drop::EgressAddressMissing);
}

#[test]
fn exactly_as_many_connections_leave_as_there_are_ports() {
    let mut node = node(&[], masquerade((30_000, 30_019)));
    let syn = |number: u16, to: u16| out().tcp((1000 + number, to), SYN, b"");
    let mut ports = Vec::new();
    for number in 0..20 {
        let arrived = node.delivered(CLIENT, UPLINK, syn(number, 443));
        assert!(has_valid_checksums(&arrived));
        ports.push(word(&arrived, 34));
    }
    ports.sort_unstable();
    assert_eq!(ports, (30_000..=30_019).collect::<Vec<u16>>());
    let near = node.engine.take_crowded().unwrap();
    assert!(!near.is_exhausted);
    let (reason, error) = told(node.send(CLIENT, syn(20, 443)));
    assert_eq!(
        (reason, error[34], error[35]),
        (Drop::NatPortsExhausted, 3, 13)
    );
    let crowded = CrowdedDestination {
        egress: NODE,
        protocol: 6,
        destination: (WORLD_PARTY.v4.into(), 443),
        is_exhausted: true,
    };
    assert_eq!(node.engine.take_crowded(), Some(crowded));
    assert_eq!(node.engine.sessions_count(), 20);
    // Another destination has all of them.
    node.delivered(CLIENT, UPLINK, syn(20, 444));
    // What has ended makes room.
    let reset = out().sequence(1001).tcp((1000, 443), RST, b"");
    node.delivered(CLIENT, UPLINK, reset);
    node.delivered(CLIENT, UPLINK, syn(21, 443));
}

#[test]
fn errors_of_routers_reach_the_pod_about_its_own_packet() {
    for (kind, code) in [(3, 4), (11, 0)] {
        let mut node = node(&[], masquerade((30_000, 30_999)));
        for frame in [
            out().udp(PORTS, b"payload"),
            out().tcp(PORTS, SYN, b""),
            out().echo(true, 9),
        ] {
            let seen = node.delivered(CLIENT, UPLINK, frame.clone());
            let router = answer(NODE).source(IpAddr::V4(ROUTER_V4));
            let error = router.icmp(kind, code, [0, 0, 5, 0], quote(&seen));
            let arrived = node.delivered(UPLINK, CLIENT, error);
            assert_eq!(source(&arrived), ROUTER_V4);
            assert!(has_valid_checksums(&arrived));
            // One hop less and so another sum of the header, else byte for byte.
            let (quoted, sent) = (&arrived[42..], &frame[14..]);
            assert_eq!(quoted[12..], sent[12..]);
        }
    }
    let mut node = node(&[], masquerade((30_000, 30_999)));
    let stray = answer(EGRESS).icmp(3, 3, [0; 4], quote(&out().source(EGRESS).udp(PORTS, b"q")));
    assert_eq!(
        node.send(UPLINK, stray),
        End::Dropped(Drop::IcmpErrorUnrelated)
    );
}

#[test]
fn an_error_whose_quote_is_of_another_sender_is_not_translated() {
    let mut node = through(here());
    let seen = node.delivered(CLIENT, UPLINK, out().udp(PORTS, b"q"));
    let astray = answer(NODE).icmp(3, 3, [0; 4], quote(&seen));
    let arrived = node.delivered(UPLINK, HOST, astray.clone());
    assert_eq!(arrived[42..], astray[42..]);
}

#[test]
fn fragments_leave_and_come_back_together() {
    let mut node = node(&[], masquerade((30_000, 30_999)));
    let cut = |build: &Build, whole: &[u8]| {
        let first = build.clone().fragment(0x2000).network(17, &whole[34..58]);
        [first, build.clone().fragment(3).network(17, &whole[58..])]
    };
    let join = |frames: [Vec<u8>; 2], build: &Build| {
        let above = [&frames[0][34..], &frames[1][34..]].concat();
        build.network(17, &above)
    };
    let whole = out().udp(PORTS, &[7; 40]);
    let sent = cut(&out(), &whole).map(|piece| node.delivered(CLIENT, UPLINK, piece));
    assert!(sent.iter().all(|frame| source(frame) == NODE));
    let port = word(&sent[0], 34);
    assert!(has_valid_checksums(&join(sent, &out().source(NODE))));
    let reply = answer(NODE);
    let whole = reply.udp((443, port), &[8; 40]);
    let came = cut(&reply, &whole).map(|piece| node.delivered(UPLINK, CLIENT, piece));
    assert_eq!(word(&came[0], 36), PORTS.0);
    assert!(has_valid_checksums(&join(came, &v4(UPLINK, CLIENT))));
}

#[test]
fn a_later_fragment_of_what_cannot_leave_is_not_taken_for_an_echo() {
    let mut node = node(&[], masquerade((30_000, 30_999)));
    node.delivered(CLIENT, UPLINK, out().echo(true, 1));
    let whole = out().icmp(13, 0, [0; 4], &[0; 40]);
    let first = out().fragment(0x2000).network(1, &whole[34..58]);
    assert_eq!(told(node.send(CLIENT, first)).0, Drop::NatUntranslatable);
    let last = out().fragment(3).network(1, &whole[58..]);
    let end = node.send(CLIENT, last);
    assert!(
        matches!(end, End::Dropped(Drop::FragmentUnknown)),
        "{end:?}"
    );
}

#[test]
fn a_fragment_of_sctp_that_needs_another_port_leaves_no_session() {
    let mut node = node(&[], masquerade((30_000, 30_999)));
    let whole = out().sctp(PORTS, &[7; 24]);
    let first = out().fragment(0x2000).network(132, &whole[34..58]);
    assert_eq!(
        told_or_dropped(node.send(CLIENT, first)),
        Drop::FragmentUntranslatable
    );
    assert_eq!(node.engine.sessions_count(), 0);
}

fn told_or_dropped(end: End) -> Drop {
    match end {
        End::Dropped(reason) => reason,
        other => told(other).0,
    }
}

#[test]
fn a_segment_of_no_session_is_answered_by_a_reset() {
    let mut node = node(&[], ExitPlan::default());
    node.delivered(CLIENT, UPLINK, out().tcp(PORTS, SYN, b""));
    node.engine
        .adopt(Arc::new(leaving(&[], 2, masquerade((1024, 65_535)))));
    let data = out()
        .sequence(1001)
        .acknowledgement(5001)
        .tcp(PORTS, ACK, b"x");
    let (reason, reset) = told(node.send(CLIENT, data));
    assert_eq!((reason, reset[47]), (Drop::NatSessionUnknown, RST));
    assert_eq!(reset[38..42], 5001_u32.to_be_bytes());
    assert_eq!(
        (source(&reset), word(&reset, 34)),
        (WORLD_PARTY.v4.into(), 443)
    );
    assert!(has_valid_checksums(&reset));
    assert_eq!(node.engine.flows_count(), 0);
}

#[test]
fn an_address_that_is_taken_away_ends_its_connections_and_moves_its_datagrams() {
    let mut node = through(here());
    node.delivered(CLIENT, UPLINK, out().tcp(PORTS, SYN, b""));
    node.delivered(CLIENT, UPLINK, out().udp(PORTS, b"q"));
    let mut plan = masquerade((1024, 65_535));
    plan.ports.remove(&EGRESS);
    node.engine.adopt(Arc::new(leaving(&[], 2, plan)));
    let data = out()
        .sequence(1001)
        .acknowledgement(5001)
        .tcp(PORTS, ACK, b"x");
    assert_eq!(told(node.send(CLIENT, data)).0, Drop::NatSessionUnknown);
    let arrived = node.delivered(CLIENT, UPLINK, out().udp(PORTS, b"q"));
    assert_eq!(source(&arrived), NODE);
}

#[test]
fn a_syn_on_an_ended_connection_begins_another() {
    let mut node = node(&[], masquerade((30_000, 30_999)));
    let syn = out().tcp(PORTS, SYN, b"");
    node.delivered(CLIENT, UPLINK, syn.clone());
    let reset = out().sequence(1001).tcp(PORTS, RST, b"");
    node.delivered(CLIENT, UPLINK, reset);
    node.wait(1);
    node.delivered(CLIENT, UPLINK, syn);
    let [session] = sessions(&node)[..] else {
        panic!("one session");
    };
    assert_eq!((session.opened, session.forward.packets), (node.now, 1));
}

#[test]
fn a_super_frame_is_cut_up_after_its_address_has_changed() {
    let mut node = node(&[], masquerade((30_000, 30_999)));
    let arrived = node.delivered(CLIENT, UPLINK, out().tcp(PORTS, SYN, b""));
    let port = word(&arrived, 34);
    let big = out().sequence(1001).partial().tcp(PORTS, ACK, &[7; 9000]);
    let End::Cut { to: UPLINK, frames } = node.send(CLIENT, big) else {
        panic!("not cut up");
    };
    assert_eq!(frames.len(), 7);
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!((source(frame), word(frame, 34)), (NODE, port), "{index}");
        assert!(has_valid_checksums(frame));
    }
}

#[test]
fn a_revoked_connection_is_reset_under_the_address_it_left_with() {
    let mut node = node(&[], masquerade((30_000, 30_999)));
    let arrived = node.delivered(CLIENT, UPLINK, out().tcp(PORTS, SYN, b""));
    let port = word(&arrived, 34);
    let syn_ack = answer(NODE).sequence(5000).acknowledgement(1001);
    node.delivered(UPLINK, CLIENT, syn_ack.tcp((443, port), SYN | ACK, b""));
    let ack = out().sequence(1001).acknowledgement(5001);
    node.delivered(CLIENT, UPLINK, ack.tcp(PORTS, ACK, b""));
    node.engine.adopt(Arc::new(leaving(
        &[CLIENT_SILENT],
        2,
        masquerade((30_000, 30_999)),
    )));
    assert_eq!(
        node.reason(CLIENT, ack.tcp(PORTS, ACK, b"x")),
        Drop::PolicyDenied
    );
    let resets = node.resets();
    let [(CLIENT, client), (UPLINK, world)] = &resets[..] else {
        panic!("one for each end, not {resets:?}");
    };
    assert_eq!(
        (source(client), word(client, 36)),
        (WORLD_PARTY.v4.into(), PORTS.0)
    );
    assert_eq!((source(world), word(world, 34)), (NODE, port));
    assert_eq!(
        world[38..46],
        [1001_u32.to_be_bytes(), 5001_u32.to_be_bytes()].concat()
    );
    assert!(has_valid_checksums(client) && has_valid_checksums(world));
}

#[test]
fn a_service_outside_the_cluster_is_translated_at_the_pod_and_at_the_uplink() {
    let specs = service("web", VIP, 8080, &[backend(WORLD_PARTY.v4, 443)]);
    let mut snapshot = leaving(&[], 1, masquerade((30_000, 30_999)));
    snapshot.services = Arc::new(portcullis_engine::ServiceTable::new(&specs, None).0);
    let mut node = Node::with(EngineSettings::default(), snapshot);
    let asked = out().destination(VIP).udp((40_000, 8080), b"q");
    let seen = node.delivered(CLIENT, UPLINK, asked.clone());
    assert_eq!((source(&seen), word(&seen, 36)), (NODE, 443));
    let reply = answer(NODE).udp((443, word(&seen, 34)), b"a");
    let arrived = node.delivered(UPLINK, CLIENT, reply);
    assert_eq!(
        (source(&arrived), word(&arrived, 34), word(&arrived, 36)),
        (VIP, 8080, 40_000)
    );
    let error = answer(NODE)
        .source(IpAddr::V4(ROUTER_V4))
        .icmp(3, 4, [0; 4], quote(&seen));
    let arrived = node.delivered(UPLINK, CLIENT, error);
    assert_eq!(arrived[42 + 12..], asked[14 + 12..]);
}
