//! `portcullis nat`.

use super::flows::PROTOCOLS;
use super::{Output, pod_name, print_lines, print_text, whole};
use crate::ipc::{self, Answer, Request, SOCKET_PATH};
use crate::listing::{ListFilter, NatSession, PortUse, sessions_table, usage_table};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Translations or destinations that are held to be sorted.
const HELD_MAX: usize = 200_000;

/// Arguments of `nat`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NatArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<NatCommand>,
    /// Which to list.
    #[command(flatten)]
    pub list: NatListArgs,
}

/// What to do with translations.
#[derive(Debug, Subcommand)]
pub enum NatCommand {
    /// Lists them, as `portcullis nat` does.
    List(NatListArgs),
}

/// Arguments of `nat list`.
#[derive(Debug, Args)]
pub struct NatListArgs {
    /// Shows how many ports of an egress address each destination takes instead: the fullest first,
    /// `crowded` from 75 % on, `exhausted` at the end.
    #[arg(long)]
    pub usage: bool,
    /// Only translations of this pod, at either end: `namespace/name`, `namespace/` or `name`.
    #[arg(long, value_name = "POD", value_parser = pod_name, conflicts_with = "usage")]
    pub pod: Vec<String>,
    /// Only what leaves under this address.
    #[arg(long, value_name = "ADDRESS")]
    pub egress: Vec<IpAddr>,
    /// Only this protocol.
    #[arg(long, value_name = "PROTOCOL", ignore_case = true, conflicts_with = "usage", value_parser = PossibleValuesParser::new(PROTOCOLS))]
    pub protocol: Vec<String>,
    /// Only this kind.
    #[arg(long, value_name = "KIND", conflicts_with = "usage", value_parser = ["masquerade", "gateway", "node_port", "service", "hairpin"])]
    pub kind: Vec<String>,
    /// How many lines at most.
    #[arg(long, visible_alias = "last", value_name = "N")]
    pub limit: Option<usize>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Unix socket of the daemon.
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub socket: PathBuf,
}

/// Shows translations, or the ports that they take.
pub fn nat(args: &NatArgs) -> Result<(), String> {
    let args = match &args.command {
        Some(NatCommand::List(list)) => list,
        None => &args.list,
    };
    if args.usage { usage(args) } else { list(args) }
}

fn list(args: &NatListArgs) -> Result<(), String> {
    let request = Request::Nat(ListFilter {
        pods: args.pod.clone(),
        protocols: args.protocol.clone(),
        ..ListFilter::default()
    });
    let is_wanted = |session: &NatSession| {
        let leaves = session.before.source != session.after.source;
        (args.kind.is_empty() || args.kind.contains(&session.kind))
            && (args.egress.is_empty() || leaves && args.egress.contains(&session.after.source))
    };
    let (mut sessions, missing) = read(&args.socket, &request, |answer| match answer {
        Answer::Session(session) => Some(*session).filter(is_wanted),
        _ => None,
    })?;
    sessions.sort_by_key(|session| (session.idle_ms, session.before.source_port));
    sessions.truncate(args.limit.unwrap_or(usize::MAX));
    match args.output {
        Output::Json => print_lines(&sessions)?,
        Output::Text if sessions.is_empty() => {
            print_text("no translations: nothing matches, or is translated now\n")?;
        }
        Output::Text => print_text(&sessions_table(&sessions))?,
    }
    whole(&missing)
}

fn usage(args: &NatListArgs) -> Result<(), String> {
    let is_wanted = |of: &PortUse| args.egress.is_empty() || args.egress.contains(&of.egress);
    let (mut uses, missing) = read(&args.socket, &Request::Ports, |answer| match answer {
        Answer::PortUse(of) => Some(*of).filter(is_wanted),
        _ => None,
    })?;
    // The fullest first: by part, without dividing.
    uses.sort_by_key(|of| {
        let part = u64::from(of.used) * 1_000_000 / u64::from(of.max.max(1));
        (std::cmp::Reverse(part), of.egress, of.destination)
    });
    uses.truncate(args.limit.unwrap_or(usize::MAX));
    match args.output {
        Output::Json => print_lines(&uses)?,
        Output::Text if uses.is_empty() => {
            print_text("no ports in use: nothing leaves under another address now\n")?;
        }
        Output::Text => print_text(&usage_table(&uses))?,
    }
    whole(&missing)
}

/// What an answer holds, so far as there is room, and what is missing.
pub(super) fn read<T>(
    socket: &Path,
    request: &Request,
    pick: impl Fn(Answer) -> Option<T>,
) -> Result<(Vec<T>, Vec<String>), String> {
    let (mut held, mut missing, mut left_out) = (Vec::new(), Vec::new(), 0_u64);
    for answer in ipc::ask(socket, request)? {
        match answer? {
            Answer::Missing(why) => missing.push(why),
            Answer::Error(fault) => return Err(fault),
            answer => match pick(answer) {
                Some(_) if held.len() == HELD_MAX => left_out += 1,
                picked => held.extend(picked),
            },
        }
    }
    if left_out > 0 {
        missing.push(format!(
            "{left_out} beyond the first {HELD_MAX} are missing here: narrow it by a filter"
        ));
    }
    Ok((held, missing))
}
