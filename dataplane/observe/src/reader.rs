//! One who reads a history at his own pace.

use super::cursor::Gap;
use super::event::Event;
use super::history::History;
use super::past::Past;
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
    place: Place,
    /// Earlier events are passed over: they are only nearly in the order of their times.
    since: Option<Timestamp>,
}

/// Memory or disk.
#[derive(Debug)]
pub(crate) enum Place {
    /// The number of its cursor.
    Memory(usize),
    /// On its way to memory.
    Past(Past),
}

impl Reader {
    pub(crate) const fn new(history: Arc<History>, place: Place, since: Option<Timestamp>) -> Self {
        Self {
            history,
            place,
            since,
        }
    }

    /// The number of the event that it reads next, or would if it were kept.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        match &self.place {
            Place::Memory(place) => self.history.lock().next_number(*place),
            Place::Past(past) => past.next(),
        }
    }

    /// The events that came since the last call, at most `max`, and what was missed before them.
    /// No events when there is nothing new yet.
    pub fn read(&mut self, max: usize) -> Batch {
        let mut batch = Batch::default();
        while batch.events.len() < max {
            let goes_on = match &self.place {
                Place::Memory(place) => self.read_memory(*place, &mut batch, max),
                Place::Past(_) => self.read_past(&mut batch, max),
            };
            if !goes_on {
                break;
            }
        }
        batch
    }

    /// Copies a piece of memory. False when the batch ends here.
    fn read_memory(&self, place: usize, batch: &mut Batch, max: usize) -> bool {
        let mut inner = self.history.lock();
        if batch.events.is_empty() {
            let (lost, unwritten) = inner.take_lost(place);
            batch.lost = Gap::both(batch.lost, lost);
            batch.unwritten += unwritten;
        } else if inner.has_missed(place) {
            // What is missed stands before the events of a batch.
            return false;
        }
        let copied = inner.copy_for(place, max - batch.events.len());
        drop(inner);
        let since = self.since;
        let wanted = |event: &Event| since.is_none_or(|since| event.time >= since);
        batch.events.extend(copied.events().filter(wanted));
        copied.len() > 0
    }

    /// Reads on on disk, or goes over to memory. False when the batch ends here.
    fn read_past(&mut self, batch: &mut Batch, max: usize) -> bool {
        let Place::Past(past) = &mut self.place else {
            return true;
        };
        while batch.events.len() < max {
            if past.has_lost() && !batch.events.is_empty() {
                return false;
            }
            batch.lost = Gap::both(batch.lost, past.take_lost());
            if let Some(event) = past.event() {
                if self.since.is_none_or(|since| event.time >= since) {
                    batch.events.push(event);
                }
            } else if !past.has_lost() {
                let mut arrived = self.history.arrive(past, false);
                if let Err(end) = arrived
                    && !past.turn_page(end)
                {
                    arrived = self.history.arrive(past, true);
                }
                if let Ok(place) = arrived {
                    self.place = Place::Memory(place);
                    return true;
                }
            }
        }
        true
    }

    /// Waits for something new. False when the history was closed.
    pub fn wait(&self, longest: Duration) -> bool {
        let mut inner = self.history.lock();
        if inner.is_closed {
            return false;
        }
        let has_more = match self.place {
            Place::Memory(place) => inner.has_more(place),
            Place::Past(_) => true,
        };
        if has_more {
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
        if let Place::Memory(place) = self.place {
            self.history.lock().cursors.remove(place);
        }
    }
}
