//! A service is reached under its own address, and speaks under it: policy and backend see each
//! other as they are.

mod network;

use network::build::{
    ACK, Build, FIN, PSH, RST, SYN, forwarded, has_valid_checksums, quote, v4, v6,
};
use network::services::*;
use network::*;
use portcullis_engine::{Backend, Drop, EngineSettings, ServiceSpec, Snapshot};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const PORTS: (u16, u16) = (40_000, 8080);
const SEEN: (u16, u16) = (40_000, 80);

fn node(specs: &[ServiceSpec]) -> Node {
    Node::with(
        EngineSettings::default(),
        serving(&[ALLOW_CLIENT], 1, specs),
    )
}

fn web(backends: &[Backend]) -> Vec<ServiceSpec> {
    service("web", VIP, 8080, backends)
}

fn adopt(node: &mut Node, snapshot: Snapshot) {
    node.engine.adopt(Arc::new(snapshot));
}

fn to_vip() -> Build {
    v4(CLIENT, SERVER).destination(VIP)
}

fn back(ports: (u16, u16)) -> (u16, u16) {
    (ports.1, ports.0)
}

/// Opens a connection to the service that the server stands behind.
fn open(node: &mut Node) {
    node.delivered(CLIENT, SERVER, to_vip().tcp(PORTS, SYN, b""));
    let answer = v4(SERVER, CLIENT).sequence(5000).acknowledgement(1001);
    node.delivered(SERVER, CLIENT, answer.tcp(back(SEEN), SYN | ACK, b""));
    let ack = to_vip().sequence(1001).acknowledgement(5001);
    node.delivered(CLIENT, SERVER, ack.tcp(PORTS, ACK, b""));
}

fn ipv4(frame: &[u8], at: usize) -> IpAddr {
    IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap())
}

fn ports_of(frame: &[u8]) -> (u16, u16) {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    (word(34), word(36))
}

#[test]
fn requests_reach_the_backend_and_answers_come_from_the_service() {
    type Send = fn(&Build, (u16, u16)) -> Vec<u8>;
    let tcp: Send = |build, ports| build.tcp(ports, SYN, b"");
    let udp: Send = |build, ports| build.udp(ports, b"query");
    for is_partial in [false, true] {
        for (there, vip, address) in [
            (v4(CLIENT, SERVER), VIP, IpAddr::V4(SERVER_PARTY.v4)),
            (v6(CLIENT, SERVER), VIP_V6, IpAddr::V6(SERVER_PARTY.v6)),
        ] {
            let specs = service("web", vip, 8080, &[backend(address, 80)]);
            let mut node = Node::with(EngineSettings::default(), serving(&[], 1, &specs));
            let mut asked = there.clone().destination(vip);
            asked.is_partial = is_partial;
            let mut answer = Build {
                source: there.destination,
                destination: there.source,
                ..v4(SERVER, CLIENT)
            };
            answer.is_partial = is_partial;
            let told = answer.clone().source(vip);
            let syn_ack: Send = |build, ports| build.tcp(ports, SYN | ACK, b"");
            for (send, reply) in [(tcp, syn_ack), (udp, udp)] {
                let arrived = node.delivered(CLIENT, SERVER, send(&asked, PORTS));
                assert_eq!(
                    arrived,
                    forwarded(&there, SERVER, |build| send(build, SEEN))
                );
                let arrived = node.delivered(SERVER, CLIENT, reply(&answer, back(SEEN)));
                let right = forwarded(&told, CLIENT, |build| reply(build, back(PORTS)));
                assert_eq!(arrived, right);
            }
            let mut arrived = node.delivered(CLIENT, SERVER, asked.sctp(PORTS, b"INIT"));
            let crc = arrived.len() - 8..arrived.len() - 4;
            assert_ne!(arrived[crc.clone()], [0; 4]);
            arrived[crc].fill(0);
            assert_eq!(
                arrived,
                forwarded(&there, SERVER, |build| build.sctp(SEEN, b"INIT"))
            );
        }
    }
}

#[test]
fn policy_sees_the_backend_and_a_denial_leaves_no_session() {
    let mut node = node(&web(&[server()]));
    node.delivered(CLIENT, SERVER, to_vip().tcp(PORTS, SYN, b""));
    assert_eq!(node.engine.sessions_count(), 1);
    let stranger = v4(STRANGER, SERVER).destination(VIP);
    assert_eq!(
        node.reason(STRANGER, stranger.tcp(PORTS, SYN, b"")),
        Drop::PolicyDenied
    );
    // Policy allows 8080 nowhere and 80 here: it sees the port behind the service.
    adopt(
        &mut node,
        serving(&[ALLOW_CLIENT, CLIENT_SILENT], 2, &web(&[server()])),
    );
    let other = to_vip().tcp((41_000, 8080), SYN, b"");
    assert_eq!(node.reason(CLIENT, other), Drop::PolicyDenied);
    assert_eq!(node.engine.sessions_count(), 1);
    assert_eq!(node.engine.flows_count(), 2);
}

#[test]
fn errors_about_a_service_name_it_to_the_client_and_the_backend_to_the_backend() {
    let mut node = node(&web(&[server()]));
    let query = to_vip().udp((5000, 8080), b"query");
    adopt(&mut node, serving(&[], 2, &web(&[server()])));
    let seen = node.delivered(CLIENT, SERVER, query.clone());
    let error = v4(SERVER, CLIENT).icmp(3, 3, [0; 4], quote(&seen));
    let arrived = node.delivered(SERVER, CLIENT, error);
    assert!(has_valid_checksums(&arrived));
    assert_eq!(ipv4(&arrived, 26), VIP);
    assert_eq!(
        (ipv4(&arrived, 54), ipv4(&arrived, 58)),
        (CLIENT_PARTY.v4.into(), VIP)
    );
    assert_eq!(arrived[62..66], query[34..38]);
    let answer = v4(SERVER, CLIENT).udp((80, 5000), b"answer");
    let told = node.delivered(SERVER, CLIENT, answer.clone());
    let error = to_vip().icmp(3, 3, [0; 4], quote(&told));
    let arrived = node.delivered(CLIENT, SERVER, error);
    assert!(has_valid_checksums(&arrived));
    assert_eq!(ipv4(&arrived, 30), SERVER_PARTY.v4);
    assert_eq!(
        (ipv4(&arrived, 54), ipv4(&arrived, 58)),
        (SERVER_PARTY.v4.into(), CLIENT_PARTY.v4.into())
    );
    assert_eq!(arrived[62..66], answer[34..38]);
}

#[test]
fn fragments_follow_the_first_to_the_backend_and_back() {
    let specs = web(&[server()]);
    let mut node = Node::with(EngineSettings::default(), serving(&[], 1, &specs));
    let payload = [7; 40];
    let mut pieces = |from, to: Build, ports, out| {
        let whole = to.udp(ports, &payload);
        let first = to.clone().fragment(0x2000).network(17, &whole[34..58]);
        let last = to.clone().fragment(3).network(17, &whole[58..]);
        let arrived = [first, last].map(|piece| node.delivered(from, out, piece));
        let mut bytes = arrived[0][34..].to_vec();
        bytes.extend_from_slice(&arrived[1][34..]);
        let ends = arrived.map(|frame| (ipv4(&frame, 26), ipv4(&frame, 30)));
        assert_eq!(ends[0], ends[1]);
        let plain = Build {
            source: ends[0].0,
            destination: ends[0].1,
            ..to.clone()
        };
        (ends[0], plain.network(17, &bytes))
    };
    let (ends, whole) = pieces(CLIENT, to_vip(), (5000, 8080), SERVER);
    assert_eq!(ends, (CLIENT_PARTY.v4.into(), SERVER_PARTY.v4.into()));
    assert!(has_valid_checksums(&whole));
    let (ends, whole) = pieces(SERVER, v4(SERVER, CLIENT), (80, 5000), CLIENT);
    assert_eq!(ends, (VIP, CLIENT_PARTY.v4.into()));
    assert!(has_valid_checksums(&whole));
}

#[test]
fn a_later_fragment_that_claims_another_protocol_goes_with_its_datagram() {
    let specs = service("web", VIP_V6, 8080, &[backend(SERVER_PARTY.v6, 80)]);
    let mut node = Node::with(EngineSettings::default(), serving(&[], 1, &specs));
    let build = v6(CLIENT, SERVER).destination(VIP_V6);
    let whole = build.udp((5000, 8080), &[7; 24]);
    let first = build.clone().options(44, &[17, 0, 0, 1, 0, 0, 0, 9]);
    node.delivered(CLIENT, SERVER, first.network(17, &whole[54..70]));
    let last = build.options(44, &[132, 0, 0, 16, 0, 0, 0, 9]);
    let arrived = node.delivered(CLIENT, SERVER, last.network(132, &whole[70..]));
    assert_eq!(arrived[38..54], SERVER_PARTY.v6.octets());
}

#[test]
fn a_repeated_syn_and_a_terminating_backend_keep_the_connection() {
    let both = [server(), stranger()];
    let mut node = Node::with(EngineSettings::default(), serving(&[], 1, &web(&both)));
    let syn = to_vip().tcp(PORTS, SYN, b"");
    let End::Sent { to, .. } = node.send(CLIENT, syn.clone()) else {
        panic!("not sent");
    };
    for generation in 2..10 {
        let kept = if to == SERVER { server() } else { stranger() };
        let others = [kept, server(), stranger(), client()].map(|backend| match backend == kept {
            true => terminating(backend),
            false => backend,
        });
        adopt(
            &mut node,
            serving(
                &[],
                generation,
                &web(&others[..2 + generation as usize % 3]),
            ),
        );
        node.delivered(CLIENT, to, syn.clone());
    }
    assert_eq!(node.engine.sessions_count(), 1);
}

#[test]
fn a_connection_outlives_its_entry_in_the_list_but_not_its_pod() {
    let mut node = node(&web(&[server()]));
    open(&mut node);
    adopt(&mut node, serving(&[ALLOW_CLIENT], 2, &web(&[])));
    let data = to_vip()
        .sequence(1001)
        .acknowledgement(5001)
        .tcp(PORTS, PSH | ACK, b"x");
    node.delivered(CLIENT, SERVER, data.clone());
    let pods: Vec<&str> = PODS
        .split("---")
        .filter(|text| !text.contains("server"))
        .collect();
    let mut gone = snapshot_of(tables_of(&pods.join("---"), &[], 3), 3);
    gone.endpoints[1] = None;
    gone.endpoint_of.retain(|_, index| *index != SERVER);
    adopt(&mut node, with_services(gone, &web(&[stranger()])));
    let End::Answered { to, frame, reason } = node.send(CLIENT, data) else {
        panic!("the client is not told");
    };
    assert_eq!((to, reason), (CLIENT, Some(Drop::ServiceBackendGone)));
    assert_eq!(
        (ipv4(&frame, 26), ports_of(&frame), frame[47]),
        (VIP, back(PORTS), RST)
    );
    assert_eq!(frame[38..42], 5001_u32.to_be_bytes());
    assert!(has_valid_checksums(&frame));
    // A new one goes elsewhere.
    node.delivered(CLIENT, STRANGER, to_vip().tcp(PORTS, SYN, b""));
}

#[test]
fn a_syn_whose_backend_is_gone_and_a_datagram_find_another_at_once() {
    let mut node = Node::with(
        EngineSettings::default(),
        serving(&[], 1, &web(&[server()])),
    );
    let query = to_vip().udp(PORTS, b"q");
    let syn = to_vip().tcp(PORTS, SYN, b"");
    node.delivered(CLIENT, SERVER, query.clone());
    node.delivered(CLIENT, SERVER, syn.clone());
    let pods: Vec<&str> = PODS
        .split("---")
        .filter(|text| !text.contains("server"))
        .collect();
    let mut gone = snapshot_of(tables_of(&pods.join("---"), &[], 2), 2);
    gone.endpoints[1] = None;
    gone.endpoint_of.retain(|_, index| *index != SERVER);
    adopt(&mut node, with_services(gone, &web(&[stranger()])));
    node.delivered(CLIENT, STRANGER, query);
    node.delivered(CLIENT, STRANGER, syn);
    assert_eq!(node.engine.sessions_count(), 2);
}

#[test]
fn nobody_behind_a_service_and_no_such_port_are_told_at_once() {
    let mut node = node(&web(&[]));
    for (port, expected) in [
        (8080, Drop::ServiceWithoutBackend),
        (9, Drop::ServicePortUnknown),
    ] {
        let End::Answered { frame, reason, .. } =
            node.send(CLIENT, to_vip().tcp((40_000, port), SYN, b""))
        else {
            panic!("not told");
        };
        assert_eq!(reason, Some(expected));
        assert_eq!(
            (ipv4(&frame, 26), ports_of(&frame), frame[47]),
            (VIP, (port, 40_000), RST | ACK)
        );
        assert_eq!(frame[42..46], 1001_u32.to_be_bytes());
        assert!(has_valid_checksums(&frame));
        let query = to_vip().udp((40_000, port), b"q");
        let End::Answered { frame, reason, .. } = node.send(CLIENT, query.clone()) else {
            panic!("not told");
        };
        assert_eq!((reason, frame[34], frame[35]), (Some(expected), 3, 3));
        assert_eq!(ipv4(&frame, 26), GATEWAY_V4);
        assert_eq!(frame[42..], query[14..]);
        assert!(has_valid_checksums(&frame));
    }
    assert_eq!(node.engine.sessions_count(), 0);
}

#[test]
fn a_client_stays_with_its_backend_where_the_service_wants_it() {
    let mut specs = web(&[server(), stranger()]);
    for spec in &mut specs {
        spec.affinity = Some(Duration::from_secs(60));
    }
    let mut node = Node::with(EngineSettings::default(), serving(&[], 1, &specs));
    let mut to = Vec::new();
    for port in 0..20 {
        match node.send(CLIENT, to_vip().tcp((1000 + port, 8080), SYN, b"")) {
            End::Sent { to: out, .. } => to.push(out),
            other => panic!("{other:?}"),
        }
    }
    to.dedup();
    assert_eq!(to.len(), 1);
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    for (there, vip, own, loopback) in [
        (
            v4(CLIENT, SERVER),
            VIP,
            IpAddr::V4(CLIENT_PARTY.v4),
            LOOPBACK,
        ),
        (
            v6(CLIENT, SERVER),
            VIP_V6,
            IpAddr::V6(CLIENT_PARTY.v6),
            LOOPBACK_V6,
        ),
    ] {
        let specs = service("self", vip, 8080, &[backend(own, 80)]);
        let silent = &[CLIENT_SILENT, DENY_ALL];
        let mut node = Node::with(EngineSettings::default(), serving(silent, 1, &specs));
        let own_way = |build: Build| Build {
            source_mac: gateway_mac(CLIENT),
            destination_mac: CLIENT_PARTY.mac,
            ..build
        };
        let asked = there.clone().destination(vip);
        let seen = there.clone().source(loopback).destination(own);
        let arrived = node.delivered(CLIENT, CLIENT, asked.tcp(PORTS, SYN, b""));
        assert_eq!(arrived, own_way(seen.clone()).tcp(SEEN, SYN, b""));
        let reply = there
            .clone()
            .destination(loopback)
            .tcp(back(SEEN), SYN | ACK, b"");
        let told = there.clone().source(vip).destination(own);
        let arrived = node.delivered(CLIENT, CLIENT, reply);
        assert_eq!(arrived, own_way(told).tcp(back(PORTS), SYN | ACK, b""));
        // And an error from where nobody listens.
        let arrived = node.delivered(CLIENT, CLIENT, asked.udp(PORTS, b"q"));
        let kind = if vip.is_ipv4() { 3 } else { 1 };
        let error = there
            .destination(loopback)
            .icmp(kind, 3, [0; 4], quote(&arrived));
        let arrived = node.delivered(CLIENT, CLIENT, error);
        assert!(has_valid_checksums(&arrived));
        let quoted = asked.udp(PORTS, b"q");
        assert_eq!(arrived[arrived.len() - 9..], quoted[quoted.len() - 9..]);
        assert_eq!(node.engine.flows_count(), 0);
    }
}

#[test]
fn fragments_of_a_pod_to_itself_follow_the_first() {
    let mut node = node(&web(&[client()]));
    let whole = to_vip().udp(PORTS, &[7; 24]);
    let first = to_vip().fragment(0x2000).network(17, &whole[34..50]);
    let last = to_vip().fragment(2).network(17, &whole[50..]);
    node.delivered(CLIENT, CLIENT, first);
    let arrived = node.delivered(CLIENT, CLIENT, last);
    assert_eq!(
        (ipv4(&arrived, 26), ipv4(&arrived, 30)),
        (LOOPBACK, CLIENT_PARTY.v4.into())
    );
}

#[test]
fn two_connections_never_share_a_tuple_at_one_backend() {
    let mut specs = web(&[server(), stranger()]);
    specs.extend(service("other", VIP, 9090, &[server(), stranger()]));
    let mut node = Node::with(EngineSettings::default(), serving(&[], 1, &specs));
    let mut ends = [8080, 9090, 8080].map(|port| {
        match node.send(CLIENT, to_vip().tcp((40_000, port), SYN, b"")) {
            End::Sent { to, .. } => Ok(to),
            End::Dropped(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    });
    assert_ne!(ends[0], ends[1]);
    assert_eq!(ends[0], ends[2]);
    ends[..2].sort();
    assert_eq!(ends[..2], [Ok(SERVER), Ok(STRANGER)]);
    // No third is free.
    adopt(
        &mut node,
        serving(
            &[],
            2,
            &[specs, service("more", VIP, 7070, &[server(), stranger()])].concat(),
        ),
    );
    let third = to_vip().tcp((40_000, 7070), SYN, b"");
    assert_eq!(
        node.send(CLIENT, third),
        End::Dropped(Drop::NatPortsExhausted)
    );
}

#[test]
fn a_full_table_of_sessions_refuses_and_keeps_what_it_has() {
    let settings = EngineSettings {
        sessions_max: 8,
        endpoint_share_percent: 50,
        ..EngineSettings::default()
    };
    let mut node = Node::with(settings, serving(&[], 1, &web(&[server()])));
    let send = |node: &mut Node, port| node.send(CLIENT, to_vip().tcp((port, 8080), SYN, b""));
    for port in 1..=4 {
        assert!(matches!(send(&mut node, port), End::Sent { .. }));
    }
    assert_eq!(send(&mut node, 5), End::Dropped(Drop::SessionShareFull));
    assert!(matches!(send(&mut node, 4), End::Sent { .. }));
    assert_eq!(node.engine.flows_count(), 8);
}

#[test]
fn a_revoked_connection_is_reset_by_the_service_and_by_the_client() {
    let mut node = node(&web(&[server()]));
    open(&mut node);
    adopt(&mut node, serving(&[DENY_ALL], 2, &web(&[server()])));
    let more = to_vip()
        .sequence(1001)
        .acknowledgement(5001)
        .tcp(PORTS, ACK, b"more");
    assert_eq!(node.reason(CLIENT, more), Drop::PolicyDenied);
    let mut resets = node.resets();
    resets.sort_by_key(|(at, _)| *at);
    let [(CLIENT, client), (SERVER, server)] = &resets[..] else {
        panic!("one for each end, not {resets:?}");
    };
    assert_eq!((ipv4(client, 26), ports_of(client)), (VIP, back(PORTS)));
    assert_eq!(
        (ipv4(server, 26), ports_of(server)),
        (CLIENT_PARTY.v4.into(), SEEN)
    );
    assert_eq!(
        client[38..46],
        [5001_u32.to_be_bytes(), 1001_u32.to_be_bytes()].concat()
    );
    assert_eq!(
        server[38..46],
        [1001_u32.to_be_bytes(), 5001_u32.to_be_bytes()].concat()
    );
    assert!(has_valid_checksums(client) && has_valid_checksums(server));
    assert_eq!(node.engine.flows_count(), 0);
}

#[test]
fn a_segment_in_the_middle_of_no_connection_to_a_service_is_reset_by_it() {
    let mut node = node(&web(&[server()]));
    let End::Answered { frame, reason, .. } = node.send(
        CLIENT,
        to_vip().acknowledgement(77).tcp(PORTS, FIN | ACK, b""),
    ) else {
        panic!("not told");
    };
    assert_eq!((reason, ipv4(&frame, 26)), (Some(Drop::FlowUnknown), VIP));
    assert_eq!(node.engine.sessions_count(), 0);
}

#[test]
fn what_is_for_a_pod_itself_is_untouched_by_services() {
    let mut node = node(&web(&[server()]));
    let direct = v4(CLIENT, SERVER);
    let arrived = node.delivered(CLIENT, SERVER, direct.tcp(SEEN, SYN, b""));
    assert_eq!(
        arrived,
        forwarded(&direct, SERVER, |build| build.tcp(SEEN, SYN, b""))
    );
    assert_eq!(node.engine.sessions_count(), 0);
    // The backend's tuple is taken by that flow: the service has no other.
    let through = to_vip().tcp(PORTS, SYN, b"");
    assert_eq!(
        node.send(CLIENT, through),
        End::Dropped(Drop::NatPortsExhausted)
    );
}

#[test]
fn an_answer_whose_session_has_gone_never_shows_the_backend() {
    let mut node = Node::with(
        EngineSettings::default(),
        serving(&[], 1, &web(&[server()])),
    );
    node.delivered(CLIENT, SERVER, to_vip().udp(PORTS, b"q"));
    adopt(&mut node, serving(&[], 2, &web(&[stranger()])));
    node.delivered(CLIENT, STRANGER, to_vip().udp(PORTS, b"q"));
    let late = v4(SERVER, CLIENT).udp(back(SEEN), b"late");
    assert_eq!(
        node.send(SERVER, late),
        End::Dropped(Drop::NatSessionUnknown)
    );
}
