//! Whose a frame on the uplink is: the one decision of the kernel program, apart from the kernel.
//!
//! Our prefixes are ours by address alone. An address that we share with the host's stack is ours
//! for what we can be talking about there, and by doubt the host's: the node stays reachable.

use crate::shared::{Datagram, Frontend, PortRange, Transport, mapped};

/// Bytes of an Ethernet header without a tag.
pub const ETHERNET_LENGTH: usize = 14;
/// Where the Ethernet header names what follows.
const ETHERTYPE_OFFSET: usize = 12;
/// IPv4. [IEEE 802 numbers]
const ETHERTYPE_V4: u16 = 0x0800;
/// IPv6. [IEEE 802 numbers]
const ETHERTYPE_V6: u16 = 0x86dd;
/// Where the IPv4 header holds its source. [RFC 791 §3.1]
const SOURCE_OFFSET_V4: usize = 12;
/// Where the IPv4 header holds its destination. [RFC 791 §3.1]
const DESTINATION_OFFSET_V4: usize = 16;
/// Where the IPv6 header holds its source. [RFC 8200 §3]
const SOURCE_OFFSET_V6: usize = 8;
/// Where the IPv6 header holds its destination. [RFC 8200 §3]
const DESTINATION_OFFSET_V6: usize = 24;
/// Bytes of an IPv6 header. [RFC 8200 §3]
const LENGTH_V6: usize = 40;
/// Bytes of an IPv6 fragment header. [RFC 8200 §4.5]
const FRAGMENT_LENGTH_V6: usize = 8;
/// The fragment header as what comes next in IPv6. [RFC 8200 §4.5]
const FRAGMENT_V6: u8 = 44;
/// Bytes of an ICMP header; in an error the packet that it is about stands behind them.
/// [RFC 792, RFC 4443 §2.1]
const ICMP_LENGTH: usize = 8;

/// Whose a frame on the uplink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Goes to our socket.
    Us,
    /// Stays with the host's stack.
    Host,
    /// Says it is IP, but ends before its destination address.
    Unreadable,
}

/// What the decision asks of a frame.
pub trait Frame {
    /// Reads `N` bytes at `offset`, a constant; None past the frame's end.
    fn head<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Reads `N` bytes at `offset`, which the frame's own contents may decide; None past its end.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

/// What the daemon said is ours.
pub trait Ours {
    /// Whether the address lies in one of our IPv4 prefixes.
    fn has_v4(&self, address: [u8; 4]) -> bool;

    /// Whether the address lies in one of our IPv6 prefixes.
    fn has_v6(&self, address: [u8; 16]) -> bool;

    /// Whether it is a frontend of ours.
    fn has_frontend(&self, frontend: &Frontend) -> bool;

    /// The ports of an egress address that are ours; None when it is not an egress address.
    fn egress_ports(&self, address: &[u8; 16]) -> Option<PortRange>;

    /// Notes whether the first fragment of a datagram was ours. Room for it may be short.
    fn note(&self, datagram: &Datagram, is_ours: bool);

    /// Whether the first fragment of a datagram was ours, as far as is remembered.
    fn has_datagram(&self, datagram: &Datagram) -> bool;
}

/// The end, on this node, of the conversation that a packet belongs to.
enum End {
    Port(Transport, u16),
    /// Of a ping that was sent from here.
    Echo(u16),
}

/// The two IP versions, where they differ in numbers only.
#[derive(Clone, Copy)]
enum Version {
    V4,
    V6,
}

impl Version {
    /// The protocol number of its ICMP.
    const fn icmp(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 58,
        }
    }

    /// Types of ICMP's echo request and reply. [RFC 792, RFC 4443 §4]
    const fn echo(self) -> (u8, u8) {
        match self {
            Self::V4 => (8, 0),
            Self::V6 => (128, 129),
        }
    }

    /// Whether a type of ICMP is an error, which quotes the packet that it is about.
    /// [RFC 792, RFC 4443 §3]
    const fn is_error(self, kind: u8) -> bool {
        match self {
            Self::V4 => matches!(kind, 3 | 4 | 11 | 12),
            Self::V6 => matches!(kind, 1..=4),
        }
    }
}

/// Says whose a frame is.
///
/// ARP, neighbour discovery to the host's own addresses, multicast and tagged frames stay the
/// host's. Later fragments carry no ports: to a shared address they go where their first one went,
/// and one that comes before it is the host's.
#[inline(always)]
#[must_use]
pub fn owner(frame: &impl Frame, ours: &impl Ours) -> Owner {
    let Some(ethertype) = frame.head::<2>(ETHERTYPE_OFFSET) else {
        return Owner::Unreadable;
    };
    let (version, address) = match u16::from_be_bytes(ethertype) {
        ETHERTYPE_V4 => match frame.head::<4>(ETHERNET_LENGTH + DESTINATION_OFFSET_V4) {
            Some(address) if ours.has_v4(address) => return Owner::Us,
            Some(address) => (Version::V4, mapped(address)),
            None => return Owner::Unreadable,
        },
        ETHERTYPE_V6 => match frame.head::<16>(ETHERNET_LENGTH + DESTINATION_OFFSET_V6) {
            Some(address) if ours.has_v6(address) => return Owner::Us,
            Some(address) => (Version::V6, address),
            None => return Owner::Unreadable,
        },
        _ => return Owner::Host,
    };
    let ports = ours.egress_ports(&address).unwrap_or(PortRange::NONE);
    if ports.is_all() && !is_neighbour_discovery(frame, version) {
        return Owner::Us;
    }
    // Neighbour discovery has no end.
    let is_ours = match end(frame, version, &address) {
        Some(End::Port(transport, port)) => {
            ports.has_port(port) || ours.has_frontend(&Frontend::of_key(address, port, transport))
        }
        Some(End::Echo(identifier)) => ports.has_port(identifier),
        None => false,
    };
    let is_ours = match fragment(frame, version) {
        Some((datagram, Place::First)) => {
            // Also when it is not: the sender has used the identification again.
            ours.note(&datagram, is_ours);
            is_ours
        }
        Some((datagram, Place::Later)) => ours.has_datagram(&datagram),
        None => is_ours,
    };
    if is_ours { Owner::Us } else { Owner::Host }
}

/// Where a fragment lies in its datagram.
enum Place {
    First,
    Later,
}

/// The datagram that a packet is a fragment of; None when it is whole.
#[inline(always)]
fn fragment(frame: &impl Frame, version: Version) -> Option<(Datagram, Place)> {
    let place = |offset: u16, has_more: bool| match (offset, has_more) {
        (0, false) => None,
        (0, true) => Some(Place::First),
        _ => Some(Place::Later),
    };
    match version {
        Version::V4 => {
            let word = u16::from_be_bytes(frame.head(ETHERNET_LENGTH + 6)?);
            let place = place(word & 0x1fff, word & 0x2000 != 0)?;
            let datagram = Datagram::v4(
                u32::from_ne_bytes(frame.head(ETHERNET_LENGTH + SOURCE_OFFSET_V4)?),
                u32::from_ne_bytes(frame.head(ETHERNET_LENGTH + DESTINATION_OFFSET_V4)?),
                u16::from_ne_bytes(frame.head(ETHERNET_LENGTH + 4)?),
                frame.head::<1>(ETHERNET_LENGTH + 9)?[0],
            );
            Some((datagram, place))
        }
        Version::V6 => {
            if frame.head(ETHERNET_LENGTH + 6) != Some([FRAGMENT_V6]) {
                return None;
            }
            let at = ETHERNET_LENGTH + LENGTH_V6;
            let word = u16::from_be_bytes(frame.head(at + 2)?);
            let place = place(word & 0xfff8, word & 1 != 0)?;
            let datagram = Datagram::v6(
                words(frame, ETHERNET_LENGTH + SOURCE_OFFSET_V6)?,
                words(frame, ETHERNET_LENGTH + DESTINATION_OFFSET_V6)?,
                u32::from_ne_bytes(frame.head(at + 4)?),
            );
            Some((datagram, place))
        }
    }
}

/// An IPv6 address at `offset`, a constant.
#[inline(always)]
fn words(frame: &impl Frame, offset: usize) -> Option<[u32; 4]> {
    Some([
        u32::from_ne_bytes(frame.head(offset)?),
        u32::from_ne_bytes(frame.head(offset + 4)?),
        u32::from_ne_bytes(frame.head(offset + 8)?),
        u32::from_ne_bytes(frame.head(offset + 12)?),
    ])
}

/// Whether a packet asks or tells which MAC address an IPv6 address has. [RFC 4861 §4.3, §4.4]
///
/// As with ARP the host answers for every address of the node. Most questions are multicast; those
/// of a neighbour that checks what it knows are not.
#[inline(always)]
fn is_neighbour_discovery(frame: &impl Frame, version: Version) -> bool {
    matches!(version, Version::V6)
        && frame.head(ETHERNET_LENGTH + 6) == Some([Version::V6.icmp()])
        && matches!(frame.head(ETHERNET_LENGTH + LENGTH_V6), Some([135 | 136]))
}

/// The end that a packet to `address` is for; None when it names none.
///
/// A ping of the node is an echo request, and none of ours: only replies have an end here.
#[inline(always)]
fn end(frame: &impl Frame, version: Version, address: &[u8; 16]) -> Option<End> {
    let (protocol, at) = match version {
        Version::V4 => payload_v4(frame.head(ETHERNET_LENGTH)?, ETHERNET_LENGTH)?,
        Version::V6 => payload_v6(frame, frame.head(ETHERNET_LENGTH)?, ETHERNET_LENGTH)?,
    };
    if let Some(transport) = Transport::of(protocol) {
        let port = frame.read::<2>(at + 2)?;
        return Some(End::Port(transport, u16::from_be_bytes(port)));
    }
    if protocol != version.icmp() {
        return None;
    }
    let header = frame.read::<ICMP_LENGTH>(at)?;
    if version.is_error(header[0]) {
        return quoted_end(frame, version, at + ICMP_LENGTH, address);
    }
    let (_, reply) = version.echo();
    (header[0] == reply).then_some(End::Echo(u16::from_be_bytes([header[4], header[5]])))
}

/// The end that a quoted packet came from; None when it did not come from `address`.
///
/// Errors go to where the packet came from, so that any other is nobody's.
#[inline(always)]
fn quoted_end(
    frame: &impl Frame,
    version: Version,
    start: usize,
    address: &[u8; 16],
) -> Option<End> {
    let (source, (protocol, at)) = match version {
        Version::V4 => {
            let source = mapped(frame.read(start + 12)?);
            (source, payload_v4(frame.read(start)?, start)?)
        }
        Version::V6 => {
            let source = frame.read(start + 8)?;
            (source, payload_v6(frame, frame.read(start)?, start)?)
        }
    };
    // As numbers: the kernel program has no memcmp.
    if u128::from_ne_bytes(source) != u128::from_ne_bytes(*address) {
        return None;
    }
    if let Some(transport) = Transport::of(protocol) {
        let port = frame.read::<2>(at)?;
        return Some(End::Port(transport, u16::from_be_bytes(port)));
    }
    if protocol != version.icmp() {
        return None;
    }
    let header = frame.read::<6>(at)?;
    let (request, _) = version.echo();
    (header[0] == request).then_some(End::Echo(u16::from_be_bytes([header[4], header[5]])))
}

/// Protocol and place of what an IPv4 packet at `start` carries; None in a later fragment.
#[inline(always)]
fn payload_v4(header: [u8; 10], start: usize) -> Option<(u8, usize)> {
    let length = usize::from(header[0] & 0xf) * 4;
    let is_header = header[0] >> 4 == 4 && length >= 20;
    let is_later_fragment = header[6] & 0x1f != 0 || header[7] != 0;
    (is_header && !is_later_fragment).then_some((header[9], start + length))
}

/// Protocol and place of what an IPv6 packet at `start` carries; None in a later fragment. Of the
/// extension headers only that of a fragment is read: what stands behind others has no ports here.
#[inline(always)]
fn payload_v6(frame: &impl Frame, header: [u8; 7], start: usize) -> Option<(u8, usize)> {
    if header[0] >> 4 != 6 {
        return None;
    }
    if header[6] != FRAGMENT_V6 {
        return Some((header[6], start + LENGTH_V6));
    }
    let fragment = frame.read::<4>(start + LENGTH_V6)?;
    let is_later_fragment = fragment[2] != 0 || fragment[3] & 0xf8 != 0;
    let at = start + LENGTH_V6 + FRAGMENT_LENGTH_V6;
    (!is_later_fragment).then_some((fragment[0], at))
}
