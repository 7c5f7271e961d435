//! Which addresses a name has: learned from DNS answers, forgotten when neither their time nor a
//! connection keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Entries (name, address) that one pod can fill.
const ENTRIES_MAX: usize = 100_000;
/// Addresses of one pod that wait for their connections to end.
const DEFERRED_MAX: usize = 10_000;

/// Seconds on the node's clock; only differences mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Seconds(pub u64);

impl Seconds {
    const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

/// How long names are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameCacheSettings {
    /// The least lifetime of an answer, in seconds.
    pub ttl_seconds_min: u64,
    /// Addresses of one name; those that end first go first.
    pub addresses_per_name_max: usize,
    /// How long an idle connection still counts as alive, in seconds.
    pub idle_grace_seconds: u64,
}

impl Default for NameCacheSettings {
    fn default() -> Self {
        Self {
            ttl_seconds_min: 0,
            addresses_per_name_max: 1000,
            idle_grace_seconds: 0,
        }
    }
}

/// The pod has learned as many names as it may; the answer must be held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameCacheFull;

/// The names that the pods of a node have resolved.
///
/// Time is an argument and must not run backwards. [policy-semantics §9.3]
#[derive(Debug, Clone, Default)]
pub struct NameCache {
    settings: NameCacheSettings,
    pods: BTreeMap<String, PodNames>,
    connections_seen: Seconds,
    revision: u64,
    known: BTreeMap<String, BTreeSet<IpAddr>>,
}

#[derive(Debug, Clone, Default)]
struct PodNames {
    /// When each address of each name expires.
    history: BTreeMap<(String, IpAddr), Seconds>,
    deferred: BTreeMap<IpAddr, Deferred>,
}

/// An address that has expired, and is kept while connections may use it.
#[derive(Debug, Clone)]
struct Deferred {
    names: BTreeSet<String>,
    due: Seconds,
    alive: Seconds,
    revision: u64,
}

impl NameCache {
    /// A cache without names.
    #[must_use]
    pub fn new(settings: NameCacheSettings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// A pod has been told these addresses for the name it asked for.
    ///
    /// # Errors
    /// The pod has learned too many names; nothing is then learned of this answer.
    pub fn learn(
        &mut self,
        pod: &str,
        name: &str,
        addresses: &[IpAddr],
        ttl_seconds: u64,
        now: Seconds,
    ) -> Result<(), NameCacheFull> {
        let expiry = now.plus(ttl_seconds.max(self.settings.ttl_seconds_min));
        let names = self.pods.entry(pod.to_owned()).or_default();
        if names.history.len() + addresses.len() > ENTRIES_MAX {
            return Err(NameCacheFull);
        }
        let mut has_new = false;
        for address in addresses {
            let until = names.history.entry((name.to_owned(), *address));
            let until = until.or_insert_with(|| {
                has_new = true;
                expiry
            });
            *until = expiry.max(*until);
        }
        if has_new {
            for address in addresses {
                names.revive(name, *address, now);
            }
        }
        self.known
            .entry(name.to_owned())
            .or_default()
            .extend(addresses);
        Ok(())
    }

    /// A walk over all connections, begun at `now`, has ended; `alive` are those that live, by
    /// pod and address.
    pub fn note_connections<'a>(
        &mut self,
        alive: impl IntoIterator<Item = (&'a str, IpAddr)>,
        now: Seconds,
    ) {
        let until = now.plus(self.settings.idle_grace_seconds);
        for (pod, address) in alive {
            let entry = self
                .pods
                .get_mut(pod)
                .and_then(|names| names.deferred.get_mut(&address));
            if let Some(entry) = entry {
                entry.alive = until;
            }
        }
        self.connections_seen = now;
        self.revision += 1;
    }

    /// Forgets what has expired and is not used any more.
    pub fn clean_up(&mut self, now: Seconds) {
        let (seen, revision) = (self.connections_seen, self.revision);
        let grace = self.settings.idle_grace_seconds;
        let is_alive = |entry: &Deferred| {
            seen <= entry.due.plus(grace) || seen <= entry.alive || revision < entry.revision + 2
        };
        for names in self.pods.values_mut() {
            let limit = self.settings.addresses_per_name_max;
            for ((name, address), expiry) in names.take_expired(limit, now) {
                let entry = names.deferred.entry(address).or_insert_with(|| Deferred {
                    names: BTreeSet::new(),
                    due: now,
                    alive: seen,
                    revision,
                });
                entry.names.insert(name);
                entry.due = entry.due.max(now).max(expiry);
                entry.alive = entry.alive.max(seen);
            }
            let alive_names: BTreeSet<String> = names
                .deferred
                .values()
                .filter(|entry| is_alive(entry))
                .flat_map(|entry| entry.names.iter().cloned())
                .collect();
            names.deferred.retain(|_, entry| {
                is_alive(entry) || entry.names.iter().any(|name| alive_names.contains(name))
            });
            names.shed();
        }
        self.pods
            .retain(|_, names| !names.history.is_empty() || !names.deferred.is_empty());
        self.recollect();
    }

    /// A pod has gone, and with it what it learned at the next clean-up.
    pub fn forget_pod(&mut self, pod: &str) {
        self.pods.remove(pod);
    }

    /// The addresses that each name has now.
    pub fn names(&self) -> impl Iterator<Item = (&str, &BTreeSet<IpAddr>)> {
        self.known
            .iter()
            .map(|(name, addresses)| (name.as_str(), addresses))
    }

    fn recollect(&mut self) {
        self.known.clear();
        for names in self.pods.values() {
            for (name, address) in names.history.keys() {
                self.known.entry(name.clone()).or_default().insert(*address);
            }
            for (address, entry) in &names.deferred {
                for name in &entry.names {
                    self.known.entry(name.clone()).or_default().insert(*address);
                }
            }
        }
    }
}

impl PodNames {
    /// A new answer takes the name back from the addresses that were to be forgotten.
    fn revive(&mut self, name: &str, address: IpAddr, now: Seconds) {
        if let Some(entry) = self.deferred.get_mut(&address)
            && entry.due <= now
        {
            entry.names.remove(name);
            if entry.names.is_empty() {
                self.deferred.remove(&address);
            }
        }
    }

    /// Takes what has expired, and of each name what is over the limit.
    fn take_expired(&mut self, limit: usize, now: Seconds) -> Vec<((String, IpAddr), Seconds)> {
        let mut gone: BTreeSet<(String, IpAddr)> = self
            .history
            .iter()
            .filter(|(_, expiry)| **expiry < now)
            .map(|(key, _)| key.clone())
            .collect();
        let mut by_name: BTreeMap<&str, Vec<(Seconds, IpAddr)>> = BTreeMap::new();
        for ((name, address), expiry) in &self.history {
            if *expiry >= now {
                by_name.entry(name).or_default().push((*expiry, *address));
            }
        }
        for (name, mut addresses) in by_name {
            let over = addresses.len().saturating_sub(limit);
            addresses.sort_unstable();
            gone.extend(
                addresses[..over]
                    .iter()
                    .map(|(_, address)| (name.to_owned(), *address)),
            );
        }
        let history = &mut self.history;
        gone.into_iter()
            .filter_map(|key| history.remove(&key).map(|expiry| (key, expiry)))
            .collect()
    }

    /// Keeps at most as many deferred addresses as there may be: the oldest go.
    fn shed(&mut self) {
        let over = self.deferred.len().saturating_sub(DEFERRED_MAX);
        if over == 0 {
            return;
        }
        let mut oldest: Vec<_> = self
            .deferred
            .iter()
            .map(|(address, entry)| (entry.alive, entry.due, *address))
            .collect();
        oldest.sort_unstable();
        for (_, _, address) in &oldest[..over] {
            self.deferred.remove(address);
        }
    }
}
