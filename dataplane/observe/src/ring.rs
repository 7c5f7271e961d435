//! The last records by number, in memory that grows a piece at a time as it fills.

use super::stored::Stored;
use std::collections::VecDeque;

/// Records of one piece of memory: 512 KiB.
const PIECE: usize = 4096;

/// Records from `oldest` to before `next`.
#[derive(Debug)]
pub(crate) struct Ring {
    pieces: VecDeque<Vec<Stored>>,
    /// A piece whose records are all gone: the next one that is needed.
    spare: Option<Vec<Stored>>,
    /// Number of the first record of the first piece.
    first: u64,
    oldest: u64,
    next: u64,
}

impl Ring {
    /// A ring whose first record will have this number.
    pub(crate) const fn new(next: u64) -> Self {
        Self {
            pieces: VecDeque::new(),
            spare: None,
            first: next,
            oldest: next,
            next,
        }
    }

    /// Number of the oldest record, or of the next one where there is none.
    pub(crate) const fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Number of the record that will come next.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.next - self.oldest).unwrap_or(usize::MAX)
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, record: Stored) {
        if self.pieces.back().is_none_or(|piece| piece.len() == PIECE) {
            let piece = self.spare.take();
            self.pieces
                .push_back(piece.unwrap_or_else(|| Vec::with_capacity(PIECE)));
        }
        if let Some(piece) = self.pieces.back_mut() {
            piece.push(record);
            self.next += 1;
        }
    }

    /// Takes the oldest record out.
    pub(crate) fn pop(&mut self) -> Option<Stored> {
        let record = *self.get(self.oldest)?;
        self.oldest += 1;
        if self.oldest - self.first == PIECE as u64 {
            self.first = self.oldest;
            self.spare = self.pieces.pop_front().map(|mut piece| {
                piece.clear();
                piece
            });
        }
        Some(record)
    }

    /// The record with a number.
    pub(crate) fn get(&self, number: u64) -> Option<&Stored> {
        if number < self.oldest {
            return None;
        }
        let place = usize::try_from(number - self.first).ok()?;
        self.pieces.get(place / PIECE)?.get(place % PIECE)
    }

    /// Number of the first record that is not before a time, as far as records are in its order.
    pub(crate) fn seek(&self, time: i64) -> u64 {
        let (mut low, mut high) = (self.oldest, self.next);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(|record| record.time < time) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Bytes of memory for records.
    pub(crate) fn memory(&self) -> usize {
        let pieces = self.pieces.iter().chain(&self.spare);
        pieces
            .map(|piece| piece.capacity() * size_of::<Stored>())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use portcullis_engine::Record;

    fn stored(time: i64) -> Stored {
        let time = Timestamp::from_nanosecond(i128::from(time)).unwrap();
        Stored::new(time, &Record::BLANK, 0)
    }

    #[test]
    fn memory_grows_in_pieces_and_a_piece_that_is_done_with_is_used_again() {
        let mut ring = Ring::new(7);
        assert_eq!(ring.memory(), 0);
        let piece = PIECE * size_of::<Stored>();
        for number in 0..10 * PIECE as i64 {
            ring.push(stored(number));
            if ring.len() > 100 {
                ring.pop();
            }
            assert!(ring.memory() <= 2 * piece);
        }
        assert_eq!(ring.oldest(), 7 + 10 * PIECE as u64 - 100);
        assert_eq!(ring.get(ring.oldest() - 1), None);
        assert_eq!(ring.get(ring.next()), None);
        assert!(ring.get(ring.next() - 1).is_some());
    }

    #[test]
    fn a_time_is_found_among_records() {
        let mut ring = Ring::new(0);
        for number in 0..10_000 {
            ring.push(stored(10 * number));
        }
        for _ in 0..500 {
            ring.pop();
        }
        for (time, number) in [
            (0, 500),
            (5000, 500),
            (5001, 501),
            (99_990, 9999),
            (99_991, 10_000),
        ] {
            assert_eq!(ring.seek(time), number, "{time}");
        }
    }
}
