//! `portcullis top`.

use super::filters::{self, FilterArgs};
use super::moment::moment;
use super::{Output, print_text};
use crate::ipc::{self, Answer, RankedRows, RankingAsk, Request, SOCKET_PATH, SortBy};
use crate::recall::Grouping;
use clap::{ArgMatches, Args};
use jiff::Timestamp;
use std::fmt::Write;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// What it can do, by example.
pub const EXAMPLES: &str = "\
  portcullis top                                            # by source, destination and port
  portcullis top --by source,verdict --since 10m            # who is denied most
  portcullis top --by destination-namespace --sort bytes    # where bytes go
  portcullis top --by port --from-pod frontend/web --watch  # one pod, again and again

CONNECTIONS passed; DROPS are packets; PACKETS and BYTES are of connections that have told them: now
and then while they last, and at their end. Counted over what history keeps, in the daemon.";

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// What rows are made by; source,destination,port unless given.
    #[arg(long, value_enum, value_name = "FIELDS", value_delimiter = ',')]
    pub by: Vec<Grouping>,
    /// What comes first.
    #[arg(long, value_enum, default_value_t)]
    pub sort: SortBy,
    /// How many rows.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Not before: so long ago (5m, 1h30m, 3d) or a time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Only the last so many events.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
    /// Again every two seconds, until it is stopped.
    #[arg(short, long)]
    pub watch: bool,
    /// Which ones.
    #[command(flatten)]
    pub filters: FilterArgs,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Unix socket of the daemon.
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub socket: PathBuf,
}

/// Shows who talks most.
pub fn top(args: &TopArgs, matches: &ArgMatches) -> Result<(), String> {
    let started = Timestamp::now();
    let mut ask = RankingAsk {
        by: args.by.clone(),
        wanted: filters::wanted(matches)?,
        since: args.since,
        last: args.last,
        sort: args.sort,
        limit: args.limit,
    };
    loop {
        // What is asked of the last minutes stays about the last minutes.
        let now = Timestamp::now();
        ask.since = args.since.map(|since| now - started.duration_since(since));
        let rows = match ipc::ask(&args.socket, &Request::Rank(Box::new(ask.clone())))?.next() {
            Some(Ok(Answer::Ranking(rows))) => *rows,
            Some(Ok(Answer::Error(fault)) | Err(fault)) => return Err(fault),
            _ => return Err("the daemon gave no answer".into()),
        };
        let text = match args.output {
            Output::Text => text(&rows),
            Output::Json => serde_json::to_string(&rows).map_err(|e| e.to_string())? + "\n",
        };
        if !args.watch {
            return print_text(&text);
        }
        let clear = if args.output == Output::Text {
            "\x1b[H\x1b[2J"
        } else {
            ""
        };
        print_text(&format!("{clear}{text}"))?;
        thread::sleep(Duration::from_secs(2));
    }
}

fn text(rows: &RankedRows) -> String {
    let mut cells: Vec<Vec<String>> = Vec::new();
    let titles = rows.by.iter().map(|by| by.title().to_owned());
    let counts = ["CONNECTIONS", "DROPS", "PACKETS", "BYTES"].map(str::to_owned);
    cells.push(titles.chain(counts).collect());
    for row in &rows.rows {
        let mut names = row.by.clone();
        if names.is_empty() {
            names = vec!["(others)".into()];
        }
        names.resize(rows.by.len(), String::new());
        let counts = [row.connections, row.drops, row.packets, row.bytes];
        names.extend(counts.map(|count| count.to_string()));
        cells.push(names);
    }
    let columns = cells[0].len();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            cells
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in &cells {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            // Numbers stand at the right.
            if column < rows.by.len() {
                let _ = write!(out, "{gap}{cell:<width$}");
            } else {
                let _ = write!(out, "{gap}{cell:>width$}");
            }
        }
        out.push('\n');
    }
    if rows.rows_all > rows.rows.len() {
        let _ = writeln!(
            out,
            "{} of {} rows; --limit shows more",
            rows.rows.len(),
            rows.rows_all
        );
    }
    let since = rows
        .oldest
        .map_or_else(|| "-".into(), |time| time.strftime("%FT%TZ").to_string());
    let _ = writeln!(
        out,
        "{} events counted; history reaches back to {since}",
        rows.events
    );
    if rows.lost > 0 {
        let _ = writeln!(out, "{} events went by uncounted", rows.lost);
    }
    out
}
