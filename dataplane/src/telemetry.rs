//! What leaves the daemon for other programs' eyes: metrics that are fetched, flows that are written.

use crate::config::Config;
use portcullis_hubble::metrics::{self, Metrics};
use portcullis_hubble::{HttpSettings, Servers, Sources};

/// How much more readily other threads run than those that only tell: the largest difference.
const PATIENCE: i32 = 19;

/// Counts, and serves what was counted at the address of `metrics.listen`.
///
/// # Errors
/// When the address is taken, or there are too many threads.
pub fn start_metrics(
    config: &Config,
    sources: &Sources,
    servers: &Servers,
) -> Result<Metrics, String> {
    let metrics = Metrics::new(&config.metrics, sources);
    metrics.start(sources, wait_behind)?;
    if let Some(listen) = config.metrics.listen {
        let settings = HttpSettings {
            listen,
            token: None,
            tls: None,
        };
        let routes = vec![metrics::router(metrics.clone())];
        servers
            .start_http(&settings, routes)
            .map_err(|e| format!("config.yaml, metrics.listen: {e}"))?;
    }
    Ok(metrics)
}

/// Lets workers go first. Where that is refused the thread works all the same.
pub fn wait_behind() {
    let thread = rustix::thread::gettid();
    // Linux keeps this for each thread. [setpriority(2), NOTES]
    let _ = rustix::process::setpriority_process(Some(thread), PATIENCE);
}
