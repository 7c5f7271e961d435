//! Serves the page: a failure to is told, and is no reason to leave pods without a network.

use crate::config::PageConfig;
use crate::status_view::StatusView;
use crate::telemetry;
use portcullis_hubble::metrics::{self, Metrics};
use portcullis_hubble::page::{self, PageSources};
use portcullis_hubble::{HttpSettings, Servers, Sources, TlsSettings};
use std::fs;
use std::sync::Arc;

/// Serves the page, and the metrics beside it, for as long as the servers run; not where nobody
/// wants it.
///
/// # Errors
/// When the address is taken, or can be reached from elsewhere and has no token or certificate.
pub fn serve(
    config: &PageConfig,
    sources: &Sources,
    servers: &Servers,
    view: &Arc<StatusView>,
    metrics: Metrics,
) -> Result<(), String> {
    let Some(settings) = settings(config)? else {
        return Ok(());
    };
    let view = Arc::clone(view);
    let status = move || serde_json::to_value(view.status()).unwrap_or_default();
    let sources = PageSources {
        sources: sources.clone(),
        status: Arc::new(status),
    };
    let routes = page::router(sources, telemetry::wait_behind)?;
    let routes = vec![routes, metrics::router(metrics)];
    let address = servers.start_http(&settings, routes)?;
    let scheme = match settings.tls {
        Some(_) => "https",
        None => "http",
    };
    eprintln!("page: {scheme}://{address}/");
    Ok(())
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
