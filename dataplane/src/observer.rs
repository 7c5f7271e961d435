//! Takes records from the workers, gives them their wall-clock time and names, and keeps them.

use crate::observe::{Event, History};
use crate::status_view::StatusView;
use crate::worker::{Observed, now};
use crossbeam::queue::ArrayQueue;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Records wait at most this long before readers see them.
const PERIOD: Duration = Duration::from_millis(25);
/// Records that are joined at one time.
const BATCH: usize = 4096;

/// Works until the process ends.
pub fn run(queues: &[Arc<ArrayQueue<Observed>>], view: &StatusView, history: &History) -> ! {
    let mut events = Vec::with_capacity(BATCH);
    loop {
        let (wall, monotonic) = (Timestamp::now(), now());
        for queue in queues {
            while events.len() < BATCH
                && let Some(Observed { time, record }) = queue.pop()
            {
                let age = monotonic.0.saturating_sub(time.0);
                let age = SignedDuration::from_nanos(i64::try_from(age).unwrap_or(i64::MAX));
                let time = wall.checked_sub(age).unwrap_or(wall);
                events.push(Event::new(time, record, view.names(record.generation)));
            }
        }
        let is_behind = events.len() == BATCH;
        if !events.is_empty() {
            events.sort_by_key(|event| event.time);
            history.extend(events.drain(..));
        }
        if !is_behind {
            std::thread::sleep(PERIOD);
        }
    }
}
