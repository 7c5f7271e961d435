//! AF_XDP as the kernel has it: shared memory, sockets and their rings. [linux/if_xdp.h]
//!
//! The only file that maps memory or touches a ring; everything above deals in chunks. In place of
//! xsk-rs, whose libxdp cannot register memory for transmit metadata.

use super::pages::want_large_pages;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, Result};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, SocketAddrXdpWithSharedUmem, XDP_PGOFF_RX_RING,
    XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING, XdpDesc,
    XdpDescOptions, XdpRingFlags, XdpRingOffset, XdpStatistics, XdpUmemReg, XdpUmemRegFlags,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netdevice, socket_with, sockopt};
use std::os::fd::AsRawFd;
use std::ptr::{NonNull, null_mut};
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes right before a packet that tell the kernel what to do as it sends it, in `Memory` that was
/// registered for it. [`struct xsk_tx_metadata`]
pub(super) const METADATA: usize = 24;
/// `XDP_UMEM_TX_METADATA_LEN`: the registration says how long the metadata are.
const HAS_METADATA: u32 = 1 << 2;
/// `XDP_TXMD_FLAGS_CHECKSUM`: finish the checksum at `csum_offset` from `csum_start`.
const FINISH_CHECKSUM: u64 = 1 << 1;
/// More pieces of the packet follow (`XDP_PKT_CONTD`).
pub(super) const CONTINUED: u32 = 1 << 0;
/// Metadata lie before the packet; on its first piece only (`XDP_TX_METADATA`).
pub(super) const TOLD: u32 = 1 << 1;

/// Entries of the rings of the socket that only holds the memory.
const ANCHOR_ENTRIES: u32 = 64;

/// A piece of a packet in a ring.
pub(super) type Descriptor = XdpDesc;

/// The descriptor of `length` bytes at `address`.
#[inline]
pub(super) fn descriptor(address: usize, length: u16, options: u32) -> Descriptor {
    XdpDesc {
        addr: address as u64,
        len: u32::from(length),
        options: XdpDescOptions::from_bits_retain(options),
    }
}

/// Bytes that are mapped until it is dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is only where bytes are; who may touch which of them is told at each access.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Memory of our own; it is there as soon as it is registered.
    fn anonymous(length: usize) -> Result<Self> {
        // Large pages are for private memory only, as the kernel is set up by default.
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: new memory, at an address of the kernel's choice.
        let start = unsafe { mmap_anonymous(null_mut(), length, access, flags) }?;
        let mapping = Self::of(start.cast(), length)?;
        want_large_pages(start.cast(), length);
        // A child process has no use for it, and would be given a copy because it is pinned.
        // SAFETY: it is mapped by us, and nobody forks to use it.
        unsafe { madvise(start, length, Advice::LinuxDontFork) }?;
        Ok(mapping)
    }

    fn of_socket(socket: &OwnedFd, offset: u64, length: usize) -> Result<Self> {
        let (access, flags) = (
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::POPULATE,
        );
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let start = unsafe { mmap(null_mut(), length, access, flags, socket, offset) }?;
        Self::of(start.cast(), length)
    }

    fn of(start: *mut u8, length: usize) -> Result<Self> {
        let start = NonNull::new(start).ok_or(Errno::NOMEM)?;
        Ok(Self { start, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `of`, and nobody has a pointer into it that outlives this owner.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert_eq!(unmapped, Ok(()), "a mapping of ours");
    }
}

/// Memory that the kernel shares with us, and the socket that it is registered at.
#[derive(Debug)]
pub(super) struct Memory {
    mapping: Mapping,
    socket: OwnedFd,
    has_metadata: bool,
}

impl Memory {
    /// Maps and registers `length` bytes in chunks of `chunk` bytes; with room for metadata where
    /// that is wanted and the kernel can (6.8).
    pub fn register(length: usize, chunk: usize, wants_metadata: bool) -> Result<Self> {
        let (mapping, socket) = (Mapping::anonymous(length)?, open()?);
        let register = |flags, tx_metadata_len| {
            let registration = XdpUmemReg {
                addr: mapping.start.as_ptr().expose_provenance() as u64,
                len: length as u64,
                chunk_size: chunk as u32,
                headroom: 0,
                flags: XdpUmemRegFlags::from_bits_retain(flags),
                tx_metadata_len,
            };
            sockopt::set_xdp_umem_reg(&socket, registration)
        };
        // An older kernel does not know the flag and says so before it has registered anything.
        let has_metadata = wants_metadata
            && match register(HAS_METADATA, METADATA as u32) {
                Ok(()) => true,
                Err(Errno::INVAL) => false,
                Err(error) => return Err(error),
            };
        if !has_metadata {
            register(0, 0)?;
        }
        sockopt::set_xdp_umem_fill_ring_size(&socket, ANCHOR_ENTRIES)?;
        sockopt::set_xdp_umem_completion_ring_size(&socket, ANCHOR_ENTRIES)?;
        sockopt::set_xdp_rx_ring_size(&socket, ANCHOR_ENTRIES)?;
        Ok(Self {
            mapping,
            socket,
            has_metadata,
        })
    }

    /// Binds the memory to queue 0 of an interface: only then can sockets share it, and they work
    /// as this one is told to.
    pub fn bind(&self, interface: u32) -> Result<()> {
        let flags = SocketAddrXdpFlags::XDP_COPY
            | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP
            | SocketAddrXdpFlags::XDP_USE_SG;
        bind(&self.socket, &SocketAddrXdp::new(flags, interface, 0))
    }

    /// Whether the kernel reads metadata before packets.
    #[inline]
    pub fn has_metadata(&self) -> bool {
        self.has_metadata
    }

    /// `length` bytes at `address`.
    ///
    /// # Safety
    /// The caller holds the chunk that they are in for all of `'a`, and has no other reference
    /// into them.
    #[inline]
    #[allow(
        clippy::mut_from_ref,
        reason = "the chunk's holder is exclusive, not the memory's"
    )]
    pub unsafe fn bytes<'a>(&self, address: usize, length: usize) -> &'a mut [u8] {
        debug_assert!(address + length <= self.mapping.length, "within the memory");
        // SAFETY: mapped for as long as `self` is, which whoever holds a chunk keeps alive; the
        // caller answers for the rest.
        unsafe { slice::from_raw_parts_mut(self.mapping.start.as_ptr().add(address), length) }
    }

    /// Where the byte at `address` is.
    #[inline]
    pub fn place(&self, address: usize) -> *const u8 {
        self.mapping.start.as_ptr().wrapping_add(address)
    }

    /// Asks the kernel to finish the checksum of the packet at `address`.
    ///
    /// # Safety
    /// The caller holds the chunk, in which the packet has at least [`METADATA`] bytes before it.
    #[inline]
    pub unsafe fn ask_for_checksum(&self, address: usize, start: u16, offset: u16) {
        // SAFETY: as the caller promises.
        let metadata = unsafe { self.bytes(address - METADATA, METADATA) };
        metadata[..8].copy_from_slice(&FINISH_CHECKSUM.to_ne_bytes());
        metadata[8..10].copy_from_slice(&start.to_ne_bytes());
        metadata[10..12].copy_from_slice(&offset.to_ne_bytes());
        metadata[12..].fill(0);
    }
}

/// Entries of the rings of a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingEntries {
    pub receive: u32,
    pub transmit: u32,
    pub fill: u32,
    pub completion: u32,
}

/// The four rings of a bound socket, which closes when they are dropped.
#[derive(Debug)]
pub(super) struct Queues {
    pub transmit: Producer<Descriptor>,
    pub receive: Consumer<Descriptor>,
    pub fill: Producer<u64>,
    pub completion: Consumer<u64>,
    socket: OwnedFd,
}

impl Queues {
    /// Makes a socket with its rings, bound to nothing yet.
    pub fn open(entries: RingEntries) -> Result<Self> {
        let socket = open()?;
        sockopt::set_xdp_rx_ring_size(&socket, entries.receive)?;
        sockopt::set_xdp_tx_ring_size(&socket, entries.transmit)?;
        sockopt::set_xdp_umem_fill_ring_size(&socket, entries.fill)?;
        sockopt::set_xdp_umem_completion_ring_size(&socket, entries.completion)?;
        allow_to_send(&socket, entries.transmit);
        let at = sockopt::xdp_mmap_offsets(&socket)?;
        let (receive, transmit) = (XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING);
        let (fill, completion) = (XDP_UMEM_PGOFF_FILL_RING, XDP_UMEM_PGOFF_COMPLETION_RING);
        Ok(Self {
            receive: Consumer(Ring::map(&socket, receive, entries.receive, &at.rx)?),
            transmit: Producer(Ring::map(&socket, transmit, entries.transmit, &at.tx)?),
            fill: Producer(Ring::map(&socket, fill, entries.fill, &at.fr)?),
            completion: Consumer(Ring::map(&socket, completion, entries.completion, &at.cr)?),
            socket,
        })
    }

    /// Binds the socket to queue 0 of an interface, over memory that is bound itself.
    pub fn bind(&self, memory: &Memory, interface: u32) -> Result<()> {
        let address = SocketAddrXdpWithSharedUmem {
            addr: SocketAddrXdp::new(SocketAddrXdpFlags::XDP_SHARED_UMEM, interface, 0),
            shared_umem_fd: memory.socket.as_fd(),
        };
        bind(&self.socket, &address)
    }

    /// What the kernel counted.
    pub fn statistics(&self) -> Result<XdpStatistics> {
        sockopt::xdp_statistics(&self.socket)
    }
}

impl AsFd for Queues {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A ring that we fill and the kernel empties.
#[derive(Debug)]
pub(super) struct Producer<T>(Ring<T>);

impl<T: Copy> Producer<T> {
    /// Whether so many entries have room.
    #[inline]
    pub fn has_room(&mut self, count: u32) -> bool {
        let ring = &mut self.0;
        let is_roomy = |ring: &Ring<T>| ring.own.wrapping_sub(ring.other) + count <= ring.entries;
        if !is_roomy(ring) {
            ring.other = ring.index(ring.consumer).load(Ordering::Acquire);
        }
        is_roomy(ring)
    }

    /// Adds an entry, for which there is room. The kernel sees it with the next
    /// [`Producer::publish`].
    #[inline]
    pub fn push(&mut self, entry: T) {
        let ring = &mut self.0;
        debug_assert!(ring.own.wrapping_sub(ring.other) < ring.entries, "room");
        // SAFETY: the place is in the ring, and the kernel has done with it or never had it.
        unsafe { ring.place(ring.own).write(entry) };
        ring.own = ring.own.wrapping_add(1);
    }

    /// Shows the kernel all entries, and what was written before.
    #[inline]
    pub fn publish(&mut self) {
        let index = self.0.index(self.0.producer);
        index.store(self.0.own, Ordering::Release);
    }

    /// Entries that the kernel has not taken.
    #[inline]
    pub fn queued(&self) -> u32 {
        let taken = self.0.index(self.0.consumer).load(Ordering::Acquire);
        self.0.own.wrapping_sub(taken)
    }

    /// Whether the kernel looks into the ring only when told to.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        let flags = self.0.index(self.0.flags).load(Ordering::Relaxed);
        flags & XdpRingFlags::XDP_RING_NEED_WAKEUP.bits() != 0
    }
}

/// A ring that the kernel fills and we empty.
#[derive(Debug)]
pub(super) struct Consumer<T>(Ring<T>);

impl<T: Copy> Consumer<T> {
    /// The next entry. The kernel gets its place back with the next [`Consumer::release`].
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        let ring = &mut self.0;
        if ring.own == ring.other {
            ring.other = ring.index(ring.producer).load(Ordering::Acquire);
            if ring.own == ring.other {
                return None;
            }
        }
        // SAFETY: the place is in the ring, and the kernel filled it before it moved its index.
        let entry = unsafe { ring.place(ring.own).read() };
        ring.own = ring.own.wrapping_add(1);
        Some(entry)
    }

    /// Gives the kernel the places of all entries that were taken.
    #[inline]
    pub fn release(&mut self) {
        let index = self.0.index(self.0.consumer);
        index.store(self.0.own, Ordering::Release);
    }
}

/// A ring shared with the kernel: one side writes each index.
#[derive(Debug)]
struct Ring<T> {
    /// Where everything below points into.
    _mapping: Mapping,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    first: NonNull<T>,
    /// A power of two.
    entries: u32,
    /// Our index, which may be ahead of what the kernel was shown.
    own: u32,
    /// The kernel's index when it was last read.
    other: u32,
}

// SAFETY: the pointers lead into the mapping, which moves along; one thread has it at a time.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    fn map(socket: &OwnedFd, offset: u64, entries: u32, at: &XdpRingOffset) -> Result<Self> {
        // The kernel has refused anything else.
        assert!(entries.is_power_of_two(), "{entries} entries");
        let length = at.desc as usize + entries as usize * size_of::<T>();
        let mapping = Mapping::of_socket(socket, offset, length)?;
        let flags = at.flags.ok_or(Errno::OPNOTSUPP)?;
        // SAFETY: the kernel made room for the indices and `entries` entries where it says.
        let place = |offset: u64| unsafe { mapping.start.add(offset as usize) };
        Ok(Self {
            producer: place(at.producer).cast(),
            consumer: place(at.consumer).cast(),
            flags: place(flags).cast(),
            first: place(at.desc).cast(),
            _mapping: mapping,
            entries,
            own: 0,
            other: 0,
        })
    }

    #[inline]
    fn index(&self, which: NonNull<AtomicU32>) -> &AtomicU32 {
        // SAFETY: one of our three pointers, into the mapping, which lives as long as `self`.
        unsafe { which.as_ref() }
    }

    /// Where the entry with a running number is.
    #[inline]
    fn place(&self, number: u32) -> *mut T {
        let place = (number & (self.entries - 1)) as usize;
        // SAFETY: less than `entries`, and the mapping has so many.
        unsafe { self.first.as_ptr().add(place) }
    }
}

/// Lets one call send so many packets; by itself the kernel stops after 32. One older than 6.17 does
/// not know how, and is called more often.
fn allow_to_send(socket: &OwnedFd, packets: u32) {
    /// `XDP_MAX_TX_SKB_BUDGET`
    const SEND_BUDGET: libc::c_int = 9;
    // SAFETY: the kernel reads four bytes, which live until it returns.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            SEND_BUDGET,
            (&raw const packets).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
}

/// A socket that no child process inherits: in one of them it would outlive its closing here.
fn open() -> Result<OwnedFd> {
    let (family, kind) = (AddressFamily::XDP, SocketType::RAW);
    socket_with(family, kind, SocketFlags::CLOEXEC, None)
}

/// The index of an interface in this thread's network namespace.
pub(super) fn index_of(interface: &str) -> Result<u32> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    netdevice::name_to_index(socket, interface)
}
