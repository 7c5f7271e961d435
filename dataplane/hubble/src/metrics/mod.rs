//! Metrics for Prometheus: Hubble's and Cilium's by their names, and ours of what only we have.

mod agent_collector;
mod consumer;
mod context;
mod counts;
mod family;
mod figures;
mod flow_collector;
mod metric;
mod naming;
mod own_collector;
mod process;
mod router;
mod series;
mod settings;
mod text;
mod world_options;

#[cfg(test)]
mod tests;

pub use figures::{
    BATCH_STEPS, Delays, EndpointFigures, Figures, LimitFigures, MemoryFigures, RecordFigures,
    WorkerFigures,
};
pub use router::{Metrics, router};
pub use settings::{Enabled, MetricsSettings};
