//! The names of ICMP types.

use super::node::{Faults, Fields, Node, nearest};
use crate::{Compat, PortMatch, PortProtocol, Ports, Settings};

/// ICMP types in one entry. [policy-semantics §6]
const FIELDS_MAX: usize = 40;

/// [IANA, ICMP type numbers; the spelling is Cilium's]
const IPV4_NAMES: &[(&str, u8)] = &[
    ("EchoReply", 0),
    ("DestinationUnreachable", 3),
    ("Redirect", 5),
    ("Echo", 8),
    ("EchoRequest", 8),
    ("RouterAdvertisement", 9),
    ("RouterSelection", 10),
    ("TimeExceeded", 11),
    ("ParameterProblem", 12),
    ("Timestamp", 13),
    ("TimestampReply", 14),
    ("Photuris", 40),
    ("ExtendedEcho Request", 42),
    ("ExtendedEcho Reply", 43),
];

/// [IANA, ICMPv6 type numbers; the spelling is Cilium's]
const IPV6_NAMES: &[(&str, u8)] = &[
    ("DestinationUnreachable", 1),
    ("PacketTooBig", 2),
    ("TimeExceeded", 3),
    ("ParameterProblem", 4),
    ("EchoRequest", 128),
    ("EchoReply", 129),
    ("MulticastListenerQuery", 130),
    ("MulticastListenerReport", 131),
    ("MulticastListenerDone", 132),
    ("RouterSolicitation", 133),
    ("RouterAdvertisement", 134),
    ("NeighborSolicitation", 135),
    ("NeighborAdvertisement", 136),
    ("RedirectMessage", 137),
    ("RouterRenumbering", 138),
    ("ICMPNodeInformationQuery", 139),
    ("ICMPNodeInformationResponse", 140),
    ("InverseNeighborDiscoverySolicitation", 141),
    ("InverseNeighborDiscoveryAdvertisement", 142),
    ("HomeAgentAddressDiscoveryRequest", 144),
    ("HomeAgentAddressDiscoveryReply", 145),
    ("MobilePrefixSolicitation", 146),
    ("MobilePrefixAdvertisement", 147),
    ("DuplicateAddressRequestCodeSuffix", 157),
    ("DuplicateAddressConfirmationCodeSuffix", 158),
    ("ExtendedEchoRequest", 160),
    ("ExtendedEchoReply", 161),
];

/// Reads one element of `icmps`: its fields are one list of types.
pub(crate) fn entry(node: &Node<'_>, settings: &Settings, faults: &mut Faults) -> Vec<PortMatch> {
    let Some(fields) = Fields::strict(node, "an element of icmps", &["fields"], faults) else {
        return Vec::new();
    };
    let list = fields.list("fields", faults);
    if list.len() > FIELDS_MAX
        && let Some(node) = fields.get("fields")
    {
        node.fault_found(
            &format!("at most {FIELDS_MAX} types"),
            &list.len().to_string(),
            faults,
        );
    }
    list.iter()
        .filter_map(|node| field(node, settings, faults))
        .collect()
}

fn field(node: &Node<'_>, settings: &Settings, faults: &mut Faults) -> Option<PortMatch> {
    let fields = Fields::strict(node, "an ICMP field", &["family", "type"], faults)?;
    let (protocol, names) = match fields.get("family") {
        None => (PortProtocol::Icmp, IPV4_NAMES),
        Some(family) => match family.text(faults)? {
            "IPv4" => (PortProtocol::Icmp, IPV4_NAMES),
            "IPv6" => (PortProtocol::Icmpv6, IPV6_NAMES),
            _ => {
                family.fault("IPv4 or IPv6", faults);
                return None;
            }
        },
    };
    let kind = fields.required("type", "an ICMP type, 0 to 255, or its name", faults)?;
    let number = if kind.is_number() {
        kind.number(0, 255, "an ICMP type", faults)?
    } else {
        let text = kind.text(faults)?;
        let named = names
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, number)| *number);
        let Some(number) = named.or_else(|| text.parse().ok()) else {
            let known: Vec<_> = names.iter().map(|(name, _)| *name).collect();
            let near = nearest(text, &known);
            let hint = near.map_or(String::new(), |name| format!(" (did you mean {name}?)"));
            kind.fault(
                &format!("an ICMP type of that family, 0 to 255, or its name{hint}"),
                faults,
            );
            return None;
        };
        u16::from(number)
    };
    // The reference engine stores type 0 as "port 0", which means all. [policy-semantics §15.6]
    let is_all = number == 0 && settings.compat == Compat::Cilium;
    let ports = if is_all {
        Ports::ALL
    } else {
        Ports::Range(number, number)
    };
    Some(PortMatch {
        protocol,
        ports,
        inspection: None,
    })
}
