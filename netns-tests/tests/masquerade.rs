//! Masquerade: pods reach the world under the node's address, and the world them under their own.

use netns_tests::manifests::egress_policy;
use netns_tests::{
    Capture, Lab, Pod, WORLD_ADDRESSES, echo_by_tcp, echo_by_udp, eventually, fetch, is_echoed,
    serve_pages, tell_peer_by_udp,
};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const NONE: [IpAddr; 0] = [];

/// A pod that is masqueraded, and a world with servers. The daemon runs.
fn masqueraded(settings: &str, more: &[&str]) -> Option<(Lab, Pod)> {
    let lab = Lab::new(&format!("masquerade: true\n{settings}"))?;
    let addresses = ["10.0.1.10", "fd00:10:1::10"];
    let pod = lab.pod_with("shop/pod", &["app=shop"], &addresses, more);
    serve_pages(&lab.world, "world", 80);
    tell_peer_by_udp(&lab.world, at("[::]", 9));
    echo_by_udp(&lab.world, 7);
    echo_by_tcp(&lab.world, 7);
    lab.start_daemon();
    for address in WORLD_ADDRESSES {
        eventually("the neighbour on the uplink is known", || {
            pod.can_ping(address)
        });
    }
    Some((lab, pod))
}

fn at(host: &str, port: u16) -> SocketAddr {
    format!("{host}:{port}").parse().expect("an address")
}

#[test]
fn the_world_sees_the_node_and_reaches_pods_under_their_own_address() {
    let settings = "masqueradeExcludedCIDRs: [198.51.100.0/24]";
    let Some((lab, pod)) = masqueraded(settings, &[]) else {
        return;
    };
    pod.serve_pages();
    pod.echo_by_udp(7);
    let capture = Capture::start(&lab.world);
    for (host, node) in [("192.0.2.2", "192.0.2.1"), ("[2001:db8::2]", "2001:db8::1")] {
        assert_eq!(pod.fetch(&format!("http://{host}/who")), Some(node.into()));
        let peer = pod.ask_by_udp(at(host, 9), b"who");
        assert_eq!(peer, Some(node.as_bytes().to_vec()));
    }
    for address in WORLD_ADDRESSES {
        let ping = pod.run(&format!("ping -n -c 3 -i 0.2 -w 10 {address}"));
        assert!(ping.is_success, "{ping:?}");
    }
    let captured = capture.finish();
    assert_eq!((captured.lost, captured.pod_addresses()), (0, NONE.into()));
    for host in ["10.0.1.10", "[fd00:10:1::10]"] {
        let page = fetch(&lab.world, &format!("http://{host}/"));
        assert_eq!(page, Some("page of shop/pod\n".into()), "{host}");
        let answer =
            netns_tests::ask_by_udp(&lab.world, at(host, 7), b"in", Duration::from_secs(5));
        assert_eq!(answer, Some(b"in".to_vec()), "{host}");
    }
    for address in ["10.0.1.10", "fd00:10:1::10"] {
        lab.world
            .must(&format!("ping -n -c 2 -i 0.2 -w 10 {address}"));
    }
    lab.world.must("ip address add 198.51.100.1/32 dev eth0");
    lab.node.must("ip route add default via 192.0.2.2");
    eventually("the route is known", || pod.can_ping("198.51.100.1"));
    let own = pod.fetch("http://198.51.100.1/who");
    assert_eq!(own, Some("10.0.1.10".into()), "an excluded block");
}

#[test]
fn policy_decides_by_the_pod_and_not_by_the_node() {
    let Some((lab, pod)) = masqueraded("", &[]) else {
        return;
    };
    let capture = Capture::start(&lab.world);
    for (rules, is_reached) in [
        ("  - toEntities: [host]", false),
        ("  - toCIDR: [192.0.2.2/32]", true),
        ("  - toCIDR: [198.51.100.0/24]", false),
    ] {
        lab.apply("out.yaml", &egress_policy("shop", "out", rules));
        let is_so = if is_reached {
            pod.fetch("http://192.0.2.2/who") == Some("192.0.2.1".into())
        } else {
            pod.gets_nothing("http://192.0.2.2/who")
        };
        assert!(is_so, "{rules} expected reached: {is_reached}");
    }
    assert_eq!(capture.finish().pod_addresses(), NONE);
}

#[test]
fn routers_of_the_world_are_seen_and_see_no_pod() {
    let Some((lab, pod)) = masqueraded("", &[]) else {
        return;
    };
    // A second router behind the first, with a narrower link.
    lab.node.must("ip netns add beyond");
    lab.node
        .must("ip -n world link add eth1 mtu 1280 type veth peer name eth0 netns beyond");
    let beyond = netns_tests::Place::inside(&lab.node, "beyond");
    lab.world
        .must("sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    for (place, link, last) in [(&lab.world, "eth1", 1), (&beyond, "eth0", 2)] {
        place.must(&format!("ip link set {link} mtu 1280 up"));
        place.must(&format!("ip address add 203.0.113.{last}/24 dev {link}"));
        place.must(&format!(
            "ip address add 2001:db8:1::{last}/64 dev {link} nodad"
        ));
    }
    beyond.must("ip link set lo up");
    beyond.must("ip route add default via 203.0.113.1");
    beyond.must("ip route add default via 2001:db8:1::1");
    lab.node.must("ip route add default via 192.0.2.2");
    lab.node.must("ip route add default via 2001:db8::2");
    serve_pages(&beyond, "beyond", 80);
    for address in ["203.0.113.2", "2001:db8:1::2"] {
        eventually("the way is known", || pod.can_ping(address));
    }
    let capture = Capture::start(&lab.world);
    for (target, router) in [
        ("203.0.113.2", "192.0.2.2"),
        ("2001:db8:1::2", "2001:db8::2"),
    ] {
        for how in ["", "-I", "-T -p 80"] {
            let line = format!("traceroute -n -q 1 -w 2 -N 1 {how} {target}");
            let traced = pod.place.must(&line);
            let hops: Vec<&str> = traced.lines().skip(1).collect();
            println!("{line}: {hops:?}");
            assert!(hops.len() >= 3, "{line}: {traced}");
            assert!(hops[1].contains(router), "{line}: {traced}");
            assert!(hops[2].contains(target), "{line}: {traced}");
        }
        let traced = pod.place.must(&format!("tracepath -n {target}"));
        println!("tracepath: {traced}");
        assert!(
            traced.contains("pmtu 1280") && traced.contains("reached"),
            "{traced}"
        );
        pod.place.must("ip route flush cache");
        pod.place.must("ip -6 route flush cache");
        let large = pod.run(&format!("ping -n -c 2 -i 0.3 -w 3 -M do -s 1400 {target}"));
        assert!(
            large.stdout.contains("mtu = 1280")
                || large.stdout.contains("mtu=1280")
                || large.stderr.contains("mtu"),
            "{large:?}"
        );
        let host = if target.contains(':') {
            format!("[{target}]")
        } else {
            target.into()
        };
        pod.place.must(&format!(
            "curl --silent --show-error --globoff --noproxy * --max-time 30 --output /run/big \
             http://{host}/big"
        ));
        pod.place
            .must("cmp /run/big /run/nginx-beyond-80/pages/big");
    }
    let captured = capture.finish();
    println!("{} frames, {} quotes", captured.frames, captured.quotes);
    assert!(captured.quotes > 10);
    assert_eq!((captured.lost, captured.pod_addresses()), (0, NONE.into()));
}

#[test]
fn large_pings_and_datagrams_cross_whole() {
    let Some((lab, pod)) = masqueraded("", &[]) else {
        return;
    };
    let capture = Capture::start(&lab.world);
    for (address, host) in WORLD_ADDRESSES.iter().zip(["192.0.2.2", "[2001:db8::2]"]) {
        let large = pod.run(&format!("ping -n -c 3 -i 0.2 -w 3 -s 4000 {address}"));
        assert!(large.is_success, "4 kB to {address}: {large:?}");
        for length in [1400, 3000, 9000] {
            let bytes: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
            let answer = pod.ask_by_udp(at(host, 7), &bytes);
            assert_eq!(answer, Some(bytes), "{length} bytes to {host}");
        }
        // The node's own are not ours.
        lab.node
            .must(&format!("ping -n -c 3 -i 0.2 -w 10 -s 4000 {address}"));
    }
    for address in ["192.0.2.1", "2001:db8::1"] {
        lab.world
            .must(&format!("ping -n -c 3 -i 0.2 -w 10 -s 4000 {address}"));
    }
    assert_eq!(capture.finish().pod_addresses(), NONE);
}

/// Connects to so many and gives what came of each.
fn connect_all(pod: &Pod, to: SocketAddr, count: usize) -> Vec<Result<TcpStream, Option<i32>>> {
    let connecting = pod.place.thread(move || {
        let connect = |_| {
            TcpStream::connect_timeout(&to, Duration::from_secs(5)).map_err(|e| e.raw_os_error())
        };
        (0..count).map(connect).collect()
    });
    connecting.join().expect("connecting does not panic")
}

#[test]
fn as_many_connections_to_one_place_as_there_are_ports_and_not_one_more() {
    let Some((lab, pod)) = masqueraded("natPorts: 62000-62999\nnatSessionsMax: 65536", &[]) else {
        return;
    };
    let to = at("192.0.2.2", 7);
    let mut held: Vec<TcpStream> = Vec::new();
    for result in connect_all(&pod, to, 1000) {
        held.push(result.expect("there is a port for it"));
    }
    let since = Instant::now();
    for result in connect_all(&pod, to, 3) {
        // EHOSTUNREACH, EACCES and the like; no timeout.
        let error = result.map(drop).expect_err("no port is left");
        println!("one more: errno {error:?}");
        assert!(matches!(error, Some(111 | 113 | 13 | 101)), "{error:?}");
    }
    assert!(
        since.elapsed() < Duration::from_secs(2),
        "{:?}",
        since.elapsed()
    );
    assert!(lab.status().dropped("nat_ports_exhausted") >= 3);
    assert!(
        pod.fetch("http://192.0.2.2/").is_some(),
        "another place has other ports"
    );
    assert!(held.iter_mut().all(|stream| is_echoed(stream, b"alive")));
    // The world closes last, so that no TIME-WAIT of its own stands in the way of the port.
    drop(held.swap_remove(500));
    eventually("a port that became free is used again", || {
        connect_all(&pod, to, 1)[0].is_ok()
    });
}

/// Connects, sends, reads and closes again and again; gives the failures by what they say.
fn churn(pod: &Pod, to: SocketAddr, rate: u32, seconds: u32) -> (u32, BTreeMap<String, u32>) {
    const THREADS: u32 = 8;
    let each = rate * seconds / THREADS;
    let period = Duration::from_secs(seconds.into()) / each;
    let start = Instant::now();
    let once = move || -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        stream.write_all(b"question")?;
        let mut answer = Vec::new();
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.read_to_end(&mut answer)?;
        if answer == b"question" {
            Ok(())
        } else {
            Err(ErrorKind::InvalidData.into())
        }
    };
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            pod.place.thread(move || {
                let mut failures = Vec::new();
                for n in 0..each {
                    let due = start + period * n;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    if let Err(error) = once() {
                        failures.push(format!("{error}"));
                    }
                }
                failures
            })
        })
        .collect();
    let mut failures = BTreeMap::new();
    for thread in threads {
        for failure in thread.join().expect("a client does not panic") {
            *failures.entry(failure).or_default() += 1;
        }
    }
    let took = start.elapsed();
    println!("{} connections in {took:?}", each * THREADS);
    (each * THREADS, failures)
}

/// Answers connections one after the other in a few threads: fewer than `echo_by_tcp` needs.
fn answer_briefly(lab: &Lab, port: u16) {
    let listener = lab
        .world
        .call(move || TcpListener::bind(("::", port)))
        .expect("the port is free");
    for _ in 0..4 {
        let listener = listener.try_clone().expect("a second handle");
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut bytes = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..length]).is_err() {
                        break;
                    }
                }
            }
        });
    }
}

#[test]
fn two_thousand_connections_a_second_come_and_go_without_a_failure() {
    let seconds = if std::env::var_os("PORTCULLIS_LONG").is_some() {
        30
    } else {
        5
    };
    let Some((lab, pod)) = masqueraded(
        "natPorts: 1024-65535\nnatSessionsMax: 262144\nflowsMax: 262144",
        &[],
    ) else {
        return;
    };
    // The client's own stack must not run out of ports first.
    pod.place
        .must("sysctl -q -w net.ipv4.ip_local_port_range=1024 net.ipv4.tcp_tw_reuse=1");
    lab.world
        .must("sysctl -q -w net.core.somaxconn=4096 net.ipv4.tcp_max_syn_backlog=4096");
    answer_briefly(&lab, 8);
    let (count, failures) = churn(&pod, at("192.0.2.2", 8), 2000, seconds);
    let status = lab.status();
    println!(
        "{count} connections, failures {failures:?}, drops {:?}",
        status.json()["drops"]
    );
    assert_eq!(failures, BTreeMap::new());
    for reason in [
        "nat_ports_exhausted",
        "flow_share_full",
        "session_share_full",
    ] {
        assert_eq!(status.dropped(reason), 0, "{reason}");
    }
}

#[test]
fn connections_survive_a_restart_or_are_reset_and_never_leak() {
    let Some((lab, pod)) = masqueraded("", &[]) else {
        return;
    };
    let hosts = ["192.0.2.2", "[2001:db8::2]"];
    let mut live: Vec<TcpStream> = (0..12)
        .map(|n| pod.connect(at(hosts[n % 2], 7)).expect("connected"))
        .collect();
    assert!(live.iter_mut().all(|stream| is_echoed(stream, b"before")));
    let capture = Capture::start(&lab.world);
    lab.kill_daemon();
    for stream in &mut live {
        // Into the void: it will be sent again while nobody knows of the connection.
        stream.write_all(b"between").expect("the stack keeps it");
    }
    lab.start_daemon();
    let (mut alive, mut slowest) = (0, Duration::ZERO);
    for stream in &mut live {
        let since = Instant::now();
        let mut answer = [0; 7];
        alive += usize::from(stream.read_exact(&mut answer).is_ok() && &answer == b"between");
        slowest = slowest.max(since.elapsed());
    }
    println!(
        "{alive} of {} connections go on, slowest {slowest:?}",
        live.len()
    );
    assert!(slowest < Duration::from_secs(8), "one or the other");
    eventually("new ones come about", || {
        pod.fetch("http://192.0.2.2/").is_some()
    });
    assert_eq!(capture.finish().pod_addresses(), NONE);
}
