//! Egress gateway policies: the world sees the gateway's address, and never a pod's.

use netns_tests::{
    Capture, Lab, Pod, WORLD_ADDRESSES, echo_by_tcp, echo_by_udp, eventually, fetch, is_echoed,
    serve_pages, tell_peer_by_udp,
};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

/// Addresses of the node that are there for its pods alone.
const EGRESS_ADDRESSES: [&str; 2] = ["192.0.2.50", "2001:db8::50"];
const WORLD_HOSTS: [&str; 2] = ["192.0.2.2", "[2001:db8::2]"];

/// This node, another one, and the namespaces.
const CLUSTER: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: here, labels: {egress: "yes"}}
status:
  addresses:
  - {type: InternalIP, address: 192.0.2.1}
  - {type: InternalIP, address: "2001:db8::1"}
---
apiVersion: v1
kind: Node
metadata: {name: far, labels: {egress: far}}
status: {addresses: [{type: InternalIP, address: 192.0.2.77}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: web}}
---
apiVersion: v1
kind: Namespace
metadata: {name: backend, labels: {team: data}}
"#;

/// A policy about pods `app=shop` in namespaces of team web.
fn policy(name: &str, destinations: &str, gateway: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumEgressGatewayPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  selectors:\n  - podSelector: {{matchLabels: {{app: shop}}}}\n    \
         namespaceSelector: {{matchLabels: {{team: web}}}}\n  {destinations}\n  \
         egressGateway:\n    nodeSelector: {{matchLabels: {{egress: {gateway}}}}}\n"
    )
}

/// Both families leave with an address of their own.
fn two_policies() -> String {
    [
        ("four", "0.0.0.0/0", EGRESS_ADDRESSES[0]),
        ("six", "::/0", EGRESS_ADDRESSES[1]),
    ]
    .map(|(name, destinations, address)| {
        let destinations = format!("destinationCIDRs: [\"{destinations}\"]");
        let policy = policy(name, &destinations, "\"yes\"");
        format!("{policy}    egressIP: \"{address}\"\n")
    })
    .join("---\n")
}

struct Gateway {
    lab: Lab,
    /// The policies are about it.
    shop: Pod,
    /// They are not.
    other: Pod,
}

fn gateway(settings: &str, policies: &str, more: &[&str]) -> Option<Gateway> {
    let lab = Lab::new(settings)?;
    for (address, length) in EGRESS_ADDRESSES
        .iter()
        .zip(["24", "64 nodad preferred_lft 0"])
    {
        let line = format!("ip address add {address}/{length} dev eth0");
        // Only then does the node itself not speak from it.
        lab.node.must(&line);
    }
    lab.apply("cluster.yaml", CLUSTER);
    let addresses = ["10.0.1.10", "fd00:10:1::10"];
    let shop = lab.pod_with("shop/shop", &["app=shop"], &addresses, more);
    let other = lab.pod(
        "backend/other",
        &["app=shop"],
        &["10.0.1.11", "fd00:10:1::11"],
    );
    serve_pages(&lab.world, "world", 80);
    tell_peer_by_udp(&lab.world, at("[::]", 9));
    echo_by_udp(&lab.world, 7);
    lab.start_daemon();
    // The first packet makes the node ask for its neighbour's MAC address, and waits for it.
    for address in WORLD_ADDRESSES {
        eventually("the neighbour on the uplink is known", || {
            other.can_ping(address)
        });
    }
    lab.apply("gateway.yaml", policies);
    assert_eq!(lab.status().errors(), Vec::<String>::new());
    Some(Gateway { lab, shop, other })
}

fn at(host: &str, port: u16) -> SocketAddr {
    format!("{host}:{port}").parse().expect("an address")
}

/// Whom the world sees, by TCP and by UDP.
fn seen(pod: &Pod, host: &str) -> [Option<String>; 2] {
    let by_tcp = pod.fetch(&format!("http://{host}/who"));
    let by_udp = pod.ask_by_udp(at(host, 9), b"who");
    [
        by_tcp,
        by_udp.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ]
}

fn both(address: &str) -> [Option<String>; 2] {
    [Some(address.to_owned()), Some(address.to_owned())]
}

/// A client that is refused, and how long that took.
fn refused(pod: &Pod, url: &str) -> (String, Duration) {
    let since = Instant::now();
    let ran = pod.run(&format!(
        "curl --silent --show-error --globoff --noproxy * --max-time 8 {url}"
    ));
    assert!(!ran.is_success, "{url}: {ran:?}");
    (ran.stderr, since.elapsed())
}

#[test]
fn the_world_sees_the_gateway_and_no_pod() {
    let Some(Gateway { lab, shop, other }) = gateway("", &two_policies(), &[]) else {
        return;
    };
    // The neighbours were asked for by a pod whose address the world may see.
    drop(other);
    let capture = Capture::start(&lab.world);
    for (host, address) in WORLD_HOSTS.iter().zip(EGRESS_ADDRESSES) {
        assert_eq!(seen(&shop, host), both(address), "{host}");
    }
    for address in WORLD_ADDRESSES {
        assert!(shop.can_ping(address), "{address}");
        let large = shop.run(&format!("ping -n -c 3 -i 0.2 -w 10 -s 4000 {address}"));
        assert!(large.is_success, "4 kB to {address}: {large:?}");
    }
    for host in WORLD_HOSTS {
        for length in [0, 1, 1400, 3000, 9000] {
            let bytes: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
            let answer = shop.ask_by_udp(at(host, 7), &bytes);
            assert_eq!(answer, Some(bytes), "{length} bytes to {host}");
        }
        // Nobody is there: the world's ICMP error finds the pod.
        let since = Instant::now();
        assert_eq!(shop.ask_by_udp(at(host, 4), b"?"), None);
        assert!(since.elapsed() < Duration::from_secs(2), "{host}");
        shop.place.must(&format!(
            "curl --silent --show-error --globoff --noproxy * --max-time 30 --output /run/big \
             http://{host}/big"
        ));
        shop.place
            .must("cmp /run/big /run/nginx-world-80/pages/big");
    }
    let captured = capture.finish();
    println!("{} frames, {} quotes", captured.frames, captured.quotes);
    assert_eq!(captured.lost, 0);
    assert!(captured.frames > 300 && captured.quotes >= 2);
    assert_eq!(captured.pod_addresses(), [] as [std::net::IpAddr; 0]);
}

#[test]
fn only_the_selected_pods_and_destinations_pass_through_the_gateway() {
    let excluded = policy(
        "four",
        "destinationCIDRs: [192.0.2.0/24]\n  excludedCIDRs: [192.0.2.3/32]",
        "\"yes\"",
    ) + "    egressIP: 192.0.2.50\n";
    let Some(Gateway { lab, shop, other }) = gateway("", &excluded, &[]) else {
        return;
    };
    for address in ["192.0.2.3/32", "198.51.100.1/32"] {
        lab.world
            .must(&format!("ip address add {address} dev eth0"));
    }
    lab.node.must("ip route add default via 192.0.2.2");
    assert_eq!(seen(&shop, "192.0.2.2"), both("192.0.2.50"));
    assert_eq!(
        seen(&other, "192.0.2.2"),
        both("10.0.1.11"),
        "another namespace"
    );
    for host in ["192.0.2.3", "198.51.100.1"] {
        eventually("the neighbour is known", || {
            shop.run(&format!("ping -n -c 1 -W 0.5 {host}")).is_success
        });
        let page = shop.fetch(&format!("http://{host}/who"));
        assert_eq!(page, Some("10.0.1.10".into()), "{host}");
    }
    assert_eq!(
        seen(&shop, "[2001:db8::2]"),
        both("fd00:10:1::10"),
        "the policy is about IPv4"
    );
    let labels = |text: &str| {
        text.replace("app: \"shop\"", "app: \"bar\"")
            .replace("app: shop", "app: bar")
    };
    lab.edit("pod-shop-shop.yaml", labels);
    assert_eq!(seen(&shop, "192.0.2.2"), both("10.0.1.10"), "relabelled");
}

#[test]
fn without_an_address_of_its_own_the_gateway_shares_the_ports_of_the_node() {
    for source in ["", "    interface: eth0\n"] {
        let policies = policy("four", "destinationCIDRs: [\"0.0.0.0/0\"]", "\"yes\"") + source;
        let Some(Gateway { lab, shop, .. }) = gateway("natPorts: 62000-62099", &policies, &[])
        else {
            return;
        };
        assert_eq!(seen(&shop, "192.0.2.2"), both("192.0.2.1"), "{source}");
        let connections: Vec<_> = (0..20)
            .map(|_| shop.connect(at("192.0.2.2", 80)).expect("connected"))
            .collect();
        let sockets = lab.world.must("ss -Htn state established");
        let ports: Vec<u16> = sockets
            .lines()
            .filter_map(|line| {
                line.split_whitespace()
                    .nth(3)?
                    .rsplit_once(':')?
                    .1
                    .parse()
                    .ok()
            })
            .collect();
        assert!(ports.len() >= 20, "{sockets}");
        assert!(
            ports.iter().all(|port| (62_000..=62_099).contains(port)),
            "{sockets}"
        );
        drop(connections);
        assert!(shop.can_ping("192.0.2.2"));
    }
}

#[test]
fn the_node_stays_itself_beside_the_gateway() {
    for source in ["    egressIP: 192.0.2.50\n", ""] {
        let policies = policy("four", "destinationCIDRs: [\"0.0.0.0/0\"]", "\"yes\"") + source;
        let Some(Gateway { lab, shop, .. }) = gateway("", &policies, &[]) else {
            return;
        };
        serve_pages(&lab.node, "node", 80);
        // A port among those that the gateway may use.
        serve_pages(&lab.node, "node", 61_001);
        assert!(shop.fetch("http://192.0.2.2/").is_some());
        for port in [80, 61_001] {
            for host in ["192.0.2.1", "[2001:db8::1]"] {
                let page = fetch(&lab.world, &format!("http://{host}:{port}/"));
                assert_eq!(page, Some("page of node\n".into()), "{host} {port}");
            }
        }
        for (host, own) in WORLD_HOSTS.iter().zip(["192.0.2.1", "2001:db8::1"]) {
            let page = fetch(&lab.node, &format!("http://{host}/who"));
            assert_eq!(page, Some(own.into()), "the node's own connection");
        }
        for address in WORLD_ADDRESSES {
            let line = format!("ping -n -c 3 -i 0.2 -w 10 {address}");
            assert!(lab.node.run(&line).is_success, "the node's own ping");
            // An identifier of the gateway's range.
            let line = format!("ping -n -e 61500 -c 3 -i 0.2 -w 10 {address}");
            assert!(lab.node.run(&line).is_success, "the node's own ping");
        }
        for address in ["192.0.2.1", "2001:db8::1"] {
            let line = format!("ping -n -c 3 -i 0.2 -w 10 {address}");
            assert!(lab.world.run(&line).is_success, "{address} answers");
        }
    }
}

#[test]
fn what_cannot_leave_as_the_policy_says_is_refused_at_once_and_never_leaves() {
    for (gateway_label, source, reason) in [
        (
            "\"yes\"",
            "    egressIP: 192.0.2.99\n",
            "egress_address_missing",
        ),
        ("\"yes\"", "    interface: eth7\n", "egress_address_missing"),
        ("far", "", "egress_gateway_elsewhere"),
        ("nobody", "", "egress_gateway_missing"),
    ] {
        let policies = policy("four", "destinationCIDRs: [\"0.0.0.0/0\"]", gateway_label) + source;
        let Some(Gateway { lab, shop, .. }) = gateway("", &policies, &[]) else {
            return;
        };
        let capture = Capture::start(&lab.world);
        let (error, took) = refused(&shop, "http://192.0.2.2/");
        println!("{reason}: {error:?} after {took:?}");
        assert!(
            took < Duration::from_secs(4),
            "{reason}: {error} after {took:?}"
        );
        assert!(lab.status().dropped(reason) >= 1, "{reason}");
        let ping = shop.run("ping -n -c 1 -w 2 192.0.2.2");
        assert!(
            ping.stdout.contains("Packet filtered"),
            "{reason}: {ping:?}"
        );
        assert_eq!(
            capture.finish().pod_addresses(),
            [] as [std::net::IpAddr; 0]
        );
    }
}

#[test]
fn connections_survive_a_restart_and_never_leak() {
    let Some(Gateway { lab, shop, .. }) = gateway("", &two_policies(), &[]) else {
        return;
    };
    echo_by_tcp(&lab.world, 7);
    let mut live: Vec<_> = (0..12)
        .map(|n| shop.connect(at(WORLD_HOSTS[n % 2], 7)).expect("connected"))
        .collect();
    assert!(live.iter_mut().all(|stream| is_echoed(stream, b"before")));
    let capture = Capture::start(&lab.world);
    let downloads: Vec<_> = WORLD_HOSTS
        .iter()
        .map(|host| {
            shop.place.spawn(&format!(
                "curl --silent --globoff --noproxy * --max-time 20 --limit-rate 4M --output \
                 /dev/null http://{host}/big"
            ))
        })
        .collect();
    thread::sleep(Duration::from_millis(800));
    lab.kill_daemon();
    lab.start_daemon();
    let alive = live
        .iter_mut()
        .filter_map(|stream| is_echoed(stream, b"after").then_some(()));
    let alive = alive.count();
    let ended = downloads.into_iter().map(|mut download| download.wait());
    let whole = ended
        .filter(|end| end.as_ref().is_ok_and(|end| end.success()))
        .count();
    println!("{alive} of 12 connections go on, {whole} of 2 downloads");
    // Each keeps its port, which nobody else has taken, so the world knows it again. A download
    // goes on when its client has something to say: what only waits cannot be found again.
    assert_eq!(alive, 12);
    assert_eq!(
        capture.finish().pod_addresses(),
        [] as [std::net::IpAddr; 0]
    );
}

/// Asks the world's echo server once from each of these ports of a pod; gives how many were
/// answered, and the errors of the others.
fn ask_from(pod: &Pod, ports: RangeInclusive<u16>) -> (usize, Vec<Option<i32>>) {
    let (source, count) = (pod.addresses[0], ports.len());
    let asking = pod.place.thread(move || {
        let ask = |port: u16| -> std::io::Result<()> {
            let socket = UdpSocket::bind((source, port))?;
            socket.connect(("192.0.2.2", 7))?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            let once = || {
                socket.send(&port.to_be_bytes())?;
                socket.recv(&mut [0; 9]).map(drop)
            };
            // A datagram that a full ring dropped is asked again; a refusal is a refusal.
            let mut tries = 0;
            loop {
                match once() {
                    Err(error) if error.kind() == ErrorKind::WouldBlock && tries < 4 => tries += 1,
                    result => return result,
                }
            }
        };
        ports
            .filter_map(|port| ask(port).err().map(|error| error.raw_os_error()))
            .collect::<Vec<_>>()
    });
    let errors = asking.join().expect("asking does not panic");
    (count - errors.len(), errors)
}

#[test]
fn every_port_of_an_egress_address_serves_one_place_and_not_one_more() {
    let settings = "flowsMax: 262144\nnatSessionsMax: 262144";
    let Some(Gateway { lab, shop, .. }) = gateway(settings, &two_policies(), &[]) else {
        return;
    };
    let second = lab.pod("shop/second", &["app=shop"], &["10.0.1.12"]);
    assert!(shop.can_ping("192.0.2.2") && second.can_ping("192.0.2.2"));
    let since = Instant::now();
    // Both have the same ports: half of them cannot keep theirs.
    let halves: Vec<_> = thread::scope(|scope| {
        let pods = [&shop, &second];
        let asking = pods.map(|pod| scope.spawn(move || ask_from(pod, 1024..=33_279)));
        asking
            .map(|half| half.join().expect("asking does not panic"))
            .into()
    });
    assert_eq!(halves, [(32_256, vec![]), (32_256, vec![])]);
    println!(
        "64512 flows from one address to one place in {:?}",
        since.elapsed()
    );
    let (answered, errors) = ask_from(&second, 40_000..=40_009);
    println!("ten more: {errors:?}");
    assert_eq!((answered, errors), (0, vec![Some(113); 10]), "EHOSTUNREACH");
    assert_eq!(lab.status().dropped("nat_ports_exhausted"), 10);
    assert!(
        shop.fetch("http://192.0.2.2/").is_some(),
        "another place has other ports"
    );
}
