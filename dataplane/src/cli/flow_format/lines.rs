//! Flows as lines, blocks and rows of text.

use super::PrintArgs;
use crate::observe::{FlowEnd, FlowPolicy};
use crate::recall::{SeenFlow, SeenService};
use std::fmt::Write;
use std::net::IpAddr;

/// Titles of Hubble's fields.
const TITLES: [&str; 6] = [
    "TIMESTAMP",
    "SOURCE",
    "DESTINATION",
    "TYPE",
    "VERDICT",
    "SUMMARY",
];

/// One end as it is printed.
struct End<'a> {
    end: &'a FlowEnd,
    address: Option<IpAddr>,
    port: Option<u16>,
    service: Option<&'a SeenService>,
    names: &'a [String],
}

impl End<'_> {
    /// Name or address with the port, as Hubble prints it.
    fn text(&self, args: &PrintArgs) -> String {
        let is_named = args.ip_translation && !args.numeric;
        let name = match (self.service, self.address) {
            _ if is_named && !self.end.pod_name.is_empty() => {
                format!("{}/{}", self.end.namespace, self.end.pod_name)
            }
            (Some(service), _) if is_named => format!("{}/{}", service.namespace, service.name),
            (_, Some(_)) if is_named && !self.names.is_empty() => self.names.join(","),
            (_, Some(IpAddr::V6(address))) if self.port.is_some() => format!("[{address}]"),
            (_, Some(address)) => address.to_string(),
            (_, None) => self.end.name(),
        };
        match self.port {
            Some(port) => format!("{name}:{port}"),
            None => name,
        }
    }

    /// The same, and of what is no pod who it is.
    fn full(&self, args: &PrintArgs) -> String {
        let is_pod = !self.end.pod_name.is_empty();
        let mut name = match self.address {
            Some(address) if args.numeric || !args.ip_translation || !is_pod => address.to_string(),
            _ => self.end.name(),
        };
        if !is_pod && self.address.is_some() {
            let _ = write!(name, " ({})", self.end.name());
        }
        if let Some(port) = self.port {
            let _ = write!(name, ":{port}");
        }
        format!("{name} (ID:{})", self.end.identity)
    }

    /// Its identity as Hubble prints it.
    fn identity(&self) -> String {
        let reserved = self
            .end
            .labels
            .iter()
            .find_map(|label| label.strip_prefix("reserved:"));
        match reserved {
            Some(name) if self.end.identity < 256 => format!("({name})"),
            _ => format!("(ID:{})", self.end.identity),
        }
    }
}

fn ends(seen: &SeenFlow) -> [End<'_>; 2] {
    let flow = &seen.flow;
    let addresses = flow.ip.as_ref();
    let is_icmp = flow
        .protocol
        .as_ref()
        .is_some_and(|name| name.starts_with("ICMP"));
    [
        End {
            end: &flow.source,
            address: addresses.map(|ip| ip.source),
            port: flow.source_port,
            service: seen.source_service.as_ref(),
            names: &seen.source_names,
        },
        End {
            end: &flow.destination,
            address: addresses.map(|ip| ip.destination),
            port: flow
                .destination_port
                .filter(|_| !is_icmp && flow.source_port.is_some()),
            service: seen.destination_service.as_ref(),
            names: &seen.destination_names,
        },
    ]
}

fn stamp(seen: &SeenFlow, args: &PrintArgs) -> String {
    let time = args.time_format.text(seen.flow.time);
    if args.print_node_name {
        format!("{time} [{}]", seen.node_name)
    } else {
        time
    }
}

/// Our line: who, what verdict, why, and the number.
pub fn text(seen: &SeenFlow, args: &PrintArgs) -> String {
    let flow = &seen.flow;
    let [source, destination] = ends(seen);
    let mut protocol = flow.protocol.clone().unwrap_or_else(|| "-".into());
    if protocol.starts_with("ICMP") {
        let _ = write!(
            protocol,
            " type {}",
            flow.destination_port.unwrap_or_default()
        );
    }
    // What was read from a file has Hubble's reason alone, and no number.
    let drop = flow.drop_reason.as_ref().or(seen.drop_reason_desc.as_ref());
    let drop = drop.map(|key| format!(" [{key}]")).unwrap_or_default();
    let name = match seen.number {
        0 => seen.uuid.clone(),
        number => format!("#{number}"),
    };
    let ending = match (&seen.ending, &seen.totals) {
        (Some(ending), Some(totals)) => format!(
            "{ending}: {}/{} packets, {}/{} bytes sent/received",
            totals.packets[0], totals.packets[1], totals.bytes[0], totals.bytes[1]
        ),
        _ => flow.reason.clone(),
    };
    format!(
        "{}: {} -> {} {protocol} {}{drop} ({ending})  {name}",
        stamp(seen, args),
        source.full(args),
        destination.full(args),
        flow.verdict
    )
}

/// Hubble's line, and the word of it that is the verdict.
pub fn compact(seen: &SeenFlow, args: &PrintArgs) -> (String, String) {
    let [source, destination] = ends(seen);
    let (arrow, source, destination) = match seen.is_reply {
        None => ("<>", source, destination),
        Some(false) => ("->", source, destination),
        Some(true) => ("<-", destination, source),
    };
    let verdict = verdict(seen);
    let line = format!(
        "{}: {} {} {arrow} {} {} {} {verdict} {}({})",
        stamp(seen, args),
        source.text(args),
        source.identity(),
        destination.text(args),
        destination.identity(),
        seen.event,
        by(seen, args),
        summary(seen)
    );
    (line, verdict)
}

/// Hubble's block: a line for each field.
pub fn dict(seen: &SeenFlow, args: &PrintArgs) -> String {
    let mut out = String::new();
    let row = row(seen, args);
    if args.print_node_name {
        let _ = writeln!(out, "{:>11}: {}", "NODE", seen.node_name);
    }
    for (title, value) in TITLES.iter().zip(&row) {
        let _ = writeln!(out, "{title:>11}: {value}");
    }
    out
}

/// Hubble's row.
pub fn row(seen: &SeenFlow, args: &PrintArgs) -> [String; 6] {
    let [source, destination] = ends(seen);
    let mut verdict = verdict(seen);
    let by = by(seen, args);
    if !by.is_empty() {
        verdict = format!("{verdict} {}", by.trim_end());
    }
    [
        args.time_format.text(seen.flow.time),
        source.text(args),
        destination.text(args),
        seen.event.clone(),
        verdict,
        summary(seen),
    ]
}

/// Rows in columns that fit.
pub fn table(rows: &[[String; 6]]) -> String {
    let mut widths = TITLES.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let mut line = |cells: [&str; 6]| {
        let padded = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let text = padded.collect::<Vec<_>>().join("   ");
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(TITLES);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
    out
}

/// What the packet was.
pub fn summary(seen: &SeenFlow) -> String {
    let flow = &seen.flow;
    match flow.protocol.as_deref() {
        Some("TCP") if !seen.tcp_flags.is_empty() => {
            format!("TCP Flags: {}", seen.tcp_flags.join(", "))
        }
        Some(icmp) if icmp.starts_with("ICMP") => {
            format!("{icmp} type {}", flow.destination_port.unwrap_or_default())
        }
        Some(other) => other.to_owned(),
        None => "-".to_owned(),
    }
}

fn verdict(seen: &SeenFlow) -> String {
    let is_policy = seen.event.starts_with("policy-verdict");
    match (seen.flow.verdict.as_str(), is_policy) {
        ("AUDIT", true) => "AUDITED".into(),
        ("DROPPED", true) => "DENIED".into(),
        ("FORWARDED", true) => "ALLOWED".into(),
        (verdict, _) => verdict.to_owned(),
    }
}

/// `BY name (kind), name (kind) `, where it is asked for and known.
fn by(seen: &SeenFlow, args: &PrintArgs) -> String {
    if !args.print_policy_names {
        return String::new();
    }
    let flow = &seen.flow;
    let denied = [&flow.egress_denied_by, &flow.ingress_denied_by];
    let allowed = [&flow.egress_allowed_by, &flow.ingress_allowed_by];
    let deciding = if flow.verdict == "FORWARDED" {
        allowed
    } else {
        denied
    };
    let name = |policy: &FlowPolicy| format!("{} ({})", policy.name, policy.kind);
    let names: Vec<_> = deciding.into_iter().flatten().map(name).collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("BY {} ", names.join(", "))
    }
}
