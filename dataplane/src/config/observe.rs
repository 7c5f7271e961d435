//! Settings of what others may read: Hubble's API, metrics and the page.

use portcullis_hubble::export::ExportSettings;
use portcullis_hubble::{ApiSettings, HttpSettings, TlsSettings};
use portcullis_policy::DocumentError;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where metrics and page are served unless it is said otherwise.
const HTTP_PORT: u16 = 4240;

/// Hubble's API.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct HubbleConfig {
    /// The unix socket; `hubble.sock` beside the daemon's own unless given.
    pub socket: Option<PathBuf>,
    /// TCP, beside the unix socket.
    #[serde(deserialize_with = "some_address")]
    pub listen: Option<SocketAddr>,
    /// Certificates for TCP.
    pub tls: Option<TlsConfig>,
    /// The name of this node; the host's unless given.
    pub node: Option<String>,
}

/// Metrics and the page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct HttpConfig {
    /// Where.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// What a reader must know.
    pub token: Option<String>,
    /// Certificates.
    pub tls: Option<TlsConfig>,
}

/// Files of a listener that speaks TLS, in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsConfig {
    /// Our certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients, who are then refused without a certificate.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, HTTP_PORT).into(),
            token: None,
            tls: None,
        }
    }
}

impl TlsConfig {
    fn settings(&self) -> TlsSettings {
        TlsSettings {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            client_ca: self.client_ca.clone(),
        }
    }
}

impl HubbleConfig {
    /// For the server of a daemon that has its own socket there.
    #[must_use]
    pub fn settings(&self, own_socket: &Path) -> ApiSettings {
        let beside = || own_socket.with_file_name("hubble.sock");
        ApiSettings {
            socket: self.socket.clone().unwrap_or_else(beside),
            listen: self.listen,
            tls: self.tls.as_ref().map(TlsConfig::settings),
        }
    }
}

impl HttpConfig {
    /// For the server.
    #[must_use]
    pub fn settings(&self) -> HttpSettings {
        HttpSettings {
            listen: self.listen,
            token: self.token.clone(),
            tls: self.tls.as_ref().map(TlsConfig::settings),
        }
    }
}

/// What would let strangers in.
pub(super) fn faults(file: &str, hubble: &HubbleConfig, http: &HttpConfig) -> Vec<DocumentError> {
    let fault = |field: &str, expected: &str, found: String| DocumentError {
        file: file.into(),
        document: 1,
        field: field.into(),
        expected: expected.into(),
        found,
    };
    let mut faults = Vec::new();
    let api = hubble.settings(Path::new("/"));
    if let Some(listen) = api.listen.filter(|_| api.check().is_err()) {
        let expected = "hubble.tls with clientCa, or a loopback address: others can reach it";
        faults.push(fault("hubble.listen", expected, listen.to_string()));
    }
    if http.settings().check().is_err() {
        let expected = "http.tls and http.token, or a loopback address: others can reach it";
        faults.push(fault("http.listen", expected, http.listen.to_string()));
    }
    if http.token.as_ref().is_some_and(|token| token.len() < 16) {
        let found = "a shorter one".to_owned();
        faults.push(fault("http.token", "at least 16 letters", found));
    }
    faults
}

/// What of an export cannot be done.
pub(super) fn export_fault(file: &str, export: &ExportSettings) -> Option<DocumentError> {
    let fault = export.check().err()?;
    let (field, rest) = fault.split_once(": ").unwrap_or(("export", &fault));
    let told = rest.strip_prefix("expected ");
    let told = told.and_then(|rest| rest.rsplit_once(", found "));
    let (expected, found) = told.unwrap_or(("a value that fits", rest));
    Some(DocumentError {
        file: file.into(),
        document: 1,
        field: field.into(),
        expected: expected.into(),
        found: found.into(),
    })
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "expected an address with its port such as 127.0.0.1:{HTTP_PORT}, found \"{text}\""
        ))
    })
}

fn some_address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    address(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn settings_of_the_servers_are_read() {
        let text = "hubble: {listen: '0.0.0.0:4244', node: n1, tls: {certificate: /c, key: /k, \
                    clientCa: /ca}}\nhttp: {listen: '127.0.0.1:80'}\n";
        let config = Config::parse("config.yaml", text).unwrap();
        let api = config
            .hubble
            .settings("/run/portcullis/portcullis.sock".as_ref());
        assert_eq!(api.socket.to_str(), Some("/run/portcullis/hubble.sock"));
        assert_eq!(api.listen, Some("0.0.0.0:4244".parse().unwrap()));
        assert_eq!(config.http.listen, "127.0.0.1:80".parse().unwrap());
        let told = Config::default().restart_needed_for(&config);
        assert_eq!(told, ["hubble", "http"]);
    }

    #[test]
    fn what_would_let_strangers_in_names_its_field() {
        for (text, error) in [
            (
                "hubble: {listen: '0.0.0.0:4244'}",
                "hubble.listen: expected hubble.tls with clientCa, or a loopback address: others \
                 can reach it, found 0.0.0.0:4244",
            ),
            (
                "http: {listen: '0.0.0.0:4240', token: long enough to be safe}",
                "http.listen: expected http.tls and http.token, or a loopback address: others can \
                 reach it, found 0.0.0.0:4240",
            ),
            (
                "http: {token: short}",
                "http.token: expected at least 16 letters, found a shorter one",
            ),
            (
                "hubble: {listen: here}",
                "hubble.listen: expected an address with its port such as 127.0.0.1:4240, found \
                 \"here\"",
            ),
            (
                "export: {maxMegabytes: 0}",
                "export.maxMegabytes: expected 1 to 10240, found 0",
            ),
            (
                "export: {fieldMask: [sauce]}",
                "export.fieldMask: expected a value that fits, found a flow has no field \"sauce\"",
            ),
            (
                "metrics: {enabled: ['flow:sourceContext=pood']}",
                "metrics.enabled: expected a value that fits, found flow:sourceContext: expected \
                 one of identity, namespace, pod, pod-name, dns, ip, reserved-identity, workload, \
                 workload-name, app, found \"pood\"",
            ),
            (
                "hubble: {lisen: here}",
                "hubble.lisen: expected one of socket, listen, tls, node, found \"lisen\"",
            ),
        ] {
            let errors = Config::parse("config.yaml", text).unwrap_err();
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(
                texts,
                [format!("config.yaml, document 1, {error}")],
                "{text}"
            );
        }
    }
}
