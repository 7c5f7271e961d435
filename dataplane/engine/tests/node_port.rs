//! Services that are reached from outside: at a port of the node, or at an address of their own.

mod network;

use network::build::{ACK, Build, RST, SYN, forwarded, has_valid_checksums, party_of, quote, v4};
use network::services::*;
use network::*;
use portcullis_engine::{Drop, EngineSettings, ServiceSpec, SessionKind};
use std::net::IpAddr;
use std::sync::Arc;

const PORTS: (u16, u16) = (50_000, 30_080);
const SEEN: (u16, u16) = (50_000, 80);

fn node(policies: &[&str], specs: &[ServiceSpec]) -> Node {
    Node::with(EngineSettings::default(), serving(policies, 1, specs))
}

fn local() -> Vec<ServiceSpec> {
    service("web", NODE, 30_080, &[server()])
}

fn far() -> Vec<ServiceSpec> {
    service("web", NODE, 30_080, &[backend(FAR, 80)])
}

fn to_node() -> Build {
    v4(UPLINK, SERVER).destination(NODE)
}

fn back(ports: (u16, u16)) -> (u16, u16) {
    (ports.1, ports.0)
}

fn ends(frame: &[u8]) -> ((IpAddr, u16), (IpAddr, u16)) {
    let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    ((address(26), word(34)), (address(30), word(36)))
}

fn world() -> IpAddr {
    IpAddr::V4(WORLD_PARTY.v4)
}

#[test]
fn a_local_pod_sees_the_client_and_answers_as_the_node() {
    for (frontend, port) in [(NODE, 30_080), (EXTERNAL, 443)] {
        let mut node = node(&[], &service("web", frontend, port, &[server()]));
        let ports = (50_000, port);
        let asked = v4(UPLINK, SERVER).destination(frontend);
        let there = v4(UPLINK, SERVER);
        let arrived = node.delivered(UPLINK, SERVER, asked.tcp(ports, SYN, b""));
        assert_eq!(
            arrived,
            forwarded(&there, SERVER, |build| build.tcp(SEEN, SYN, b""))
        );
        let answer = v4(SERVER, UPLINK).partial();
        let arrived = node.delivered(SERVER, UPLINK, answer.tcp(back(SEEN), SYN | ACK, b""));
        let told = answer.clone().source(frontend);
        let right = forwarded(&told, UPLINK, |build| {
            build.tcp(back(ports), SYN | ACK, b"")
        });
        assert_eq!(arrived, right);
        let arrived = node.delivered(UPLINK, SERVER, asked.udp(ports, b"q"));
        assert_eq!(
            arrived,
            forwarded(&there, SERVER, |build| build.udp(SEEN, b"q"))
        );
        let arrived = node.delivered(SERVER, UPLINK, answer.udp(back(SEEN), b"a"));
        assert_eq!(
            arrived,
            forwarded(&told, UPLINK, |build| build.udp(back(ports), b"a"))
        );
    }
}

#[test]
fn what_the_pod_says_after_the_session_never_leaves_with_its_address() {
    let mut node = node(&[], &local());
    node.delivered(UPLINK, SERVER, to_node().udp(PORTS, b"q"));
    let error = v4(SERVER, UPLINK).icmp(3, 3, [0; 4], quote(&v4(UPLINK, SERVER).udp(SEEN, b"q")));
    let arrived = node.delivered(SERVER, UPLINK, error.clone());
    assert_eq!(ends(&arrived).0.0, NODE);
    assert!(has_valid_checksums(&arrived));
    // Thirty seconds for a session that nobody has answered; the flow of the pod lives longer.
    node.wait(31);
    assert_eq!(
        node.send(SERVER, error),
        End::Dropped(Drop::NatSessionUnknown)
    );
    let reply = v4(SERVER, UPLINK).udp(back(SEEN), b"late");
    let End::Answered { to, reason, .. } = node.send(SERVER, reply) else {
        panic!("the pod is not told");
    };
    assert_eq!((to, reason), (SERVER, Some(Drop::NatSessionUnknown)));
}

#[test]
fn a_client_that_policy_denies_leaves_no_session() {
    let mut node = node(&[DENY_ALL], &local());
    for port in 1..100 {
        let syn = to_node().tcp((port, 30_080), SYN, b"");
        assert_eq!(node.send(UPLINK, syn), End::Dropped(Drop::PolicyDenied));
    }
    assert_eq!(node.engine.sessions_count(), 0);
}

#[test]
fn a_backend_elsewhere_sees_the_node_and_answers_through_it() {
    let mut node = node(&[], &far());
    for is_udp in [false, true] {
        let send = |build: &Build, ports, answer: bool| match (is_udp, answer) {
            (true, _) => build.udp(ports, b"payload"),
            (false, true) => build.tcp(ports, SYN | ACK, b""),
            (false, false) => build.tcp(ports, SYN, b""),
        };
        let arrived = node.delivered(UPLINK, UPLINK, send(&to_node(), PORTS, false));
        let ((source, port), to) = ends(&arrived);
        assert_eq!((source, to), (NODE, (FAR, 80)));
        assert!((30_000..=30_999).contains(&port));
        assert!(has_valid_checksums(&arrived));
        let answer = v4(UPLINK, UPLINK).source(FAR).destination(NODE);
        let arrived = node.delivered(UPLINK, UPLINK, send(&answer, (80, port), true));
        let told = v4(UPLINK, UPLINK).source(NODE);
        let right = forwarded(&told, UPLINK, |build| send(build, back(PORTS), true));
        assert_eq!(arrived, right);
    }
    assert_eq!(node.engine.flows_count(), 0);
    assert_eq!(node.engine.sessions_count(), 2);
}

#[test]
fn an_error_about_a_backend_elsewhere_reaches_the_client() {
    let mut node = node(&[], &far());
    let seen = node.delivered(UPLINK, UPLINK, to_node().udp(PORTS, b"query"));
    let router = v4(UPLINK, UPLINK)
        .source(IpAddr::V4(ROUTER_V4))
        .destination(NODE);
    let error = router.icmp(3, 4, [0, 0, 5, 0], quote(&seen));
    let arrived = node.delivered(UPLINK, UPLINK, error);
    assert!(has_valid_checksums(&arrived));
    assert_eq!(
        (ends(&arrived).0.0, ends(&arrived).1.0),
        (IpAddr::V4(ROUTER_V4), world())
    );
    let quoted: Vec<u8> = [&[0; 14], &arrived[42..]].concat();
    assert_eq!(ends(&quoted), ((world(), PORTS.0), (NODE, PORTS.1)));
}

#[test]
fn what_is_the_nodes_own_goes_to_its_stack() {
    let mut node = node(&[], &local());
    let own = to_node();
    let ssh = own.tcp((50_000, 22), SYN, b"");
    node.delivered(UPLINK, HOST, ssh.clone());
    // Also an error about what the node itself has sent, and a message that is no echo.
    let sent = Build {
        source: NODE,
        destination: world(),
        ..own.clone()
    };
    let error = own.icmp(
        3,
        4,
        [0, 0, 5, 0],
        quote(&sent.tcp((22, 50_000), ACK, b"data")),
    );
    let arrived = node.delivered(UPLINK, HOST, error.clone());
    assert_eq!(arrived[42..], error[42..]);
    node.delivered(UPLINK, HOST, own.icmp(13, 0, [0; 4], &[0; 12]));
    node.delivered(UPLINK, HOST, own.echo(true, 7));
    assert_eq!(party_of(HOST).mac.0, arrived[..6]);
    // An address that is a service's alone has nothing else.
    let external = service("web", EXTERNAL, 443, &[server()]);
    node.engine.adopt(Arc::new(serving(&[], 2, &external)));
    let other = own.destination(EXTERNAL);
    assert_eq!(
        node.reason(UPLINK, other.tcp((50_000, 22), SYN, b"")),
        Drop::NatSessionUnknown
    );
    assert_eq!(
        node.reason(UPLINK, other.echo(true, 7)),
        Drop::NatSessionUnknown
    );
    assert_eq!(node.engine.sessions_count(), 0);
}

#[test]
fn a_cluster_address_is_not_reached_from_outside() {
    let mut node = node(&[], &service("web", VIP, 8080, &[server()]));
    let syn = to_node().destination(VIP).tcp((50_000, 8080), SYN, b"");
    assert_eq!(
        node.send(UPLINK, syn),
        End::Dropped(Drop::NatSessionUnknown)
    );
}

#[test]
fn nobody_behind_a_node_port_is_told_and_strangers_in_mid_stream_are_not() {
    let mut node = node(&[], &service("web", NODE, 30_080, &[]));
    let End::Answered { to, frame, reason } = node.send(UPLINK, to_node().tcp(PORTS, SYN, b""))
    else {
        panic!("not told");
    };
    assert_eq!((to, reason), (UPLINK, Some(Drop::ServiceWithoutBackend)));
    assert_eq!(ends(&frame), ((NODE, 30_080), (world(), 50_000)));
    assert_eq!(frame[47], RST | ACK);
    node.engine.adopt(Arc::new(serving(&[], 2, &local())));
    let stray = to_node().tcp(PORTS, ACK, b"x");
    assert_eq!(
        node.send(UPLINK, stray),
        End::Dropped(Drop::NatSessionUnknown)
    );
}

#[test]
fn a_node_port_whose_pod_is_gone_finds_another_or_tells() {
    let mut node = node(&[], &local());
    let ack = to_node()
        .sequence(1001)
        .acknowledgement(77)
        .tcp(PORTS, ACK, b"x");
    node.delivered(UPLINK, SERVER, to_node().tcp(PORTS, SYN, b""));
    node.delivered(UPLINK, SERVER, to_node().udp(PORTS, b"q"));
    let left: Vec<&str> = PODS
        .split("---")
        .filter(|text| !text.contains("server"))
        .collect();
    let mut gone = snapshot_of(tables_of(&left.join("---"), &[], 2), 2);
    gone.endpoints[1] = None;
    gone.endpoint_of.retain(|_, index| *index != SERVER);
    let specs = service("web", NODE, 30_080, &[stranger()]);
    node.engine.adopt(Arc::new(with_services(gone, &specs)));
    node.delivered(UPLINK, STRANGER, to_node().udp(PORTS, b"q"));
    let End::Answered { frame, reason, .. } = node.send(UPLINK, ack) else {
        panic!("not told");
    };
    assert_eq!(reason, Some(Drop::ServiceBackendGone));
    assert_eq!((ends(&frame).0, frame[47]), ((NODE, 30_080), RST));
}

#[test]
fn a_revoked_connection_is_reset_by_the_node() {
    let mut node = node(&[], &local());
    let client = to_node().sequence(1001).acknowledgement(5001);
    node.delivered(UPLINK, SERVER, to_node().tcp(PORTS, SYN, b""));
    let answer = v4(SERVER, UPLINK).sequence(5000).acknowledgement(1001);
    node.delivered(SERVER, UPLINK, answer.tcp(back(SEEN), SYN | ACK, b""));
    node.delivered(UPLINK, SERVER, client.tcp(PORTS, ACK, b""));
    node.engine
        .adopt(Arc::new(serving(&[DENY_ALL], 2, &local())));
    assert_eq!(
        node.reason(UPLINK, client.tcp(PORTS, ACK, b"x")),
        Drop::PolicyDenied
    );
    let mut resets = node.resets();
    resets.sort_by_key(|(at, _)| *at);
    let [(SERVER, _), (UPLINK, told)] = &resets[..] else {
        panic!("one for each end, not {resets:?}");
    };
    assert_eq!(ends(told), ((NODE, 30_080), (world(), 50_000)));
    assert!(has_valid_checksums(told));
    let mut views = Vec::with_capacity(4);
    node.engine.list_sessions(0, &mut views);
    assert!(views.iter().all(|view| view.kind == SessionKind::NodePort));
}

#[test]
fn a_pod_uses_a_node_port_at_the_pod_itself() {
    let mut node = node(&[], &local());
    let asked = v4(CLIENT, SERVER).destination(NODE);
    let arrived = node.delivered(CLIENT, SERVER, asked.tcp(PORTS, SYN, b""));
    let there = v4(CLIENT, SERVER);
    assert_eq!(
        arrived,
        forwarded(&there, SERVER, |build| build.tcp(SEEN, SYN, b""))
    );
    node.delivered(CLIENT, HOST, asked.tcp((50_000, 22), SYN, b""));
}
