//! Frames as a hostile pod would send them: byte for byte, past its own network stack.

use crate::place::Place;
use crate::pod::Pod;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike,
    SockaddrStorage, bind, recvfrom, sendto, setsockopt, socket, sockopt,
};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

/// IPv4 in an Ethernet header. [IANA EtherTypes]
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// IPv6 in an Ethernet header. [IANA EtherTypes]
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// A frame that the kernel itself sent. [packet(7)]
const PACKET_OUTGOING: u8 = 4;

impl Pod {
    /// Sends frames out of the pod's interface as they are.
    ///
    /// # Panics
    /// When the kernel refuses one.
    pub fn send_raw(&self, frames: &[Vec<u8>]) {
        send_raw(&self.place, frames);
    }
}

/// Sends frames out of `eth0` of any place as they are.
///
/// # Panics
/// When the kernel refuses one.
pub fn send_raw(place: &Place, frames: &[Vec<u8>]) {
    let frames = frames.to_vec();
    place.call(move || {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::empty(),
            None,
        );
        let socket = socket.expect("a packet socket, as root");
        let link = link_address("eth0");
        for frame in frames {
            let sent = sendto(socket.as_raw_fd(), &frame, &link, MsgFlags::empty());
            assert_eq!(sent, Ok(frame.len()), "a frame of {} bytes", frame.len());
        }
    });
}

fn link_address(interface: &str) -> LinkAddr {
    getifaddrs()
        .expect("interfaces can be listed")
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| {
            entry
                .address
                .as_ref()
                .and_then(SockaddrStorage::as_link_addr)
                .copied()
        })
        .filter(|link| link.family() == Some(AddressFamily::Packet))
        .unwrap_or_else(|| panic!("no interface {interface}"))
}

/// Hears every frame that comes in at `eth0` of a place, from the moment it was made.
#[derive(Debug)]
pub struct Tap(OwnedFd);

impl Tap {
    /// Begins to hear.
    ///
    /// # Panics
    /// Without the rights of root.
    #[must_use]
    pub fn new(place: &Place) -> Self {
        place.call(|| {
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_NONBLOCK,
                SockProtocol::EthAll,
            );
            let socket = socket.expect("a packet socket, as root");
            setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).expect("a large buffer");
            let link = link_address("eth0");
            bind(socket.as_raw_fd(), &link).expect("eth0 can be listened to");
            Self(socket)
        })
    }

    /// The lengths of the frames that came in since the last call.
    ///
    /// # Panics
    /// When the interface went away.
    #[must_use]
    pub fn lengths(&self) -> Vec<usize> {
        let mut lengths = Vec::new();
        // Longer than any frame: what is cut off could not be told apart.
        let mut bytes = vec![0; 1 << 17];
        loop {
            match recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut bytes) {
                Ok((length, from)) => {
                    if from.is_none_or(|from| from.pkttype() != PACKET_OUTGOING) {
                        lengths.push(length);
                    }
                }
                Err(Errno::EAGAIN) => return lengths,
                Err(error) => panic!("eth0 cannot be heard: {error}"),
            }
        }
    }
}

/// An Ethernet frame.
#[must_use]
pub fn ethernet(from: [u8; 6], to: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &ethertype.to_be_bytes()[..], payload].concat()
}

/// An IPv4 packet without options, its checksum right. [RFC 791 §3.1]
///
/// # Panics
/// When the payload is too long for one.
#[must_use]
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("at most 65535 bytes");
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], payload].concat()
}

/// An IPv6 packet without extension headers. [RFC 8200 §3]
///
/// # Panics
/// When the payload is too long for one.
#[must_use]
pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("at most 65535 bytes");
    let [high, low] = length.to_be_bytes();
    let start = [0x60, 0, 0, 0, high, low, protocol, 64];
    [&start[..], &from.octets(), &to.octets(), payload].concat()
}

/// A piece of an IPv4 payload from a byte on that eight divides. [RFC 791 §3.2]
///
/// # Panics
/// When the payload is too long for one packet.
#[must_use]
pub fn ipv4_fragment(
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    identification: u16,
    (offset, has_more): (u16, bool),
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = ipv4(from, to, protocol, payload);
    let place = (offset / 8) | (u16::from(has_more) << 13);
    packet[4..6].copy_from_slice(&identification.to_be_bytes());
    packet[6..8].copy_from_slice(&place.to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A piece of an IPv6 payload from a byte on that eight divides. [RFC 8200 §4.5]
///
/// # Panics
/// When the payload is too long for one packet.
#[must_use]
pub fn ipv6_fragment(
    from: Ipv6Addr,
    to: Ipv6Addr,
    protocol: u8,
    identification: u32,
    (offset, has_more): (u16, bool),
    payload: &[u8],
) -> Vec<u8> {
    let [high, low] = (offset | u16::from(has_more)).to_be_bytes();
    let header = [&[protocol, 0, high, low], &identification.to_be_bytes()[..]].concat();
    ipv6(from, to, 44, &[&header[..], payload].concat())
}

/// A UDP datagram without a checksum, which IPv4 allows. [RFC 768]
///
/// # Panics
/// When the payload is too long for one.
#[must_use]
pub fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("at most 65535 bytes");
    let words = [from, to, length, 0].map(u16::to_be_bytes).concat();
    [&words[..], payload].concat()
}

/// A UDP datagram with the checksum that IPv6 asks for. [RFC 8200 §8.1]
///
/// # Panics
/// When the payload is too long for one.
#[must_use]
pub fn udp_over_ipv6(from: Ipv6Addr, to: Ipv6Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut datagram = udp(ports.0, ports.1, payload);
    let length = u16::try_from(datagram.len()).expect("at most 65535 bytes");
    let pseudo = [
        &from.octets()[..],
        &to.octets(),
        &length.to_be_bytes(),
        &[0, 17],
    ]
    .concat();
    let sum = match checksum(&[&pseudo[..], &datagram[..]].concat()) {
        // Zero would mean that there is none.
        0 => 0xffff,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// The Internet checksum; an odd last byte counts as if a zero followed. [RFC 1071]
fn checksum(bytes: &[u8]) -> u16 {
    !bytes.chunks(2).fold(0_u16, |sum, word| {
        let low = word.get(1).copied().unwrap_or(0);
        let (sum, is_carried) = sum.overflowing_add(u16::from_be_bytes([word[0], low]));
        sum + u16::from(is_carried)
    })
}
