//! What happens to real traffic on its way: sizes, boundaries, fragments, checksums.

use netns_tests::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Lab, Place, Pod, Tap, WORLD_ADDRESSES, counter, echo_by_udp,
    ethernet, eventually, ipv4_fragment, ipv6_fragment, serve_pages, udp, udp_over_ipv6,
};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// The largest frame that an uplink of MTU 1500 carries: with its Ethernet header.
const UPLINK_FRAME_MAX: usize = 1514;

fn two_pods() -> Option<(Lab, Pod, Pod)> {
    let lab = Lab::new("")?;
    let api = lab.pod(
        "backend/api",
        &["app=backend"],
        &["10.0.1.10", "fd00:10:1::10"],
    );
    let web = lab.pod(
        "frontend/web",
        &["app=frontend"],
        &["10.0.1.11", "fd00:10:1::11"],
    );
    api.serve_pages();
    lab.start_daemon();
    Some((lab, api, web))
}

#[test]
fn large_segments_cross_whole_between_pods() {
    let Some((lab, api, web)) = two_pods() else {
        return;
    };
    for host in ["10.0.1.10", "[fd00:10:1::10]"] {
        let before = lab.status();
        let page = web.place.must(&format!(
            "curl --silent --show-error --globoff --noproxy * --max-time 60 --output /run/big \
             --write-out %{{size_download}} http://{host}/big"
        ));
        assert_eq!(page, Pod::big_page().len().to_string());
        let after = lab.status();
        let grown = |counter| after.of_workers(counter) - before.of_workers(counter);
        // Acknowledgements are counted with the rest, so segments are larger still.
        let mean = grown("received_bytes") / grown("received");
        println!("{host}: {mean} bytes a frame, acknowledgements included");
        assert!(mean > 10_000, "{host}: {mean} bytes a frame");
        assert_eq!(grown("segments"), 0, "nothing was cut up on the way");
    }
    for pod in [&api, &web] {
        assert_eq!(pod.counter("TcpInCsumErrors"), 0, "{}", pod.key());
    }
}

#[test]
fn what_leaves_through_the_uplink_fits_into_it() {
    let Some((lab, api, _web)) = two_pods() else {
        return;
    };
    let tap = Tap::new(&lab.world);
    for host in ["10.0.1.10", "[fd00:10:1::10]"] {
        lab.world.must(&format!(
            "curl --silent --show-error --globoff --noproxy * --max-time 60 --output /run/big \
             http://{host}/big"
        ));
    }
    let lengths = tap.lengths();
    let full = lengths
        .iter()
        .filter(|&&length| length == UPLINK_FRAME_MAX)
        .count();
    println!("{} frames, {full} of them full", lengths.len());
    assert!(
        full > 10_000,
        "the tap heard {full} full frames of {}",
        lengths.len()
    );
    assert_eq!(lengths.iter().max(), Some(&UPLINK_FRAME_MAX));
    for (place, errors) in [(&lab.world, 0), (&api.place, 0)] {
        assert_eq!(
            counter(place, "TcpInCsumErrors"),
            errors,
            "{}",
            place.name()
        );
    }
}

#[test]
fn datagrams_keep_their_boundaries_even_when_sent_in_one_call() {
    let Some((_lab, api, web)) = two_pods() else {
        return;
    };
    for (from, to) in [
        ("10.0.1.11:0", "10.0.1.10:9"),
        ("[fd00:10:1::11]:0", "[fd00:10:1::10]:9"),
    ] {
        let ears = api
            .place
            .call(move || UdpSocket::bind(to))
            .expect("a socket");
        ears.set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        let mouth = web
            .place
            .call(move || UdpSocket::bind(from))
            .expect("a socket");
        setsockopt(&mouth, sockopt::UdpGsoSegment, &100).expect("the kernel can segment");
        let to: SocketAddr = to.parse().expect("an address");
        let bytes: Vec<u8> = (0..950_u32).map(|n| n.to_le_bytes()[0]).collect();
        assert_eq!(mouth.send_to(&bytes, to).expect("sent"), 950);
        let datagrams: Vec<Vec<u8>> = (0..10)
            .map(|_| {
                let mut datagram = vec![0; 2000];
                let length = ears.recv(&mut datagram).expect("a datagram");
                datagram.truncate(length);
                datagram
            })
            .collect();
        assert_eq!(datagrams, bytes.chunks(100).collect::<Vec<_>>(), "{to}");
    }
}

#[test]
fn a_datagram_in_fragments_arrives_whole_and_so_does_its_answer() {
    let Some((lab, api, web)) = two_pods() else {
        return;
    };
    api.echo_by_udp(7);
    for host in ["10.0.1.10:7", "[fd00:10:1::10]:7"] {
        let to: SocketAddr = host.parse().expect("an address");
        for length in [1400, 3000, 9000] {
            let bytes: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
            let answer = web.ask_by_udp(to, &bytes);
            assert_eq!(answer, Some(bytes), "{length} bytes: {host}");
        }
    }
    assert_no_fragment_dropped(&lab);
}

#[track_caller]
fn assert_no_fragment_dropped(lab: &Lab) {
    for reason in ["unknown", "overlap", "tiny", "scattered", "hold_full"] {
        let dropped = lab.status().dropped(&format!("fragment_{reason}"));
        assert_eq!(dropped, 0, "{reason}");
    }
}

/// As `two_pods`, when the way to the world is known.
fn two_pods_and_world() -> Option<(Lab, Pod, Pod)> {
    let (lab, api, web) = two_pods()?;
    for address in WORLD_ADDRESSES {
        eventually("the neighbour is known", || api.can_ping(address));
    }
    Some((lab, api, web))
}

#[test]
fn datagrams_to_the_world_and_back_are_whole() {
    let Some((lab, api, _web)) = two_pods() else {
        return;
    };
    echo_by_udp(&lab.world, 7);
    for host in ["192.0.2.2:7", "[2001:db8::2]:7"] {
        let to: SocketAddr = host.parse().expect("an address");
        // The first packet makes the node ask for its neighbour's MAC address, and may be lost.
        eventually("the neighbour is known", || !api.gets_no_answer(to, b"?"));
        for length in [0, 1, 2, 100, 1452] {
            let question: Vec<u8> = (0..length).map(|n| n as u8).collect();
            assert_eq!(
                api.ask_by_udp(to, &question),
                Some(question),
                "{length} bytes to {host}"
            );
        }
    }
    for place in [&lab.world, &api.place] {
        assert_eq!(counter(place, "UdpInCsumErrors"), 0, "{}", place.name());
        assert_eq!(counter(place, "Udp6InCsumErrors"), 0, "{}", place.name());
    }
}

#[test]
fn pings_of_four_kilobytes_cross_between_pods_and_the_world() {
    let Some((lab, api, web)) = two_pods_and_world() else {
        return;
    };
    let (to_api, to_world) = (["10.0.1.10", "fd00:10:1::10"], WORLD_ADDRESSES);
    for (from, to) in [
        (&web.place, to_api),
        (&api.place, to_world),
        (&lab.world, to_api),
    ] {
        for address in to {
            let ran = from.run(&format!("ping -n -c 20 -i 0.02 -s 4000 -w 10 {address}"));
            assert!(ran.stdout.contains(" 0% packet loss"), "{address}: {ran:?}");
        }
    }
    assert_no_fragment_dropped(&lab);
}

fn ask(place: &Place, to: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
    let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = place.call(move || UdpSocket::bind(any)).expect("a socket");
    let patience = Some(Duration::from_secs(5));
    socket.set_read_timeout(patience).expect("a timeout");
    socket.send_to(question, to).expect("sent");
    let mut answer = vec![0; 65_536];
    let length = socket.recv(&mut answer).ok()?;
    answer.truncate(length);
    Some(answer)
}

#[test]
fn datagrams_in_fragments_cross_the_uplink_both_ways() {
    let Some((lab, api, _web)) = two_pods_and_world() else {
        return;
    };
    api.echo_by_udp(7);
    echo_by_udp(&lab.world, 7);
    for (from, hosts) in [
        (&api.place, ["192.0.2.2:7", "[2001:db8::2]:7"]),
        (&lab.world, ["10.0.1.10:7", "[fd00:10:1::10]:7"]),
    ] {
        for host in hosts {
            let to: SocketAddr = host.parse().expect("an address");
            // As many fragments as an idle interface has memory for, and no more.
            for length in [1473, 4000, 8000, 20_000] {
                let question: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
                let answer = ask(from, to, &question);
                assert!(answer == Some(question), "{length} bytes to {host}");
            }
        }
    }
    assert_no_fragment_dropped(&lab);
}

/// The pieces of a UDP datagram, each in an Ethernet frame of a pod's.
fn pieces(
    (from, mac, from_port): (IpAddr, [u8; 6], u16),
    to: SocketAddr,
    identification: u16,
    payload: &[u8],
    piece: usize,
) -> Vec<Vec<u8>> {
    let ports = (from_port, to.port());
    let datagram = match (from, to.ip()) {
        (IpAddr::V6(from), IpAddr::V6(to)) => udp_over_ipv6(from, to, ports, payload),
        _ => udp(ports.0, ports.1, payload),
    };
    let last = datagram.len().div_ceil(piece) - 1;
    let pieces = datagram.chunks(piece).enumerate().map(|(number, bytes)| {
        let offset = u16::try_from(number * piece).expect("it fits");
        let place = (offset, number < last);
        match (from, to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let packet = ipv4_fragment(from, to, 17, identification, place, bytes);
                ethernet(mac, [0xee; 6], ETHERTYPE_IPV4, &packet)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let packet = ipv6_fragment(from, to, 17, identification.into(), place, bytes);
                ethernet(mac, [0xee; 6], ETHERTYPE_IPV6, &packet)
            }
            _ => panic!("one family: {from} and {to}"),
        }
    });
    pieces.collect()
}

#[test]
fn fragments_in_any_order_make_their_datagram() {
    let Some((lab, api, web)) = two_pods_and_world() else {
        return;
    };
    api.echo_by_udp(7);
    echo_by_udp(&lab.world, 7);
    let sources = [
        IpAddr::from([10, 0, 1, 11]),
        "fd00:10:1::11".parse().expect("an address"),
    ];
    let mut identification = 100;
    for (from, hosts) in [
        (sources[0], ["10.0.1.10:7", "192.0.2.2:7"]),
        (sources[1], ["[fd00:10:1::10]:7", "[2001:db8::2]:7"]),
    ] {
        let socket = web
            .place
            .call(move || UdpSocket::bind((from, 0)))
            .expect("a socket");
        let patience = Some(Duration::from_secs(5));
        socket.set_read_timeout(patience).expect("a timeout");
        let port = socket.local_addr().expect("bound").port();
        for host in hosts {
            for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
                identification += 1;
                let to: SocketAddr = host.parse().expect("an address");
                let bytes: Vec<u8> = (0..4000_u32).map(|n| n.to_le_bytes()[0]).collect();
                let whole = pieces((from, web.mac, port), to, identification, &bytes, 1024);
                web.send_raw(&order.map(|number| whole[number].clone()));
                let mut answer = [0; 8000];
                let length = socket.recv(&mut answer).unwrap_or(0);
                assert!(answer[..length] == bytes, "{host}: {order:?}: {length}");
            }
        }
    }
    assert_no_fragment_dropped(&lab);
}

#[test]
fn a_flood_of_first_fragments_harms_nobody_else() {
    let Some((lab, api, web)) = two_pods_and_world() else {
        return;
    };
    let flooder = lab.pod("frontend/flooder", &["app=batch"], &["10.0.1.13"]);
    // A pod of its own: a network stack that waits for so many datagrams has room for no other.
    let _victim = lab.pod("backend/victim", &["app=backend"], &["10.0.1.14"]);
    api.echo_by_udp(7);
    let to: SocketAddr = "10.0.1.14:7".parse().expect("an address");
    let from = (IpAddr::from([10, 0, 1, 13]), flooder.mac, 9);
    let firsts: Vec<Vec<u8>> = (0..u16::MAX)
        .step_by(2)
        .map(|identification| pieces(from, to, identification, &[0; 2000], 1024).remove(0))
        .collect();
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for batch in firsts.chunks(64) {
                flooder.send_raw(batch);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let mut asked = 0;
        while !flood.is_finished() || asked < 20 {
            let question: Vec<u8> = (0..8000_u32).map(|n| n.to_le_bytes()[1]).collect();
            for host in ["10.0.1.10:7", "[fd00:10:1::10]:7"] {
                let to = host.parse().expect("an address");
                let answer = web.ask_by_udp(to, &question);
                assert!(answer.as_ref() == Some(&question), "after {asked} answers");
            }
            asked += 1;
            // Each is two flows, and a share holds but so many.
            std::thread::sleep(Duration::from_millis(5));
        }
        println!(
            "{asked} datagrams of 8000 bytes both ways beside {} first fragments",
            firsts.len()
        );
    });
}

#[test]
fn checksums_are_right_everywhere_when_the_kernel_finishes_them() {
    checksums_are_right(true);
}

#[test]
fn checksums_are_right_everywhere_when_the_workers_finish_them() {
    checksums_are_right(false);
}

/// Large segments and small datagrams on every way that a frame can take, and what the far end of
/// the uplink reads.
fn checksums_are_right(is_offloaded: bool) {
    let way = if is_offloaded { "offload" } else { "software" };
    let Some(lab) = Lab::new(&format!("checksums: {way}\nmasquerade: true\n")) else {
        return;
    };
    let pods = [("backend/api", 10), ("frontend/web", 11)].map(|(name, last)| {
        let addresses = [format!("10.0.1.{last}"), format!("fd00:10:1::{last}")];
        lab.pod(name, &["app=any"], &[&addresses[0], &addresses[1]])
    });
    let [api, web] = &pods;
    // As most cards do: what goes over the wire has whole checksums. By itself a veth pair hands
    // partial ones on.
    lab.node.must("ethtool -K eth0 tx off");
    lab.start_daemon();
    api.serve_pages();
    serve_pages(&lab.world, "world", 80);
    api.echo_by_udp(7);
    echo_by_udp(&lab.world, 7);
    lab.world
        .serve("tcpdump -n -i eth0 -Q in -U -w /run/world.pcap");
    eventually("the world's ears are open", || {
        lab.world.run("test -s /run/world.pcap").is_success
    });
    for address in ["192.0.2.2", "2001:db8::2"] {
        eventually("the neighbour is known", || api.can_ping(address));
    }

    let ways: [(&Place, [&str; 2]); 4] = [
        (&web.place, ["10.0.1.10", "[fd00:10:1::10]"]),
        (&lab.node, ["10.0.1.10", "[fd00:10:1::10]"]),
        (&api.place, ["192.0.2.2", "[2001:db8::2]"]),
        (&lab.world, ["10.0.1.10", "[fd00:10:1::10]"]),
    ];
    for (place, hosts) in ways {
        for host in hosts {
            let got = place.must(&format!(
                "curl --silent --show-error --globoff --noproxy * --max-time 60 --output /run/big \
                 --write-out %{{size_download}} http://{host}/big"
            ));
            assert_eq!(got, Pod::big_page().len().to_string(), "{host}");
            for length in [0, 1, 2, 99, 1400] {
                let question = vec![length as u8; length];
                let to: SocketAddr = format!("{host}:7").parse().expect("an address");
                let answer = ask(place, to, &question);
                assert_eq!(answer, Some(question), "{} to {host}", place.name());
            }
        }
    }

    for place in [&api.place, &web.place, &lab.node, &lab.world] {
        for errors in ["TcpInCsumErrors", "UdpInCsumErrors", "Udp6InCsumErrors"] {
            assert_eq!(counter(place, errors), 0, "{errors} of {}", place.name());
        }
    }
    let heard = lab.world.must("tcpdump -n -vv -r /run/world.pcap");
    let is_right = |line: &&str| line.contains("(correct)") || line.contains("sum ok]");
    let is_wrong = |line: &&str| line.contains("(incorrect") || line.contains("bad udp cksum");
    assert_eq!(heard.lines().find(is_wrong), None);
    let right = heard.lines().filter(is_right).count();
    let status = lab.status();
    let [offloaded, software, untouched] = ["offloaded", "software", "untouched"]
        .map(|way| status.of_workers(&format!("checksums_{way}")));
    println!(
        "{way}: {right} right in the world; {offloaded} offloaded, {software} in software, {untouched} untouched"
    );
    assert!(right > 1000, "{right}");
    assert_eq!(offloaded > 1000, is_offloaded, "{offloaded}");
    assert!(
        software > 1000,
        "what was cut up for the uplink: {software}"
    );
    let transmitted = status.of_workers("transmitted");
    assert_eq!(offloaded + software + untouched, transmitted);
}
