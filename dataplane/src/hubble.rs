//! The daemon as Hubble's servers see it, and their threads.

use crate::config::Config;
use crate::figures::figures;
use crate::observe::{History, Names};
use crate::status_view::StatusView;
use crate::telemetry;
use jiff::Timestamp;
use portcullis_hubble::metrics::{Figures, MetricsSettings};
use portcullis_hubble::{Agent, AgentLog, NodeName, Servers, Sources};
use std::path::Path;
use std::sync::Arc;

/// What policy calls the cluster, too.
const CLUSTER: &str = "default";

struct Running(Arc<StatusView>);

impl Agent for Running {
    fn names(&self) -> Arc<Names> {
        self.0.names_now()
    }

    fn metrics_settings(&self) -> Option<Arc<MetricsSettings>> {
        self.0.metrics()
    }

    fn figures(&self) -> Figures {
        figures(&self.0)
    }
}

/// Starts all servers; they end with what is given back.
///
/// # Errors
/// Settings that cannot be served: addresses that are taken, certificates that do not fit.
pub fn start(
    config: &Config,
    socket: &Path,
    view: &Arc<StatusView>,
    history: &Arc<History>,
    log: &Arc<AgentLog>,
) -> Result<(Servers, Sources), String> {
    // Their threads wait for workers, not workers for them. Where that is not allowed, both wait.
    let servers = Servers::new(telemetry::wait_behind)?;
    let sources = Sources {
        history: Arc::clone(history),
        agent: Arc::new(Running(Arc::clone(view))),
        node: NodeName {
            name: config.hubble.node.clone().unwrap_or_else(host_name),
            cluster: CLUSTER.into(),
            started: Timestamp::now(),
        },
        log: Arc::clone(log),
    };
    servers
        .start(&config.hubble.settings(socket), &sources)
        .map_err(|e| format!("config.yaml, {e}"))?;
    Ok((servers, sources))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".into(),
        name => name.into(),
    }
}
