//! The memory that all sockets share, cut into chunks.

use super::chunks::{ChunkTable, NONE, Place, SLOTS_MAX};
use super::error::RingError;
use super::frame::Frame;
use super::kernel::{self, Descriptor, Memory};
use super::queues;
use crossbeam::queue::ArrayQueue;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a chunk. The kernel accepts no larger ones.
pub const CHUNK_BYTES: usize = 4096;
/// Bytes that the kernel keeps free before a packet (`XDP_PACKET_HEADROOM`).
pub(super) const HEADROOM: usize = 256;
/// Bytes of a piece at most.
pub const CHUNK_ROOM: usize = CHUNK_BYTES - HEADROOM;
/// Free chunks move between workers in such batches.
pub(super) const POOL_BATCH: usize = 64;

/// How much memory there is, and how it is shared out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UmemSettings {
    /// Chunks of 4096 bytes in all; a multiple of 64.
    pub frames: u32,
    /// Chunks in the fill ring of an interface without traffic, at least; up to four times as many
    /// while interfaces are few.
    pub fill_idle: u32,
    /// Free chunks that no fill ring may grow into, kept for frames made here and on their way.
    pub transmit_reserve: u32,
    /// The interface that the memory itself is bound to: one that never goes away.
    pub anchor: String,
    /// Whether the kernel shall finish checksums of what is sent, if it can.
    pub offload_checksums: bool,
}

impl Default for UmemSettings {
    /// 64 MiB, 32 chunks for an idle interface, an eighth in reserve, checksums by the kernel.
    fn default() -> Self {
        Self {
            frames: 16_384,
            fill_idle: 32,
            transmit_reserve: 2048,
            anchor: "lo".to_owned(),
            offload_checksums: true,
        }
    }
}

/// Where the chunks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Chunks in all.
    pub total: u32,
    /// In lists of free chunks.
    pub free: u32,
    /// In frames that a worker, or a queue between workers, holds.
    pub held: u32,
    /// In the rings of sockets.
    pub rings: u32,
    /// Frames of this process that were dropped by mistake: their chunks still count as held.
    pub lost: u64,
}

/// One region of memory shared by all sockets, in chunks of [`CHUNK_BYTES`].
///
/// Bound to an interface of its own (`lo`): were that the first pod's, no socket could join once
/// the pod is gone. One daemon for each network namespace, therefore.
#[derive(Debug)]
pub struct Umem {
    id: u16,
    pub(super) settings: UmemSettings,
    pub(super) memory: Memory,
    pub(super) chunks: ChunkTable,
    /// Free chunks that no worker has at hand.
    pool: ArrayQueue<[u32; POOL_BATCH]>,
    /// What is left of a list that ended with less than a batch. Control path only.
    remainder: Mutex<Vec<u32>>,
    /// Slots of open sockets, and the interfaces that they are bound to. Control path only.
    slots: Mutex<HashMap<u16, u32>>,
}

impl Umem {
    /// Maps the memory and binds it to the anchor.
    ///
    /// Needs CAP_NET_RAW and CAP_NET_ADMIN, and CAP_IPC_LOCK or a large enough memlock limit.
    ///
    /// # Errors
    /// A setting out of range; memory or limits that do not suffice; an anchor that does not exist
    /// or that another process holds for longer than 3 s.
    pub fn new(settings: &UmemSettings) -> Result<Arc<Self>, RingError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        check_settings(settings)?;
        // Frames tell by it whose they are, so it is never used twice.
        let id = u16::try_from(NEXT.fetch_add(1, Relaxed))
            .map_err(|_| RingError::new("shared memory", "made 65536 times in one process"))?;
        let memory = queues::open_memory(
            settings.frames as usize * CHUNK_BYTES,
            CHUNK_BYTES,
            settings.offload_checksums,
            &settings.anchor,
        )?;
        let batches = settings.frames as usize / POOL_BATCH;
        let pool = ArrayQueue::new(batches);
        for batch in 0..batches {
            let first = (batch * POOL_BATCH) as u32;
            let full = pool.push(std::array::from_fn(|offset| first + offset as u32));
            assert_eq!(full, Ok(()), "the pool has room for every chunk");
        }
        Ok(Arc::new(Self {
            id,
            settings: settings.clone(),
            memory,
            chunks: ChunkTable::new(settings.frames),
            pool,
            remainder: Mutex::default(),
            slots: Mutex::default(),
        }))
    }

    /// Counts the chunks by place, from what is noted for each.
    ///
    /// Exact when nothing moves. Reads every chunk's word: for tests and `status`, not per packet.
    #[must_use]
    pub fn census(&self) -> Census {
        let total = self.chunks.count();
        let mut census = Census {
            total,
            free: 0,
            held: 0,
            rings: 0,
            lost: Frame::lost(),
        };
        for index in 0..total {
            match self.chunks.get(index).place {
                Place::Free => census.free += 1,
                Place::Held => census.held += 1,
                Place::Rings(_) => census.rings += 1,
            }
        }
        census
    }

    /// Chunks in the shared pool, beside those that workers have at hand.
    #[must_use]
    pub fn pooled(&self) -> u32 {
        (self.pool.len() * POOL_BATCH) as u32
    }

    /// Chunks of closed lists that did not make a batch. For tests.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.remainder
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len() as u32
    }

    /// Whether the kernel finishes checksums: [`Socket::transmit_partial`](super::Socket) works.
    #[must_use]
    pub fn finishes_checksums(&self) -> bool {
        self.memory.has_metadata()
    }

    /// The whole room of a chunk, behind the headroom.
    ///
    /// # Safety
    /// The caller holds the chunk for all of `'a`, and has no other reference into it.
    #[inline]
    #[allow(
        clippy::mut_from_ref,
        reason = "the chunk's holder is exclusive, not the memory's"
    )]
    pub(super) unsafe fn room<'a>(&self, chunk: u32) -> &'a mut [u8] {
        self.check_chunk(chunk);
        // SAFETY: within the memory, and the caller holds the chunk. The memory is mapped as long
        // as a frame of it is viewed, because a view borrows both.
        unsafe { self.memory.bytes(address_of(chunk), CHUNK_ROOM) }
    }

    /// Where the packet begins that a chunk holds: to be fetched, not to be read.
    #[inline]
    pub(super) fn start_of(&self, chunk: u32) -> *const u8 {
        self.memory.place(address_of(chunk))
    }

    /// Asks the kernel to finish a checksum of the packet that begins in a chunk: the one at
    /// `start` + `offset`, over everything from `start`.
    ///
    /// # Safety
    /// The caller holds the chunk.
    #[inline]
    pub(super) unsafe fn ask_for_checksum(&self, chunk: u32, start: u16, offset: u16) {
        self.check_chunk(chunk);
        // SAFETY: within the memory, the caller holds the chunk, and the headroom is free.
        unsafe {
            self.memory
                .ask_for_checksum(address_of(chunk), start, offset);
        }
    }

    /// The descriptor of a chunk with a piece of `length` bytes in it.
    #[inline]
    pub(super) fn describe(&self, chunk: u32, length: u16, options: u32) -> Descriptor {
        kernel::descriptor(address_of(chunk), length, options)
    }

    /// Panics when there is no such chunk, whoever said that there is.
    #[inline]
    fn check_chunk(&self, chunk: u32) {
        assert!(chunk < self.chunks.count(), "there is no chunk {chunk}");
    }

    /// Panics when a frame is of other memory: its chunks would be somebody else's.
    #[inline]
    pub(super) fn check(&self, frame: &Frame) {
        assert_eq!(frame.umem, self.id, "the frame is of other memory");
    }

    /// A frame of chunks that the caller just took.
    #[inline]
    pub(super) fn frame(&self, head: u32, length: u32, pieces: u16) -> Frame {
        Frame {
            head,
            length,
            pieces,
            umem: self.id,
        }
    }

    /// Takes a batch of free chunks from the pool.
    #[inline]
    pub(super) fn pool_take(&self) -> Option<[u32; POOL_BATCH]> {
        self.pool.pop()
    }

    /// Gives a batch of free chunks to the pool.
    #[inline]
    pub(super) fn pool_give(&self, batch: [u32; POOL_BATCH]) {
        let full = self.pool.push(batch);
        debug_assert_eq!(full, Ok(()), "more chunks came back than there are");
    }

    /// Takes what closed lists left behind. Control path only.
    pub(super) fn remainder_take(&self) -> Vec<u32> {
        std::mem::take(
            &mut self
                .remainder
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Takes back a closed list. Control path only.
    pub(super) fn remainder_give(&self, chunks: &mut Vec<u32>) {
        let mut remainder = self
            .remainder
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        remainder.append(chunks);
        while remainder.len() >= POOL_BATCH {
            let rest = remainder.len() - POOL_BATCH;
            let mut batch = [NONE; POOL_BATCH];
            batch.copy_from_slice(&remainder[rest..]);
            remainder.truncate(rest);
            self.pool_give(batch);
        }
    }

    /// Reserves a slot for the socket of an interface.
    ///
    /// # Errors
    /// The slot is taken: two sockets with one slot would take each other's chunks for theirs. The
    /// interface has a socket: its queue takes no second.
    pub(super) fn slot_take(
        &self,
        slot: u32,
        interface: &str,
        index: u32,
    ) -> Result<u16, RingError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let free = u16::try_from(slot)
            .ok()
            .filter(|&slot| u32::from(slot) < SLOTS_MAX && !slots.contains_key(&slot));
        let Some(slot) = free else {
            let reason = format!("slot {slot} is in use or too large");
            return Err(RingError::new(interface, reason));
        };
        if slots.values().any(|&taken| taken == index) {
            let reason = "queue 0 has a socket of ours already";
            return Err(RingError::new(interface, reason));
        }
        slots.insert(slot, index);
        Ok(slot)
    }

    /// Chunks that an interface should have while it is quiet, given how many there are.
    ///
    /// An eighth of what is not reserved is shared out beyond the least; an early interface keeps
    /// its larger share when others come, so that some more than the eighth may be bound.
    pub(super) fn idle_depth(&self) -> u32 {
        let UmemSettings {
            frames,
            fill_idle,
            transmit_reserve,
            ..
        } = self.settings;
        let sockets = self
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len() as u32;
        let share = (frames - transmit_reserve) / (8 * sockets.max(1));
        share.clamp(fill_idle, (4 * fill_idle).min(queues::RING_ENTRIES_FILL))
    }

    /// Gives a slot back.
    pub(super) fn slot_give(&self, slot: u16) {
        self.slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&slot);
    }
}

/// Where the packet in a chunk begins.
#[inline]
const fn address_of(chunk: u32) -> usize {
    chunk as usize * CHUNK_BYTES + HEADROOM
}

const _: () = assert!(kernel::METADATA <= HEADROOM, "metadata fit before a packet");

fn check_settings(settings: &UmemSettings) -> Result<(), RingError> {
    let UmemSettings {
        frames,
        fill_idle,
        transmit_reserve,
        ..
    } = *settings;
    let refuse = |place: &str, expected: String, found: u32| {
        Err(RingError::new(
            place,
            format!("expected {expected}, found {found}"),
        ))
    };
    if frames == 0 || !frames.is_multiple_of(POOL_BATCH as u32) || frames > 1 << 24 {
        return refuse(
            "frames",
            format!("a multiple of {POOL_BATCH} up to {}", 1 << 24),
            frames,
        );
    }
    if fill_idle == 0 || fill_idle > queues::RING_ENTRIES_FILL {
        return refuse(
            "fill_idle",
            format!("1 to {}", queues::RING_ENTRIES_FILL),
            fill_idle,
        );
    }
    if transmit_reserve >= frames {
        return refuse(
            "transmit_reserve",
            format!("less than {frames} frames"),
            transmit_reserve,
        );
    }
    Ok(())
}
