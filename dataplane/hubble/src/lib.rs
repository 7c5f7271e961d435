//! Hubble's API, metrics and the web page: the only crate that knows tokio, tonic and axum.

mod accept;
mod agent_log;
mod api;
pub mod export;
mod expression;
mod flow;
mod http;
mod icmp;
mod json;
mod lines;
mod mask;
pub mod metrics;
mod observer;
pub mod page;
mod peer;
mod servers;
mod sources;
mod summary;
mod tls;
pub mod wire;

pub use agent_log::{AddressChange, AgentEntry, AgentEvent, AgentLog, PodChange, PolicyChange};
pub use api::ApiSettings;
pub use axum::Router;
pub use expression::read_expressions;
pub use flow::Teller;
pub use http::HttpSettings;
pub use lines::{Lines, check_field_mask};
pub use servers::Servers;
pub use sources::{Agent, NodeName, Sources};
pub use tls::TlsSettings;
