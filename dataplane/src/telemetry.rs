//! What leaves the daemon for other programs' eyes: metrics that are fetched, flows that are written.

use crate::config::Config;
use crate::figures::figures;
use crate::observe::{History, Names};
use crate::status_view::StatusView;
use jiff::Timestamp;
use portcullis_hubble::metrics::{self, Figures, Metrics};
use portcullis_hubble::{Agent, HttpSettings, NodeName, Servers, Sources};
use std::sync::Arc;

/// How much more readily other threads run than those that only tell: the largest difference.
const PATIENCE: i32 = 19;

/// The daemon, as its servers see it.
struct View(Arc<StatusView>);

impl Agent for View {
    fn names(&self) -> Arc<Names> {
        self.0.names_now()
    }

    fn figures(&self) -> Figures {
        figures(&self.0)
    }
}

/// What all servers share.
#[must_use]
pub fn sources(view: &Arc<StatusView>, history: &Arc<History>) -> Sources {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Sources {
        history: Arc::clone(history),
        agent: Arc::new(View(Arc::clone(view))),
        node: NodeName {
            name: name.trim().to_owned(),
            cluster: "default".into(),
            started: Timestamp::now(),
        },
    }
}

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
