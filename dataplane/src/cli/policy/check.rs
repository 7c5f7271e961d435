//! `portcullis policy check`.

use crate::cli::{Output, paint};
use crate::control::directory::read_state;
use crate::control::source::{SourceFile, SourceState};
use crate::review::{Check, check as check_state};
use anstyle::AnsiColor;
use portcullis_policy::{Compat, Settings};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Checks files and directories; tells every fault and all advice.
pub fn check(paths: &[PathBuf], compat_cilium: bool, output: Output) -> Result<ExitCode, String> {
    let compat = if compat_cilium {
        Compat::Cilium
    } else {
        Compat::Portcullis
    };
    let settings = Settings {
        compat,
        ..Settings::default()
    };
    let (state, unread) = read_all(paths);
    let check = check_state(&state, settings);
    match output {
        Output::Json => {
            for fault in &unread {
                anstream::eprintln!("{}: {fault}", paint("error", AnsiColor::Red));
            }
            let text = serde_json::to_string_pretty(&check).map_err(|e| e.to_string())?;
            println!("{text}");
        }
        Output::Text => show(&check, &unread),
    }
    match unread.len() + check.errors.len() {
        0 => Ok(ExitCode::SUCCESS),
        1 => Err("1 fault".into()),
        faults => Err(format!("{faults} faults")),
    }
}

fn show(check: &Check, unread: &[String]) {
    for document in &check.documents {
        anstream::println!("{}: {document}", paint("ok", AnsiColor::Green));
    }
    for advice in &check.warnings {
        let field = match advice.field.as_str() {
            "" => String::new(),
            field => format!(", {field}"),
        };
        anstream::eprintln!(
            "{}: {}, document {}{field}: {}",
            paint("warning", AnsiColor::Yellow),
            advice.file,
            advice.document,
            advice.message
        );
    }
    let faults = check.errors.iter().map(|fault| &fault.text).chain(unread);
    for fault in faults {
        anstream::eprintln!("{}: {fault}", paint("error", AnsiColor::Red));
    }
    if check.errors.is_empty() && unread.is_empty() {
        println!("{} files, {} policies: valid", check.files, check.policies);
    }
}

/// Everything that can be read of these files and directories, and what cannot.
fn read_all(paths: &[PathBuf]) -> (SourceState, Vec<String>) {
    let mut all = SourceState::default();
    let mut unread = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        if path.is_dir() {
            match read_state(path) {
                Ok(state) => {
                    all.config = state.config.or(all.config);
                    all.files
                        .extend(state.files.into_iter().map(|file| SourceFile {
                            name: path.join(&file.name).display().to_string(),
                            ..file
                        }));
                }
                Err(fault) => unread.push(fault.to_string()),
            }
            continue;
        }
        match read(path) {
            Ok(text) => all.files.push(SourceFile { name, text }),
            Err(fault) => unread.push(format!("{name}: {fault}")),
        }
    }
    (all, unread)
}

fn read(path: &Path) -> io::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(path)
}
