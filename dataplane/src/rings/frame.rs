//! A frame: memory that we hold, with a packet in it.

use super::umem::Umem;
use portcullis_engine::FrameBytes;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Most pieces that a frame can have: a segment of 64 KB in chunks of 3840 bytes, and the most that
/// the kernel sends as one packet (`MAX_SKB_FRAGS` 17, and the linear part).
pub const PIECES_MAX: usize = 18;
const TAIL_MAX: usize = PIECES_MAX - 1;

/// Frames that were dropped instead of being released or submitted. Our mistake, never normal.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Chunks of shared memory that we hold, with the pieces of one packet in them.
///
/// Twelve bytes, to be handed on by value, through queues too. Has one holder: not `Clone`, and
/// ended only by [`Socket::transmit`](super::Socket::transmit) or
/// [`FreeFrames::release`](super::FreeFrames::release).
#[must_use = "a frame that is dropped is lost: transmit or release it"]
pub struct Frame {
    /// First chunk; the side table leads to the others.
    pub(super) head: u32,
    /// Bytes of all pieces.
    pub(super) length: u32,
    /// Chunks.
    pub(super) pieces: u16,
    /// The memory it belongs to.
    pub(super) umem: u16,
}

const _: () = assert!(size_of::<Frame>() == 12);

impl Frame {
    /// Bytes of the packet.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length as usize
    }

    /// Pieces that the packet lies in, at least one.
    #[must_use]
    pub fn pieces(&self) -> usize {
        usize::from(self.pieces)
    }

    /// The frame's bytes, for as long as the frame is borrowed.
    ///
    /// Panics when the frame is of another `umem`.
    #[inline]
    pub fn view<'frame>(&'frame mut self, umem: &'frame Umem) -> View<'frame> {
        umem.check(self);
        let head_chunk = umem.chunks.get(self.head);
        // SAFETY: the chunk belongs to this frame, which is borrowed exclusively for 'frame.
        let head = unsafe { umem.room(self.head) };
        let mut tail: [&'frame [u8]; TAIL_MAX] = [&[]; TAIL_MAX];
        let (mut count, mut next) = (0, head_chunk.next);
        while count + 1 < self.pieces() {
            let chunk = umem.chunks.get(next);
            // SAFETY: as above; a chain names each of its chunks once.
            let room: &'frame [u8] = unsafe { umem.room(next) };
            tail[count] = &room[..usize::from(chunk.length)];
            (count, next) = (count + 1, chunk.next);
        }
        View {
            head,
            head_length: usize::from(head_chunk.length),
            tail,
            tail_count: count,
        }
    }

    /// Does some work on the frame's bytes.
    ///
    /// Panics when the frame is of another `umem`.
    #[inline]
    pub fn with_bytes<R>(&mut self, umem: &Umem, work: impl FnOnce(&mut FrameBytes<'_>) -> R) -> R {
        if self.pieces > 1 {
            return work(&mut self.view(umem).bytes());
        }
        // Most frames: nothing has to be gathered, and making a view costs 15 ns.
        umem.check(self);
        let head_length = usize::from(umem.chunks.get(self.head).length);
        work(&mut FrameBytes {
            // SAFETY: the chunk belongs to this frame, which is borrowed exclusively meanwhile.
            head: unsafe { umem.room(self.head) },
            head_length,
            tail: &[],
        })
    }

    /// Ends the frame: what becomes of its chunks is the caller's business now.
    #[inline]
    pub(super) fn dissolve(self) {
        std::mem::forget(self);
    }

    /// Frames that were dropped by mistake since the process began.
    pub(super) fn lost() -> u64 {
        LOST.load(Relaxed)
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        LOST.fetch_add(1, Relaxed);
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "Frame({} bytes in {} pieces from {})",
            self.length, self.pieces, self.head
        )
    }
}

/// The bytes of a frame, gathered.
#[derive(Debug)]
pub struct View<'frame> {
    head: &'frame mut [u8],
    head_length: usize,
    tail: [&'frame [u8]; TAIL_MAX],
    tail_count: usize,
}

impl View<'_> {
    /// The bytes as the engine takes them.
    #[inline]
    pub fn bytes(&mut self) -> FrameBytes<'_> {
        FrameBytes {
            head: self.head,
            head_length: self.head_length,
            tail: &self.tail[..self.tail_count],
        }
    }
}
