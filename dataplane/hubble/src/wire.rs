//! Hubble's messages and services, made from our own .proto files.
#![allow(missing_docs, clippy::all, clippy::pedantic, deprecated)]

pub mod flow {
    tonic::include_proto!("flow");
}

pub mod observer {
    tonic::include_proto!("observer");
}

pub mod peer {
    tonic::include_proto!("peer");
}

pub mod relay {
    tonic::include_proto!("relay");
}

/// All of them, for reflection and field masks.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
