//! Hubble's API on a unix socket, and by TCP where that is asked for.

use crate::accept;
use crate::observer::ObserverService;
use crate::peer::PeerService;
use crate::servers::Servers;
use crate::sources::Sources;
use crate::tls::TlsSettings;
use crate::wire::DESCRIPTORS;
use crate::wire::observer::observer_server::ObserverServer;
use crate::wire::peer::peer_server::PeerServer;
use axum::Router;
use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use tonic::service::Routes;

/// The name that Hubble's clients ask the health of: not that of its service.
const HEALTH_NAME: &str = "hubble.server.Observer";
/// Bytes of a request: filters are small.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Where the API is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// The unix socket.
    pub socket: PathBuf,
    /// TCP, where it is asked for.
    pub listen: Option<SocketAddr>,
    /// Certificates for TCP.
    pub tls: Option<TlsSettings>,
}

impl ApiSettings {
    /// That strangers are kept out.
    ///
    /// # Errors
    /// When the address can be reached from elsewhere and clients need no certificate.
    pub fn check(&self) -> Result<(), String> {
        let Some(listen) = self.listen else {
            return Ok(());
        };
        let has_client_ca = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if listen.ip().is_loopback() || has_client_ca {
            return Ok(());
        }
        Err(format!(
            "hubble.listen: {listen} can be reached from elsewhere: expected hubble.tls with \
             clientCa, or a loopback address"
        ))
    }
}

impl Servers {
    /// Serves the API until the process ends. Gives its address on TCP: of port 0 the one that was
    /// chosen.
    ///
    /// # Errors
    /// What `ApiSettings::check` says, certificates that do not fit, a socket or an address that
    /// is taken.
    pub fn start(
        &self,
        settings: &ApiSettings,
        sources: &Sources,
    ) -> Result<Option<SocketAddr>, String> {
        settings.check()?;
        let tls = settings.tls.as_ref().map(TlsSettings::acceptor);
        let tls = tls.transpose().map_err(|e| format!("hubble.tls: {e}"))?;
        let socket = &settings.socket;
        let unix = listen(socket).map_err(|e| format!("{}: {e}", socket.display()))?;
        let unix = self
            .within(|| tokio::net::UnixListener::from_std(unix))
            .map_err(|e| format!("{}: {e}", socket.display()))?;
        self.sockets().push(socket.clone());
        let bound = settings.listen.map(|listen| {
            self.bind(listen)
                .map_err(|e| format!("hubble.listen: {listen}: {e}"))
        });
        let bound = bound.transpose()?;
        let address = match &bound {
            Some((_, address)) => address.to_string(),
            None => format!("unix://{}", socket.display()),
        };
        let router = self.router(sources, &address, tls.is_some() && bound.is_some())?;
        self.spawn(accept::serve_unix(unix, router.clone()));
        Ok(bound.map(|(listener, address)| {
            self.spawn(accept::serve_tcp(listener, tls, router));
            address
        }))
    }

    fn router(&self, sources: &Sources, address: &str, is_tls: bool) -> Result<Router, String> {
        let (reporter, health) = tonic_health::server::health_reporter();
        self.block_on(async {
            for name in ["", HEALTH_NAME, "observer.Observer", "peer.Peer"] {
                let serving = tonic_health::ServingStatus::Serving;
                reporter.set_service_status(name, serving).await;
            }
        });
        let fault = |e: tonic_reflection::server::Error| format!("reflection: {e}");
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let observer = ObserverService::new(sources.clone(), address.to_owned(), is_tls);
        let peer = PeerService {
            node: sources.node.clone(),
            address: address.to_owned(),
            is_tls,
        };
        let mut routes = Routes::builder();
        routes
            .add_service(health)
            .add_service(ObserverServer::new(observer).max_decoding_message_size(REQUEST_BYTES_MAX))
            .add_service(PeerServer::new(peer))
            .add_service(reflection().build_v1().map_err(fault)?)
            .add_service(reflection().build_v1alpha().map_err(fault)?);
        Ok(routes.routes().into_axum_router())
    }
}

/// Makes a socket for root alone.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another daemon listens there",
        ));
    }
    // What a daemon that was killed left behind.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
