//! Hubble's names of ICMP types. Records have no code, so an error is named without its cause.

use portcullis_policy::Protocol;
use std::fmt::Write;

/// Writes the name of a type, or its number.
pub(super) fn write_name(text: &mut String, protocol: Option<Protocol>, kind: u8) {
    match name(protocol, kind) {
        Some(name) => text.push_str(name),
        None => {
            let _ = write!(text, "{kind}");
        }
    }
}

const fn name(protocol: Option<Protocol>, kind: u8) -> Option<&'static str> {
    Some(match (protocol, kind) {
        (Some(Protocol::Icmp), 0) | (Some(Protocol::Icmpv6), 129) => "EchoReply",
        (Some(Protocol::Icmp), 8) | (Some(Protocol::Icmpv6), 128) => "EchoRequest",
        (Some(Protocol::Icmp), 3) | (Some(Protocol::Icmpv6), 1) => "DestinationUnreachable",
        (Some(Protocol::Icmp), 11) | (Some(Protocol::Icmpv6), 3) => "TimeExceeded",
        (Some(Protocol::Icmp), 12) | (Some(Protocol::Icmpv6), 4) => "ParameterProblem",
        (Some(Protocol::Icmp), 5) | (Some(Protocol::Icmpv6), 137) => "Redirect",
        (Some(Protocol::Icmp), 4) => "SourceQuench",
        (Some(Protocol::Icmp), 13) => "TimestampRequest",
        (Some(Protocol::Icmp), 14) => "TimestampReply",
        (Some(Protocol::Icmp), 15) => "InfoRequest",
        (Some(Protocol::Icmp), 16) => "InfoReply",
        (Some(Protocol::Icmp), 17) => "AddressMaskRequest",
        (Some(Protocol::Icmp), 18) => "AddressMaskReply",
        (Some(Protocol::Icmpv6), 2) => "PacketTooBig",
        (Some(Protocol::Icmp), 9) | (Some(Protocol::Icmpv6), 134) => "RouterAdvertisement",
        (Some(Protocol::Icmp), 10) | (Some(Protocol::Icmpv6), 133) => "RouterSolicitation",
        (Some(Protocol::Icmpv6), 135) => "NeighborSolicitation",
        (Some(Protocol::Icmpv6), 136) => "NeighborAdvertisement",
        _ => return None,
    })
}

/// The type that answers a type.
pub(super) const fn reply_to(protocol: Option<Protocol>, kind: u8) -> Option<u8> {
    match (protocol, kind) {
        (Some(Protocol::Icmp), 8) => Some(0),
        (Some(Protocol::Icmpv6), 128) => Some(129),
        (Some(Protocol::Icmp), 13 | 15 | 17) => Some(kind + 1),
        _ => None,
    }
}
