//! Frames that cannot go on yet: the daemon keeps them, the engine knows what each waits for.

use crate::fragment_table::FragmentKey;
use crate::{Drop, EndpointId, EndpointIndex, Now};
use std::net::IpAddr;

/// Frames that may wait at one worker.
pub const HOLDS_MAX: usize = 64;
/// Frames of them that one endpoint may let wait.
const HOLDS_OF_ENDPOINT_MAX: usize = 16;
/// Frames that may wait for a neighbour, so that fragments have the rest; and those of one endpoint.
const NEIGHBOUR_HOLDS_MAX: usize = HOLDS_MAX / 2;
const NEIGHBOUR_HOLDS_OF_ENDPOINT_MAX: usize = 8;
/// How long a frame waits.
const WAIT_MAX: u64 = 1_000_000_000;

/// The place of a frame that waits, below `HOLDS_MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldSlot(pub u8);

/// The wait of one frame is over: `Engine::resume` takes this back, once, together with the frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Released {
    /// Where the daemon keeps the frame. From now on the slot is free.
    pub slot: HoldSlot,
    pub(crate) from: EndpointIndex,
    pub(crate) from_id: EndpointId,
}

/// What a frame waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The first fragment of its datagram.
    First(FragmentKey),
    /// The MAC address of this address, at the endpoint that it is to go out at.
    Neighbour(EndpointIndex, IpAddr),
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    awaited: Awaited,
    from: EndpointIndex,
    from_id: EndpointId,
    /// Counts arrivals, to keep their order.
    number: u64,
    since: Now,
    is_over: bool,
}

/// All that waits at one worker.
#[derive(Debug)]
pub(crate) struct Holds {
    holds: [Option<Hold>; HOLDS_MAX],
    count: usize,
    /// Of these the wait is over.
    count_over: usize,
    arrivals: u64,
}

impl Holds {
    pub const fn new() -> Self {
        Self {
            holds: [None; HOLDS_MAX],
            count: 0,
            count_over: 0,
            arrivals: 0,
        }
    }

    /// Lets a frame wait that came in at this endpoint.
    ///
    /// # Errors
    /// `FragmentHoldFull`; `NeighbourUnknown` when too many wait for neighbours.
    pub fn hold(
        &mut self,
        awaited: Awaited,
        (from, from_id): (EndpointIndex, EndpointId),
        now: Now,
    ) -> Result<HoldSlot, Drop> {
        let is_neighbour = |awaited: &Awaited| matches!(awaited, Awaited::Neighbour(..));
        let (full, all_max, own_max) = if is_neighbour(&awaited) {
            let own_max = NEIGHBOUR_HOLDS_OF_ENDPOINT_MAX;
            (Drop::NeighbourUnknown, NEIGHBOUR_HOLDS_MAX, own_max)
        } else {
            (Drop::FragmentHoldFull, HOLDS_MAX, HOLDS_OF_ENDPOINT_MAX)
        };
        let alike = self.holds.iter().flatten();
        let alike = alike.filter(|hold| is_neighbour(&hold.awaited) == is_neighbour(&awaited));
        let own = alike.clone().filter(|hold| hold.from_id == from_id);
        if own.count() >= own_max || alike.count() >= all_max {
            return Err(full);
        }
        let slot = self.holds.iter().position(Option::is_none).ok_or(full)?;
        self.holds[slot] = Some(Hold {
            awaited,
            from,
            from_id,
            number: self.arrivals,
            since: now,
            is_over: false,
        });
        self.arrivals += 1;
        self.count += 1;
        Ok(HoldSlot(slot as u8))
    }

    /// Frames whose wait has not been ended by `take`.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Ends the wait for a datagram whose first fragment has come.
    pub fn release(&mut self, key: &FragmentKey) {
        self.end_where(|hold| hold.awaited == Awaited::First(*key));
    }

    /// Ends the wait for neighbours that are known now.
    pub fn release_neighbours(&mut self, is_known: impl Fn(EndpointIndex, IpAddr) -> bool) {
        self.end_where(|hold| match hold.awaited {
            Awaited::Neighbour(at, address) => is_known(at, address),
            Awaited::First(_) => false,
        });
    }

    /// Ends the wait of all that came in at an endpoint.
    pub fn release_from(&mut self, from: EndpointIndex) {
        self.end_where(|hold| hold.from == from);
    }

    /// Ends each wait that has been long enough.
    pub fn expire(&mut self, now: Now) {
        self.end_where(|hold| now.0.saturating_sub(hold.since.0) >= WAIT_MAX);
    }

    fn end_where(&mut self, is_meant: impl Fn(&Hold) -> bool) {
        if self.count == self.count_over {
            return;
        }
        for hold in self.holds.iter_mut().flatten() {
            if !hold.is_over && is_meant(hold) {
                hold.is_over = true;
                self.count_over += 1;
            }
        }
    }

    /// Takes out what came first of that whose wait is over.
    pub fn take(&mut self) -> Option<Released> {
        if self.count_over == 0 {
            return None;
        }
        let over = self.holds.iter().enumerate().filter_map(|(slot, hold)| {
            let hold = hold.as_ref().filter(|hold| hold.is_over)?;
            Some((hold.number, slot))
        });
        let (_, slot) = over.min()?;
        let hold = self.holds[slot].take()?;
        self.count -= 1;
        self.count_over -= 1;
        Some(Released {
            slot: HoldSlot(slot as u8),
            from: hold.from,
            from_id: hold.from_id,
        })
    }
}
