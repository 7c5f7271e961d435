//! Takes records from the workers, gives them their wall-clock time and names, and keeps them.

use crate::counters::WorkerCounters;
use crate::observe::{Event, History, Names};
use crate::worker::{Observed, WorkerHandle, now};
use crossbeam::queue::ArrayQueue;
use jiff::{SignedDuration, Timestamp};
use portcullis_engine::Now;
use portcullis_policy::Generation;
use std::sync::Arc;
use std::time::Duration;

/// Records wait at most this long before readers see them.
const PERIOD: Duration = Duration::from_millis(25);
/// Records that are joined at one time.
const BATCH: usize = 4096;

/// A worker, as far as it tells something.
#[derive(Debug, Clone)]
pub struct Source {
    /// What it records.
    pub records: Arc<ArrayQueue<Observed>>,
    /// Where it counts what found no room.
    pub counters: Arc<WorkerCounters>,
}

impl Source {
    /// What a worker tells.
    #[must_use]
    pub fn of(worker: &WorkerHandle) -> Self {
        Self {
            records: Arc::clone(&worker.records),
            counters: Arc::clone(&worker.counters),
        }
    }
}

/// Works until the process ends. `names_of` gives the names of a generation.
pub fn run(
    sources: &[Source],
    names_of: impl Fn(Generation) -> Arc<Names>,
    history: &History,
) -> ! {
    let mut observer = Observer::new(names_of);
    loop {
        let is_behind = observer.turn(sources, history, (Timestamp::now(), now()));
        if !is_behind {
            std::thread::sleep(PERIOD);
        }
    }
}

struct Observer<F> {
    events: Vec<Event>,
    names_of: F,
    /// Of the record before: nearly always of the next one, too.
    names: Option<(Generation, Arc<Names>)>,
}

impl<F: Fn(Generation) -> Arc<Names>> Observer<F> {
    fn new(names_of: F) -> Self {
        Self {
            events: Vec::with_capacity(BATCH),
            names_of,
            names: None,
        }
    }

    /// Takes what there is, up to a batch. True when a worker may have more.
    fn turn(
        &mut self,
        sources: &[Source],
        history: &History,
        (wall, monotonic): (Timestamp, Now),
    ) -> bool {
        // One worker that is flooded must not keep the others' queues full.
        let share = BATCH / sources.len().max(1);
        let mut is_behind = false;
        for source in sources {
            let mut left = share;
            while left > 0
                && let Some(Observed { time, record }) = source.records.pop()
            {
                let age = monotonic.0.saturating_sub(time.0);
                let age = SignedDuration::from_nanos(i64::try_from(age).unwrap_or(i64::MAX));
                let time = wall.checked_sub(age).unwrap_or(wall);
                let names = self.names(record.generation);
                self.events.push(Event::new(time, record, names));
                left -= 1;
            }
            is_behind |= left == 0;
        }
        self.events.sort_by_key(|event| event.time);
        history.extend(self.events.drain(..));
        let lost = sources
            .iter()
            .map(|source| source.counters.records_lost.get());
        history.set_unwritten(lost.sum());
        is_behind
    }

    fn names(&mut self, generation: Generation) -> Arc<Names> {
        if let Some((known, names)) = &self.names
            && *known == generation
        {
            return Arc::clone(names);
        }
        let names = (self.names_of)(generation);
        self.names = Some((generation, Arc::clone(&names)));
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_engine::Record;

    fn source(room: usize) -> Source {
        Source {
            records: Arc::new(ArrayQueue::new(room)),
            counters: Arc::default(),
        }
    }

    /// What a worker does with a record.
    fn tell(source: &Source, time: u64, length: u32) {
        let record = Record {
            length,
            ..Record::BLANK
        };
        let time = Now(time);
        if source.records.push(Observed { time, record }).is_err() {
            source.counters.records_lost.add(1);
        }
    }

    #[test]
    fn records_of_all_workers_come_in_the_order_of_their_times_and_losses_are_counted() {
        let (history, sources) = (Arc::new(History::new(100)), [source(3), source(3)]);
        let mut reader = history.reader();
        for number in 0..5_u32 {
            tell(&sources[0], u64::from(2 * number), 2 * number);
        }
        tell(&sources[1], 1, 1);
        let mut observer = Observer::new(|_| Arc::default());
        let moment = (Timestamp::UNIX_EPOCH, Now(10));
        assert!(!observer.turn(&sources, &history, moment));
        let batch = reader.read(100);
        let told: Vec<_> = batch
            .events
            .iter()
            .map(|event| (event.time.as_nanosecond(), event.record.length))
            .collect();
        assert_eq!(told, [(-10, 0), (-9, 1), (-8, 2), (-6, 4)]);
        assert_eq!((batch.unwritten, history.counts_all().unwritten), (2, 2));
    }

    #[test]
    fn a_flooded_worker_does_not_keep_the_others_waiting() {
        let (history, sources) = (History::new(2 * BATCH), [source(2 * BATCH), source(10)]);
        for number in 0..2 * BATCH as u64 {
            tell(&sources[0], number, 0);
        }
        tell(&sources[1], 0, 1);
        let mut observer = Observer::new(|_| Arc::default());
        assert!(observer.turn(&sources, &history, (Timestamp::UNIX_EPOCH, Now(0))));
        assert!(sources[1].records.is_empty());
        assert_eq!(history.counts().1, BATCH as u64 / 2 + 1);
    }
}
