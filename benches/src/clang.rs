//! Compiles the harness's own kernel programs.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::{env, fs, process};

/// The object of a program for the kernel, from its source.
///
/// # Errors
/// There is no clang, or it refuses the source.
pub fn compile(text: &str) -> Result<Vec<u8>, String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Relaxed);
    let stem = env::temp_dir().join(format!("portcullis-bench-{}-{number}", process::id()));
    let (source, object) = (stem.with_extension("c"), stem.with_extension("o"));
    let failed = |error: std::io::Error| format!("clang: {error}");
    fs::write(&source, text).map_err(failed)?;
    let include = format!("-I/usr/include/{}-linux-gnu", env::consts::ARCH);
    let ran = Command::new("clang")
        .args(["-O2", "-g", "-target", "bpf", &include, "-c"])
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .output()
        .map_err(failed)?;
    let bytes = fs::read(&object);
    for file in [&source, &object] {
        // Not there when clang failed.
        let _ = fs::remove_file(file);
    }
    if !ran.status.success() {
        return Err(format!("clang: {}", String::from_utf8_lossy(&ran.stderr)));
    }
    bytes.map_err(failed)
}
