//! Makes Rust from our own .proto files; no `protoc` is needed.

use prost::Message;
use std::path::PathBuf;
use std::{env, error, fs};

/// Packages, each with a file of its name.
const FILES: [&str; 5] = [
    "flow/flow.proto",
    "observer/observer.proto",
    "peer/peer.proto",
    "relay/relay.proto",
    // Why something was denied is told in its messages, as an Any that clients must look up.
    "google/protobuf/struct.proto",
];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection shows them to whoever asks.
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
