//! What the packet path tells control beside its outcomes: few, bounded, nothing lost that matters.

use crate::{EndpointIndex, MacAddress, Now};
use std::net::IpAddr;

/// Notices of one kind that wait to be taken. Control asks between batches; what does not fit is
/// noticed again with the next packet.
const NOTICES_MAX: usize = 16;

/// A small set in the order of arrival.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    items: [Option<T>; NOTICES_MAX],
}

impl<T: Copy + PartialEq> Waiting<T> {
    const fn new() -> Self {
        Self {
            items: [None; NOTICES_MAX],
        }
    }

    /// Adds an item, unless it waits already or the set is full.
    pub fn add(&mut self, item: T) {
        for place in &mut self.items {
            match place {
                Some(waiting) if *waiting == item => return,
                Some(_) => {}
                None => {
                    *place = Some(item);
                    return;
                }
            }
        }
    }

    /// Takes the oldest item out.
    pub fn take(&mut self) -> Option<T> {
        let first = self.items[0].take();
        self.items.rotate_left(1);
        first
    }
}

/// A destination that is running out of ports to be reached from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CrowdedDestination {
    /// The address that packets leave with.
    pub egress: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// The destination.
    pub destination: (IpAddr, u16),
    /// Whether a packet has been dropped for it; else three quarters of the ports are in use.
    pub is_exhausted: bool,
}

/// All that waits to be told, and how many answers may be sent.
#[derive(Debug)]
pub(crate) struct Notices {
    pub learned: Waiting<(EndpointIndex, MacAddress)>,
    pub wanted: Waiting<(EndpointIndex, IpAddr)>,
    pub crowded: Waiting<CrowdedDestination>,
    pub icmp_errors: Allowance,
    pub resets: Allowance,
}

impl Notices {
    pub fn new(icmp_errors_per_second: u32, now: Now) -> Self {
        Self {
            learned: Waiting::new(),
            wanted: Waiting::new(),
            crowded: Waiting::new(),
            icmp_errors: Allowance::new(icmp_errors_per_second, now),
            resets: Allowance::new(icmp_errors_per_second, now),
        }
    }
}

/// So many in each second.
#[derive(Debug)]
pub(crate) struct Allowance {
    per_second: u32,
    left: u32,
    /// When the current second began.
    second: Now,
}

impl Allowance {
    const fn new(per_second: u32, now: Now) -> Self {
        Self {
            per_second,
            left: per_second,
            second: now,
        }
    }

    /// Takes one, when one is left.
    pub fn take(&mut self, now: Now) -> bool {
        if now.0.saturating_sub(self.second.0) >= 1_000_000_000 {
            self.second = now;
            self.left = self.per_second;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}
