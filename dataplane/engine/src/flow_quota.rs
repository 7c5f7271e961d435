//! Who may hold how much of the flow table: two pools, and each endpoint's part of both.

use crate::engine::EngineSettings;
use crate::flow_index::FlowIndex;
use crate::{Drop, EndpointId};

/// Endpoints that may hold entries at one time.
const ENDPOINTS_MAX: usize = 16_384;
const NOBODY: u32 = u32::MAX;
/// Half-open entries of one endpoint that may push out others of it in a second. Who opens more
/// connections than that, with as many unanswered as it may have, floods: it pays, not the others.
const EVICTIONS_PER_SECOND: u32 = 2000;

/// How full the flow table is, and what its bounds have cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowTableGauges {
    /// Entries of everything that is not half-open: established, datagrams, closing.
    pub settled: u32,
    /// The most that `settled` may be.
    pub settled_max: u32,
    /// Entries of TCP connections whose handshake has not been completed.
    pub half_open: u32,
    /// The most that `half_open` may be.
    pub half_open_max: u32,
    /// Half-open entries that made room for a later one of their endpoint.
    pub half_open_evicted: u64,
    /// Entries of connections that had ended, and made room for a new one of their endpoint.
    pub closing_evicted: u64,
    /// Packets dropped as `Drop::FlowTableFull`.
    pub refused_full: u64,
    /// Packets dropped as `Drop::FlowShareFull`.
    pub refused_share: u64,
    /// Packets dropped as `Drop::HalfOpenFull`.
    pub refused_half_open: u64,
}

/// What one endpoint holds.
#[derive(Debug, Clone, Copy)]
struct Quota {
    endpoint: EndpointId,
    settled: u32,
    half_open: u32,
    /// Its half-open entries, and those whose connection has ended: what may go for another.
    queues: [Queue; 2],
    /// The second in which it last pushed out half-open entries, and how many.
    evicted: (u64, u32),
}

/// Entries of one endpoint in the order in which they came, by the places of both ends.
#[derive(Debug, Clone, Copy)]
struct Queue {
    oldest: u32,
    newest: u32,
}

/// How an entry is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    HalfOpen,
    /// Among the settled, but first to go.
    Closing,
    Settled,
}

impl Quota {
    const fn of(endpoint: EndpointId) -> Self {
        Self {
            endpoint,
            settled: 0,
            half_open: 0,
            queues: [Queue {
                oldest: NOBODY,
                newest: NOBODY,
            }; 2],
            evicted: (0, 0),
        }
    }
}

/// Where an entry is counted, and its neighbours in its queue.
#[derive(Debug, Clone, Copy)]
struct Place {
    older: u32,
    newer: u32,
    quota: u16,
    kind: Kind,
}

/// Counts entries by pool and endpoint.
#[derive(Debug)]
pub(crate) struct FlowQuotas {
    pub gauges: FlowTableGauges,
    share_max: u32,
    half_open_share_max: u32,
    places: Box<[Place]>,
    quotas: Vec<Quota>,
    quotas_max: usize,
    free: Vec<u16>,
    index: FlowIndex,
}

/// The part of a whole that is an endpoint's, but never nothing.
fn share_of(whole: u32, percent: u8) -> u32 {
    let share = u64::from(whole) * u64::from(percent.min(100)) / 100;
    (share as u32).max(1)
}

impl FlowQuotas {
    /// For `EngineSettings::flows_max` entries, and the half-open besides.
    pub fn new(settings: &EngineSettings) -> Self {
        let settled_max = settings.flows_max;
        let half_open_max = settings.half_open_max.min(settled_max);
        let percent = settings.endpoint_share_percent;
        let capacity = settled_max as usize + half_open_max as usize;
        let quotas_max = capacity.min(ENDPOINTS_MAX);
        let place = Place {
            older: NOBODY,
            newer: NOBODY,
            quota: 0,
            kind: Kind::Settled,
        };
        Self {
            gauges: FlowTableGauges {
                settled_max,
                half_open_max,
                ..FlowTableGauges::default()
            },
            share_max: share_of(settled_max, percent),
            half_open_share_max: share_of(half_open_max, percent)
                .min(settings.half_open_per_endpoint_max),
            places: vec![place; capacity].into_boxed_slice(),
            quotas: Vec::with_capacity(quotas_max),
            quotas_max,
            free: Vec::with_capacity(quotas_max),
            index: FlowIndex::new(quotas_max),
        }
    }

    /// Entries that both pools take together.
    pub fn capacity(&self) -> usize {
        self.places.len()
    }

    /// The endpoint whose share an entry is a part of.
    pub fn payer_of(&self, entry: u32) -> EndpointId {
        self.quotas[usize::from(self.places[entry as usize].quota)].endpoint
    }

    pub fn is_half_open(&self, entry: u32) -> bool {
        self.places[entry as usize].kind == Kind::HalfOpen
    }

    /// Whether one more entry of an endpoint has room in a pool, and which must go for it: the
    /// endpoint's oldest half-open one for another, else its oldest that has ended.
    ///
    /// # Errors
    /// `FlowShareFull`, `FlowTableFull` or `HalfOpenFull`.
    pub fn room(&self, endpoint: EndpointId, is_half_open: bool) -> Result<Option<u32>, Drop> {
        let quota = match self.find(endpoint) {
            Some(number) => self.quotas[number],
            None if self.free.is_empty() && self.quotas.len() == self.quotas_max => {
                return Err(Drop::FlowShareFull);
            }
            None => Quota::of(endpoint),
        };
        let gauges = &self.gauges;
        if !is_half_open {
            let has_share = quota.settled < self.share_max;
            let is_full = gauges.settled >= gauges.settled_max;
            let ended = quota.queues[Kind::Closing as usize].oldest;
            return match (has_share, is_full) {
                (true, false) => Ok(None),
                _ if ended != NOBODY => Ok(Some(ended)),
                (false, _) => Err(Drop::FlowShareFull),
                (true, true) => Err(Drop::FlowTableFull),
            };
        }
        let is_full =
            quota.half_open >= self.half_open_share_max || gauges.half_open >= gauges.half_open_max;
        match (is_full, quota.queues[Kind::HalfOpen as usize].oldest) {
            (false, _) => Ok(None),
            (true, NOBODY) => Err(Drop::HalfOpenFull),
            (true, oldest) => Ok(Some(oldest)),
        }
    }

    /// Counts a refusal.
    pub fn refuse(&mut self, reason: Drop) -> Drop {
        match reason {
            Drop::FlowTableFull => self.gauges.refused_full += 1,
            Drop::FlowShareFull => self.gauges.refused_share += 1,
            _ => self.gauges.refused_half_open += 1,
        }
        reason
    }

    /// Counts a new entry, for which there is room.
    pub fn enter(&mut self, entry: u32, endpoint: EndpointId, is_half_open: bool) {
        let quota = self.find(endpoint).unwrap_or_else(|| self.begin(endpoint));
        self.places[entry as usize].quota = quota as u16;
        self.places[entry as usize].kind = Kind::Settled;
        if is_half_open {
            self.queue(entry, Kind::HalfOpen);
            self.quotas[quota].half_open += 1;
            self.gauges.half_open += 1;
        } else {
            self.quotas[quota].settled += 1;
            self.gauges.settled += 1;
        }
    }

    /// Counts a half-open entry among the settled ones, where there is room.
    pub fn promote(&mut self, entry: u32) {
        debug_assert!(self.is_half_open(entry));
        self.unqueue(entry);
        let quota = &mut self.quotas[usize::from(self.places[entry as usize].quota)];
        quota.half_open -= 1;
        quota.settled += 1;
        self.gauges.half_open -= 1;
        self.gauges.settled += 1;
    }

    /// Notes that the connection of an entry has ended: it only waits for what comes late.
    pub fn close(&mut self, entry: u32) {
        if self.places[entry as usize].kind == Kind::Settled {
            self.queue(entry, Kind::Closing);
        }
    }

    /// Counts an entry that makes room for another, in this second of the clock.
    ///
    /// # Errors
    /// `HalfOpenFull` when too many half-open ones have gone that way already.
    pub fn evict(&mut self, entry: u32, second: u64) -> Result<(), Drop> {
        let place = self.places[entry as usize];
        if place.kind != Kind::HalfOpen {
            self.gauges.closing_evicted += 1;
            return Ok(());
        }
        let (last, count) = &mut self.quotas[usize::from(place.quota)].evicted;
        if *last != second {
            (*last, *count) = (second, 0);
        }
        if *count == EVICTIONS_PER_SECOND {
            return Err(Drop::HalfOpenFull);
        }
        *count += 1;
        self.gauges.half_open_evicted += 1;
        Ok(())
    }

    /// Counts an entry no longer.
    pub fn leave(&mut self, entry: u32) {
        let place = self.places[entry as usize];
        let number = usize::from(place.quota);
        if place.kind != Kind::Settled {
            self.unqueue(entry);
        }
        if place.kind == Kind::HalfOpen {
            self.quotas[number].half_open -= 1;
            self.gauges.half_open -= 1;
        } else {
            self.quotas[number].settled -= 1;
            self.gauges.settled -= 1;
        }
        let quota = self.quotas[number];
        if quota.settled == 0 && quota.half_open == 0 {
            self.index
                .remove(hash(quota.endpoint), u32::from(place.quota));
            self.free.push(place.quota);
        }
    }

    fn queue(&mut self, entry: u32, kind: Kind) {
        let place = &mut self.places[entry as usize];
        place.kind = kind;
        let queue = &mut self.quotas[usize::from(place.quota)].queues[kind as usize];
        (place.older, place.newer) = (queue.newest, NOBODY);
        match std::mem::replace(&mut queue.newest, entry) {
            NOBODY => queue.oldest = entry,
            older => self.places[older as usize].newer = entry,
        }
    }

    /// Takes an entry out of its queue; it counts as settled until something else is said.
    fn unqueue(&mut self, entry: u32) {
        let place = self.places[entry as usize];
        let queue = &mut self.quotas[usize::from(place.quota)].queues[place.kind as usize];
        match place.older {
            NOBODY => queue.oldest = place.newer,
            older => self.places[older as usize].newer = place.newer,
        }
        match place.newer {
            NOBODY => queue.newest = place.older,
            newer => self.places[newer as usize].older = place.older,
        }
        self.places[entry as usize].kind = Kind::Settled;
    }

    fn find(&self, endpoint: EndpointId) -> Option<usize> {
        let is_it = |quota: u32| self.quotas[quota as usize].endpoint == endpoint;
        self.index
            .find(hash(endpoint), is_it)
            .map(|quota| quota as usize)
    }

    fn begin(&mut self, endpoint: EndpointId) -> usize {
        let quota = Quota::of(endpoint);
        let number = match self.free.pop() {
            Some(number) => {
                self.quotas[usize::from(number)] = quota;
                usize::from(number)
            }
            None => {
                debug_assert!(self.quotas.len() < self.quotas_max);
                self.quotas.push(quota);
                self.quotas.len() - 1
            }
        };
        self.index.insert(hash(endpoint), number as u32);
        number
    }
}

/// Endpoints are numbered by us: no secret is needed, only the bits spread.
fn hash(endpoint: EndpointId) -> u32 {
    endpoint.0.wrapping_mul(0x9e37_79b1)
}
