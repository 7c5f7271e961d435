//! The field of a filter that a flag fills.

use crate::observe::{
    EventTypeFilter, FlowFilter, HeaderFilter, InterfaceFilter, IpVersion, TcpFlagsFilter,
    WorkloadFilter,
};
use serde_json::Value;

/// A field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Field {
    SourcePod,
    DestinationPod,
    SourceIp,
    DestinationIp,
    SourceLabel,
    DestinationLabel,
    SourcePort,
    DestinationPort,
    SourceIdentity,
    DestinationIdentity,
    SourceWorkload,
    DestinationWorkload,
    SourceFqdn,
    DestinationFqdn,
    SourceService,
    DestinationService,
    Protocol,
    Verdict,
    DropReason,
    EventType,
    TcpFlags,
    Direction,
    IpVersion,
    Uuid,
    NodeName,
    Expression,
    NodeLabel,
    SourceCluster,
    DestinationCluster,
    Interface,
    SourceIpXlated,
    Encrypted,
    HttpStatus,
    HttpMethod,
    HttpPath,
    HttpUrl,
    HttpHeader,
    TraceId,
    IpTraceId,
}

/// What a flag asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// This field.
    Is(Field),
    /// One field or the other.
    Either(Field, Field),
}

/// What a flag asks for, by its name.
pub fn effect(name: &str) -> Effect {
    use Field as F;
    match name {
        "pod" => Effect::Either(F::SourcePod, F::DestinationPod),
        "from_pod" => Effect::Is(F::SourcePod),
        "to_pod" => Effect::Is(F::DestinationPod),
        "ip" => Effect::Either(F::SourceIp, F::DestinationIp),
        "from_ip" => Effect::Is(F::SourceIp),
        "to_ip" => Effect::Is(F::DestinationIp),
        "label" => Effect::Either(F::SourceLabel, F::DestinationLabel),
        "from_label" => Effect::Is(F::SourceLabel),
        "to_label" => Effect::Is(F::DestinationLabel),
        "port" => Effect::Either(F::SourcePort, F::DestinationPort),
        "from_port" => Effect::Is(F::SourcePort),
        "to_port" => Effect::Is(F::DestinationPort),
        "identity" => Effect::Either(F::SourceIdentity, F::DestinationIdentity),
        "from_identity" => Effect::Is(F::SourceIdentity),
        "to_identity" => Effect::Is(F::DestinationIdentity),
        "workload" => Effect::Either(F::SourceWorkload, F::DestinationWorkload),
        "from_workload" => Effect::Is(F::SourceWorkload),
        "to_workload" => Effect::Is(F::DestinationWorkload),
        "fqdn" => Effect::Either(F::SourceFqdn, F::DestinationFqdn),
        "from_fqdn" => Effect::Is(F::SourceFqdn),
        "to_fqdn" => Effect::Is(F::DestinationFqdn),
        "service" => Effect::Either(F::SourceService, F::DestinationService),
        "from_service" => Effect::Is(F::SourceService),
        "to_service" => Effect::Is(F::DestinationService),
        "protocol" => Effect::Is(F::Protocol),
        "verdict" => Effect::Is(F::Verdict),
        "drop_reason_desc" => Effect::Is(F::DropReason),
        "event_type" => Effect::Is(F::EventType),
        "tcp_flags" => Effect::Is(F::TcpFlags),
        "traffic_direction" => Effect::Is(F::Direction),
        "ip_version" => Effect::Is(F::IpVersion),
        "uuid" => Effect::Is(F::Uuid),
        "cel_expression" => Effect::Is(F::Expression),
        "node_label" => Effect::Is(F::NodeLabel),
        "cluster" => Effect::Either(F::SourceCluster, F::DestinationCluster),
        "from_cluster" => Effect::Is(F::SourceCluster),
        "to_cluster" => Effect::Is(F::DestinationCluster),
        "interface" => Effect::Is(F::Interface),
        "snat_ip" => Effect::Is(F::SourceIpXlated),
        "encrypted" => Effect::Is(F::Encrypted),
        "http_status" => Effect::Is(F::HttpStatus),
        "http_method" => Effect::Is(F::HttpMethod),
        "http_path" => Effect::Is(F::HttpPath),
        "http_url" => Effect::Is(F::HttpUrl),
        "http_header" => Effect::Is(F::HttpHeader),
        "trace_id" => Effect::Is(F::TraceId),
        "ip_trace_id" => Effect::Is(F::IpTraceId),
        _ => Effect::Is(F::NodeName),
    }
}

/// Puts values into a field.
///
/// # Errors
/// When a value is not understood, or another flag has filled the field already.
pub fn add(filter: &mut FlowFilter, field: Field, values: &[String]) -> Result<(), String> {
    use Field as F;
    match field {
        F::SourcePod => fill(&mut filter.source_pod, values.to_vec()),
        F::DestinationPod => fill(&mut filter.destination_pod, values.to_vec()),
        F::SourceIp => fill(&mut filter.source_ip, values.to_vec()),
        F::DestinationIp => fill(&mut filter.destination_ip, values.to_vec()),
        F::SourceLabel => fill(&mut filter.source_label, values.to_vec()),
        F::DestinationLabel => fill(&mut filter.destination_label, values.to_vec()),
        F::SourcePort => fill(&mut filter.source_port, values.to_vec()),
        F::DestinationPort => fill(&mut filter.destination_port, values.to_vec()),
        F::SourceIdentity => fill(&mut filter.source_identity, all(values, identity)?),
        F::DestinationIdentity => fill(&mut filter.destination_identity, all(values, identity)?),
        F::SourceWorkload => fill(&mut filter.source_workload, all(values, workload)?),
        F::DestinationWorkload => fill(&mut filter.destination_workload, all(values, workload)?),
        F::SourceFqdn => fill(&mut filter.source_fqdn, values.to_vec()),
        F::DestinationFqdn => fill(&mut filter.destination_fqdn, values.to_vec()),
        F::SourceService => fill(&mut filter.source_service, values.to_vec()),
        F::DestinationService => fill(&mut filter.destination_service, values.to_vec()),
        F::Protocol => fill(&mut filter.protocol, values.to_vec()),
        F::Verdict => fill(&mut filter.verdict, all(values, named)?),
        F::DropReason => fill(&mut filter.drop_reason_desc, values.to_vec()),
        F::EventType => fill(&mut filter.event_type, all(values, event_type)?),
        F::TcpFlags => fill(&mut filter.tcp_flags, all(values, tcp_flags)?),
        F::Direction => fill(&mut filter.traffic_direction, all(values, named)?),
        F::IpVersion => fill(&mut filter.ip_version, all(values, ip_version)?),
        F::Uuid => fill(&mut filter.uuid, values.to_vec()),
        F::NodeName => fill(&mut filter.node_name, values.to_vec()),
        F::Expression => {
            let more = filter.experimental.get_or_insert_default();
            fill(&mut more.cel_expression, values.to_vec())
        }
        F::NodeLabel => fill(&mut filter.node_labels, values.to_vec()),
        F::SourceCluster => fill(&mut filter.source_cluster_name, values.to_vec()),
        F::DestinationCluster => fill(&mut filter.destination_cluster_name, values.to_vec()),
        F::Interface => fill(&mut filter.interface, all(values, interface)?),
        F::SourceIpXlated => fill(&mut filter.source_ip_xlated, values.to_vec()),
        F::Encrypted => {
            let wanted = values.iter().map(|value| value == "true");
            fill(&mut filter.encrypted, wanted.collect())
        }
        F::HttpStatus => fill(&mut filter.http_status_code, values.to_vec()),
        F::HttpMethod => fill(&mut filter.http_method, values.to_vec()),
        F::HttpPath => fill(&mut filter.http_path, values.to_vec()),
        F::HttpUrl => fill(&mut filter.http_url, values.to_vec()),
        F::HttpHeader => fill(&mut filter.http_header, all(values, header)?),
        F::TraceId => fill(&mut filter.trace_id, values.to_vec()),
        F::IpTraceId => fill(&mut filter.ip_trace_id, all(values, whole)?),
    }
}

fn fill<T>(field: &mut Vec<T>, values: Vec<T>) -> Result<(), String> {
    // One field holds what one of its values asks for; two flags would want both.
    if !field.is_empty() {
        return Err("expected no other flag about the same end".into());
    }
    *field = values;
    Ok(())
}

fn all<T>(values: &[String], read: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    values.iter().map(|value| read(value)).collect()
}

/// A value that is known by its name in capitals.
fn named<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(text.to_ascii_uppercase())).map_err(|e| e.to_string())
}

/// Names of reserved identities. [Cilium, `pkg/identity/reserved.go`]
pub const RESERVED: [&str; 11] = [
    "unknown",
    "host",
    "world",
    "unmanaged",
    "health",
    "init",
    "remote-node",
    "kube-apiserver",
    "ingress",
    "world-ipv4",
    "world-ipv6",
];

fn identity(text: &str) -> Result<u32, String> {
    let name = text.strip_prefix("reserved:").unwrap_or(text);
    let reserved = (0..).zip(RESERVED).find(|(_, known)| *known == name);
    reserved
        .map(|(number, _)| number)
        .or_else(|| text.parse().ok())
        .ok_or_else(|| {
            format!(
                "expected a number or one of {}, found \"{text}\"",
                RESERVED.join(", ")
            )
        })
}

fn workload(text: &str) -> Result<WorkloadFilter, String> {
    let (kind, name) = text.split_once('/').unwrap_or(("", text));
    Ok(WorkloadFilter {
        name: name.to_owned(),
        kind: kind.to_owned(),
    })
}

fn ip_version(text: &str) -> Result<IpVersion, String> {
    Ok(match text.chars().last() {
        Some('6') => IpVersion::V6,
        Some('4') => IpVersion::V4,
        _ => IpVersion::NotUsed,
    })
}

fn interface(text: &str) -> Result<InterfaceFilter, String> {
    Ok(InterfaceFilter {
        index: 0,
        name: text.to_owned(),
    })
}

fn header(text: &str) -> Result<HeaderFilter, String> {
    let (key, value) = text
        .split_once(':')
        .ok_or_else(|| format!("expected NAME:VALUE, found \"{text}\""))?;
    Ok(HeaderFilter {
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

fn whole(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("expected a number, found \"{text}\""))
}

/// Hubble's numbers of types that have no part here are known, too: nothing has them.
const TRACE: i32 = 4;
const TYPES: [(&str, i32); 8] = [
    ("drop", 1),
    ("capture", 3),
    ("trace", TRACE),
    ("policy-verdict", 5),
    ("trace-sock", 7),
    ("debug", 2),
    ("l7", 129),
    ("agent", 130),
];
const TRACES: [(&str, i32); 14] = [
    ("to-endpoint", 0),
    ("to-proxy", 1),
    ("to-host", 2),
    ("to-stack", 3),
    ("to-overlay", 4),
    ("from-endpoint", 5),
    ("from-proxy", 6),
    ("from-host", 7),
    ("from-stack", 8),
    ("from-overlay", 9),
    ("from-network", 10),
    ("to-network", 11),
    ("from-crypto", 12),
    ("to-crypto", 13),
];

fn event_type(text: &str) -> Result<EventTypeFilter, String> {
    let (kind, sub_type) = match text.split_once(':') {
        Some((kind, sub_type)) => (kind, Some(sub_type)),
        None => (text, None),
    };
    let find = |list: &[(&str, i32)], name: &str| {
        let named = list.iter().find(|(known, _)| *known == name);
        named
            .map(|(_, number)| *number)
            .or_else(|| name.parse().ok())
    };
    let names = |list: &[(&str, i32)]| {
        let names: Vec<_> = list.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    };
    let kind = find(&TYPES, kind)
        .ok_or_else(|| format!("expected one of {}, found \"{text}\"", names(&TYPES)))?;
    let sub = sub_type
        .map(|name| match kind {
            TRACE => find(&TRACES, name)
                .ok_or_else(|| format!("expected one of {}, found \"{name}\"", names(&TRACES))),
            // Names are those of points that packets pass.
            _ => name
                .parse()
                .map_err(|_| format!("expected a number behind the colon, found \"{name}\"")),
        })
        .transpose()?;
    Ok(EventTypeFilter {
        kind,
        match_sub_type: sub.is_some(),
        sub_type: sub.unwrap_or_default(),
    })
}

fn tcp_flags(text: &str) -> Result<TcpFlagsFilter, String> {
    let flags = text
        .split(',')
        .map(|flag| (flag.trim().to_ascii_uppercase(), Value::Bool(true)));
    serde_json::from_value(Value::Object(flags.collect()))
        .map_err(|_| format!("expected flags such as SYN,ACK, found \"{text}\""))
}
