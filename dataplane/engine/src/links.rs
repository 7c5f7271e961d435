//! Doubly linked lists of entries that live elsewhere, by index: no pointers, no allocation.

/// No entry.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
}

/// The links of every entry; each is in one list at most, and its owner knows in which.
#[derive(Debug)]
pub(crate) struct Links {
    links: Vec<Link>,
}

/// The ends of one list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct List {
    first: u32,
    last: u32,
}

impl List {
    pub const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };

    pub fn first(self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub fn is_empty(self) -> bool {
        self.first == NONE
    }
}

impl Links {
    /// Links for entries 0 to `entries_max`, in no list. Allocates all that it will ever need.
    pub fn new(entries_max: u32) -> Self {
        let apart = Link {
            previous: NONE,
            next: NONE,
        };
        Self {
            links: vec![apart; entries_max as usize],
        }
    }

    /// The entry behind this one in its list.
    pub fn after(&self, entry: u32) -> Option<u32> {
        let next = self.links[entry as usize].next;
        (next != NONE).then_some(next)
    }

    /// Puts an entry that is in no list at the end of one.
    pub fn push_back(&mut self, list: &mut List, entry: u32) {
        self.links[entry as usize] = Link {
            previous: list.last,
            next: NONE,
        };
        match list.last {
            NONE => list.first = entry,
            last => self.links[last as usize].next = entry,
        }
        list.last = entry;
    }

    /// Takes an entry out of the list that it is in.
    pub fn unlink(&mut self, list: &mut List, entry: u32) {
        let Link { previous, next } = self.links[entry as usize];
        match previous {
            NONE => list.first = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NONE => list.last = previous,
            next => self.links[next as usize].previous = previous,
        }
    }
}
