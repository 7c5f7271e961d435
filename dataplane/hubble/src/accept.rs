//! Takes connections, of a unix socket or of TCP with or without TLS, and serves them: HTTP/1.1
//! and HTTP/2, so gRPC, too.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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
/// A connection on which nothing has been answered but refusals is given up after this time:
/// strangers, who know no token, are not to hold all places.
const STRANGE_MAX: Duration = if cfg!(test) {
    Duration::from_millis(500)
} else {
    Duration::from_secs(10)
};
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
    let is_welcome = Arc::new(AtomicBool::new(false));
    let noted = middleware::from_fn_with_state(Arc::clone(&is_welcome), note);
    let service = TowerToHyperService::new(router.layer(noted));
    let mut served = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    // Whoever went away knows it.
    tokio::select! {
        _ = &mut served => {}
        () = tokio::time::sleep(STRANGE_MAX) => {
            if is_welcome.load(Relaxed) {
                let _ = served.await;
            }
        }
    }
    drop(place);
}

/// Notes that a call was answered with more than a refusal.
async fn note(State(is_welcome): State<Arc<AtomicBool>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if !response.status().is_client_error() {
        is_welcome.store(true, Relaxed);
    }
    response
}
