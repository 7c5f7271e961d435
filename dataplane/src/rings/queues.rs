//! The rings of a socket as the kernel and xsk-rs set them up.

use super::error::RingError;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use std::error::Error;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};
use xsk_rs::config::{BindFlags, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, RxQueue, TxQueue};

/// Chunks that may wait to be received into. Fewer cost bulk traffic a quarter.
pub const RING_ENTRIES_FILL: u32 = 4096;
/// Pieces that may wait to be fetched by us.
pub const RING_ENTRIES_RECEIVE: u32 = 2048;
/// Pieces that may wait to be sent.
pub const RING_ENTRIES_TRANSMIT: u32 = 2048;
/// Sent pieces that may wait to be taken back.
pub const RING_ENTRIES_COMPLETION: u32 = 2048;

/// Rings of the anchor, which carries nothing.
const ANCHOR_ENTRIES: u32 = 64;
/// A queue stays taken for a moment after its last socket was closed.
const BUSY_MAX: Duration = Duration::from_secs(3);
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// The four rings of a bound socket, which closes when they are dropped.
///
/// 128 KiB with the entries above: 36 KiB each, and 20 KiB for completion.
#[derive(Debug)]
pub(super) struct Queues {
    pub transmit: TxQueue,
    pub receive: RxQueue,
    pub fill: FillQueue,
    pub completion: CompQueue,
}

impl AsFd for Queues {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the queues are, which outlive the borrow.
        unsafe { BorrowedFd::borrow_raw(self.receive.fd().as_raw_fd()) }
    }
}

/// Binds a socket to queue 0 of an interface.
///
/// # Errors
/// The interface does not exist; its queue has another socket, for longer than 3 s.
pub(super) fn open(region: &xsk_rs::Umem, interface: &str) -> Result<Queues, RingError> {
    bind(
        region,
        interface,
        (RING_ENTRIES_RECEIVE, RING_ENTRIES_TRANSMIT),
    )
}

/// Binds the socket that the memory itself hangs on.
///
/// # Errors
/// As [`open`].
pub(super) fn open_anchor(region: &xsk_rs::Umem, interface: &str) -> Result<Queues, RingError> {
    bind(region, interface, (ANCHOR_ENTRIES, ANCHOR_ENTRIES))
}

/// The size of a ring as xsk-rs takes it.
pub(super) fn queue_size(entries: u32) -> Result<QueueSize, RingError> {
    QueueSize::new(entries).map_err(|error| RingError::new("ring", error.to_string()))
}

/// Binds a socket to queue 0 of an interface, with `(receive, transmit)` ring entries.
fn bind(
    region: &xsk_rs::Umem,
    interface: &str,
    (receive, transmit): (u32, u32),
) -> Result<Queues, RingError> {
    let name = interface
        .parse()
        .map_err(|_| RingError::new(interface, "the name of an interface has no zero byte"))?;
    let config = SocketConfig::builder()
        .rx_queue_size(queue_size(receive)?)
        .tx_queue_size(queue_size(transmit)?)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        // Only the first socket of the memory tells the kernel; the others inherit.
        .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP | BindFlags::XDP_USE_SG)
        .build();
    let begun = Instant::now();
    let (transmit, receive, shared) = loop {
        // SAFETY: with INHIBIT_PROG_LOAD any number of sockets may share the memory.
        match unsafe { xsk_rs::Socket::new(config, region, &name, 0) } {
            Ok(queues) => break queues,
            Err(error) if is_busy(&error) && begun.elapsed() < BUSY_MAX => {
                thread::sleep(BUSY_PAUSE);
            }
            Err(error) if is_busy(&error) => {
                let reason = "another process has had a socket on it for 3 s: a second daemon?";
                return Err(RingError::new(interface, reason));
            }
            Err(error) => return Err(RingError::new(interface, with_source(&error))),
        }
    };
    let Some((fill, completion)) = shared else {
        return Err(RingError::new(
            interface,
            "queue 0 has a socket of ours already",
        ));
    };
    let queues = Queues {
        transmit,
        receive,
        fill,
        completion,
    };
    // libxdp lets children inherit it; in one of them it would outlive its closing here.
    fcntl_setfd(&queues, FdFlags::CLOEXEC)
        .map_err(|error| RingError::new(interface, format!("close-on-exec: {error}")))?;
    Ok(queues)
}

fn is_busy(error: &dyn Error) -> bool {
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    source.and_then(io::Error::raw_os_error) == Some(Errno::BUSY.raw_os_error())
}

/// An error with its cause.
pub(super) fn with_source(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
