//! A sighting as Hubble's readers get it.
#![allow(deprecated)] // `Summary` and `drop_reason` are old, and what the command line prints.

use crate::sources::NodeName;
use crate::summary;
use crate::wire::flow as wire;
use portcullis_observe::{
    Aspect, DropReason, Event, FlowPolicy, FlowVerdict, Judgement, Party, Point, Sighting, Why,
};
use portcullis_policy::{Direction, Protocol};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Explanations that are kept: those who are denied ask again and again.
const WHYS_MAX: usize = 256;

/// Tells flows to one reader.
#[derive(Debug)]
pub struct Teller {
    node: String,
    cluster: String,
    whys: HashMap<WhyKey, Arc<Told>>,
}

/// An explanation, ready to be sent.
#[derive(Debug)]
struct Told {
    text: String,
    extension: prost_types::Any,
}

/// All that an explanation depends on.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WhyKey(String);

impl Teller {
    /// For the flows of a node.
    #[must_use]
    pub fn new(node: &NodeName) -> Self {
        Self {
            node: node.absolute(),
            cluster: node.cluster.clone(),
            whys: HashMap::new(),
        }
    }

    /// The flow, with all of its fields.
    pub fn flow(&mut self, sighting: &Sighting<'_>) -> wire::Flow {
        let record = &sighting.event.record;
        let verdict = sighting.verdict();
        let mut flow = wire::Flow {
            time: Some(timestamp(sighting.event.time)),
            verdict: verdict_number(verdict) as i32,
            ip: record.addresses.map(ip),
            ethernet: sighting
                .ethernet()
                .map(|(source, destination)| wire::Ethernet {
                    source: source.to_string(),
                    destination: destination.to_string(),
                }),
            l4: record
                .protocol
                .and_then(|protocol| layer4(sighting, protocol)),
            source: Some(self.endpoint(&sighting.source)),
            destination: Some(self.endpoint(&sighting.destination)),
            r#type: wire::FlowType::L3L4 as i32,
            node_name: self.node.clone(),
            node_labels: sighting.event.names.node_labels.to_vec(),
            interface: sighting.link().map(|link| wire::NetworkInterface {
                index: link.index,
                name: link.name.clone(),
            }),
            source_names: sighting.source.names.to_vec(),
            destination_names: sighting.destination.names.to_vec(),
            source_service: service(&sighting.source),
            destination_service: service(&sighting.destination),
            traffic_direction: match sighting.direction() {
                None => wire::TrafficDirection::Unknown,
                Some(Direction::Ingress) => wire::TrafficDirection::Ingress,
                Some(Direction::Egress) => wire::TrafficDirection::Egress,
            } as i32,
            policy_match_type: sighting.match_type(),
            is_reply: sighting.is_reply(),
            reply: sighting.is_reply() == Some(true),
            uuid: sighting.uuid().to_string(),
            emitter: Some(wire::Emitter {
                name: "Portcullis".into(),
                version: env!("CARGO_PKG_VERSION").into(),
            }),
            summary: summary::of(record),
            ..wire::Flow::default()
        };
        let (kind, sub_type) = sighting.event_type();
        flow.event_type = Some(wire::CiliumEventType {
            r#type: kind,
            sub_type,
        });
        if let Some(drop) = sighting.drop() {
            let reason = DropReason::of(drop);
            flow.drop_reason = u32::from(reason.number);
            flow.drop_reason_desc = i32::from(reason.number);
        }
        match &sighting.aspect {
            Aspect::Trace(point) => trace(&mut flow, *point, sighting),
            Aspect::Verdict(judgement) => self.verdict(&mut flow, sighting.event, judgement),
            Aspect::Drop(_) => self.denial(&mut flow, sighting.event),
        }
        flow
    }

    fn endpoint(&self, party: &Party<'_>) -> wire::Endpoint {
        wire::Endpoint {
            id: party.endpoint.map_or(0, |id| id.0),
            identity: party.identity.0,
            cluster_name: if party.is_in_cluster() {
                self.cluster.clone()
            } else {
                String::new()
            },
            namespace: party.namespace.into(),
            labels: party.labels.to_vec(),
            pod_name: party.pod_name.into(),
            workloads: party
                .workload()
                .map(|(kind, name)| wire::Workload {
                    name: name.into(),
                    kind: kind.into(),
                })
                .into_iter()
                .collect(),
        }
    }

    /// What one policy said: which documents, and why where it denies.
    fn verdict(&mut self, flow: &mut wire::Flow, event: &Event, judgement: &Judgement) {
        let mut by = policies(event, judgement);
        if !judgement.verdict.decision.is_allowed() {
            let told = self.why(event);
            by.push(nearest(&told.text));
            explain(flow, &told);
        }
        *list(flow, judgement) = by;
    }

    /// The packet ended: by whom, if by policy.
    fn denial(&mut self, flow: &mut wire::Flow, event: &Event) {
        let told = self.why(event);
        for judgement in Judgement::all(event).filter(Judgement::is_denial) {
            let mut by = policies(event, &judgement);
            by.push(nearest(&told.text));
            *list(flow, &judgement) = by;
        }
        explain(flow, &told);
    }

    fn why(&mut self, event: &Event) -> Arc<Told> {
        let record = &event.record;
        let key = WhyKey(format!(
            "{:?}",
            (
                (record.kind, record.generation, record.from, record.to),
                (record.source_identity, record.destination_identity),
                (
                    record.protocol,
                    record.is_reply,
                    record.egress,
                    record.ingress
                ),
                if record.is_reply == Some(true) {
                    record.ports.0
                } else {
                    record.ports.1
                },
            )
        ));
        if let Some(told) = self.whys.get(&key) {
            return Arc::clone(told);
        }
        if self.whys.len() >= WHYS_MAX {
            self.whys.clear();
        }
        let why = Why::of(event);
        let told = Arc::new(Told {
            extension: extension(&why),
            text: why.text,
        });
        self.whys.insert(key, Arc::clone(&told));
        told
    }
}

/// Its explanation goes into the words, which every client prints, and with its parts beside them.
fn explain(flow: &mut wire::Flow, told: &Told) {
    if !flow.summary.is_empty() {
        flow.summary.push_str("; ");
    }
    flow.summary.push_str(&told.text);
    flow.extensions = Some(told.extension.clone());
}

/// The structured form. Not a message of our own: Hubble's command line gives up on a whole line of
/// JSON when it does not know the type of an `Any`, and this one it knows.
fn extension(why: &Why) -> prost_types::Any {
    let fields = match serde_json::to_value(why) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let message = prost_types::Struct {
        fields: fields
            .into_iter()
            .map(|(key, value)| (key, protobuf_value(value)))
            .collect(),
    };
    prost_types::Any {
        type_url: crate::json::STRUCT.into(),
        value: prost::Message::encode_to_vec(&message),
    }
}

fn protobuf_value(value: serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    use serde_json::Value;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(list) => Kind::ListValue(prost_types::ListValue {
            values: list.into_iter().map(protobuf_value).collect(),
        }),
        Value::Object(fields) => Kind::StructValue(prost_types::Struct {
            fields: fields
                .into_iter()
                .map(|(key, value)| (key, protobuf_value(value)))
                .collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

fn trace(flow: &mut wire::Flow, point: Point, sighting: &Sighting<'_>) {
    use wire::{TraceObservationPoint, TraceReason};
    let record = &sighting.event.record;
    flow.trace_observation_point = match point {
        Point::ToEndpoint => TraceObservationPoint::ToEndpoint,
        Point::ToHost => TraceObservationPoint::ToHost,
        Point::ToNetwork => TraceObservationPoint::ToNetwork,
    } as i32;
    flow.trace_reason = if record.is_reply == Some(true) {
        TraceReason::Reply
    } else if record.kind == portcullis_engine::RecordKind::Flow {
        TraceReason::New
    } else {
        TraceReason::Established
    } as i32;
}

fn policies(event: &Event, judgement: &Judgement) -> Vec<wire::Policy> {
    FlowPolicy::of_judgement(&event.names, judgement)
        .into_iter()
        .map(|policy| wire::Policy {
            labels: labels(&policy),
            name: policy.name,
            namespace: policy.namespace,
            revision: event.record.generation.0,
            kind: policy.kind,
        })
        .collect()
}

fn labels(policy: &FlowPolicy) -> Vec<String> {
    let of = |key: &str, value: &str| format!("k8s:io.cilium.k8s.policy.{key}={value}");
    let mut labels = vec![of("derived-from", &policy.kind), of("name", &policy.name)];
    if !policy.namespace.is_empty() {
        labels.push(of("namespace", &policy.namespace));
    }
    labels
}

/// Clients print the names of policies, so the explanation is one of them.
fn nearest(text: &str) -> wire::Policy {
    wire::Policy {
        name: format!("({text})"),
        kind: "why".into(),
        ..wire::Policy::default()
    }
}

fn list<'a>(flow: &'a mut wire::Flow, judgement: &Judgement) -> &'a mut Vec<wire::Policy> {
    match (judgement.direction, judgement.verdict.decision.is_allowed()) {
        (Direction::Egress, true) => &mut flow.egress_allowed_by,
        (Direction::Egress, false) => &mut flow.egress_denied_by,
        (Direction::Ingress, true) => &mut flow.ingress_allowed_by,
        (Direction::Ingress, false) => &mut flow.ingress_denied_by,
    }
}

const fn verdict_number(verdict: FlowVerdict) -> wire::Verdict {
    match verdict {
        FlowVerdict::VerdictUnknown => wire::Verdict::Unknown,
        FlowVerdict::Forwarded => wire::Verdict::Forwarded,
        FlowVerdict::Dropped => wire::Verdict::Dropped,
        FlowVerdict::Error => wire::Verdict::Error,
        FlowVerdict::Audit => wire::Verdict::Audit,
        FlowVerdict::Redirected => wire::Verdict::Redirected,
        FlowVerdict::Traced => wire::Verdict::Traced,
        FlowVerdict::Translated => wire::Verdict::Translated,
    }
}

/// A time as protobuf tells it.
pub(crate) fn timestamp(time: jiff::Timestamp) -> prost_types::Timestamp {
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    prost_types::Timestamp { seconds, nanos }
}

fn ip((source, destination): (IpAddr, IpAddr)) -> wire::Ip {
    wire::Ip {
        source: source.to_string(),
        destination: destination.to_string(),
        ip_version: if source.is_ipv4() {
            wire::IpVersion::IPv4
        } else {
            wire::IpVersion::IPv6
        } as i32,
        ..wire::Ip::default()
    }
}

fn layer4(sighting: &Sighting<'_>, protocol: Protocol) -> Option<wire::Layer4> {
    use wire::layer4::Protocol as Layer;
    let record = &sighting.event.record;
    let (source_port, destination_port) = (u32::from(record.ports.0), u32::from(record.ports.1));
    let layer = match protocol {
        Protocol::Tcp => Layer::Tcp(wire::Tcp {
            source_port,
            destination_port,
            flags: Some(summary::flags(record.tcp_flags)),
        }),
        Protocol::Udp => Layer::Udp(wire::Udp {
            source_port,
            destination_port,
        }),
        Protocol::Sctp => Layer::Sctp(wire::Sctp {
            source_port,
            destination_port,
        }),
        Protocol::Icmp => Layer::IcmPv4(wire::IcmPv4 {
            r#type: destination_port,
            code: record.icmp_code.into(),
        }),
        Protocol::Icmpv6 => Layer::IcmPv6(wire::IcmPv6 {
            r#type: destination_port,
            code: record.icmp_code.into(),
        }),
        // Of these a record has no more than that it was they.
        Protocol::Other(112) => Layer::Vrrp(wire::Vrrp::default()),
        Protocol::Other(2) => Layer::Igmp(wire::Igmp::default()),
        Protocol::Other(_) => return None,
    };
    Some(wire::Layer4 {
        protocol: Some(layer),
    })
}

fn service(party: &Party<'_>) -> Option<wire::Service> {
    let (namespace, name) = party.service?;
    Some(wire::Service {
        name: name.into(),
        namespace: namespace.into(),
    })
}
