//! The fields of a filter once their values are read: each a question about what was seen.

use super::DropReason;
use super::flow_filter::{
    EventTypeFilter, FlowFilter, Home, IpVersion, TcpFlagsFilter, TrafficDirection, WorkloadFilter,
};
use super::glob::Glob;
use super::label_selector::LabelSelector;
use super::sighting::{FlowVerdict, Party, Sighting};
use super::uuid::Uuid;
use portcullis_policy::{Cidr, Direction, Protocol};
use regex::Regex;
use std::net::IpAddr;

/// Hubble's number for what was seen above TCP and UDP.
const EVENT_L7: i32 = 129;

/// Which end is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Source,
    Destination,
}

impl End {
    fn of<'a>(self, sighting: &Sighting<'a>) -> Party<'a> {
        match self {
            Self::Source => sighting.source,
            Self::Destination => sighting.destination,
        }
    }
}

/// One field; one of its values must fit.
#[derive(Debug)]
pub(crate) enum Check {
    Verdict(Vec<FlowVerdict>),
    EventType(Vec<EventTypeFilter>),
    DropReason(Vec<String>),
    Protocol(Vec<Layer>),
    Port(End, Vec<u16>),
    Identity(End, Vec<u32>),
    Reply(Vec<bool>),
    TcpFlags(Vec<u16>),
    IpVersion(Vec<IpVersion>),
    Direction(Vec<TrafficDirection>),
    Address(End, Vec<Cidr>),
    Pod(End, Vec<PodPattern>),
    Service(End, Vec<PodPattern>),
    Label(End, Vec<LabelSelector>),
    Name(End, Vec<Glob>),
    Workload(End, Vec<WorkloadFilter>),
    Cluster(End, bool),
    Encrypted(bool),
    Uuid(Vec<Uuid>),
    /// What is never seen here, such as HTTP; or another node.
    Never,
}

/// A protocol by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Is(Protocol),
    AnyIcmp,
    /// Above TCP and UDP.
    L7,
}

/// `namespace/prefix`; what is empty does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodPattern {
    namespace: String,
    prefix: String,
}

impl PodPattern {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("expected namespace/prefix, found \"\"".into());
        }
        let (namespace, prefix) = text.split_once('/').unwrap_or(("default", text));
        Ok(Self {
            namespace: namespace.into(),
            prefix: prefix.into(),
        })
    }

    fn matches(&self, namespace: &str, name: &str) -> bool {
        (!namespace.is_empty() || !name.is_empty())
            && (self.namespace.is_empty() || self.namespace == namespace)
            && name.starts_with(&self.prefix)
    }
}

impl Check {
    /// Whether it holds of what was seen.
    pub(crate) fn holds(&self, sighting: &Sighting<'_>) -> bool {
        let record = &sighting.event.record;
        match self {
            Self::Verdict(wanted) => wanted.contains(&sighting.verdict()),
            Self::EventType(wanted) => {
                let (kind, sub_type) = sighting.event_type();
                wanted.iter().any(|one| {
                    (one.kind == 0 || one.kind == kind)
                        && (!one.match_sub_type || one.sub_type == sub_type)
                })
            }
            Self::DropReason(wanted) => sighting.drop().is_some_and(|drop| {
                let name = DropReason::of(drop).name;
                wanted.iter().any(|one| one == name)
            }),
            Self::Protocol(wanted) => wanted.iter().any(|one| one.is_of(record.protocol)),
            Self::Port(end, wanted) => {
                let port = end.of(sighting).port;
                has_ports(record.protocol) && wanted.contains(&port)
            }
            Self::Identity(end, wanted) => wanted.contains(&end.of(sighting).identity.0),
            Self::Reply(wanted) => {
                let is_reply = match sighting.is_reply() {
                    None if sighting.verdict() == FlowVerdict::Dropped => Some(false),
                    known => known,
                };
                is_reply.is_some_and(|is_reply| wanted.contains(&is_reply))
            }
            Self::TcpFlags(wanted) => {
                let flags = u16::from(record.tcp_flags.0);
                record.protocol == Some(Protocol::Tcp)
                    && wanted.iter().any(|one| flags & one == *one)
            }
            Self::IpVersion(wanted) => {
                let version = match record.addresses {
                    None => IpVersion::NotUsed,
                    Some((IpAddr::V4(_), _)) => IpVersion::V4,
                    Some((IpAddr::V6(_), _)) => IpVersion::V6,
                };
                wanted.contains(&version)
            }
            Self::Direction(wanted) => wanted.contains(&match sighting.direction() {
                None => TrafficDirection::TrafficDirectionUnknown,
                Some(Direction::Ingress) => TrafficDirection::Ingress,
                Some(Direction::Egress) => TrafficDirection::Egress,
            }),
            Self::Uuid(wanted) => wanted.contains(&sighting.uuid()),
            Self::Encrypted(wanted) => record.addresses.is_some() && !wanted,
            Self::Never => false,
            Self::Address(end, _)
            | Self::Pod(end, _)
            | Self::Service(end, _)
            | Self::Label(end, _)
            | Self::Name(end, _)
            | Self::Workload(end, _)
            | Self::Cluster(end, _) => self.holds_of(&end.of(sighting)),
        }
    }

    /// Whether it holds of the end that it is about.
    fn holds_of(&self, party: &Party<'_>) -> bool {
        match self {
            Self::Address(_, wanted) => party
                .address
                .is_some_and(|address| wanted.iter().any(|one| one.has_address(address))),
            Self::Pod(_, wanted) => wanted
                .iter()
                .any(|one| one.matches(party.namespace, party.pod_name)),
            Self::Service(_, wanted) => party.service.is_some_and(|(namespace, name)| {
                wanted.iter().any(|one| one.matches(namespace, name))
            }),
            Self::Label(_, wanted) => wanted.iter().any(|one| one.matches(party.labels)),
            Self::Name(_, wanted) => party
                .names
                .iter()
                .any(|name| wanted.iter().any(|one| one.matches(name))),
            Self::Workload(_, wanted) => party.workload().is_some_and(|(kind, name)| {
                wanted.iter().any(|one| {
                    (one.kind.is_empty() || one.kind == kind)
                        && (one.name.is_empty() || one.name == name)
                })
            }),
            Self::Cluster(_, is_ours) => *is_ours && party.is_in_cluster(),
            _ => false,
        }
    }
}

impl Layer {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "tcp" => Self::Is(Protocol::Tcp),
            "udp" => Self::Is(Protocol::Udp),
            "sctp" => Self::Is(Protocol::Sctp),
            "icmp" => Self::AnyIcmp,
            "icmpv4" => Self::Is(Protocol::Icmp),
            "icmpv6" => Self::Is(Protocol::Icmpv6),
            "vrrp" => Self::Is(Protocol::Other(112)),
            "igmp" => Self::Is(Protocol::Other(2)),
            "dns" | "http" | "kafka" => Self::L7,
            _ => {
                return Err(format!(
                    "expected tcp, udp, sctp, icmp, icmpv4, icmpv6, vrrp, igmp, dns, http or kafka, \
                     found \"{text}\""
                ));
            }
        })
    }

    fn is_of(self, protocol: Option<Protocol>) -> bool {
        match self {
            Self::Is(wanted) => protocol == Some(wanted),
            Self::AnyIcmp => matches!(protocol, Some(Protocol::Icmp | Protocol::Icmpv6)),
            Self::L7 => false,
        }
    }
}

const fn has_ports(protocol: Option<Protocol>) -> bool {
    matches!(
        protocol,
        Some(Protocol::Tcp | Protocol::Udp | Protocol::Sctp)
    )
}

/// Reads one field: no values, no question.
fn field<T, V>(
    name: &str,
    values: &[V],
    parse: impl Fn(&V) -> Result<T, String>,
    check: impl FnOnce(Vec<T>) -> Check,
    into: &mut Vec<Check>,
) -> Result<(), String> {
    if values.is_empty() {
        return Ok(());
    }
    let parsed: Result<Vec<T>, String> = values
        .iter()
        .enumerate()
        .map(|(place, value)| parse(value).map_err(|e| format!("{name}[{place}]: {e}")))
        .collect();
    into.push(check(parsed?));
    Ok(())
}

fn same<T: Clone>(value: &T) -> Result<T, String> {
    Ok(value.clone())
}

/// The questions of a filter, cheap ones first.
///
/// # Errors
/// The field, what it may hold, and what it does.
pub(crate) fn checks(filter: &FlowFilter, home: &Home) -> Result<Vec<Check>, String> {
    let mut all = Vec::new();
    let out = &mut all;
    field("verdict", &filter.verdict, same, Check::Verdict, out)?;
    field(
        "event_type",
        &filter.event_type,
        same,
        Check::EventType,
        out,
    )?;
    field(
        "drop_reason_desc",
        &filter.drop_reason_desc,
        same,
        Check::DropReason,
        out,
    )?;
    let layer = |text: &String| Layer::parse(text);
    field("protocol", &filter.protocol, layer, Check::Protocol, out)?;
    field("reply", &filter.reply, same, Check::Reply, out)?;
    field(
        "ip_version",
        &filter.ip_version,
        same,
        Check::IpVersion,
        out,
    )?;
    field(
        "tcp_flags",
        &filter.tcp_flags,
        |flags| Ok(bits(flags)),
        Check::TcpFlags,
        out,
    )?;
    field(
        "traffic_direction",
        &filter.traffic_direction,
        same,
        Check::Direction,
        out,
    )?;
    ends(filter, home, out)?;
    let uuid = |text: &String| text.parse();
    field("uuid", &filter.uuid, uuid, Check::Uuid, out)?;
    if !filter.encrypted.is_empty() {
        out.push(Check::Encrypted(!filter.encrypted.contains(&false)));
    }
    places(filter, home, out)?;
    above_l4(filter, out)?;
    if filter
        .experimental
        .as_ref()
        .is_some_and(|more| !more.cel_expression.is_empty())
    {
        return Err("experimental.cel_expression: CEL expressions are not supported here".into());
    }
    Ok(all)
}

/// What is asked of either end.
fn ends(filter: &FlowFilter, home: &Home, out: &mut Vec<Check>) -> Result<(), String> {
    macro_rules! both {
        ($source:ident, $destination:ident, $parse:expr, $check:path) => {
            for (end, name, values) in [
                (End::Source, stringify!($source), &filter.$source),
                (
                    End::Destination,
                    stringify!($destination),
                    &filter.$destination,
                ),
            ] {
                field(name, values, $parse, |values| $check(end, values), out)?;
            }
        };
    }
    both!(source_identity, destination_identity, same, Check::Identity);
    both!(source_port, destination_port, port, Check::Port);
    both!(source_ip, destination_ip, block, Check::Address);
    both!(
        source_pod,
        destination_pod,
        |text: &String| PodPattern::parse(text),
        Check::Pod
    );
    both!(
        source_service,
        destination_service,
        |text: &String| PodPattern::parse(text),
        Check::Service
    );
    both!(source_workload, destination_workload, same, Check::Workload);
    both!(
        source_label,
        destination_label,
        |text: &String| LabelSelector::parse(text),
        Check::Label
    );
    both!(
        source_fqdn,
        destination_fqdn,
        |text: &String| Glob::parse(text),
        Check::Name
    );
    for (end, names) in [
        (End::Source, &filter.source_cluster_name),
        (End::Destination, &filter.destination_cluster_name),
    ] {
        if !names.is_empty() {
            out.push(Check::Cluster(end, names.contains(&home.cluster)));
        }
    }
    Ok(())
}

/// What is asked of the node: all that it tells is of itself.
fn places(filter: &FlowFilter, home: &Home, out: &mut Vec<Check>) -> Result<(), String> {
    let mut is_elsewhere = false;
    let node = |text: &String| {
        let (cluster, node) = text.split_once('/').unwrap_or(("default", text));
        let is_named = |pattern: &str, name: &str| {
            Ok::<_, String>(pattern.is_empty() || Glob::parse(pattern)?.matches(name))
        };
        Ok(is_named(cluster, &home.cluster)? && is_named(node, &home.node)?)
    };
    let mut told = |matches: Vec<bool>| {
        is_elsewhere |= !matches.contains(&true);
        Check::Never
    };
    let mut unused = Vec::new();
    field("node_name", &filter.node_name, node, &mut told, &mut unused)?;
    // This node has no labels.
    let labels = |text: &String| Ok(LabelSelector::parse(text)?.matches(&[]));
    field(
        "node_labels",
        &filter.node_labels,
        labels,
        &mut told,
        &mut unused,
    )?;
    if is_elsewhere {
        out.push(Check::Never);
    }
    Ok(())
}

/// What is asked of requests and of marks that nothing here has.
fn above_l4(filter: &FlowFilter, out: &mut Vec<Check>) -> Result<(), String> {
    let expression = |text: &String| Regex::new(text).map_err(|e| e.to_string().replace('\n', " "));
    let never = |_: Vec<Regex>| Check::Never;
    field("dns_query", &filter.dns_query, expression, never, out)?;
    field("http_path", &filter.http_path, expression, never, out)?;
    field("http_url", &filter.http_url, expression, never, out)?;
    let statuses = &filter.http_status_code;
    field("http_status_code", statuses, status, |_| Check::Never, out)?;
    field(
        "source_ip_xlated",
        &filter.source_ip_xlated,
        block,
        |_| Check::Never,
        out,
    )?;
    let is_http = [
        !filter.http_status_code.is_empty(),
        !filter.http_method.is_empty(),
        !filter.http_path.is_empty(),
        !filter.http_url.is_empty(),
        !filter.http_header.is_empty(),
    ];
    let kinds = &filter.event_type;
    if is_http.contains(&true)
        && !kinds.is_empty()
        && !kinds.iter().any(|one| [0, EVENT_L7].contains(&one.kind))
    {
        return Err("event_type: filters about HTTP need the type l7 (129)".into());
    }
    let is_unseen = !filter.http_method.is_empty()
        || !filter.http_header.is_empty()
        || !filter.trace_id.is_empty()
        || !filter.ip_trace_id.is_empty()
        || !filter.interface.is_empty();
    if is_unseen {
        out.push(Check::Never);
    }
    Ok(())
}

fn bits(flags: &TcpFlagsFilter) -> u16 {
    [
        flags.fin, flags.syn, flags.rst, flags.psh, flags.ack, flags.urg, flags.ece, flags.cwr,
        flags.ns,
    ]
    .iter()
    .enumerate()
    .fold(0, |bits, (place, is_set)| {
        bits | u16::from(*is_set) << place
    })
}

fn port(text: &String) -> Result<u16, String> {
    text.parse()
        .map_err(|_| format!("expected a port, 0 to 65535, found \"{text}\""))
}

fn block(text: &String) -> Result<Cidr, String> {
    let wrong = || format!("expected an address or a block such as 10.0.0.0/8, found \"{text}\"");
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text.as_str(), None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
    Cidr::new(address, length).ok_or_else(wrong)
}

/// `404`, or the first digits: `5+`.
fn status(text: &String) -> Result<(), String> {
    let wrong = || format!("expected a status such as 404 or 5+, found \"{text}\"");
    let (digits, is_prefix) = match text.strip_suffix('+') {
        Some(digits) => (digits, true),
        None => (text.as_str(), false),
    };
    let is_right = digits.bytes().all(|byte| byte.is_ascii_digit())
        && digits
            .bytes()
            .next()
            .is_some_and(|first| (b'1'..=b'5').contains(&first))
        && if is_prefix {
            digits.len() < 3
        } else {
            digits.len() == 3
        };
    is_right.then_some(()).ok_or_else(wrong)
}
