//! Hubble's API, metrics and the web page: the only crate that knows tokio, tonic and axum.

mod accept;
mod http;
pub mod page;
mod servers;
mod sources;
mod tls;

pub use http::HttpSettings;
pub use servers::Servers;
pub use sources::{Agent, NodeName, Sources};
pub use tls::TlsSettings;
