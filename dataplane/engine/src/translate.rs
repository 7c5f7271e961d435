//! New addresses and ports in the bytes of a packet, its checksums kept by difference.
//!
//! A checksum that was wrong stays wrong: the receiver is to find out, not to be deceived. A
//! partial one stays partial, for `checksum::finish` to complete. [RFC 1624 §3; RFC 5508]

use crate::extension_headers::walk_extensions;
use crate::packet::{ETHERNET_LENGTH, ICMP_HEADER_LENGTH, Packet, Transport, word};
use crate::translation::Tuple;
use crate::{Drop, FrameBytes, checksum};
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use std::net::IpAddr;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
/// Bytes above IP that an error has to quote. [RFC 792]
const QUOTED_MIN: usize = 8;

/// Source and destination.
type Addresses = (IpAddr, IpAddr);

/// Gives a packet the addresses and ports of `new`, which has its protocol and family. A later
/// fragment has only addresses. `packet` stays a true view of the frame.
///
/// # Errors
/// `FragmentUntranslatable` for other ports in a first fragment of SCTP: its checksum would have to be
/// made anew over bytes that are not here. Nothing has been written then.
pub(crate) fn translate(
    frame: &mut FrameBytes<'_>,
    packet: &mut Packet,
    new: &Tuple,
) -> Result<(), Drop> {
    debug_assert_eq!(packet.source.is_ipv4(), new.source.is_ipv4());
    // What a later fragment says of its protocol is only a claim.
    debug_assert!(
        packet.is_later_fragment() || packet.protocol().number() == new.protocol,
        "{packet:?} is to become {new:?}"
    );
    let start = usize::from(packet.transport_offset);
    let (protocol, length) = match packet.transport {
        Transport::LaterFragment(_) | Transport::Other(_) => (None, 0),
        _ => (Some(new.protocol), packet.frame_length() - start),
    };
    let is_sctp = protocol == Some(SCTP);
    if is_sctp && packet.fragment.is_some() && has_other_ports(&frame.head[start..], new) {
        return Err(Drop::FragmentUntranslatable);
    }
    let old = (packet.source, packet.destination);
    write_addresses(
        &mut frame.head[ETHERNET_LENGTH..],
        (new.source, new.destination),
    );
    if let Some(protocol) = protocol {
        let may_be_partial = packet.fragment.is_none();
        let above = Above {
            protocol,
            length: length as u32,
            may_be_partial,
        };
        let end = frame.head_length;
        above.translate(&mut frame.head[start..end], old, new);
        if protocol == ICMP {
            write_zero_of_icmp(frame, start, packet);
        }
    }
    (packet.source, packet.destination) = (new.source, new.destination);
    match &mut packet.transport {
        Transport::Tcp { ports, .. } | Transport::Udp { ports } | Transport::Sctp { ports } => {
            *ports = (new.source_port, new.destination_port);
        }
        Transport::Icmp(message) | Transport::Icmpv6(message) => {
            message.identifier = word(frame.head, start + 4);
        }
        Transport::LaterFragment(_) | Transport::Other(_) => {}
    }
    Ok(())
}

/// Gives an ICMP error other addresses where told, and the packet that it quotes those of `new`.
///
/// # Errors
/// `Malformed` when the quote cannot be read, is of another protocol or family than `new`, has
/// fewer than eight bytes above IP, or does not lie in the head. Nothing has been written then.
pub(crate) fn translate_error(
    frame: &mut FrameBytes<'_>,
    packet: &mut Packet,
    new: &Tuple,
    outer_source: Option<IpAddr>,
    outer_destination: Option<IpAddr>,
) -> Result<(), Drop> {
    let start = usize::from(packet.transport_offset);
    let end = packet.frame_length();
    let bytes = frame.bytes().get(start..end).ok_or(Drop::Malformed)?;
    let quote = Quote::read(
        bytes.get(ICMP_HEADER_LENGTH..).ok_or(Drop::Malformed)?,
        packet,
    )?;
    let is_fit = quote.above.protocol == new.protocol
        && quote.addresses.0.is_ipv4() == new.source.is_ipv4()
        && new.source.is_ipv4() == new.destination.is_ipv4();
    if !packet.is_icmp_error() || !is_fit {
        return Err(Drop::Malformed);
    }
    let outer = (
        outer_source.unwrap_or(packet.source),
        outer_destination.unwrap_or(packet.destination),
    );
    let before = checksum::sum(bytes);
    let message = &mut frame.head[start..end];
    let quoted = &mut message[ICMP_HEADER_LENGTH..];
    write_addresses(quoted, (new.source, new.destination));
    quote
        .above
        .translate(&mut quoted[quote.offset..], quote.addresses, new);
    let after = checksum::sum(message);
    let mut sum = checksum::adjust(word(message, 2), before, after);
    if packet.source.is_ipv6() {
        sum = adjust_addresses(sum, (packet.source, packet.destination), outer);
    }
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    write_addresses(&mut frame.head[ETHERNET_LENGTH..], outer);
    (packet.source, packet.destination) = outer;
    Ok(())
}

/// The packet that an error quotes, its lengths compared with the bytes.
struct Quote {
    addresses: Addresses,
    /// Of what is above IP, from the start of the quote.
    offset: usize,
    above: Above,
}

impl Quote {
    fn read(bytes: &[u8], error: &Packet) -> Result<Self, Drop> {
        let (addresses, protocol, offset, total) = match error.source {
            IpAddr::V4(_) => {
                let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|_| Drop::Malformed)?;
                if header.fragments_offset().value() != 0 {
                    return Err(Drop::Malformed);
                }
                (
                    (
                        IpAddr::V4(header.source_addr()),
                        IpAddr::V4(header.destination_addr()),
                    ),
                    header.protocol().0,
                    header.slice().len(),
                    usize::from(header.total_len()),
                )
            }
            IpAddr::V6(_) => {
                let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|_| Drop::Malformed)?;
                let chain = walk_extensions(header.next_header(), header.header_len(), bytes)
                    .map_err(|_| Drop::Malformed)?;
                if chain.fragment.is_some_and(|fragment| fragment.offset != 0) {
                    return Err(Drop::Malformed);
                }
                (
                    (
                        IpAddr::V6(header.source_addr()),
                        IpAddr::V6(header.destination_addr()),
                    ),
                    chain.protocol.0,
                    chain.offset,
                    header.header_len() + usize::from(header.payload_length()),
                )
            }
        };
        if bytes.len() < offset + QUOTED_MIN {
            return Err(Drop::Malformed);
        }
        let length = total.saturating_sub(offset) as u32;
        Ok(Self {
            addresses,
            offset,
            above: Above {
                protocol,
                length,
                // A quote of what a pod on this node sent may have been made before its
                // checksum was finished.
                may_be_partial: true,
            },
        })
    }
}

/// What is above IP.
struct Above {
    protocol: u8,
    /// Bytes as the headers state them, also where fewer are here.
    length: u32,
    may_be_partial: bool,
}

impl Above {
    /// Writes ports or identifier, and the checksum of the new pseudo-header if it lies in
    /// `bytes`, which are eight at least.
    fn translate(&self, bytes: &mut [u8], old: Addresses, new: &Tuple) {
        let before = checksum::sum(&bytes[..QUOTED_MIN]);
        let Some((at, has_pseudo_header)) = self.write_ports(bytes, new) else {
            return;
        };
        if bytes.len() < at + 2 {
            return;
        }
        // The checksum may lie within the eight bytes: in both sums, so it does not count.
        let after = checksum::sum(&bytes[..QUOTED_MIN]);
        let field = word(bytes, at);
        let is_udp = self.protocol == UDP;
        // Zero: there is none. IPv6 forbids it, and so it stays wrong there. [RFC 768]
        if is_udp && field == 0 {
            return;
        }
        let pseudo_header = |addresses: Addresses| {
            let length = match self.protocol {
                UDP => self.length.min(u32::from(word(bytes, 4))),
                _ => self.length,
            };
            checksum::pseudo_header(addresses.0, addresses.1, self.protocol, length).folded()
        };
        let may_be_partial = self.may_be_partial && matches!(self.protocol, TCP | UDP);
        let new_addresses = (new.source, new.destination);
        let sum = if may_be_partial && field == pseudo_header(old) {
            pseudo_header(new_addresses)
        } else {
            // 0xffff is how UDP writes the sum zero.
            let sum = if is_udp && field == 0xffff { 0 } else { field };
            let sum = checksum::adjust(sum, before, after);
            let sum = if has_pseudo_header {
                adjust_addresses(sum, old, new_addresses)
            } else {
                sum
            };
            if is_udp && sum == 0 { 0xffff } else { sum }
        };
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// Writes ports or identifier. Returns where the checksum is to be adjusted, and whether it
    /// covers the pseudo-header.
    fn write_ports(&self, bytes: &mut [u8], new: &Tuple) -> Option<(usize, bool)> {
        match self.protocol {
            TCP | UDP => {
                write_port_pair(bytes, new);
                Some((if self.protocol == TCP { 16 } else { 6 }, true))
            }
            SCTP => {
                // Zero is partial: a CRC cannot be adjusted without all the bytes.
                if has_other_ports(bytes, new) {
                    write_port_pair(bytes, new);
                    if let Some(field) = bytes.get_mut(8..12) {
                        field.fill(0);
                    }
                }
                None
            }
            ICMP | ICMPV6 => {
                // [RFC 792, RFC 4443 §4: echo request 8 and 128, reply 0 and 129]
                let identifier = match (self.protocol, bytes[0]) {
                    (ICMP, 8) | (ICMPV6, 128) => Some(new.source_port),
                    (ICMP, 0) | (ICMPV6, 129) => Some(new.destination_port),
                    _ => None,
                };
                if let Some(identifier) = identifier {
                    bytes[4..6].copy_from_slice(&identifier.to_be_bytes());
                }
                Some((2, self.protocol == ICMPV6))
            }
            _ => None,
        }
    }
}

fn has_other_ports(bytes: &[u8], new: &Tuple) -> bool {
    (word(bytes, 0), word(bytes, 2)) != (new.source_port, new.destination_port)
}

fn write_port_pair(bytes: &mut [u8], new: &Tuple) {
    bytes[..2].copy_from_slice(&new.source_port.to_be_bytes());
    bytes[2..4].copy_from_slice(&new.destination_port.to_be_bytes());
}

/// Writes the addresses of an IP header, and adjusts its checksum if it is IPv4.
fn write_addresses(network: &mut [u8], new: Addresses) {
    match new {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let before = checksum::sum(&network[12..20]);
            network[12..16].copy_from_slice(&source.octets());
            network[16..20].copy_from_slice(&destination.octets());
            let after = checksum::sum(&network[12..20]);
            let sum = checksum::adjust(word(network, 10), before, after);
            network[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            network[8..24].copy_from_slice(&source.octets());
            network[24..40].copy_from_slice(&destination.octets());
        }
        _ => debug_assert!(false, "two families in one packet"),
    }
}

/// Adjusts a checksum that covers the pseudo-header.
fn adjust_addresses(sum: u16, old: Addresses, new: Addresses) -> u16 {
    // Protocol and length are in both, so they do not count.
    let of = |addresses: Addresses| checksum::pseudo_header(addresses.0, addresses.1, 0, 0);
    checksum::adjust(sum, of(old).folded(), of(new).folded())
}

/// The one sum that a difference cannot tell: a message of nothing but zeros, an echo reply, has
/// the checksum 0xffff; in any other 0 is right.
fn write_zero_of_icmp(frame: &mut FrameBytes<'_>, start: usize, packet: &Packet) {
    if packet.fragment.is_some() || word(frame.head, start + 2) != 0 {
        return;
    }
    let mut running = checksum::Running::default();
    frame.for_each_piece(start, packet.frame_length(), |piece| running.add(piece));
    if running.folded() == 0 {
        frame.head[start + 2..start + 4].fill(0xff);
    }
}

#[cfg(test)]
mod tests;
