//! What the gateway answers itself: ARP, neighbour discovery, ICMP errors.

mod network;

use network::build::{Build, arp, has_valid_checksums, quote, v4, v6};
use network::*;
use portcullis_engine::{
    Drop, EngineSettings, ExitPlan, MacAddress, RecordKind, SOLICITATION_LENGTH_MAX, solicit,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const NOBODY: MacAddress = MacAddress([0; 6]);
const ASKED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);

fn request(sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let link = (CLIENT_PARTY.mac, MacAddress::BROADCAST);
    arp(1, link, (CLIENT_PARTY.mac, sender), (NOBODY, target))
}

fn answered(frame: Vec<u8>) -> End {
    End::Answered {
        to: CLIENT,
        frame,
        reason: None,
    }
}

#[test]
fn arp_is_answered_for_every_address_but_the_askers_own() {
    let mut node = Node::new(&[]);
    let own = gateway_mac(CLIENT);
    for target in [
        ASKED,
        SERVER_PARTY.v4,
        GATEWAY_V4,
        Ipv4Addr::new(8, 8, 8, 8),
    ] {
        let reply = arp(
            2,
            (own, CLIENT_PARTY.mac),
            (own, target),
            (CLIENT_PARTY.mac, CLIENT_PARTY.v4),
        );
        let sent = node.send(CLIENT, request(CLIENT_PARTY.v4, target));
        assert_eq!(sent, answered(reply));
    }
    assert_eq!(node.records, vec![]);
}

#[test]
fn arp_probes_announcements_and_replies_are_not_answered() {
    let mut node = Node::new(&[]);
    let own = CLIENT_PARTY.v4;
    let reply = arp(
        2,
        (CLIENT_PARTY.mac, gateway_mac(CLIENT)),
        (CLIENT_PARTY.mac, own),
        (gateway_mac(CLIENT), GATEWAY_V4),
    );
    let frames = [
        request(Ipv4Addr::UNSPECIFIED, own),
        request(own, own),
        request(own, Ipv4Addr::new(127, 0, 0, 1)),
        request(own, Ipv4Addr::new(224, 0, 0, 1)),
        reply,
    ];
    for frame in frames {
        assert_eq!(node.reason(CLIENT, frame), Drop::ArpUnanswered);
    }
}

#[test]
fn arp_for_a_foreign_address_or_from_a_foreign_mac_is_refused() {
    let mut node = Node::new(&[]);
    let foreign = request(SERVER_PARTY.v4, ASKED);
    assert_eq!(node.reason(CLIENT, foreign), Drop::ArpInvalid);
    let link = (CLIENT_PARTY.mac, MacAddress::BROADCAST);
    let sender_differs = arp(1, link, (mac(9), CLIENT_PARTY.v4), (NOBODY, ASKED));
    assert_eq!(node.reason(CLIENT, sender_differs), Drop::SourceMacSpoofed);
    let link = (mac(9), MacAddress::BROADCAST);
    let frame_differs = arp(1, link, (mac(9), CLIENT_PARTY.v4), (NOBODY, ASKED));
    assert_eq!(node.reason(CLIENT, frame_differs), Drop::SourceMacSpoofed);
}

#[test]
fn arp_of_other_kinds_is_invalid() {
    for (offset, value) in [(15, 6), (16, 0x86), (18, 8), (19, 16), (21, 3), (21, 0)] {
        let mut frame = request(CLIENT_PARTY.v4, ASKED);
        frame[offset] = value;
        assert_eq!(Node::new(&[]).reason(CLIENT, frame), Drop::ArpInvalid);
    }
    let short = request(CLIENT_PARTY.v4, ASKED)[..41].to_vec();
    assert_eq!(Node::new(&[]).reason(CLIENT, short), Drop::Truncated);
}

#[test]
fn on_the_uplink_only_pods_are_answered_for() {
    let mut node = Node::new(&[]);
    let ask = |target| {
        let link = (WORLD_PARTY.mac, MacAddress::BROADCAST);
        arp(1, link, (WORLD_PARTY.mac, ROUTER_V4), (NOBODY, target))
    };
    let own = gateway_mac(UPLINK);
    let frame = arp(
        2,
        (own, WORLD_PARTY.mac),
        (own, SERVER_PARTY.v4),
        (WORLD_PARTY.mac, ROUTER_V4),
    );
    let expected = End::Answered {
        to: UPLINK,
        frame,
        reason: None,
    };
    assert_eq!(node.send(UPLINK, ask(SERVER_PARTY.v4)), expected);
    assert_eq!(node.reason(UPLINK, ask(HOST_PARTY.v4)), Drop::ArpUnanswered);
    assert_eq!(node.reason(UPLINK, ask(ASKED)), Drop::ArpUnanswered);
    let link = (WORLD_PARTY.mac, MacAddress::BROADCAST);
    let as_pod = arp(
        1,
        link,
        (WORLD_PARTY.mac, CLIENT_PARTY.v4),
        (NOBODY, SERVER_PARTY.v4),
    );
    assert_eq!(node.reason(UPLINK, as_pod), Drop::ArpInvalid);
}

fn solicited_node(target: Ipv6Addr) -> IpAddr {
    let [.., a, b, c] = target.octets();
    let mut group: [u8; 16] = "ff02::1:ff00:0".parse::<Ipv6Addr>().unwrap().octets();
    group[13..].copy_from_slice(&[a, b, c]);
    IpAddr::from(group)
}

/// A neighbour solicitation of the client.
fn solicitation(target: Ipv6Addr) -> Build {
    v6(CLIENT, SERVER)
        .hops(255)
        .destination_mac(MacAddress([0x33, 0x33, 0xff, 0, 0, 0]))
        .destination(solicited_node(target))
}

fn target_and_option(target: Ipv6Addr, option: u8, mac: MacAddress) -> Vec<u8> {
    let mut body = target.octets().to_vec();
    body.extend_from_slice(&[option, 1]);
    body.extend_from_slice(&mac.0);
    body
}

fn advertisement(target: Ipv6Addr, to: IpAddr) -> Vec<u8> {
    let own = gateway_mac(CLIENT);
    v6(CLIENT, SERVER)
        .source_mac(own)
        .destination_mac(CLIENT_PARTY.mac)
        .source(IpAddr::V6(target))
        .destination(to)
        .hops(255)
        .icmp(136, 0, [0xe0, 0, 0, 0], &target_and_option(target, 2, own))
}

#[test]
fn neighbour_solicitations_are_answered_for_every_address_but_the_askers_own() {
    let mut node = Node::new(&[]);
    for target in [SERVER_PARTY.v6, GATEWAY_V6, WORLD_PARTY.v6] {
        for source in [IpAddr::V6(CLIENT_PARTY.v6), "fe80::2".parse().unwrap()] {
            let build = solicitation(target).source(source);
            let body = target_and_option(target, 1, CLIENT_PARTY.mac);
            let expected = answered(advertisement(target, source));
            assert_eq!(
                node.send(CLIENT, build.icmp(135, 0, [0; 4], &body)),
                expected
            );
            // Without the option, as a unicast probe comes: the frame's own MAC is answered.
            let bare = build.icmp(135, 0, [0; 4], &target.octets());
            assert_eq!(node.send(CLIENT, bare), expected);
        }
    }
}

#[test]
fn duplicate_address_detection_is_not_answered() {
    let unspecified = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let probe = solicitation(CLIENT_PARTY.v6).source(unspecified);
    let frame = probe.icmp(135, 0, [0; 4], &CLIENT_PARTY.v6.octets());
    let unanswered = Drop::NeighbourDiscoveryUnanswered;
    assert_eq!(Node::new(&[]).reason(CLIENT, frame), unanswered);
    let own = solicitation(CLIENT_PARTY.v6);
    let frame = own.icmp(135, 0, [0; 4], &CLIENT_PARTY.v6.octets());
    assert_eq!(Node::new(&[]).reason(CLIENT, frame), unanswered);
}

#[test]
fn solicitations_that_break_the_rfc_are_invalid() {
    let target = SERVER_PARTY.v6;
    let body = target_and_option(target, 1, CLIENT_PARTY.mac);
    let good = solicitation(target);
    let mut zero_option = body.clone();
    zero_option[17] = 0;
    let mut long_option = body.clone();
    long_option[17] = 2;
    let mut odd_end = body.clone();
    odd_end.push(0);
    let group = target_and_option("ff02::1".parse().unwrap(), 1, CLIENT_PARTY.mac);
    let unspecified = good.clone().source(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let mut bad_checksum = good.icmp(135, 0, [0; 4], &body);
    bad_checksum[14 + 40 + 2] ^= 1;
    let frames = [
        good.clone().hops(254).icmp(135, 0, [0; 4], &body),
        good.icmp(135, 1, [0; 4], &body),
        good.icmp(135, 0, [0; 4], &body[..15]),
        good.icmp(135, 0, [0; 4], &zero_option),
        good.icmp(135, 0, [0; 4], &long_option),
        good.icmp(135, 0, [0; 4], &odd_end),
        good.icmp(135, 0, [0; 4], &group),
        unspecified.icmp(135, 0, [0; 4], &body),
        good.clone()
            .source("fd00::3".parse().unwrap())
            .icmp(135, 0, [0; 4], &body),
        bad_checksum,
    ];
    for (index, frame) in frames.into_iter().enumerate() {
        let reason = Node::new(&[]).reason(CLIENT, frame);
        assert_eq!(reason, Drop::NeighbourDiscoveryInvalid, "frame {index}");
    }
    let foreign = target_and_option(target, 1, mac(9));
    let frame = good.icmp(135, 0, [0; 4], &foreign);
    assert_eq!(Node::new(&[]).reason(CLIENT, frame), Drop::SourceMacSpoofed);
}

#[test]
fn router_discovery_and_redirects_are_not_answered() {
    let build = solicitation(SERVER_PARTY.v6).destination("ff02::2".parse().unwrap());
    for kind in [133, 134, 137] {
        let frame = build.icmp(kind, 0, [0; 4], &[0; 40]);
        let reason = Node::new(&[]).reason(CLIENT, frame);
        assert_eq!(reason, Drop::NeighbourDiscoveryUnanswered);
    }
}

#[test]
fn an_endpoint_whose_mac_is_unknown_teaches_it_by_speaking_for_its_own_address() {
    let unknown = || {
        let mut snapshot = snapshot(&[], 1);
        snapshot.endpoints[0].as_mut().unwrap().peer_mac = None;
        Node::with(EngineSettings::default(), snapshot)
    };
    let reply = |sender| {
        let own = gateway_mac(CLIENT);
        let link = (CLIENT_PARTY.mac, own);
        arp(
            2,
            link,
            (CLIENT_PARTY.mac, sender),
            (own, Ipv4Addr::UNSPECIFIED),
        )
    };
    let advertise = |target| {
        solicitation(SERVER_PARTY.v6)
            .destination("fe80::ff".parse().unwrap())
            .icmp(
                136,
                0,
                [0x60, 0, 0, 0],
                &target_and_option(target, 2, CLIENT_PARTY.mac),
            )
    };
    for frame in [
        reply(CLIENT_PARTY.v4),
        advertise(CLIENT_PARTY.v6),
        request(CLIENT_PARTY.v4, ASKED),
    ] {
        let mut node = unknown();
        node.send(CLIENT, frame.clone());
        node.send(CLIENT, frame.clone());
        let learned = (node.engine.take_learned(), node.engine.take_learned());
        assert_eq!(learned, (Some((CLIENT, CLIENT_PARTY.mac)), None));
        let mut knowing = Node::new(&[]);
        knowing.send(CLIENT, frame);
        assert_eq!(knowing.engine.take_learned(), None);
    }
    for frame in [reply(SERVER_PARTY.v4), advertise(SERVER_PARTY.v6)] {
        let mut node = unknown();
        node.send(CLIENT, frame);
        assert_eq!(node.engine.take_learned(), None);
    }
}

#[test]
fn a_solicitation_asks_for_the_target() {
    let snapshot = snapshot(&[], 1);
    let client = snapshot.endpoint(CLIENT).unwrap();
    let own = gateway_mac(CLIENT);
    let mut out = [0; SOLICITATION_LENGTH_MAX];
    let length = solicit(client, IpAddr::V4(CLIENT_PARTY.v4), &mut out);
    let expected = arp(
        1,
        (own, MacAddress::BROADCAST),
        (own, Ipv4Addr::UNSPECIFIED),
        (NOBODY, CLIENT_PARTY.v4),
    );
    assert_eq!(out[..length], expected);
    let length = solicit(client, IpAddr::V6(CLIENT_PARTY.v6), &mut out);
    let expected = v6(CLIENT, SERVER)
        .source_mac(own)
        .destination_mac(MacAddress([0x33, 0x33, 0xff, 0, 0, 2]))
        .source("fe80::ff:ff:fe00:0".parse().unwrap())
        .destination(solicited_node(CLIENT_PARTY.v6))
        .hops(255)
        .icmp(135, 0, [0; 4], &target_and_option(CLIENT_PARTY.v6, 1, own));
    assert_eq!(out[..length], expected);
    assert_eq!(
        solicit(client, IpAddr::V6(CLIENT_PARTY.v6), &mut [0; 85]),
        0
    );
    assert_eq!(
        solicit(client, IpAddr::V4(CLIENT_PARTY.v4), &mut [0; 41]),
        0
    );
}

/// The ICMP error that the client gets about a frame of its own.
fn error_about(build: &Build, kind: u8, code: u8, rest: [u8; 4], quoted: &[u8]) -> Vec<u8> {
    let mut error = Build {
        source_mac: gateway_mac(CLIENT),
        destination_mac: CLIENT_PARTY.mac,
        destination: build.source,
        source: IpAddr::V6(GATEWAY_V6),
        identification: 0,
        fragment: 0,
        hops: 64,
        ..build.clone()
    };
    if build.source.is_ipv4() {
        error.source = IpAddr::V4(GATEWAY_V4);
    }
    let mut frame = error.icmp(kind, code, rest, quoted);
    if build.source.is_ipv4() {
        // Internetwork control.
        frame[15] = 0xc0;
        frame[24..26].fill(0);
        let sum = !build::plain_sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    assert!(has_valid_checksums(&frame));
    frame
}

#[test]
fn the_last_hop_is_answered_with_time_exceeded() {
    for (build, kind) in [(v4(CLIENT, SERVER), 11), (v6(CLIENT, SERVER), 3)] {
        for hops in [0, 1] {
            let build = build.clone().hops(hops);
            let frame = build.udp((1, 33_434), b"probe");
            let mut node = Node::new(&[]);
            let expected = End::Answered {
                to: CLIENT,
                frame: error_about(&build, kind, 0, [0; 4], quote(&frame)),
                reason: Some(Drop::TtlExceeded),
            };
            assert_eq!(node.send(CLIENT, frame), expected);
            let kinds: Vec<_> = node.records.iter().map(|record| record.kind).collect();
            assert_eq!(kinds, vec![RecordKind::Drop(Drop::TtlExceeded)]);
        }
    }
}

#[test]
fn the_outside_is_answered_from_an_address_that_routers_forward() {
    let own = [IpAddr::V4(HOST_PARTY.v4), IpAddr::V6(HOST_PARTY.v6)];
    for (build, own) in [v4(UPLINK, SERVER), v6(UPLINK, SERVER)].iter().zip(own) {
        let mut snapshot = snapshot(&[], 1);
        snapshot.exits = Arc::new(ExitPlan {
            node: vec![own],
            ..ExitPlan::default()
        });
        let mut node = Node::with(EngineSettings::default(), snapshot);
        let source = |end| match end {
            End::Answered { frame, .. } if own.is_ipv4() => frame[26..30].to_vec(),
            End::Answered { frame, .. } => frame[22..38].to_vec(),
            end => panic!("{end:?}"),
        };
        let octets = |address| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let late = build.clone().hops(1).udp((1, 33_434), b"probe");
        assert_eq!(source(node.send(UPLINK, late)), octets(own));
        // Pods know the node as their gateway.
        let pod = match own {
            IpAddr::V4(_) => v4(CLIENT, SERVER),
            IpAddr::V6(_) => v6(CLIENT, SERVER),
        };
        let gateway = match own {
            IpAddr::V4(_) => IpAddr::V4(GATEWAY_V4),
            IpAddr::V6(_) => IpAddr::V6(GATEWAY_V6),
        };
        let late = pod.hops(1).udp((1, 33_434), b"probe");
        assert_eq!(source(node.send(CLIENT, late)), octets(gateway));
    }
}

#[test]
fn a_packet_too_big_is_answered_with_the_mtu() {
    let four = v4(CLIENT, UPLINK);
    let frame = four.udp((1, 2), &[7; 4000]);
    let mut node = Node::new(&[]);
    let quoted = &frame[14..14 + 576 - 28];
    let expected = End::Answered {
        to: CLIENT,
        frame: error_about(&four, 3, 4, [0, 0, 0x05, 0xdc], quoted),
        reason: Some(Drop::PacketTooBig),
    };
    assert_eq!(node.send(CLIENT, frame.clone()), expected);
    let six = v6(CLIENT, UPLINK);
    let frame = six.udp((1, 2), &[7; 4000]);
    let quoted = &frame[14..14 + 1280 - 48];
    let expected = End::Answered {
        to: CLIENT,
        frame: error_about(&six, 2, 0, [0, 0, 0x05, 0xdc], quoted),
        reason: Some(Drop::PacketTooBig),
    };
    assert_eq!(node.send(CLIENT, frame.clone()), expected);
    assert_eq!(node.engine.flows_count(), 0);
}

#[test]
fn a_denied_packet_learns_nothing_of_the_way() {
    let frame = v4(CLIENT, UPLINK).udp((1, 2), &[7; 4000]);
    let mut node = Node::new(&[CLIENT_SILENT]);
    assert_eq!(node.reason(CLIENT, frame), Drop::PolicyDenied);
}

#[test]
fn no_error_is_sent_about_an_error() {
    let query = v4(SERVER, CLIENT).udp((1, 2), b"q");
    let error = v4(CLIENT, SERVER).hops(1).icmp(3, 3, [0; 4], quote(&query));
    let mut node = Node::new(&[]);
    assert_eq!(node.reason(CLIENT, error), Drop::TtlExceeded);
}

#[test]
fn errors_are_limited_in_each_second() {
    let settings = EngineSettings {
        icmp_errors_per_second: 2,
        ..EngineSettings::default()
    };
    let mut node = Node::with(settings, snapshot(&[], 1));
    let frame = || v4(CLIENT, SERVER).hops(1).udp((1, 2), b"q");
    for _ in 0..2 {
        for _ in 0..2 {
            assert!(matches!(node.send(CLIENT, frame()), End::Answered { .. }));
        }
        assert_eq!(node.reason(CLIENT, frame()), Drop::TtlExceeded);
        node.wait(1);
    }
}
