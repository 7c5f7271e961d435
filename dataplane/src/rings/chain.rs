//! Puts the pieces of a received packet together.

use super::chunks::{Chunk, ChunkTable, NONE, Place};
use super::frame::PIECES_MAX;
use super::umem::{CHUNK_BYTES, CHUNK_ROOM, HEADROOM};

/// A piece as the kernel gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it begins, in bytes from the start of the memory.
    pub address: usize,
    /// Its bytes.
    pub length: usize,
    /// Whether more pieces of the packet follow.
    pub continued: bool,
}

/// Why a received packet cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It has more than [`PIECES_MAX`] pieces.
    TooLong,
    /// A piece does not begin right behind the headroom, or does not end in its chunk.
    Misplaced,
}

/// Chunks that are linked in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// The first.
    pub head: u32,
    /// Bytes of all their pieces.
    pub length: u32,
    /// How many they are.
    pub pieces: u16,
    /// What is wrong with the packet.
    pub fault: Option<Fault>,
}

/// The packet of which not all pieces have been fetched yet, if there is one.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// The packet so far and its last chunk.
    open: Option<(Chain, u32)>,
}

impl Assembly {
    /// Links a received piece to its packet, and gives the packet if that was the last.
    #[inline]
    pub fn join(&mut self, chunks: &ChunkTable, piece: Piece) -> Option<Chain> {
        let chunk = (piece.address / CHUNK_BYTES) as u32;
        let length = piece.length.min(CHUNK_ROOM) as u16;
        chunks.set(
            chunk,
            Chunk {
                place: Place::Held,
                length,
                next: NONE,
            },
        );
        let mut chain = match self.open.take() {
            None => Chain {
                head: chunk,
                length: 0,
                pieces: 0,
                fault: None,
            },
            Some((chain, last)) => {
                let before = chunks.get(last);
                chunks.set(
                    last,
                    Chunk {
                        next: chunk,
                        ..before
                    },
                );
                chain
            }
        };
        chain.length += u32::from(length);
        chain.pieces += 1;
        if piece.address % CHUNK_BYTES != HEADROOM || piece.length > CHUNK_ROOM {
            chain.fault = Some(Fault::Misplaced);
        }
        if piece.continued {
            self.open = Some((chain, chunk));
            return None;
        }
        if usize::from(chain.pieces) > PIECES_MAX {
            chain.fault = chain.fault.or(Some(Fault::TooLong));
        }
        Some(chain)
    }

    /// Gives up the packet that is not complete.
    pub fn abandon(&mut self) -> Option<Chain> {
        self.open.take().map(|(chain, _)| chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(chunk: usize, length: usize, continued: bool) -> Piece {
        Piece {
            address: chunk * CHUNK_BYTES + HEADROOM,
            length,
            continued,
        }
    }

    #[test]
    fn one_piece_is_a_packet() {
        let chunks = ChunkTable::new(4);
        let chain = Assembly::default().join(&chunks, piece(2, 60, false));
        assert_eq!(
            chain,
            Some(Chain {
                head: 2,
                length: 60,
                pieces: 1,
                fault: None
            })
        );
        assert_eq!(
            chunks.get(2),
            Chunk {
                place: Place::Held,
                length: 60,
                next: NONE
            }
        );
    }

    #[test]
    fn pieces_are_linked_in_order_wherever_their_chunks_lie() {
        let (chunks, mut assembly) = (ChunkTable::new(8), Assembly::default());
        assert_eq!(assembly.join(&chunks, piece(5, CHUNK_ROOM, true)), None);
        assert_eq!(assembly.join(&chunks, piece(1, CHUNK_ROOM, true)), None);
        let chain = assembly.join(&chunks, piece(7, 9, false));
        let length = 2 * CHUNK_ROOM as u32 + 9;
        assert_eq!(
            chain,
            Some(Chain {
                head: 5,
                length,
                pieces: 3,
                fault: None
            })
        );
        assert_eq!([5, 1, 7].map(|chunk| chunks.get(chunk).next), [1, 7, NONE]);
        // The next packet begins anew.
        let chain = assembly.join(&chunks, piece(0, 60, false));
        assert_eq!(
            chain,
            Some(Chain {
                head: 0,
                length: 60,
                pieces: 1,
                fault: None
            })
        );
    }

    #[test]
    fn a_packet_of_too_many_pieces_is_a_fault_and_keeps_all_its_chunks() {
        let (chunks, mut assembly) = (ChunkTable::new(32), Assembly::default());
        let mut join = |count: usize| {
            (1..count).for_each(|chunk| {
                assert_eq!(assembly.join(&chunks, piece(chunk, 100, true)), None);
            });
            assembly.join(&chunks, piece(count, 100, false))
        };
        let chain = Chain {
            head: 1,
            length: 1800,
            pieces: 18,
            fault: None,
        };
        assert_eq!(join(18), Some(chain));
        let fault = Some(Fault::TooLong);
        assert_eq!(
            join(19),
            Some(Chain {
                head: 1,
                length: 1900,
                pieces: 19,
                fault
            })
        );
    }

    #[test]
    fn a_piece_that_lies_elsewhere_is_a_fault_of_its_packet() {
        let chunks = ChunkTable::new(4);
        let shifted = Piece {
            address: CHUNK_BYTES + HEADROOM - 8,
            length: 60,
            continued: true,
        };
        let fault = Some(Fault::Misplaced);
        let mut assembly = Assembly::default();
        assert_eq!(assembly.join(&chunks, shifted), None);
        let chain = assembly.join(&chunks, piece(2, 60, false));
        assert_eq!(
            chain,
            Some(Chain {
                head: 1,
                length: 120,
                pieces: 2,
                fault
            })
        );
        let long = assembly.join(&chunks, piece(3, CHUNK_ROOM + 1, false));
        let length = CHUNK_ROOM as u32;
        assert_eq!(
            long,
            Some(Chain {
                head: 3,
                length,
                pieces: 1,
                fault
            })
        );
    }

    #[test]
    fn a_packet_that_was_not_complete_can_be_given_up() {
        let (chunks, mut assembly) = (ChunkTable::new(4), Assembly::default());
        assembly.join(&chunks, piece(3, 10, true));
        let chain = Chain {
            head: 3,
            length: 10,
            pieces: 1,
            fault: None,
        };
        assert_eq!(assembly.abandon(), Some(chain));
        assert_eq!(assembly.abandon(), None);
    }
}
