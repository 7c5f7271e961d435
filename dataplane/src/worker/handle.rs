//! What others hold of a worker, and what is said between them.

use super::desk::{Desk, Filled, Page};
use crate::counters::WorkerCounters;
use crate::rings::{Frame, Socket, Waker};
use crossbeam::queue::ArrayQueue;
use portcullis_engine::{
    CrowdedDestination, EndpointIndex, Handover, MacAddress, Now, Record, RuleHits, Snapshot,
};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What control tells a worker.
pub enum Command {
    /// Use this snapshot from the next batch on, and count its rules here.
    Adopt(Arc<Snapshot>, Arc<RuleHits>),
    /// Own this interface.
    Add {
        /// Its place.
        index: EndpointIndex,
        /// Its socket, armed.
        socket: Box<Socket>,
        /// Whether it was another worker's: its connections are under way.
        is_moved: bool,
    },
    /// Give this interface back.
    Remove {
        /// Its place.
        index: EndpointIndex,
    },
    /// Fill this page, from a cursor on.
    List {
        /// Zero at first.
        cursor: u32,
        /// Empty, with room.
        page: Page,
    },
}

/// What a worker tells control.
pub enum Reply {
    /// The snapshot before, to be freed, and what was counted of its rules.
    Replaced(Option<Arc<Snapshot>>, Option<Arc<RuleHits>>),
    /// The socket of an interface, to be closed.
    Removed {
        /// Its place.
        index: EndpointIndex,
        /// Its socket, where it had one.
        socket: Option<Box<Socket>>,
    },
    /// The far side told its MAC address.
    Learned {
        /// Where.
        index: EndpointIndex,
        /// What it is.
        mac: MacAddress,
    },
    /// A next hop on the uplink whose MAC address is missing.
    NeighbourWanted {
        /// The uplink.
        index: EndpointIndex,
        /// The next hop.
        address: IpAddr,
    },
    /// A destination that is running out of ports.
    Crowded(CrowdedDestination),
}

/// A record and when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Observed {
    /// When.
    pub time: Now,
    /// What.
    pub record: Record,
}
/// What one worker hands to another.
pub(super) enum Passed {
    /// A frame on its way to the worker that owns its destination.
    Frame(Handover, Frame),
    /// The way back: its destination denied what this packet opened.
    Denied(Handover),
}

/// What others hold of a worker.
pub struct WorkerHandle {
    /// Its number.
    pub index: u16,
    /// The core that it is pinned to.
    pub core: Option<usize>,
    /// What it counts.
    pub counters: Arc<WorkerCounters>,
    /// What it tells control.
    pub replies: Arc<ArrayQueue<Reply>>,
    /// What it records.
    pub records: Arc<ArrayQueue<Observed>>,
    pub(super) commands: Arc<ArrayQueue<Command>>,
    pub(super) filled: Arc<ArrayQueue<Filled>>,
    pub(super) bell: Bell,
}

impl WorkerHandle {
    /// Where its tables are asked for. One for all who ask.
    #[must_use]
    pub fn desk(&self) -> Desk {
        Desk {
            worker: self.index,
            commands: Arc::clone(&self.commands),
            filled: Arc::clone(&self.filled),
            bell: self.bell.clone(),
            is_unanswered: Mutex::default(),
        }
    }

    /// Tells the worker something, and wakes it.
    pub fn send(&self, command: Command) {
        // Full only while the worker hangs; control has nothing better to do than to wait for it.
        let mut command = command;
        while let Err(back) = self.commands.push(command) {
            command = back;
            std::thread::sleep(Duration::from_millis(1));
        }
        self.bell.ring();
    }
}

/// Wakes a worker, at the cost of a system call only when it sleeps.
#[derive(Clone)]
pub(super) struct Bell {
    pub waker: Waker,
    pub is_asleep: Arc<AtomicBool>,
}

impl Bell {
    pub fn ring(&self) {
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            self.waker.wake();
        }
    }
}
