//! Who is who: spoofed and unknown addresses, labels that change, addresses that change hands.

use netns_tests::manifests::{ALLOW_FRONTEND, DEFAULT_DENY, egress_policy};
use netns_tests::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Lab, Pod, ethernet, eventually, ipv4, ipv6, send_raw, udp,
    udp_over_ipv6,
};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

const API: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);
const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 11);
const GATEWAY: [u8; 6] = [0xee; 6];

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

fn gets_page(pod: &Pod) -> bool {
    pod.fetch("http://10.0.1.10/").is_some()
}

fn gets_nothing(pod: &Pod) -> bool {
    pod.gets_nothing("http://10.0.1.10/")
}

/// A socket of a pod that hears on UDP port 9.
fn ears(pod: &Pod) -> UdpSocket {
    let socket = pod
        .place
        .call(|| UdpSocket::bind("[::]:9"))
        .expect("the port is free");
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .expect("a timeout");
    socket
}

fn mac(text: &str) -> [u8; 6] {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().expect("bytes");
    bytes.try_into().expect("six of them")
}

fn hears(socket: &UdpSocket) -> bool {
    socket.recv(&mut [0; 64]).is_ok()
}

#[test]
fn a_spoofed_source_is_dropped_and_counted() {
    let Some((lab, api, web)) = two_pods() else {
        return;
    };
    let ears = ears(&api);
    let frame = |mac, source| {
        ethernet(
            mac,
            GATEWAY,
            ETHERTYPE_IPV4,
            &ipv4(source, API, 17, &udp(5000, 9, b"spoof")),
        )
    };
    // The first packet to a pod may have to wait for its MAC address.
    eventually("the honest packet arrives", || {
        web.send_raw(&[frame(web.mac, WEB)]);
        hears(&ears)
    });
    while hears(&ears) {}

    web.send_raw(&[frame(web.mac, Ipv4Addr::new(10, 0, 1, 99))]);
    web.send_raw(&[frame(web.mac, API)]);
    web.send_raw(&[frame(web.mac, Ipv4Addr::new(192, 0, 2, 2))]);
    assert!(!hears(&ears), "a packet with another's address arrived");
    eventually("spoofed addresses are counted", || {
        lab.status().dropped("source_address_spoofed") >= 3
    });
    web.send_raw(&[frame([2, 0, 0, 0, 0, 1], WEB)]);
    assert!(!hears(&ears), "a packet with another's MAC address arrived");
    eventually("spoofed MAC addresses are counted", || {
        lab.status().dropped("source_mac_spoofed") >= 1
    });
}

#[test]
fn a_spoofed_ipv6_source_is_dropped_and_counted() {
    let Some((lab, api, web)) = two_pods() else {
        return;
    };
    let ears = ears(&api);
    let [api_v6, web_v6] = ["fd00:10:1::10", "fd00:10:1::11"].map(|a| a.parse().expect("IPv6"));
    let frame = |source| {
        // In IPv6 a datagram needs its checksum. [RFC 8200 §8.1]
        let datagram = udp_over_ipv6(source, api_v6, (5000, 9), b"spoof");
        let packet = ipv6(source, api_v6, 17, &datagram);
        ethernet(web.mac, GATEWAY, ETHERTYPE_IPV6, &packet)
    };
    eventually("the honest packet arrives", || {
        web.send_raw(&[frame(web_v6)]);
        hears(&ears)
    });
    while hears(&ears) {}
    let spoofed = ["fd00:10:1::99", "fd00:10:1::10", "2001:db8::2"];
    for source in spoofed {
        web.send_raw(&[frame(source.parse().expect("IPv6"))]);
    }
    assert!(!hears(&ears), "a packet with another's address arrived");
    eventually("spoofed addresses are counted", || {
        lab.status().dropped("source_address_spoofed") >= 3
    });
}

#[test]
fn the_world_cannot_pretend_to_be_a_pod_or_the_node() {
    let Some((lab, api, web)) = two_pods() else {
        return;
    };
    let ears = ears(&api);
    let node_mac = lab.node.must("cat /sys/class/net/eth0/address");
    let node_mac = mac(node_mac.trim());
    let world_mac = lab.world.must("ip -o link show dev eth0");
    let world_mac = world_mac.split_once("link/ether ").expect("its MAC").1;
    let world_mac = mac(world_mac.split_once(' ').expect("and more").0);
    let send = |source| {
        let packet = ipv4(source, API, 17, &udp(5000, 9, b"spoof"));
        let frame = ethernet(world_mac, node_mac, ETHERTYPE_IPV4, &packet);
        send_raw(&lab.world, &[frame]);
    };
    eventually("the honest packet arrives", || {
        send(Ipv4Addr::new(192, 0, 2, 2));
        hears(&ears)
    });
    while hears(&ears) {}
    let (node, nobody) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(10, 0, 1, 99));
    for source in [WEB, API, node, nobody] {
        send(source);
    }
    assert!(
        !hears(&ears),
        "a packet from the world with an address of ours arrived"
    );
    eventually("each is counted", || {
        let status = lab.status();
        status.dropped("source_address_spoofed") == 3 && status.dropped("identity_unknown") == 1
    });
    assert!(gets_page(&web));
}

#[test]
fn a_mac_address_that_no_manifest_names_is_learned_and_kept() {
    let Some(lab) = Lab::new("") else { return };
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
    for file in ["pod-backend-api.yaml", "pod-frontend-web.yaml"] {
        lab.edit(file, |yaml| {
            let kept = yaml
                .lines()
                .filter(|line| !line.contains("portcullis.io/mac"));
            kept.collect::<Vec<_>>().join("\n")
        });
    }
    api.serve_pages();
    lab.start_daemon();
    // The server has not said a word: the daemon has to ask for its MAC address.
    assert!(gets_page(&web));
    assert!(web.can_ping("fd00:10:1::10") && api.can_ping("fd00:10:1::11"));
    let before = lab.status().dropped("source_mac_spoofed");
    let packet = ipv4(WEB, API, 17, &udp(5000, 9, b"another"));
    web.send_raw(&[ethernet(
        [2, 0, 0, 0, 0, 1],
        GATEWAY,
        ETHERTYPE_IPV4,
        &packet,
    )]);
    eventually("another MAC address is spoofed from then on", || {
        lab.status().dropped("source_mac_spoofed") > before
    });
    assert!(gets_page(&web));
}

#[test]
fn an_address_that_is_nobodys_gets_nothing() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    for address in ["10.0.1.99", "fd00:10:1::99"] {
        assert!(web.cannot_ping(address), "{address}");
    }
    eventually("unknown identities are counted", || {
        lab.status().dropped("identity_unknown") >= 2
    });
    let dropped = lab.observe("--verdict DROPPED --pod frontend/web");
    assert!(dropped.contains("10.0.1.99"), "{dropped}");
}

#[test]
fn egress_default_deny_keeps_a_pod_in() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    assert!(gets_page(&web) && web.can_ping("fd00:10:1::10"));
    lab.apply("in.yaml", &egress_policy("frontend", "stay-in", "  - {}"));
    assert!(gets_nothing(&web) && web.cannot_ping("10.0.1.10") && web.cannot_ping("fd00:10:1::10"));
    let dropped = lab.observe("--verdict DROPPED --pod frontend/web");
    assert!(dropped.contains("stay-in"), "{dropped}");

    let to_backend = "  - toEndpoints:\n    - matchLabels:\n        app: backend\n        \
                      k8s:io.kubernetes.pod.namespace: backend\n    toPorts:\n    - ports:\n      - \
                      port: \"80\"\n        protocol: TCP";
    lab.apply("in.yaml", &egress_policy("frontend", "stay-in", to_backend));
    assert!(gets_page(&web) && web.cannot_ping("10.0.1.10"));
}

#[test]
fn a_label_that_changes_changes_the_verdict() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    lab.apply(
        "policies.yaml",
        &format!("{DEFAULT_DENY}\n---\n{ALLOW_FRONTEND}"),
    );
    assert!(gets_page(&web));
    let relabel = |from: &str, to: &str| {
        let (from, to) = (format!("app: \"{from}\""), format!("app: \"{to}\""));
        lab.edit("pod-frontend-web.yaml", |yaml| yaml.replace(&from, &to));
    };
    relabel("frontend", "batch");
    assert!(gets_nothing(&web));
    relabel("batch", "frontend");
    assert!(gets_page(&web));
}

#[test]
fn an_address_that_changes_hands_does_not_carry_rights_along() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    lab.apply(
        "policies.yaml",
        &format!("{DEFAULT_DENY}\n---\n{ALLOW_FRONTEND}"),
    );
    assert!(gets_page(&web));
    lab.remove_pod(web);
    let next = lab.pod(
        "frontend/next",
        &["app=batch"],
        &["10.0.1.11", "fd00:10:1::11"],
    );
    assert!(
        gets_nothing(&next),
        "the next pod has the address, not the label"
    );
    lab.remove_pod(next);
    let heir = lab.pod(
        "frontend/heir",
        &["app=frontend"],
        &["10.0.1.11", "fd00:10:1::11"],
    );
    assert!(gets_page(&heir));
}

#[test]
fn a_pod_that_is_not_known_to_the_daemon_is_cut_off() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    assert!(gets_page(&web));
    lab.remove("pod-frontend-web.yaml");
    assert!(
        gets_nothing(&web),
        "its manifest is gone, its interface is not"
    );
}
