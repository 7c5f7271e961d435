//! When entries are to be looked at: a timing wheel of two levels, 512 seconds and 512 times 512.

const SLOTS: u64 = 512;
const NOBODY: u32 = u32::MAX;
const NO_LIST: u16 = u16::MAX;

/// The place of an entry in its list.
#[derive(Debug, Clone, Copy)]
struct Link {
    next: u32,
    previous: u32,
    list: u16,
}

const UNLINKED: Link = Link {
    next: NOBODY,
    previous: NOBODY,
    list: NO_LIST,
};

/// Entries by the second in which they are to be looked at. Times are whole seconds.
///
/// A list of the first level is for one second of the next 512; one of the second level for a
/// block of 512 seconds, looked at when the block begins. What lies further off waits in the last
/// block and is put in order from there.
#[derive(Debug)]
pub(crate) struct FlowWheel {
    /// The first entry of each list, first level first.
    heads: [u32; 2 * SLOTS as usize],
    /// Which lists of a level have entries.
    occupied: [Ring; 2],
    links: Box<[Link]>,
    /// All before it has been looked at.
    second: u64,
}

impl FlowWheel {
    /// A wheel for entries with numbers below `capacity`.
    pub fn new(capacity: usize) -> Self {
        Self {
            heads: [NOBODY; 2 * SLOTS as usize],
            occupied: [Ring::default(); 2],
            links: vec![UNLINKED; capacity].into_boxed_slice(),
            second: 0,
        }
    }

    /// Lets time pass that nobody waits for.
    pub fn begin(&mut self, now: u64) {
        if self.soonest().is_none() {
            self.second = self.second.max(now);
        }
    }

    /// Has an entry looked at in this second; earlier, when that is far away. Past seconds are
    /// now.
    pub fn arm(&mut self, entry: u32, second: u64) {
        self.disarm(entry);
        let second = second.max(self.second);
        let list = if second - self.second < SLOTS {
            second % SLOTS
        } else {
            let block_max = self.second / SLOTS + SLOTS - 1;
            SLOTS + (second / SLOTS).min(block_max) % SLOTS
        } as usize;
        let head = self.heads[list];
        if head != NOBODY {
            self.links[head as usize].previous = entry;
        }
        self.links[entry as usize] = Link {
            next: head,
            previous: NOBODY,
            list: list as u16,
        };
        self.heads[list] = entry;
        self.occupied[list / SLOTS as usize].set(list % SLOTS as usize, true);
    }

    /// Has an entry no longer looked at.
    pub fn disarm(&mut self, entry: u32) {
        let link = std::mem::replace(&mut self.links[entry as usize], UNLINKED);
        if link.list == NO_LIST {
            return;
        }
        let list = usize::from(link.list);
        match link.previous {
            NOBODY => self.heads[list] = link.next,
            previous => self.links[previous as usize].next = link.next,
        }
        if link.next != NOBODY {
            self.links[link.next as usize].previous = link.previous;
        }
        if self.heads[list] == NOBODY {
            self.occupied[list / SLOTS as usize].set(list % SLOTS as usize, false);
        }
    }

    /// An entry to be looked at by now; it must be armed for later, or disarmed. However far the
    /// clock has jumped, empty seconds cost nothing.
    pub fn due(&mut self, now: u64) -> Option<u32> {
        match self.soonest() {
            Some((second, list)) if second <= now => {
                self.second = second;
                Some(self.heads[list])
            }
            _ => {
                self.second = self.second.max(now);
                None
            }
        }
    }

    /// The first list that has entries, and its second.
    fn soonest(&self) -> Option<(u64, usize)> {
        let slot = self.second % SLOTS;
        let near = self.occupied[0]
            .distance_from(slot)
            .map(|distance| (self.second + distance, (slot + distance) % SLOTS));
        // The running block has been put in order when its first second was over.
        let block = self.second.div_ceil(SLOTS);
        let far = self.occupied[1]
            .distance_from(block % SLOTS)
            .map(|distance| block + distance)
            .map(|block| (block * SLOTS, SLOTS + block % SLOTS));
        // A block comes before its own first second: it may have entries for that.
        match (near, far) {
            (Some(near), Some(far)) if near.0 < far.0 => Some(near),
            (near, far) => far.or(near),
        }
        .map(|(second, list)| (second, list as usize))
    }
}

/// A bit for each list of a level.
#[derive(Debug, Clone, Copy, Default)]
struct Ring([u64; SLOTS as usize / 64]);

impl Ring {
    fn set(&mut self, place: usize, is_set: bool) {
        let bit = 1 << (place % 64);
        let word = &mut self.0[place / 64];
        *word = if is_set { *word | bit } else { *word & !bit };
    }

    /// How far it is from a place to the first that is set, round and round.
    fn distance_from(&self, place: u64) -> Option<u64> {
        let words = self.0.len();
        let (first, bit) = (place as usize / 64, place % 64);
        (0..=words).find_map(|step| {
            let all = self.0[(first + step) % words];
            let word = match step {
                0 => all & (u64::MAX << bit),
                step if step == words => all & !(u64::MAX << bit),
                _ => all,
            };
            let found = step as u64 * 64 + u64::from(word.trailing_zeros());
            (word != 0).then(|| found - bit)
        })
    }
}

#[cfg(test)]
mod tests;
