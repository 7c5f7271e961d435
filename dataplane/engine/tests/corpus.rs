//! Replays the committed inputs of the fuzzer, and keeps them what the builders make.
//!
//! `PORTCULLIS_WRITE_CORPUS=1 cargo test -p portcullis-engine --test corpus` writes them anew.

mod network;

use network::build::{ACK, FIN, PSH, RST, SYN, arp, quote, v4, v6};
use network::exercise::{Step, exercise, read, write};
use network::services::*;
use network::*;
use portcullis_engine::{EndpointIndex, MacAddress};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/frame")
}

fn step(from: EndpointIndex, frame: Vec<u8>) -> Step {
    Step {
        from: from.0 as u8,
        split: 0,
        seconds: 0,
        frame,
    }
}

/// The seeds, by name.
fn seeds() -> Vec<(&'static str, Vec<Step>)> {
    let there = v4(CLIENT, SERVER);
    let back = v4(SERVER, CLIENT);
    let six = v6(CLIENT, SERVER);
    let client = CLIENT_PARTY;
    let group = (client.mac, MacAddress::BROADCAST);
    let nobody = (MacAddress::default(), SERVER_PARTY.v4);
    let query = there.udp((5000, 53), b"query");
    let mut body = SERVER_PARTY.v6.octets().to_vec();
    body.extend_from_slice(&[1, 1]);
    body.extend_from_slice(&client.mac.0);
    let solicitation = six
        .clone()
        .hops(255)
        .destination("ff02::1:ff00:3".parse().unwrap())
        .icmp(135, 0, [0; 4], &body);
    let extended = six
        .clone()
        .options(0, &[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]);
    let piece = |offset: u8, is_more: bool| {
        let header = [17, 0, 0, offset | u8::from(is_more), 0, 0, 0, 1];
        six.clone().options(44, &header)
    };
    let to = |address: IpAddr| v4(CLIENT, SERVER).destination(address);
    let in_to = |address: IpAddr| v4(UPLINK, CLIENT).destination(address);
    let looped = to(IpAddr::V4(client.v4))
        .source(LOOPBACK)
        .udp((5000, 80), b"q");
    let left = v4(CLIENT, UPLINK).source(EGRESS).udp((40_000, 53), b"q");
    let to_world = |payload: usize| v4(CLIENT, UPLINK).tcp((40_000, 80), ACK, &vec![7; payload]);
    vec![
        (
            "tcp-connection",
            vec![
                step(CLIENT, there.tcp((40_000, 80), SYN, b"")),
                step(SERVER, back.tcp((80, 40_000), SYN | ACK, b"")),
                step(CLIENT, there.tcp((40_000, 80), ACK | PSH, b"GET /")),
                step(SERVER, back.tcp((80, 40_000), FIN | ACK, b"")),
                step(CLIENT, there.tcp((40_000, 80), RST, b"")),
            ],
        ),
        (
            "udp-and-related-error",
            vec![
                step(CLIENT, query.clone()),
                step(SERVER, back.icmp(3, 3, [0; 4], quote(&query))),
            ],
        ),
        (
            "arp-request",
            vec![step(CLIENT, arp(1, group, (client.mac, client.v4), nobody))],
        ),
        ("neighbour-solicitation", vec![step(CLIENT, solicitation)]),
        (
            "echo-both-families",
            vec![
                step(CLIENT, v4(CLIENT, UPLINK).echo(true, 7)),
                step(UPLINK, v4(UPLINK, CLIENT).echo(false, 7)),
                step(CLIENT, v6(CLIENT, HOST).echo(true, 7)),
            ],
        ),
        (
            "ipv6-extension-headers",
            vec![step(CLIENT, extended.udp((1, 53), b"x"))],
        ),
        (
            "ipv4-options-and-fragments",
            vec![
                step(
                    HOST,
                    v4(HOST, SERVER).options(0, &[1, 7, 3, 0]).udp((1, 2), b"x"),
                ),
                step(
                    CLIENT,
                    there.clone().fragment(0x2000).udp((1, 53), b"12345678"),
                ),
                step(CLIENT, there.clone().fragment(0x2002).network(17, &[7; 8])),
                step(CLIENT, there.clone().fragment(0x0003).network(17, &[7; 3])),
            ],
        ),
        (
            "fragments-that-wait-and-overlap",
            vec![
                step(CLIENT, piece(16, true).network(17, &[7; 8])),
                step(CLIENT, piece(24, false).network(17, &[7; 3])),
                step(CLIENT, piece(0, true).udp((1, 53), b"12345678")),
                step(CLIENT, piece(8, true).network(17, &[7; 16])),
                step(CLIENT, there.clone().fragment(0x0009).network(17, b"alone")),
                Step {
                    seconds: 1,
                    ..step(CLIENT, piece(0, true).network(6, &[0; 16]))
                },
            ],
        ),
        (
            "super-frame-and-too-big",
            vec![
                step(CLIENT, v4(CLIENT, UPLINK).tcp((40_000, 80), SYN, b"")),
                step(CLIENT, to_world(9000)),
                step(CLIENT, v4(CLIENT, UPLINK).udp((1, 2), &[7; 2000])),
            ],
        ),
        (
            "service-and-back",
            vec![
                step(CLIENT, to(VIP).tcp((40_000, 80), SYN, b"")),
                step(SERVER, back.tcp((80, 40_000), SYN | ACK, b"")),
                step(STRANGER, v4(STRANGER, CLIENT).udp((80, 40_000), b"a")),
                step(CLIENT, to(VIP).tcp((40_000, 80), ACK, b"GET /")),
                step(CLIENT, to(VIP).udp((1, 82), b"nobody")),
                step(
                    CLIENT,
                    six.clone().destination(VIP_V6).tcp((1, 80), SYN, b""),
                ),
                step(CLIENT, to(VIP).fragment(0x2000).sctp((1, 80), b"1234")),
            ],
        ),
        (
            "pod-to-itself",
            vec![
                step(CLIENT, to(VIP).udp((5000, 81), b"q")),
                step(CLIENT, to(LOOPBACK).udp((80, 5000), b"a")),
                step(CLIENT, to(LOOPBACK).icmp(3, 3, [0; 4], quote(&looped))),
            ],
        ),
        (
            "out-and-back",
            vec![
                step(CLIENT, v4(CLIENT, UPLINK).udp((5000, 53), b"q")),
                step(UPLINK, in_to(EGRESS).udp((53, 40_000), b"a")),
                step(UPLINK, in_to(EGRESS).udp((53, 40_001), b"a")),
                step(UPLINK, in_to(EGRESS).icmp(3, 4, [0; 4], quote(&left))),
                step(STRANGER, v4(STRANGER, UPLINK).echo(true, 9)),
                step(UPLINK, in_to(NODE).echo(false, 40_000)),
                step(STRANGER, v4(STRANGER, UPLINK).tcp((1, 443), ACK, b"x")),
                step(CLIENT, v6(CLIENT, UPLINK).tcp((1, 443), SYN, b"")),
            ],
        ),
        (
            "node-ports",
            vec![
                step(UPLINK, in_to(NODE).udp((5000, 443), b"q")),
                step(SERVER, v4(SERVER, UPLINK).udp((80, 5000), b"a")),
                step(UPLINK, in_to(EXTERNAL).tcp((5000, 80), SYN, b"")),
                step(
                    UPLINK,
                    in_to(NODE).source(FAR).tcp((80, 40_000), SYN | ACK, b""),
                ),
                step(UPLINK, in_to(NODE).tcp((5000, 22), SYN, b"")),
            ],
        ),
        (
            "last-hop-and-sctp",
            vec![
                step(CLIENT, there.clone().hops(1).udp((1, 53), b"x")),
                step(UPLINK, v4(UPLINK, CLIENT).sctp((1, 2), b"INIT")),
            ],
        ),
    ]
}

#[test]
fn the_committed_seeds_are_what_the_builders_make() {
    let is_writing = std::env::var_os("PORTCULLIS_WRITE_CORPUS").is_some();
    for (name, steps) in seeds() {
        let path = folder().join(name);
        let input = write(&steps);
        assert_eq!(read(&input), steps, "{name}");
        if is_writing {
            fs::write(&path, &input).unwrap();
        }
        let committed = fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(committed == input, "{name} is out of date");
    }
}

#[test]
fn every_committed_input_passes() {
    let mut count = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        exercise(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= seeds().len(), "{count} inputs");
}
