//! One who reads a history at his own pace.

use super::cursor::Gap;
use super::event::Event;
use super::history::History;
use jiff::Timestamp;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// With the oldest event that is kept in memory.
    Oldest,
    /// With the next one that comes.
    Newest,
    /// With the first one that is not before this time.
    Since(Timestamp),
    /// With the one that has this number, or the oldest after it.
    Number(u64),
}

/// What a reader gets at one time.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// What it missed before these events, because it was too slow.
    pub lost: Option<Gap>,
    /// Records that workers made since the last batch and had no room for: nobody sees these.
    pub unwritten: u64,
    /// What came, in the order of their numbers.
    pub events: Vec<Event>,
}

/// Where one reader stands. A slow one costs nobody anything: it misses events, and is told which.
#[derive(Debug)]
pub struct Reader {
    history: Arc<History>,
    place: usize,
    /// Earlier events are passed over: they are only nearly in the order of their times.
    since: Option<Timestamp>,
}

impl Reader {
    pub(crate) const fn new(history: Arc<History>, place: usize, since: Option<Timestamp>) -> Self {
        Self {
            history,
            place,
            since,
        }
    }

    /// The events that came since the last call, at most `max`, and what was missed before them.
    /// No events when there is nothing new yet.
    pub fn read(&mut self, max: usize) -> Batch {
        let mut batch = Batch::default();
        while batch.events.len() < max {
            let mut inner = self.history.lock();
            if batch.events.is_empty() {
                let (lost, unwritten) = inner.take_lost(self.place);
                batch.lost = Gap::both(batch.lost, lost);
                batch.unwritten += unwritten;
            } else if inner.has_missed(self.place) {
                // What is missed stands before the events of a batch.
                break;
            }
            let copied = inner.copy_for(self.place, max - batch.events.len());
            drop(inner);
            if copied.len() == 0 {
                break;
            }
            let wanted = |event: &Event| self.since.is_none_or(|since| event.time >= since);
            batch.events.extend(copied.events().filter(wanted));
        }
        batch
    }

    /// Waits for something new. False when the history was closed.
    pub fn wait(&self, longest: Duration) -> bool {
        let mut inner = self.history.lock();
        if inner.is_closed {
            return false;
        }
        if inner.has_more(self.place) {
            return true;
        }
        let (inner, _) = self
            .history
            .arrived
            .wait_timeout(inner, longest)
            .unwrap_or_else(PoisonError::into_inner);
        !inner.is_closed
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.history.lock().cursors.remove(self.place);
    }
}
