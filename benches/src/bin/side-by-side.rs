//! Portcullis and the kernel, side by side between the same kind of pods, in turns, in one run.

use clap::{Parser, ValueEnum};
use portcullis_benches::growth::Effort;
use portcullis_benches::machine::take_precedence;
use portcullis_benches::measure::Measure;
use portcullis_benches::path::Path;
use portcullis_benches::run::{Plan, run};
use portcullis_benches::{markdown, report};
use std::env;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Names the daemon's binary, here and in the tests.
const BINARY_VARIABLE: &str = "PORTCULLIS_BIN";

/// Measures two pods that are connected by the kernel, by its filters, by tc-BPF, by a bare AF_XDP
/// forwarder, and by Portcullis, in turns, as root. Everything happens in network namespaces of its
/// own. Ends with status 1 when a checksum was wrong or a datagram got lost without a counted reason;
/// no figure makes it fail. PORTCULLIS_BIN names the daemon; unless it is set, it is the one beside
/// this program.
#[derive(Debug, Parser)]
#[command(name = "side-by-side")]
struct Arguments {
    /// Under two minutes: 3 rounds of shorter measurements, no node with 250 pods
    #[arg(long)]
    quick: bool,
    /// Turns that each path has; fewer are done when time is over [default: 5, with --quick 3]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: Option<u8>,
    /// Paths to measure, by their keys; all of them unless given
    #[arg(long, value_delimiter = ',', value_parser = parse_path)]
    paths: Vec<Path>,
    /// What to measure on them, by the keys of the JSON; everything unless given
    #[arg(long, value_delimiter = ',', value_parser = parse_measure)]
    measures: Vec<Measure>,
    /// Leaves out how the engine's cost grows
    #[arg(long)]
    no_growth: bool,
    /// Tables for people (Markdown), or one JSON object
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Also writes the JSON object into this file
    #[arg(long, overrides_with = "save")]
    save: Option<PathBuf>,
    /// How the daemon and the bare forwarder attach their kernel program
    #[arg(long, value_enum, default_value_t = XdpMode::Generic)]
    xdp_mode: XdpMode,
    /// Workers of the daemon: the first on the servers' core, a second on the clients'
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=2))]
    workers: u16,
    /// Only a node with 250 pods: at rest, and as all of them talk
    #[arg(long)]
    many_pods: bool,
}

fn parse_path(key: &str) -> Result<Path, String> {
    let found = Path::ALL.into_iter().find(|path| path.key() == key);
    found.ok_or_else(|| {
        let keys = Path::ALL.map(Path::key).join(", ");
        format!("expected one of {keys}")
    })
}

fn parse_measure(key: &str) -> Result<Measure, String> {
    let found = Measure::ALL
        .into_iter()
        .find(|measure| measure.key() == key);
    found.ok_or_else(|| {
        let keys = Measure::ALL.map(Measure::key).join(", ");
        format!("expected one of {keys}")
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum XdpMode {
    Generic,
    Native,
}

impl Arguments {
    fn plan(&self) -> Plan {
        let (rounds, span, rounds_end) = if self.quick {
            (3, Duration::from_millis(150), Duration::from_secs(75))
        } else {
            (5, Duration::from_millis(400), Duration::from_secs(600))
        };
        Plan {
            rounds: if self.many_pods {
                0
            } else {
                self.rounds.map_or(rounds, usize::from)
            },
            span,
            idle: Duration::from_secs(if self.quick { 2 } else { 10 }),
            // A run of chosen paths is about these.
            has_many_pods: self.many_pods || (!self.quick && self.paths.is_empty()),
            rounds_end,
            xdp_mode: match self.xdp_mode {
                XdpMode::Generic => "generic".into(),
                XdpMode::Native => "native".into(),
            },
            workers: self.workers,
            paths: if self.many_pods {
                Vec::new()
            } else if self.paths.is_empty() {
                Path::ALL.to_vec()
            } else {
                self.paths.clone()
            },
            measures: if self.measures.is_empty() {
                Measure::ALL.to_vec()
            } else {
                self.measures.clone()
            },
            growth: match (self.no_growth || self.many_pods, self.quick) {
                (true, _) => None,
                (false, true) => Some(Effort::Quick),
                (false, false) => Some(Effort::Full),
            },
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if env::var_os(BINARY_VARIABLE).is_none() {
        let error = run_with_neighbour();
        eprintln!("side-by-side: {BINARY_VARIABLE} is not set, and {error}");
        return ExitCode::from(2);
    }
    let Some(findings) = run(arguments.plan(), take_precedence()) else {
        eprintln!("side-by-side: making network namespaces needs root");
        return ExitCode::from(2);
    };
    let json = report::json(&findings);
    if let Some(file) = &arguments.save
        && let Err(error) = fs::write(file, format!("{json:#}\n"))
    {
        eprintln!("side-by-side: {}: {error}", file.display());
        return ExitCode::from(2);
    }
    match arguments.output {
        Output::Text => print!("{}", markdown::text(&json)),
        Output::Json => println!("{json:#}"),
    }
    if findings.faults().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Starts this program again, with the daemon that lies beside it. Comes back only with an error.
fn run_with_neighbour() -> io::Error {
    let found = env::current_exe().and_then(|program| {
        let daemon = program.with_file_name("portcullis");
        let is_there = daemon.try_exists()?;
        is_there
            .then_some((program, daemon.clone()))
            .ok_or_else(|| {
                let place = daemon.display();
                io::Error::other(format!(
                    "there is no {place}: cargo build --release -p portcullis"
                ))
            })
    });
    match found {
        Ok((program, daemon)) => Command::new(program)
            .args(env::args_os().skip(1))
            .env(BINARY_VARIABLE, daemon)
            .exec(),
        Err(error) => error,
    }
}
