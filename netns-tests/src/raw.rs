//! Frames as a hostile pod would send them: byte for byte, past its own network stack.

use crate::place::Place;
use crate::pod::Pod;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage, sendto,
    socket,
};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

/// IPv4 in an Ethernet header. [IANA EtherTypes]
pub const ETHERTYPE_IPV4: u16 = 0x0800;

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
    let sum = !header.chunks(2).fold(0_u16, |sum, word| {
        let (sum, is_carried) = sum.overflowing_add(u16::from_be_bytes([word[0], word[1]]));
        sum + u16::from(is_carried)
    });
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], payload].concat()
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
