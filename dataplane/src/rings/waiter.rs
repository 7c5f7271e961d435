//! Waits for packets: a worker with hundreds of sockets pays only for those that have some.

use super::error::RingError;
use super::socket::Socket;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::{Errno, read, write};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Ready sockets that one call tells of; the others come with the next.
const EVENTS_MAX: usize = 256;
/// The token of the waker; those of sockets are 32 bits.
const WAKER: u64 = u64::MAX;

/// Waits until one of a worker's sockets has packets, or somebody calls [`Waker::wake`].
///
/// Level triggered: a socket that still has packets is told of again.
pub struct Waiter {
    epoll: OwnedFd,
    bell: Arc<OwnedFd>,
    events: Vec<epoll::Event>,
    /// Tokens of the sockets that the caller looks into with every wait.
    attended: Vec<u32>,
}

// SAFETY: the events are not `Send` only because their data could be pointers; ours are tokens.
// Kept by `Waiter::new` and `Waiter::add`, which alone register descriptors.
unsafe impl Send for Waiter {}

/// Ends a [`Waiter::wait`] from another thread. To be cloned freely.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Ends the current wait, or the next.
    pub fn wake(&self) {
        // Fails only when it has been rung 2^64 times without being heard.
        let _ = write(&*self.0, &1_u64.to_ne_bytes());
    }
}

impl Waiter {
    /// A waiter without sockets.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new() -> Result<Self, RingError> {
        let failed = |error: Errno| RingError::new("waiter", error.to_string());
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(failed)?;
        epoll::add(&epoll, &bell, EventData::new_u64(WAKER), EventFlags::IN).map_err(failed)?;
        Ok(Self {
            epoll,
            bell: Arc::new(bell),
            events: Vec::with_capacity(EVENTS_MAX),
            attended: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// What other threads wake this one with.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(self.bell.clone())
    }

    /// Waits for a socket, too, and calls it `token`.
    ///
    /// # Errors
    /// The socket is waited for already, or the kernel has no memory for it.
    pub fn add(&self, socket: &Socket, token: u32) -> Result<(), RingError> {
        let data = EventData::new_u64(u64::from(token));
        epoll::add(&self.epoll, socket, data, EventFlags::IN)
            .map_err(|error| RingError::new(format!("waiter, token {token}"), error.to_string()))
    }

    /// Waits for a socket no longer: before it is given away or dropped.
    ///
    /// # Errors
    /// The socket was not waited for.
    pub fn remove(&mut self, socket: &Socket, token: u32) -> Result<(), RingError> {
        if let Some(position) = self.attended.iter().position(|&other| other == token) {
            self.attended.swap_remove(position);
            return Ok(());
        }
        epoll::delete(&self.epoll, socket)
            .map_err(|error| RingError::new("waiter", error.to_string()))
    }

    /// From now on [`Waiter::ready`] names this socket after every wait, and the kernel is not asked:
    /// for who is so busy that being told costs more than looking. The kernel tells of every packet
    /// received *and sent*: 100 ns each of who sends it and of who forwards it. [measured]
    ///
    /// Such a socket ends no wait: [`Waiter::rest`] before one that takes time.
    pub fn attend(&mut self, socket: &Socket, token: u32) {
        if !self.attended.contains(&token) && epoll::delete(&self.epoll, socket).is_ok() {
            self.attended.push(token);
        }
    }

    /// Whether a socket is named after every wait.
    #[must_use]
    pub fn attends_any(&self) -> bool {
        !self.attended.is_empty()
    }

    /// Has the kernel tell of all sockets again. What has come in meanwhile ends the next wait.
    ///
    /// # Errors
    /// The kernel has no memory for it: the socket is attended still.
    pub fn rest<'s>(
        &mut self,
        socket_of: impl Fn(u32) -> Option<&'s Socket>,
    ) -> Result<(), RingError> {
        while let Some(&token) = self.attended.last() {
            if let Some(socket) = socket_of(token) {
                self.add(socket, token)?;
            }
            self.attended.pop();
        }
        Ok(())
    }

    /// Waits until a socket is ready, the waker is used or the time is over (None: for ever), and
    /// says whether the waker was used. [`Waiter::ready`] names the sockets.
    ///
    /// # Errors
    /// None in practice: only mistakes of ours.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, RingError> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        self.events.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(RingError::new("waiter", error.to_string())),
        }
        let woken = self.events.iter().any(|event| event.data.u64() == WAKER);
        if woken {
            // Empty already when two waits were ended by one bell: no matter.
            let _ = read(&*self.bell, &mut [MaybeUninit::<u8>::uninit(); 8]);
        }
        Ok(woken)
    }

    /// Tokens of the sockets that the last [`Waiter::wait`] found ready, at most 256, and of those
    /// that are attended.
    pub fn ready(&self) -> impl Iterator<Item = u32> + '_ {
        let tokens = self.events.iter().map(|event| event.data.u64());
        tokens
            .filter(|&token| token != WAKER)
            .map(|token| token as u32)
            .chain(self.attended.iter().copied())
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready: Vec<u32> = self.ready().collect();
        out.debug_struct("Waiter")
            .field("ready", &ready)
            .finish_non_exhaustive()
    }
}
