//! Settings of Hubble's API.

use portcullis_hubble::{ApiSettings, TlsSettings};
use portcullis_policy::DocumentError;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

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

/// What would let strangers in.
pub(super) fn faults(file: &str, hubble: &HubbleConfig) -> Vec<DocumentError> {
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
    faults
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "expected an address with its port such as 127.0.0.1:4244, found \"{text}\""
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
                    clientCa: /ca}}\n";
        let config = Config::parse("config.yaml", text).unwrap();
        let api = config
            .hubble
            .settings("/run/portcullis/portcullis.sock".as_ref());
        assert_eq!(api.socket.to_str(), Some("/run/portcullis/hubble.sock"));
        assert_eq!(api.listen, Some("0.0.0.0:4244".parse().unwrap()));
        let told = Config::default().restart_needed_for(&config);
        assert_eq!(told, ["hubble"]);
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
                "hubble: {listen: here}",
                "hubble.listen: expected an address with its port such as 127.0.0.1:4244, found \
                 \"here\"",
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
