//! The verdict vectors: what the reference engine says of whole worlds, asked of our tables.
//!
//! They lie in the folder that `PORTCULLIS_VECTORS` names, else beside the project in
//! `../shared/vectors/public`; where they do not, these tests say so and do nothing.

mod gateways;
mod names;
mod policies;
mod validation;
mod world;

use portcullis_policy::{Compat, Settings};
use serde_json::Value;
use std::path::PathBuf;

/// The cases of one kind in all files; None when the vectors are not there.
fn cases(kind: &str) -> Option<Vec<Value>> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/public");
    let folder = std::env::var_os("PORTCULLIS_VECTORS").map_or(beside, PathBuf::from);
    if !folder.exists() {
        tell(&format!(
            "SKIPPED: no verdict vectors in {}",
            folder.display()
        ));
        return None;
    }
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    files.sort();
    let (mut found, mut files_with) = (Vec::new(), 0);
    for path in &files {
        let text = std::fs::read_to_string(path).expect("a file of vectors");
        let read = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a JSON object"));
        let before = found.len();
        found.extend(read.filter(|case| case["kind"] == kind));
        files_with += usize::from(found.len() > before);
    }
    tell(&format!(
        "vectors of kind {kind}: {} cases in {files_with} of {} files",
        found.len(),
        files.len()
    ));
    Some(found)
}

/// What ran is told even where tests that pass are silent.
fn tell(line: &str) {
    use std::io::Write;
    // Not `eprintln!`: the test harness keeps that for failures.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Tells how many verdicts were compared.
fn ran(kind: &str, verdicts: &str, differences: &[String]) {
    let count = differences.len();
    tell(&format!(
        "vectors of kind {kind}: {verdicts}, {count} differ"
    ));
}

/// Whether the vectors are ours, so that floors on their number can be held.
fn are_public() -> bool {
    std::env::var_os("PORTCULLIS_VECTORS").is_none()
}

fn reference() -> Settings {
    Settings {
        compat: Compat::Cilium,
        ..Settings::default()
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

#[track_caller]
fn none_of(differences: &[String]) {
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences[..differences.len().min(40)].join("\n")
    );
}
