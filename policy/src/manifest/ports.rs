//! Ports: `toPorts` of Cilium's kinds, `ports` of a NetworkPolicy.

use super::inspection::{self, Place};
use super::node::{Faults, Fields, Node};
use crate::{Inspection, PortMatch, PortProtocol, Ports, Proxy};
use std::sync::Arc;

/// Ports in one entry of `toPorts`. [policy-semantics §6]
const PORTS_MAX: usize = 40;
/// Protocols that have no ports. They need an option of the reference engine.
const PORTLESS: &[&str] = &["VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH"];
const PORT: &str = "a port in quotes, \"0\" to \"65535\", or the name of one";

/// Reads one element of `toPorts`.
pub(crate) fn to_ports_entry(
    node: &Node<'_>,
    place: Place<'_>,
    faults: &mut Faults,
) -> Vec<PortMatch> {
    const KNOWN: &[&str] = &[
        "ports",
        "rules",
        "listener",
        "terminatingTLS",
        "originatingTLS",
        "serverNames",
    ];
    let Some(fields) = Fields::strict(node, "an element of toPorts", KNOWN, faults) else {
        return Vec::new();
    };
    let inspection = inspection::read(node, &fields, place, faults).map(Arc::new);
    let list = fields.list("ports", faults);
    if list.is_empty() {
        let is_dns = inspection
            .as_ref()
            .is_some_and(|inspection| inspection.proxy() == Proxy::Dns);
        if is_dns {
            node.fault_found("ports beside dns rules", "none", faults);
        }
        node.warn(
            "no ports, so nothing matches; leave toPorts out to mean every port",
            faults,
        );
    }
    if list.len() > PORTS_MAX
        && let Some(node) = fields.get("ports")
    {
        node.fault_found(
            &format!("at most {PORTS_MAX} ports"),
            &list.len().to_string(),
            faults,
        );
    }
    list.iter()
        .filter_map(|node| {
            let mut port = cilium_port(node, faults)?;
            if let Some(inspection) = &inspection {
                check_inspected(node, &port, inspection, faults);
                port.inspection = Some(Arc::clone(inspection));
            }
            Some(port)
        })
        .collect()
}

/// Only connections to one known service can be looked at. [policy-semantics §8.1, §13]
fn check_inspected(
    node: &Node<'_>,
    port: &PortMatch,
    inspection: &Inspection,
    faults: &mut Faults,
) {
    let is_dns = inspection.proxy() == Proxy::Dns;
    if !is_dns && port.protocol != PortProtocol::Tcp {
        node.fault_found("TCP where rules above L4 are", "another protocol", faults);
    }
    match port.ports {
        Ports::Range(0, _) => {
            node.fault_found("a port where rules above L4 are", "every port", faults);
        }
        Ports::Range(first, last) if is_dns && first != last => {
            node.fault_found("one port where dns rules are", "a range", faults);
        }
        _ => {}
    }
}

fn cilium_port(node: &Node<'_>, faults: &mut Faults) -> Option<PortMatch> {
    let fields = Fields::strict(node, "a port", &["port", "endPort", "protocol"], faults)?;
    let protocol = match fields.get("protocol") {
        None => Some(PortProtocol::Any),
        Some(node) => cilium_protocol(&node, faults),
    };
    let port = fields.required("port", PORT, faults)?;
    if port.is_number() {
        port.fault(PORT, faults);
        return None;
    }
    let first = read_port(&port, faults);
    let end = match fields.get("endPort") {
        None => None,
        Some(node) => {
            let end = node.number(0, u16::MAX, "the last port of a range", faults)?;
            Some((end, node))
        }
    };
    let ports = match (first?, end) {
        (Ports::Named(_), Some((_, node))) => {
            node.fault("no endPort for a port that is named", faults);
            return None;
        }
        (named @ Ports::Named(_), None) => named,
        // "0" is every port, with or without an end.
        (Ports::Range(0, _), _) => Ports::ALL,
        (Ports::Range(first, _), Some((end, node))) if end < first => {
            node.warn(
                "it lies below port, so only that single port matches",
                faults,
            );
            Ports::Range(first, first)
        }
        (Ports::Range(first, _), Some((end, _))) => Ports::Range(first, end),
        (single, None) => single,
    };
    Some(PortMatch {
        protocol: protocol?,
        ports,
        inspection: None,
    })
}

fn cilium_protocol(node: &Node<'_>, faults: &mut Faults) -> Option<PortProtocol> {
    let text = node.text(faults)?;
    let upper = text.to_uppercase();
    let protocol = match upper.as_str() {
        "TCP" => PortProtocol::Tcp,
        "UDP" => PortProtocol::Udp,
        "SCTP" => PortProtocol::Sctp,
        "ANY" => PortProtocol::Any,
        "ICMP" | "ICMPV6" => {
            node.fault(
                "TCP, UDP, SCTP or ANY (ICMP is written under icmps)",
                faults,
            );
            return None;
        }
        _ if PORTLESS.contains(&upper.as_str()) => {
            node.fault(
                "TCP, UDP, SCTP or ANY (others are not supported yet)",
                faults,
            );
            return None;
        }
        _ => {
            node.fault("TCP, UDP, SCTP or ANY", faults);
            return None;
        }
    };
    if text != upper {
        node.warn("other engines want it in capitals", faults);
    }
    Some(protocol)
}

/// A port as text: a number, or a name.
fn read_port(node: &Node<'_>, faults: &mut Faults) -> Option<Ports> {
    let text = node.text(faults)?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && let Ok(port) = text.parse() {
        return Some(Ports::Range(port, port));
    }
    if !is_number && is_port_name(text) {
        return Some(Ports::Named(text.to_lowercase()));
    }
    node.fault(PORT, faults);
    None
}

/// [RFC 6335 §5.1]
pub(crate) fn is_port_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// TCP, UDP or SCTP, as Kubernetes writes them.
pub(crate) fn transport(node: &Node<'_>, faults: &mut Faults) -> Option<PortProtocol> {
    match node.text(faults)? {
        "TCP" => Some(PortProtocol::Tcp),
        "UDP" => Some(PortProtocol::Udp),
        "SCTP" => Some(PortProtocol::Sctp),
        _ => {
            node.fault("TCP, UDP or SCTP", faults);
            None
        }
    }
}

/// Reads one element of a NetworkPolicy's `ports`. [Kubernetes, `NetworkPolicyPort`]
pub(crate) fn network_policy_port(node: &Node<'_>, faults: &mut Faults) -> Option<PortMatch> {
    let fields = Fields::strict(node, "a port", &["port", "endPort", "protocol"], faults)?;
    let protocol = match fields.get("protocol") {
        None => Some(PortProtocol::Tcp),
        Some(node) => transport(&node, faults),
    };
    let end = fields.get("endPort");
    let Some(port) = fields.get("port") else {
        if let Some(end) = end {
            end.fault("no endPort without a port", faults);
            return None;
        }
        return Some(PortMatch {
            protocol: protocol?,
            ports: Ports::ALL,
            inspection: None,
        });
    };
    let ports = if port.is_number() {
        let first = port.number(1, u16::MAX, "a port", faults)?;
        let last = match &end {
            None => first,
            Some(node) => node.number(first, u16::MAX, "the last port of a range", faults)?,
        };
        Ports::Range(first, last)
    } else {
        let text = port.text(faults)?;
        if !is_port_name(text) {
            port.fault("a port, 1 to 65535, or the name of one", faults);
            return None;
        }
        if let Some(node) = end {
            node.fault("no endPort for a port that is named", faults);
            return None;
        }
        Ports::Named(text.to_lowercase())
    };
    Some(PortMatch {
        protocol: protocol?,
        ports,
        inspection: None,
    })
}
