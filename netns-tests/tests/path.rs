//! The way as clients find it out: which hops there are, and how large a packet may be.

use netns_tests::{Lab, NODE_ADDRESSES, Place, Pod, WORLD_ADDRESSES, eventually};

/// Addresses of a host behind the world, which is a router here. [RFC 5737, RFC 3849]
const FAR: [&str; 2] = ["198.51.100.2", "2001:db8:1::2"];
/// The world's own addresses on the link to it.
const WORLD_TO_FAR: [&str; 2] = ["198.51.100.1", "2001:db8:1::1"];
/// What the link to it takes.
const FAR_MTU: &str = "1300";
/// What the node calls itself as a router.
const GATEWAYS: [&str; 2] = ["169.254.1.1", "fe80::1"];
const API: [&str; 2] = ["10.0.1.10", "fd00:10:1::10"];

/// A pod on the node, and a host two routers away from it. The daemon runs.
fn long_way(settings: &str) -> Option<(Lab, Pod, Place)> {
    let lab = Lab::new(settings)?;
    for line in [
        "ip netns add far",
        "ip -n world link add eth1 type veth peer name eth0 netns far",
    ] {
        lab.node.must(line);
    }
    let far = Place::inside(&lab.node, "far");
    far.must("ip link set lo up");
    for (place, interface, [v4, v6]) in [(&lab.world, "eth1", WORLD_TO_FAR), (&far, "eth0", FAR)] {
        place.must(&format!(
            "sysctl -q -w net.ipv6.conf.{interface}.accept_dad=0"
        ));
        place.must(&format!("ip link set {interface} mtu {FAR_MTU} up"));
        place.must(&format!("ip address add {v4}/24 dev {interface}"));
        place.must(&format!("ip address add {v6}/64 dev {interface} nodad"));
    }
    lab.world
        .must("sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    // As many as there are probes: what is tested is the way, not the host's patience.
    for place in [&lab.world, &far] {
        place.must("sysctl -q -w net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0");
    }
    for ([world, node], family) in [
        [WORLD_TO_FAR[0], WORLD_ADDRESSES[0]],
        [WORLD_TO_FAR[1], WORLD_ADDRESSES[1]],
    ]
    .into_iter()
    .zip(["-4", "-6"])
    {
        far.must(&format!("ip {family} route add default via {world}"));
        lab.node
            .must(&format!("ip {family} route add default via {node}"));
    }
    let api = lab.pod("backend/api", &["app=backend"], &API);
    lab.start_daemon();
    for address in FAR {
        eventually("the far host answers", || api.can_ping(address));
    }
    Some((lab, api, far))
}

/// What answered, hop by hop.
fn hops(place: &Place, line: &str) -> Vec<String> {
    let ran = place.run(line);
    let hops = ran.stdout.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let number = words.next()?.trim_end_matches([':', '?']);
        let _: u8 = number.parse().ok()?;
        words
            .find(|word| word.contains(['.', ':', '*']))
            .map(|word| word.trim_end_matches("%eth0").to_owned())
    });
    let hops: Vec<String> = hops.collect();
    assert!(!hops.is_empty(), "{line}: {ran:?}");
    hops
}

#[test]
fn traceroute_shows_each_hop_both_ways() {
    let Some((lab, api, far)) = long_way("") else {
        return;
    };
    api.echo_by_tcp(80);
    netns_tests::echo_by_tcp(&far, 80);
    // One probe at a time: answers that are not in order make traceroute wait.
    for kind in ["", "-I", "-T -p 80"] {
        for family in [0, 1] {
            let there = format!("traceroute -n -q 1 -w 3 -N 1 -m 6 {kind} {}", FAR[family]);
            assert_eq!(
                hops(&api.place, &there),
                [GATEWAYS[family], WORLD_ADDRESSES[family], FAR[family]],
                "{there}"
            );
            let back = format!("traceroute -n -q 1 -w 3 -N 1 -m 6 {kind} {}", API[family]);
            assert_eq!(
                hops(&far, &back),
                [WORLD_TO_FAR[family], NODE_ADDRESSES[family], API[family]],
                "{back}"
            );
        }
    }
    assert_eq!(lab.status().dropped("icmp_error_unrelated"), 0);
}

#[test]
fn traceroute_between_pods_shows_the_node() {
    let Some((lab, api, _far)) = long_way("") else {
        return;
    };
    let web = lab.pod(
        "frontend/web",
        &["app=frontend"],
        &["10.0.1.11", "fd00:10:1::11"],
    );
    api.echo_by_tcp(80);
    for kind in ["", "-I", "-T -p 80"] {
        for family in [0, 1] {
            let line = format!("traceroute -n -q 1 -w 3 -N 1 -m 6 {kind} {}", API[family]);
            assert_eq!(
                hops(&web.place, &line),
                [GATEWAYS[family], API[family]],
                "{line}"
            );
        }
    }
}

#[test]
fn tracepath_finds_the_smallest_link_both_ways() {
    let Some((_lab, api, far)) = long_way("") else {
        return;
    };
    for family in [0, 1] {
        for (place, to, hop) in [
            (&api.place, FAR[family], GATEWAYS[family]),
            (&far, API[family], WORLD_TO_FAR[family]),
        ] {
            let ran = place.run(&format!("tracepath -n -m 6 {to}"));
            let said = &ran.stdout;
            assert!(said.contains("Resume: pmtu 1300 hops 3"), "{to}: {ran:?}");
            assert!(said.contains(&format!(" {hop}")), "{to}: {ran:?}");
        }
    }
}

#[test]
fn a_smaller_link_behind_the_uplink_is_told_to_the_pod() {
    let Some((lab, api, _far)) = long_way("") else {
        return;
    };
    let v4 = api.run(&format!("ping -n -c 2 -w 10 -M do -s 1400 {}", FAR[0]));
    assert!(
        v4.stdout.contains("From 192.0.2.2")
            && v4.stdout.contains("Frag needed and DF set (mtu = 1300)"),
        "{v4:?}"
    );
    let v6 = api.run(&format!("ping -n -c 2 -w 10 -M do -s 1400 {}", FAR[1]));
    assert!(
        v6.stdout.contains("From 2001:db8::2") && v6.stdout.contains("Packet too big: mtu=1300"),
        "{v6:?}"
    );
    for address in FAR {
        let route = api.run(&format!("ip route get {address}")).stdout;
        assert!(route.contains("mtu 1300"), "{route}");
    }
    assert_eq!(lab.status().dropped("icmp_error_unrelated"), 0);
}
