//! Super-frames: delivered whole where they fit, cut exactly where they do not.

mod network;

use network::build::{ACK, Build, CWR, FIN, PSH, SYN, forwarded, has_valid_checksums, v4, v6};
use network::*;
use portcullis_engine::{Drop, finish_checksum, segment, segments};

const PORTS: (u16, u16) = (40_000, 80);

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|byte| (byte * 7 % 251) as u8).collect()
}

/// A connection of the client to `to`, opened with these maximum segment sizes.
fn open(to: portcullis_engine::EndpointIndex, four: bool, sizes: (u16, u16)) -> Node {
    let mut node = Node::new(&[]);
    let build = if four { v4 } else { v6 };
    let option = |size: u16| [2, 4, (size >> 8) as u8, size as u8];
    let syn = build(CLIENT, to)
        .tcp_options(&option(sizes.0))
        .tcp(PORTS, SYN, b"");
    let syn_ack =
        build(to, CLIENT)
            .tcp_options(&option(sizes.1))
            .tcp((PORTS.1, PORTS.0), SYN | ACK, b"");
    node.delivered(CLIENT, to, syn);
    node.delivered(to, CLIENT, syn_ack);
    node.delivered(CLIENT, to, build(CLIENT, to).tcp(PORTS, ACK, b""));
    node
}

#[test]
fn a_super_frame_to_a_local_pod_stays_whole() {
    let mut node = open(SERVER, true, (65_495, 65_495));
    let build = v4(CLIENT, SERVER).partial();
    let make = |build: &Build| build.tcp(PORTS, ACK | PSH, &payload(65_000));
    let frame = forwarded(&build, SERVER, make);
    let sent = node.send(CLIENT, make(&build));
    assert_eq!(sent, End::Sent { to: SERVER, frame });
}

#[test]
fn a_super_frame_to_the_uplink_is_cut_to_what_its_sender_would_have_sent() {
    for (four, size, expected_step) in [(true, 1460, 1448), (false, 1440, 1428), (true, 1200, 1188)]
    {
        let mut node = open(UPLINK, four, (1460, size));
        let build = if four { v4 } else { v6 };
        let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let build = build(CLIENT, UPLINK).tcp_options(&options);
        let data = payload(60_001);
        let flags = ACK | PSH | FIN | CWR;
        let sent = node.send(CLIENT, build.clone().partial().tcp(PORTS, flags, &data));
        let count = data.len().div_ceil(expected_step);
        let frames = (0..count)
            .map(|index| {
                let from = index * expected_step;
                let to = data.len().min(from + expected_step);
                let mut flags = flags;
                if index > 0 {
                    flags &= !CWR;
                }
                if to < data.len() {
                    flags &= !(FIN | PSH);
                }
                let part = Build {
                    identification: build.identification + index as u16,
                    sequence: build.sequence + from as u32,
                    ..build.clone()
                };
                forwarded(&part, UPLINK, |part| {
                    part.tcp(PORTS, flags, &data[from..to])
                })
            })
            .collect();
        assert_eq!(sent, End::Cut { to: UPLINK, frames });
    }
}

#[test]
fn without_a_known_segment_size_the_mtu_decides() {
    let mut node = Node::new(&[]);
    node.delivered(CLIENT, UPLINK, v4(CLIENT, UPLINK).tcp(PORTS, SYN, b""));
    let sent = node.send(CLIENT, v4(CLIENT, UPLINK).tcp(PORTS, ACK, &payload(3000)));
    let End::Cut { frames, .. } = sent else {
        panic!("expected segments, got {sent:?}");
    };
    let lengths: Vec<usize> = frames.iter().map(Vec::len).collect();
    assert_eq!(lengths, vec![1514, 1514, 54 + 80]);
}

#[test]
fn what_cannot_be_cut_is_too_big() {
    let mut node = Node::new(&[]);
    let syn = v4(CLIENT, UPLINK).tcp(PORTS, SYN, &payload(3000));
    let fragment = v4(CLIENT, UPLINK)
        .fragment(0x2000)
        .udp(PORTS, &payload(3000));
    for frame in [syn, fragment] {
        let End::Answered { reason, .. } = node.send(CLIENT, frame) else {
            panic!("expected an answer");
        };
        assert_eq!(reason, Some(Drop::PacketTooBig));
    }
}

#[test]
fn there_is_no_segment_behind_the_last_nor_of_other_packets() {
    let mut frame = v4(CLIENT, UPLINK).tcp(PORTS, ACK, &payload(3000));
    let mut out = vec![0; 4096];
    with_frame(&mut frame, |frame| {
        assert_eq!(segments(frame, 1000), 3);
        assert_eq!(segment(frame, 1000, 2, &mut out), Some(1054));
        assert_eq!(segment(frame, 1000, 3, &mut out), None);
        assert_eq!(segment(frame, 1000, usize::MAX, &mut out), None);
        assert_eq!(segment(frame, 0, 0, &mut out), None);
        assert_eq!(segment(frame, 1000, 0, &mut [0; 1053]), None);
    });
    let mut empty = v4(CLIENT, UPLINK).tcp(PORTS, ACK, b"");
    with_frame(&mut empty, |frame| {
        assert_eq!(segments(frame, 1000), 1);
        assert_eq!(segment(frame, 1000, 0, &mut out), Some(54));
        assert_eq!(segment(frame, 1000, 1, &mut out), None);
    });
    let mut datagram = v4(CLIENT, UPLINK).udp(PORTS, &payload(3000));
    with_frame(&mut datagram, |frame| {
        assert_eq!(segments(frame, 1000), 0);
        assert_eq!(segment(frame, 1000, 0, &mut out), None);
    });
}

fn finished(mut bytes: Vec<u8>) -> Vec<u8> {
    with_frame(&mut bytes, finish_checksum);
    bytes
}

#[test]
fn partial_checksums_are_finished_over_all_pieces() {
    for length in [0, 1, 2, 3785, 3786, 3787, 8001, 60_000] {
        for build in [v4(CLIENT, SERVER), v6(CLIENT, SERVER)] {
            let data = payload(length);
            let partial = build.clone().partial();
            assert_eq!(
                finished(partial.tcp(PORTS, ACK, &data)),
                build.tcp(PORTS, ACK, &data)
            );
            assert_eq!(finished(partial.udp(PORTS, &data)), build.udp(PORTS, &data));
        }
    }
}

#[test]
fn whole_wrong_and_absent_checksums_stay_as_they_are() {
    let whole = v4(CLIENT, SERVER).tcp(PORTS, ACK, b"data");
    let mut wrong = whole.clone();
    wrong[14 + 20 + 16] ^= 0x55;
    let mut absent = v4(CLIENT, SERVER).udp(PORTS, b"data");
    absent[14 + 20 + 6..14 + 20 + 8].fill(0);
    // The pseudo-header of a fragment says nothing of the whole datagram.
    let fragment = v4(CLIENT, SERVER)
        .partial()
        .fragment(0x2000)
        .udp(PORTS, b"data");
    let echo = v4(CLIENT, SERVER).echo(true, 1);
    for frame in [whole, wrong, absent, fragment, echo, vec![0; 13]] {
        assert_eq!(finished(frame.clone()), frame);
    }
}

#[test]
fn a_udp_checksum_of_zero_becomes_all_ones() {
    // The one payload word that makes the sum of these ports come out as zero.
    let build = v4(CLIENT, SERVER).partial();
    let found = (0..=u16::MAX).find(|word| {
        let frame = finished(build.udp(PORTS, &word.to_be_bytes()));
        assert_ne!(frame[40..42], [0, 0]);
        frame[40..42] == [0xff, 0xff]
    });
    let frame = finished(build.udp(PORTS, &found.unwrap().to_be_bytes()));
    assert!(has_valid_checksums(&frame));
}

#[test]
fn a_partial_sctp_checksum_is_finished_with_crc32c() {
    // [RFC 3720 B.4: the CRC of 32 zero bytes is 8a9136aa] turned into a packet of zeros, whose
    // checksum field is zero as well.
    let mut frame = v4(CLIENT, SERVER).sctp((0, 0), &[0; 20]);
    frame[38..42].fill(0);
    let mut expected = frame.clone();
    expected[42..46].copy_from_slice(&0x8a91_36aa_u32.to_le_bytes());
    // In the order of the RFC's own listing: aa 36 91 8a.
    assert_eq!(expected[42..46], [0xaa, 0x36, 0x91, 0x8a]);
    assert_eq!(finished(frame), expected);
}
