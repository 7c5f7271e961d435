//! The sessions in their slots, and one index of both their keys.

use super::{Session, Tuple, Way};
use crate::EndpointId;
use crate::links::NONE;
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use std::net::IpAddr;

/// Names a session for as long as it lives: after it has gone the ticket fits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTicket {
    pub(super) slot: u32,
    pub(super) epoch: u32,
}

#[derive(Debug)]
pub(super) struct Slot {
    /// Counts the sessions that have lived here, so that an old ticket fits none of the later.
    pub epoch: u32,
    /// Where its port is counted; `NONE` when it took none.
    pub port_use: u32,
    pub session: Option<Session>,
}

/// Slots of fixed number, and the index: a slot's number twice, plus one for the reply's key.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    slots_max: usize,
    free: Vec<u32>,
    /// Two keys for each session, and twice that, so that tombstones are cleared in place and it
    /// never grows.
    index: HashTable<u32>,
    hasher: SipHasher13,
    count: usize,
}

impl Table {
    pub fn new(sessions_max: u32, hasher: SipHasher13) -> Self {
        assert!(sessions_max < 1 << 31, "a slot and a way fit one number");
        let slots_max = sessions_max as usize;
        Self {
            slots: Vec::with_capacity(slots_max),
            slots_max,
            free: Vec::with_capacity(slots_max),
            index: HashTable::with_capacity(slots_max * 4),
            hasher,
            count: 0,
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn is_full(&self) -> bool {
        self.count == self.slots_max
    }

    /// Slots that have been used so far.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub fn session(&self, slot: u32) -> Option<&Session> {
        self.slots.get(slot as usize)?.session.as_ref()
    }

    pub fn slot_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.slots[slot as usize]
    }

    /// The slot that a ticket names, while its session lives.
    pub fn slot_of(&self, ticket: SessionTicket) -> Option<u32> {
        let slot = self.slots.get(ticket.slot as usize)?;
        (slot.session.is_some() && slot.epoch == ticket.epoch).then_some(ticket.slot)
    }

    pub fn ticket(&self, slot: u32) -> SessionTicket {
        SessionTicket {
            slot,
            epoch: self.slots[slot as usize].epoch,
        }
    }

    /// The session that has this key, be it past its time or not.
    pub fn find(&self, endpoint: EndpointId, tuple: &Tuple) -> Option<(u32, Way)> {
        let hash = self.hash(endpoint, tuple);
        let number = *self.index.find(hash, |number| {
            key_of(&self.slots, *number).is_some_and(|key| key == (endpoint, *tuple))
        })?;
        Some((number / 2, way_of(number)))
    }

    /// Takes a session in. Neither key may be there, nor may the table be full.
    pub fn insert(&mut self, session: Session) -> u32 {
        debug_assert!(!self.is_full());
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                epoch: 0,
                port_use: NONE,
                session: None,
            });
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        place.epoch = place.epoch.wrapping_add(1);
        place.port_use = NONE;
        place.session = Some(session);
        self.count += 1;
        for way in [Way::Forward, Way::Reply] {
            let hash = self.hash(session.endpoint, &session.key(way));
            let (slots, hasher) = (&self.slots, &self.hasher);
            self.index
                .insert_unique(hash, number_of(slot, way), |number| {
                    key_of(slots, *number)
                        .map_or(0, |(endpoint, key)| hash_of(hasher, endpoint, &key))
                });
        }
        slot
    }

    /// Takes the session of a slot out, with both its keys.
    pub fn remove(&mut self, slot: u32) -> Option<Session> {
        let session = self.slots.get_mut(slot as usize)?.session.take()?;
        for way in [Way::Forward, Way::Reply] {
            let hash = self.hash(session.endpoint, &session.key(way));
            let number = number_of(slot, way);
            if let Ok(entry) = self.index.find_entry(hash, |found| *found == number) {
                entry.remove();
            }
        }
        self.free.push(slot);
        self.count -= 1;
        Some(session)
    }

    pub fn hash(&self, endpoint: EndpointId, tuple: &Tuple) -> u64 {
        hash_of(&self.hasher, endpoint, tuple)
    }
}

const fn number_of(slot: u32, way: Way) -> u32 {
    match way {
        Way::Forward => slot * 2,
        Way::Reply => slot * 2 + 1,
    }
}

const fn way_of(number: u32) -> Way {
    match number % 2 {
        0 => Way::Forward,
        _ => Way::Reply,
    }
}

fn key_of(slots: &[Slot], number: u32) -> Option<(EndpointId, Tuple)> {
    let session = slots[number as usize / 2].session.as_ref()?;
    Some((session.endpoint, session.key(way_of(number))))
}

/// A key in at most 41 bytes. IPv4 addresses fill fewer, which no IPv6 pair does.
fn hash_of(hasher: &SipHasher13, endpoint: EndpointId, tuple: &Tuple) -> u64 {
    let mut bytes = [0; 41];
    bytes[..4].copy_from_slice(&endpoint.0.to_ne_bytes());
    bytes[4] = tuple.protocol;
    bytes[5..7].copy_from_slice(&tuple.source_port.to_ne_bytes());
    bytes[7..9].copy_from_slice(&tuple.destination_port.to_ne_bytes());
    let mut length = 9;
    for address in [tuple.source, tuple.destination] {
        match address {
            IpAddr::V4(address) => {
                bytes[length..length + 4].copy_from_slice(&address.octets());
                length += 4;
            }
            IpAddr::V6(address) => {
                bytes[length..length + 16].copy_from_slice(&address.octets());
                length += 16;
            }
        }
    }
    hasher.hash(&bytes[..length])
}

#[cfg(test)]
impl Table {
    /// Keys in the index, and how many it holds before it grows.
    pub fn index_size(&self) -> (usize, usize) {
        (self.index.len(), self.index.capacity())
    }
}
