//! Portcullis and the kernel, side by side between the same kind of pods, in turns, in one run.

use clap::{Parser, ValueEnum};
use portcullis_benches::machine::take_precedence;
use portcullis_benches::run::{Plan, run};
use portcullis_benches::{report, table};
use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Names the daemon's binary, here and in the tests.
const BINARY_VARIABLE: &str = "PORTCULLIS_BIN";

/// Measures two policed pods through one Portcullis worker, and two pods between which the kernel
/// forwards, in turns, as root. Everything happens in network namespaces of its own. Ends with
/// status 1 when a checksum was wrong or a datagram got lost without a counted reason; no figure
/// makes it fail. PORTCULLIS_BIN names the daemon; unless it is set, it is the one beside this
/// program.
#[derive(Debug, Parser)]
#[command(name = "side-by-side")]
struct Arguments {
    /// Under 90 s: shorter measurements, no node with 250 pods
    #[arg(long)]
    quick: bool,
    /// Turns that each path has; fewer are done when time is over
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// A table for people, or one JSON object
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// How the daemon attaches its kernel program
    #[arg(long, value_enum, default_value_t = XdpMode::Generic)]
    xdp_mode: XdpMode,
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
        let seconds = Duration::from_secs;
        let (span, idle, rounds_end) = if self.quick {
            (seconds(1), seconds(3), seconds(50))
        } else {
            (seconds(2), seconds(10), seconds(190))
        };
        Plan {
            rounds: usize::from(self.rounds),
            span,
            span_short: Duration::from_millis(if self.quick { 500 } else { 1000 }),
            idle,
            has_many_pods: !self.quick,
            rounds_end,
            xdp_mode: match self.xdp_mode {
                XdpMode::Generic => "generic".into(),
                XdpMode::Native => "native".into(),
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
    match arguments.output {
        Output::Text => print!("{}", table::text(&findings)),
        Output::Json => println!("{:#}", report::json(&findings)),
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
