//! The threads that serve: few, of their own, behind the workers.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// Threads that serve. Two, so that one long answer does not keep others waiting.
const THREADS: usize = 2;

/// Runs everything that listens, until it is dropped.
#[derive(Debug)]
pub struct Servers {
    runtime: Runtime,
    /// Sockets that go with it.
    sockets: Mutex<Vec<PathBuf>>,
}

impl Servers {
    /// Threads without anything to serve yet; each begins with `prepare`, which lowers its priority.
    ///
    /// # Errors
    /// When no threads can be made.
    pub fn new(prepare: impl Fn() + Send + Sync + 'static) -> Result<Self, String> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(THREADS)
            .thread_name("hubble")
            .on_thread_start(prepare)
            .enable_all()
            .build()
            .map_err(|e| format!("cannot start the threads of the servers: {e}"))?;
        Ok(Self {
            runtime,
            sockets: Mutex::default(),
        })
    }

    /// Runs something beside what is served.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(crate) fn sockets(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bind(&self, address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
        self.runtime.block_on(async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        })
    }

    /// What is registered with the threads' loop is made among them.
    pub(crate) fn within<T>(&self, make: impl FnOnce() -> T) -> T {
        let _among = self.runtime.enter();
        make()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for socket in self.sockets().drain(..) {
            // Somebody may have taken it away: that is all we want.
            let _ = std::fs::remove_file(socket);
        }
    }
}
