//! What leaves the daemon for other programs' eyes: metrics that are fetched, flows that are written.

use crate::config::Config;
use portcullis_hubble::export::{ExportCounts, Exporter};
use portcullis_hubble::metrics::{self, Metrics};
use portcullis_hubble::{HttpSettings, Servers, Sources};
use std::sync::Arc;
use std::thread::JoinHandle;

/// How much more readily other threads run than those that only tell: the largest difference.
const PATIENCE: i32 = 19;

/// Writes flows and counts from now on, and serves what was counted. Gives the thread that writes,
/// where the settings ask for it: it ends with the history.
///
/// # Errors
/// When an address is taken, or there are too many threads.
pub fn start(
    config: &Config,
    sources: &Sources,
    servers: &Servers,
) -> Result<Option<JoinHandle<()>>, String> {
    let exported = Arc::default();
    let exporter = Exporter::new(&config.export, sources, &exported)
        .map_err(|e| format!("config.yaml, {e}"))?;
    let exporter = exporter.map(|exporter| exporter.start(sources, wait_behind));
    start_metrics(config, sources, servers, exported)?;
    exporter.transpose()
}

/// At the address of the page, and at that of `metrics.listen`.
fn start_metrics(
    config: &Config,
    sources: &Sources,
    servers: &Servers,
    exported: Arc<ExportCounts>,
) -> Result<(), String> {
    let metrics = Metrics::new(&config.metrics, sources, exported);
    metrics.start(sources, wait_behind)?;
    let alone = config.metrics.listen.map(|listen| HttpSettings {
        listen,
        token: None,
        tls: None,
    });
    for (field, settings) in [
        ("metrics.listen", alone),
        ("http.listen", Some(config.http.settings())),
    ] {
        if let Some(settings) = settings {
            let routes = vec![metrics::router(metrics.clone())];
            servers
                .start_http(&settings, routes)
                .map_err(|e| format!("config.yaml, {}", e.replacen("http.listen", field, 1)))?;
        }
    }
    Ok(())
}

/// Lets workers go first. Where that is refused the thread works all the same.
pub fn wait_behind() {
    let thread = rustix::thread::gettid();
    // Linux keeps this for each thread. [setpriority(2), NOTES]
    let _ = rustix::process::setpriority_process(Some(thread), PATIENCE);
}
