//! The last flows and drops, for any number of readers at their own pace.

use super::copied::Copied;
use super::cursor::{Cursor, Cursors, Gap};
pub use super::event::Event;
pub use super::names::Names;
use super::names_table::NamesTable;
use super::past::Past;
use super::rate::Rate;
use super::reader::{Place, Position, Reader};
use super::reduction::Reduction;
use super::ring::Ring;
use super::segment::Segments;
use super::stored::{Stored, nanoseconds, timestamp};
use jiff::Timestamp;
use portcullis_policy::Generation;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Records that are copied in or out at one time: nobody else waits longer than for these.
const BATCH: usize = 1024;
/// Generations whose names are kept whole. Of older ones is kept what their records need.
const NAMES_WHOLE_MAX: usize = 64;

/// A bounded history: old events make room for new ones, and a reader that is too slow is told which
/// it missed. Events are packed as they come in and unpacked outside of the lock as they are read.
#[derive(Debug)]
pub struct History {
    inner: Mutex<Inner>,
    pub(crate) arrived: Condvar,
    capacity: usize,
    segments: Option<Arc<Segments>>,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) ring: Ring,
    names: NamesTable,
    reduction: Option<Reduction>,
    pub(crate) cursors: Cursors,
    rate: Rate,
    written: u64,
    /// Records that never came here.
    unwritten: u64,
    pub(crate) is_closed: bool,
}

/// How much a history holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryCounts {
    /// Events that are kept now.
    pub kept: usize,
    /// Events that it keeps at most.
    pub kept_max: usize,
    /// All that were written.
    pub written: u64,
    /// Records that were not, because the queue of a worker was full.
    pub unwritten: u64,
    /// When the oldest event that is kept in memory was.
    pub oldest: Option<Timestamp>,
    /// Bytes of memory for records; names are not in it.
    pub bytes: usize,
    /// Sets of names that records refer to.
    pub names: usize,
}

impl History {
    /// A history of the last `capacity` events, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::make(capacity, None)
    }

    /// A history that goes on where the one on disk ends, and is read from there when its memory
    /// does not reach back far enough. It does not write there: a `SegmentWriter` does.
    #[must_use]
    pub fn with_segments(capacity: usize, segments: Arc<Segments>) -> Self {
        Self::make(capacity, Some(segments))
    }

    fn make(capacity: usize, segments: Option<Arc<Segments>>) -> Self {
        let next = segments
            .as_ref()
            .map_or(0, |segments| segments.next_number());
        Self {
            inner: Mutex::new(Inner {
                ring: Ring::new(next),
                names: NamesTable::default(),
                reduction: None,
                cursors: Cursors::default(),
                rate: Rate::default(),
                written: 0,
                unwritten: 0,
                is_closed: false,
            }),
            arrived: Condvar::new(),
            capacity: capacity.max(1),
            segments,
        }
    }

    /// Adds events, and lets readers know. One thread alone may, or numbers are not in its order.
    pub fn extend(&self, events: impl IntoIterator<Item = Event>) {
        let mut events = events.into_iter();
        loop {
            let mut packed: Vec<_> = events
                .by_ref()
                .take(self.capacity.min(BATCH))
                .map(|event| {
                    let stored = Stored::new(event.time, &event.record, 0);
                    (stored, event.record.generation, event.names)
                })
                .collect();
            if packed.is_empty() {
                return;
            }
            let gone = self.lock().add(&mut packed, self.capacity);
            self.arrived.notify_all();
            // Names of a large cluster take their time to be freed: not while others wait.
            drop(gone);
            self.reduce_names();
        }
    }

    /// Goes on with the oldest names that are to be reduced, as far as one batch takes it.
    fn reduce_names(&self) {
        let mut inner = self.lock();
        let Some(mut reduction) = inner.take_reduction() else {
            return;
        };
        let copied = inner.copy(reduction.next.max(inner.ring.oldest()), BATCH);
        drop(inner);
        reduction.note(&copied);
        let mut inner = self.lock();
        let mut whole = None;
        if inner.names.is_reduced(&reduction) {
            whole = Some(inner.names.reduce(reduction));
        } else {
            inner.reduction = Some(reduction);
        }
        drop(inner);
        drop(whole);
    }

    /// Tells how many records workers have lost so far, all of them together.
    pub fn set_unwritten(&self, total: u64) {
        self.lock().unwritten = total;
    }

    /// Ends every reader that waits.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_all();
    }

    /// Events that are kept now, and all there ever were.
    #[must_use]
    pub fn counts(&self) -> (usize, u64) {
        let inner = self.lock();
        (inner.ring.len(), inner.written)
    }

    /// How much it holds, and has held.
    #[must_use]
    pub fn counts_all(&self) -> HistoryCounts {
        let inner = self.lock();
        HistoryCounts {
            kept: inner.ring.len(),
            kept_max: self.capacity,
            written: inner.written,
            unwritten: inner.unwritten,
            oldest: inner.oldest_time(),
            bytes: inner.ring.memory(),
            names: inner.names.len(),
        }
    }

    /// When the oldest event that is kept was, in memory or on disk.
    #[must_use]
    pub fn oldest_time(&self) -> Option<Timestamp> {
        let segments = self.segments.as_ref().map(|segments| segments.counts());
        let on_disk = segments.and_then(|counts| counts.oldest);
        on_disk.or_else(|| self.lock().oldest_time())
    }

    /// What is kept on disk, where that is asked for.
    #[must_use]
    pub const fn segments(&self) -> Option<&Arc<Segments>> {
        self.segments.as_ref()
    }

    /// Events a second, over the minute before `now`.
    #[must_use]
    pub fn flows_rate(&self, now: Timestamp) -> f64 {
        self.lock().rate.per_second(now)
    }

    /// A reader that begins with the oldest event that is kept.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> Reader {
        self.reader_at(Position::Oldest)
    }

    /// A reader that begins elsewhere: on disk, where memory does not reach back far enough. What is
    /// not kept any more when it begins it has not missed.
    #[must_use]
    pub fn reader_at(self: &Arc<Self>, position: Position) -> Reader {
        let since = match position {
            Position::Since(time) => Some(time),
            _ => None,
        };
        if let Some(past) = self.past(position) {
            return Reader::new(Arc::clone(self), Place::Past(past), since);
        }
        let mut inner = self.lock();
        let (oldest, next) = (inner.ring.oldest(), inner.ring.next());
        let start = match position {
            Position::Oldest => oldest,
            Position::Newest => next,
            Position::Since(time) => inner.ring.seek(nanoseconds(time)),
            Position::Number(number) => number.clamp(oldest, next),
        };
        let place = inner.begin(start, None);
        Reader::new(Arc::clone(self), Place::Memory(place), since)
    }

    /// Where a position lies on disk, if it is older than memory.
    fn past(&self, position: Position) -> Option<Past> {
        let segments = self.segments.as_ref()?;
        let inner = self.lock();
        let (oldest, oldest_time) = (inner.ring.oldest(), inner.oldest_time());
        drop(inner);
        let (place, number) = match position {
            Position::Since(time) if oldest_time.is_none_or(|oldest| time < oldest) => {
                (segments.block_since(time)?, 0)
            }
            Position::Number(number) if number < oldest => (segments.block_from(number)?, number),
            _ => return None,
        };
        let is_older = place.first() < oldest;
        is_older.then(|| Past::new(Arc::clone(segments), &place, number))
    }

    /// The place in memory of a reader that comes from disk. While it must go on there, the number
    /// that memory begins with; `is_at_end` tells that it cannot.
    pub(crate) fn arrive(&self, past: &Past, is_at_end: bool) -> Result<usize, u64> {
        let mut inner = self.lock();
        let oldest = inner.ring.oldest();
        let next = past.next();
        if next >= oldest {
            let next = next.min(inner.ring.next());
            return Ok(inner.begin(next, None));
        }
        if !is_at_end {
            return Err(oldest);
        }
        let gap = Gap {
            count: oldest - next,
            first: past.time(),
            last: inner.oldest_time().unwrap_or_else(|| past.time()),
        };
        Ok(inner.begin(oldest, Some(gap)))
    }

    /// The events before a number, the last one first: at most `max`, and no more than are copied at
    /// one time. Empty when no older ones are kept, on disk neither.
    #[must_use]
    pub fn events_before(&self, number: u64, max: usize) -> Vec<Event> {
        let count = max.min(BATCH);
        let inner = self.lock();
        let oldest = inner.ring.oldest();
        let end = number.min(inner.ring.next());
        let first = end.saturating_sub(count as u64).max(oldest);
        let copied = inner.copy(
            first,
            usize::try_from(end.saturating_sub(first)).unwrap_or(0),
        );
        drop(inner);
        let mut events: Vec<_> = copied.events().collect();
        let mut end = end.min(oldest);
        while let Some(segments) = self.segments.as_ref().filter(|_| events.is_empty())
            && let Some(place) = segments.block_before(end)
        {
            events = segments.read(&place).unwrap_or_default();
            events.retain(|event| event.number < end);
            events.drain(..events.len().saturating_sub(count));
            end = place.first();
        }
        events.reverse();
        events
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Adds packed events that fit into `capacity`. Gives back the names that nobody needs any more.
    fn add(
        &mut self,
        packed: &mut [(Stored, Generation, Arc<Names>)],
        capacity: usize,
    ) -> Vec<Arc<Names>> {
        let excess = (self.ring.len() + packed.len()).saturating_sub(capacity);
        self.cursors
            .pass(&self.ring, self.ring.oldest() + excess as u64);
        let old = (0..excess).filter_map(|_| self.ring.pop());
        let gone = old
            .filter_map(|old| self.names.release(old.names))
            .collect();
        for (stored, generation, names) in packed.iter_mut() {
            stored.names = self.names.hold(*generation, names, self.ring.next());
            self.ring.push(*stored);
            self.rate.count(stored.time);
        }
        self.written += packed.len() as u64;
        gone
    }

    /// The place of a reader that reads this event next.
    fn begin(&mut self, next: u64, missed: Option<Gap>) -> usize {
        let unwritten = self.unwritten;
        self.cursors.add(Cursor {
            next,
            missed,
            unwritten,
        })
    }

    /// The names that are being reduced, or should be.
    fn take_reduction(&mut self) -> Option<Reduction> {
        let begun = self.reduction.take();
        begun.or_else(|| self.names.begin_reduction(NAMES_WHOLE_MAX))
    }

    /// Copies events out.
    fn copy(&self, first: u64, max: usize) -> Copied {
        Copied::new(&self.ring, &self.names, first, max.min(BATCH))
    }

    /// Copies what a reader has not seen, and moves it on.
    pub(crate) fn copy_for(&mut self, place: usize, max: usize) -> Copied {
        let Some(cursor) = self.cursors.get_mut(place) else {
            return Copied::default();
        };
        let first = cursor.next;
        let copied = self.copy(first, max);
        if let Some(cursor) = self.cursors.get_mut(place) {
            cursor.next = first + copied.len() as u64;
        }
        copied
    }

    /// The event that a reader reads next.
    pub(crate) fn next_number(&mut self, place: usize) -> u64 {
        let next = self.ring.next();
        let cursor = self.cursors.get_mut(place);
        cursor.map_or(next, |cursor| cursor.next)
    }

    /// Whether there is something that a reader has not seen.
    pub(crate) fn has_more(&mut self, place: usize) -> bool {
        self.next_number(place) < self.ring.next()
    }

    /// Whether a reader has missed something that it was not told yet.
    pub(crate) fn has_missed(&mut self, place: usize) -> bool {
        let cursor = self.cursors.get_mut(place);
        cursor.is_some_and(|cursor| cursor.missed.is_some())
    }

    /// What a reader has missed and what workers have lost since it was told last.
    pub(crate) fn take_lost(&mut self, place: usize) -> (Option<Gap>, u64) {
        let Some(cursor) = self.cursors.get_mut(place) else {
            return (None, 0);
        };
        let before = std::mem::replace(&mut cursor.unwritten, self.unwritten);
        (cursor.missed.take(), self.unwritten.saturating_sub(before))
    }

    fn oldest_time(&self) -> Option<Timestamp> {
        let oldest = self.ring.get(self.ring.oldest())?;
        Some(timestamp(oldest.time))
    }
}
