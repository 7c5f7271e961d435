//! Fragments that came before the first of their datagram: the daemon keeps the frames, the engine
//! knows what each waits for.

use crate::fragment_table::FragmentKey;
use crate::{Drop, EndpointId, EndpointIndex, Now};

/// Frames that may wait at one worker.
pub const HOLDS_MAX: usize = 64;
/// Frames of them that one endpoint may let wait.
const HOLDS_OF_ENDPOINT_MAX: usize = 16;
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

#[derive(Debug, Clone, Copy)]
struct Hold {
    key: FragmentKey,
    from: EndpointIndex,
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

    /// Lets a frame wait for the first fragment of its datagram.
    ///
    /// # Errors
    /// `FragmentHoldFull`.
    pub fn hold(
        &mut self,
        key: FragmentKey,
        from: EndpointIndex,
        now: Now,
    ) -> Result<HoldSlot, Drop> {
        let of_endpoint = self.holds.iter().flatten();
        let of_endpoint = of_endpoint.filter(|hold| hold.key.endpoint == key.endpoint);
        if of_endpoint.count() >= HOLDS_OF_ENDPOINT_MAX {
            return Err(Drop::FragmentHoldFull);
        }
        let free = self.holds.iter().position(Option::is_none);
        let slot = free.ok_or(Drop::FragmentHoldFull)?;
        self.holds[slot] = Some(Hold {
            key,
            from,
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
        self.end_where(|hold| hold.key == *key);
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
            from_id: hold.key.endpoint,
        })
    }
}
