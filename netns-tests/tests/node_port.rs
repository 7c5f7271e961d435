//! Node ports, external and load balancer addresses: services as the world sees them.

use netns_tests::{
    Capture, Lab, Pod, WORLD_ADDRESSES, ask_by_udp, connect, echo_by_tcp, echo_by_udp, eventually,
    fetch, gets_nothing, is_echoed, serve_pages, tell_peer_by_udp,
};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const NONE: [IpAddr; 0] = [];
const NODE_HOSTS: [&str; 2] = ["192.0.2.1", "[2001:db8::1]"];
/// Backends that are on no node of ours: the world has these addresses, too.
const FAR: [&str; 2] = ["203.0.113.9", "2001:db8:9::9"];

fn service(more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.10, "fd00:96::a"]
  externalIPs: [198.51.100.7, "2001:db8:7::7"]
  {more}
  ports:
  - {{name: http, port: 80, nodePort: 30080}}
  - {{name: echo, port: 7, nodePort: 30007}}
  - {{name: who, port: 9, nodePort: 30009, protocol: UDP}}
  - {{name: dns, port: 53, nodePort: 30053, protocol: UDP}}
status: {{loadBalancer: {{ingress: [{{ip: 198.51.100.8}}]}}}}
"#
    )
}

fn slices(backends: [&[&str]; 2]) -> String {
    let slice = |(family, addresses): (&str, &[&str])| {
        let endpoint = |address: &&str| format!("- {{addresses: [\"{address}\"]}}\n");
        let endpoints: String = addresses.iter().map(endpoint).collect();
        let endpoints = match endpoints.as_str() {
            "" => "endpoints: []\n".to_owned(),
            list => format!("endpoints:\n{list}"),
        };
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-{}, \
             namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\naddressType: \
             {family}\nports:\n- {{name: http, port: 80}}\n- {{name: echo, port: 7}}\n\
             - {{name: who, port: 9, protocol: UDP}}\n- {{name: dns, port: 53, protocol: UDP}}\n\
             {endpoints}",
            family.to_lowercase()
        )
    };
    let [four, six] = backends;
    [("IPv4", four), ("IPv6", six)].map(slice).join("---\n")
}

const LOCAL: [&[&str]; 2] = [&["10.0.1.20"], &["fd00:10:1::20"]];
const REMOTE: [&[&str]; 2] = [&["203.0.113.9"], &["2001:db8:9::9"]];

struct Shop {
    lab: Lab,
    web: Pod,
}

fn shop(more: &str, backends: [&[&str]; 2]) -> Option<Shop> {
    let lab = Lab::new("")?;
    let web = lab.pod("shop/web", &["app=web"], &["10.0.1.20", "fd00:10:1::20"]);
    let world = &lab.world;
    for line in [
        "ip route add 198.51.100.0/24 via 192.0.2.1",
        "ip route add 2001:db8:7::/64 via 2001:db8::1",
        "ip address add 203.0.113.9/32 dev lo",
        "ip address add 2001:db8:9::9/128 dev lo nodad",
    ] {
        world.must(line);
    }
    lab.node.must("ip route add default via 192.0.2.2");
    lab.node.must("ip route add default via 2001:db8::2");
    serve_pages(&lab.node, "node", 80);
    serve_pages(world, "world", 80);
    web.serve_pages();
    tell_peer_by_udp(&web.place, at("[::]", 9));
    // With an address of its own each, so that it is the one that answers.
    for address in FAR {
        let address: IpAddr = address.parse().expect("an address");
        tell_peer_by_udp(world, SocketAddr::new(address, 9));
    }
    for place in [&web.place, world] {
        echo_by_udp(place, 53);
        echo_by_tcp(place, 7);
    }
    lab.apply("service.yaml", &service(more));
    lab.apply("slices.yaml", &slices(backends));
    lab.start_daemon();
    assert_eq!(lab.status().errors(), Vec::<String>::new());
    for address in WORLD_ADDRESSES {
        eventually("the neighbour on the uplink is known", || {
            web.can_ping(address)
        });
    }
    Some(Shop { lab, web })
}

fn at(host: &str, port: u16) -> SocketAddr {
    format!("{host}:{port}").parse().expect("an address")
}

fn who_by_udp(lab: &Lab, to: SocketAddr) -> Option<String> {
    let answer = ask_by_udp(&lab.world, to, b"who", Duration::from_secs(5))?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn the_world_reaches_local_pods_which_see_the_client() {
    for more in ["", "externalTrafficPolicy: Local"] {
        let Some(Shop { lab, web: _web }) = shop(more, LOCAL) else {
            return;
        };
        let capture = Capture::start(&lab.world);
        for (host, port, client) in [
            (NODE_HOSTS[0], 30_080, "192.0.2.2"),
            (NODE_HOSTS[1], 30_080, "2001:db8::2"),
            ("198.51.100.7", 80, "192.0.2.2"),
            ("198.51.100.8", 80, "192.0.2.2"),
            ("[2001:db8:7::7]", 80, "2001:db8::2"),
        ] {
            let seen = fetch(&lab.world, &format!("http://{host}:{port}/who"));
            assert_eq!(seen, Some(client.into()), "{host}:{port}");
            lab.world.must(&format!(
                "curl --silent --show-error --globoff --noproxy * --max-time 30 --output /run/big \
                 http://{host}:{port}/big"
            ));
            lab.world
                .must("cmp /run/big /run/nginx-shop-web-80/pages/big");
            let port = if port == 80 { 9 } else { 30_009 };
            assert_eq!(
                who_by_udp(&lab, at(host, port)),
                Some(client.into()),
                "{host}"
            );
        }
        // Larger than a packet: towards us in one piece, the answer in several.
        for (host, port) in [
            (NODE_HOSTS[0], 30_053),
            ("198.51.100.7", 53),
            (NODE_HOSTS[1], 30_053),
        ] {
            for length in [1, 1400, 4000] {
                let question: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
                let patience = Duration::from_secs(3);
                let answer = ask_by_udp(&lab.world, at(host, port), &question, patience);
                assert_eq!(answer, Some(question), "{length} bytes to {host}");
            }
        }
        let captured = capture.finish();
        assert_eq!((captured.lost, captured.pod_addresses()), (0, NONE.into()));
    }
}

#[test]
fn a_pod_reaches_the_service_by_its_outer_addresses() {
    let Some(Shop { lab, web }) = shop("", LOCAL) else {
        return;
    };
    let client = lab.pod(
        "shop/client",
        &["app=client"],
        &["10.0.1.10", "fd00:10:1::10"],
    );
    for pod in [&client, &web] {
        for host in [
            "192.0.2.1:30080",
            "[2001:db8::1]:30080",
            "198.51.100.7",
            "198.51.100.8",
            "10.96.0.10",
            "[2001:db8:7::7]",
        ] {
            let page = pod.fetch(&format!("http://{host}/"));
            assert_eq!(
                page,
                Some("page of shop/web\n".into()),
                "{host} from {}",
                pod.key()
            );
        }
    }
    // The node's own address has ports of the node, too.
    assert_eq!(
        client.fetch("http://192.0.2.1/"),
        Some("page of node\n".into())
    );
    assert!(client.can_ping("192.0.2.1"));
}

#[test]
fn the_node_keeps_its_other_ports() {
    let Some(Shop { lab, web: _web }) = shop("", LOCAL) else {
        return;
    };
    serve_pages(&lab.node, "node", 30_081);
    echo_by_udp(&lab.node, 30_080);
    for host in NODE_HOSTS {
        for port in [80, 30_081] {
            let page = fetch(&lab.world, &format!("http://{host}:{port}/"));
            assert_eq!(page, Some("page of node\n".into()), "{host}:{port}");
        }
        let patience = Duration::from_secs(5);
        let answer = ask_by_udp(&lab.world, at(host, 30_080), b"udp", patience);
        assert_eq!(
            answer,
            Some(b"udp".to_vec()),
            "another protocol on the port"
        );
        let page = fetch(&lab.node, "http://192.0.2.2/");
        assert_eq!(page, Some("page of world\n".into()));
    }
    for address in ["192.0.2.1", "2001:db8::1"] {
        lab.world
            .must(&format!("ping -n -c 2 -i 0.2 -w 10 -s 4000 {address}"));
    }
    let since = Instant::now();
    let refused = connect(&lab.world, at(NODE_HOSTS[0], 30_082)).map(drop);
    assert_eq!(
        refused.map_err(|e| e.kind()),
        Err(ErrorKind::ConnectionRefused)
    );
    assert!(
        since.elapsed() < Duration::from_secs(1),
        "by the node's own stack"
    );
}

#[test]
fn a_backend_elsewhere_sees_the_node_and_answers_through_it() {
    let Some(Shop { lab, web: _web }) = shop("", REMOTE) else {
        return;
    };
    for (family, node) in ["192.0.2.1", "2001:db8::1"].into_iter().enumerate() {
        let host = NODE_HOSTS[family];
        let seen = fetch(&lab.world, &format!("http://{host}:30080/who"));
        assert_eq!(seen, Some(node.into()), "{}", FAR[family]);
        assert_eq!(who_by_udp(&lab, at(host, 30_009)), Some(node.into()));
        lab.world.must(&format!(
            "curl --silent --show-error --globoff --noproxy * --max-time 30 --output /run/big \
             http://{host}:30080/big"
        ));
        lab.world.must("cmp /run/big /run/nginx-world-80/pages/big");
    }
}

#[test]
fn traffic_policy_local_leads_nowhere_else() {
    let Some(Shop { lab, web: _web }) = shop("externalTrafficPolicy: Local", REMOTE) else {
        return;
    };
    let since = Instant::now();
    let refused = connect(&lab.world, at(NODE_HOSTS[0], 30_080)).map(drop);
    assert_eq!(
        refused.map_err(|e| e.kind()),
        Err(ErrorKind::ConnectionRefused)
    );
    assert!(since.elapsed() < Duration::from_secs(1));
    let both: [&[&str]; 2] = [
        &["10.0.1.20", "203.0.113.9"],
        &["fd00:10:1::20", "2001:db8:9::9"],
    ];
    lab.apply("slices.yaml", &slices(both));
    for _ in 0..20 {
        for host in NODE_HOSTS {
            let page = fetch(&lab.world, &format!("http://{host}:30080/"));
            assert_eq!(page, Some("page of shop/web\n".into()), "{host}");
        }
    }
}

#[test]
fn a_service_without_backends_tells_the_world_at_once() {
    let Some(Shop { lab, web: _web }) = shop("", [&[], &[]]) else {
        return;
    };
    for (host, any) in NODE_HOSTS.iter().zip(["0.0.0.0:0", "[::]:0"]) {
        let since = Instant::now();
        let refused = connect(&lab.world, at(host, 30_080)).map(drop);
        assert_eq!(
            refused.map_err(|e| e.kind()),
            Err(ErrorKind::ConnectionRefused),
            "{host}"
        );
        let socket = lab
            .world
            .call(move || UdpSocket::bind(any))
            .expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout");
        socket.connect(at(host, 30_053)).expect("connected");
        socket.send(b"?").expect("sent");
        let refused = socket.recv(&mut [0; 9]).map_err(|e| e.kind());
        assert_eq!(
            refused,
            Err(ErrorKind::ConnectionRefused),
            "{host}: port unreachable"
        );
        assert!(since.elapsed() < Duration::from_secs(2), "{host}");
    }
}

#[test]
fn policy_of_the_pod_sees_the_client_in_the_world() {
    let Some(Shop { lab, web: _web }) = shop("", LOCAL) else {
        return;
    };
    for (rule, is_reached) in [
        ("fromCIDR: [192.0.2.2/32, \"2001:db8::2/128\"]", true),
        ("fromCIDR: [198.51.100.0/24]", false),
        ("fromEntities: [host]", false),
        ("fromEntities: [world]", true),
    ] {
        lab.apply(
            "in.yaml",
            &format!(
                "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: in, \
                 namespace: shop}}\nspec:\n  endpointSelector: {{}}\n  ingress:\n  - {rule}\n"
            ),
        );
        for host in NODE_HOSTS {
            let url = format!("http://{host}:30080/");
            let is_so = if is_reached {
                fetch(&lab.world, &url).is_some()
            } else {
                gets_nothing(&lab.world, &url)
            };
            assert!(is_so, "{rule}: {url} expected reached: {is_reached}");
        }
    }
}

#[test]
fn connections_through_the_node_survive_a_restart_or_are_reset() {
    let Some(Shop { lab, web: _web }) = shop("", LOCAL) else {
        return;
    };
    let mut live: Vec<_> = (0..12)
        .map(|n| connect(&lab.world, at(NODE_HOSTS[n % 2], 30_007)).expect("connected"))
        .collect();
    assert!(live.iter_mut().all(|stream| is_echoed(stream, b"before")));
    let capture = Capture::start(&lab.world);
    lab.kill_daemon();
    lab.start_daemon();
    let (mut alive, mut slowest) = (0, Duration::ZERO);
    for stream in &mut live {
        let since = Instant::now();
        alive += usize::from(is_echoed(stream, b"after"));
        slowest = slowest.max(since.elapsed());
    }
    println!(
        "{alive} of {} connections go on, slowest {slowest:?}",
        live.len()
    );
    assert!(slowest < Duration::from_secs(8), "one or the other");
    assert_eq!(capture.finish().pod_addresses(), NONE);
}

#[test]
fn a_download_through_the_node_never_shows_its_pod_after_a_restart() {
    let Some(Shop { lab, web: _web }) = shop("", LOCAL) else {
        return;
    };
    let capture = Capture::start(&lab.world);
    let mut downloads: Vec<_> = (0..6)
        .map(|n| {
            lab.world.spawn(&format!(
                "curl --silent --globoff --noproxy * --max-time 20 --limit-rate 3M --output \
                 /run/big-{n} http://{}:30080/big",
                NODE_HOSTS[n % 2]
            ))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(1500));
    lab.kill_daemon();
    // Both ends send again and again meanwhile.
    std::thread::sleep(Duration::from_millis(500));
    lab.start_daemon();
    let ended = downloads
        .iter_mut()
        .map(|download| download.wait().expect("curl ends").success());
    let whole = ended.filter(|is_whole| *is_whole).count();
    println!("{whole} of {} downloads came to their end", downloads.len());
    assert_eq!(capture.finish().pod_addresses(), NONE);
}
