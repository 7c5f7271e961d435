//! The node's way out and the node itself: world and host as peers of pods.

use netns_tests::manifests::{DEFAULT_DENY, egress_policy};
use netns_tests::{
    Lab, NODE_ADDRESSES, Place, Pod, WORLD_ADDRESSES, counter, eventually, fetch, gets_nothing,
    serve_pages,
};
use std::net::{IpAddr, SocketAddr};

fn one_pod(more: &[&str]) -> Option<(Lab, Pod)> {
    let lab = Lab::new("")?;
    let addresses = ["10.0.1.10", "fd00:10:1::10"];
    let api = lab.pod_with("backend/api", &["app=backend"], &addresses, more);
    lab.start_daemon();
    // The first packet makes the node ask for its neighbour's MAC address, and waits for it.
    for address in WORLD_ADDRESSES {
        eventually("the neighbour on the uplink is known", || {
            api.can_ping(address)
        });
    }
    Some((lab, api))
}

#[test]
fn the_first_packet_to_a_neighbour_waits_until_it_is_found() {
    let Some(lab) = Lab::new("") else { return };
    let api = lab.pod("backend/api", &[], &["10.0.1.10", "fd00:10:1::10"]);
    lab.start_daemon();
    for address in WORLD_ADDRESSES {
        let once = api.run(&format!("ping -n -c 1 -W 5 {address}"));
        assert!(once.is_success, "{address}: {once:?}");
    }
    assert_eq!(lab.status().dropped("neighbour_unknown"), 0);
    // Who is not there is given up after a second, and told of once for each packet.
    let nobody = api.run("ping -n -c 1 -W 1 192.0.2.77");
    assert!(!nobody.is_success, "{nobody:?}");
    eventually("it is told", || {
        lab.status().dropped("neighbour_unknown") == 1
    });
}

fn checksum_errors(place: &Place) -> u64 {
    counter(place, "TcpInCsumErrors")
}

#[test]
fn a_pod_and_the_world_reach_each_other() {
    let Some((lab, api)) = one_pod(&[]) else {
        return;
    };
    api.serve_pages();
    serve_pages(&lab.world, "world", 80);
    for host in ["192.0.2.2", "[2001:db8::2]"] {
        assert_eq!(
            api.fetch(&format!("http://{host}/")),
            Some("page of world\n".into())
        );
    }
    for host in ["10.0.1.10", "[fd00:10:1::10]"] {
        let page = fetch(&lab.world, &format!("http://{host}/"));
        assert_eq!(page, Some("page of backend/api\n".into()), "{host}");
    }
    for address in WORLD_ADDRESSES {
        assert!(api.can_ping(address), "{address}");
    }
}

#[test]
fn large_segments_cross_the_uplink_both_ways_without_a_bad_checksum() {
    let Some((lab, api)) = one_pod(&[]) else {
        return;
    };
    api.serve_pages();
    serve_pages(&lab.world, "world", 80);
    let curl = "curl --silent --show-error --globoff --noproxy * --max-time 30 --output";
    for (place, hosts, served) in [
        (
            &api.place,
            ["192.0.2.2", "[2001:db8::2]"],
            "/run/nginx-world-80/pages/big",
        ),
        (
            &lab.world,
            ["10.0.1.10", "[fd00:10:1::10]"],
            "/run/nginx-backend-api-80/pages/big",
        ),
    ] {
        for host in hosts {
            place.must(&format!("{curl} /run/big http://{host}/big"));
            place.must(&format!("cmp /run/big {served}"));
        }
    }
    let errors = [&api.place, &lab.world, &lab.node].map(checksum_errors);
    assert_eq!(errors, [0, 0, 0], "TcpInCsumErrors of pod, world, node");
    let segments = lab.status().of_workers("segments");
    assert!(
        segments > 1000,
        "the pod's large segments were cut for the uplink: {segments}"
    );
}

#[test]
fn large_segments_cross_between_pods_without_a_bad_checksum() {
    let Some((lab, api)) = one_pod(&[]) else {
        return;
    };
    let web = lab.pod(
        "frontend/web",
        &["app=frontend"],
        &["10.0.1.11", "fd00:10:1::11"],
    );
    api.serve_pages();
    for host in ["10.0.1.10", "[fd00:10:1::10]"] {
        web.place.must(&format!(
            "curl --silent --show-error --globoff --noproxy * --max-time 30 --output /run/big \
             http://{host}/big"
        ));
        web.place
            .must("cmp /run/big /run/nginx-backend-api-80/pages/big");
    }
    assert_eq!([&api.place, &web.place].map(checksum_errors), [0, 0]);
}

#[test]
fn the_node_reaches_its_pods_through_default_deny_and_the_world_does_not() {
    let Some((lab, api)) = one_pod(&[]) else {
        return;
    };
    api.serve_pages();
    lab.apply("default-deny.yaml", DEFAULT_DENY);
    for host in ["10.0.1.10", "[fd00:10:1::10]"] {
        let url = format!("http://{host}/");
        let probe = fetch(&lab.node, &url);
        assert_eq!(
            probe,
            Some("page of backend/api\n".into()),
            "kubelet's probe of {host}"
        );
        assert!(gets_nothing(&lab.world, &url), "{host}");
    }
}

#[test]
fn a_pod_reaches_the_node_as_entity_host_and_the_world_as_entity_world() {
    let Some((lab, api)) = one_pod(&[]) else {
        return;
    };
    serve_pages(&lab.node, "node", 80);
    serve_pages(&lab.world, "world", 80);
    let assert_reach = |why: &str, expected: [[bool; 2]; 2]| {
        for (addresses, expected) in [NODE_ADDRESSES, WORLD_ADDRESSES].iter().zip(expected) {
            for (address, is_reached) in addresses.iter().zip(expected) {
                let address: IpAddr = address.parse().expect("an address");
                let url = format!("http://{}/", SocketAddr::from((address, 80)));
                let is_so = if is_reached {
                    api.fetch(&url).is_some()
                } else {
                    api.gets_nothing(&url)
                };
                assert!(is_so, "{why}: {url} expected reached: {is_reached}");
            }
        }
    };
    assert_reach("no policy", [[true; 2], [true; 2]]);
    for (rule, expected) in [
        ("toEntities: [world]", [[false; 2], [true; 2]]),
        ("toEntities: [host]", [[true; 2], [false; 2]]),
        ("toCIDR: [192.0.2.2/32]", [[false; 2], [true, false]]),
    ] {
        lab.apply(
            "out.yaml",
            &egress_policy("backend", "out", &format!("  - {rule}")),
        );
        assert_reach(rule, expected);
    }
}

#[test]
fn the_node_stays_reachable_on_its_uplink() {
    let Some((lab, _api)) = one_pod(&[]) else {
        return;
    };
    serve_pages(&lab.node, "node", 80);
    for host in ["192.0.2.1", "[2001:db8::1]"] {
        let page = fetch(&lab.world, &format!("http://{host}/"));
        assert_eq!(page, Some("page of node\n".into()), "{host}");
    }
    lab.kill_daemon();
    let page = fetch(&lab.world, "http://192.0.2.1/");
    assert_eq!(page, Some("page of node\n".into()), "even without a daemon");
}

#[test]
fn a_time_to_live_that_runs_out_is_told() {
    let Some((lab, api)) = one_pod(&[]) else {
        return;
    };
    let v4 = api.run("ping -n -c 1 -w 10 -t 1 192.0.2.2");
    assert!(v4.stdout.contains("Time to live exceeded"), "{v4:?}");
    let v6 = api.run("ping -n -c 1 -w 10 -t 1 2001:db8::2");
    assert!(v6.stdout.contains("Time exceeded: Hop limit"), "{v6:?}");
    assert!(lab.status().dropped("ttl_exceeded") >= 2);
}

#[test]
fn a_packet_too_big_for_the_uplink_is_told() {
    // The pod believes in 9000 bytes; the uplink has 1500.
    let Some((lab, api)) = one_pod(&["--mtu", "9000"]) else {
        return;
    };
    let v4 = api.run("ping -n -c 1 -w 10 -M do -s 2000 192.0.2.2");
    assert!(
        v4.stdout.contains("Frag needed and DF set (mtu = 1500)"),
        "{v4:?}"
    );
    let v6 = api.run("ping -n -c 1 -w 10 -M do -s 2000 2001:db8::2");
    assert!(v6.stdout.contains("Packet too big: mtu=1500"), "{v6:?}");
    assert!(lab.status().dropped("packet_too_big") >= 2);
}
