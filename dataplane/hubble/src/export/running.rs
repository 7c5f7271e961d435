//! The export that runs: exchanged when its settings are, without an event lost or written twice.

use super::counts::ExportCounts;
use super::exporter::Exporter;
use super::settings::ExportSettings;
use crate::sources::Sources;
use portcullis_observe::Position;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Writes flows by the settings that it was given last.
pub struct Exports {
    sources: Sources,
    counts: Arc<ExportCounts>,
    /// Runs first on each thread.
    prepare: fn(),
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    settings: ExportSettings,
    /// The number of the first event that its successor writes, and its thread; None where nothing is
    /// written.
    writer: Option<(Arc<AtomicU64>, JoinHandle<()>)>,
}

impl Exports {
    /// Writes nothing yet.
    #[must_use]
    pub fn new(sources: &Sources, counts: &Arc<ExportCounts>, prepare: fn()) -> Self {
        Self {
            sources: sources.clone(),
            counts: Arc::clone(counts),
            prepare,
            running: Mutex::default(),
        }
    }

    /// Writes by these settings what comes from now on. What came before is written by those before.
    ///
    /// # Errors
    /// Filters and fields that cannot be understood; when there are too many threads. Then nothing is
    /// changed.
    pub fn apply(&self, settings: &ExportSettings) -> Result<(), String> {
        let mut running = self.lock();
        if running.settings == *settings {
            return Ok(());
        }
        let exporter = Exporter::new(settings, &self.sources, &self.counts)?;
        let reader = self.sources.history.reader_at(Position::Newest);
        let before = running.writer.take().map(|(end, thread)| {
            end.store(reader.next_number(), Ordering::Release);
            thread
        });
        running.settings = settings.clone();
        let Some(exporter) = exporter else {
            return Ok(());
        };
        let (end, prepare) = (Arc::new(AtomicU64::new(u64::MAX)), self.prepare);
        let until = Arc::clone(&end);
        let thread = Builder::new().name("export".into()).spawn(move || {
            prepare();
            // Two must not write into one file. One that has panicked has told so.
            let _ = before.map(JoinHandle::join);
            exporter.run(reader, &until);
        });
        let thread = thread.map_err(|e| format!("cannot start thread export: {e}"))?;
        running.writer = Some((end, thread));
        Ok(())
    }

    /// Waits until all is written, once the history is closed.
    pub fn join(&self) {
        let writer = self.lock().writer.take();
        let _ = writer.map(|(_, thread)| thread.join());
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
