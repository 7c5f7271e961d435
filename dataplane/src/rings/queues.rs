//! Sockets bound to interfaces, and the memory that they share.

use super::error::RingError;
use super::kernel::{self, Memory, Queues, RingEntries};
use rustix::io::Errno;
use std::thread;
use std::time::{Duration, Instant};

/// Chunks that may wait to be received into. Fewer cost bulk traffic a quarter.
pub const RING_ENTRIES_FILL: u32 = 4096;
/// Pieces that may wait to be fetched by us.
pub const RING_ENTRIES_RECEIVE: u32 = 2048;
/// Pieces that may wait to be sent.
pub const RING_ENTRIES_TRANSMIT: u32 = 2048;
/// Sent pieces that may wait to be taken back.
pub const RING_ENTRIES_COMPLETION: u32 = 2048;

/// A queue stays taken for a moment after its last socket was closed.
const BUSY_MAX: Duration = Duration::from_secs(3);
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Maps and registers memory, and binds it to an interface.
///
/// # Errors
/// Memory or limits do not suffice; the interface does not exist; its queue has another socket, for
/// longer than 3 s.
pub(super) fn open_memory(
    length: usize,
    chunk: usize,
    wants_metadata: bool,
    interface: &str,
) -> Result<Memory, RingError> {
    let memory = Memory::register(length, chunk, wants_metadata)
        .map_err(|error| RingError::new("shared memory", error.to_string()))?;
    let index = index_of(interface)?;
    when_free(interface, || memory.bind(index))?;
    Ok(memory)
}

/// Binds a socket to queue 0 of an interface.
///
/// 128 KiB of rings: 36 KiB each, and 20 KiB for completion.
///
/// # Errors
/// The interface does not exist; its queue has another socket, for longer than 3 s.
pub(super) fn open(memory: &Memory, interface: &str, index: u32) -> Result<Queues, RingError> {
    let queues = Queues::open(RingEntries {
        receive: RING_ENTRIES_RECEIVE,
        transmit: RING_ENTRIES_TRANSMIT,
        fill: RING_ENTRIES_FILL,
        completion: RING_ENTRIES_COMPLETION,
    })
    .map_err(|error| RingError::new(interface, format!("making a socket: {error}")))?;
    when_free(interface, || queues.bind(memory, index))?;
    Ok(queues)
}

/// The index of an interface.
///
/// # Errors
/// It does not exist.
pub(super) fn index_of(interface: &str) -> Result<u32, RingError> {
    kernel::index_of(interface).map_err(|error| RingError::new(interface, error.to_string()))
}

fn when_free(interface: &str, bind: impl Fn() -> rustix::io::Result<()>) -> Result<(), RingError> {
    let begun = Instant::now();
    loop {
        match bind() {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) if begun.elapsed() < BUSY_MAX => thread::sleep(BUSY_PAUSE),
            Err(Errno::BUSY) => {
                let reason = "another process has had a socket on it for 3 s: a second daemon?";
                return Err(RingError::new(interface, reason));
            }
            Err(error) => {
                return Err(RingError::new(interface, format!("binding: {error}")));
            }
        }
    }
}
