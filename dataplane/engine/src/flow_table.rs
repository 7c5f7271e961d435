//! The flow table: the only per-flow memory, of fixed size, one entry whichever side began.

use crate::flow::{Flow, FlowTimeouts, Lives};
use crate::flow_key::FlowKey;
use crate::{Drop, Now};
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

/// Slots that one call of `expire` looks at.
pub(crate) const EXPIRE_SLOTS_MAX: usize = 512;

/// Names an entry for as long as it lives: after it has gone the ticket fits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowTicket {
    slot: u32,
    epoch: u32,
}

#[derive(Debug)]
struct Slot {
    /// Counts the flows that have lived here, so that an old ticket fits none of the later ones.
    epoch: u32,
    flow: Option<Flow>,
}

/// A table of fixed capacity: slots, and an index of slot numbers by key.
#[derive(Debug)]
pub(crate) struct FlowTable {
    slots: Vec<Slot>,
    slots_max: usize,
    free: Vec<u32>,
    /// Twice the capacity, so that tombstones are cleared in place and it never grows.
    index: HashTable<u32>,
    hasher: SipHasher13,
    lives: Lives,
    cursor: usize,
}

impl FlowTable {
    /// A table of `flows_max` entries, at most `u32::MAX`. Allocates all that it will ever need.
    pub fn new(flows_max: u32, timeouts: FlowTimeouts, hash_key: (u64, u64)) -> Self {
        let slots_max = flows_max as usize;
        Self {
            slots: Vec::with_capacity(slots_max),
            slots_max,
            free: Vec::with_capacity(slots_max),
            index: HashTable::with_capacity(slots_max * 2),
            hasher: SipHasher13::new_with_keys(hash_key.0, hash_key.1),
            lives: timeouts.into(),
            cursor: 0,
        }
    }

    pub fn count(&self) -> usize {
        self.index.len()
    }

    /// The live entry of a key. An entry past its time is removed on the way.
    pub fn find(&mut self, key: &FlowKey, now: Now) -> Option<FlowTicket> {
        let hash = key.hash(&self.hasher);
        let slots = &self.slots;
        let slot = *self
            .index
            .find(hash, |slot| has_key(&slots[*slot as usize], key))?;
        let ticket = FlowTicket {
            slot,
            epoch: self.slots[slot as usize].epoch,
        };
        if self.flow(ticket)?.is_expired(&self.lives, now) {
            self.remove(ticket);
            return None;
        }
        Some(ticket)
    }

    pub fn flow(&self, ticket: FlowTicket) -> Option<&Flow> {
        let slot = self.slots.get(ticket.slot as usize)?;
        slot.flow.as_ref().filter(|_| slot.epoch == ticket.epoch)
    }

    pub fn flow_mut(&mut self, ticket: FlowTicket) -> Option<&mut Flow> {
        let slot = self.slots.get_mut(ticket.slot as usize)?;
        slot.flow.as_mut().filter(|_| slot.epoch == ticket.epoch)
    }

    /// Takes a new flow in, in the place of an older one with the same key.
    ///
    /// # Errors
    /// `FlowTableFull` when no slot is free, and one sweep frees none.
    pub fn insert(&mut self, flow: Flow, now: Now) -> Result<FlowTicket, Drop> {
        if let Some(old) = self.find(&flow.key, now) {
            self.remove(old);
        }
        let slot = match self.take_slot() {
            Some(slot) => slot,
            None => {
                self.expire(now);
                self.take_slot().ok_or(Drop::FlowTableFull)?
            }
        };
        let place = &mut self.slots[slot as usize];
        place.epoch = place.epoch.wrapping_add(1);
        place.flow = Some(flow);
        let epoch = place.epoch;
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index
            .insert_unique(flow.key.hash(hasher), slot, |slot| {
                slots[*slot as usize]
                    .flow
                    .as_ref()
                    .map_or(0, |flow| flow.key.hash(hasher))
            });
        Ok(FlowTicket { slot, epoch })
    }

    fn take_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.slots.len() == self.slots_max {
            return None;
        }
        self.slots.push(Slot {
            epoch: 0,
            flow: None,
        });
        Some(self.slots.len() as u32 - 1)
    }

    /// Removes an entry; nothing happens when it has gone already.
    pub fn remove(&mut self, ticket: FlowTicket) {
        let Some(key) = self.flow(ticket).map(|flow| flow.key) else {
            return;
        };
        let hash = key.hash(&self.hasher);
        if let Ok(entry) = self.index.find_entry(hash, |slot| *slot == ticket.slot) {
            entry.remove();
        }
        self.slots[ticket.slot as usize].flow = None;
        self.free.push(ticket.slot);
    }

    /// Removes entries past their time: the next `EXPIRE_SLOTS_MAX` slots, round and round.
    pub fn expire(&mut self, now: Now) {
        for _ in 0..EXPIRE_SLOTS_MAX.min(self.slots.len()) {
            if self.cursor >= self.slots.len() {
                self.cursor = 0;
            }
            let place = &self.slots[self.cursor];
            let is_expired = place
                .flow
                .as_ref()
                .is_some_and(|flow| flow.is_expired(&self.lives, now));
            if is_expired {
                self.remove(FlowTicket {
                    slot: self.cursor as u32,
                    epoch: place.epoch,
                });
            }
            self.cursor += 1;
        }
    }
}

fn has_key(slot: &Slot, key: &FlowKey) -> bool {
    slot.flow.as_ref().is_some_and(|flow| flow.key == *key)
}

#[cfg(test)]
mod tests;
