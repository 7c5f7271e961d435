//! `portcullis policy check`.

use super::paint;
use anstyle::AnsiColor;
use portcullis_policy::{Compat, Object, Settings, parse_documents};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Checks files; tells every fault and all advice.
pub fn check(files: &[PathBuf], compat_cilium: bool) -> Result<(), String> {
    let compat = if compat_cilium {
        Compat::Cilium
    } else {
        Compat::Portcullis
    };
    let settings = Settings {
        compat,
        ..Settings::default()
    };
    let (mut faults, mut policies) = (0, 0);
    for path in files {
        let name = path.display().to_string();
        let text = match read(path) {
            Ok(text) => text,
            Err(e) => {
                anstream::eprintln!("{}: {name}: {e}", paint("error", AnsiColor::Red));
                faults += 1;
                continue;
            }
        };
        match parse_documents(&name, &text, &settings) {
            Ok(documents) => {
                for document in &documents {
                    for warning in &document.warnings {
                        anstream::eprintln!("{}: {warning}", paint("warning", AnsiColor::Yellow));
                    }
                    if !matches!(document.object, Object::Pod(_) | Object::Namespace(_)) {
                        policies += 1;
                    }
                    anstream::println!(
                        "{}: {name}, document {}: {}",
                        paint("ok", AnsiColor::Green),
                        document.origin.document,
                        document.origin
                    );
                }
            }
            Err(errors) => {
                for error in &errors {
                    anstream::eprintln!("{}: {error}", paint("error", AnsiColor::Red));
                }
                faults += errors.len();
            }
        }
    }
    match faults {
        0 => {
            println!("{} files, {policies} policies: valid", files.len());
            Ok(())
        }
        1 => Err("1 fault".into()),
        faults => Err(format!("{faults} faults")),
    }
}

fn read(path: &Path) -> io::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(path)
}
