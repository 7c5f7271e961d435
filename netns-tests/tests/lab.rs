//! The Lab itself, with the kernel's own forwarding in the daemon's stead.

use netns_tests::{ETHERTYPE_IPV4, Lab, NODE_ADDRESSES, Pod, WORLD_ADDRESSES, ethernet, ipv4, udp};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

fn two_pods(lab: &Lab) -> (Pod, Pod) {
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
    (api, web)
}

#[test]
fn pods_reach_each_other_over_both_families() {
    let Some(lab) = Lab::new("") else { return };
    let (api, web) = two_pods(&lab);
    assert!(
        web.cannot_ping("10.0.1.10"),
        "no packet passes before anybody forwards"
    );
    lab.forward_by_kernel(&[&api, &web]);
    api.serve_pages();
    api.echo_by_udp(7);
    for (host, address) in [
        ("10.0.1.10", "10.0.1.10"),
        ("[fd00:10:1::10]", "fd00:10:1::10"),
    ] {
        assert_eq!(
            web.fetch(&format!("http://{host}/")),
            Some("page of backend/api\n".into())
        );
        assert!(web.can_ping(address), "{address}");
        let echo: SocketAddr = format!("{host}:7").parse().expect("an address");
        assert_eq!(web.ask_by_udp(echo, b"hello"), Some(b"hello".to_vec()));
    }
    assert!(
        web.gets_nothing("http://10.0.1.10:81/"),
        "nobody listens there"
    );
}

#[test]
fn pods_reach_the_world_and_the_world_reaches_pods() {
    let Some(lab) = Lab::new("") else { return };
    let (api, web) = two_pods(&lab);
    lab.forward_by_kernel(&[&api, &web]);
    for address in WORLD_ADDRESSES.iter().chain(&NODE_ADDRESSES) {
        assert!(api.can_ping(address), "{address}");
    }
    for address in ["10.0.1.10", "fd00:10:1::11"] {
        lab.world.must(&format!("ping -n -c 1 -W 10 {address}"));
    }
}

#[test]
fn a_pod_is_set_up_for_large_segments_and_small_routes() {
    let Some(lab) = Lab::new("") else { return };
    let (api, _web) = two_pods(&lab);
    let offloads = api.place.must("ethtool -k eth0");
    let is = |line: &str| offloads.lines().any(|found| found.trim() == line);
    assert!(is("tcp-segmentation-offload: on"), "{offloads}");
    assert!(is("tx-udp-segmentation: off"), "{offloads}");
    assert!(is("tx-checksum-sctp: off"), "{offloads}");
    assert!(is("tx-vlan-offload: off"), "{offloads}");
    assert!(is("tx-vlan-stag-hw-insert: off"), "{offloads}");
    assert!(
        api.place
            .must("ip -o link show dev eth0")
            .contains(" mtu 65535 ")
    );
    assert!(lab.node.must("ip -o link show").contains(" mtu 65535 "));
    assert!(
        api.place
            .must("ip route get 10.0.1.11")
            .contains("via 169.254.1.1 dev eth0")
    );
    assert!(api.place.must("ip route show default").contains("mtu 1500"));
    assert!(
        api.place
            .must("ip -6 route show default")
            .contains("via fe80::1 dev eth0")
    );
    let host_end = lab
        .node
        .must(&format!("ip -o link show dev {}", api.interface));
    assert!(
        host_end.contains("state DOWN"),
        "the daemon brings it up: {host_end}"
    );
}

#[test]
fn labs_do_not_see_each_other() {
    let (Some(one), Some(two)) = (Lab::new(""), Lab::new("")) else {
        return;
    };
    let first = one.pod("default/a", &[], &["10.0.1.10"]);
    let second = two.pod("default/a", &[], &["10.0.1.10"]);
    assert_ne!(first.mac, second.mac);
    assert!(
        !Path::new("/run/netns/default-a").exists(),
        "names stay in the Lab"
    );
    assert!(!Path::new("/run/state").exists(), "files stay in the Lab");
}

#[test]
fn what_a_lab_started_ends_with_it() {
    let Some(lab) = Lab::new("") else { return };
    let mut child = lab.node.spawn("sleep 1000");
    drop(lab);
    let since = Instant::now();
    while child.try_wait().expect("our own child").is_none() {
        assert!(since.elapsed() < Duration::from_secs(5), "sleep runs on");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn raw_frames_arrive_as_they_were_made() {
    let Some(lab) = Lab::new("") else { return };
    let (api, web) = two_pods(&lab);
    lab.forward_by_kernel(&[&api, &web]);
    let socket = api
        .place
        .call(|| std::net::UdpSocket::bind("10.0.1.10:9"))
        .expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    let packet = ipv4(
        Ipv4Addr::new(10, 0, 1, 11),
        Ipv4Addr::new(10, 0, 1, 10),
        17,
        &udp(1234, 9, b"by hand"),
    );
    web.send_raw(&[ethernet(web.mac, [0xee; 6], ETHERTYPE_IPV4, &packet)]);
    let mut bytes = [0; 64];
    let (length, from) = socket.recv_from(&mut bytes).expect("the datagram");
    assert_eq!(
        (&bytes[..length], from),
        (&b"by hand"[..], "10.0.1.11:1234".parse().expect("v4"))
    );
}

#[test]
fn a_pod_that_is_removed_leaves_its_address_to_the_next() {
    let Some(lab) = Lab::new("") else { return };
    let (api, web) = two_pods(&lab);
    lab.remove_pod(web);
    assert_eq!(
        lab.node.must("ip netns list").lines().count(),
        2,
        "world and backend-api"
    );
    let next = lab.pod("frontend/next", &[], &["10.0.1.11"]);
    lab.forward_by_kernel(&[&api, &next]);
    assert!(next.can_ping("10.0.1.10"));
}
