//! A worker's own store of free memory.

use super::chunks::{Chunk, NONE, Place};
use super::frame::Frame;
use super::umem::{CHUNK_ROOM, POOL_BATCH, Umem};
use std::sync::Arc;

/// A list this long gives a batch back to the pool.
const LOCAL_MAX: usize = 3 * POOL_BATCH;

/// Free chunks at the hand of one worker, evened out with the others' through the pool.
///
/// Never allocates after it was made. What is left goes back to the pool when it is dropped.
#[derive(Debug)]
pub struct FreeFrames {
    pub(super) umem: Arc<Umem>,
    chunks: Vec<u32>,
}

impl FreeFrames {
    /// An empty store: fills itself from the pool as needed.
    #[must_use]
    pub fn new(umem: &Arc<Umem>) -> Self {
        let mut chunks = umem.remainder_take();
        chunks.reserve_exact(LOCAL_MAX + POOL_BATCH - chunks.len());
        Self {
            umem: umem.clone(),
            chunks,
        }
    }

    /// The memory that the frames are of.
    #[must_use]
    pub fn umem(&self) -> &Arc<Umem> {
        &self.umem
    }

    /// Chunks at hand.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.chunks.len() as u32
    }

    /// A frame to make a packet in: one piece, empty. None when memory has run out, which ends
    /// the packet as `Drop::NoFreeFrame`.
    ///
    /// Write into its [`Frame::view`], then [`FreeFrames::set_length`].
    #[inline]
    pub fn take(&mut self) -> Option<Frame> {
        let chunk = self.take_chunk()?;
        self.umem.chunks.set_empty(chunk, Place::Held);
        Some(self.umem.frame(chunk, 0, 1))
    }

    /// Ends a frame.
    #[inline]
    pub fn release(&mut self, frame: Frame) {
        self.umem.check(&frame);
        let (mut chunk, pieces) = (frame.head, frame.pieces);
        frame.dissolve();
        for _ in 0..pieces {
            let next = self.umem.chunks.get(chunk).next;
            self.give_chunk(chunk);
            chunk = next;
        }
    }

    /// Makes a frame a packet of `length` bytes, all of them in its head: what was written there
    /// stays, further pieces are freed.
    ///
    /// Panics when `length` is more than [`CHUNK_ROOM`].
    #[inline]
    pub fn set_length(&mut self, frame: &mut Frame, length: usize) {
        self.umem.check(frame);
        assert!(
            length <= CHUNK_ROOM,
            "{length} bytes do not fit the head of a frame"
        );
        let mut chunk = self.umem.chunks.get(frame.head).next;
        for _ in 1..frame.pieces {
            let next = self.umem.chunks.get(chunk).next;
            self.give_chunk(chunk);
            chunk = next;
        }
        let head = Chunk {
            place: Place::Held,
            length: length as u16,
            next: NONE,
        };
        self.umem.chunks.set(frame.head, head);
        (frame.length, frame.pieces) = (length as u32, 1);
    }

    /// Takes a chunk; the caller notes where it goes.
    #[inline]
    pub(super) fn take_chunk(&mut self) -> Option<u32> {
        if self.chunks.is_empty() {
            self.chunks.extend_from_slice(&self.umem.pool_take()?);
        }
        self.chunks.pop()
    }

    /// Takes back a chunk that nobody has any more.
    #[inline]
    pub(super) fn give_chunk(&mut self, chunk: u32) {
        debug_assert_ne!(
            self.umem.chunks.get(chunk).place,
            Place::Free,
            "freed twice"
        );
        self.umem.chunks.set_empty(chunk, Place::Free);
        self.chunks.push(chunk);
        if self.chunks.len() >= LOCAL_MAX {
            let rest = self.chunks.len() - POOL_BATCH;
            let mut batch = [NONE; POOL_BATCH];
            batch.copy_from_slice(&self.chunks[rest..]);
            self.chunks.truncate(rest);
            self.umem.pool_give(batch);
        }
    }
}

impl Drop for FreeFrames {
    fn drop(&mut self) {
        self.umem.remainder_give(&mut self.chunks);
    }
}
