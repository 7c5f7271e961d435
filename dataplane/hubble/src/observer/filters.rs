//! Filters as they come over the wire.

use crate::wire::flow as wire;
use portcullis_observe::{
    EventTypeFilter, ExperimentalFilter, FlowFilter, FlowVerdict, HeaderFilter, InterfaceFilter,
    IpVersion, TcpFlagsFilter, TrafficDirection, WorkloadFilter,
};

/// Reads one.
///
/// # Errors
/// Numbers that are no value of their enumeration.
pub(crate) fn read(from: &wire::FlowFilter) -> Result<FlowFilter, String> {
    let from = from.clone();
    let interface = |one: wire::NetworkInterface| InterfaceFilter {
        index: one.index,
        name: one.name,
    };
    let header = |one: wire::HttpHeader| HeaderFilter {
        key: one.key,
        value: one.value,
    };
    let event_type = |one: wire::EventTypeFilter| EventTypeFilter {
        kind: one.r#type,
        match_sub_type: one.match_sub_type,
        sub_type: one.sub_type,
    };
    Ok(FlowFilter {
        source_ip: from.source_ip,
        source_pod: from.source_pod,
        destination_ip: from.destination_ip,
        destination_pod: from.destination_pod,
        verdict: all(&from.verdict, "verdict", verdict)?,
        event_type: from.event_type.into_iter().map(event_type).collect(),
        source_fqdn: from.source_fqdn,
        destination_fqdn: from.destination_fqdn,
        http_status_code: from.http_status_code,
        source_label: from.source_label,
        destination_label: from.destination_label,
        protocol: from.protocol,
        source_port: from.source_port,
        destination_port: from.destination_port,
        reply: from.reply,
        source_service: from.source_service,
        destination_service: from.destination_service,
        dns_query: from.dns_query,
        source_identity: from.source_identity,
        destination_identity: from.destination_identity,
        http_method: from.http_method,
        http_path: from.http_path,
        tcp_flags: from.tcp_flags.iter().map(flags).collect(),
        node_name: from.node_name,
        ip_version: all(&from.ip_version, "ip_version", ip_version)?,
        source_workload: from.source_workload.into_iter().map(workload).collect(),
        destination_workload: from
            .destination_workload
            .into_iter()
            .map(workload)
            .collect(),
        trace_id: from.trace_id,
        uuid: from.uuid,
        traffic_direction: all(&from.traffic_direction, "traffic_direction", direction)?,
        http_url: from.http_url,
        http_header: from.http_header.into_iter().map(header).collect(),
        drop_reason_desc: all(&from.drop_reason_desc, "drop_reason_desc", |number| {
            let reason = wire::DropReason::try_from(number).ok()?;
            Some(reason.as_str_name().to_owned())
        })?,
        source_ip_xlated: from.source_ip_xlated,
        interface: from.interface.into_iter().map(interface).collect(),
        node_labels: from.node_labels,
        source_cluster_name: from.source_cluster_name,
        destination_cluster_name: from.destination_cluster_name,
        ip_trace_id: from.ip_trace_id,
        encrypted: from.encrypted,
        experimental: from.experimental.map(|more| ExperimentalFilter {
            cel_expression: more.cel_expression,
        }),
    })
}

fn all<T>(numbers: &[i32], field: &str, of: impl Fn(i32) -> Option<T>) -> Result<Vec<T>, String> {
    let read = |(place, number): (usize, &i32)| {
        of(*number).ok_or_else(|| format!("{field}[{place}]: {number} is no value of it"))
    };
    numbers.iter().enumerate().map(read).collect()
}

fn verdict(number: i32) -> Option<FlowVerdict> {
    Some(match wire::Verdict::try_from(number).ok()? {
        wire::Verdict::Unknown => FlowVerdict::VerdictUnknown,
        wire::Verdict::Forwarded => FlowVerdict::Forwarded,
        wire::Verdict::Dropped => FlowVerdict::Dropped,
        wire::Verdict::Error => FlowVerdict::Error,
        wire::Verdict::Audit => FlowVerdict::Audit,
        wire::Verdict::Redirected => FlowVerdict::Redirected,
        wire::Verdict::Traced => FlowVerdict::Traced,
        wire::Verdict::Translated => FlowVerdict::Translated,
    })
}

fn ip_version(number: i32) -> Option<IpVersion> {
    Some(match wire::IpVersion::try_from(number).ok()? {
        wire::IpVersion::IpNotUsed => IpVersion::NotUsed,
        wire::IpVersion::IPv4 => IpVersion::V4,
        wire::IpVersion::IPv6 => IpVersion::V6,
    })
}

fn direction(number: i32) -> Option<TrafficDirection> {
    Some(match wire::TrafficDirection::try_from(number).ok()? {
        wire::TrafficDirection::Unknown => TrafficDirection::TrafficDirectionUnknown,
        wire::TrafficDirection::Ingress => TrafficDirection::Ingress,
        wire::TrafficDirection::Egress => TrafficDirection::Egress,
    })
}

const fn flags(from: &wire::TcpFlags) -> TcpFlagsFilter {
    TcpFlagsFilter {
        fin: from.fin,
        syn: from.syn,
        rst: from.rst,
        psh: from.psh,
        ack: from.ack,
        urg: from.urg,
        ece: from.ece,
        cwr: from.cwr,
        ns: from.ns,
    }
}

fn workload(from: wire::Workload) -> WorkloadFilter {
    WorkloadFilter {
        name: from.name,
        kind: from.kind,
    }
}
