//! Takes connections, of a unix socket or of TCP with or without TLS, and serves them: HTTP/1.1
//! and HTTP/2, so gRPC, too.

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

/// Connections of one listener at one time: who comes later waits.
const CONNECTIONS_MAX: usize = 128;
/// Calls of one connection at one time.
const CALLS_MAX: u32 = 64;
/// A handshake takes at most this long.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A connection that does not answer is given up after twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// After a failure to accept, such as no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves a unix socket until the process ends.
pub(crate) async fn serve_unix(listener: UnixListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Some(place) = free_place(&places).await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, router.clone(), place));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Serves TCP until the process ends.
pub(crate) async fn serve_tcp(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Some(place) = free_place(&places).await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Single small messages follow each other on a stream of flows.
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        match tls.clone() {
            None => {
                tokio::spawn(serve(stream, router, place));
            }
            Some(tls) => {
                tokio::spawn(async move {
                    let shaken = tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await;
                    // A stranger who speaks no TLS is nobody's fault here.
                    if let Ok(Ok(stream)) = shaken {
                        serve(stream, router, place).await;
                    }
                });
            }
        }
    }
}

async fn free_place(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(places).acquire_owned().await.ok()
}

async fn serve<S>(stream: S, router: Router, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(CALLS_MAX);
    let service = TowerToHyperService::new(router);
    // The other side went away: it knows.
    let _ = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
    drop(place);
}
