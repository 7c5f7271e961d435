//! What stands behind a port of a service, and which of it a new connection goes to.

use crate::maglev;
use hashbrown::HashMap;
use std::net::IpAddr;

/// Backends that one set holds; more cannot be told apart by an entry.
const BACKENDS_MAX: usize = u16::MAX as usize - 1;

/// Something that serves, most often a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Whether it takes new connections.
    pub state: BackendState,
    /// Whether it is a pod of this node.
    pub is_local: bool,
}

/// Whether a backend takes new connections. One that is gone is in no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendState {
    /// It does.
    Active,
    /// It keeps those it has; new ones only when nobody is active.
    Terminating,
}

/// The backends of a port of a service, never changed.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct BackendSet {
    /// Each once, sorted.
    backends: Vec<Backend>,
    /// Places of those that take new connections.
    candidates: Vec<u16>,
    /// For each entry a place in `candidates`; None where there is nothing to choose.
    entries: Option<Box<[u16; maglev::ENTRIES]>>,
    /// The place of each.
    places: HashMap<(IpAddr, u16), u16>,
}

impl Backend {
    const fn key(&self) -> (IpAddr, u16) {
        (self.address, self.port)
    }
}

impl BackendSet {
    /// The set of these backends, as `unified` gives them.
    pub(crate) fn new(backends: Vec<Backend>) -> Self {
        let of_state = |state| -> Vec<u16> {
            let all = backends.iter().enumerate();
            all.filter(|(_, backend)| backend.state == state)
                .map(|(place, _)| place as u16)
                .collect()
        };
        let mut candidates = of_state(BackendState::Active);
        if candidates.is_empty() {
            candidates = of_state(BackendState::Terminating);
        }
        let keys: Vec<_> = candidates
            .iter()
            .map(|place| backends[usize::from(*place)].key())
            .collect();
        Self {
            entries: (keys.len() > 1).then(|| maglev::entries(&keys)),
            places: backends
                .iter()
                .enumerate()
                .map(|(place, backend)| (backend.key(), place as u16))
                .collect(),
            candidates,
            backends,
        }
    }

    /// All of them, sorted by address and port.
    #[must_use]
    pub fn all(&self) -> &[Backend] {
        &self.backends
    }

    /// The backend for a new connection with this hash. None when there is none: then the client
    /// is told so.
    #[must_use]
    pub fn pick(&self, hash: u64) -> Option<&Backend> {
        self.next_pick(hash, 0)
    }

    /// The backend for the same connection after `tries` others could not be used. None when all
    /// have been tried.
    #[must_use]
    pub fn next_pick(&self, hash: u64, tries: usize) -> Option<&Backend> {
        if tries >= self.candidates.len() {
            return None;
        }
        let first = match &self.entries {
            Some(entries) => usize::from(entries[(hash % maglev::ENTRIES as u64) as usize]),
            None => 0,
        };
        let place = self.candidates[(first + tries) % self.candidates.len()];
        self.backends.get(usize::from(place))
    }

    /// What has become of a backend. None when it is gone.
    #[must_use]
    pub fn backend_state(&self, address: IpAddr, port: u16) -> Option<BackendState> {
        self.find(address, port).map(|backend| backend.state)
    }

    /// The backend with this address and port, if a new connection may go there.
    #[must_use]
    pub fn find_candidate(&self, address: IpAddr, port: u16) -> Option<&Backend> {
        let backend = self.find(address, port)?;
        let first = self.backends.get(usize::from(*self.candidates.first()?))?;
        // The candidates are all of one state.
        (backend.state == first.state).then_some(backend)
    }

    fn find(&self, address: IpAddr, port: u16) -> Option<&Backend> {
        let place = *self.places.get(&(address, port))?;
        self.backends.get(usize::from(place))
    }
}

/// The backends sorted, each once: one that somebody calls active is active.
pub(crate) fn unified(backends: impl Iterator<Item = Backend>) -> Vec<Backend> {
    let mut all: Vec<Backend> = backends.collect();
    // The state is third in the order, so the active one of a pair comes first and stays.
    all.sort_unstable();
    all.dedup_by(|next, kept| {
        let is_same = next.key() == kept.key();
        kept.is_local |= is_same && next.is_local;
        is_same
    });
    all.truncate(BACKENDS_MAX);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use BackendState::{Active, Terminating};

    fn backend(last: u8, state: BackendState) -> Backend {
        Backend {
            address: IpAddr::from([10, 0, 1, last]),
            port: 8080,
            state,
            is_local: false,
        }
    }

    fn set(backends: &[Backend]) -> BackendSet {
        BackendSet::new(unified(backends.iter().copied()))
    }

    #[test]
    fn the_order_of_the_backends_and_their_copies_do_not_count() {
        let one = set(&[backend(1, Active), backend(2, Active), backend(3, Active)]);
        let other = set(&[
            backend(3, Active),
            backend(1, Terminating),
            backend(2, Active),
            backend(3, Active),
            backend(1, Active),
        ]);
        assert_eq!(one, other);
    }

    #[test]
    fn new_connections_go_to_the_active_ones_only() {
        let set = set(&[
            backend(1, Active),
            backend(2, Terminating),
            backend(3, Active),
        ]);
        let picked: std::collections::BTreeSet<_> =
            (0..1000).filter_map(|hash| set.pick(hash)).collect();
        assert_eq!(
            picked.into_iter().copied().collect::<Vec<_>>(),
            [backend(1, Active), backend(3, Active)]
        );
        let two = IpAddr::from([10, 0, 1, 2]);
        assert_eq!(set.backend_state(two, 8080), Some(Terminating));
        assert_eq!(set.find_candidate(two, 8080), None);
        assert_eq!(set.backend_state(two, 8081), None);
    }

    #[test]
    fn where_nobody_is_active_those_that_end_take_new_connections() {
        let set = set(&[backend(2, Terminating)]);
        assert_eq!(set.pick(77), Some(&backend(2, Terminating)));
        let two = IpAddr::from([10, 0, 1, 2]);
        assert_eq!(
            set.find_candidate(two, 8080),
            Some(&backend(2, Terminating))
        );
    }

    #[test]
    fn where_there_is_no_backend_there_is_no_pick() {
        assert_eq!(BackendSet::default().pick(77), None);
        assert_eq!(set(&[]), BackendSet::default());
    }

    #[test]
    fn further_picks_try_each_backend_once() {
        let all: Vec<_> = (1..8).map(|last| backend(last, Active)).collect();
        let set = set(&all);
        for hash in 0..100 {
            let mut tried: Vec<_> = (0..)
                .map_while(|tries| set.next_pick(hash, tries))
                .copied()
                .collect();
            assert_eq!(tried.first(), set.pick(hash));
            tried.sort();
            assert_eq!(tried, all);
        }
    }
}
