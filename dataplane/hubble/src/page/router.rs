//! The routes of the page. All of them only read.

use super::map::{self, SharedMap};
use super::streams::Streams;
use super::{assets, flows, headers, policies, status};
use crate::sources::Sources;
use axum::{Router, middleware, routing::get};
use serde_json::Value;
use std::sync::Arc;

/// What the page reads.
#[derive(Clone)]
pub struct PageSources {
    /// What all servers share.
    pub sources: Sources,
    /// The daemon's status of the moment, as `portcullis status -o json` tells it.
    pub status: Arc<dyn Fn() -> Value + Send + Sync>,
}

/// What the routes share.
pub(super) struct Page {
    pub(super) sources: Sources,
    pub(super) status: Arc<dyn Fn() -> Value + Send + Sync>,
    pub(super) map: SharedMap,
    pub(super) streams: Streams,
}

/// The routes of the page, and the thread that counts for its map; `prepare` runs on it first.
///
/// # Errors
/// When there are too many threads.
pub fn router(
    page: PageSources,
    prepare: impl FnOnce() + Send + 'static,
) -> Result<Router, String> {
    let map = map::start(&page.sources, prepare)?;
    let page = Page {
        sources: page.sources,
        status: page.status,
        map,
        streams: Streams::default(),
    };
    Ok(Router::new()
        .route("/", get(assets::index))
        .route("/page/{file}", get(assets::file))
        .route("/api/map", get(map::answer))
        .route("/api/map/stream", get(map::stream))
        .route("/api/flows", get(flows::window))
        .route("/api/flows/stream", get(flows::stream))
        .route("/api/flow/{number}/why", get(flows::why))
        .route("/api/policies", get(policies::answer))
        .route("/api/status", get(status::answer))
        .with_state(Arc::new(page))
        .layer(middleware::from_fn(headers::add)))
}
