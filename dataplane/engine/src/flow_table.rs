//! The flow table: the only per-flow memory, of fixed size, one entry whichever side began.

use crate::endings::Endings;
use crate::engine::EngineSettings;
use crate::flow::{Flow, Side};
use crate::flow_hash::FlowHasher;
use crate::flow_index::FlowIndex;
use crate::flow_key::FlowKey;
use crate::flow_quota::{FlowQuotas, FlowTableGauges};
use crate::flow_timeouts::Lives;
use crate::flow_wheel::FlowWheel;
use crate::packet::Packet;
use crate::tcp_state::FlowState;
use crate::{Drop, Ending, EndpointId, Now};

/// Entries that one call of `expire` looks at.
pub(crate) const EXPIRE_LOOKS_MAX: usize = 256;
const SECOND_NS: u64 = 1_000_000_000;

/// Names an entry for as long as it lives: after it has gone the ticket fits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowTicket {
    pub(crate) place: u32,
    pub(crate) epoch: u32,
}

/// A table of fixed capacity. Entries keep their place; index, wheel and quotas name them by it.
///
/// Half-open entries are a pool of their own, so that a flood of SYNs takes no room from others.
#[derive(Debug)]
pub(crate) struct FlowTable {
    /// The places that have been used; never longer than its first capacity.
    flows: Vec<Flow>,
    free: Vec<u32>,
    index: FlowIndex,
    wheel: FlowWheel,
    quotas: FlowQuotas,
    hasher: FlowHasher,
    lives: Lives,
    /// The latest time that was told.
    now: Now,
    endings: Endings,
}

impl FlowTable {
    /// Allocates all that it will ever need.
    pub fn new(settings: &EngineSettings, hash_key: (u64, u64)) -> Self {
        let quotas = FlowQuotas::new(settings);
        let capacity = quotas.capacity();
        assert!(capacity < u32::MAX as usize, "flows are numbered by u32");
        Self {
            flows: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            index: FlowIndex::new(capacity),
            wheel: FlowWheel::new(capacity),
            quotas,
            hasher: FlowHasher::new(hash_key),
            lives: settings.timeouts.into(),
            now: Now(0),
            endings: Endings::new(),
        }
    }

    pub fn count(&self) -> usize {
        self.flows.len() - self.free.len()
    }

    /// The memory that lookups read all over: where each part begins, and its bytes.
    pub fn memory(&self) -> [(*const u8, usize); 2] {
        let room = self.flows.capacity() * size_of::<Flow>();
        [(self.flows.as_ptr().cast(), room), self.index.memory()]
    }

    pub fn gauges(&self) -> FlowTableGauges {
        self.quotas.gauges
    }

    /// The live entry of a key. An entry past its time is removed on the way.
    pub fn find(&mut self, key: &FlowKey, now: Now) -> Option<FlowTicket> {
        let now = self.advance(now);
        let place = self.place_of(key, key.hash(&self.hasher))?;
        let flow = &self.flows[place as usize];
        if flow.is_expired(&self.lives, now) {
            self.expire_at(place);
            return None;
        }
        let epoch = flow.epoch;
        Some(FlowTicket { place, epoch })
    }

    /// The live entry of a key; one past its time is left for `find`.
    pub fn peek(&mut self, key: &FlowKey, hash: u32, now: Now) -> Option<FlowTicket> {
        let now = self.advance(now);
        let place = self.place_of(key, hash)?;
        let flow = &self.flows[place as usize];
        let epoch = flow.epoch;
        (!flow.is_expired(&self.lives, now)).then_some(FlowTicket { place, epoch })
    }

    pub fn hash(&self, key: &FlowKey) -> u32 {
        key.hash(&self.hasher)
    }

    /// Where the number of an entry with this hash is.
    pub fn place_of_number(&self, hash: u32) -> *const u8 {
        self.index.place_of(hash)
    }

    /// The place of some entry with this hash, most likely the one.
    pub fn first_with(&self, hash: u32) -> Option<u32> {
        self.index.find(hash, |_| true)
    }

    /// Whatever is at a place, if it has ever been used.
    pub fn entry(&self, place: u32) -> Option<&Flow> {
        self.flows.get(place as usize)
    }

    /// An entry that is not past its time.
    pub fn live(&self, ticket: FlowTicket, now: Now) -> Option<&Flow> {
        let flow = self.flow(ticket)?;
        (!flow.is_expired(&self.lives, self.now.max(now))).then_some(flow)
    }

    pub fn flow(&self, ticket: FlowTicket) -> Option<&Flow> {
        let flow = self.flows.get(ticket.place as usize)?;
        (flow.epoch == ticket.epoch).then_some(flow)
    }

    pub fn flow_mut(&mut self, ticket: FlowTicket) -> Option<&mut Flow> {
        let flow = self.flows.get_mut(ticket.place as usize)?;
        (flow.epoch == ticket.epoch).then_some(flow)
    }

    /// Takes a new flow in, in the place of an older one with the same key, and counts it as a part
    /// of the `payer`'s share. A half-open one may push out the payer's oldest half-open one.
    ///
    /// # Errors
    /// `FlowTableFull`, `FlowShareFull` or `HalfOpenFull`.
    pub fn insert_for(
        &mut self,
        payer: EndpointId,
        flow: Flow,
        now: Now,
    ) -> Result<FlowTicket, Drop> {
        let old = self.find(&flow.key, now);
        let is_half_open = flow.state().is_half_open();
        let is_replacing =
            old.is_some_and(|old| self.quotas.is_half_open(old.place) == is_half_open);
        if !is_replacing {
            self.make_room(payer, is_half_open)?;
        }
        if let Some(old) = old {
            self.endings
                .note(&self.flows[old.place as usize], Ending::Replaced);
            self.vacate(old.place);
        }
        let place = self.take_place(flow);
        let flow = &self.flows[place as usize];
        let ticket = FlowTicket {
            place,
            epoch: flow.epoch,
        };
        self.index.insert(flow.key.hash(&self.hasher), place);
        self.quotas.enter(place, payer, is_half_open);
        self.wheel.begin(self.now.0 / SECOND_NS);
        self.arm(place);
        Ok(ticket)
    }

    /// Takes note in an entry of a packet that `sender` sent, and that passes. Nothing happens
    /// when the entry has gone.
    ///
    /// # Errors
    /// `FlowTableFull` or `FlowShareFull`, when the packet opens a connection that has no room
    /// among the open ones; the entry stays half-open.
    pub fn note(
        &mut self,
        ticket: FlowTicket,
        sender: Side,
        packet: &Packet,
        now: Now,
    ) -> Result<(), Drop> {
        let now = self.advance(now);
        let Some(flow) = self.flow(ticket) else {
            return Ok(());
        };
        let state = flow.state_after(sender, packet);
        let is_changing = state != flow.state();
        // A half-open connection that ends stays among its like: it must not earn room either.
        if state.is_established() && self.quotas.is_half_open(ticket.place) {
            self.make_room(self.quotas.payer_of(ticket.place), false)?;
            if self.flow(ticket).is_some() {
                self.quotas.promote(ticket.place);
            }
        }
        if let Some(flow) = self.flow_mut(ticket) {
            flow.note(sender, packet, now);
            // A longer life is found out when the wheel comes round; a shorter one is not.
            if is_changing {
                self.arm(ticket.place);
                if state == FlowState::Closing {
                    self.quotas.close(ticket.place);
                    self.endings.close(&mut self.flows[ticket.place as usize]);
                }
            }
        }
        Ok(())
    }

    /// Removes an entry; nothing happens when it has gone already.
    pub fn remove(&mut self, ticket: FlowTicket) {
        if self.flow(ticket).is_some() {
            self.vacate(ticket.place);
        }
    }

    /// Removes entries past their time; looks at `EXPIRE_LOOKS_MAX` of them at most.
    pub fn expire(&mut self, now: Now) {
        let now = self.advance(now);
        for _ in 0..EXPIRE_LOOKS_MAX {
            let Some(place) = self.wheel.due(now.0 / SECOND_NS) else {
                break;
            };
            if self.flows[place as usize].is_expired(&self.lives, now) {
                self.expire_at(place);
            } else {
                self.arm(place);
            }
        }
    }

    /// Places that have ever been used; `live_at` tells who is there.
    pub fn places_used(&self) -> usize {
        self.flows.len()
    }

    /// The entry at a place, if one lives there that is not past its time.
    pub fn live_at(&self, place: usize) -> Option<&Flow> {
        let flow = self.flows.get(place)?;
        let is_live = flow.epoch % 2 == 1 && !flow.is_expired(&self.lives, self.now);
        is_live.then_some(flow)
    }

    pub fn endings(&mut self) -> &mut Endings {
        &mut self.endings
    }

    pub fn lives(&self) -> &Lives {
        &self.lives
    }

    /// The latest time that was told.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Time never runs backwards here, whatever the caller's clock does.
    fn advance(&mut self, now: Now) -> Now {
        self.now = self.now.max(now);
        self.now
    }

    fn place_of(&self, key: &FlowKey, hash: u32) -> Option<u32> {
        self.index
            .find(hash, |place| self.flows[place as usize].key == *key)
    }

    /// Makes sure that one more entry of an endpoint has room in a pool.
    fn make_room(&mut self, endpoint: EndpointId, is_half_open: bool) -> Result<(), Drop> {
        if self.quotas.room(endpoint, is_half_open) == Ok(None) {
            return Ok(());
        }
        // What is past its time must neither push out nor refuse what is not.
        self.expire(self.now);
        match self.quotas.room(endpoint, is_half_open) {
            Ok(None) => Ok(()),
            Ok(Some(oldest)) => {
                let second = self.now.0 / SECOND_NS;
                if let Err(reason) = self.quotas.evict(oldest, second) {
                    return Err(self.quotas.refuse(reason));
                }
                self.endings
                    .note(&self.flows[oldest as usize], Ending::Evicted);
                self.vacate(oldest);
                Ok(())
            }
            Err(reason) => Err(self.quotas.refuse(reason)),
        }
    }

    /// Removes an entry that is past its time.
    fn expire_at(&mut self, place: u32) {
        let flow = &self.flows[place as usize];
        self.endings.note(flow, Ending::of_expired(flow.state()));
        self.vacate(place);
    }

    fn take_place(&mut self, mut flow: Flow) -> u32 {
        if let Some(place) = self.free.pop() {
            let old = &mut self.flows[place as usize];
            flow.epoch = old.epoch.wrapping_add(1);
            *old = flow;
            return place;
        }
        debug_assert!(self.flows.len() < self.flows.capacity());
        flow.epoch = 1;
        self.flows.push(flow);
        self.flows.len() as u32 - 1
    }

    fn vacate(&mut self, place: u32) {
        let flow = &mut self.flows[place as usize];
        debug_assert!(flow.epoch % 2 == 1);
        flow.epoch = flow.epoch.wrapping_add(1);
        let hash = flow.key.hash(&self.hasher);
        self.index.remove(hash, place);
        self.quotas.leave(place);
        self.wheel.disarm(place);
        self.free.push(place);
    }

    /// Has the wheel look at an entry in the first second that is past its time.
    fn arm(&mut self, place: u32) {
        let deadline = self.flows[place as usize].deadline(&self.lives);
        self.wheel.arm(place, deadline / SECOND_NS + 1);
    }
}

#[cfg(test)]
mod tests;
