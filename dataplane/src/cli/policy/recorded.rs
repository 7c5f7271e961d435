//! `portcullis policy suggest` and `portcullis policy replay`.

use super::{ask, print, show};
use crate::cli::moment::moment;
use crate::cli::{Output, paint};
use crate::control::directory::read_state;
use crate::ipc::{Answer, Request, SOCKET_PATH};
use crate::review::{Candidate, PolicyKind, Replay, Wish};
use anstyle::AnsiColor;
use clap::Args;
use jiff::Timestamp;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The exit code of `replay` when something would newly be denied.
const NEWLY_DENIED: u8 = 1;

/// Arguments of `policy suggest`.
#[derive(Debug, Args)]
pub struct SuggestArgs {
    /// Only policies of this namespace.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Vec<String>,
    /// Only the policy that selects this pod.
    #[arg(long, value_name = "POD", value_parser = crate::cli::pod_name)]
    pub pod: Vec<String>,
    /// From what was recorded since: so long ago (5m, 1h30m, 3d) or a time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// The kind of the policies.
    #[arg(long, value_enum, default_value_t)]
    pub kind: PolicyKind,
    /// Unix socket of the daemon.
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub socket: PathBuf,
}

/// Arguments of `policy replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// File or directory of documents; `-` is standard input. What is in force stays, except for
    /// documents of the same kind, namespace and name.
    #[arg(value_name = "FILE")]
    pub candidate: PathBuf,
    /// Takes all policies that are in force away.
    #[arg(long)]
    pub replace: bool,
    /// Judges under this enforcement mode instead of the one in force.
    #[arg(long, value_name = "MODE", value_parser = ["default", "always", "never"])]
    pub enforcement_mode: Option<String>,
    /// Only what was recorded since: so long ago (5m, 1h30m, 3d) or a time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Unix socket of the daemon.
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub socket: PathBuf,
}

/// Prints policies that allow what was recorded.
pub fn suggest(args: &SuggestArgs) -> Result<ExitCode, String> {
    let request = Request::Suggest {
        wish: Wish {
            namespaces: args.namespace.clone(),
            pods: args.pod.clone(),
            kind: args.kind,
        },
        since: args.since,
    };
    let suggestion = match ask::one(&args.socket, &request)? {
        Answer::Suggestion(suggestion) => *suggestion,
        _ => return Err(ask::UNEXPECTED.into()),
    };
    for left_out in &suggestion.left_out {
        anstream::eprintln!("{}: {left_out}", paint("left out", AnsiColor::Yellow));
    }
    if suggestion.policies.is_empty() {
        return Err(
            "no connection of these pods that passed is recorded: nothing to suggest".into(),
        );
    }
    print(&suggestion.text())?;
    Ok(ExitCode::SUCCESS)
}

/// Tells which recorded connections other documents would judge otherwise.
pub fn replay(args: &ReplayArgs) -> Result<ExitCode, String> {
    let mut candidate = read(&args.candidate)?;
    candidate.replaces = args.replace;
    candidate
        .enforcement_mode
        .clone_from(&args.enforcement_mode);
    let request = Request::Replay {
        candidate,
        since: args.since,
    };
    let replay = match ask::one(&args.socket, &request)? {
        Answer::Replay(replay) => *replay,
        _ => return Err(ask::UNEXPECTED.into()),
    };
    show(&replay, args.output, Replay::text)?;
    Ok(match replay.newly_denied {
        0 => ExitCode::SUCCESS,
        _ => NEWLY_DENIED.into(),
    })
}

fn read(path: &Path) -> Result<Candidate, String> {
    let name = path.display().to_string();
    if path.is_dir() {
        let state = read_state(path).map_err(|e| e.to_string())?;
        let files = state.files.into_iter().map(|file| (file.name, file.text));
        return Ok(Candidate {
            files: files.collect(),
            config: state.config.map(|file| (file.name, file.text)),
            ..Candidate::default()
        });
    }
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        fs::read_to_string(path)
    };
    let text = text.map_err(|e| format!("{name}: {e}"))?;
    Ok(Candidate {
        files: vec![(name, text)],
        ..Candidate::default()
    })
}
