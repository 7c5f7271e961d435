//! Compiles `xdp-redirect/ebpf` for the BPF target into `$OUT_DIR/redirect`.
//!
//! A compiler will do when it has `core` for that target: ready-made (Debian's
//! libstd-rust-web-dev-bpf), or as source (rustup's rust-src), from which cargo then builds it.
//! The first such compiler is taken, in this order:
//!
//! 1. `$BPF_RUSTC`, when set, and no other;
//! 2. the compiler that builds this crate;
//! 3. `/usr/bin/rustc`, where Debian's lies;
//! 4. rustup's nightly.
//!
//! Linking needs `bpf-linker` in `$PATH` or in cargo's bin directory, or named by `$BPF_LINKER`.
//! `./x setup` installs what is missing.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "bpfel-unknown-none";
const PROGRAM: &str = "redirect";

/// Where a compiler gets `core` for the BPF target.
#[derive(Debug, Clone, Copy)]
enum Core {
    Prebuilt,
    Source,
}

fn main() {
    // Asked now, not when this was compiled: another checkout may share the target directory.
    let own = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let contract = Path::new(&own).join("../xdp-redirect");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for path in [
        "src",
        "Cargo.toml",
        "ebpf/src",
        "ebpf/Cargo.toml",
        "ebpf/Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", contract.join(path).display());
    }
    for name in ["BPF_RUSTC", "BPF_LINKER", "PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }

    let Some((rustc, core)) = compiler() else {
        fail(&format!(
            "no Rust compiler here has `core` for {TARGET}, which the kernel program needs. \
             Run `./x setup`, or install one of:\n  \
             rustup component add rust-src                       (rustup)\n  \
             apt-get install rustc-web libstd-rust-web-dev-bpf   (Debian)\n\
             or name a compiler in BPF_RUSTC."
        ))
    };
    let Some(linker) = linker() else {
        fail(
            "bpf-linker, which the kernel program needs, is neither in PATH nor in cargo's bin \
             directory. Run `./x setup`, or name it in BPF_LINKER.",
        )
    };
    let object = build(
        &contract.join("ebpf"),
        &out.join("bpf"),
        &rustc,
        core,
        &linker,
    );
    if let Err(error) = fs::copy(&object, out.join(PROGRAM)) {
        fail(&format!("{}: {error}", object.display()));
    }
}

/// Builds the kernel program and gives the path of its object file.
fn build(program: &Path, target: &Path, rustc: &Path, core: Core, linker: &Path) -> PathBuf {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo
        .current_dir(program)
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(target)
        // What cargo and clippy set for building this crate must not leak into that one.
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CLIPPY_ARGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUSTC", rustc)
        // aya-ebpf uses inline BPF assembly, which stable compilers gate.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            // Debug information becomes the BTF that names and types the maps.
            [
                "-Cdebuginfo=2",
                "-Clink-arg=--btf",
                &format!("-Clinker={}", linker.display()),
            ]
            .join("\x1f"),
        );
    if let Core::Source = core {
        cargo.arg("-Zbuild-std=core");
    }
    let hint = "Is bpf-linker's LLVM older than the compiler's? `./x setup` builds it anew.";
    match cargo.status() {
        Ok(status) if status.success() => target.join(TARGET).join("release").join(PROGRAM),
        Ok(status) => fail(&format!(
            "the kernel program did not build ({status}, {} with {core:?} core, {}). {hint}",
            rustc.display(),
            linker.display(),
        )),
        Err(error) => fail(&format!("{cargo:?}: {error}")),
    }
}

/// The first compiler that can build for BPF.
fn compiler() -> Option<(PathBuf, Core)> {
    let candidates = match env::var_os("BPF_RUSTC") {
        Some(rustc) => vec![PathBuf::from(rustc)],
        None => {
            let own = env::var_os("RUSTC").map(PathBuf::from);
            let nightly = answer("rustup", &["which", "rustc", "--toolchain", "nightly"]);
            own.into_iter()
                .chain([PathBuf::from("/usr/bin/rustc")])
                .chain(nightly)
                .collect()
        }
    };
    candidates.into_iter().find_map(|rustc| {
        let core = core_of(&rustc)?;
        Some((rustc, core))
    })
}

fn core_of(rustc: &Path) -> Option<Core> {
    let prebuilt = answer(rustc, &["--print", "target-libdir", "--target", TARGET])?;
    let has_core = fs::read_dir(prebuilt).is_ok_and(|files| {
        files
            .flatten()
            .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
    });
    if has_core {
        return Some(Core::Prebuilt);
    }
    let root = answer(rustc, &["--print", "sysroot"])?;
    root.join("lib/rustlib/src/rust/library/Cargo.lock")
        .exists()
        .then_some(Core::Source)
}

/// Where bpf-linker is.
fn linker() -> Option<PathBuf> {
    if let Some(linker) = env::var_os("BPF_LINKER") {
        return Some(linker.into());
    }
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(home.map(|home| home.join("bin")))
        .map(|directory| directory.join("bpf-linker"))
        .find(|file| file.is_file())
}

/// The path that a command prints, if it succeeds.
fn answer(command: impl AsRef<OsStr>, arguments: &[&str]) -> Option<PathBuf> {
    let output = Command::new(command).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().into())
}

fn fail(why: &str) -> ! {
    println!("cargo::error={}", why.replace('\n', "\ncargo::error="));
    exit(1)
}
