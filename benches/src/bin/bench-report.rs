//! What a run of side-by-side says: for docs/, or against the budgets.

use clap::{Parser, Subcommand};
use portcullis_benches::{budgets, markdown};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Reads the JSON of a run of side-by-side.
#[derive(Debug, Parser)]
#[command(name = "bench-report")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes performance.md, performance.json and the plots
    Report {
        /// The run
        run: PathBuf,
        /// Where to
        #[arg(long, default_value = "docs")]
        to: PathBuf,
    },
    /// Says which budgets are kept; ends with status 1 when one is not
    Budgets {
        /// The run
        run: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Report { run, to } => read(&run).and_then(|run| report(&run, &to)),
        Command::Budgets { run } => read(&run).map(|run| check(&run)),
    };
    done.unwrap_or_else(|why| {
        eprintln!("bench-report: {why}");
        ExitCode::from(2)
    })
}

fn read(file: &Path) -> Result<Value, String> {
    let place = file.display();
    let text = fs::read_to_string(file)
        .map_err(|error| format!("{place}: {error}; ./x bench side-by-side makes it"))?;
    serde_json::from_str(&text).map_err(|error| format!("{place}: {error}"))
}

fn report(run: &Value, to: &Path) -> Result<ExitCode, String> {
    let write = |name: &str, text: String| {
        let file = to.join(name);
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
    };
    fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    write("performance.md", markdown::document(run))?;
    write("performance.json", format!("{run:#}\n"))?;
    for (name, svg) in markdown::plots(run) {
        write(name, svg)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(run: &Value) -> ExitCode {
    let (lines, is_kept) = budgets::check(run);
    println!("{}", lines.join("\n"));
    if is_kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
