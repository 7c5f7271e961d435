//! Which backend a client had last: for services that want each client to stay where it is.

use crate::service::{ServiceId, ServicePort};
use crate::{Backend, BackendSet, Now};
use siphasher::sip::SipHasher13;
use std::net::IpAddr;
use std::time::Duration;

/// Entries among which a new one finds its place.
const WAYS: usize = 4;

/// What a worker remembers of one client of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    client: IpAddr,
    service: ServiceId,
    backend: (IpAddr, u16),
    expires: Now,
}

/// A memory of fixed size: a new client takes the place of the one that would be forgotten first
/// among the few that share its bucket.
#[derive(Debug)]
pub struct AffinityTable {
    buckets: Vec<[Option<Entry>; WAYS]>,
    hasher: SipHasher13,
    count: usize,
    evicted: u64,
}

impl AffinityTable {
    /// A memory for about `entries_max` clients. Allocates all that it will ever need.
    #[must_use]
    pub fn new(entries_max: u32, hash_key: (u64, u64)) -> Self {
        let buckets = (entries_max as usize / WAYS).max(1);
        Self {
            buckets: vec![[None; WAYS]; buckets],
            hasher: SipHasher13::new_with_keys(hash_key.0, hash_key.1),
            count: 0,
            evicted: 0,
        }
    }

    /// The backend for a new connection of a client: the one it had, while that takes new
    /// connections; else the one for this hash. None when the set has none.
    ///
    /// A service that does not want clients to stay is not remembered.
    pub fn pick<'a>(
        &mut self,
        client: IpAddr,
        service: &ServicePort,
        backends: &'a BackendSet,
        hash: u64,
        now: Now,
    ) -> Option<&'a Backend> {
        let Some(timeout) = service.affinity else {
            return backends.pick(hash);
        };
        // What it had is looked up in the set of today before it is used.
        let kept = self
            .find(client, service.id, now)
            .and_then(|(address, port)| backends.find_candidate(address, port));
        let picked = kept.or_else(|| backends.pick(hash));
        match picked {
            Some(backend) => self.remember(client, service.id, backend, timeout, now),
            None => self.forget(client, service.id),
        }
        picked
    }

    /// The address and port that a client had, if its time has not run out.
    #[must_use]
    pub fn find(&self, client: IpAddr, service: ServiceId, now: Now) -> Option<(IpAddr, u16)> {
        self.buckets[self.bucket(client, service)]
            .iter()
            .flatten()
            .find(|entry| entry.is_of(client, service) && entry.expires > now)
            .map(|entry| entry.backend)
    }

    /// Remembers for `timeout` where a client went.
    pub fn remember(
        &mut self,
        client: IpAddr,
        service: ServiceId,
        backend: &Backend,
        timeout: Duration,
        now: Now,
    ) {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let place = self.place(client, service);
        let old = place.replace(Entry {
            client,
            service,
            backend: (backend.address, backend.port),
            expires: Now(now.0.saturating_add(timeout)),
        });
        match old {
            None => self.count += 1,
            Some(old) if !old.is_of(client, service) && old.expires > now => self.evicted += 1,
            Some(_) => {}
        }
    }

    /// Forgets where a client went.
    pub fn forget(&mut self, client: IpAddr, service: ServiceId) {
        let bucket = self.bucket(client, service);
        for place in &mut self.buckets[bucket] {
            if place.is_some_and(|entry| entry.is_of(client, service)) {
                *place = None;
                self.count -= 1;
            }
        }
    }

    /// How many clients are remembered, those past their time included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many it has room for.
    #[must_use]
    pub fn entries_max(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// How many were forgotten before their time, to make room for another.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The client's own place, else a free one, else that of the entry that expires first.
    fn place(&mut self, client: IpAddr, service: ServiceId) -> &mut Option<Entry> {
        let bucket = self.bucket(client, service);
        self.buckets[bucket]
            .iter_mut()
            .min_by_key(|place| match place {
                Some(entry) if entry.is_of(client, service) => (0, Now(0)),
                None => (1, Now(0)),
                Some(entry) => (2, entry.expires),
            })
            .expect("a bucket has places")
    }

    fn bucket(&self, client: IpAddr, service: ServiceId) -> usize {
        let octets = match client {
            IpAddr::V4(client) => client.to_ipv6_mapped().octets(),
            IpAddr::V6(client) => client.octets(),
        };
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&octets);
        bytes[16..].copy_from_slice(&service.0.to_ne_bytes());
        (self.hasher.hash(&bytes) % self.buckets.len() as u64) as usize
    }
}

impl Entry {
    fn is_of(&self, client: IpAddr, service: ServiceId) -> bool {
        self.client == client && self.service == service
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BackendState, ServiceSpec, ServiceTable};

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn seconds(seconds: u64) -> Now {
        Now(seconds * 1_000_000_000)
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::from((0xc000_0200 + number).to_be_bytes())
    }

    fn table(backends: &[(u8, BackendState)], affinity: Option<Duration>) -> ServiceTable {
        let spec = ServiceSpec {
            namespace: "default".into(),
            name: "web".into(),
            affinity,
            backends: backends
                .iter()
                .map(|(last, state)| Backend {
                    address: IpAddr::from([10, 0, 1, *last]),
                    port: 8080,
                    state: *state,
                    is_local: false,
                })
                .collect(),
            ..ServiceSpec::default()
        };
        ServiceTable::new(&[spec], None).0
    }

    fn pick(
        affinity: &mut AffinityTable,
        table: &ServiceTable,
        from: IpAddr,
        hash: u64,
        now: Now,
    ) -> Option<u8> {
        let service = table.iter().next().unwrap();
        let picked = affinity.pick(from, service, service.all_backends(), hash, now)?;
        let IpAddr::V4(address) = picked.address else {
            unreachable!()
        };
        Some(address.octets()[3])
    }

    use BackendState::{Active, Terminating};

    #[test]
    fn a_client_stays_while_it_comes_back_in_time() {
        let table = table(&[(1, Active), (2, Active), (3, Active)], Some(TIMEOUT));
        let mut affinity = AffinityTable::new(64, (1, 2));
        let first = pick(&mut affinity, &table, client(1), 0, seconds(0)).unwrap();
        let others: Vec<u64> = (0..1000)
            .filter(|hash| {
                table
                    .iter()
                    .next()
                    .unwrap()
                    .all_backends()
                    .pick(*hash)
                    .unwrap()
                    .address
                    != IpAddr::from([10, 0, 1, first])
            })
            .collect();
        // Each use begins its time anew.
        for (step, hash) in others.iter().take(10).enumerate() {
            let now = seconds(59 * (step as u64 + 1));
            assert_eq!(
                pick(&mut affinity, &table, client(1), *hash, now),
                Some(first)
            );
        }
        let late = pick(
            &mut affinity,
            &table,
            client(1),
            others[0],
            seconds(590 + 60),
        );
        assert_ne!(late, Some(first));
    }

    #[test]
    fn a_backend_that_ends_or_is_gone_is_not_used_again() {
        let mut affinity = AffinityTable::new(64, (1, 2));
        let one = table(&[(1, Active)], Some(TIMEOUT));
        assert_eq!(pick(&mut affinity, &one, client(1), 0, seconds(0)), Some(1));
        let ends = table(&[(1, Terminating), (2, Active)], Some(TIMEOUT));
        assert_eq!(
            pick(&mut affinity, &ends, client(1), 0, seconds(1)),
            Some(2)
        );
        let gone = table(&[(3, Active)], Some(TIMEOUT));
        assert_eq!(
            pick(&mut affinity, &gone, client(1), 0, seconds(2)),
            Some(3)
        );
        let last = table(&[(3, Terminating)], Some(TIMEOUT));
        assert_eq!(
            pick(&mut affinity, &last, client(1), 0, seconds(3)),
            Some(3)
        );
        let none = table(&[], Some(TIMEOUT));
        assert_eq!(pick(&mut affinity, &none, client(1), 0, seconds(4)), None);
        assert_eq!(affinity.count(), 0);
    }

    #[test]
    fn a_service_without_affinity_is_not_remembered() {
        let table = table(&[(1, Active), (2, Active)], None);
        let mut affinity = AffinityTable::new(64, (1, 2));
        assert!(pick(&mut affinity, &table, client(1), 0, seconds(0)).is_some());
        assert_eq!(affinity.count(), 0);
    }

    #[test]
    fn the_memory_never_grows_and_keeps_the_latest() {
        let table = table(&[(1, Active), (2, Active)], Some(TIMEOUT));
        let id = table.iter().next().unwrap().id;
        let mut affinity = AffinityTable::new(64, (1, 2));
        for number in 0..10_000 {
            let now = Now(u64::from(number));
            pick(
                &mut affinity,
                &table,
                client(number),
                u64::from(number),
                now,
            );
            assert!(affinity.find(client(number), id, now).is_some());
            assert!(affinity.count() <= 64);
        }
        assert_eq!(affinity.count(), 64);
        // All that were pushed out had time left.
        assert_eq!(affinity.evicted(), 10_000 - 64);
    }
}
