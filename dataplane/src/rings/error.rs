//! What can go wrong with shared memory and rings.

use std::fmt;
use std::io;

/// Why shared memory or a socket could not be set up. Control path only.
#[derive(Debug)]
pub struct RingError {
    place: String,
    reason: String,
}

impl RingError {
    /// An error at `place` (an interface, a setting).
    pub(super) fn new(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for RingError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.place, self.reason)
    }
}

impl std::error::Error for RingError {}

impl From<io::Error> for RingError {
    fn from(error: io::Error) -> Self {
        Self::new("epoll", error.to_string())
    }
}

/// Why a socket cannot send any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceLost {
    /// The interface is gone: the socket is of no more use, close it.
    Gone,
    /// The interface is down, and may come up again: frames wait in the ring.
    Down,
}
