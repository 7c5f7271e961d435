//! `/metrics`, and what stands behind it.

use super::consumer;
use super::counts::Counts;
use super::family::Families;
use super::flow_collector::{FlowCollector, SharedCounts};
use super::settings::MetricsSettings;
use super::text::{self, Format};
use super::{agent_collector, own_collector, process};
use crate::export::ExportCounts;
use crate::sources::Sources;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use portcullis_observe::Event;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// Counts, and tells what was counted.
#[derive(Clone)]
pub struct Metrics {
    counts: SharedCounts,
    registry: Arc<Registry>,
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(settings: &MetricsSettings, sources: &Sources, exported: Arc<ExportCounts>) -> Self {
        let counts = SharedCounts::new(Counts::new(settings, sources.node.home()));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(FlowCollector {
            counts: counts.clone(),
        }));
        registry.register_collector(Box::new(NodeCollector {
            sources: sources.clone(),
            exported,
        }));
        Self {
            counts,
            registry: Arc::new(registry),
        }
    }

    /// Counts what comes, on a thread of its own, until the history is closed. `prepare` runs on it
    /// first.
    ///
    /// # Errors
    /// When there are too many threads.
    pub fn start(
        &self,
        sources: &Sources,
        prepare: impl FnOnce() + Send + 'static,
    ) -> Result<(), String> {
        let (counts, sources) = (self.counts.clone(), sources.clone());
        let reader = sources.history.reader();
        let thread = std::thread::Builder::new().name("metrics".into());
        thread
            .spawn(move || {
                prepare();
                consumer::run(reader, &sources, &counts);
            })
            .map(drop)
            .map_err(|e| format!("cannot start thread metrics: {e}"))
    }

    /// Counts these events now.
    pub fn count(&self, events: &[Event]) {
        let mut counts = self.counts.lock();
        for event in events {
            counts.count(event);
        }
    }

    /// Counts one batch of what a reader gets. False when there is nothing more.
    #[cfg(test)]
    pub(super) fn take(&self, reader: &mut portcullis_observe::Reader) -> bool {
        consumer::take(reader, &self.counts)
    }

    /// All metrics in the form that `Accept` asks for, and its content type.
    ///
    /// # Errors
    /// None but those of writing to memory.
    pub fn text(&self, accept: Option<&str>) -> Result<(&'static str, String), fmt::Error> {
        let format = Format::accepted(accept);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        if format == Format::Plain {
            text = text::plain(&text);
        }
        Ok((format.content_type(), text))
    }
}

/// The route `/metrics`.
pub fn router(metrics: Metrics) -> Router {
    Router::new()
        .route("/metrics", get(answer))
        .with_state(metrics)
}

async fn answer(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    // Written before the first byte is sent: a slow reader keeps no counter locked.
    match metrics.text(accept.and_then(|value| value.to_str().ok())) {
        Ok((content_type, text)) => ([(header::CONTENT_TYPE, content_type)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Tells what the daemon and the kernel know of it.
struct NodeCollector {
    sources: Sources,
    exported: Arc<ExportCounts>,
}

impl fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeCollector")
    }
}

impl Collector for NodeCollector {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let figures = self.sources.agent.figures();
        let mut families = Families(encoder);
        agent_collector::write(&mut families, &figures)?;
        own_collector::write(&mut families, &figures)?;
        let oldest = self.sources.history.oldest_time();
        let age = oldest.map_or(0.0, |oldest| {
            Timestamp::now()
                .duration_since(oldest)
                .as_secs_f64()
                .max(0.0)
        });
        families.gauge(
            "portcullis_history_seconds",
            "How far back the history goes: the age of the oldest record that can be looked at, on disk or in memory.",
            [(Vec::new(), age)],
        )?;
        for (name, help, count) in self.exported.all() {
            families.counter(name, help, [(Vec::new(), count)])?;
        }
        let started = self.sources.node.started.as_millisecond() as f64 / 1e3;
        process::write(&mut families, started)
    }
}
