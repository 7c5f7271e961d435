//! `portcullis observe`.

use super::{ObserveArgs, Output, paint};
use crate::ipc::{self, Answer, Request};
use crate::observe::{Filter, Flow};
use anstyle::AnsiColor;
use std::io::{self, Write};

/// Shows flows and drops until there are no more, or for ever with `--follow`.
pub fn observe(args: &ObserveArgs) -> Result<(), String> {
    let request = Request::Observe {
        filter: Filter {
            verdicts: args.verdict.clone(),
            pods: args.pod.clone(),
            protocols: args.protocol.clone(),
            ports: args.port.clone(),
            reasons: args.drop_reason.clone(),
        },
        last: args.last.or(args.follow.then_some(0)),
        follow: args.follow,
    };
    for answer in ipc::ask(&args.socket, &request)? {
        let shown = match answer? {
            Answer::Flow(flow) => show(&flow, args.output),
            Answer::Lost(events) => {
                anstream::eprintln!(
                    "{}: {events} events went by unseen",
                    paint("lost", AnsiColor::Yellow)
                );
                Ok(())
            }
            Answer::Error(fault) => return Err(fault),
            _ => Ok(()),
        };
        match shown {
            // `observe | head` is no fault.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.map_err(|e| e.to_string())?,
        }
    }
    Ok(())
}

fn show(flow: &Flow, output: Output) -> io::Result<()> {
    match output {
        Output::Json => {
            let mut out = io::stdout().lock();
            serde_json::to_writer(&mut out, flow)?;
            out.write_all(b"\n")?;
            out.flush()
        }
        Output::Text => {
            let colour = match flow.verdict.as_str() {
                "FORWARDED" => AnsiColor::Green,
                "AUDIT" => AnsiColor::Yellow,
                _ => AnsiColor::Red,
            };
            let line = flow
                .line()
                .replacen(&flow.verdict, &paint(&flow.verdict, colour), 1);
            let mut out = anstream::stdout().lock();
            writeln!(out, "{line}")?;
            out.flush()
        }
    }
}
