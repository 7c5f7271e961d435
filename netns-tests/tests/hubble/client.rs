//! A client of Hubble's API inside of a node's namespaces.

use hyper_util::rt::TokioIo;
use netns_tests::Lab;
use portcullis_hubble::wire::flow::{Flow, LostEvent};
use portcullis_hubble::wire::observer::get_flows_response::ResponseTypes;
use portcullis_hubble::wire::observer::observer_client::ObserverClient;
use portcullis_hubble::wire::observer::{GetFlowsRequest, GetFlowsResponse};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// Where the daemon of a Lab serves the API.
pub const SOCKET: &str = "/run/hubble.sock";
/// The longest that a test waits for an answer.
const LONGEST: Duration = Duration::from_secs(90);

/// Runs a client in the node of a Lab.
pub fn within<T, F>(lab: &Lab, work: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let client = lab.node.thread(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(LONGEST, work())
                .await
                .expect("an answer in time")
        })
    });
    match client.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// A connection to the unix socket.
pub async fn channel() -> Channel {
    let connect = service_fn(|_| async {
        Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(SOCKET).await?))
    });
    let endpoint = Endpoint::from_static("http://hubble");
    let channel = endpoint.connect_with_connector(connect).await;
    channel.expect("the daemon serves its socket")
}

/// A client at the unix socket.
pub async fn observer() -> ObserverClient<Channel> {
    ObserverClient::new(channel().await)
}

/// Everything that a request brings.
pub async fn answers(request: GetFlowsRequest) -> Result<Vec<GetFlowsResponse>, Status> {
    let mut stream = observer().await.get_flows(request).await?.into_inner();
    let mut answers = Vec::new();
    while let Some(answer) = stream.message().await? {
        answers.push(answer);
    }
    Ok(answers)
}

/// The flows that a request brings.
pub fn flows(lab: &Lab, request: GetFlowsRequest) -> Vec<Flow> {
    let answers = within(lab, || answers(request)).expect("a right request");
    answers.into_iter().filter_map(flow).collect()
}

/// The flow of an answer.
pub fn flow(answer: GetFlowsResponse) -> Option<Flow> {
    match answer.response_types {
        Some(ResponseTypes::Flow(flow)) => Some(flow),
        _ => None,
    }
}

/// The loss of an answer.
pub fn lost(answer: &GetFlowsResponse) -> Option<&LostEvent> {
    match &answer.response_types {
        Some(ResponseTypes::LostEvents(lost)) => Some(lost),
        _ => None,
    }
}

/// A connection to TCP with TLS; with a certificate of our own where one is given.
pub async fn channel_tls(
    address: &'static str,
    authority: &str,
    own: Option<(&str, &str)>,
) -> Result<Channel, String> {
    let read = |file: &str| std::fs::read(file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let certificates = |file: &str| {
        let pem = read(file);
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        all.expect("PEM")
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority) {
        roots.add(certificate).expect("a certificate");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_slice(&read(key)).expect("a key in PEM");
            builder
                .with_client_auth_cert(certificates(certificate), key)
                .expect("they fit")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("hubble.test").expect("a name");
            Ok::<_, io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    Endpoint::from_static("http://hubble.test")
        .connect_with_connector(connect)
        .await
        .map_err(|error| error.to_string())
}
