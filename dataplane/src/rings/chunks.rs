//! The side table: for each chunk of shared memory who has it, how long its piece is, what follows.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Stands for "nothing follows" in the table.
pub(super) const NONE: u32 = u32::MAX;

/// Who has a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a list of free chunks.
    Free,
    /// Part of a [`Frame`](super::Frame).
    Held,
    /// In the rings of the socket with this slot: the kernel may read or write it.
    Rings(u16),
}

const FREE: u16 = 0;
const HELD: u16 = 1;
const RINGS: u16 = 2;

/// Slots that fit beside the other places.
pub(super) const SLOTS_MAX: u32 = 65_536 - RINGS as u32;

impl Place {
    const fn tag(self) -> u16 {
        match self {
            Self::Free => FREE,
            Self::Held => HELD,
            Self::Rings(slot) => RINGS + slot,
        }
    }

    const fn of_tag(tag: u16) -> Self {
        match tag {
            FREE => Self::Free,
            HELD => Self::Held,
            _ => Self::Rings(tag - RINGS),
        }
    }
}

/// What the table knows of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Who has it.
    pub place: Place,
    /// Bytes of the piece in it.
    pub length: u16,
    /// The chunk with the frame's next piece, or [`NONE`].
    pub next: u32,
}

/// One word for each chunk, shared by the workers.
///
/// Only the holder of a chunk writes its word, and a chunk changes hands through a queue or a
/// channel that orders memory, so relaxed access is enough; a census taken from outside sees each
/// word whole, if not all of them at one instant.
#[derive(Debug)]
pub(super) struct ChunkTable(Box<[AtomicU64]>);

impl ChunkTable {
    /// A table of `count` free chunks.
    pub fn new(count: u32) -> Self {
        let free = Chunk {
            place: Place::Free,
            length: 0,
            next: NONE,
        };
        Self((0..count).map(|_| AtomicU64::new(pack(free))).collect())
    }

    /// Chunks in all.
    pub fn count(&self) -> u32 {
        self.0.len() as u32
    }

    #[inline]
    pub fn get(&self, index: u32) -> Chunk {
        let word = self.0[index as usize].load(Relaxed);
        Chunk {
            place: Place::of_tag((word >> 48) as u16),
            length: (word >> 32) as u16,
            next: word as u32,
        }
    }

    #[inline]
    pub fn set(&self, index: u32, chunk: Chunk) {
        self.0[index as usize].store(pack(chunk), Relaxed);
    }

    /// Moves a chunk that carries nothing.
    #[inline]
    pub fn set_empty(&self, index: u32, place: Place) {
        self.set(
            index,
            Chunk {
                place,
                length: 0,
                next: NONE,
            },
        );
    }
}

const fn pack(chunk: Chunk) -> u64 {
    (chunk.place.tag() as u64) << 48 | (chunk.length as u64) << 32 | chunk.next as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_what_was_put_into_it() {
        let table = ChunkTable::new(2);
        for place in [
            Place::Free,
            Place::Held,
            Place::Rings(0),
            Place::Rings(4095),
        ] {
            for (length, next) in [(0, NONE), (3840, 0), (60, 16_383)] {
                let chunk = Chunk {
                    place,
                    length,
                    next,
                };
                table.set(1, chunk);
                assert_eq!(table.get(1), chunk);
            }
        }
        assert_eq!(
            table.get(0),
            Chunk {
                place: Place::Free,
                length: 0,
                next: NONE
            }
        );
    }
}
