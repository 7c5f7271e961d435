//! One line of the table: an event, its names, and its number to ask for more.

use portcullis_engine::{Ending, RecordKind, TcpFlags};
use portcullis_observe::{Event, Flow, FlowEnd, FlowPolicy, Sighting, workload_of};
use portcullis_policy::Protocol;
use serde::Serialize;
use std::net::IpAddr;

/// Flags of TCP that are told.
pub(super) const TCP_FLAGS: [(&str, u8); 5] = [
    ("SYN", TcpFlags::SYN),
    ("ACK", TcpFlags::ACK),
    ("FIN", TcpFlags::FIN),
    ("RST", TcpFlags::RST),
    ("PSH", TcpFlags::PSH),
];

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// Its number, to ask why.
    pub(super) number: u64,
    /// When, in RFC 3339.
    pub(super) time: jiff::Timestamp,
    /// `flow`, `update`, `end`, `cut` or `drop`.
    pub(super) event: &'static str,
    /// How it ended, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ending: Option<&'static str>,
    /// `FORWARDED`, `DROPPED`, `AUDIT`.
    pub(super) verdict: String,
    /// Who sent it.
    pub(super) source: RowEnd,
    /// Whom it was for.
    pub(super) destination: RowEnd,
    /// `TCP`.
    pub(super) protocol: String,
    /// `egress` or `ingress`: where policy decided.
    pub(super) direction: String,
    /// TCP flags of the packet.
    pub(super) tcp_flags: Vec<&'static str>,
    /// Key of the drop reason.
    pub(super) reason: String,
    /// The documents behind the verdict; of a drop, those that denied.
    pub(super) policies: Vec<FlowPolicy>,
    /// The verdict in words.
    pub(super) text: String,
    /// Bytes of the frame.
    pub(super) length: u32,
    /// Packets so far, of the side that began first.
    pub(super) packets: [u32; 2],
    /// Bytes so far.
    pub(super) bytes: [u64; 2],
    /// The generation of policy that judged.
    pub(super) generation: u64,
}

/// One end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(super) struct RowEnd {
    /// `namespace/pod`, the reserved name, or the block.
    pub(super) name: String,
    /// Namespace, for a pod.
    pub(super) namespace: String,
    /// Name, for a pod.
    pub(super) pod: String,
    /// The workload it is of.
    pub(super) workload: String,
    /// Number of its identity.
    pub(super) identity: u32,
    /// Labels of its identity.
    pub(super) labels: Vec<String>,
    /// Names that its address is known by.
    pub(super) names: Vec<String>,
    /// Address.
    pub(super) ip: Option<IpAddr>,
    /// Port, where there is one.
    pub(super) port: Option<u16>,
}

impl RowEnd {
    fn of(end: FlowEnd, names: Vec<String>, ip: Option<IpAddr>, port: Option<u16>) -> Self {
        Self {
            name: end.name(),
            workload: workload_of(&end.pod_name)
                .map(|(_, name)| name.to_owned())
                .unwrap_or_default(),
            namespace: end.namespace,
            pod: end.pod_name,
            identity: end.identity,
            labels: end.labels,
            names,
            ip,
            port,
        }
    }
}

impl Row {
    /// The line of an event.
    pub(super) fn of(event: &Event) -> Self {
        let flow = Flow::read(event);
        let record = &event.record;
        let (name, ending) = match record.kind {
            RecordKind::Flow => ("flow", None),
            RecordKind::Update => ("update", None),
            RecordKind::End(ending) => ("end", Some(ending_key(ending))),
            RecordKind::Revoked(_) => ("cut", None),
            RecordKind::Drop(_) => ("drop", None),
        };
        let policies = if flow.verdict == "FORWARDED" {
            [flow.egress_allowed_by, flow.ingress_allowed_by]
        } else {
            [flow.egress_denied_by, flow.ingress_denied_by]
        };
        let seen = Sighting::all(event).next();
        let names = seen.map_or([&[][..]; 2], |seen| {
            [seen.source.names, seen.destination.names]
        });
        let [source_names, destination_names] = names.map(<[String]>::to_vec);
        let flags = TCP_FLAGS
            .iter()
            .filter(|(_, flag)| record.tcp_flags.has(*flag));
        let is_tcp = record.protocol == Some(Protocol::Tcp);
        let has_ports = flow.source_port.is_some();
        let ip = flow.ip.as_ref();
        Self {
            number: event.number,
            time: flow.time,
            event: name,
            ending,
            verdict: flow.verdict,
            source: RowEnd::of(
                flow.source,
                source_names,
                ip.map(|ip| ip.source),
                flow.source_port,
            ),
            destination: RowEnd::of(
                flow.destination,
                destination_names,
                ip.map(|ip| ip.destination),
                flow.destination_port.filter(|_| has_ports),
            ),
            protocol: flow.protocol.unwrap_or_default(),
            direction: flow.traffic_direction.unwrap_or_default(),
            tcp_flags: flags.filter(|_| is_tcp).map(|(name, _)| *name).collect(),
            reason: flow.drop_reason.unwrap_or_default(),
            policies: policies.concat(),
            text: flow.reason,
            length: flow.length,
            packets: record.totals.packets,
            bytes: record.totals.bytes,
            generation: flow.generation,
        }
    }
}

const fn ending_key(ending: Ending) -> &'static str {
    match ending {
        Ending::Finished => "finished",
        Ending::Reset => "reset",
        Ending::Idle => "idle",
        Ending::Unanswered => "unanswered",
        Ending::Evicted => "evicted",
        Ending::Replaced => "replaced",
    }
}
