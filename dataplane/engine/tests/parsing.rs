//! Frames that are turned away before policy is asked, each with its reason.

mod network;

use network::build::{ACK, FIN, RST, SYN, v4, v6};
use network::*;
use portcullis_engine::{
    Drop, Engine, EngineSettings, Fragment, MacAddress, Outcome, Parsed, parse,
};
use std::net::IpAddr;

fn reason(frame: Vec<u8>) -> Drop {
    Node::new(&[]).reason(CLIENT, frame)
}

fn udp() -> Vec<u8> {
    v4(CLIENT, SERVER).udp((1000, 2000), b"payload")
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn every_shortened_frame_is_truncated() {
    let packets = [
        udp(),
        v4(CLIENT, SERVER).tcp((1, 2), SYN, b"x"),
        v4(CLIENT, SERVER).echo(true, 1),
        v4(CLIENT, SERVER).sctp((1, 2), b""),
        v6(CLIENT, SERVER).udp((1, 2), b"x"),
        v6(CLIENT, SERVER)
            .options(60, &[17, 0, 1, 4, 0, 0, 0, 0])
            .udp((1, 2), b"x"),
    ];
    for packet in packets {
        for length in 0..packet.len() {
            let frame = packet[..length].to_vec();
            assert_eq!(reason(frame), Drop::Truncated, "{length} of {packet:x?}");
        }
    }
}

#[test]
fn a_datagram_that_overstates_its_length_is_malformed() {
    let mut frame = udp();
    frame[14 + 20 + 5] += 1;
    assert_eq!(reason(frame), Drop::Malformed);
}

#[test]
fn a_broken_ipv4_header_is_malformed() {
    let mut bad_checksum = udp();
    bad_checksum[14 + 10] ^= 1;
    let mut bad_version = udp();
    bad_version[14] = 0x55;
    let mut short_header = udp();
    short_header[14] = 0x44;
    let mut total_too_small = udp();
    total_too_small[16..18].copy_from_slice(&[0, 19]);
    for frame in [bad_checksum, bad_version, short_header, total_too_small] {
        assert_eq!(reason(frame), Drop::Malformed);
    }
}

#[test]
fn a_broken_ipv6_header_chain_is_malformed() {
    let mut bad_version = v6(CLIENT, SERVER).udp((1, 2), b"x");
    bad_version[14] = 0x40;
    let hop_by_hop_second = v6(CLIENT, SERVER)
        .options(60, &[0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0])
        .udp((1, 2), b"x");
    let two_fragment_headers = v6(CLIENT, SERVER)
        .options(44, &[44, 0, 0, 1, 0, 0, 0, 1, 17, 0, 0, 1, 0, 0, 0, 1])
        .udp((1, 2), b"x");
    let mut nine = [60, 0, 1, 4, 0, 0, 0, 0].repeat(9);
    nine[64] = 17;
    let too_many = v6(CLIENT, SERVER).options(60, &nine).udp((1, 2), b"x");
    for frame in [
        bad_version,
        hop_by_hop_second,
        two_fragment_headers,
        too_many,
    ] {
        assert_eq!(reason(frame), Drop::Malformed);
    }
}

#[test]
fn options_and_extension_headers_that_are_in_order_pass() {
    let frames = [
        v4(CLIENT, SERVER)
            .options(0, &[1, 7, 3, 0])
            .udp((1, 2), b"x"),
        v6(CLIENT, SERVER)
            .options(0, &[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0])
            .udp((1, 2), b"x"),
        // A routing header that has done its work, an atomic fragment.
        v6(CLIENT, SERVER)
            .options(43, &[17, 0, 3, 0, 0, 0, 0, 0])
            .udp((1, 2), b"x"),
        v6(CLIENT, SERVER)
            .options(44, &[17, 0, 0, 0, 0, 0, 0, 1])
            .udp((1, 2), b"x"),
    ];
    for frame in frames {
        Node::new(&[]).delivered(CLIENT, SERVER, frame);
    }
}

#[test]
fn source_routes_are_refused_in_both_families() {
    let loose = v4(CLIENT, SERVER)
        .options(0, &[1, 131, 7, 4, 10, 0, 0, 4])
        .udp((1, 2), b"x");
    let strict = v4(CLIENT, SERVER)
        .options(0, &[137, 7, 4, 10, 0, 0, 4, 0])
        .udp((1, 2), b"x");
    let routing = v6(CLIENT, SERVER)
        .options(43, &[17, 0, 0, 1, 0, 0, 0, 0])
        .udp((1, 2), b"x");
    for frame in [loose, strict, routing] {
        assert_eq!(reason(frame), Drop::SourceRouted);
    }
}

#[test]
fn a_broken_option_is_malformed() {
    for options in [[7, 1, 0, 0], [7, 9, 0, 0], [1, 1, 1, 7]] {
        let frame = v4(CLIENT, SERVER).options(0, &options).udp((1, 2), b"x");
        assert_eq!(reason(frame), Drop::Malformed);
    }
}

#[test]
fn contradicting_tcp_flags_are_malformed() {
    for flags in [SYN | FIN, SYN | RST, SYN | FIN | ACK] {
        let frame = v4(CLIENT, SERVER).tcp((1, 2), flags, b"");
        assert_eq!(reason(frame), Drop::Malformed);
    }
}

#[test]
fn a_tcp_header_that_ends_before_its_fields_is_malformed() {
    let mut frame = v4(CLIENT, SERVER).tcp((1, 2), SYN, b"");
    frame[14 + 20 + 12] = 0x40;
    assert_eq!(reason(frame), Drop::Malformed);
}

#[test]
fn tags_and_other_ethertypes_are_refused() {
    for (ethertype, expected) in [
        ([0x81, 0x00], Drop::VlanTagged),
        ([0x88, 0xa8], Drop::VlanTagged),
        ([0x91, 0x00], Drop::VlanTagged),
        ([0x88, 0xcc], Drop::EthertypeUnknown),
        ([0x00, 0x2e], Drop::EthertypeUnknown),
    ] {
        let mut frame = udp();
        frame[12..14].copy_from_slice(&ethertype);
        assert_eq!(reason(frame), expected);
    }
}

#[test]
fn other_protocols_and_the_icmp_of_the_other_family_are_unknown() {
    for protocol in [0, 2, 47, 50, 51, 58, 255] {
        let frame = v4(CLIENT, SERVER).network(protocol, &[0; 20]);
        assert_eq!(reason(frame), Drop::ProtocolUnknown, "{protocol}");
    }
    for protocol in [1, 47, 50, 51, 59] {
        let frame = v6(CLIENT, SERVER).network(protocol, &[0; 20]);
        assert_eq!(reason(frame), Drop::ProtocolUnknown, "{protocol}");
    }
}

#[test]
fn multicast_broadcast_and_dhcp_are_not_forwarded() {
    let to = |destination| v4(CLIENT, SERVER).destination(address(destination));
    assert_eq!(
        reason(to("224.0.0.251").udp((5353, 5353), b"")),
        Drop::Multicast
    );
    assert_eq!(
        reason(to("255.255.255.255").udp((9, 9), b"")),
        Drop::Multicast
    );
    let six = v6(CLIENT, SERVER).destination(address("ff02::fb"));
    assert_eq!(reason(six.udp((5353, 5353), b"")), Drop::Multicast);
    let in_group_frame = v4(CLIENT, SERVER).destination_mac(MacAddress::BROADCAST);
    assert_eq!(reason(in_group_frame.udp((1, 2), b"")), Drop::Multicast);
    let discover = to("255.255.255.255").source(address("0.0.0.0"));
    assert_eq!(reason(discover.udp((68, 67), b"")), Drop::Dhcp);
    let solicit = six.destination(address("ff02::1:2"));
    assert_eq!(reason(solicit.udp((546, 547), b"")), Drop::Dhcp);
    // Multicast listener reports come from the link-local address.
    let report = v6(CLIENT, SERVER)
        .source(address("fe80::2"))
        .destination(address("ff02::16"))
        .options(0, &[58, 0, 5, 2, 0, 0, 1, 0]);
    assert_eq!(reason(report.icmp(143, 0, [0; 4], b"")), Drop::Multicast);
}

#[test]
fn destinations_that_no_wire_may_carry_are_invalid() {
    for destination in ["127.0.0.1", "0.0.0.0", "0.1.2.3", "240.0.0.1"] {
        let frame = v4(CLIENT, SERVER)
            .destination(address(destination))
            .udp((1, 2), b"");
        assert_eq!(reason(frame), Drop::DestinationInvalid, "{destination}");
    }
    for destination in ["::1", "::", "fe80::9", "::ffff:10.0.0.3", "::10.0.0.3"] {
        let frame = v6(CLIENT, SERVER)
            .destination(address(destination))
            .udp((1, 2), b"");
        assert_eq!(reason(frame), Drop::DestinationInvalid, "{destination}");
    }
}

#[test]
fn a_foreign_source_address_is_spoofed() {
    for source in [
        "10.0.0.3",
        "10.0.0.99",
        "8.8.8.8",
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
    ] {
        let frame = v4(CLIENT, SERVER).source(address(source)).udp((1, 2), b"");
        assert_eq!(reason(frame), Drop::SourceAddressSpoofed, "{source}");
    }
    for source in ["fd00::3", "fe80::2", "::", "::ffff:10.0.0.2"] {
        let frame = v6(CLIENT, SERVER).source(address(source)).udp((1, 2), b"");
        assert_eq!(reason(frame), Drop::SourceAddressSpoofed, "{source}");
    }
}

#[test]
fn a_foreign_mac_address_is_spoofed() {
    let frame = v4(CLIENT, SERVER).source_mac(mac(3)).udp((1, 2), b"");
    assert_eq!(reason(frame), Drop::SourceMacSpoofed);
    let group = v4(UPLINK, SERVER).source_mac(MacAddress([1, 0, 0, 0, 0, 1]));
    let mut node = Node::new(&[]);
    assert_eq!(
        node.reason(UPLINK, group.udp((1, 2), b"")),
        Drop::SourceMacSpoofed
    );
}

#[test]
fn a_frame_for_another_mac_address_is_not_ours() {
    let frame = v4(CLIENT, SERVER).destination_mac(mac(77)).udp((1, 2), b"");
    assert_eq!(reason(frame), Drop::DestinationMacForeign);
}

#[test]
fn the_uplink_cannot_speak_for_pods_or_node() {
    let mut node = Node::new(&[]);
    for source in ["10.0.0.2", "10.0.0.1", "fd00::2"] {
        let source = address(source);
        let build = if source.is_ipv4() {
            v4(UPLINK, SERVER)
        } else {
            v6(UPLINK, SERVER)
        };
        let frame = build.source(source).udp((1, 2), b"");
        assert_eq!(
            node.reason(UPLINK, frame),
            Drop::SourceAddressSpoofed,
            "{source}"
        );
    }
    for source in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"] {
        let frame = v4(UPLINK, SERVER).source(address(source)).udp((1, 2), b"");
        assert_eq!(node.reason(UPLINK, frame), Drop::SourceInvalid, "{source}");
    }
    let frame = v6(UPLINK, SERVER)
        .source(address("fe80::1"))
        .udp((1, 2), b"");
    assert_eq!(node.reason(UPLINK, frame), Drop::SourceInvalid);
}

#[test]
fn the_host_speaks_for_itself_and_forwards_for_strangers_but_not_for_pods() {
    let mut node = Node::new(&[DENY_ALL]);
    node.delivered(HOST, SERVER, v4(HOST, SERVER).udp((1, 2), b""));
    let as_pod = v4(HOST, SERVER)
        .source(address("10.0.0.2"))
        .udp((1, 2), b"");
    assert_eq!(node.reason(HOST, as_pod), Drop::SourceAddressSpoofed);
    // Forwarded by the host: judged as who sent it, not as the host.
    let forwarded = v4(HOST, SERVER)
        .source(address("198.51.100.9"))
        .udp((1, 2), b"");
    assert_eq!(node.reason(HOST, forwarded), Drop::PolicyDenied);
}

#[test]
fn what_hangs_on_behind_a_long_packet_is_malformed() {
    let frame = v4(CLIENT, SERVER).padding(20).udp((1, 2), &[0; 5000]);
    assert_eq!(reason(frame), Drop::Malformed);
}

#[test]
fn a_pod_cannot_reach_itself_over_the_wire() {
    let frame = v4(CLIENT, CLIENT).udp((1, 2), b"");
    assert_eq!(reason(frame), Drop::NoRoute);
}

#[test]
fn a_head_without_room_for_an_answer_drops_it() {
    let mut engine = Engine::new(EngineSettings::default(), (1, 2));
    engine.adopt(std::sync::Arc::new(snapshot(&[], 1)));
    let mut bytes = v4(CLIENT, SERVER).hops(1).udp((1, 2), b"");
    let head_length = bytes.len();
    let mut frame = portcullis_engine::FrameBytes {
        head: &mut bytes,
        head_length,
        tail: &[],
    };
    let outcome = engine.egress(CLIENT, &mut frame, LATER, &mut Vec::new());
    assert_eq!(outcome, Outcome::Drop(Drop::TtlExceeded));
}

#[test]
fn what_a_fragment_says_of_itself_is_read_in_both_families() {
    let read = |mut frame: Vec<u8>| match with_frame(&mut frame, |frame| parse(frame)) {
        Ok(Parsed::Ip(packet)) => packet.fragment,
        other => panic!("{other:?}"),
    };
    let fragment = |identification, offset, length, is_last| {
        Some(Fragment {
            identification,
            offset,
            length,
            is_last,
        })
    };
    let four = |bits: u16| v4(CLIENT, SERVER).fragment(bits);
    let six = |bits: u16| {
        let [high, low] = bits.to_be_bytes();
        let header = [17, 0, high, low, 1, 2, 3, 4];
        v6(CLIENT, SERVER).options(44, &header)
    };
    assert_eq!(read(udp()), None);
    assert_eq!(read(six(0).udp((1, 2), b"atomic")), None);
    let first = four(0x2000).udp((1, 2), &[7; 56]);
    assert_eq!(read(first), fragment(0x1234, 0, 64, false));
    let last = four(0x1fff).network(17, &[7; 3]);
    assert_eq!(read(last), fragment(0x1234, 65_528, 3, true));
    let first = six(1).udp((1, 2), &[7; 56]);
    assert_eq!(read(first), fragment(0x0102_0304, 0, 64, false));
    let middle = six(16 | 1).network(17, &[7; 8]);
    assert_eq!(read(middle), fragment(0x0102_0304, 16, 8, false));
    // What stands before the fragment header is of the packet, what stands behind of the datagram.
    let options = [
        44, 0, 1, 4, 0, 0, 0, 0, 60, 0, 0, 1, 0, 0, 0, 5, 17, 0, 1, 4, 0, 0, 0, 0,
    ];
    let first = v6(CLIENT, SERVER)
        .options(60, &options)
        .udp((1, 2), &[7; 8]);
    assert_eq!(read(first), fragment(5, 0, 24, false));
}

#[test]
fn a_fragment_that_leaves_a_gap_or_is_empty_or_reaches_too_far_is_malformed() {
    let frames = |bits: u16, body: &[u8]| {
        let [high, low] = (((bits & 0x1fff) << 3) | (bits >> 13)).to_be_bytes();
        let header = [17, 0, high, low, 0, 0, 0, 1];
        [
            v4(CLIENT, SERVER).fragment(bits).network(17, body),
            v6(CLIENT, SERVER).options(44, &header).network(17, body),
        ]
    };
    let broken = [
        frames(0x2000, &[0, 1, 0, 2, 0, 9, 0, 0, 7]),
        frames(0x2002, &[7; 9]),
        frames(0x2002, &[]),
        frames(0x0002, &[]),
        frames(0x1fff, &[7; 8]),
        frames(0x3fff, &[7; 8]),
    ];
    for frame in broken.into_iter().flatten() {
        assert_eq!(reason(frame), Drop::Malformed);
    }
}

#[test]
fn a_first_fragment_without_its_whole_header_is_tiny_and_so_is_one_that_begins_in_it() {
    let first = v4(CLIENT, SERVER).fragment(0x2000);
    let six = |next: u8| v6(CLIENT, SERVER).options(44, &[next, 0, 0, 1, 0, 0, 0, 1]);
    // The TCP header says 40 bytes.
    let mut long = vec![0; 24];
    long[12] = 0xa0;
    let later = |bits: u16| v4(CLIENT, SERVER).fragment(bits).network(6, &[7; 64]);
    let frames = [
        first.network(6, &[0; 16]),
        first.network(6, &long),
        first.network(132, &[0; 8]),
        six(6).network(6, &[0; 16]),
        // A chain of headers that goes on in the next fragment.
        six(60).network(17, &[17, 1, 1, 12, 0, 0, 0, 0]),
        later(0x2001),
        later(0x0001),
        later(0x2002),
    ];
    for frame in frames {
        assert_eq!(reason(frame), Drop::FragmentTiny);
    }
}
