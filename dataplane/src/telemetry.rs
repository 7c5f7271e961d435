//! What leaves the daemon for other programs' eyes: metrics that are fetched, flows that are written.

use crate::config::Config;
use crate::status_view::StatusView;
use portcullis_hubble::export::{ExportCounts, Exports};
use portcullis_hubble::metrics::{self, Metrics};
use portcullis_hubble::page::{self, PageSources};
use portcullis_hubble::{HttpSettings, Router, Servers, Sources};
use std::sync::Arc;

/// How much more readily other threads run than those that only tell: the largest difference.
const PATIENCE: i32 = 19;

/// Writes flows and counts from now on, and serves what was counted. Gives what writes, as the settings
/// of each moment ask for it: it ends with the history.
///
/// # Errors
/// When an address is taken, or there are too many threads.
pub fn start(
    config: &Config,
    sources: &Sources,
    servers: &Servers,
    view: &Arc<StatusView>,
) -> Result<Arc<Exports>, String> {
    let exported = Arc::default();
    let exports = Arc::new(Exports::new(sources, &exported, wait_behind));
    exports
        .apply(&config.export)
        .map_err(|e| format!("config.yaml, {e}"))?;
    let exchanged = Arc::clone(&exports);
    view.on_accept(move |config| exchanged.apply(&config.export));
    let metrics = start_metrics(config, sources, servers, exported)?;
    // Pods have a network with a page or without.
    let _ = start_page(config, sources, servers, view, metrics)
        .inspect_err(|fault| eprintln!("fault: no page: {fault}"));
    Ok(exports)
}

/// Counts, and serves what was counted where `metrics.listen` says.
fn start_metrics(
    config: &Config,
    sources: &Sources,
    servers: &Servers,
    exported: Arc<ExportCounts>,
) -> Result<Router, String> {
    let metrics = Metrics::new(&config.metrics, sources, exported);
    metrics.start(sources, wait_behind)?;
    let router = metrics::router(metrics);
    if let Some(listen) = config.metrics.listen {
        let settings = HttpSettings {
            listen,
            token: None,
            tls: None,
        };
        let told = |fault: String| fault.replacen("http.listen", "metrics.listen", 1);
        servers
            .start_http(&settings, vec![router.clone()])
            .map_err(|e| format!("config.yaml, {}", told(e)))?;
    }
    Ok(router)
}

/// The page, and the metrics beside it, where `http.listen` says.
fn start_page(
    config: &Config,
    sources: &Sources,
    servers: &Servers,
    view: &Arc<StatusView>,
    metrics: Router,
) -> Result<(), String> {
    let view = Arc::clone(view);
    let status = move || serde_json::to_value(view.status()).unwrap_or_default();
    let sources = PageSources {
        sources: sources.clone(),
        status: Arc::new(status),
    };
    let page = page::router(sources, wait_behind)?;
    let settings = config.http.settings();
    let address = servers
        .start_http(&settings, vec![metrics, page])
        .map_err(|e| format!("config.yaml, {e}"))?;
    let scheme = match settings.tls {
        Some(_) => "https",
        None => "http",
    };
    eprintln!("page: {scheme}://{address}/");
    Ok(())
}

/// Lets workers go first. Where that is refused the thread works all the same.
pub fn wait_behind() {
    let thread = rustix::thread::gettid();
    // Linux keeps this for each thread. [setpriority(2), NOTES]
    let _ = rustix::process::setpriority_process(Some(thread), PATIENCE);
}
