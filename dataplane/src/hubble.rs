//! The daemon as Hubble's servers see it, and their threads.

use crate::config::Config;
use crate::figures::figures;
use crate::observe::{History, Names};
use crate::status_view::StatusView;
use jiff::Timestamp;
use portcullis_hubble::export::{ExportCounts, Exporter};
use portcullis_hubble::metrics::{self, Figures, Metrics};
use portcullis_hubble::page::{self, PageSources};
use portcullis_hubble::{Agent, AgentLog, HttpSettings, NodeName, Servers, Sources};
use std::path::Path;
use std::sync::Arc;

/// How much later than the workers' threads these get their turn.
const NICENESS: i32 = 10;
/// What policy calls the cluster, too.
const CLUSTER: &str = "default";

struct Running(Arc<StatusView>);

impl Agent for Running {
    fn names(&self) -> Arc<Names> {
        self.0.names_now()
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
) -> Result<Servers, String> {
    // Their threads wait for workers, not workers for them. Where that is not allowed, both wait.
    let servers = Servers::new(wait_behind)?;
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
    let exported = start_export(config, &sources)?;
    start_http(config, &servers, &sources, view, exported)?;
    Ok(servers)
}

/// Writes flows from now on, where the settings say so.
fn start_export(config: &Config, sources: &Sources) -> Result<Arc<ExportCounts>, String> {
    let counts = Arc::default();
    let exporter =
        Exporter::new(&config.export, sources, &counts).map_err(|e| format!("config.yaml, {e}"))?;
    if let Some(exporter) = exporter {
        exporter.start(sources, wait_behind)?;
    }
    Ok(counts)
}

/// Counts from now on, and serves what was counted: beside the page, and where the settings say.
fn start_http(
    config: &Config,
    servers: &Servers,
    sources: &Sources,
    view: &Arc<StatusView>,
    exported: Arc<ExportCounts>,
) -> Result<(), String> {
    let metrics = Metrics::new(&config.metrics, sources, exported);
    metrics.start(sources, wait_behind)?;
    let router = metrics::router(metrics);
    let alone = config.metrics.listen.map(|listen| HttpSettings {
        listen,
        token: None,
        tls: None,
    });
    if let Some(settings) = alone {
        let started = servers.start_http(&settings, vec![router.clone()]);
        started.map_err(|e| {
            format!(
                "config.yaml, {}",
                e.replacen("http.listen", "metrics.listen", 1)
            )
        })?;
    }
    let settings = config.http.settings();
    let page = page::router(page_sources(sources, view), wait_behind)?;
    let address = servers
        .start_http(&settings, vec![router, page])
        .map_err(|e| format!("config.yaml, {e}"))?;
    let scheme = if settings.tls.is_some() {
        "https"
    } else {
        "http"
    };
    eprintln!("page: {scheme}://{address}/");
    Ok(())
}

fn page_sources(sources: &Sources, view: &Arc<StatusView>) -> PageSources {
    let view = Arc::clone(view);
    let status = move || serde_json::to_value(view.status()).unwrap_or_default();
    PageSources {
        sources: sources.clone(),
        status: Arc::new(status),
    }
}

fn wait_behind() {
    let _ = rustix::process::nice(NICENESS);
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".into(),
        name => name.into(),
    }
}
