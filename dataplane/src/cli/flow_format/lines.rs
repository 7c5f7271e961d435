//! Flows as lines, blocks and rows of text.

use super::PrintArgs;
use crate::cli::filter_fields::RESERVED;
use crate::observe::{FlowEnd, FlowPolicy};
use crate::recall::{SeenFlow, SeenService};
use std::fmt::Write;
use std::net::IpAddr;

/// Titles of Hubble's fields.
const TITLES: [&str; 7] = [
    "TIMESTAMP",
    "NODE",
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
    mac: Option<&'a str>,
}

impl End<'_> {
    /// Name or address with the port, as Hubble prints it.
    fn text(&self, args: &PrintArgs) -> String {
        let is_named = args.ip_translation && !args.numeric;
        let Some(address) = self.address else {
            return self.mac.unwrap_or_default().to_owned();
        };
        let in_namespace = |namespace: &str, name: &str| match namespace {
            "" => name.to_owned(),
            _ => format!("{namespace}/{name}"),
        };
        let name = match self.service {
            _ if is_named && !self.end.pod_name.is_empty() => {
                in_namespace(&self.end.namespace, &self.end.pod_name)
            }
            Some(service) if is_named => in_namespace(&service.namespace, &service.name),
            _ if is_named && !self.names.is_empty() => self.names.join(","),
            _ => address.to_string(),
        };
        match self.port.filter(|port| *port != 0) {
            Some(port) if name.contains(':') => format!("[{name}]:{port}"),
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
        if let Some(port) = self.port.filter(|port| *port != 0) {
            let _ = write!(name, ":{port}");
        }
        format!("{name} (ID:{})", self.end.identity)
    }

    /// Its identity as Hubble prints it.
    fn identity(&self) -> String {
        let number = usize::try_from(self.end.identity).unwrap_or(usize::MAX);
        match RESERVED.get(number) {
            Some(name) => format!("({name})"),
            None => format!("(ID:{number})"),
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
            mac: seen.ethernet.as_ref().map(|of| of.source.as_str()),
        },
        End {
            end: &flow.destination,
            address: addresses.map(|ip| ip.destination),
            port: flow
                .destination_port
                .filter(|_| !is_icmp && flow.source_port.is_some()),
            service: seen.destination_service.as_ref(),
            names: &seen.destination_names,
            mac: seen.ethernet.as_ref().map(|of| of.destination.as_str()),
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
    plain(&format!(
        "{}: {} -> {} {protocol} {}{drop} ({ending})  {name}",
        stamp(seen, args),
        source.full(args),
        destination.full(args),
        flow.verdict
    ))
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
    (plain(&line), verdict)
}

/// Hubble's block: a line for each field.
pub fn dict(seen: &SeenFlow, args: &PrintArgs) -> String {
    let mut out = String::new();
    for (title, value) in titles(args).iter().zip(&row(seen, args)) {
        let _ = writeln!(out, "{title:>11}: {value}");
    }
    out
}

/// Hubble's row.
pub fn row(seen: &SeenFlow, args: &PrintArgs) -> Vec<String> {
    let [source, destination] = ends(seen);
    let mut verdict = verdict(seen);
    let by = by(seen, args);
    if !by.is_empty() {
        verdict = format!("{verdict} {}", by.trim_end());
    }
    let mut row = vec![
        args.time_format.text(seen.flow.time),
        source.text(args),
        destination.text(args),
        seen.event.clone(),
        verdict,
        summary(seen),
    ];
    if args.print_node_name {
        row.insert(1, seen.node_name.clone());
    }
    row.iter().map(|cell| plain(cell)).collect()
}

fn titles(args: &PrintArgs) -> Vec<&'static str> {
    let is_shown = |title: &&str| *title != "NODE" || args.print_node_name;
    TITLES.into_iter().filter(is_shown).collect()
}

/// What a file says is shown, not done: a terminal obeys control characters.
fn plain(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let shown = |letter: char| match letter.is_control() {
        true => letter.escape_default().collect::<String>(),
        false => letter.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Rows in columns that fit.
pub fn table(rows: &[Vec<String>], args: &PrintArgs) -> String {
    let titles = titles(args);
    let mut widths: Vec<usize> = titles.iter().map(|title| title.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let mut line = |cells: &[&str]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let text = padded.collect::<Vec<_>>().join("   ");
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(&titles);
    for row in rows {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        line(&cells);
    }
    out
}

/// What the packet was.
pub fn summary(seen: &SeenFlow) -> String {
    let flow = &seen.flow;
    if !seen.summary.is_empty() {
        return seen.summary.clone();
    }
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
        ("DROPPED" | "ERROR", true) => "DENIED".into(),
        ("FORWARDED" | "REDIRECTED", true) => "ALLOWED".into(),
        (verdict, _) => verdict.to_owned(),
    }
}

/// `BY name (kind), name (kind) `, where it is asked for and known.
fn by(seen: &SeenFlow, args: &PrintArgs) -> String {
    if !args.print_policy_names {
        return String::new();
    }
    let flow = &seen.flow;
    let is_allowed = ["FORWARDED", "REDIRECTED"].contains(&flow.verdict.as_str());
    let (egress, ingress) = if is_allowed {
        (&flow.egress_allowed_by, &flow.ingress_allowed_by)
    } else {
        (&flow.egress_denied_by, &flow.ingress_denied_by)
    };
    let of = |direction: &str| {
        flow.traffic_direction
            .as_ref()
            .is_none_or(|is| is == direction)
    };
    let deciding = [(egress, "egress"), (ingress, "ingress")];
    let deciding = deciding.into_iter().filter(|(_, direction)| of(direction));
    let name = |policy: &FlowPolicy| format!("{} ({})", policy.name, policy.kind);
    // Hubble, too, leaves out those that have no name or no kind.
    let is_named = |policy: &&FlowPolicy| !policy.name.is_empty() && !policy.kind.is_empty();
    let names = deciding.flat_map(|(list, _)| list).filter(is_named);
    let names: Vec<_> = names.map(name).collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("BY {} ", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::cli::flow_object::flow;
    use clap::{CommandFactory, FromArgMatches};
    use serde_json::{Value, json};

    fn args(line: &str) -> PrintArgs {
        let words = ["portcullis", "observe"]
            .into_iter()
            .chain(line.split_whitespace());
        let matches = Cli::command().get_matches_from(words);
        let (_, matches) = matches.subcommand().expect("observe");
        PrintArgs::from_arg_matches(matches).expect("what clap understood")
    }

    fn object() -> Value {
        json!({"flow": {
            "time": "2026-11-28T12:00:00.5Z", "verdict": "DROPPED", "node_name": "blue/n7",
            "ethernet": {"source": "02:00:00:00:00:01", "destination": "02:00:00:00:00:02"},
            "IP": {"source": "fd00::1", "destination": "10.0.1.10", "ipVersion": "IPv6"},
            "l4": {"TCP": {"source_port": 40000, "destination_port": 80}},
            "source": {"identity": 9}, "destination": {"identity": 301, "namespace": "shop", "pod_name": "db-0"},
            "event_type": {"type": 5}, "policy_match_type": 2, "traffic_direction": "INGRESS",
            "egress_denied_by": [{"name": "other", "kind": "CiliumNetworkPolicy"}],
            "ingress_denied_by": [{"name": "deny", "kind": "CiliumNetworkPolicy"}, {"name": "nameless kind"}],
            "Summary": "TCP Flags: SYN; IP Trace"
        }})
    }

    /// By the printer of Hubble's command line.
    #[test]
    fn lines_are_those_of_hubbles_command_line() {
        let shown = |object: &Value, line: &str| {
            compact(
                &flow(object),
                &args(&format!("--time-format RFC3339 {line}")),
            )
            .0
        };
        let time = "2026-11-28T12:00:00Z";
        let mut one = object();
        assert_eq!(
            shown(&one, "--print-policy-names --print-node-name"),
            format!(
                "{time} [blue/n7]: [fd00::1]:40000 (world-ipv4) <> shop/db-0:80 (ID:301) \
                 policy-verdict:L3-L4 INGRESS DENIED BY deny (CiliumNetworkPolicy) \
                 (TCP Flags: SYN; IP Trace)"
            )
        );
        one["flow"]["is_reply"] = json!(true);
        one["flow"]["verdict"] = json!("FORWARDED");
        one["flow"]["event_type"] = json!({"type": 4});
        one["flow"]["l4"]["TCP"]["source_port"] = json!(0);
        one["flow"]["source_names"] = json!(["a.example", "b.example"]);
        assert_eq!(
            shown(&one, ""),
            format!(
                "{time}: shop/db-0:80 (ID:301) <- a.example,b.example (world-ipv4) to-endpoint \
                 FORWARDED (TCP Flags: SYN; IP Trace)"
            )
        );
        assert!(shown(&one, "--numeric").contains(": 10.0.1.10:80 (ID:301) <- fd00::1 ("));
        one["flow"]["IP"] = Value::Null;
        one["flow"]["is_reply"] = json!(false);
        let macs = "02:00:00:00:00:01 (world-ipv4) -> 02:00:00:00:00:02 (ID:301)";
        assert!(shown(&one, "").contains(macs));
    }

    #[test]
    fn the_node_stands_behind_the_time() {
        let args = args("-o dict --print-node-name --time-format RFC3339");
        let block = dict(&flow(&object()), &args);
        let expected = "  TIMESTAMP: 2026-11-28T12:00:00Z\n       NODE: blue/n7\n     SOURCE: ";
        assert!(block.starts_with(expected), "{block}");
        let rows = table(&[row(&flow(&object()), &args)], &args);
        let titles: Vec<&str> = rows
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        assert_eq!(titles, TITLES);
    }

    #[test]
    fn a_terminal_does_not_obey_what_a_file_says() {
        let mut one = object();
        one["flow"]["Summary"] = json!("\u{1b}]0;x\u{7}\nforged line");
        let seen = flow(&one);
        let args = args("");
        for text in [
            compact(&seen, &args).0,
            text(&seen, &args),
            row(&seen, &args).concat(),
        ] {
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
}
