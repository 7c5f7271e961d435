//! Hubble's API, metrics and the web page: the only crate that knows tokio, tonic and axum.

pub mod metrics;
mod sources;

pub use sources::{Agent, NodeName, Sources};
