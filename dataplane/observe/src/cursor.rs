//! Where readers stand in the ring, and what went by them unseen.

use super::ring::Ring;
use super::stored::timestamp;
use jiff::Timestamp;

/// Events that went by a reader unseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// How many.
    pub count: u64,
    /// When the first of them was.
    pub first: Timestamp,
    /// When the last of them was.
    pub last: Timestamp,
}

impl Gap {
    /// One gap of two, the earlier one first.
    pub(crate) fn both(earlier: Option<Self>, later: Option<Self>) -> Option<Self> {
        let (Some(first), Some(last)) = (earlier, later) else {
            return earlier.or(later);
        };
        Some(Self {
            count: first.count + last.count,
            first: first.first,
            last: last.last,
        })
    }
}

/// Where one reader stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    /// The event that it reads next: never one that has left the ring.
    pub(crate) next: u64,
    /// What it has missed and not been told yet.
    pub(crate) missed: Option<Gap>,
    /// Records that workers had lost when it was told last.
    pub(crate) unwritten: u64,
}

impl Cursor {
    /// Moves on past events that are about to leave the ring, and notes them as missed.
    fn pass(&mut self, ring: &Ring, before: u64) {
        let (Some(first), Some(last)) = (ring.get(self.next), ring.get(before - 1)) else {
            return;
        };
        let gap = Gap {
            count: before - self.next,
            first: timestamp(first.time),
            last: timestamp(last.time),
        };
        self.missed = Gap::both(self.missed, Some(gap));
        self.next = before;
    }
}

/// Every reader of a history.
#[derive(Debug, Default)]
pub(crate) struct Cursors(Vec<Option<Cursor>>);

impl Cursors {
    /// The place of a new reader.
    pub(crate) fn add(&mut self, cursor: Cursor) -> usize {
        let free = self.0.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        });
        self.0[place] = Some(cursor);
        place
    }

    /// The reader at a place.
    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut Cursor> {
        self.0.get_mut(place)?.as_mut()
    }

    /// A reader has gone.
    pub(crate) fn remove(&mut self, place: usize) {
        if let Some(slot) = self.0.get_mut(place) {
            *slot = None;
        }
    }

    /// Events before this one are about to leave the ring: those who have not read them miss them.
    pub(crate) fn pass(&mut self, ring: &Ring, before: u64) {
        let late = self.0.iter_mut().flatten();
        for cursor in late.filter(|cursor| cursor.next < before) {
            cursor.pass(ring, before);
        }
    }
}
