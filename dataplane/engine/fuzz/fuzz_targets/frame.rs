//! Arbitrary frames through both halves of the engine, as `tests/network/exercise.rs` reads them.

#![no_main]

#[path = "../../tests/network/mod.rs"]
mod network;

libfuzzer_sys::fuzz_target!(|input: &[u8]| network::exercise::exercise(input));
