//! How many sessions each endpoint has, so that none takes the whole table.

use crate::EndpointId;
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

#[derive(Debug, Clone, Copy)]
struct Share {
    endpoint: EndpointId,
    count: u32,
}

/// Counts by endpoint; an endpoint without sessions takes no room.
#[derive(Debug)]
pub(super) struct Shares {
    /// Twice as many as there can be, so that tombstones are cleared in place and it never grows.
    counts: HashTable<Share>,
    hasher: SipHasher13,
}

impl Shares {
    pub fn new(sessions_max: u32, hasher: SipHasher13) -> Self {
        // A snapshot has no more endpoints than an index can name.
        let endpoints_max = sessions_max.min(1 << 16) as usize;
        Self {
            counts: HashTable::with_capacity(endpoints_max * 2),
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
                self.counts
                    .insert_unique(hash, Share { endpoint, count: 1 }, |share| {
                        Self::hash(hasher, share.endpoint)
                    });
            }
        }
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
