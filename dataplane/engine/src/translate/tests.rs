//! Translation against packets that are built anew with the other addresses.

use super::*;
use crate::packet::{self, Parsed};
use crate::quoted::quoted;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The one's complement sum, two bytes at a time.
fn plain_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sum {
    Whole,
    Partial,
    /// UDP without a checksum.
    None,
}

/// How a packet is built around its tuple.
#[derive(Debug, Clone)]
struct Build {
    sum: Sum,
    /// Behind the IPv6 header, a destination options header.
    has_extension: bool,
    /// More fragments follow.
    is_first: bool,
    payload: Vec<u8>,
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn pseudo(tuple: &Tuple, length: usize) -> Vec<u8> {
    let mut bytes = octets(tuple.source);
    bytes.extend(octets(tuple.destination));
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend([0, tuple.protocol]);
    bytes
}

impl Build {
    fn new(sum: Sum, payload: &[u8]) -> Self {
        Self {
            sum,
            has_extension: false,
            is_first: false,
            payload: payload.to_vec(),
        }
    }

    /// A fragment that is not the last ends with a whole eight bytes.
    fn payload_of(&self, protocol: u8) -> Vec<u8> {
        let header = match protocol {
            TCP => 20,
            SCTP => 12,
            _ => 8,
        };
        let mut payload = self.payload.clone();
        while self.is_first && !(header + payload.len()).is_multiple_of(8) {
            payload.push(0x5a);
        }
        payload
    }

    fn transport(&self, tuple: &Tuple) -> Vec<u8> {
        let payload = self.payload_of(tuple.protocol);
        let ports = [
            tuple.source_port.to_be_bytes(),
            tuple.destination_port.to_be_bytes(),
        ]
        .concat();
        let (mut bytes, field, has_pseudo) = match tuple.protocol {
            TCP => {
                let mut bytes = ports;
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
                (bytes, 16, true)
            }
            UDP => {
                let mut bytes = ports;
                bytes.extend(((8 + payload.len()) as u16).to_be_bytes());
                bytes.extend([0, 0]);
                (bytes, 6, true)
            }
            SCTP => {
                let mut bytes = ports;
                bytes.extend([0, 0, 0, 7, 0, 0, 0, 0]);
                bytes.extend(&payload);
                return bytes;
            }
            protocol => {
                // The asker's port is the identifier: the other one is zero.
                let is_request = tuple.destination_port == 0;
                let kind = match (protocol, is_request) {
                    (ICMP, true) => 8,
                    (ICMP, false) => 0,
                    (_, true) => 128,
                    (_, false) => 129,
                };
                let identifier = tuple.source_port | tuple.destination_port;
                let [high, low] = identifier.to_be_bytes();
                (vec![kind, 0, 0, 0, high, low, 0, 1], 2, protocol == ICMPV6)
            }
        };
        bytes.extend(&payload);
        let mut all = match has_pseudo {
            true => pseudo(tuple, bytes.len()),
            false => Vec::new(),
        };
        let sum = match self.sum {
            Sum::Partial => plain_sum(&all),
            Sum::None => 0,
            Sum::Whole => {
                all.extend(&bytes);
                match (!plain_sum(&all), tuple.protocol) {
                    (0, UDP) => 0xffff,
                    (sum, _) => sum,
                }
            }
        };
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn frame(&self, tuple: &Tuple) -> Vec<u8> {
        let transport = self.transport(tuple);
        self.network(tuple, tuple.protocol, &transport)
    }

    fn network(&self, tuple: &Tuple, protocol: u8, above: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        if tuple.source.is_ipv4() {
            frame.extend([8, 0]);
            let total = (20 + above.len()) as u16;
            let fragment = if self.is_first { 0x20 } else { 0 };
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            header.extend([0, 9, fragment, 0, 64, protocol, 0, 0]);
            header.extend(octets(tuple.source));
            header.extend(octets(tuple.destination));
            let sum = !plain_sum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(header);
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            let mut chain = Vec::new();
            let mut next = protocol;
            if self.is_first {
                chain = [vec![next, 0, 0, 1, 0, 0, 0, 5], chain].concat();
                next = 44;
            }
            if self.has_extension {
                chain = [vec![next, 0, 1, 4, 0, 0, 0, 0], chain].concat();
                next = 60;
            }
            frame.extend(((chain.len() + above.len()) as u16).to_be_bytes());
            frame.extend([next, 64]);
            frame.extend(octets(tuple.source));
            frame.extend(octets(tuple.destination));
            frame.extend(chain);
        }
        frame.extend(above);
        frame
    }
}

fn read(bytes: &mut [u8]) -> Packet {
    let head_length = bytes.len();
    let frame = FrameBytes {
        head: bytes,
        head_length,
        tail: &[],
    };
    match packet::parse(&frame) {
        Ok(Parsed::Ip(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

/// Translates bytes that end with the head after `head_length` bytes.
fn translated_cut(bytes: &[u8], new: &Tuple, head_length: usize) -> Result<Vec<u8>, Drop> {
    let mut head = bytes[..head_length].to_vec();
    let mut frame = FrameBytes {
        head: &mut head,
        head_length,
        tail: &[&bytes[head_length..]],
    };
    let Ok(Parsed::Ip(mut packet)) = packet::parse(&frame) else {
        panic!("not read: {bytes:?}");
    };
    translate(&mut frame, &mut packet, new)?;
    assert_eq!(packet::parse(&frame), Ok(Parsed::Ip(packet)), "a true view");
    assert!(Tuple::of(&packet).is_none_or(|found| found == *new));
    Ok([&head[..], &bytes[head_length..]].concat())
}

fn translated(bytes: &[u8], new: &Tuple) -> Result<Vec<u8>, Drop> {
    translated_cut(bytes, new, bytes.len())
}

fn finished(mut bytes: Vec<u8>) -> Vec<u8> {
    let head_length = bytes.len();
    checksum::finish_checksum(&mut FrameBytes {
        head: &mut bytes,
        head_length,
        tail: &[],
    });
    bytes
}

fn v4() -> impl Strategy<Value = IpAddr> {
    any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
}

fn v6() -> impl Strategy<Value = IpAddr> {
    any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
}

/// Two tuples of one family and protocol; those of an echo are both request or both reply.
fn tuples() -> impl Strategy<Value = (Tuple, Tuple)> {
    let addresses = prop_oneof![
        [v4(), v4(), v4(), v4()].prop_map(|all| (all, ICMP)),
        [v6(), v6(), v6(), v6()].prop_map(|all| (all, ICMPV6)),
    ];
    let ports = prop_oneof![Just([0_u16; 4]), any::<[u16; 4]>()];
    (addresses, ports, 0..4_usize, any::<bool>()).prop_map(
        |((addresses, icmp), mut ports, protocol, is_request)| {
            let protocol = [TCP, UDP, SCTP, icmp][protocol];
            if protocol == icmp {
                let zero = usize::from(is_request);
                (ports[zero], ports[2 + zero]) = (0, 0);
            }
            let tuple = |at: usize| Tuple {
                protocol,
                source: addresses[at],
                destination: addresses[at + 1],
                source_port: ports[at],
                destination_port: ports[at + 1],
            };
            (tuple(0), tuple(2))
        },
    )
}

fn builds() -> impl Strategy<Value = Build> {
    (
        prop_oneof![Just(Sum::Whole), Just(Sum::Partial), Just(Sum::None)],
        any::<bool>(),
        prop_oneof![4 => Just(false), 1 => Just(true)],
        proptest::collection::vec(any::<u8>(), 0..80),
    )
        .prop_map(|(sum, has_extension, is_first, payload)| Build {
            sum,
            has_extension,
            is_first,
            payload,
        })
}

/// What the builder may build: TCP and UDP alone have partial checksums, never in a fragment, and
/// UDP over IPv4 alone may have none.
fn fitting(mut build: Build, tuple: &Tuple) -> Build {
    let is_possible = match build.sum {
        Sum::Whole => true,
        Sum::Partial => matches!(tuple.protocol, TCP | UDP) && !build.is_first,
        Sum::None => tuple.protocol == UDP && tuple.source.is_ipv4(),
    };
    if !is_possible {
        build.sum = Sum::Whole;
    }
    build
}

/// Whether a whole checksum happens to look partial; `finish` gives the same for both.
fn is_ambiguous(build: &Build, tuple: &Tuple) -> bool {
    let partial = Build {
        sum: Sum::Partial,
        ..build.clone()
    };
    let has_partial = matches!(tuple.protocol, TCP | UDP) && build.sum == Sum::Whole;
    has_partial && build.transport(tuple) == partial.transport(tuple)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_translated_packet_is_the_packet_built_anew(
        (old, new) in tuples(),
        build in builds(),
        cut in any::<usize>(),
    ) {
        let build = fitting(build, &old);
        prop_assume!(!is_ambiguous(&build, &old) && !is_ambiguous(&build, &new));
        let mut before = build.frame(&old);
        let is_sctp = old.protocol == SCTP;
        let ports = |tuple: &Tuple| (tuple.source_port, tuple.destination_port);
        if is_sctp {
            // As the sender sends it: with its whole checksum.
            before = finished(before);
        }
        if is_sctp && build.is_first && ports(&old) != ports(&new) {
            prop_assert_eq!(translated(&before, &new), Err(Drop::FragmentUntranslatable));
            return Ok(());
        }
        // The headers lie in the head, the payload wherever it likes.
        let headers = before.len() - build.payload.len();
        let head = headers + cut % (build.payload.len() + 1);
        let there = translated_cut(&before, &new, head).unwrap();
        if is_sctp {
            let whole = finished(build.frame(&new));
            prop_assert_eq!(finished(there.clone()), whole);
            prop_assert_eq!(finished(translated(&there, &old).unwrap()), before);
        } else {
            prop_assert_eq!(&there, &build.frame(&new));
            prop_assert_eq!(translated(&there, &old).unwrap(), before);
        }
    }

    #[test]
    fn a_translated_error_is_the_error_built_anew(
        (old, new) in tuples(),
        build in builds(),
        routers in [any::<u32>(), any::<u32>()],
        room in 0_usize..120,
        has_outer in any::<bool>(),
    ) {
        let build = fitting(build, &old);
        prop_assume!(!is_ambiguous(&build, &old) && !is_ambiguous(&build, &new));
        let router = |bits: u32| match old.source {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(u128::from(bits))),
        };
        // From the first router to who sent the packet; the second stands in for it.
        let error = |of: &Tuple, source: u32| error_about(&build, of, router(source), of.source, room);
        let before = error(&old, routers[0]);
        let source = if has_outer { routers[1] } else { routers[0] };
        let outer = has_outer.then(|| router(routers[1]));
        let expected = error(&new, source);
        let there = translated_error(&before, &new, outer, Some(new.source)).unwrap();
        prop_assert_eq!(&there, &expected);
        prop_assert_eq!(quoted_tuple(&there), Some(new));
        let back = translated_error(&there, &old, Some(router(routers[0])), Some(old.source)).unwrap();
        prop_assert_eq!(back, before);
    }

    #[test]
    fn errors_about_any_bytes_never_panic(
        is_v4 in any::<bool>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        version in prop_oneof![Just(0x45_u8), Just(0x60), any::<u8>()],
        protocol in prop_oneof![Just(TCP), Just(UDP), Just(ICMP), Just(ICMPV6), any::<u8>()],
    ) {
        let mut bytes = bytes;
        for (at, value) in [(0, version), (if is_v4 { 9 } else { 6 }, protocol)] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        let tuple = plain_tuple(is_v4, protocol);
        let before = around(&tuple, tuple.destination, tuple.source, &bytes);
        match translated_error(&before, &tuple, None, None) {
            Ok(there) => prop_assert_eq!(there.len(), before.len()),
            Err(reason) => prop_assert_eq!(reason, Drop::Malformed),
        }
    }
}

fn plain_tuple(is_v4: bool, protocol: u8) -> Tuple {
    let address = |last: u8| match is_v4 {
        true => IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)),
        false => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last))),
    };
    Tuple {
        protocol,
        source: address(1),
        destination: address(2),
        source_port: 1111,
        destination_port: if matches!(protocol, ICMP | ICMPV6) {
            0
        } else {
            80
        },
    }
}

/// The tuple of the packet that an error quotes.
fn quoted_tuple(error: &[u8]) -> Option<Tuple> {
    let mut head = error.to_vec();
    let packet = read(&mut head);
    let head_length = head.len();
    let frame = FrameBytes {
        head: &mut head,
        head_length,
        tail: &[],
    };
    Tuple::of_quoted(&quoted(&frame, &packet)?)
}

/// An unreachable around a quote.
fn around(about: &Tuple, from: IpAddr, to: IpAddr, quote: &[u8]) -> Vec<u8> {
    let (protocol, kind) = match about.source {
        IpAddr::V4(_) => (ICMP, 3),
        IpAddr::V6(_) => (ICMPV6, 1),
    };
    let outer = Tuple {
        protocol,
        source: from,
        destination: to,
        ..*about
    };
    let mut message = vec![kind, 1, 0, 0, 0, 0, 0, 0];
    message.extend(quote);
    let mut all = match protocol {
        ICMPV6 => pseudo(&outer, message.len()),
        _ => Vec::new(),
    };
    all.extend(&message);
    let sum = !plain_sum(&all);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Build::new(Sum::Whole, &[]).network(&outer, protocol, &message)
}

/// An error that quotes eight bytes above IP of a packet, and `room` more if there are.
fn error_about(build: &Build, about: &Tuple, from: IpAddr, to: IpAddr, room: usize) -> Vec<u8> {
    let packet = build.frame(about);
    let headers = packet.len() - build.transport(about).len();
    // Half a TCP checksum cannot be adjusted; nobody could check it either.
    let room = if (about.protocol, room) == (TCP, 9) {
        8
    } else {
        room
    };
    let end = packet.len().min(headers + 8 + room);
    around(about, from, to, &packet[14..end])
}

fn translated_error(
    bytes: &[u8],
    new: &Tuple,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
) -> Result<Vec<u8>, Drop> {
    let mut head = bytes.to_vec();
    let mut packet = read(&mut head);
    let head_length = head.len();
    let mut frame = FrameBytes {
        head: &mut head,
        head_length,
        tail: &[],
    };
    let result = translate_error(&mut frame, &mut packet, new, source, destination);
    assert_eq!(packet::parse(&frame), Ok(Parsed::Ip(packet)), "a true view");
    match result {
        Ok(()) => Ok(head),
        Err(reason) => {
            assert_eq!(head, bytes, "nothing is written before all is read");
            Err(reason)
        }
    }
}

#[test]
fn a_later_fragment_gets_addresses_and_nothing_else() {
    let (old, build) = (plain_tuple(true, UDP), Build::new(Sum::Whole, b"payload"));
    let new = Tuple {
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        source_port: 9,
        ..old
    };
    let mut before = build.frame(&old);
    before[20..22].copy_from_slice(&[0x00, 0x10]);
    before[24..26].fill(0);
    let sum = !plain_sum(&before[14..34]);
    before[24..26].copy_from_slice(&sum.to_be_bytes());
    let after = translated(&before, &new).unwrap();
    assert_eq!(after[34..], before[34..]);
    assert_eq!(after[26..30], [192, 0, 2, 7]);
    assert_eq!(plain_sum(&after[14..34]), 0xffff);
}

#[test]
fn an_echo_reply_of_nothing_but_zeros_has_a_checksum_that_receivers_take() {
    let reply = |identifier| Tuple {
        source_port: 0,
        destination_port: identifier,
        ..plain_tuple(true, ICMP)
    };
    // By hand: the builder makes an echo with port zero on both sides a request.
    let frame = |identifier: u16| {
        let mut message = vec![0; 24];
        message[4..6].copy_from_slice(&identifier.to_be_bytes());
        let sum = !plain_sum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        Build::new(Sum::Whole, &[]).network(&reply(identifier), ICMP, &message)
    };
    assert_eq!(translated(&frame(77), &reply(0)).unwrap(), frame(0));
    assert_eq!(translated(&frame(0), &reply(77)).unwrap(), frame(77));
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let (old, build) = (plain_tuple(true, TCP), Build::new(Sum::Whole, b"payload"));
    let new = Tuple {
        source_port: 9,
        ..old
    };
    let mut before = build.frame(&old);
    before[14 + 20 + 16] ^= 0x40;
    assert_ne!(translated(&before, &new).unwrap(), build.frame(&new));
    assert_eq!(
        translated(&translated(&before, &new).unwrap(), &old).unwrap(),
        before
    );
}

#[test]
fn an_error_whose_quote_does_not_name_the_flow_is_malformed() {
    for is_v4 in [true, false] {
        let (old, build) = (plain_tuple(is_v4, UDP), Build::new(Sum::Whole, b"payload"));
        let packet = build.frame(&old);
        let headers = if is_v4 { 20 } else { 40 };
        let error = |quote: &[u8]| around(&old, old.destination, old.source, quote);
        let result = |quote: &[u8], new: &Tuple| translated_error(&error(quote), new, None, None);
        let whole = &packet[14..];
        assert!(result(&whole[..headers + 8], &old).is_ok());
        for length in [0, 10, headers, headers + 7] {
            assert_eq!(result(&whole[..length], &old), Err(Drop::Malformed));
        }
        let tcp = plain_tuple(is_v4, TCP);
        assert_eq!(result(whole, &tcp), Err(Drop::Malformed));
        assert_eq!(
            result(whole, &plain_tuple(!is_v4, UDP)),
            Err(Drop::Malformed)
        );
    }
}

#[test]
fn an_error_that_lies_in_several_pieces_is_malformed() {
    let (old, build) = (plain_tuple(true, UDP), Build::new(Sum::Whole, &[5; 60]));
    let bytes = error_about(&build, &old, old.destination, old.source, 60);
    let (head, tail) = bytes.split_at(80);
    let mut head = head.to_vec();
    let mut packet = read(&mut bytes.clone());
    let mut frame = FrameBytes {
        head: &mut head,
        head_length: 80,
        tail: &[tail],
    };
    let result = translate_error(&mut frame, &mut packet, &old, None, None);
    assert_eq!(result, Err(Drop::Malformed));
    assert_eq!(head, bytes[..80]);
}
