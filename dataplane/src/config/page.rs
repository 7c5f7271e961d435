//! Where the page is served, and to whom.

use serde::{Deserialize, Deserializer};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Port of the page, beside those of Hubble's API.
const PORT: u16 = 4246;

/// How the page is served. Beyond loopback it needs both a token and TLS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct PageConfig {
    /// Address and port; None, written `off`, for no page.
    #[serde(deserialize_with = "listen")]
    pub listen: Option<SocketAddr>,
    /// File with what a reader must know.
    pub token_file: Option<PathBuf>,
    /// File with the certificates to show, in PEM.
    pub certificate_file: Option<PathBuf>,
    /// File with their key, in PEM.
    pub key_file: Option<PathBuf>,
}

impl Default for PageConfig {
    fn default() -> Self {
        Self {
            listen: Some((Ipv4Addr::LOCALHOST, PORT).into()),
            token_file: None,
            certificate_file: None,
            key_file: None,
        }
    }
}

fn listen<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let fault = |found: String| {
        let expected = "off, or an address and a port such as \"127.0.0.1:4246\"";
        serde::de::Error::custom(format!("expected {expected}, found {found}"))
    };
    match serde_json::Value::deserialize(from)? {
        // YAML may read the word as a truth.
        serde_json::Value::Bool(false) => Ok(None),
        serde_json::Value::String(text) if text == "off" => Ok(None),
        serde_json::Value::String(text) => match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(fault(format!("\"{text}\""))),
        },
        other => Err(fault(other.to_string())),
    }
}
