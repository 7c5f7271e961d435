//! The datagrams whose first fragment passed: how to judge the others, and which have come.

use crate::fragment::{Datagram, Fragment};
use crate::order::{Link, Order};
use crate::packet::Packet;
use crate::{Drop, EndpointId, Now};
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use std::net::IpAddr;

/// How long a receiver may wait for the rest of a datagram. [RFC 1122 §3.3.2 wants 60 to 120 s,
/// Linux waits 30]
const LIFE: u64 = 30_000_000_000;
/// How long the record of a whole datagram turns repetitions away: then its identification may
/// name another.
const LIFE_WHOLE: u64 = 1_000_000_000;
/// Pieces of a datagram, put together where they touch, that are kept in mind.
const PIECES_MAX: usize = 8;

/// What names a datagram at the endpoint it came in at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FragmentKey {
    pub endpoint: EndpointId,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub identification: u32,
    /// IP protocol number, which tells IPv4 datagrams apart and IPv6 ones not. [RFC 791 §3.2;
    /// RFC 8200 §4.5]
    pub protocol: u8,
}

impl FragmentKey {
    pub fn of(endpoint: EndpointId, packet: &Packet, fragment: &Fragment) -> Self {
        Self {
            endpoint,
            source: packet.source,
            destination: packet.destination,
            identification: fragment.identification,
            protocol: match packet.source {
                IpAddr::V4(_) => packet.protocol().number(),
                IpAddr::V6(_) => 0,
            },
        }
    }

    fn hash(&self, hasher: &SipHasher13) -> u64 {
        let mut bytes = [0; 41];
        bytes[..4].copy_from_slice(&self.endpoint.0.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.identification.to_ne_bytes());
        bytes[8] = self.protocol;
        for (address, at) in [(self.source, 9), (self.destination, 25)] {
            let octets = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            bytes[at..at + 16].copy_from_slice(&octets);
        }
        hasher.hash(&bytes)
    }
}

/// A datagram in the table. It fits nothing after the next `remember`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FragmentTicket(u32);

/// One datagram, of which at least the first fragment has passed.
#[derive(Debug)]
struct Record {
    key: FragmentKey,
    datagram: Datagram,
    since: Now,
    /// What has passed: from and to, each apart from the others, in no order.
    pieces: [(u16, u16); PIECES_MAX],
    pieces_count: usize,
    /// Where the datagram ends, when its last fragment has passed.
    end: Option<u16>,
    /// Whether pieces contradicted each other: none passes any more. [RFC 5722 §4]
    is_poisoned: bool,
}

impl Record {
    fn new(key: FragmentKey, datagram: Datagram, first: &Fragment, now: Now) -> Self {
        let mut pieces = [(0, 0); PIECES_MAX];
        pieces[0] = (first.offset, first.end());
        Self {
            key,
            datagram,
            since: now,
            pieces,
            pieces_count: 1,
            end: first.is_last.then_some(first.end()),
            is_poisoned: false,
        }
    }

    fn pieces(&self) -> &[(u16, u16)] {
        &self.pieces[..self.pieces_count]
    }

    fn is_whole(&self) -> bool {
        self.pieces_count == 1 && self.end == Some(self.pieces[0].1)
    }

    fn is_alive(&self, now: Now) -> bool {
        let life = if self.is_whole() { LIFE_WHOLE } else { LIFE };
        now.0.saturating_sub(self.since.0) < life
    }

    /// Takes note of a fragment that is about to pass.
    ///
    /// # Errors
    /// `FragmentOverlap`: a repetition harms only itself, a contradiction the whole datagram.
    /// `FragmentScattered`.
    fn note(&mut self, fragment: &Fragment) -> Result<(), Drop> {
        let (start, end) = (fragment.offset, fragment.end());
        let mut pieces = self.pieces().iter();
        let is_repeated = pieces.any(|piece| piece.0 <= start && end <= piece.1);
        if self.is_poisoned || is_repeated {
            return Err(Drop::FragmentOverlap);
        }
        let is_overlapping = self
            .pieces()
            .iter()
            .any(|piece| start < piece.1 && piece.0 < end);
        let is_past_end = match self.end {
            Some(known) => end > known || (fragment.is_last && end != known),
            None => fragment.is_last && self.pieces().iter().any(|piece| piece.1 > end),
        };
        if is_overlapping || is_past_end {
            self.is_poisoned = true;
            return Err(Drop::FragmentOverlap);
        }
        self.join(start, end)?;
        if fragment.is_last {
            self.end = Some(end);
        }
        Ok(())
    }

    /// Adds a piece that overlaps no other, and puts it together with those that it touches.
    fn join(&mut self, start: u16, end: u16) -> Result<(), Drop> {
        let mut whole = (start, end);
        let mut kept = 0;
        for position in 0..self.pieces_count {
            let piece = self.pieces[position];
            if piece.1 == start {
                whole.0 = piece.0;
            } else if piece.0 == end {
                whole.1 = piece.1;
            } else {
                self.pieces[kept] = piece;
                kept += 1;
            }
        }
        *self.pieces.get_mut(kept).ok_or(Drop::FragmentScattered)? = whole;
        self.pieces_count = kept + 1;
        Ok(())
    }
}

/// How many of the records are of one endpoint, and in which order they came.
#[derive(Debug)]
struct Share {
    endpoint: EndpointId,
    count: usize,
    order: Order,
}

/// A table of fixed capacity. The oldest record makes room for a new one; an endpoint that has a
/// quarter of the table makes room for its own.
#[derive(Debug)]
pub(crate) struct FragmentTable {
    records: Vec<Record>,
    records_max: usize,
    /// Twice the capacity, so that tombstones are cleared in place and it never grows.
    index: HashTable<u32>,
    shares: HashTable<Share>,
    order: Order,
    links: Vec<Link>,
    links_of_endpoint: Vec<Link>,
    hasher: SipHasher13,
}

impl FragmentTable {
    /// A table of `datagrams_max` entries, at least one. Allocates all that it will ever need.
    pub fn new(datagrams_max: u32, hash_key: (u64, u64)) -> Self {
        let records_max = datagrams_max as usize;
        assert!(records_max > 0, "a fragment table without entries");
        Self {
            records: Vec::with_capacity(records_max),
            records_max,
            index: HashTable::with_capacity(records_max * 2),
            shares: HashTable::with_capacity(records_max * 2),
            order: Order::EMPTY,
            links: Vec::with_capacity(records_max),
            links_of_endpoint: Vec::with_capacity(records_max),
            hasher: SipHasher13::new_with_keys(hash_key.0, hash_key.1),
        }
    }

    /// The datagram of this name, when its first fragment has passed and not too long ago.
    pub fn find(&self, key: &FragmentKey, now: Now) -> Option<(FragmentTicket, Datagram)> {
        let slot = self.slot_of(key)?;
        let record = &self.records[slot as usize];
        record
            .is_alive(now)
            .then_some((FragmentTicket(slot), record.datagram))
    }

    /// Takes note of a later fragment that is about to pass.
    ///
    /// # Errors
    /// `FragmentOverlap` or `FragmentScattered`.
    pub fn note(&mut self, ticket: FragmentTicket, fragment: &Fragment) -> Result<(), Drop> {
        match self.records.get_mut(ticket.0 as usize) {
            Some(record) => record.note(fragment),
            None => Err(Drop::FragmentUnknown),
        }
    }

    /// Whether a first fragment may pass: none has, or it was another's: so long ago, or of a
    /// datagram between other ports that is whole. Sockets choose identifications each for itself,
    /// so two that speak at one time meet on one soon. [RFC 6864 §4.3]
    ///
    /// # Errors
    /// `FragmentOverlap`.
    pub fn check_first(
        &mut self,
        key: &FragmentKey,
        datagram: Option<Datagram>,
        first: &Fragment,
        now: Now,
    ) -> Result<(), Drop> {
        match self.find(key, now) {
            Some((ticket, _)) if !self.is_over(ticket, datagram) => self.note(ticket, first),
            _ => Ok(()),
        }
    }

    /// Whether nothing is missing of a datagram, and this is another one.
    fn is_over(&self, ticket: FragmentTicket, other: Option<Datagram>) -> bool {
        let record = self.records.get(ticket.0 as usize);
        record.is_some_and(|record| {
            record.is_whole() && other.is_some_and(|other| other != record.datagram)
        })
    }

    /// Takes a datagram in whose first fragment passes; `check_first` had nothing against it.
    pub fn remember(&mut self, key: FragmentKey, datagram: Datagram, first: &Fragment, now: Now) {
        let known = self.slot_of(&key);
        debug_assert!(
            self.find(&key, now)
                .is_none_or(|(ticket, _)| self.is_over(ticket, Some(datagram))),
            "{key:?} is known"
        );
        let record = Record::new(key, datagram, first, now);
        let slot = match known.or_else(|| self.oldest_for(key.endpoint)) {
            Some(slot) => {
                self.unlink(slot);
                self.records[slot as usize] = record;
                slot
            }
            None => {
                self.records.push(record);
                self.links.push(Link::LOOSE);
                self.links_of_endpoint.push(Link::LOOSE);
                self.records.len() as u32 - 1
            }
        };
        self.link(slot);
    }

    fn slot_of(&self, key: &FragmentKey) -> Option<u32> {
        let has_key = |slot: &u32| self.records[*slot as usize].key == *key;
        self.index.find(key.hash(&self.hasher), has_key).copied()
    }

    /// The record that has to go before another of this endpoint can come. None while there is
    /// room.
    fn oldest_for(&self, endpoint: EndpointId) -> Option<u32> {
        let hash = hash_of(endpoint, &self.hasher);
        let share = self
            .shares
            .find(hash, |share| share.endpoint == endpoint)
            .filter(|share| share.count >= self.records_max.div_ceil(4));
        match share {
            Some(share) => share.order.first(),
            None if self.records.len() < self.records_max => None,
            None => self.order.first(),
        }
    }

    /// Takes a record out of the index and of both orders; its slot is to be filled at once.
    fn unlink(&mut self, slot: u32) {
        let key = &self.records[slot as usize].key;
        let is_it = |found: &u32| *found == slot;
        if let Ok(entry) = self.index.find_entry(key.hash(&self.hasher), is_it) {
            entry.remove();
        }
        self.order.remove(&mut self.links, slot);
        let endpoint = key.endpoint;
        let hash = hash_of(endpoint, &self.hasher);
        let is_its = |share: &Share| share.endpoint == endpoint;
        if let Ok(mut entry) = self.shares.find_entry(hash, is_its) {
            let share = entry.get_mut();
            share.order.remove(&mut self.links_of_endpoint, slot);
            share.count -= 1;
            if share.count == 0 {
                entry.remove();
            }
        }
    }

    fn link(&mut self, slot: u32) {
        let (records, hasher) = (&self.records, &self.hasher);
        let key = &records[slot as usize].key;
        self.index.insert_unique(key.hash(hasher), slot, |slot| {
            records[*slot as usize].key.hash(hasher)
        });
        self.order.push(&mut self.links, slot);
        let endpoint = key.endpoint;
        let entry = self.shares.entry(
            hash_of(endpoint, hasher),
            |share| share.endpoint == endpoint,
            |share| hash_of(share.endpoint, hasher),
        );
        let mut entry = entry.or_insert(Share {
            endpoint,
            count: 0,
            order: Order::EMPTY,
        });
        let share = entry.get_mut();
        share.count += 1;
        share.order.push(&mut self.links_of_endpoint, slot);
    }
}

fn hash_of(endpoint: EndpointId, hasher: &SipHasher13) -> u64 {
    hasher.hash(&endpoint.0.to_ne_bytes())
}

#[cfg(test)]
mod tests;
