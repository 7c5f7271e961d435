//! ICMP errors that the node sends as a router: time exceeded and packet too big.

use crate::packet::{ETHERNET_LENGTH, Packet};
use crate::{Drop, FrameBytes, MacAddress, address, checksum};
use portcullis_policy::Protocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const IPV4_LENGTH: usize = 20;
const IPV6_LENGTH: usize = 40;
const ICMP_LENGTH: usize = 8;
/// Bytes of a whole IPv4 packet with an error. [RFC 1812 §4.3.2.3]
const IPV4_ERROR_MAX: usize = 576;
/// Bytes of a whole IPv6 packet with an error. [RFC 4443 §2.4 (c)]
const IPV6_ERROR_MAX: usize = 1280;
/// Hops that an error may go.
const HOPS: u8 = 64;
/// Internetwork control, as routers mark errors. [RFC 1812 §4.3.2.5]
const IPV4_PRECEDENCE: u8 = 0xc0;

/// What is wrong with the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Error {
    /// Its hops ran out here.
    TimeExceeded,
    /// The way out takes packets of this many bytes of IP.
    PacketTooBig(u32),
    /// Nobody is at the port, for this reason.
    PortUnreachable(Drop),
    /// It may not leave, for this reason.
    Prohibited(Drop),
}

impl Error {
    /// Why the packet ends.
    pub const fn reason(self) -> Drop {
        match self {
            Self::TimeExceeded => Drop::TtlExceeded,
            Self::PacketTooBig(_) => Drop::PacketTooBig,
            Self::PortUnreachable(reason) | Self::Prohibited(reason) => reason,
        }
    }
}

/// Where the error comes from and goes to on the link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub source: MacAddress,
    pub destination: MacAddress,
    pub gateways: (Ipv4Addr, Ipv6Addr),
}

/// Whether an error may be sent about this packet: never about an error, nor about a fragment
/// after the first, nor to or about more than one host. [RFC 1812 §4.3.2.7; RFC 4443 §2.4 (e)]
pub(crate) fn is_permitted(packet: &Packet) -> bool {
    !packet.is_icmp_error()
        && !packet.is_later_fragment()
        && !address::is_multicast(packet.source)
        && !address::is_martian(packet.source)
        && !address::is_multicast(packet.destination)
}

/// Makes the error in the head, around as much of the packet as may be quoted and lies there.
/// Returns its length.
///
/// # Errors
/// `NoFreeFrame` when the head has no room.
pub(crate) fn answer(
    frame: &mut FrameBytes<'_>,
    packet: &Packet,
    error: Error,
    link: &Link,
) -> Result<u16, Drop> {
    let (header, limit, family) = match packet.source {
        IpAddr::V4(_) => (IPV4_LENGTH, IPV4_ERROR_MAX, [0x08, 0x00]),
        IpAddr::V6(_) => (IPV6_LENGTH, IPV6_ERROR_MAX, [0x86, 0xdd]),
    };
    let room = frame.head.len().saturating_sub(ETHERNET_LENGTH).min(limit);
    let present = frame
        .head_length
        .min(packet.frame_length())
        .saturating_sub(ETHERNET_LENGTH);
    let quoted = room.saturating_sub(header + ICMP_LENGTH).min(present);
    // The quote has to name the flow, else it helps nobody.
    let least = usize::from(packet.transport_offset) - ETHERNET_LENGTH + 8;
    if quoted < least {
        return Err(Drop::NoFreeFrame);
    }
    let quote_at = ETHERNET_LENGTH + header + ICMP_LENGTH;
    frame
        .head
        .copy_within(ETHERNET_LENGTH..ETHERNET_LENGTH + quoted, quote_at);
    let length = quote_at + quoted;
    let out = &mut frame.head[..length];
    out[..6].copy_from_slice(&link.destination.0);
    out[6..12].copy_from_slice(&link.source.0);
    out[12..14].copy_from_slice(&family);
    match packet.source {
        IpAddr::V4(source) => write_ipv4(out, link.gateways.0, source, error),
        IpAddr::V6(source) => write_ipv6(out, link.gateways.1, source, error),
    }
    Ok(length as u16)
}

fn write_ipv4(out: &mut [u8], from: Ipv4Addr, to: Ipv4Addr, error: Error) {
    let total = (out.len() - ETHERNET_LENGTH) as u16;
    let (header, message) = out[ETHERNET_LENGTH..].split_at_mut(IPV4_LENGTH);
    header[..2].copy_from_slice(&[0x45, IPV4_PRECEDENCE]);
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[4..12].copy_from_slice(&[0, 0, 0, 0, HOPS, Protocol::Icmp.number(), 0, 0]);
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = !checksum::sum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    // [RFC 792: time exceeded in transit; RFC 1191 §4: the MTU in the low half of the last word]
    let (kind, code, mtu) = match error {
        Error::TimeExceeded => (11, 0, 0),
        Error::PacketTooBig(mtu) => (3, 4, mtu.min(u32::from(u16::MAX))),
        Error::PortUnreachable(_) => (3, 3, 0),
        // [RFC 1812 §5.2.7.1: communication administratively prohibited]
        Error::Prohibited(_) => (3, 13, 0),
    };
    message[..4].copy_from_slice(&[kind, code, 0, 0]);
    message[4..8].copy_from_slice(&mtu.to_be_bytes());
    let sum = !checksum::sum(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

fn write_ipv6(out: &mut [u8], from: Ipv6Addr, to: Ipv6Addr, error: Error) {
    let payload = (out.len() - ETHERNET_LENGTH - IPV6_LENGTH) as u16;
    let (header, message) = out[ETHERNET_LENGTH..].split_at_mut(IPV6_LENGTH);
    header[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    header[4..6].copy_from_slice(&payload.to_be_bytes());
    header[6..8].copy_from_slice(&[Protocol::Icmpv6.number(), HOPS]);
    header[8..24].copy_from_slice(&from.octets());
    header[24..40].copy_from_slice(&to.octets());
    // [RFC 4443 §3.1, §3.2, §3.3]
    let (kind, code, mtu) = match error {
        Error::TimeExceeded => (3, 0, 0),
        Error::PacketTooBig(mtu) => (2, 0, mtu),
        Error::PortUnreachable(_) => (1, 4, 0),
        Error::Prohibited(_) => (1, 1, 0),
    };
    message[..4].copy_from_slice(&[kind, code, 0, 0]);
    message[4..8].copy_from_slice(&mtu.to_be_bytes());
    let mut sum = checksum::pseudo_header(
        IpAddr::V6(from),
        IpAddr::V6(to),
        Protocol::Icmpv6.number(),
        u32::from(payload),
    );
    sum.add(message);
    let sum = !sum.folded();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}
