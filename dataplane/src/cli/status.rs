//! `portcullis status`.

use super::{Output, StatusArgs, paint};
use crate::ipc::{self, Answer, Request};
use crate::status::Status;
use anstyle::AnsiColor;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// The exit code for a daemon that answers and is not ready.
const NOT_READY: u8 = 3;

/// Shows the state; with `--wait` once it is ready.
pub fn status(args: &StatusArgs) -> ExitCode {
    let until = Instant::now() + Duration::from_secs(args.wait_duration);
    loop {
        let asked = ask(args);
        let is_ready = asked.as_ref().is_ok_and(|status| status.is_ready);
        if args.wait && !is_ready && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
            continue;
        }
        return match asked {
            Ok(status) => {
                match args.output {
                    Output::Text => anstream::print!("{}", coloured(&status.text())),
                    Output::Json => match serde_json::to_string_pretty(&status) {
                        Ok(text) => println!("{text}"),
                        Err(_) => return ExitCode::FAILURE,
                    },
                }
                if is_ready {
                    ExitCode::SUCCESS
                } else {
                    NOT_READY.into()
                }
            }
            Err(fault) => {
                anstream::eprintln!("{}: {fault}", paint("error", AnsiColor::Red));
                ExitCode::FAILURE
            }
        };
    }
}

fn ask(args: &StatusArgs) -> Result<Status, String> {
    match ipc::ask(&args.socket, &Request::Status)?.next() {
        Some(Ok(Answer::Status(status))) => Ok(*status),
        Some(Ok(Answer::Error(fault)) | Err(fault)) => Err(fault),
        _ => Err("the daemon gave no status".into()),
    }
}

fn coloured(text: &str) -> String {
    text.replace("Error  ", &paint("Error  ", AnsiColor::Red))
        .replace("Warning  ", &paint("Warning  ", AnsiColor::Yellow))
}
