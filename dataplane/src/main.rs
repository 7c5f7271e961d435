//! The `portcullis` command.

use std::process::ExitCode;

/// The daemon's threads allocate on the control path only; this keeps what they leave behind small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis::cli::main()
}
