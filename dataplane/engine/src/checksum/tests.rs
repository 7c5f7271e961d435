//! What is left to whoever sends a frame, and what is not.

use super::*;

const SCTP: u8 = 132;

/// A frame of IPv4 from 10.0.0.1 to 10.0.0.2; `fragment` is the word of flags and offset.
fn frame(protocol: u8, fragment: u16, transport: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2; 12];
    bytes.extend([8, 0, 0x45, 0]);
    bytes.extend((20 + transport.len() as u16).to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let header = !sum(&bytes[14..]);
    bytes[24..26].copy_from_slice(&header.to_be_bytes());
    bytes.extend(transport);
    bytes
}

fn partial(protocol: u8, length: usize) -> [u8; 2] {
    let [source, destination] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
    let sum = pseudo_header(source, destination, protocol, length as u32);
    sum.folded().to_be_bytes()
}

/// A datagram whose header states `length`, with so many bytes behind the header.
fn udp(length: usize, payload: usize, checksum: [u8; 2]) -> Vec<u8> {
    let mut bytes = vec![0x10, 0, 0x20, 0];
    bytes.extend((length as u16).to_be_bytes());
    bytes.extend(checksum);
    bytes.extend(vec![7; payload]);
    bytes
}

fn tcp(checksum: [u8; 2]) -> Vec<u8> {
    let mut bytes = vec![0x10, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0];
    bytes.extend(checksum);
    bytes.extend([0, 0]);
    bytes.extend(b"data");
    bytes
}

/// What is said of a frame, and whether its bytes changed.
fn said(mut bytes: Vec<u8>, is_offloaded: bool) -> (Checksum, bool) {
    let before = bytes.clone();
    let head_length = bytes.len();
    let mut frame = FrameBytes {
        head: &mut bytes,
        head_length,
        tail: &[],
    };
    let Ok(Parsed::Ip(packet)) = packet::parse(&frame) else {
        panic!("not read: {before:?}");
    };
    let checksum = finish(&mut frame, &packet, is_offloaded);
    (checksum, bytes != before)
}

#[test]
fn partial_sums_are_left_to_who_sends_or_finished_here() {
    let start = 34;
    for (bytes, offset) in [
        (frame(6, 0, &tcp(partial(6, 24))), 16),
        (frame(17, 0, &udp(12, 4, partial(17, 12))), 6),
    ] {
        let left = Checksum::Partial { start, offset };
        assert_eq!(said(bytes.clone(), true), (left, false));
        assert_eq!(said(bytes, false), (Checksum::Finished, true));
    }
}

#[test]
fn a_datagram_that_ends_before_its_packet_is_finished_here() {
    // The kernel would sum the bytes behind it, too.
    let bytes = frame(17, 0, &udp(12, 9, partial(17, 12)));
    assert_eq!(said(bytes, true), (Checksum::Finished, true));
}

#[test]
fn a_crc_is_finished_here() {
    let mut bytes = vec![0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    bytes.extend([11, 0, 0, 4]);
    let bytes = frame(SCTP, 0, &bytes);
    assert_eq!(said(bytes, true), (Checksum::Finished, true));
}

#[test]
fn what_is_whole_or_cannot_be_finished_stays() {
    for bytes in [
        frame(6, 0, &tcp([0x12, 0x34])),
        frame(17, 0, &udp(12, 4, [0; 2])),
        // The first of several fragments.
        frame(17, 0x2000, &udp(32, 24, partial(17, 32))),
        frame(1, 0, &[8, 0, 0, 0, 0, 1, 0, 1]),
    ] {
        for is_offloaded in [false, true] {
            let said = said(bytes.clone(), is_offloaded);
            assert_eq!(said, (Checksum::Untouched, false), "{bytes:?}");
        }
    }
}
