//! `portcullis why`.

use super::{Output, print_text};
use crate::ipc::{self, Answer, Request, SOCKET_PATH};
use crate::observe::{FlowEnd, FlowPolicy};
use crate::recall::{Explained, Which};
use clap::Args;
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// Number of the flow, its uuid, or the first digits of that.
    #[arg(value_name = "FLOW", required_unless_present = "last_denied")]
    pub flow: Option<String>,
    /// The last one that policy denied.
    #[arg(long, conflicts_with = "flow")]
    pub last_denied: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Unix socket of the daemon.
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub socket: PathBuf,
}

/// Explains one flow.
pub fn why(args: &WhyArgs) -> Result<(), String> {
    let which = match &args.flow {
        Some(flow) => Which::Named(flow.clone()),
        None => Which::LastDenied,
    };
    let explained = match ipc::ask(&args.socket, &Request::Why(which))?.next() {
        Some(Ok(Answer::Why(explained))) => *explained,
        Some(Ok(Answer::Error(fault)) | Err(fault)) => return Err(fault),
        _ => return Err("the daemon gave no answer".into()),
    };
    match args.output {
        Output::Text => print_text(&text(&explained)),
        Output::Json => {
            let text = serde_json::to_string_pretty(&explained).map_err(|e| e.to_string())?;
            print_text(&(text + "\n"))
        }
    }
}

/// For people.
fn text(explained: &Explained) -> String {
    let (seen, flow) = (&explained.flow, &explained.flow.flow);
    let mut out = format!("{}\n", flow.line());
    let _ = writeln!(
        out,
        "  flow {}, {}, generation {} of policy, node {}",
        seen.number, seen.uuid, flow.generation, seen.node_name
    );
    end(
        &mut out,
        "from",
        &flow.source,
        &explained.source_selected_by,
    );
    let selected = &explained.destination_selected_by;
    end(&mut out, "to", &flow.destination, selected);
    out.push_str(&explained.why.lines());
    out
}

fn end(out: &mut String, word: &str, end: &FlowEnd, selected: &[FlowPolicy]) {
    let labels = if end.labels.is_empty() {
        "no labels".to_owned()
    } else {
        end.labels.join(" ")
    };
    let _ = writeln!(
        out,
        "  {word} {}: identity {}, {labels}",
        end.name(),
        end.identity
    );
    for policy in selected {
        let _ = writeln!(out, "    selected by {} in {}", policy.text(), policy.file);
    }
    if selected.is_empty() && !end.pod_name.is_empty() {
        let _ = writeln!(out, "    no policy of this direction selects it");
    }
}
