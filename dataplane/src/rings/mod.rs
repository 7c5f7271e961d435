//! Shared memory, frames and rings: how packets come in from the kernel and go out again.
//!
//! The daemon's only folder with `unsafe`. One [`Umem`] is shared by every [`Socket`], so a frame
//! goes from one interface to another, or to another worker, without a byte being moved.
//!
//! # A worker's loop
//!
//! ```no_run
//! # use portcullis::rings::*;
//! # use std::time::Duration;
//! # fn judge(_: portcullis_engine::FrameBytes<'_>) -> bool { true }
//! # fn main() -> Result<(), RingError> {
//! let umem = Umem::new(&UmemSettings::default())?;              // control, once
//! let mut free = FreeFrames::new(&umem);                        // each worker, once
//! let mut batch: Vec<Frame> = Vec::with_capacity(64);
//! let mut waiter = Waiter::new()?;
//! let mut sockets = [Socket::open(&umem, "veth-a", 0)?, Socket::open(&umem, "veth-b", 1)?];
//! for (token, socket) in sockets.iter_mut().enumerate() {
//!     socket.refill(&mut free);                                 // arm: else nothing is received
//!     waiter.add(socket, token as u32)?;                        // then put it in the map of sockets
//! }
//! loop {
//!     waiter.wait(Some(Duration::from_millis(100)))?;
//!     for token in waiter.ready() {
//!         sockets[token as usize].receive(&mut free, &mut batch, 64);
//!         for mut frame in batch.drain(..) {
//!             let pass = judge(frame.view(&umem).bytes());
//!             let out = &mut sockets[1 - token as usize];
//!             if !pass {
//!                 free.release(frame);
//!             } else if let Err(frame) = out.transmit(frame) {
//!                 free.release(frame);                          // counted: Drop::TransmitFull
//!             }
//!         }
//!     }
//!     for socket in &mut sockets {                              // those with work
//!         let _ = socket.kick(&mut free);                       // also reaps what was sent
//!         socket.refill(&mut free);
//!     }
//! }
//! # }
//! ```
//!
//! Once a second, for every socket: [`Socket::relax`], which lets the fill depth of quiet
//! interfaces sink, and [`Socket::reap`].
//!
//! # One holder
//!
//! A chunk of memory is at any time in exactly one place: free, held in a [`Frame`], or in the
//! rings of one socket. [`Frame`] is not `Clone`; submitting or releasing consumes it; a frame
//! that is merely dropped is lost to the pool and shows in [`Census::lost`]. The place is noted
//! for each chunk, so [`Umem::census`] can be taken at any time and [`Socket::close`] gets back
//! whatever the kernel held.
//!
//! # Bounds
//!
//! Frames in all: [`UmemSettings::frames`]. Frames in fill rings follow activity, from
//! [`UmemSettings::fill_idle`] for each socket up to [`RING_ENTRIES_FILL`], and growth ends where
//! it would touch [`UmemSettings::transmit_reserve`]. No call of the packet path allocates, locks,
//! blocks or logs; opening and closing sockets does, and belongs to control.

#![allow(
    unsafe_code,
    reason = "memory shared with the kernel; see the promises at each place"
)]

mod chain;
mod chunks;
mod error;
mod fill;
mod frame;
mod free;
mod kernel;
mod packets;
mod pages;
mod prefetch;
mod queues;
mod socket;
mod umem;
mod waiter;

pub use error::{InterfaceLost, RingError};
pub use frame::{Frame, PIECES_MAX, View};
pub use free::FreeFrames;
pub use packets::PacketSender;
pub use pages::want_large_pages;
pub use prefetch::prefetch;
pub use queues::{
    RING_ENTRIES_COMPLETION, RING_ENTRIES_FILL, RING_ENTRIES_RECEIVE, RING_ENTRIES_TRANSMIT,
};
pub use socket::{KernelLosses, Socket, SocketCounters};
pub use umem::{CHUNK_BYTES, CHUNK_ROOM, Census, Umem, UmemSettings};
pub use waiter::{Waiter, Waker};
