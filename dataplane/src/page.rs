//! Serves the page: a failure to is told, and is no reason to leave pods without a network.

use crate::config::PageConfig;
use crate::observe::{History, Names};
use crate::status_view::StatusView;
use jiff::Timestamp;
use portcullis_hubble::page::{self, PageSources};
use portcullis_hubble::{Agent, HttpSettings, NodeName, Servers, Sources, TlsSettings};
use std::fs;
use std::sync::Arc;

/// What is shown gives way to what passes.
const NICENESS: i32 = 10;

struct Shown(Arc<StatusView>);

impl Agent for Shown {
    fn names(&self) -> Arc<Names> {
        self.0.names_now()
    }
}

/// Serves the page until what it gives is dropped; None where nobody wants it.
///
/// # Errors
/// When the address is taken, or can be reached from elsewhere and has no token or certificate.
pub fn serve(
    config: &PageConfig,
    history: &Arc<History>,
    view: &Arc<StatusView>,
) -> Result<Option<Servers>, String> {
    let Some(settings) = settings(config)? else {
        return Ok(None);
    };
    let node = NodeName {
        name: node_name(),
        cluster: "default".into(),
        started: Timestamp::now(),
    };
    let sources = Sources {
        history: Arc::clone(history),
        agent: Arc::new(Shown(Arc::clone(view))),
        node,
    };
    let view = Arc::clone(view);
    let status = move || serde_json::to_value(view.status()).unwrap_or_default();
    let servers = Servers::new(give_way)?;
    let routes = page::router(
        PageSources {
            sources,
            status: Arc::new(status),
        },
        give_way,
    )?;
    let address = servers.start_http(&settings, vec![routes])?;
    let scheme = if settings.tls.is_some() {
        "https"
    } else {
        "http"
    };
    eprintln!("page: {scheme}://{address}/");
    Ok(Some(servers))
}

fn settings(config: &PageConfig) -> Result<Option<HttpSettings>, String> {
    let Some(listen) = config.listen else {
        return Ok(None);
    };
    let tls = match (&config.certificate_file, &config.key_file) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(TlsSettings {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: None,
        }),
        _ => return Err("page: certificateFile and keyFile go together".into()),
    };
    let token = config.token_file.as_ref().map(|file| {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let token = text.trim().to_owned();
        if token.is_empty() {
            return Err(format!(
                "{}: expected a token, found nothing",
                file.display()
            ));
        }
        Ok(token)
    });
    Ok(Some(HttpSettings {
        listen,
        token: token.transpose()?,
        tls,
    }))
}

/// Where it is refused the page competes with workers for a core: slower, not wrong.
fn give_way() {
    // Linux keeps this for each thread. [setpriority(2), NOTES]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
}

fn node_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
