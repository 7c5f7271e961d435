//! How the engine's cost of a packet grows with policies, flows and pods, as JSON.

use clap::{Parser, ValueEnum};
use portcullis_benches::growth::{Effort, instructions, measure, replay};
use portcullis_benches::node::Way;
use std::process::ExitCode;

/// Measures the engine alone; needs no rights.
#[derive(Debug, Parser)]
#[command(name = "growth")]
struct Arguments {
    /// Few points
    #[arg(long)]
    quick: bool,
    /// Only counts the instructions of a packet of a known flow, by callgrind
    #[arg(long)]
    instructions: bool,
    /// Sends this many packets of known flows, and measures nothing: for callgrind
    #[arg(long, value_name = "PACKETS")]
    replay: Option<usize>,
    /// How those go
    #[arg(long, value_enum, default_value_t = Part::All, requires = "replay")]
    way: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    None,
    All,
    Walk,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(hits) = arguments.replay {
        let way = match arguments.way {
            Part::None => Way::None,
            Part::All => Way::All,
            Part::Walk => Way::Walk,
        };
        replay(hits, way);
    } else if arguments.instructions {
        let Some(count) = instructions() else {
            eprintln!("growth: valgrind is missing, or failed");
            return ExitCode::from(2);
        };
        println!("{:#}", count.json());
    } else {
        let effort = if arguments.quick {
            Effort::Quick
        } else {
            Effort::Full
        };
        println!("{:#}", measure(effort).json());
    }
    ExitCode::SUCCESS
}
