//! What a reader finds on disk before it comes to what is in memory.

use super::cursor::Gap;
use super::event::Event;
use super::segment::{BlockPlace, Segments};
use jiff::Timestamp;
use std::sync::Arc;
use std::vec;

/// Where a reader stands in the segments.
#[derive(Debug)]
pub(crate) struct Past {
    segments: Arc<Segments>,
    /// The event that it reads next.
    next: u64,
    /// When the one before was.
    time: Timestamp,
    /// Events of the block that it is in.
    block: vec::IntoIter<Event>,
    /// What it has missed and not been told yet.
    lost: Option<Gap>,
}

impl Past {
    /// Begins with a block, or with a number in it.
    pub(crate) fn new(segments: Arc<Segments>, place: &BlockPlace, number: u64) -> Self {
        Self {
            segments,
            next: number.max(place.first()),
            time: place.times().0,
            block: Vec::new().into_iter(),
            lost: None,
        }
    }

    /// The number that it reads next.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// When what it read last was.
    pub(crate) const fn time(&self) -> Timestamp {
        self.time
    }

    /// The next event of the block that it is in.
    pub(crate) fn event(&mut self) -> Option<Event> {
        let number = self.block.as_slice().first()?.number;
        if number > self.next {
            let time = self.block.as_slice().first()?.time;
            self.miss(number, (self.time, time));
        }
        if self.lost.is_some() {
            return None;
        }
        let event = self.block.next()?;
        (self.next, self.time) = (event.number + 1, event.time);
        Some(event)
    }

    /// What was missed before the next event.
    pub(crate) fn take_lost(&mut self) -> Option<Gap> {
        self.lost.take()
    }

    /// Whether something was missed that it was not told yet.
    pub(crate) const fn has_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Goes to the block with the next event, or the one behind it. False when there is none before
    /// `end`, where memory begins.
    pub(crate) fn turn_page(&mut self, end: u64) -> bool {
        let place = self.segments.block_from(self.next);
        let Some(place) = place.filter(|place| place.first() < end) else {
            return false;
        };
        match self.segments.read(&place) {
            Some(mut events) => {
                events.retain(|event| event.number >= self.next);
                let is_empty = events.is_empty();
                self.block = events.into_iter();
                if is_empty {
                    self.miss(place.end(), place.times());
                }
            }
            None => self.miss(place.end(), place.times()),
        }
        true
    }

    fn miss(&mut self, before: u64, (first, last): (Timestamp, Timestamp)) {
        let gap = Gap {
            count: before - self.next,
            first,
            last,
        };
        self.lost = Gap::both(self.lost, Some(gap));
        (self.next, self.time) = (before, last);
    }
}
