//! One thread of the packet path: receives, has the engine judge, transmits, records.
//!
//! After start it does not allocate, lock, block (but to sleep) or log.

mod company;
mod connect;
mod desk;
mod foresight;
mod handle;
mod patience;
mod turn;
mod walk;

pub use connect::{WorkerParts, connect};
pub use desk::{Desk, Page, Silent};
pub use foresight::Foresight;
pub use handle::{Command, Observed, Reply, WorkerHandle};
pub use turn::{Worker, now};

/// Frames that are taken from one interface before the next has its turn.
pub const BATCH: usize = 128;
/// Pieces of frames, likewise: a segment of 64 KB is 17, and takes as long as so many small frames.
const PIECES: u32 = 512;
