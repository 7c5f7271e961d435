//! Keeps history on disk, in a thread of its own: a slow disk holds up neither workers nor observer.

use crate::config::SegmentsConfig;
use crate::observe::{History, Position, SegmentSettings, SegmentWriter, Segments};
use jiff::Timestamp;
use std::io;
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
pub fn run(history: &Arc<History>, segments: Arc<Segments>, fault: impl Fn(String)) {
    let directory = segments.settings().directory.clone();
    let mut told = None;
    let mut check = |result: io::Result<()>| {
        let Err(e) = result else { return };
        let directory = directory.display();
        let text = format!("{directory}: history could not be written: {e}");
        // A disk that stays full is told once, not with each block.
        if told.as_ref() != Some(&text) {
            told = Some(text.clone());
            fault(text);
        }
    };
    let mut reader = history.reader_at(Position::Oldest);
    let mut writer = SegmentWriter::new(segments);
    loop {
        let is_open = reader.wait(PERIOD);
        let batch = reader.read(BATCH);
        let is_done = batch.events.is_empty() && !is_open;
        check(writer.write(&batch, Timestamp::now()));
        if is_done {
            check(writer.flush(Timestamp::now()));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Event;
    use portcullis_engine::Record;

    #[test]
    fn what_is_not_written_yet_is_written_when_the_daemon_ends() {
        let name = format!("portcullis-keeper-{}", std::process::id());
        let config = SegmentsConfig {
            directory: std::env::temp_dir().join(name),
            max_megabytes: 16,
            max_age: Duration::from_secs(3600),
        };
        let segments = open(&config).unwrap();
        let history = Arc::new(History::with_segments(10_000, Arc::clone(&segments)));
        let kept = Arc::clone(&history);
        let keeper = std::thread::spawn(move || run(&kept, segments, |fault| panic!("{fault}")));
        for _ in 0..50 {
            let event = Event::new(Timestamp::now(), Record::BLANK, Arc::default());
            history.extend(std::iter::repeat_n(event, 100));
        }
        history.close();
        keeper.join().unwrap();
        let counts = open(&config).unwrap().counts();
        std::fs::remove_dir_all(&config.directory).unwrap();
        assert_eq!((counts.records, counts.lost), (5000, 0));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let config = SegmentsConfig {
            directory: "/proc/records".into(),
            max_megabytes: 16,
            max_age: Duration::from_secs(3600),
        };
        let error = open(&config).unwrap_err();
        let expected = "config.yaml, observeSegments.directory: /proc/records: ";
        assert!(error.starts_with(expected), "{error}");
    }
}
