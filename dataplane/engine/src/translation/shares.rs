//! How many sessions each endpoint has, so that none takes the whole table.

use crate::EndpointId;
use crate::links::{Links, List};
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

#[derive(Debug, Clone, Copy)]
struct Share {
    endpoint: EndpointId,
    count: u32,
    /// Its sessions whose connection has ended, in the order of their end: the first to go.
    ended: List,
}

/// Counts by endpoint; an endpoint without sessions takes no room.
#[derive(Debug)]
pub(super) struct Shares {
    /// Twice as many as there can be, so that tombstones are cleared in place and it never grows.
    counts: HashTable<Share>,
    /// Of the ended sessions, by slot.
    links: Links,
    hasher: SipHasher13,
}

impl Shares {
    pub fn new(sessions_max: u32, hasher: SipHasher13) -> Self {
        // A snapshot has no more endpoints than an index can name.
        let endpoints_max = sessions_max.min(1 << 16) as usize;
        Self {
            counts: HashTable::with_capacity(endpoints_max * 2),
            links: Links::new(sessions_max),
            hasher,
        }
    }

    fn hash(hasher: &SipHasher13, endpoint: EndpointId) -> u64 {
        hasher.hash(&endpoint.0.to_ne_bytes())
    }

    pub fn count(&self, endpoint: EndpointId) -> u32 {
        let hash = Self::hash(&self.hasher, endpoint);
        self.counts
            .find(hash, |share| share.endpoint == endpoint)
            .map_or(0, |share| share.count)
    }

    pub fn add(&mut self, endpoint: EndpointId) {
        let hash = Self::hash(&self.hasher, endpoint);
        let found = self
            .counts
            .find_mut(hash, |share| share.endpoint == endpoint);
        match found {
            Some(share) => share.count += 1,
            None => {
                let hasher = &self.hasher;
                let share = Share {
                    endpoint,
                    count: 1,
                    ended: List::EMPTY,
                };
                self.counts
                    .insert_unique(hash, share, |share| Self::hash(hasher, share.endpoint));
            }
        }
    }

    /// Notes that the connection of a session has ended.
    pub fn end(&mut self, endpoint: EndpointId, slot: u32) {
        let hash = Self::hash(&self.hasher, endpoint);
        let found = self
            .counts
            .find_mut(hash, |share| share.endpoint == endpoint);
        if let Some(share) = found {
            self.links.push_back(&mut share.ended, slot);
        }
    }

    /// Notes that an ended session is used again, or goes.
    pub fn unend(&mut self, endpoint: EndpointId, slot: u32) {
        let hash = Self::hash(&self.hasher, endpoint);
        let found = self
            .counts
            .find_mut(hash, |share| share.endpoint == endpoint);
        if let Some(share) = found {
            self.links.unlink(&mut share.ended, slot);
        }
    }

    /// The session of an endpoint that ended first.
    pub fn first_ended(&self, endpoint: EndpointId) -> Option<u32> {
        let hash = Self::hash(&self.hasher, endpoint);
        self.counts
            .find(hash, |share| share.endpoint == endpoint)
            .and_then(|share| share.ended.first())
    }

    pub fn take(&mut self, endpoint: EndpointId) {
        let hash = Self::hash(&self.hasher, endpoint);
        let found = self
            .counts
            .find_entry(hash, |share| share.endpoint == endpoint);
        debug_assert!(found.is_ok(), "a session was never counted");
        if let Ok(mut entry) = found {
            entry.get_mut().count -= 1;
            if entry.get().count == 0 {
                entry.remove();
            }
        }
    }
}
