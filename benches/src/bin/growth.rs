//! How the engine's cost of a packet grows with policies, flows and pods, as JSON.

use clap::Parser;
use portcullis_benches::growth::{Effort, measure, replay};

/// Measures the engine alone; needs no rights.
#[derive(Debug, Parser)]
#[command(name = "growth")]
struct Arguments {
    /// Few points
    #[arg(long)]
    quick: bool,
    /// Sends this many packets of known flows, and measures nothing: for callgrind
    #[arg(long, value_name = "PACKETS")]
    replay: Option<usize>,
}

fn main() {
    let arguments = Arguments::parse();
    match arguments.replay {
        Some(hits) => replay(hits),
        None => {
            let effort = if arguments.quick {
                Effort::Quick
            } else {
                Effort::Full
            };
            println!("{:#}", measure(effort).json());
        }
    }
}
