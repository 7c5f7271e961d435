//! The packet that an ICMP error is about, as far as the error quotes it.

use crate::FrameBytes;
use crate::extension_headers::walk_extensions;
use crate::packet::{ICMP_HEADER_LENGTH, IcmpMessage, Packet, icmp_message, word};
use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice};
use portcullis_policy::Protocol;
use std::net::IpAddr;

/// The packet that an ICMP error is about, as far as the error quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quoted {
    /// Who had sent it.
    pub source: IpAddr,
    /// Whom it was for.
    pub destination: IpAddr,
    /// What was above IP: ports or the ICMP message; flags and lengths are not quoted.
    pub transport: QuotedTransport,
}

/// The first eight bytes above IP of a quoted packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QuotedTransport {
    /// TCP, UDP or SCTP with source and destination port.
    Ports(Protocol, (u16, u16)),
    /// An ICMP or ICMPv6 message.
    Icmp(Protocol, IcmpMessage),
}

/// Reads the packet that an ICMP error quotes. None when it cannot be read, or is a fragment
/// after the first, or no flow can be of its kind.
pub(crate) fn quoted(frame: &FrameBytes<'_>, error: &Packet) -> Option<Quoted> {
    let end = frame.head_length.min(error.frame_length());
    let start = usize::from(error.transport_offset) + ICMP_HEADER_LENGTH;
    let bytes = frame.bytes().get(start..end)?;
    let (source, destination, protocol, offset, family) = match error.source {
        IpAddr::V4(_) => {
            let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
            if header.fragments_offset().value() != 0 {
                return None;
            }
            (
                IpAddr::V4(header.source_addr()),
                IpAddr::V4(header.destination_addr()),
                header.protocol(),
                header.slice().len(),
                IpNumber::ICMP,
            )
        }
        IpAddr::V6(_) => {
            let header = Ipv6HeaderSlice::from_slice(bytes).ok()?;
            let chain = walk_extensions(header.next_header(), header.header_len(), bytes).ok()?;
            if chain.fragment.is_some_and(|piece| piece.offset != 0) {
                return None;
            }
            (
                IpAddr::V6(header.source_addr()),
                IpAddr::V6(header.destination_addr()),
                chain.protocol,
                chain.offset,
                IpNumber::IPV6_ICMP,
            )
        }
    };
    let above = bytes.get(offset..offset + 8)?;
    let named = Protocol::from_number(protocol.0);
    let transport = match protocol {
        IpNumber::TCP | IpNumber::UDP | IpNumber::SCTP => {
            QuotedTransport::Ports(named, (word(above, 0), word(above, 2)))
        }
        icmp if icmp == family => QuotedTransport::Icmp(named, icmp_message(above)),
        _ => return None,
    };
    Some(Quoted {
        source,
        destination,
        transport,
    })
}
