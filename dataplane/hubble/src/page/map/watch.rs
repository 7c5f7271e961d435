//! The thread that counts: it reads the history at its own pace, so nobody waits for it.

use super::service_map::{MapSettings, ServiceMap};
use crate::sources::Sources;
use jiff::Timestamp;
use portcullis_observe::Reader;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Events that are counted before somebody may look.
const BATCH: usize = 1024;
/// How often readers see what changed.
const PERIOD: Duration = Duration::from_secs(1);

/// The map, of the thread that counts and of those who look.
#[derive(Debug, Clone)]
pub(crate) struct SharedMap(Arc<Mutex<ServiceMap>>);

impl SharedMap {
    /// Looks, or counts.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ServiceMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts from now on what is kept and what comes, until the history is closed. `prepare` runs
/// first on the thread that does it.
///
/// # Errors
/// When there are too many threads.
pub(crate) fn start(
    sources: &Sources,
    prepare: impl FnOnce() + Send + 'static,
) -> Result<SharedMap, String> {
    let map = SharedMap(Arc::new(Mutex::new(
        ServiceMap::new(MapSettings::default()),
    )));
    let (shared, sources) = (map.clone(), sources.clone());
    std::thread::Builder::new()
        .name("map".into())
        .spawn(move || {
            prepare();
            run(sources.history.reader(), &sources, &shared);
        })
        .map_err(|e| format!("cannot start thread map: {e}"))?;
    Ok(map)
}

fn run(mut reader: Reader, sources: &Sources, map: &SharedMap) {
    let mut ticked = Instant::now();
    while reader.wait(PERIOD) {
        while take(&mut reader, map) && ticked.elapsed() < PERIOD {}
        if ticked.elapsed() >= PERIOD {
            ticked = Instant::now();
            let names = sources.agent.names();
            map.lock().tick(Timestamp::now().as_second(), &names);
        }
    }
}

/// Counts one batch. False when there is nothing more.
fn take(reader: &mut Reader, map: &SharedMap) -> bool {
    let batch = reader.read(BATCH);
    let mut map = map.lock();
    map.lose(batch.lost.map_or(0, |gap| gap.count) + batch.unwritten);
    for event in &batch.events {
        map.take(event);
    }
    !batch.events.is_empty()
}
