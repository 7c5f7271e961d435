//! Keeps history on disk, in a thread of its own: a slow disk holds up neither workers nor observer.

use crate::config::SegmentsConfig;
use crate::observe::{History, Position, SegmentSettings, SegmentWriter, Segments};
use crate::status_view::StatusView;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Events that are taken from history at one time.
const BATCH: usize = 4096;
/// What is not written yet is looked at this often.
const PERIOD: Duration = Duration::from_secs(1);

/// Finds what an earlier daemon has kept.
///
/// # Errors
/// When the directory cannot be made or read.
pub fn open(config: &SegmentsConfig) -> Result<Arc<Segments>, String> {
    let settings = SegmentSettings {
        directory: config.directory.clone(),
        bytes_max: u64::from(config.max_megabytes) << 20,
        age_max: config.max_age,
    };
    let segments = Segments::open(settings).map_err(|e| {
        let directory = config.directory.display();
        format!("config.yaml, observeSegments.directory: {directory}: {e}")
    })?;
    Ok(Arc::new(segments))
}

/// Writes what comes until the history is closed.
pub fn run(history: &Arc<History>, segments: Arc<Segments>, view: &StatusView) {
    let directory = segments.settings().directory.clone();
    let fault = |result: std::io::Result<()>| {
        if let Err(e) = result {
            let directory = directory.display();
            view.fault(format!("{directory}: history could not be written: {e}"));
        }
    };
    let mut reader = history.reader_at(Position::Oldest);
    let mut writer = SegmentWriter::new(segments);
    loop {
        let is_open = reader.wait(PERIOD);
        let batch = reader.read(BATCH);
        let is_done = batch.events.is_empty() && !is_open;
        fault(writer.write(&batch, Timestamp::now()));
        if is_done {
            fault(writer.flush(Timestamp::now()));
            return;
        }
    }
}
