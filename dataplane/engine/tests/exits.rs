//! Leaving by the uplink under another address, and what comes back.

mod network;

use network::build::{ACK, SYN, has_valid_checksums, quote, v4};
use network::*;
use portcullis_engine::{
    Backend, BackendState, Drop, EngineSettings, ExitPlan, Frontend, FrontendKind, PortRange,
    ServiceSpec, ServiceTable, Snapshot,
};
use portcullis_policy::Protocol;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The address that pods leave with; the host's own too.
const SHARED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 2));
/// The ports of it that are ours.
const PORTS: (u16, u16) = (61_000, 61_999);

fn masquerading() -> Snapshot {
    let mut snapshot = snapshot(&[], 1);
    let range = PortRange::new(PORTS.0, PORTS.1).unwrap();
    snapshot.exits = Arc::new(ExitPlan {
        masquerade: vec![SHARED],
        node: vec![SHARED],
        shared: vec![SHARED],
        ports: [(SHARED, range)].into_iter().collect(),
        ..ExitPlan::default()
    });
    snapshot
}

fn node() -> Node {
    Node::with(EngineSettings::default(), masquerading())
}

/// The source port of an IPv4 frame without options.
fn source_port(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[34], frame[35]])
}

fn destination(frame: &[u8]) -> [u8; 4] {
    frame[30..34].try_into().unwrap()
}

#[test]
fn a_masqueraded_connection_goes_on_after_its_first_answer() {
    let mut node = node();
    let out = node.delivered(
        CLIENT,
        UPLINK,
        v4(CLIENT, UPLINK).tcp((40_000, 80), SYN, b""),
    );
    let port = source_port(&out);
    assert!((PORTS.0..=PORTS.1).contains(&port), "{port}");
    let back = |flags, bytes: &[u8]| {
        v4(UPLINK, CLIENT)
            .destination(SHARED)
            .tcp((80, port), flags, bytes)
    };
    node.delivered(UPLINK, CLIENT, back(SYN | ACK, b""));
    for _ in 0..3 {
        let next = v4(CLIENT, UPLINK).tcp((40_000, 80), ACK, b"more");
        let out = node.delivered(CLIENT, UPLINK, next);
        assert_eq!(source_port(&out), port);
        let answer = node.delivered(UPLINK, CLIENT, back(ACK, b"data"));
        assert_eq!(destination(&answer), CLIENT_PARTY.v4.octets());
    }
}

#[test]
fn a_segment_in_the_middle_of_no_translation_never_leaves() {
    let mut node = node();
    let middle = v4(CLIENT, UPLINK).tcp((40_000, 80), ACK, b"more");
    assert_eq!(node.reason(CLIENT, middle), Drop::FlowUnknown);
}

/// A node port whose backend is in the world, behind the router.
fn far_backend() -> Snapshot {
    let mut snapshot = masquerading();
    let frontend = Frontend {
        address: SHARED,
        protocol: Protocol::Tcp,
        port: 30_080,
    };
    let spec = ServiceSpec {
        namespace: "shop".into(),
        name: "web".into(),
        frontends: vec![(frontend, FrontendKind::NodePort)],
        backends: vec![Backend {
            address: FAR,
            port: 80,
            state: BackendState::Active,
            is_local: false,
        }],
        ..ServiceSpec::default()
    };
    snapshot.services = Arc::new(ServiceTable::new(&[spec], None).0);
    snapshot
}

const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

#[test]
fn a_node_port_leads_to_a_backend_elsewhere_and_its_answer_back() {
    let mut node = Node::with(EngineSettings::default(), far_backend());
    let ask = v4(UPLINK, CLIENT).destination(SHARED);
    let out = node.delivered(UPLINK, UPLINK, ask.tcp((40_000, 30_080), SYN, b""));
    let IpAddr::V4(far) = FAR else { unreachable!() };
    assert_eq!(destination(&out), far.octets());
    let port = source_port(&out);
    assert!((PORTS.0..=PORTS.1).contains(&port), "{port}");
    let answer = v4(UPLINK, CLIENT).source(FAR).destination(SHARED);
    let back = node.delivered(UPLINK, UPLINK, answer.tcp((80, port), SYN | ACK, b""));
    assert_eq!(destination(&back), WORLD_PARTY.v4.octets());
    assert_eq!(source_port(&back), 30_080);
}

#[test]
fn an_error_about_a_packet_to_a_backend_elsewhere_reaches_the_client() {
    let mut node = Node::with(EngineSettings::default(), far_backend());
    let ask = v4(UPLINK, CLIENT).destination(SHARED);
    let asked = ask.tcp((40_000, 30_080), SYN, b"");
    let out = node.delivered(UPLINK, UPLINK, asked.clone());
    // A router on the way: fragmentation needed, 1280 bytes fit.
    let router = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
    let error = v4(UPLINK, CLIENT).source(router).destination(SHARED);
    let error = error.icmp(3, 4, [0, 0, 5, 0], quote(&out));
    let told = node.delivered(UPLINK, UPLINK, error);
    assert_eq!(destination(&told), WORLD_PARTY.v4.octets());
    assert!(has_valid_checksums(&told));
    // Behind Ethernet, IP and ICMP headers: addresses and ports of what the client had sent.
    let (quoted, sent) = (&told[42..], quote(&asked));
    assert_eq!(quoted[12..24], sent[12..24]);
}

/// In the first seconds after a start.
fn started(snapshot: Snapshot) -> Node {
    let mut node = Node::with(EngineSettings::default(), snapshot);
    node.now = portcullis_engine::Now(1_000_000_000);
    node
}

fn source(frame: &[u8]) -> [u8; 4] {
    frame[26..30].try_into().unwrap()
}

#[test]
fn after_a_start_a_guess_who_began_lets_no_pod_address_out() {
    let mut node = started(masquerading());
    let IpAddr::V4(shared) = SHARED else {
        unreachable!()
    };
    // The port looks like a server's, but nobody knows.
    for ports in [(40_000, 50_000), (50_000, 40_000), (80, 40_000)] {
        let segment = v4(CLIENT, UPLINK).tcp(ports, ACK, b"more");
        let out = node.delivered(CLIENT, UPLINK, segment);
        assert_eq!(source(&out), shared.octets(), "{ports:?}");
    }
    // Who is asked under its own address answers with it.
    let ask = v4(UPLINK, SERVER).tcp((40_001, 80), ACK, b"more");
    node.delivered(UPLINK, SERVER, ask);
    let answer = v4(SERVER, UPLINK).tcp((80, 40_001), ACK, b"data");
    let out = node.delivered(SERVER, UPLINK, answer);
    assert_eq!(source(&out), SERVER_PARTY.v4.octets());
}

#[test]
fn after_a_start_a_backend_that_speaks_first_speaks_for_its_node_port() {
    let mut snapshot = snapshot(&[], 1);
    let frontend = Frontend {
        address: SHARED,
        protocol: Protocol::Tcp,
        port: 30_080,
    };
    let spec = ServiceSpec {
        frontends: vec![(frontend, FrontendKind::NodePort)],
        backends: vec![Backend {
            address: IpAddr::V4(SERVER_PARTY.v4),
            port: 80,
            state: BackendState::Active,
            is_local: true,
        }],
        ..ServiceSpec::default()
    };
    snapshot.services = Arc::new(ServiceTable::new(&[spec], None).0);
    let mut node = started(snapshot);
    let data = || v4(SERVER, UPLINK).tcp((80, 40_000), ACK, b"data");
    let IpAddr::V4(shared) = SHARED else {
        unreachable!()
    };
    for _ in 0..2 {
        let out = node.delivered(SERVER, UPLINK, data());
        assert_eq!((source(&out), source_port(&out)), (shared.octets(), 30_080));
    }
    let ask = v4(UPLINK, SERVER).destination(SHARED);
    let ask = node.delivered(UPLINK, SERVER, ask.tcp((40_000, 30_080), ACK, b""));
    assert_eq!(destination(&ask), SERVER_PARTY.v4.octets());
    let out = node.delivered(SERVER, UPLINK, data());
    assert_eq!(source_port(&out), 30_080);
    // Another port of the pod is no backend.
    let other = v4(SERVER, UPLINK).tcp((81, 40_000), ACK, b"data");
    let out = node.delivered(SERVER, UPLINK, other);
    assert_eq!(source_port(&out), 81);
}
