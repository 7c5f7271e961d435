//! An event as the command line tells it: the flow, its name, and what Hubble says of such.

use super::ask::sightings;
use crate::observe::{
    Aspect, DropReason, Event, Flow, FlowEnd, FlowPolicy, FlowVerdict, Origin, Party, Point, Seen,
    Sighting, Uuid, Why, Workload,
};
use portcullis_engine::{Ending, RecordKind};
use portcullis_policy::{Direction, Identity, Protocol};
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::IpAddr;

/// The flags of TCP in the order in which they lie in the header.
const TCP_FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFlow {
    /// The flow.
    #[serde(flatten)]
    pub flow: Flow,
    /// Its number on this node; `why` takes it.
    pub number: u64,
    /// Its name everywhere; `why` takes it.
    pub uuid: String,
    /// The node that saw it.
    pub node_name: String,
    /// `to-endpoint`, `to-host`, `to-network`, or Hubble's words for a drop.
    pub event: String,
    /// Hubble's numbers for that: type and sub-type.
    pub event_type: (i32, i32),
    /// Hubble's name of the drop reason.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drop_reason_desc: Option<String>,
    /// Whether it was sent by the side that did not begin.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub is_reply: Option<bool>,
    /// Names of the TCP flags.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tcp_flags: Vec<String>,
    /// The code of an ICMP message.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub icmp_code: u8,
    /// The interface that it was seen at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interface: Option<SeenInterface>,
    /// MAC addresses of the frame, where they are certain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ethernet: Option<SeenEthernet>,
    /// Labels of the node, `key=value`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub node_labels: Vec<String>,
    /// What the packet was, in Hubble's words; empty where they were not written down.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub summary: String,
    /// Workloads of the source, where they were written down.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub source_workloads: Vec<Workload>,
    /// Workloads of the destination, where they were written down.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub destination_workloads: Vec<Workload>,
    /// Names that the source's address is known by.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub source_names: Vec<String>,
    /// Names that the destination's address is known by.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub destination_names: Vec<String>,
    /// The service whose address the source has.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_service: Option<SeenService>,
    /// The service whose address was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub destination_service: Option<SeenService>,
    /// How the connection goes on: `update`, or how it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ending: Option<String>,
    /// What has passed so far, of connections that go on or have ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub totals: Option<SeenTotals>,
}

/// One that was read from a file, as filters look at it.
#[derive(Debug, Clone, Copy)]
pub struct ReadFlow<'a> {
    /// The flow.
    pub seen: &'a SeenFlow,
    /// The same in Hubble's form; expressions look at nothing else.
    pub object: &'a Value,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenService {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

/// An interface of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenInterface {
    /// The kernel's number.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// MAC addresses of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenEthernet {
    /// From.
    pub source: String,
    /// To.
    pub destination: String,
}

/// What has passed, the side that began first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenTotals {
    /// Packets.
    pub packets: [u32; 2],
    /// Bytes of IP.
    pub bytes: [u64; 2],
    /// From the SYN to its answer, in microseconds; zero when not known.
    pub round_trip_us: u32,
}

/// An event and why it is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The event.
    pub flow: SeenFlow,
    /// Why.
    pub why: Why,
    /// Policies that select the source, so that what none allows it to send is denied.
    pub source_selected_by: Vec<FlowPolicy>,
    /// Policies that select the destination, so that what none allows it to receive is denied.
    pub destination_selected_by: Vec<FlowPolicy>,
}

impl SeenFlow {
    /// Joins an event with its names.
    #[must_use]
    pub fn read(event: &Event, node: &str) -> Self {
        Self::of(event, sightings(event).last(), node)
    }

    /// The same, with what is told of it.
    #[must_use]
    pub fn of(event: &Event, sighting: Option<Sighting<'_>>, node: &str) -> Self {
        let record = &event.record;
        let has_totals = matches!(record.kind, RecordKind::Update | RecordKind::End(_));
        let names = |of: fn(&Sighting<'_>) -> Vec<String>| sighting.as_ref().map_or(Vec::new(), of);
        let mut flow = Flow::read(event);
        // A verdict that was asked for is one of its own direction.
        if let Some(Sighting {
            aspect: Aspect::Verdict(judgement),
            ..
        }) = &sighting
        {
            flow.traffic_direction = Some(judgement.side().into());
        }
        Self {
            flow,
            number: event.number,
            uuid: sighting
                .as_ref()
                .map(|seen| seen.uuid().to_string())
                .unwrap_or_default(),
            node_name: node.to_owned(),
            event: sighting.as_ref().map(words).unwrap_or_default(),
            event_type: sighting
                .as_ref()
                .map(Sighting::event_type)
                .unwrap_or_default(),
            drop_reason_desc: sighting
                .as_ref()
                .and_then(Sighting::drop)
                .map(|drop| DropReason::of(drop).name.to_owned()),
            is_reply: sighting.as_ref().and_then(Sighting::is_reply),
            tcp_flags: if record.protocol == Some(Protocol::Tcp) {
                flags(record.tcp_flags.0)
            } else {
                Vec::new()
            },
            icmp_code: record.icmp_code,
            interface: sighting
                .as_ref()
                .and_then(Sighting::link)
                .map(|link| SeenInterface {
                    index: link.index,
                    name: link.name.clone(),
                }),
            ethernet: sighting.as_ref().and_then(Sighting::ethernet).map(
                |(source, destination)| SeenEthernet {
                    source: source.to_string(),
                    destination: destination.to_string(),
                },
            ),
            node_labels: event.names.node_labels.to_vec(),
            summary: String::new(),
            source_workloads: Vec::new(),
            destination_workloads: Vec::new(),
            source_names: names(|seen| seen.source.names.to_vec()),
            destination_names: names(|seen| seen.destination.names.to_vec()),
            source_service: sighting.as_ref().and_then(|seen| service(&seen.source)),
            destination_service: sighting
                .as_ref()
                .and_then(|seen| service(&seen.destination)),
            ending: ending(record.kind).map(str::to_owned),
            totals: has_totals.then_some(SeenTotals {
                packets: record.totals.packets,
                bytes: record.totals.bytes,
                round_trip_us: record.totals.round_trip_us,
            }),
        }
    }
}

impl Seen for ReadFlow<'_> {
    fn verdict(&self) -> FlowVerdict {
        let name = self.seen.flow.verdict.as_str();
        let read: Result<_, ValueError> = FlowVerdict::deserialize(name.into_deserializer());
        read.unwrap_or(FlowVerdict::VerdictUnknown)
    }

    fn event_type(&self) -> (i32, i32) {
        self.seen.event_type
    }

    fn drop_reason(&self) -> Option<&str> {
        self.seen.drop_reason_desc.as_deref()
    }

    fn protocol(&self) -> Option<Protocol> {
        Some(match self.seen.flow.protocol.as_deref()? {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            "ICMPv4" => Protocol::Icmp,
            "ICMPv6" => Protocol::Icmpv6,
            "IGMP" => Protocol::Other(2),
            "VRRP" => Protocol::Other(112),
            other => Protocol::Other(other.strip_prefix("protocol ")?.parse().ok()?),
        })
    }

    fn tcp_flags(&self) -> u8 {
        let bits = TCP_FLAGS.iter().enumerate();
        let set = bits.filter(|(_, name)| self.seen.tcp_flags.iter().any(|flag| flag == *name));
        set.fold(0, |all, (bit, _)| all | 1 << bit)
    }

    fn is_reply(&self) -> Option<bool> {
        self.seen.is_reply
    }

    fn direction(&self) -> Option<Direction> {
        match self.seen.flow.traffic_direction.as_deref()? {
            "ingress" => Some(Direction::Ingress),
            "egress" => Some(Direction::Egress),
            _ => None,
        }
    }

    fn uuid(&self) -> Option<Uuid> {
        self.seen.uuid.parse().ok()
    }

    fn interface(&self) -> Option<(u32, &str)> {
        let interface = self.seen.interface.as_ref()?;
        Some((interface.index, &interface.name))
    }

    fn node_labels(&self) -> &[String] {
        &self.seen.node_labels
    }

    fn source(&self) -> Party<'_> {
        party(
            &self.seen.flow.source,
            self.seen.flow.ip.as_ref().map(|ip| ip.source),
            self.seen.flow.source_port,
            (&self.seen.source_names, self.seen.source_service.as_ref()),
            &self.seen.source_workloads,
        )
    }

    fn destination(&self) -> Party<'_> {
        party(
            &self.seen.flow.destination,
            self.seen.flow.ip.as_ref().map(|ip| ip.destination),
            // With a protocol that has none, this is something else.
            self.seen
                .flow
                .destination_port
                .filter(|_| self.seen.flow.source_port.is_some()),
            (
                &self.seen.destination_names,
                self.seen.destination_service.as_ref(),
            ),
            &self.seen.destination_workloads,
        )
    }

    fn origin(&self) -> Origin<'_> {
        Origin::Json(self.object)
    }
}

fn party<'a>(
    end: &'a FlowEnd,
    address: Option<IpAddr>,
    port: Option<u16>,
    (names, service): (&'a [String], Option<&'a SeenService>),
    made_by: &'a [Workload],
) -> Party<'a> {
    Party {
        endpoint: None,
        identity: Identity(end.identity),
        address,
        port: port.unwrap_or_default(),
        namespace: &end.namespace,
        pod_name: &end.pod_name,
        labels: &end.labels,
        names,
        service: service.map(|service| (service.namespace.as_str(), service.name.as_str())),
        made_by,
    }
}

impl Explained {
    /// Explains an event with the policy that judged it.
    #[must_use]
    pub fn read(event: &Event, node: &str) -> Self {
        let flow = SeenFlow::read(event, node);
        let selected = |namespace: &str, pod: &str, direction| {
            let Some(tables) = &event.names.tables else {
                return Vec::new();
            };
            let policy = tables.policy_of(namespace, pod);
            let all = policy
                .into_iter()
                .flat_map(|policy| tables.isolating(policy, direction));
            all.map(|origin| FlowPolicy::of(origin, None)).collect()
        };
        // The side that began is the one whose egress counts.
        let is_reply = event.record.is_reply == Some(true);
        let (at_source, at_destination) = if is_reply {
            (Direction::Ingress, Direction::Egress)
        } else {
            (Direction::Egress, Direction::Ingress)
        };
        let (source, destination) = (&flow.flow.source, &flow.flow.destination);
        Self {
            source_selected_by: selected(&source.namespace, &source.pod_name, at_source),
            destination_selected_by: selected(
                &destination.namespace,
                &destination.pod_name,
                at_destination,
            ),
            why: Why::of(event),
            flow,
        }
    }
}

const fn is_zero(code: &u8) -> bool {
    *code == 0
}

fn words(sighting: &Sighting<'_>) -> String {
    match sighting.aspect {
        Aspect::Drop(drop) => DropReason::of(drop).text.into(),
        Aspect::Trace(Point::ToEndpoint) => "to-endpoint".into(),
        Aspect::Trace(Point::ToHost) => "to-host".into(),
        Aspect::Trace(Point::ToNetwork) => "to-network".into(),
        Aspect::Verdict(judgement) => {
            let kind = match sighting.match_type() {
                1 => "L3-Only",
                2 => "L3-L4",
                3 => "L4-Only",
                4 => "all",
                _ => "none",
            };
            format!(
                "policy-verdict:{kind} {}",
                judgement.side().to_ascii_uppercase()
            )
        }
    }
}

fn service(party: &Party<'_>) -> Option<SeenService> {
    let (namespace, name) = party.service?;
    Some(SeenService {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
    })
}

/// Names of the flags that are set.
fn flags(set: u8) -> Vec<String> {
    TCP_FLAGS
        .iter()
        .enumerate()
        .filter(|(bit, _)| set & (1 << bit) != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect()
}

const fn ending(kind: RecordKind) -> Option<&'static str> {
    match kind {
        RecordKind::Update => Some("update"),
        RecordKind::End(Ending::Finished) => Some("finished"),
        RecordKind::End(Ending::Reset) => Some("reset"),
        RecordKind::End(Ending::Idle) => Some("idle"),
        RecordKind::End(Ending::Unanswered) => Some("unanswered"),
        RecordKind::End(Ending::Evicted) => Some("evicted"),
        RecordKind::End(Ending::Replaced) => Some("replaced"),
        RecordKind::Flow | RecordKind::Revoked(_) | RecordKind::Drop(_) => None,
    }
}
