//! Events that a server sends while a browser listens; few at one time.

use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::ReceiverStream;

/// Streams at one time.
const STREAMS_MAX: usize = 64;
/// Messages that wait for a slow browser: then whoever tells waits, too.
const WAITING_MAX: usize = 2;

/// How long a browser may take nothing before its place is given to another.
const STALL_MAX: Duration = if cfg!(test) {
    Duration::from_millis(200)
} else {
    Duration::from_secs(30)
};

/// Who listens has left, or does not listen.
#[derive(Debug)]
pub(super) struct HasLeft;

/// Places for those who listen.
#[derive(Debug)]
pub(super) struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STREAMS_MAX)))
    }
}

/// Tells one who listens.
pub(super) struct Teller {
    sender: Sender<Result<Event, Infallible>>,
    _place: OwnedSemaphorePermit,
}

impl Teller {
    /// Tells something by the name of its kind.
    pub(super) async fn tell(&self, kind: &str, what: &impl Serialize) -> Result<(), HasLeft> {
        let event = Event::default()
            .event(kind)
            .json_data(what)
            .map_err(|_| HasLeft)?;
        let sent = tokio::time::timeout(STALL_MAX, self.sender.send(Ok(event))).await;
        sent.map_err(|_| HasLeft)?.map_err(|_| HasLeft)
    }

    /// Waits, unless the other side leaves.
    pub(super) async fn pause(&self, time: Duration) -> Result<(), HasLeft> {
        match tokio::time::timeout(time, self.sender.closed()).await {
            Ok(()) => Err(HasLeft),
            Err(_) => Ok(()),
        }
    }
}

/// Answers with what `work` tells, until the other side leaves.
pub(super) fn serve<F: Future<Output = ()> + Send + 'static>(
    streams: &Streams,
    work: impl FnOnce(Teller) -> F,
) -> Response {
    let Ok(place) = Arc::clone(&streams.0).try_acquire_owned() else {
        let text = "too many listen already\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let (sender, receiver) = channel(WAITING_MAX);
    tokio::spawn(work(Teller {
        sender,
        _place: place,
    }));
    let stream = Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default());
    ([(header::CACHE_CONTROL, "no-store")], stream).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_takes_nothing_loses_its_place() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let streams = Streams::default();
            let talk =
                |teller: Teller| async move { while teller.tell("news", &1).await.is_ok() {} };
            let silent: Vec<Response> = (0..STREAMS_MAX).map(|_| serve(&streams, talk)).collect();
            let refused = serve(&streams, talk);
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
            tokio::time::sleep(4 * STALL_MAX).await;
            assert_eq!(serve(&streams, talk).status(), StatusCode::OK);
            drop(silent);
        });
    }
}
