//! The thread that counts: it reads the history at its own pace, so neither a worker nor the
//! observer ever waits for it, and a scrape only for the batch in hand.

use super::flow_collector::SharedCounts;
use crate::sources::Sources;
use portcullis_observe::Reader;
use std::time::{Duration, Instant};

/// Events that are counted before a scrape may look.
const BATCH: usize = 1024;
/// How often it is looked which pods are gone, and what is to be counted.
const PERIOD: Duration = Duration::from_secs(1);

/// Counts until the history is closed.
pub(super) fn run(mut reader: Reader, sources: &Sources, counts: &SharedCounts) {
    let mut looked = Instant::now();
    let mut in_force = None;
    while reader.wait(PERIOD) {
        while take(&mut reader, counts) {}
        if looked.elapsed() >= PERIOD {
            looked = Instant::now();
            let names = sources.agent.names();
            counts.lock().forget_gone(&names, looked);
            let wanted = sources.agent.metrics_settings();
            if wanted != in_force
                && let Some(settings) = &wanted
            {
                counts.lock().change(settings);
            }
            in_force = wanted;
        }
    }
}

/// Counts one batch. False when there is nothing more.
pub(super) fn take(reader: &mut Reader, counts: &SharedCounts) -> bool {
    let batch = reader.read(BATCH);
    let mut counts = counts.lock();
    counts.lost.ring += batch.lost.map_or(0, |gap| gap.count);
    counts.lost.queue += batch.unwritten;
    for event in &batch.events {
        counts.count(event);
    }
    !batch.events.is_empty()
}
