//! What a question is about: a protocol and a port, written as people write them.

use portcullis_policy::{PortProtocol, Protocol};
use std::fmt;

/// A protocol and a destination port, or the type of an ICMP: `80/TCP`, `8/ICMP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// The protocol.
    pub protocol: Protocol,
    /// The port; for ICMP the type.
    pub port: u16,
}

/// The protocols that policy tells apart, with their names.
pub const PROTOCOLS: [(Protocol, &str); 5] = [
    (Protocol::Tcp, "TCP"),
    (Protocol::Udp, "UDP"),
    (Protocol::Sctp, "SCTP"),
    (Protocol::Icmp, "ICMP"),
    (Protocol::Icmpv6, "ICMPv6"),
];

/// The name of a protocol.
#[must_use]
pub fn protocol_name(protocol: Protocol) -> String {
    PROTOCOLS
        .iter()
        .find(|(other, _)| *other == protocol)
        .map_or_else(
            || format!("protocol {}", protocol.number()),
            |(_, name)| (*name).to_owned(),
        )
}

impl Traffic {
    /// Reads `80/TCP`, `80` (TCP), `8/ICMP`; with the named ports of the destination also
    /// `http/TCP` and `http`.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub fn parse(text: &str, names: &[portcullis_policy::NamedPort]) -> Result<Self, String> {
        let wrong = |expected: &str| format!("port: expected {expected}, found \"{text}\"");
        let (port, protocol) = match text.split_once('/') {
            Some((port, protocol)) => (
                port,
                Some(read_protocol(protocol).ok_or_else(|| {
                    wrong("a port and TCP, UDP, SCTP, ICMP or ICMPv6, such as 80/TCP")
                })?),
            ),
            None => (text, None),
        };
        if port.bytes().all(|byte| byte.is_ascii_digit()) {
            let protocol = protocol.unwrap_or(Protocol::Tcp);
            let is_icmp = matches!(protocol, Protocol::Icmp | Protocol::Icmpv6);
            let port: u16 = port
                .parse()
                .ok()
                .filter(|port| !is_icmp || *port < 256)
                .ok_or_else(|| wrong("a port, 0 to 65535, or an ICMP type, 0 to 255"))?;
            return Ok(Self { protocol, port });
        }
        let name = port.to_ascii_lowercase();
        let named = names.iter().find(|named| {
            named.name == name
                && protocol.is_none_or(|protocol| protocol_of(named.protocol) == Some(protocol))
        });
        named
            .and_then(|named| {
                Some(Self {
                    protocol: protocol_of(named.protocol)?,
                    port: named.port,
                })
            })
            .ok_or_else(|| wrong("a port number, or a name that the destination pod has"))
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, protocol_name(self.protocol))
    }
}

fn read_protocol(text: &str) -> Option<Protocol> {
    let is_named = |name: &str| name.eq_ignore_ascii_case(text);
    if is_named("ICMPv4") {
        return Some(Protocol::Icmp);
    }
    PROTOCOLS
        .iter()
        .find(|(_, name)| is_named(name))
        .map(|(protocol, _)| *protocol)
}

fn protocol_of(protocol: PortProtocol) -> Option<Protocol> {
    match protocol {
        PortProtocol::Any => None,
        PortProtocol::Tcp => Some(Protocol::Tcp),
        PortProtocol::Udp => Some(Protocol::Udp),
        PortProtocol::Sctp => Some(Protocol::Sctp),
        PortProtocol::Icmp => Some(Protocol::Icmp),
        PortProtocol::Icmpv6 => Some(Protocol::Icmpv6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_read_as_people_write_it() {
        let names = [portcullis_policy::NamedPort {
            name: "dns".into(),
            protocol: PortProtocol::Udp,
            port: 5353,
        }];
        let read = |text| Traffic::parse(text, &names).map(|traffic| traffic.to_string());
        for (text, expected) in [
            ("80", "80/TCP"),
            ("80/tcp", "80/TCP"),
            ("8/icmp", "8/ICMP"),
            ("128/ICMPv6", "128/ICMPv6"),
            ("dns", "5353/UDP"),
            ("DNS/UDP", "5353/UDP"),
        ] {
            assert_eq!(read(text), Ok(expected.into()));
        }
        for text in ["dns/TCP", "70000", "80/HTTP", "", "300/ICMP", "-1"] {
            let error = read(text).unwrap_err();
            assert!(error.ends_with(&format!("found \"{text}\"")), "{error}");
        }
    }
}
