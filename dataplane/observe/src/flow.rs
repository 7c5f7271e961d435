//! A flow or a drop as users read it: Hubble's field names where Hubble has the field.

use super::event::Event;
use super::flow_policy::{self, FlowPolicy};
use super::judgement::Judgement;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use portcullis_engine::{Record, RecordKind};
use portcullis_policy::{Direction, Protocol};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::net::IpAddr;

/// One new flow or one dropped packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// When, in RFC 3339 with nanoseconds.
    pub time: Timestamp,
    /// `FORWARDED`, `DROPPED`, or `AUDIT` for what passed though an audited policy denies it; a flow
    /// that new policy cut is `DROPPED` with `revoked`.
    pub verdict: String,
    /// Key of the drop reason.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drop_reason: Option<String>,
    /// Whether it was allowed once and new policy forbade it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub revoked: bool,
    /// Addresses, when they could be read.
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none", default)]
    pub ip: Option<FlowIp>,
    /// `TCP`, `UDP`, `SCTP`, `ICMPv4`, `ICMPv6`, or the number of another protocol.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protocol: Option<String>,
    /// Source port.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_port: Option<u16>,
    /// Destination port; for ICMP the type.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub destination_port: Option<u16>,
    /// Who sent it.
    pub source: FlowEnd,
    /// Whom it was for.
    pub destination: FlowEnd,
    /// Direction in which policy decided: `egress` of the source or `ingress` of the destination.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traffic_direction: Option<String>,
    /// The rule of the source's policy that allowed it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub egress_allowed_by: Vec<FlowPolicy>,
    /// The rule of the destination's policy that allowed it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ingress_allowed_by: Vec<FlowPolicy>,
    /// What denied it at the source: a deny rule, or all policies that isolate the source.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub egress_denied_by: Vec<FlowPolicy>,
    /// What denied it at the destination.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ingress_denied_by: Vec<FlowPolicy>,
    /// The verdict in words.
    pub reason: String,
    /// Bytes of the first frame, or of the dropped one.
    pub length: u32,
    /// The generation of policy that judged.
    pub generation: u64,
}

/// Addresses of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowIp {
    /// From.
    pub source: IpAddr,
    /// To.
    pub destination: IpAddr,
}

/// One end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FlowEnd {
    /// Number of its identity.
    pub identity: u32,
    /// Namespace, for a pod.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub namespace: String,
    /// Name, for a pod.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub pod_name: String,
    /// The labels behind the identity.
    #[serde(default)]
    pub labels: Vec<String>,
}

impl FlowEnd {
    /// Whether it is this pod: `namespace/name`, `namespace/` for all of it, or a name in any.
    #[must_use]
    pub fn is_pod(&self, wanted: &str) -> bool {
        match wanted.split_once('/') {
            Some((namespace, "")) => self.namespace == namespace,
            Some((namespace, name)) => self.namespace == namespace && self.pod_name == name,
            None => self.pod_name == wanted,
        }
    }

    /// `namespace/pod`, or the reserved name, or the CIDR.
    #[must_use]
    pub fn name(&self) -> String {
        if !self.pod_name.is_empty() {
            return format!("{}/{}", self.namespace, self.pod_name);
        }
        let named = |prefix: &str| {
            self.labels
                .iter()
                .find_map(|label| label.strip_prefix(prefix).map(str::to_owned))
        };
        named("reserved:")
            .or_else(|| named("cidr:"))
            .unwrap_or_else(|| "unknown".into())
    }
}

impl Flow {
    /// Joins a record with the names of its generation.
    #[must_use]
    pub fn read(event: &Event) -> Self {
        let record = &event.record;
        let names = &event.names;
        let (verdict, drop, revoked) = match record.kind {
            RecordKind::Flow if Judgement::all(event).any(|one| one.is_audited) => {
                ("AUDIT", None, false)
            }
            RecordKind::Flow | RecordKind::Update | RecordKind::End(_) => {
                ("FORWARDED", None, false)
            }
            RecordKind::Drop(reason) => ("DROPPED", Some(reason), false),
            RecordKind::Revoked(reason) => ("DROPPED", Some(reason), true),
        };
        let mut flow = Self {
            time: event.time,
            verdict: verdict.into(),
            drop_reason: drop.map(|reason| reason.key().to_owned()),
            revoked,
            ip: record.addresses.map(|(source, destination)| FlowIp {
                source,
                destination,
            }),
            protocol: record.protocol.map(protocol_name),
            source_port: has_ports(record).then_some(record.ports.0),
            destination_port: record.protocol.map(|_| record.ports.1),
            source: names.end(
                record.source_identity,
                record.from,
                record.addresses.map(|a| a.0),
            ),
            destination: names.end(
                record.destination_identity,
                record.to,
                record.addresses.map(|a| a.1),
            ),
            traffic_direction: None,
            egress_allowed_by: Vec::new(),
            ingress_allowed_by: Vec::new(),
            egress_denied_by: Vec::new(),
            ingress_denied_by: Vec::new(),
            reason: String::new(),
            length: record.length,
            generation: record.generation.0,
        };
        let parts = flow.attribute(event);
        flow.reason = flow.words(event, parts, drop.map(portcullis_engine::Drop::sentence));
        flow
    }

    /// Names the documents behind what policies said, and gives it in words.
    fn attribute(&mut self, event: &Event) -> Vec<String> {
        let mut parts = Vec::new();
        for judgement in Judgement::all(event) {
            let decision = judgement.verdict.decision;
            let by = FlowPolicy::of_judgement(&event.names, &judgement);
            let mut words = flow_policy::words(judgement.side(), decision, &by);
            if judgement.is_audited {
                words.push_str(" (only audited)");
            }
            parts.push(words);
            self.traffic_direction = Some(judgement.side().into());
            *match (judgement.direction, decision.is_allowed()) {
                (Direction::Egress, true) => &mut self.egress_allowed_by,
                (Direction::Egress, false) => &mut self.egress_denied_by,
                (Direction::Ingress, true) => &mut self.ingress_allowed_by,
                (Direction::Ingress, false) => &mut self.ingress_denied_by,
            } = by;
        }
        parts
    }

    fn words(&self, event: &Event, mut parts: Vec<String>, sentence: Option<&str>) -> String {
        let is_denied = Judgement::all(event).any(|one| !one.verdict.decision.is_allowed());
        match sentence {
            // The half that allowed explains nothing about a drop.
            Some(_) if is_denied => parts.retain(|part| part.contains("den")),
            Some(sentence) => parts = vec![sentence.trim_end_matches('.').to_owned()],
            None => {}
        }
        if self.revoked {
            parts.insert(0, "cut by new policy".into());
        }
        parts.join("; ")
    }

    /// One line for people, in the order that Hubble's users know.
    #[must_use]
    pub fn line(&self) -> String {
        let time = self
            .time
            .to_zoned(TimeZone::system())
            .strftime("%b %d %H:%M:%S%.3f");
        let end = |end: &FlowEnd, address: Option<IpAddr>, port: Option<u16>| {
            let mut name = end.name();
            if end.pod_name.is_empty()
                && let Some(address) = address
            {
                name = format!("{address} ({name})");
            }
            if let Some(port) = port {
                let _ = write!(name, ":{port}");
            }
            format!("{name} (ID:{})", end.identity)
        };
        let is_icmp = self
            .protocol
            .as_ref()
            .is_some_and(|p| p.starts_with("ICMP"));
        let port = if is_icmp { None } else { self.destination_port };
        let source = end(
            &self.source,
            self.ip.as_ref().map(|ip| ip.source),
            self.source_port,
        );
        let target = end(
            &self.destination,
            self.ip.as_ref().map(|ip| ip.destination),
            port,
        );
        let mut protocol = self.protocol.clone().unwrap_or_else(|| "-".into());
        if is_icmp {
            let _ = write!(
                protocol,
                " type {}",
                self.destination_port.unwrap_or_default()
            );
        }
        let drop = self
            .drop_reason
            .as_ref()
            .map(|key| format!(" [{key}]"))
            .unwrap_or_default();
        format!(
            "{time}: {source} -> {target} {protocol} {}{drop} ({})",
            self.verdict, self.reason
        )
    }
}

fn has_ports(record: &Record) -> bool {
    matches!(
        record.protocol,
        Some(Protocol::Tcp | Protocol::Udp | Protocol::Sctp)
    )
}

/// The name that people and JSON see.
#[must_use]
pub fn protocol_name(protocol: Protocol) -> String {
    match protocol {
        Protocol::Tcp => "TCP".into(),
        Protocol::Udp => "UDP".into(),
        Protocol::Sctp => "SCTP".into(),
        Protocol::Icmp => "ICMPv4".into(),
        Protocol::Icmpv6 => "ICMPv6".into(),
        Protocol::Other(number) => format!("protocol {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_with_or_without_its_namespace() {
        let end = FlowEnd {
            namespace: "backend".into(),
            pod_name: "api".into(),
            ..FlowEnd::default()
        };
        for wanted in ["backend/api", "backend/", "api"] {
            assert!(end.is_pod(wanted), "{wanted}");
        }
        for other in ["frontend/api", "frontend/", "backend/web", "ap"] {
            assert!(!end.is_pod(other), "{other}");
        }
    }
}
