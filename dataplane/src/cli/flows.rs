//! `portcullis flows`.

use super::{Output, pod_name, print_lines, print_text, whole};
use crate::ipc::{self, Answer, Request, SOCKET_PATH};
use crate::listing::{FLOW_STATES, Joined, ListFilter, LiveFlow, flows_table};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use std::cmp::Reverse;
use std::path::PathBuf;

/// Flows, and translations of each way, that are held to be joined and sorted; more is told.
const HELD_MAX: usize = 200_000;

/// Protocols that filters take.
pub(super) const PROTOCOLS: [&str; 6] = ["tcp", "udp", "sctp", "icmp", "icmpv4", "icmpv6"];

/// Arguments of `flows`.
#[derive(Debug, Args)]
pub struct FlowsArgs {
    /// Only flows from or to this pod: `namespace/name`, `namespace/` or `name`.
    #[arg(long, value_name = "POD", value_parser = pod_name)]
    pub pod: Vec<String>,
    /// Only flows from or to pods of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Vec<String>,
    /// Only this protocol.
    #[arg(long, value_name = "PROTOCOL", ignore_case = true, value_parser = PossibleValuesParser::new(PROTOCOLS))]
    pub protocol: Vec<String>,
    /// Only this port, at either end; that of a service or an egress address, too.
    #[arg(long, value_name = "PORT")]
    pub port: Vec<u16>,
    /// Only this state.
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(FLOW_STATES))]
    pub state: Vec<String>,
    /// Only flows through a service or under another address.
    #[arg(long)]
    pub translated: bool,
    /// The largest first; of `idle` the smallest.
    #[arg(long, value_enum, default_value_t)]
    pub sort: Sort,
    /// How many lines at most, after sorting.
    #[arg(long, visible_alias = "last", value_name = "N")]
    pub limit: Option<usize>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Unix socket of the daemon.
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub socket: PathBuf,
}

/// What flows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Sort {
    /// Since when it exists: the oldest first.
    Age,
    /// Bytes both ways.
    Bytes,
    /// Packets both ways.
    Packets,
    /// Since its last packet: the busiest first.
    #[default]
    Idle,
}

/// Shows the flows that are open now.
pub fn flows(args: &FlowsArgs) -> Result<(), String> {
    let request = Request::Flows(ListFilter {
        pods: args.pod.clone(),
        namespaces: args.namespace.clone(),
        protocols: args.protocol.clone(),
    });
    let mut joined = Joined::with_room(HELD_MAX);
    let mut missing = Vec::new();
    for answer in ipc::ask(&args.socket, &request)? {
        match answer? {
            Answer::Entry(entry) => joined.add_entry(*entry),
            Answer::Session(session) => joined.add_session(*session),
            Answer::Missing(why) => missing.push(why),
            Answer::Error(fault) => return Err(fault),
            _ => {}
        }
    }
    if joined.left_out > 0 {
        missing.push(format!(
            "{} entries beyond the first {HELD_MAX} are missing here: narrow it by --pod, \
             --namespace or --protocol",
            joined.left_out
        ));
    }
    let mut flows = joined.flows();
    flows.retain(|flow| is_wanted(flow, args));
    sort(&mut flows, args.sort);
    flows.truncate(args.limit.unwrap_or(usize::MAX));
    match args.output {
        Output::Json => print_lines(&flows)?,
        Output::Text if flows.is_empty() => {
            print_text("no flows: nothing matches, or is open now\n")?
        }
        Output::Text => print_text(&flows_table(&flows))?,
    }
    whole(&missing)
}

fn is_wanted(flow: &LiveFlow, args: &FlowsArgs) -> bool {
    (args.state.is_empty() || args.state.contains(&flow.state))
        && (args.port.is_empty() || args.port.iter().any(|port| flow.has_port(*port)))
        && (!args.translated || !flow.translations.is_empty())
}

fn sort(flows: &mut [LiveFlow], by: Sort) {
    flows.sort_by_key(|flow| {
        let first = match by {
            Sort::Age => Reverse(flow.age_ms),
            Sort::Bytes => Reverse(flow.total().bytes),
            Sort::Packets => Reverse(flow.total().packets),
            Sort::Idle => Reverse(u64::MAX - flow.idle_ms),
        };
        // Else the order would differ from call to call.
        (
            first,
            flow.ip.source,
            flow.source_port,
            flow.destination_port,
        )
    });
}
