//! Reads the values of a filter's fields.

use super::expression::Language;
use super::flow_check::{Check, End, Layer, PodPattern};
use super::flow_filter::{FlowFilter, Home, TcpFlagsFilter};
use super::glob::Glob;
use super::label_selector::LabelSelector;
use super::pattern::Pattern;
use portcullis_policy::Cidr;
use std::net::IpAddr;

/// Hubble's number for what was seen above TCP and UDP.
const EVENT_L7: i32 = 129;

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
pub(crate) fn checks(
    filter: &FlowFilter,
    home: &Home,
    language: Language,
) -> Result<Vec<Check>, String> {
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
    let texts = filter.expressions();
    if !texts.is_empty() {
        let read = language(texts, home);
        let expression = read.map_err(|e| format!("experimental.cel_expression{e}"))?;
        out.push(Check::Expression(expression));
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
    let told = |matches: Vec<bool>| {
        is_elsewhere = !matches.contains(&true);
        Check::Never
    };
    field("node_name", &filter.node_name, node, told, &mut Vec::new())?;
    if is_elsewhere {
        out.push(Check::Never);
    }
    let labels = |text: &String| LabelSelector::parse(text);
    field(
        "node_labels",
        &filter.node_labels,
        labels,
        Check::NodeLabel,
        out,
    )?;
    field("interface", &filter.interface, same, Check::Interface, out)
}

/// What is asked of requests and of marks that nothing here has.
fn above_l4(filter: &FlowFilter, out: &mut Vec<Check>) -> Result<(), String> {
    let expression = |text: &String| Pattern::read(text);
    let never = |_: Vec<Pattern>| Check::Never;
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
        || !filter.ip_trace_id.is_empty();
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
