//! The kernel program's decision on frames, without a kernel.

mod frames;

use frames::{
    Bytes, EXTERNAL, HOST, POD, Packet, SHARED, WHOLE, echo_reply, echo_request, error, fragment,
    node, quote, sctp, tcp, udp,
};
use std::net::IpAddr;
use xdp_redirect::{Owner, owner};

fn owner_of(packet: &Packet) -> Owner {
    owner(&Bytes(&packet.frame()), &node())
}

/// What a packet is called, the packet by IP version, and whose it is.
type Case = (&'static str, fn(usize) -> Packet, Owner);

/// Asserts of each packet, in both IP versions, that it is whose it should be.
fn assert_owners(cases: &[Case]) {
    for (name, packet, expected) in cases {
        for version in [0, 1] {
            let found = owner_of(&packet(version));
            assert_eq!(found, *expected, "{name}, {}", ["IPv4", "IPv6"][version]);
        }
    }
}

#[test]
fn a_pod_is_ours_by_its_address_alone() {
    assert_owners(&[
        ("to a pod", |v| udp(POD[v], 53), Owner::Us),
        ("a ping", |v| echo_request(POD[v], 7), Owner::Us),
        (
            "a later fragment",
            |v| fragment(udp(POD[v], 53), 8),
            Owner::Us,
        ),
        ("to the node", |v| udp(HOST[v], 30_080), Owner::Host),
        ("a ping of it", |v| echo_reply(HOST[v], 62_000), Owner::Host),
    ]);
}

#[test]
fn a_frontend_is_ours_by_address_protocol_and_port() {
    assert_owners(&[
        ("TCP", |v| tcp(SHARED[v], 30_080), Owner::Us),
        ("UDP", |v| udp(SHARED[v], 30_080), Owner::Us),
        ("SCTP", |v| sctp(SHARED[v], 30_080), Owner::Us),
        ("the next port", |v| tcp(SHARED[v], 30_081), Owner::Host),
        ("SSH", |v| tcp(SHARED[v], 22), Owner::Host),
        ("external", |v| tcp(EXTERNAL[v], 443), Owner::Us),
        ("another protocol", |v| udp(EXTERNAL[v], 443), Owner::Host),
        ("another address", |v| tcp(HOST[v], 443), Owner::Host),
        (
            "no egress address",
            |v| udp(EXTERNAL[v], 62_000),
            Owner::Host,
        ),
        (
            "a ping of it",
            |v| echo_reply(EXTERNAL[v], 443),
            Owner::Host,
        ),
    ]);
}

#[test]
fn a_shared_egress_address_is_ours_within_its_ports() {
    assert_owners(&[
        ("first", |v| tcp(SHARED[v], 61_000), Owner::Us),
        ("last", |v| udp(SHARED[v], 65_535), Owner::Us),
        ("before", |v| tcp(SHARED[v], 60_999), Owner::Host),
        ("SCTP", |v| sctp(SHARED[v], 62_000), Owner::Us),
        (
            "a reply to our ping",
            |v| echo_reply(SHARED[v], 61_000),
            Owner::Us,
        ),
        (
            "to the node's ping",
            |v| echo_reply(SHARED[v], 60_999),
            Owner::Host,
        ),
        (
            "a ping of the node",
            |v| echo_request(SHARED[v], 62_000),
            Owner::Host,
        ),
        (
            "another protocol",
            |v| Packet::new(SHARED[v], 47, vec![0xff; 20]),
            Owner::Host,
        ),
    ]);
}

#[test]
fn a_dedicated_egress_address_is_ours_whole() {
    assert_owners(&[
        ("TCP", |v| tcp(WHOLE[v], 22), Owner::Us),
        ("a ping", |v| echo_request(WHOLE[v], 1), Owner::Us),
        (
            "a later fragment",
            |v| fragment(udp(WHOLE[v], 5), 8),
            Owner::Us,
        ),
        (
            "another protocol",
            |v| Packet::new(WHOLE[v], 47, vec![]),
            Owner::Us,
        ),
        (
            "any error",
            |v| error(WHOLE[v], 3, udp(HOST[v], 9)),
            Owner::Us,
        ),
    ]);
}

#[test]
fn the_host_answers_neighbours_that_ask_for_a_dedicated_address() {
    for kind in 130..=140 {
        let packet = Packet::new(WHOLE[1], 58, vec![kind; 24]);
        let expected = match kind {
            135 | 136 => Owner::Host,
            _ => Owner::Us,
        };
        assert_eq!(owner_of(&packet), expected, "{kind}");
    }
    let v4 = Packet::new(WHOLE[0], 58, vec![135; 24]);
    assert_eq!(owner_of(&v4), Owner::Us);
}

#[test]
fn an_error_is_whose_packet_it_quotes() {
    for kind in [[3, 1], [4, 2], [11, 3], [12, 4]] {
        for version in [0, 1] {
            let quoting = |packet: Packet| owner_of(&error(SHARED[version], kind[version], packet));
            let cases = [
                (quote(tcp(SHARED[version], 61_000)), Owner::Us),
                (quote(udp(SHARED[version], 65_535)), Owner::Us),
                (quote(sctp(SHARED[version], 62_000)), Owner::Us),
                (quote(tcp(SHARED[version], 30_080)), Owner::Us),
                (quote(tcp(SHARED[version], 60_999)), Owner::Host),
                (quote(udp(HOST[version], 62_000)), Owner::Host),
                (quote(echo_request(SHARED[version], 62_000)), Owner::Us),
                (quote(echo_request(SHARED[version], 5)), Owner::Host),
                (quote(echo_reply(SHARED[version], 62_000)), Owner::Host),
                (fragment(quote(udp(SHARED[version], 62_000)), 0), Owner::Us),
                (
                    fragment(quote(udp(SHARED[version], 62_000)), 8),
                    Owner::Host,
                ),
            ];
            for (index, (packet, expected)) in cases.into_iter().enumerate() {
                assert_eq!(quoting(packet), expected, "case {index}, {kind:?}");
            }
        }
    }
}

#[test]
fn an_error_about_a_frontend_without_egress_is_ours() {
    assert_owners(&[
        (
            "its port",
            |v| error(EXTERNAL[v], [3, 1][v], quote(tcp(EXTERNAL[v], 443))),
            Owner::Us,
        ),
        (
            "another",
            |v| error(EXTERNAL[v], [3, 1][v], quote(tcp(EXTERNAL[v], 80))),
            Owner::Host,
        ),
    ]);
}

#[test]
fn an_error_of_another_kind_quotes_nothing() {
    for kind in [5, 8, 9, 13, 100, 127, 128, 133, 135, 136, 137] {
        assert_owners_of_kind(kind);
    }
}

fn assert_owners_of_kind(kind: u8) {
    for version in [0, 1] {
        let packet = error(SHARED[version], kind, quote(tcp(SHARED[version], 62_000)));
        assert_eq!(owner_of(&packet), Owner::Host, "{kind}");
    }
}

#[test]
fn one_version_icmp_in_the_other_is_the_hosts() {
    let v4 = Packet::new(SHARED[0], 58, vec![129, 0, 0, 0, 0xff, 0xff, 0, 0]);
    let v6 = Packet::new(SHARED[1], 1, vec![0, 0, 0, 0, 0xff, 0xff, 0, 0]);
    assert_eq!([owner_of(&v4), owner_of(&v6)], [Owner::Host; 2]);
}

#[test]
fn options_are_stepped_over() {
    for words in 0..=10 {
        let options = |packet: Packet| Packet {
            options: vec![1; words * 4],
            ..packet
        };
        let cases = [
            (options(tcp(SHARED[0], 61_000)), Owner::Us),
            (options(tcp(SHARED[0], 22)), Owner::Host),
            (options(echo_reply(SHARED[0], 61_000)), Owner::Us),
            (
                options(error(SHARED[0], 3, options(quote(udp(SHARED[0], 61_000))))),
                Owner::Us,
            ),
            (
                options(error(SHARED[0], 3, options(quote(udp(SHARED[0], 5))))),
                Owner::Host,
            ),
        ];
        for (index, (packet, expected)) in cases.into_iter().enumerate() {
            assert_eq!(owner_of(&packet), expected, "case {index}, {words} words");
        }
    }
}

#[test]
fn only_a_first_fragment_has_ports() {
    assert_owners(&[
        ("first", |v| fragment(tcp(SHARED[v], 61_000), 0), Owner::Us),
        (
            "later",
            |v| fragment(tcp(SHARED[v], 61_000), 8),
            Owner::Host,
        ),
        (
            "last there is",
            |v| fragment(tcp(SHARED[v], 61_000), 65_528),
            Owner::Host,
        ),
        (
            "first of a reply",
            |v| fragment(echo_reply(SHARED[v], 61_000), 0),
            Owner::Us,
        ),
    ]);
}

#[test]
fn a_later_fragment_goes_where_its_first_one_went() {
    for version in [0, 1] {
        let node = node();
        let to = SHARED[version];
        let owner_of = |packet: Packet| owner(&Bytes(&packet.frame()), &node);
        let last = |packet: Packet| fragment(packet, 1480);
        assert_eq!(owner_of(last(udp(to, 0))), Owner::Host, "before the first");
        assert_eq!(owner_of(fragment(udp(to, 62_000), 0)), Owner::Us);
        for _ in 0..2 {
            assert_eq!(owner_of(last(udp(to, 0))), Owner::Us);
        }
        assert_eq!(
            owner_of(last(udp(HOST[version], 0))),
            Owner::Host,
            "another address"
        );
        // The sender uses the identification again, for a datagram to the node.
        assert_eq!(owner_of(fragment(udp(to, 53), 0)), Owner::Host);
        assert_eq!(owner_of(last(udp(to, 0))), Owner::Host);
        assert_eq!(owner_of(fragment(echo_reply(to, 62_000), 0)), Owner::Us);
        assert_eq!(owner_of(last(echo_reply(to, 0))), Owner::Us);
    }
}

#[test]
fn behind_other_extension_headers_ports_are_not_looked_for() {
    for header in [0, 43, 51, 60] {
        let mut payload = vec![6, 0, 0, 0, 0, 0, 0, 0];
        payload.extend(tcp(SHARED[1], 61_000).payload);
        let packet = Packet::new(SHARED[1], header, payload);
        assert_eq!(owner_of(&packet), Owner::Host, "{header}");
    }
    let mut twice = fragment(tcp(SHARED[1], 61_000), 0).payload;
    twice.splice(0..0, [44, 0, 0, 0, 0, 0, 0, 0]);
    let packet = Packet::new(SHARED[1], 44, twice);
    assert_eq!(owner_of(&packet), Owner::Host, "two fragment headers");
}

#[test]
fn a_header_that_is_none_is_the_hosts() {
    for first in [0x00, 0x44, 0x40, 0x55, 0x65, 0xf5] {
        let mut frame = tcp(SHARED[0], 61_000).frame();
        frame[14] = first;
        assert_eq!(owner(&Bytes(&frame), &node()), Owner::Host, "{first:#x}");
    }
    let mut frame = tcp(SHARED[1], 61_000).frame();
    frame[14] = 0x45;
    assert_eq!(owner(&Bytes(&frame), &node()), Owner::Host);
}

#[test]
fn what_is_not_ip_is_the_hosts() {
    for ethertype in [0x0806_u16, 0x8100, 0x88a8, 0x86dc, 0] {
        let mut frame = tcp(POD[0], 1).frame();
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        assert_eq!(owner(&Bytes(&frame), &node()), Owner::Host);
    }
}

#[test]
fn a_frame_that_ends_early_is_unreadable_or_the_hosts() {
    for (version, address_end) in [(0, 34), (1, 54)] {
        let header = address_end;
        let cases = [
            (tcp(SHARED[version], 61_000), header + 4),
            (echo_reply(SHARED[version], 61_000), header + 8),
            (
                error(
                    SHARED[version],
                    [3, 1][version],
                    quote(tcp(SHARED[version], 61_000)),
                ),
                header + 8 + (header - 14) + 2,
            ),
        ];
        for (packet, needed) in cases {
            let frame = packet.frame();
            for length in 0..=frame.len() {
                let expected = match length {
                    _ if length < address_end => Owner::Unreadable,
                    _ if length < needed => Owner::Host,
                    _ => Owner::Us,
                };
                let found = owner(&Bytes(&frame[..length]), &node());
                assert_eq!(found, expected, "{length} of {} bytes", frame.len());
            }
        }
    }
}

/// Random bytes: what is ours is to an address of ours, and nothing makes it panic.
#[test]
fn chance_never_takes_a_frame_from_the_host() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let node = node();
    let (mut ours, mut hosts) = (0, 0);
    for round in 0..200_000 {
        let version = (round % 2) as usize;
        let shared = SHARED[version];
        let ports = [61_000, 30_080, 22, 443];
        let port = ports[(random() % 4) as usize];
        let packet = match random() % 4 {
            0 => tcp(shared, port),
            1 => echo_reply(shared, port),
            2 => error(shared, [3, 1][version], quote(udp(shared, port))),
            _ => fragment(udp(HOST[version], port), 0),
        };
        let mut frame = packet.frame();
        for _ in 0..=random() % 3 {
            let at = (random() % frame.len() as u64) as usize;
            frame[at] = random() as u8;
        }
        frame.truncate(1 + (random() % 200) as usize);
        match owner(&Bytes(&frame), &node) {
            Owner::Us => {
                let address = match frame[12..14] {
                    [8, 0] => IpAddr::from(*frame[30..].first_chunk::<4>().unwrap()),
                    _ => IpAddr::from(*frame[38..].first_chunk::<16>().unwrap()),
                };
                let all = [POD, SHARED, WHOLE, EXTERNAL].concat();
                assert!(all.contains(&address), "round {round}: {frame:02x?}");
                ours += 1;
            }
            Owner::Host => hosts += 1,
            Owner::Unreadable => {}
        }
    }
    assert!(ours > 1000 && hosts > 1000, "{ours} and {hosts}");
}
