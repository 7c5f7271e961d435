//! ICMP types and codes by the names that Hubble has for them.
//!
//! [RFC 792, RFC 1812 §5.2.7.1, RFC 4443, IANA ICMP parameters]

use portcullis_policy::Protocol;
use std::fmt::Write;

/// A type: its name and those of its codes, from zero.
type Named = (&'static str, &'static [&'static str]);

const UNREACHABLE: &[&str] = &[
    "Net",
    "Host",
    "Protocol",
    "Port",
    "FragmentationNeeded",
    "SourceRoutingFailed",
    "NetUnknown",
    "HostUnknown",
    "SourceIsolated",
    "NetAdminProhibited",
    "HostAdminProhibited",
    "NetTOS",
    "HostTOS",
    "CommAdminProhibited",
    "HostPrecedence",
    "PrecedenceCutoff",
];
const UNREACHABLE_V6: &[&str] = &[
    "NoRouteToDst",
    "AdminProhibited",
    "BeyondScopeOfSrc",
    "AddressUnreachable",
    "PortUnreachable",
    "SrcAddressFailedPolicy",
    "RejectRouteToDst",
];

const fn icmp(kind: u8) -> Option<Named> {
    Some(match kind {
        0 => ("EchoReply", &[]),
        3 => ("DestinationUnreachable", UNREACHABLE),
        4 => ("SourceQuench", &[]),
        5 => ("Redirect", &["Net", "Host", "TOS+Net", "TOS+Host"]),
        8 => ("EchoRequest", &[]),
        9 => ("RouterAdvertisement", &[]),
        10 => ("RouterSolicitation", &[]),
        11 => (
            "TimeExceeded",
            &["TTLExceeded", "FragmentReassemblyTimeExceeded"],
        ),
        12 => (
            "ParameterProblem",
            &["PointerIndicatesError", "MissingOption", "BadLength"],
        ),
        13 => ("TimestampRequest", &[]),
        14 => ("TimestampReply", &[]),
        15 => ("InfoRequest", &[]),
        16 => ("InfoReply", &[]),
        17 => ("AddressMaskRequest", &[]),
        18 => ("AddressMaskReply", &[]),
        _ => return None,
    })
}

const fn icmpv6(kind: u8) -> Option<Named> {
    Some(match kind {
        1 => ("DestinationUnreachable", UNREACHABLE_V6),
        2 => ("PacketTooBig", &[]),
        3 => (
            "TimeExceeded",
            &["HopLimitExceeded", "FragmentReassemblyTimeExceeded"],
        ),
        4 => (
            "ParameterProblem",
            &[
                "ErroneousHeaderField",
                "UnrecognizedNextHeader",
                "UnrecognizedIPv6Option",
            ],
        ),
        128 => ("EchoRequest", &[]),
        129 => ("EchoReply", &[]),
        130 => ("MLDv1MulticastListenerQueryMessage", &[]),
        131 => ("MLDv1MulticastListenerReportMessage", &[]),
        132 => ("MLDv1MulticastListenerDoneMessage", &[]),
        133 => ("RouterSolicitation", &[]),
        134 => ("RouterAdvertisement", &[]),
        135 => ("NeighborSolicitation", &[]),
        136 => ("NeighborAdvertisement", &[]),
        137 => ("Redirect", &[]),
        143 => ("MLDv2MulticastListenerReportMessageV2", &[]),
        _ => return None,
    })
}

/// Writes `DestinationUnreachable(Port)`, `EchoRequest`, or numbers where there is no name.
pub(crate) fn write_name(text: &mut String, protocol: Option<Protocol>, kind: u8, code: u8) {
    let named = match protocol {
        Some(Protocol::Icmpv6) => icmpv6(kind),
        _ => icmp(kind),
    };
    let Some((name, codes)) = named else {
        let _ = write!(text, "{kind}({code})");
        return;
    };
    text.push_str(name);
    match codes.get(usize::from(code)) {
        Some(code) => {
            let _ = write!(text, "({code})");
        }
        None if codes.is_empty() && code == 0 => {}
        None => {
            let _ = write!(text, "(Code: {code})");
        }
    }
}

/// The type that answers a type.
pub(crate) const fn reply_to(protocol: Option<Protocol>, kind: u8) -> Option<u8> {
    match (protocol, kind) {
        (Some(Protocol::Icmp), 8) => Some(0),
        (Some(Protocol::Icmpv6), 128) => Some(129),
        (Some(Protocol::Icmp), 13 | 15 | 17) => Some(kind + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_codes_have_the_names_that_hubble_prints() {
        for (protocol, kind, code, name) in [
            (Protocol::Icmp, 8, 0, "EchoRequest"),
            (Protocol::Icmp, 8, 7, "EchoRequest(Code: 7)"),
            (Protocol::Icmp, 3, 3, "DestinationUnreachable(Port)"),
            (Protocol::Icmp, 3, 99, "DestinationUnreachable(Code: 99)"),
            (Protocol::Icmp, 77, 1, "77(1)"),
            (
                Protocol::Icmpv6,
                1,
                4,
                "DestinationUnreachable(PortUnreachable)",
            ),
            (Protocol::Icmpv6, 135, 0, "NeighborSolicitation"),
        ] {
            let mut text = String::new();
            write_name(&mut text, Some(protocol), kind, code);
            assert_eq!(text, name);
        }
    }
}
