//! One interface's rings: packets in, packets out.

use super::chain::{Assembly, Chain, Fault, Piece};
use super::chunks::{NONE, Place};
use super::error::{InterfaceLost, RingError};
use super::fill::FillDepth;
use super::frame::{Frame, PIECES_MAX};
use super::free::{BURST, FreeFrames};
use super::queues::{self, Queues, RING_ENTRIES_FILL, RING_ENTRIES_TRANSMIT};
use super::umem::{CHUNK_BYTES, Umem};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use xsk_rs::FrameDesc;

/// More pieces of the packet follow (`XDP_PKT_CONTD`, linux/if_xdp.h).
const CONTINUED: u32 = 1;

/// What a socket has seen, and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketCounters {
    /// Received packets dropped because of more than [`PIECES_MAX`] pieces: `Drop::ChainTooLong`.
    pub chains_too_long: u64,
    /// Received packets dropped because they did not lie where the kernel puts them: never seen.
    pub frames_misplaced: u64,
    /// Chunks given to the kernel to receive into, filled and not fetched included.
    pub receive_chunks: u32,
    /// Chunks given to the kernel to send, sent and not taken back included.
    pub transmit_chunks: u32,
    /// Chunks that the fill ring should hold at present.
    pub fill_target: u32,
    /// Packets that the kernel dropped because the receive ring was full.
    pub receive_ring_full: u64,
    /// Packets that the kernel dropped for want of a chunk in the fill ring.
    pub fill_ring_empty: u64,
    /// Packets that the kernel dropped on receipt for another reason.
    pub receive_dropped: u64,
    /// Pieces that the kernel refused to send: never seen, and their chunks would be lost.
    pub transmit_invalid: u64,
}

/// The AF_XDP socket of one interface, bound to its queue 0. One thread's at a time.
///
/// Dropping it closes it and takes back every chunk in its rings. Opening and closing lock and
/// take milliseconds: control opens a socket and gives it to the worker; the worker removes it from
/// its waiter and gives it back to be dropped. Take it out of the XDP program's map of sockets
/// before that, so that the kernel has stopped using it even if a child process has inherited it.
#[derive(Debug)]
pub struct Socket {
    umem: Arc<Umem>,
    slot: u16,
    /// Taken only on drop, which must close the socket before it takes the chunks back.
    queues: Option<Queues>,
    assembly: Assembly,
    depth: FillDepth,
    receive_chunks: u32,
    transmit_chunks: u32,
    chains_too_long: u64,
    /// Of those, the ones that the worker has been told of.
    chains_told: u64,
    frames_misplaced: u64,
    /// What the worker has been told of the kernel's losses.
    losses_told: KernelLosses,
}

/// Packets that the kernel lost at the rings of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelLosses {
    /// For want of memory to receive into.
    pub fill_ring_empty: u64,
    /// For want of room to tell of them.
    pub receive_ring_full: u64,
    /// For other reasons, before a ring.
    pub receive_dropped: u64,
    /// On the way out: descriptors that the kernel did not accept.
    pub transmit_invalid: u64,
}

impl Socket {
    /// Opens a socket on queue 0 of an interface in this thread's network namespace.
    ///
    /// Nothing is received before [`Socket::refill`] and before the socket is in the XDP program's
    /// map under `slot`.
    ///
    /// # Errors
    /// The slot is in use; the interface does not exist; its queue has another socket, for longer
    /// than 3 s.
    pub fn open(umem: &Arc<Umem>, interface: &str, slot: u32) -> Result<Self, RingError> {
        let Some(slot) = umem.slot_take(slot) else {
            return Err(RingError::new(
                interface,
                format!("slot {slot} is in use or too large"),
            ));
        };
        let queues = queues::open(&umem.region, interface).inspect_err(|_| umem.slot_give(slot))?;
        let idle = umem.idle_depth();
        Ok(Self {
            umem: umem.clone(),
            slot,
            queues: Some(queues),
            assembly: Assembly::default(),
            depth: FillDepth::new(idle, RING_ENTRIES_FILL),
            receive_chunks: 0,
            transmit_chunks: 0,
            chains_too_long: 0,
            chains_told: 0,
            frames_misplaced: 0,
            losses_told: KernelLosses::default(),
        })
    }

    /// Its slot: key in the XDP program's map of sockets.
    #[must_use]
    pub fn slot(&self) -> u32 {
        u32::from(self.slot)
    }

    /// Appends up to `most` received packets to `batch`, and gives their number.
    ///
    /// Never grows `batch` beyond its capacity. Fewer than asked for means that the ring is empty.
    #[inline]
    pub fn receive(&mut self, free: &mut FreeFrames, batch: &mut Vec<Frame>, most: usize) -> usize {
        self.check(free);
        let before = batch.len();
        let full = before + most.min(batch.capacity() - before);
        let mut pieces = 0;
        while batch.len() < full {
            // A piece ends at most one packet, so this many cannot be too many.
            let want = BURST.min(full - batch.len());
            // SAFETY: all sockets have the same memory, and what is fetched is noted as held.
            let count = unsafe { self.queues().receive.consume(&mut free.burst[..want]) };
            for index in 0..count {
                let piece = free.burst[index];
                if let Some(frame) = self.join(&piece, free) {
                    batch.push(frame);
                }
            }
            pieces += count as u32;
            if count < want {
                break;
            }
        }
        if pieces > 0 {
            debug_assert!(
                pieces <= self.receive_chunks,
                "received into chunks never given"
            );
            self.receive_chunks -= pieces;
            self.depth.received(self.receive_chunks);
        }
        batch.len() - before
    }

    /// Packets that were dropped for having too many pieces since this was last asked; each ends
    /// as `Drop::ChainTooLong`.
    #[inline]
    pub fn take_chains_too_long(&mut self) -> u64 {
        let new = self.chains_too_long - self.chains_told;
        self.chains_told = self.chains_too_long;
        new
    }

    /// What the kernel lost since this was last asked. A system call: not for every batch.
    pub fn take_losses(&mut self) -> KernelLosses {
        let now = self.counters();
        let told = std::mem::replace(
            &mut self.losses_told,
            KernelLosses {
                fill_ring_empty: now.fill_ring_empty,
                receive_ring_full: now.receive_ring_full,
                receive_dropped: now.receive_dropped,
                transmit_invalid: now.transmit_invalid,
            },
        );
        KernelLosses {
            fill_ring_empty: now.fill_ring_empty.saturating_sub(told.fill_ring_empty),
            receive_ring_full: now.receive_ring_full.saturating_sub(told.receive_ring_full),
            receive_dropped: now.receive_dropped.saturating_sub(told.receive_dropped),
            transmit_invalid: now.transmit_invalid.saturating_sub(told.transmit_invalid),
        }
    }

    /// Puts a packet into the transmit ring, all its pieces; [`Socket::kick`] sends it.
    ///
    /// # Errors
    /// Gives the frame back when the ring has no room for it, or when it is empty.
    #[inline]
    pub fn transmit(&mut self, frame: Frame) -> Result<(), Frame> {
        self.umem.check(&frame);
        if frame.length == 0 {
            // The kernel skips an empty descriptor and never gives its chunk back.
            return Err(frame);
        }
        let place = Place::Rings(self.slot);
        if frame.pieces == 1 {
            // SAFETY: the frame, hence its chunk, is ours.
            let piece = unsafe { self.umem.describe(frame.head, frame.length as u16) };
            // SAFETY: the chunk is of this memory and leaves our hands below.
            if unsafe { self.queues().transmit.produce_one(&piece) } == 0 {
                return Err(frame);
            }
            self.umem.chunks.set_empty(frame.head, place);
        } else if !self.transmit_chain(&frame, place) {
            return Err(frame);
        }
        self.transmit_chunks += u32::from(frame.pieces);
        frame.dissolve();
        Ok(())
    }

    /// Has the kernel send what is in the transmit ring, and takes back what was sent: once for
    /// each batch.
    ///
    /// What the kernel cannot take now stays in the ring ([`Socket::has_pending`]) for a later kick.
    ///
    /// # Errors
    /// The interface is gone, or down.
    #[inline]
    pub fn kick(&mut self, free: &mut FreeFrames) -> Result<(), InterfaceLost> {
        let mut queued = self.queued();
        while queued > 0 && self.queues().transmit.needs_wakeup() {
            let sent = send(self.as_fd(), &[], SendFlags::DONTWAIT);
            self.reap(free);
            let left = self.queued();
            match sent {
                Ok(_) => break,
                Err(Errno::NXIO | Errno::NODEV) => return Err(InterfaceLost::Gone),
                Err(Errno::NETDOWN) => return Err(InterfaceLost::Down),
                // The kernel sends 32 packets a call, and also says so when it can send none.
                Err(_) if left == queued => break,
                Err(_) => queued = left,
            }
        }
        self.reap(free);
        Ok(())
    }

    /// Takes back what was sent, and gives the number of chunks.
    #[inline]
    pub fn reap(&mut self, free: &mut FreeFrames) -> u32 {
        self.check(free);
        let mut chunks = 0;
        while self.transmit_chunks > 0 {
            // SAFETY: all sockets have the same memory, and what comes back is noted as free.
            let count = unsafe { self.queues().completion.consume(&mut free.burst[..]) };
            for index in 0..count {
                free.give_chunk(chunk_of(&free.burst[index]));
            }
            chunks += count as u32;
            self.transmit_chunks -= count as u32;
            if count < BURST {
                break;
            }
        }
        chunks
    }

    /// Gives the kernel chunks to receive into, up to the depth that traffic asks for and memory
    /// allows.
    #[inline]
    pub fn refill(&mut self, free: &mut FreeFrames) {
        self.check(free);
        let short = self.depth.target().saturating_sub(self.receive_chunks);
        if short == 0 {
            return;
        }
        // Half of what is spare, so that the next interface that gets busy finds some, too.
        let (pooled, reserve) = (self.umem.pooled(), self.umem.settings.transmit_reserve);
        let spare = pooled.saturating_sub(reserve) / 2;
        let idle = self.depth.idle().saturating_sub(self.receive_chunks);
        let mut want = short.min(spare.max(idle.min(pooled.saturating_sub(reserve / 2))));
        while want > 0 {
            let count = self.gather(free, want.min(BURST as u32) as usize);
            // SAFETY: the chunks are of this memory and were taken out of the free list.
            let given = unsafe { self.queues().fill.produce(&free.burst[..count]) };
            let place = if given == 0 {
                Place::Held
            } else {
                Place::Rings(self.slot)
            };
            for index in 0..count {
                let chunk = chunk_of(&free.burst[index]);
                self.umem.chunks.set_empty(chunk, place);
                if given == 0 {
                    free.give_chunk(chunk);
                }
            }
            if given == 0 {
                return;
            }
            self.receive_chunks += given as u32;
            want -= given as u32;
        }
    }

    /// Lets the fill depth sink if little was received: once a second.
    pub fn relax(&mut self) {
        self.depth.relax(self.receive_chunks);
    }

    /// Whether packets wait in the transmit ring for another [`Socket::kick`].
    #[must_use]
    pub fn has_pending(&mut self) -> bool {
        self.queued() > 0
    }

    /// What the socket has seen and holds. Asks the kernel: not for every packet.
    #[must_use]
    pub fn counters(&self) -> SocketCounters {
        let queues = self.queues.as_ref().expect("open until dropped");
        let kernel = queues.receive.fd().xdp_statistics().unwrap_or_default();
        SocketCounters {
            chains_too_long: self.chains_too_long,
            frames_misplaced: self.frames_misplaced,
            receive_chunks: self.receive_chunks,
            transmit_chunks: self.transmit_chunks,
            fill_target: self.depth.target(),
            receive_ring_full: kernel.rx_ring_full(),
            fill_ring_empty: kernel.rx_fill_ring_empty_descs(),
            receive_dropped: kernel.rx_dropped(),
            transmit_invalid: kernel.tx_invalid_descs(),
        }
    }

    #[inline]
    fn queues(&mut self) -> &mut Queues {
        self.queues.as_mut().expect("open until dropped")
    }

    /// Panics when the list is of other memory.
    #[inline]
    fn check(&self, free: &FreeFrames) {
        assert!(
            Arc::ptr_eq(&self.umem, &free.umem),
            "the free frames are of other memory"
        );
    }

    /// Pieces in the transmit ring that the kernel has not taken.
    #[inline]
    fn queued(&mut self) -> u32 {
        RING_ENTRIES_TRANSMIT - self.queues().transmit.nb_free_exact()
    }

    /// Adds a received piece to its packet, and gives the packet if that was the last.
    #[inline]
    fn join(&mut self, piece: &FrameDesc, free: &mut FreeFrames) -> Option<Frame> {
        let piece = Piece {
            address: piece.addr(),
            length: piece.lengths().data(),
            continued: piece.has_more_frames(),
        };
        let Chain {
            head,
            length,
            pieces,
            fault,
        } = self.assembly.join(&self.umem.chunks, piece)?;
        let frame = self.umem.frame(head, length, pieces);
        match fault {
            None => return Some(frame),
            Some(Fault::TooLong) => self.chains_too_long += 1,
            Some(Fault::Misplaced) => self.frames_misplaced += 1,
        }
        free.release(frame);
        None
    }

    /// Takes up to `most` free chunks and describes them in the list's burst; gives their number.
    #[inline]
    fn gather(&self, free: &mut FreeFrames, most: usize) -> usize {
        for count in 0..most {
            let Some(chunk) = free.take_chunk() else {
                return count;
            };
            free.burst[count] = self.umem.descriptors[chunk as usize];
        }
        most
    }

    /// Puts the pieces of a packet into the transmit ring, all or none; says which.
    fn transmit_chain(&mut self, frame: &Frame, place: Place) -> bool {
        let mut pieces = [FrameDesc::default(); PIECES_MAX];
        let mut chunks = [NONE; PIECES_MAX];
        let (count, mut next) = (frame.pieces(), frame.head);
        for index in 0..count {
            let chunk = self.umem.chunks.get(next);
            // SAFETY: the frame, hence each of its chunks, is ours.
            pieces[index] = unsafe { self.umem.describe(next, chunk.length) };
            pieces[index].set_options(if index + 1 < count { CONTINUED } else { 0 });
            chunks[index] = next;
            next = chunk.next;
        }
        // SAFETY: the chunks are of this memory and leave our hands with the frame.
        if unsafe { self.queues().transmit.produce(&pieces[..count]) } == 0 {
            return false;
        }
        for &chunk in &chunks[..count] {
            self.umem.chunks.set_empty(chunk, place);
        }
        true
    }
}

impl AsFd for Socket {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queues.as_ref().expect("open until dropped").as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Closing waits until no processor is in the socket's receive path any more; after that
        // nobody but us reaches the chunks in its rings.
        drop(self.queues.take());
        let mut chunks = Vec::new();
        if let Some(chain) = self.assembly.abandon() {
            let mut next = chain.head;
            for _ in 0..chain.pieces {
                chunks.push(next);
                next = self.umem.chunks.get(next).next;
            }
        }
        let in_rings = |&chunk: &u32| self.umem.chunks.get(chunk).place == Place::Rings(self.slot);
        chunks.extend((0..self.umem.chunks.count()).filter(in_rings));
        for &chunk in &chunks {
            self.umem.chunks.set_empty(chunk, Place::Free);
        }
        self.umem.remainder_give(&mut chunks);
        self.umem.slot_give(self.slot);
    }
}

/// The chunk that a descriptor points into.
#[inline]
fn chunk_of(descriptor: &FrameDesc) -> u32 {
    (descriptor.addr() / CHUNK_BYTES) as u32
}
