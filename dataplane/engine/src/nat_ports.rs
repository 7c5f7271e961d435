//! Ports to send from: found as long as there is one, and fast until the last.
//!
//! A port serves many destinations at once; only the answers have to be told apart. Which are
//! free is known to the sessions; here it is counted by destination, and mapped where many are
//! in use.

use crate::links::{Links, List, NONE};
use crate::translation::Tuple;
use crate::{EndpointId, Now};
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use std::net::IpAddr;

mod bitmaps;

use bitmaps::Bitmaps;

/// Ports that are tried by hash before the search becomes exact.
const PROBES: u32 = 4;
/// Ports of one destination that are remembered as come free.
const FREED_MAX: usize = 8;
/// Places that one call of `list` looks at.
const LIST_PLACES_MAX: usize = 1024;
/// How long it is remembered that a destination has no port left, unless one comes free.
const EXHAUSTED_NANOSECONDS: u64 = 1_000_000_000;

/// Ports, or identifiers of echo, that may be used; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl Default for PortRange {
    fn default() -> Self {
        Self {
            first: 1024,
            last: u16::MAX,
        }
    }
}

impl PortRange {
    /// Every identifier of echo.
    pub const IDENTIFIERS: Self = Self {
        first: 0,
        last: u16::MAX,
    };

    /// The ports from `first` to `last`, both included. None when there are none.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// Whether a port may be used.
    #[must_use]
    pub const fn has(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }

    /// A port for each number, all about as often.
    fn at(self, number: u16) -> u16 {
        self.first + ((u32::from(number) * self.count()) >> 16) as u16
    }

    /// Every port once, from this one on and round.
    fn from(self, start: u16) -> impl Iterator<Item = u16> {
        (start..=self.last).chain(self.first..start)
    }
}

/// No port of the range is free to this destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortsExhausted;

/// What a port has to differ for: who sends, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Destination {
    endpoint: EndpointId,
    protocol: u8,
    egress: IpAddr,
    address: IpAddr,
    port: u16,
}

impl Destination {
    /// The destination of a translated tuple.
    pub fn of(endpoint: EndpointId, after: &Tuple) -> Self {
        Self {
            endpoint,
            protocol: after.protocol,
            egress: after.source,
            address: after.destination,
            port: after.destination_port,
        }
    }

    fn hash(&self, hasher: &SipHasher13) -> u64 {
        let mut bytes = [0; 39];
        bytes[..4].copy_from_slice(&self.endpoint.0.to_ne_bytes());
        bytes[4] = self.protocol;
        bytes[5..7].copy_from_slice(&self.port.to_ne_bytes());
        for (address, at) in [(self.egress, 7), (self.address, 23)] {
            let octets = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            bytes[at..at + 16].copy_from_slice(&octets);
        }
        hasher.hash(&bytes)
    }
}

/// How many ports one destination takes, as people and metrics see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationUse {
    /// The endpoint at which its sessions translate.
    pub endpoint: EndpointId,
    /// The address that is sent from.
    pub egress: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// The destination address.
    pub address: IpAddr,
    /// The destination port; zero for echo.
    pub port: u16,
    /// Ports in use.
    pub used: u32,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub destination: Destination,
    /// The port that is best: the packet's own.
    pub preferred: u16,
    /// Differs from packet to packet, and nobody can foretell it.
    pub chance: u64,
    pub range: PortRange,
}

#[derive(Debug, Clone, Copy)]
struct Use {
    destination: Destination,
    /// Zero when the place is free.
    count: u32,
    /// The number of its bitmap, or `NONE`.
    bitmap: u32,
    /// The bitmap goes when fewer ports are in use.
    bitmap_keep_min: u32,
    /// Ports that came free last: with them a destination near its end needs no search.
    freed: Freed,
    /// Until then there is no port while `count` is not below `exhausted_count`.
    exhausted_until: Now,
    exhausted_count: u32,
    /// Sessions that may be ended at need, the longest idle first.
    queue: List,
}

const _: () = assert!(size_of::<Use>() <= 96);

/// A short stack of ports; the oldest is forgotten when one too many comes.
#[derive(Debug, Clone, Copy, Default)]
struct Freed {
    ports: [u16; FREED_MAX],
    count: u8,
}

impl Freed {
    fn push(&mut self, port: u16) {
        if usize::from(self.count) == FREED_MAX {
            self.ports.copy_within(1.., 0);
            self.count -= 1;
        }
        self.ports[usize::from(self.count)] = port;
        self.count += 1;
    }

    fn pop(&mut self) -> Option<u16> {
        self.count = self.count.checked_sub(1)?;
        Some(self.ports[usize::from(self.count)])
    }
}

/// The ports in use, by destination. A destination has a place here as long as it has a session,
/// so there are as many places as sessions, and room never runs out.
#[derive(Debug)]
pub(crate) struct Ports {
    uses: Vec<Use>,
    free: Vec<u32>,
    /// Twice the capacity, so that tombstones are cleared in place and it never grows.
    index: HashTable<u32>,
    hasher: SipHasher13,
    bitmaps: Bitmaps,
    /// By slot of the session.
    queues: Links,
}

impl Ports {
    /// No port in use. Allocates all that it will ever need.
    pub fn new(sessions_max: u32, bitmaps_max: u32, hasher: SipHasher13) -> Self {
        let uses_max = sessions_max as usize;
        Self {
            uses: Vec::with_capacity(uses_max),
            free: Vec::with_capacity(uses_max),
            index: HashTable::with_capacity(uses_max * 2),
            hasher,
            bitmaps: Bitmaps::new(bitmaps_max),
            queues: Links::new(sessions_max),
        }
    }

    fn find(&self, destination: &Destination) -> Option<u32> {
        let hash = destination.hash(&self.hasher);
        self.index
            .find(hash, |place| {
                self.uses[*place as usize].destination == *destination
            })
            .copied()
    }

    /// A port that is free; nothing is taken yet. `is_free` knows by the sessions.
    ///
    /// # Errors
    /// `PortsExhausted` when none is, or none was less than a second ago and none came free since.
    pub fn search(
        &mut self,
        request: &Request,
        now: Now,
        is_free: impl Fn(u16) -> bool,
    ) -> Result<u16, PortsExhausted> {
        let range = request.range;
        if range.has(request.preferred) && is_free(request.preferred) {
            return Ok(request.preferred);
        }
        for probe in 0..PROBES {
            let port = range.at((request.chance >> (16 * probe)) as u16);
            if is_free(port) {
                return Ok(port);
            }
        }
        // Other bits than the last probe's, so that the search does not begin at a port in use.
        let start = range.at((request.chance >> 7) as u16);
        let Some(place) = self.find(&request.destination) else {
            return range
                .from(start)
                .find(|port| is_free(*port))
                .ok_or(PortsExhausted);
        };
        let of = &self.uses[place as usize];
        if now < of.exhausted_until && of.count >= of.exhausted_count {
            return Err(PortsExhausted);
        }
        self.map(place, range, &is_free);
        let found = self.search_exactly(place, range, start, &is_free);
        if found.is_none() {
            let until = now.0.saturating_add(EXHAUSTED_NANOSECONDS);
            let of = &mut self.uses[place as usize];
            of.exhausted_until = Now(until);
            of.exhausted_count = of.count;
        }
        found.ok_or(PortsExhausted)
    }

    /// Has a bitmap made for a destination that takes a quarter of its ports, bit by bit: one
    /// packet does not pay for all of it.
    fn map(&mut self, place: u32, range: PortRange, is_free: impl Fn(u16) -> bool) {
        let of = &mut self.uses[place as usize];
        if of.bitmap == NONE {
            if of.count < range.count() / 4 {
                return;
            }
            let Some(bitmap) = self.bitmaps.take() else {
                return;
            };
            of.bitmap = bitmap;
            // An eighth: a destination at the border does not make one again and again.
            of.bitmap_keep_min = range.count() / 8;
        }
        self.bitmaps.fill(of.bitmap, is_free);
    }

    fn search_exactly(
        &mut self,
        place: u32,
        range: PortRange,
        start: u16,
        is_free: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let of = &mut self.uses[place as usize];
        if of.bitmap != NONE && self.bitmaps.is_filled(of.bitmap) {
            let (bitmaps, bitmap) = (&self.bitmaps, of.bitmap);
            let found = bitmaps
                .first_free(bitmap, start, range.last, &is_free)
                .or_else(|| {
                    let before = start.checked_sub(1).filter(|last| range.has(*last))?;
                    bitmaps.first_free(bitmap, range.first, before, &is_free)
                });
            if found.is_some() {
                return found;
            }
        }
        while let Some(freed) = of.freed.pop() {
            if range.has(freed) && is_free(freed) {
                return Some(freed);
            }
        }
        // Also behind a bitmap: it shows as used what is past its time and still in the table.
        range.from(start).find(|port| is_free(*port))
    }

    /// Counts a port as taken. Returns the place at which it is counted.
    pub fn take(&mut self, destination: &Destination, port: u16) -> u32 {
        let place = match self.find(destination) {
            Some(place) => place,
            None => self.insert(destination),
        };
        let of = &mut self.uses[place as usize];
        of.count += 1;
        if of.bitmap != NONE {
            self.bitmaps.set(of.bitmap, port);
        }
        place
    }

    fn insert(&mut self, destination: &Destination) -> u32 {
        let empty = Use {
            destination: *destination,
            count: 0,
            bitmap: NONE,
            bitmap_keep_min: 0,
            freed: Freed::default(),
            exhausted_until: Now(0),
            exhausted_count: 0,
            queue: List::EMPTY,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.uses[place as usize] = empty;
                place
            }
            None => {
                debug_assert!(self.uses.len() < self.uses.capacity());
                self.uses.push(empty);
                self.uses.len() as u32 - 1
            }
        };
        let (uses, hasher) = (&self.uses, &self.hasher);
        self.index
            .insert_unique(destination.hash(hasher), place, |place| {
                uses[*place as usize].destination.hash(hasher)
            });
        place
    }

    /// Counts a port as free again.
    pub fn release(&mut self, place: u32, port: u16) {
        let of = &mut self.uses[place as usize];
        of.count -= 1;
        of.freed.push(port);
        if of.bitmap != NONE {
            self.bitmaps.clear(of.bitmap, port);
            if of.count < of.bitmap_keep_min || of.count == 0 {
                self.bitmaps.give_back(of.bitmap);
                of.bitmap = NONE;
            }
        }
        if of.count == 0 {
            debug_assert!(of.queue.is_empty());
            let hash = of.destination.hash(&self.hasher);
            if let Ok(entry) = self.index.find_entry(hash, |found| *found == place) {
                entry.remove();
            }
            self.free.push(place);
        }
    }

    /// Puts a session that may be ended at need behind the others of its destination.
    pub fn queue(&mut self, place: u32, session: u32) {
        let queue = &mut self.uses[place as usize].queue;
        self.queues.push_back(queue, session);
    }

    /// Takes a session out of that queue again.
    pub fn unqueue(&mut self, place: u32, session: u32) {
        let queue = &mut self.uses[place as usize].queue;
        self.queues.unlink(queue, session);
    }

    /// The first session of the queue of a destination.
    pub fn first_queued(&self, destination: &Destination) -> Option<u32> {
        self.uses[self.find(destination)? as usize].queue.first()
    }

    /// The session behind this one in its queue.
    pub fn queued_after(&self, session: u32) -> Option<u32> {
        self.queues.after(session)
    }

    /// Whether a destination takes three quarters of its ports.
    pub fn is_nearly_full(&self, destination: &Destination, range: PortRange) -> bool {
        let used = self
            .find(destination)
            .map_or(0, |place| self.uses[place as usize].count);
        u64::from(used) * 4 >= u64::from(range.count()) * 3
    }

    /// Writes the destinations from a cursor on into what room `found` has, a bounded piece in
    /// each call. Returns where to go on; None at the end.
    pub fn list(&self, cursor: u32, found: &mut Vec<DestinationUse>) -> Option<u32> {
        let end = self.uses.len().min(cursor as usize + LIST_PLACES_MAX);
        for place in cursor as usize..end {
            if found.len() == found.capacity() {
                return Some(place as u32);
            }
            let of = &self.uses[place];
            found.extend((of.count > 0).then(|| of.view()));
        }
        (end < self.uses.len()).then_some(end as u32)
    }

    /// Fills `found` up to its capacity with the destinations that take most ports, the fullest
    /// first.
    pub fn fullest(&self, found: &mut Vec<DestinationUse>) {
        found.clear();
        let room = found.capacity();
        for of in self.uses.iter().filter(|of| of.count > 0) {
            let at = found.partition_point(|other| other.used >= of.count);
            if at == room {
                continue;
            }
            if found.len() == room {
                found.pop();
            }
            found.insert(at, of.view());
        }
    }
}

impl Use {
    fn view(&self) -> DestinationUse {
        DestinationUse {
            endpoint: self.destination.endpoint,
            egress: self.destination.egress,
            protocol: self.destination.protocol,
            address: self.destination.address,
            port: self.destination.port,
            used: self.count,
        }
    }
}

#[cfg(test)]
impl Ports {
    /// How much the places and their index hold before they grow.
    pub fn room(&self) -> (usize, usize, usize) {
        let index = self.index.capacity();
        (self.uses.capacity(), self.free.capacity(), index)
    }

    /// Until when each destination with sessions is known to have no port.
    pub fn exhausted(&self) -> Vec<Now> {
        let places = self.uses.iter().filter(|of| of.count > 0);
        places.map(|of| of.exhausted_until).collect()
    }
}

#[cfg(test)]
mod tests;
