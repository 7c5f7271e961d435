//! The `portcullis` binary under test, built once for each test process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The binary: `$PORTCULLIS_BIN` when set, else what `cargo build` makes now.
///
/// # Panics
/// When it cannot be built.
pub fn portcullis() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("PORTCULLIS_BIN") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(
                path.is_file(),
                "PORTCULLIS_BIN: expected a file, found {}",
                path.display()
            );
            path
        }
        None => build(),
    })
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(cargo)
        .current_dir(root)
        .args([
            "build",
            "--quiet",
            "-p",
            "portcullis",
            "--bin",
            "portcullis",
        ])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo can be started");
    assert!(
        output.status.success(),
        "cargo build -p portcullis: {}",
        output.status
    );
    // One JSON object a line; the one of the binary names its file.
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "portcullis")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo tells where the binary is")
}
