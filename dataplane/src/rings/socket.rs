//! One interface's rings: packets in, packets out.

use super::chain::{Assembly, Chain, Fault, Piece};
use super::chunks::Place;
use super::error::{InterfaceLost, RingError};
use super::fill::FillDepth;
use super::frame::Frame;
use super::free::FreeFrames;
use super::kernel::{CONTINUED, Descriptor, Queues, TOLD};
use super::prefetch::prefetch;
use super::queues::{self, RING_ENTRIES_FILL};
use super::umem::{CHUNK_BYTES, Umem};
use rustix::io::Errno;
use rustix::net::xdp::XdpStatistics;
use rustix::net::{SendFlags, send};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// What a socket has seen, and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketCounters {
    /// Received packets dropped because of more than [`PIECES_MAX`](super::PIECES_MAX) pieces: `Drop::ChainTooLong`.
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
    /// System calls to send, since they were last asked for.
    kicks: u64,
    /// Whether a kick between two regular ones made no room.
    is_stuck: bool,
    /// What the worker has been told of the kernel's losses.
    losses_told: KernelLosses,
    /// Packets in and out since the worker last asked.
    passed: u32,
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
        let index = queues::index_of(interface)?;
        let slot = umem.slot_take(slot, interface, index)?;
        let queues =
            queues::open(&umem.memory, interface, index).inspect_err(|_| umem.slot_give(slot))?;
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
            kicks: 0,
            is_stuck: false,
            losses_told: KernelLosses::default(),
            passed: 0,
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
        self.receive_pieces(free, batch, most, u32::MAX)
    }

    /// The same, and no more than `pieces_most` pieces: what is left of a packet comes next time.
    #[inline]
    pub fn receive_pieces(
        &mut self,
        free: &mut FreeFrames,
        batch: &mut Vec<Frame>,
        most: usize,
        pieces_most: u32,
    ) -> usize {
        self.check(free);
        let before = batch.len();
        let full = before + most.min(batch.capacity() - before);
        let mut pieces = 0;
        while batch.len() < full && pieces < pieces_most {
            let Some(piece) = self.queues().receive.take() else {
                break;
            };
            pieces += 1;
            if let Some(frame) = self.join(&piece, free) {
                // Another core has just written it. Who reads it next waits for one line at a time,
                // but all of a batch can be under way at once.
                prefetch(self.umem.start_of(frame.head));
                batch.push(frame);
            }
        }
        if pieces > 0 {
            self.queues().receive.release();
            debug_assert!(
                pieces <= self.receive_chunks,
                "received into chunks never given"
            );
            self.receive_chunks -= pieces;
            self.depth.received(self.receive_chunks);
        }
        let received = batch.len() - before;
        self.passed += received as u32;
        received
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

    /// Puts a packet into the transmit ring as it is, all its pieces; [`Socket::kick`] sends it.
    ///
    /// # Errors
    /// Gives the frame back when the ring has no room for it, or when it is empty.
    #[inline]
    pub fn transmit(&mut self, frame: Frame) -> Result<(), Frame> {
        self.submit(frame, 0)
    }

    /// The same for a packet with a partial checksum, which the kernel finishes or hands on
    /// unfinished to whom that suffices: the word at `start` + `offset`, over all that follows
    /// `start`.
    ///
    /// # Errors
    /// As [`Socket::transmit`]; and when the checksum does not lie in the frame's head, or
    /// [`Umem::finishes_checksums`] is not so.
    #[inline]
    pub fn transmit_partial(&mut self, frame: Frame, start: u16, offset: u16) -> Result<(), Frame> {
        self.umem.check(&frame);
        let end = usize::from(start) + usize::from(offset) + 2;
        let head = usize::from(self.umem.chunks.get(frame.head).length);
        // The kernel would refuse the descriptor and never give its chunk back.
        if end > head || !self.umem.finishes_checksums() {
            debug_assert!(false, "a checksum at {start} + {offset} of {frame:?}");
            return Err(frame);
        }
        // SAFETY: the frame, hence its first chunk, is ours.
        unsafe { self.umem.ask_for_checksum(frame.head, start, offset) };
        self.submit(frame, TOLD)
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
        self.is_stuck = false;
        self.send_queued(free)
    }

    /// Kicks because the transmit ring is full. Says whether there may be room now.
    ///
    /// When a kick makes none, no other follows before the next [`Socket::kick`]: a destination
    /// that takes nothing must not cost a system call for each frame to it.
    #[inline]
    pub fn make_room(&mut self, free: &mut FreeFrames) -> bool {
        if self.is_stuck {
            return false;
        }
        let before = self.transmit_chunks;
        self.is_stuck = self.send_queued(free).is_err() || self.transmit_chunks >= before;
        !self.is_stuck
    }

    /// Packets received and put into the transmit ring since this was last asked.
    #[inline]
    pub fn take_passed(&mut self) -> u32 {
        std::mem::take(&mut self.passed)
    }

    /// System calls to send since this was last asked.
    #[inline]
    pub fn take_kicks(&mut self) -> u64 {
        std::mem::take(&mut self.kicks)
    }

    fn send_queued(&mut self, free: &mut FreeFrames) -> Result<(), InterfaceLost> {
        let mut queued = self.queued();
        while queued > 0 && self.queues().transmit.needs_wakeup() {
            self.kicks += 1;
            let sent = send(self.as_fd(), &[], SendFlags::DONTWAIT);
            self.reap(free);
            let left = self.queued();
            match sent {
                Ok(_) => break,
                Err(Errno::NXIO | Errno::NODEV) => return Err(InterfaceLost::Gone),
                Err(Errno::NETDOWN) => return Err(InterfaceLost::Down),
                // An older kernel sends 32 packets a call, and also says so when it can send none.
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
        while chunks < self.transmit_chunks {
            let Some(address) = self.queues().completion.take() else {
                break;
            };
            free.give_chunk(chunk_of(address));
            chunks += 1;
        }
        if chunks > 0 {
            self.queues().completion.release();
            self.transmit_chunks -= chunks;
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
        let want = short.min(spare.max(idle.min(pooled.saturating_sub(reserve / 2))));
        let place = Place::Rings(self.slot);
        let mut given = 0;
        while given < want && self.queues().fill.has_room(1) {
            let Some(chunk) = free.take_chunk() else {
                break;
            };
            self.umem.chunks.set_empty(chunk, place);
            let address = u64::from(chunk) * CHUNK_BYTES as u64;
            self.queues().fill.push(address);
            given += 1;
        }
        if given > 0 {
            self.queues().fill.publish();
            self.receive_chunks += given;
        }
    }

    /// Lets the fill depth sink if little was received: once a second.
    pub fn relax(&mut self) {
        self.depth.relax(self.receive_chunks);
    }

    /// Whether packets wait in the transmit ring for another [`Socket::kick`].
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.queued() > 0
    }

    /// What the socket has seen and holds. Asks the kernel: not for every packet.
    #[must_use]
    pub fn counters(&self) -> SocketCounters {
        let kernel = self.open_queues().statistics();
        let of = |count: fn(&XdpStatistics) -> Option<u64>| {
            kernel.as_ref().ok().and_then(count).unwrap_or(0)
        };
        SocketCounters {
            chains_too_long: self.chains_too_long,
            frames_misplaced: self.frames_misplaced,
            receive_chunks: self.receive_chunks,
            transmit_chunks: self.transmit_chunks,
            fill_target: self.depth.target(),
            receive_ring_full: of(|kernel| kernel.rx_ring_full),
            fill_ring_empty: of(|kernel| kernel.rx_fill_ring_empty_descs),
            receive_dropped: of(|kernel| Some(kernel.rx_dropped)),
            transmit_invalid: of(|kernel| Some(kernel.tx_invalid_descs)),
        }
    }

    #[inline]
    fn open_queues(&self) -> &Queues {
        self.queues.as_ref().expect("open until dropped")
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
    fn queued(&self) -> u32 {
        self.open_queues().transmit.queued()
    }

    /// Adds a received piece to its packet, and gives the packet if that was the last.
    #[inline]
    fn join(&mut self, piece: &Descriptor, free: &mut FreeFrames) -> Option<Frame> {
        let piece = Piece {
            address: piece.addr as usize,
            length: piece.len as usize,
            continued: piece.options.bits() & CONTINUED != 0,
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

    /// Puts the pieces of a packet into the transmit ring, all or none, the first with `options`.
    #[inline]
    fn submit(&mut self, frame: Frame, options: u32) -> Result<(), Frame> {
        self.umem.check(&frame);
        let pieces = u32::from(frame.pieces);
        // The kernel skips an empty descriptor and never gives its chunk back.
        if frame.length == 0 || !self.queues().transmit.has_room(pieces) {
            return Err(frame);
        }
        let (mut next, mut options) = (frame.head, options);
        for left in (0..pieces).rev() {
            let chunk = self.umem.chunks.get(next);
            options |= if left > 0 { CONTINUED } else { 0 };
            let piece = self.umem.describe(next, chunk.length, options);
            self.queues().transmit.push(piece);
            // It leaves our hands with the frame, below.
            self.umem.chunks.set_empty(next, Place::Rings(self.slot));
            (next, options) = (chunk.next, 0);
        }
        self.queues().transmit.publish();
        self.transmit_chunks += pieces;
        self.passed += 1;
        frame.dissolve();
        Ok(())
    }
}

impl AsFd for Socket {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.open_queues().as_fd()
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

/// The chunk that an address lies in.
#[inline]
fn chunk_of(address: u64) -> u32 {
    (address / CHUNK_BYTES as u64) as u32
}
