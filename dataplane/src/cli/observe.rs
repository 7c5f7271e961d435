//! `portcullis observe`.

use super::filters::{self, FilterArgs};
use super::flow_file;
use super::flow_format::{FlowOutput, PrintArgs, Printer, no_pipe};
use super::moment::moment;
use crate::ipc::{self, Answer, Request, SOCKET_PATH};
use crate::recall::{Ask, Form};
use clap::{ArgMatches, Args};
use jiff::Timestamp;
use std::path::PathBuf;

/// What it can do, by example.
pub const EXAMPLES: &str = "\
What has happened:
  portcullis observe --last 20                              # the last 20
  portcullis observe --since 5m --verdict DROPPED           # what was dropped in five minutes
  portcullis observe --pod frontend/web --to-port 443       # of one pod, to one port
  portcullis observe -n shop --not --protocol udp           # a namespace, without UDP
  portcullis observe -l 'app in (web,api)' --not --fqdn '*.cluster.local'
What happens now:
  portcullis observe -f --from-pod frontend/ --to-pod backend/
  portcullis observe -f --last 10 -o compact --print-policy-names
For machines:
  portcullis observe -o json | jq 'select(.verdict == \"DROPPED\") | .reason'
  portcullis observe -o json --field-mask time,source.pod_name,destination_port
  portcullis observe -o jsonpb --all > flows.json           # Hubble reads it: --input-file
  portcullis observe -n shop --not --port 53 --print-raw-filters   # what --allowlist takes
  portcullis observe --input-file flows.json --verdict DROPPED   # and so do we, exports too
  zstdcat flows.log.1.zst | portcullis observe --input-file - --last 20
Why one of them passed or not, by the number or uuid that is printed:
  portcullis why 4711
  portcullis why --last-denied

A filter that is given twice means one or the other; different filters must all hold, and those about
either end (--pod, --label, --port and so on) of the same end. Each --not negates the filter after it,
on its own: --not --port 53 --not --protocol icmp leaves out both; Hubble's own command line would
leave out only what is both at once. Events that this reader or a worker was too slow for are told on standard error:
how many, from when to when.";

/// Arguments of `observe`.
#[derive(Debug, Args)]
pub struct ObserveArgs {
    /// Stays, and shows what comes.
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the last; all that are kept in memory unless `--follow` is given, then none.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
    /// How many of the first.
    #[arg(long, value_name = "N", conflicts_with_all = ["last", "follow"])]
    pub first: Option<usize>,
    /// All that are kept, on disk too.
    #[arg(long, conflicts_with_all = ["last", "first"])]
    pub all: bool,
    /// Not before: so long ago (5m, 1h30m, 3d) or a time (2026-11-28T19:00:00Z).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Not after.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Also how connections go on and end, with their packets and bytes.
    #[arg(long)]
    pub endings: bool,
    /// Which ones.
    #[command(flatten)]
    pub filters: FilterArgs,
    /// How to print.
    #[command(flatten)]
    pub print: PrintArgs,
    /// Of this file instead of the daemon: lines that an export, `observe -o jsonpb`, `-o json` or
    /// Hubble has written; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["follow", "socket", "endings"])]
    pub input_file: Option<PathBuf>,
    /// Prints the filters as YAML instead, as `--allowlist` and `--denylist` take them.
    #[arg(long)]
    pub print_raw_filters: bool,
    /// Says nothing of what went by unseen or was not understood.
    #[arg(short, long)]
    pub silent_errors: bool,
    /// Unix socket of the daemon.
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub socket: PathBuf,
}

/// Shows flows and drops until there are no more, or for ever with `--follow`.
pub fn observe(args: &ObserveArgs, matches: &ArgMatches) -> Result<(), String> {
    let is_json = matches!(args.print.output, FlowOutput::Json | FlowOutput::Jsonpb);
    if !args.print.field_mask.is_empty() && !is_json {
        return Err("--field-mask: expected -o json or jsonpb with it".into());
    }
    if args.print.output == FlowOutput::Jsonpb {
        let fault = |fault: String| format!("--{}", fault.replacen("field_mask", "field-mask", 1));
        portcullis_hubble::check_field_mask(&args.print.field_mask).map_err(fault)?;
    }
    if args.print.output == FlowOutput::Table && args.follow {
        return Err("-o table: expected no --follow: columns fit once all rows are known".into());
    }
    let mut wanted = filters::wanted(matches)?;
    wanted.has_endings = args.endings;
    if args.print_raw_filters {
        return super::print_text(&filters::raw_text(&wanted)?);
    }
    args.print.color.choose();
    let is_past_wanted = args.all || args.since.is_some() || !args.follow;
    let ask = Ask {
        wanted,
        since: args.since,
        until: args.until,
        all: args.all,
        first: args.first,
        last: args.last.or((!is_past_wanted).then_some(0)),
        follow: args.follow,
        form: if matches!(args.print.output, FlowOutput::Text | FlowOutput::Json) {
            Form::Event
        } else {
            Form::Hubble
        },
    };
    let mut printer = Printer::new(&args.print, args.silent_errors);
    if let Some(file) = &args.input_file {
        return flow_file::print(file, &ask, &mut printer);
    }
    for answer in ipc::ask(&args.socket, &Request::Observe(Box::new(ask)))? {
        let shown = match answer? {
            Answer::Flow(flow) => printer.print(&flow),
            Answer::Line(line) => printer.print_line(&line),
            Answer::Lost(lost) => printer.print_lost(&lost),
            Answer::Error(fault) => return Err(fault),
            _ => Ok(()),
        };
        if no_pipe(shown)?.is_none() {
            return Ok(());
        }
    }
    super::no_fault(printer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory, FromArgMatches};

    #[test]
    fn what_cannot_be_printed_is_refused_before_anybody_is_asked() {
        for (line, expected) in [
            (
                "-o jsonpb --field-mask time,source.pod",
                "--field-mask: a flow has no field \"source.pod\"",
            ),
            (
                "-o dict --field-mask time",
                "--field-mask: expected -o json or jsonpb with it",
            ),
            (
                "-o tab -f",
                "-o table: expected no --follow: columns fit once all rows are known",
            ),
        ] {
            let words = ["portcullis", "observe", "--socket", "/nowhere"].into_iter();
            let matches = Cli::command().get_matches_from(words.chain(line.split_whitespace()));
            let (_, matches) = matches.subcommand().expect("observe");
            let args = ObserveArgs::from_arg_matches(matches).expect("what clap understood");
            assert_eq!(observe(&args, matches), Err(expected.to_owned()), "{line}");
        }
    }
}
