//! Certificates of a listener: what is wrong with a file is said with its name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Files of a listener that speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM with our certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// PEM with its private key.
    pub key: PathBuf,
    /// PEM with the authorities of clients. With it, a client without a certificate is refused.
    pub client_ca: Option<PathBuf>,
}

impl TlsSettings {
    /// Reads the files.
    ///
    /// # Errors
    /// A file that cannot be read, holds nothing of its kind, or does not fit the others.
    pub fn acceptor(&self) -> Result<TlsAcceptor, String> {
        let certificates = certificates(&self.certificate)?;
        let key = private_key(&self.key)?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS: {e}"))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for authority in self::certificates(file)? {
                    roots
                        .add(authority)
                        .map_err(|e| format!("{}: {e}", file.display()))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|e| format!("{}: {e}", file.display()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(certificates, key).map_err(|e| {
            format!(
                "{} and {}: {e}",
                self.certificate.display(),
                self.key.display()
            )
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|e| format!("{}: cannot be read: {e}", file.display()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(file)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("{}: {e}", file.display()))?;
    if certificates.is_empty() {
        return Err(format!(
            "{}: expected certificates in PEM, found none",
            file.display()
        ));
    }
    Ok(certificates)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read(file)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| match e {
        pem::Error::NoItemsFound => format!(
            "{}: expected a private key in PEM, found none",
            file.display()
        ),
        other => format!("{}: {other}", file.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_name() {
        let missing = TlsSettings {
            certificate: "/nowhere/server.pem".into(),
            key: "/nowhere/server.key".into(),
            client_ca: None,
        };
        let error = missing.acceptor().err().unwrap();
        assert!(
            error.starts_with("/nowhere/server.pem: cannot be read: "),
            "{error}"
        );
        let empty = TlsSettings {
            certificate: "/dev/null".into(),
            ..missing
        };
        assert_eq!(
            empty.acceptor().err().unwrap(),
            "/dev/null: expected certificates in PEM, found none"
        );
    }
}
