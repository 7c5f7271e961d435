//! A timing wheel: which entries may be past their time, without looking at the others.
//!
//! Entries are indices of a table that its owner keeps. A life that grows costs nothing: the owner
//! is asked when the old deadline comes, and arms the entry again. Levels of 64 lists, each level
//! 64 times coarser than the one below. [Varghese and Lauck 1987, scheme 7]

use crate::Now;
use crate::links::{Links, List};

/// A tick is 2^27 ns, 134 ms: an entry falls due that much late at most.
const TICK_BITS: u32 = 27;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 7;
// Every deadline has a list: nothing wraps round.
const _: () = assert!(TICK_BITS + SLOT_BITS * LEVELS as u32 > 64);
const NOT_ARMED: u16 = u16::MAX;

/// The wheel. Owns the links, so that entries need no room for them.
#[derive(Debug)]
pub(crate) struct Wheel {
    links: Links,
    /// The list that each entry is in: level times 64 plus slot.
    list_of: Vec<u16>,
    lists: Vec<List>,
    /// A bit for each list that is not empty, by level.
    occupied: [u64; LEVELS],
    /// The tick that has been reached. At its level no list lies before its own slot.
    tick: u64,
}

impl Wheel {
    /// A wheel for entries 0 to `entries_max`. Allocates all that it will ever need.
    pub fn new(entries_max: u32) -> Self {
        Self {
            links: Links::new(entries_max),
            list_of: vec![NOT_ARMED; entries_max as usize],
            lists: vec![List::EMPTY; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            tick: 0,
        }
    }

    /// Has the entry fall due once `deadline` has passed, instead of when it would have.
    pub fn arm(&mut self, entry: u32, deadline: Now) {
        self.disarm(entry);
        // The tick after the deadline's: what is due is past its deadline.
        let tick = ((deadline.0 >> TICK_BITS) + 1).max(self.tick);
        let low = (1 << SLOT_BITS) - 1;
        let highest = 63 - ((self.tick ^ tick) | low).leading_zeros();
        let level = highest / SLOT_BITS;
        let slot = (tick >> (level * SLOT_BITS)) & low;
        let list = level as usize * SLOTS + slot as usize;
        self.links.push_back(&mut self.lists[list], entry);
        self.occupied[level as usize] |= 1 << slot;
        self.list_of[entry as usize] = list as u16;
    }

    /// Takes the entry off the wheel; nothing happens when it is not on it.
    pub fn disarm(&mut self, entry: u32) {
        let list = std::mem::replace(&mut self.list_of[entry as usize], NOT_ARMED);
        if list == NOT_ARMED {
            return;
        }
        let list = usize::from(list);
        self.links.unlink(&mut self.lists[list], entry);
        if self.lists[list].is_empty() {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    /// Takes the next entry off that is due, or has to be put on a finer level: its owner either
    /// ends it or arms it again. One call is one step of bounded work.
    pub fn next_due(&mut self, now: Now) -> Option<u32> {
        let reached = (now.0 >> TICK_BITS).max(self.tick);
        let due = self.earliest().filter(|(start, _)| *start <= reached);
        let Some((start, list)) = due else {
            self.tick = reached;
            return None;
        };
        self.tick = self.tick.max(start);
        let entry = self.lists[list].first()?;
        self.disarm(entry);
        Some(entry)
    }

    /// The first list that is not empty, and the tick at which it begins.
    fn earliest(&self) -> Option<(u64, usize)> {
        let levels = self.occupied.iter().enumerate();
        levels
            .filter(|(_, occupied)| **occupied != 0)
            .map(|(level, occupied)| {
                let slot = occupied.trailing_zeros();
                let shift = level as u32 * SLOT_BITS;
                let turn = (self.tick >> (shift + SLOT_BITS)) << (shift + SLOT_BITS);
                let start = turn + (u64::from(slot) << shift);
                (start, level * SLOTS + slot as usize)
            })
            .min()
    }
}

#[cfg(test)]
mod tests;
