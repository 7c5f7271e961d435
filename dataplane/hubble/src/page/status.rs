//! `/api/status`: who speaks, what it keeps, and how it fares.

use super::router::Page;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// The node at one moment.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    node: String,
    cluster: String,
    started: Timestamp,
    now: Timestamp,
    /// Events a second, over the last minute.
    flows_per_second: f64,
    kept: usize,
    kept_max: usize,
    written: u64,
    unwritten: u64,
    /// When the oldest event was that can still be looked at.
    oldest: Option<Timestamp>,
    /// Of the daemon's own status, what fits in a line.
    daemon: Value,
}

/// What is told of the daemon.
const DAEMON_FIELDS: [&str; 8] = [
    "version",
    "uptime_seconds",
    "generation",
    "is_ready",
    "documents",
    "errors",
    "warnings",
    "drops",
];

/// `GET /api/status`.
pub(super) async fn answer(State(page): State<Arc<Page>>) -> Json<Answer> {
    let now = Timestamp::now();
    let counts = page.sources.history.counts_all();
    let mut daemon = (page.status)();
    if let Some(fields) = daemon.as_object_mut() {
        fields.retain(|name, _| DAEMON_FIELDS.contains(&name.as_str()));
    }
    let node = &page.sources.node;
    Json(Answer {
        node: node.name.clone(),
        cluster: node.cluster.clone(),
        started: node.started,
        now,
        flows_per_second: page.sources.history.flows_rate(now),
        kept: counts.kept,
        kept_max: counts.kept_max,
        written: counts.written,
        unwritten: counts.unwritten,
        oldest: counts.oldest,
        daemon,
    })
}
