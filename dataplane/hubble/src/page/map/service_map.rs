//! Places and links, bounded: what finds no room is counted with the others.

use super::link::{Link, LinkKey, PortKey};
use super::place::{Place, PlaceKey};
use super::recent::SLOT_SECONDS;
use portcullis_engine::{Record, RecordKind};
use portcullis_observe::{
    Connections, Event, Names, Party, Passed, Sighting, is_audited, workload_of,
};
use portcullis_policy::Protocol;
use serde::Serialize;
use std::collections::{HashMap, VecDeque};

/// How much a map holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MapSettings {
    /// Places.
    pub(crate) places_max: usize,
    /// Links.
    pub(crate) links_max: usize,
    /// Ports between two places that are told apart.
    pub(crate) ports_max: u32,
    /// Connections that are known to have begun, and as many whose sums are known.
    pub(crate) connections_max: usize,
    /// After how many seconds without an event a link is forgotten.
    pub(crate) idle_seconds_max: i64,
}

impl Default for MapSettings {
    fn default() -> Self {
        Self {
            places_max: 1024,
            links_max: 4096,
            ports_max: 32,
            connections_max: 64 * 1024,
            idle_seconds_max: 3600,
        }
    }
}

/// What found no room on the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Other {
    /// Events, drops among them.
    pub(crate) events: u64,
    /// Drops.
    pub(crate) dropped: u64,
    /// Bytes.
    pub(crate) bytes: u64,
}

/// What has left the map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone {
    /// When.
    pub(crate) version: u64,
    /// A link or a place.
    pub(crate) is_link: bool,
    /// Its number.
    pub(crate) id: u32,
}

/// Departures that are remembered: who asks less often gets the whole map.
const GONE_MAX: usize = 4096;

/// The map.
#[derive(Debug)]
pub(crate) struct ServiceMap {
    settings: MapSettings,
    pub(crate) places: HashMap<u32, Place>,
    by_key: HashMap<PlaceKey, u32>,
    pub(crate) links: HashMap<LinkKey, Link>,
    /// Ports that are told apart, by the two places.
    ports: HashMap<(u32, u32), u32>,
    /// By whether they passed only because a policy is not enforced.
    connections: Connections<bool>,
    next_id: u32,
    /// Counts up with every tick in which something changed.
    pub(crate) version: u64,
    has_changed: bool,
    pub(crate) gone: VecDeque<Gone>,
    /// Departures up to this version are forgotten.
    pub(crate) gone_before: u64,
    pub(crate) other: Other,
    /// Events that the map missed: it was too slow, or workers had no room for them.
    pub(crate) lost: u64,
    pub(crate) now: i64,
}

impl ServiceMap {
    /// An empty map.
    pub(crate) fn new(settings: MapSettings) -> Self {
        Self {
            settings,
            places: HashMap::new(),
            by_key: HashMap::new(),
            links: HashMap::new(),
            ports: HashMap::new(),
            connections: Connections::new(settings.connections_max),
            next_id: 1,
            version: 1,
            has_changed: false,
            gone: VecDeque::new(),
            gone_before: 0,
            other: Other::default(),
            lost: 0,
            now: 0,
        }
    }

    /// Counts an event.
    pub(crate) fn take(&mut self, event: &Event) {
        let Some(seen) = Sighting::all(event).next() else {
            return;
        };
        let record = &event.record;
        let second = event.time.as_second();
        let mut passed = self.connections.take(record, second, is_audited(record));
        self.has_changed = true;
        // A reply is of the link that the other side began.
        let is_reply = record.is_reply == Some(true);
        let (from, to) = if is_reply {
            (&seen.destination, &seen.source)
        } else {
            (&seen.source, &seen.destination)
        };
        let Some(key) = self.key(from, to, port_of(record, is_reply)) else {
            return self.count_other(record, &passed);
        };
        if !self.links.contains_key(&key) {
            self.links.insert(key, Link::new(self.next_id, second));
            // What goes on after the link was forgotten is of a connection that was counted before.
            passed.is_new |= matches!(record.kind, RecordKind::Update | RecordKind::End(_));
            self.next_id = self.next_id.wrapping_add(1);
            *self.ports.entry((key.from, key.to)).or_default() += 1;
            for end in [key.from, key.to] {
                if let Some(place) = self.places.get_mut(&end) {
                    place.links += 1;
                }
            }
        }
        let version = self.version + 1;
        if let Some(link) = self.links.get_mut(&key) {
            link.count(record.kind, &passed, second);
            link.version = version;
        }
    }

    /// The link of an event; None when there is no room for it.
    fn key(&mut self, from: &Party<'_>, to: &Party<'_>, port: PortKey) -> Option<LinkKey> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        let key = LinkKey { from, to, port };
        if self.links.contains_key(&key) {
            return Some(key);
        }
        let ports = self.ports.get(&(from, to)).copied().unwrap_or_default();
        let key = if ports >= self.settings.ports_max {
            LinkKey {
                port: PortKey::Further,
                ..key
            }
        } else {
            key
        };
        let has_room = self.links.contains_key(&key) || self.links.len() < self.settings.links_max;
        has_room.then_some(key)
    }

    fn place(&mut self, party: &Party<'_>) -> Option<u32> {
        let key = PlaceKey::of(party);
        let id = self.place_of(key, party.labels)?;
        self.add_pod(id, party.pod_name);
        Some(id)
    }

    fn place_of(&mut self, key: PlaceKey, labels: &[String]) -> Option<u32> {
        if let Some(id) = self.by_key.get(&key) {
            return Some(*id);
        }
        if self.places.len() >= self.settings.places_max {
            return None;
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let mut place = Place::new(id, &key, labels);
        place.version = self.version + 1;
        self.has_changed = true;
        self.places.insert(id, place);
        self.by_key.insert(key, id);
        Some(id)
    }

    fn add_pod(&mut self, id: u32, pod: &str) {
        if let Some(place) = self.places.get_mut(&id)
            && place.add_pod(pod)
        {
            place.version = self.version + 1;
            self.has_changed = true;
        }
    }

    fn count_other(&mut self, record: &Record, passed: &Passed<bool>) {
        self.other.events += 1;
        if matches!(record.kind, RecordKind::Drop(_) | RecordKind::Revoked(_)) {
            self.other.dropped += 1;
        }
        self.other.bytes += passed.bytes[0] + passed.bytes[1];
    }

    /// Events went by unseen.
    pub(crate) fn lose(&mut self, count: u64) {
        self.lost += count;
        self.has_changed |= count > 0;
    }

    /// Once a second: forgets what is idle, knows the pods of this node, and lets readers see what
    /// changed.
    pub(crate) fn tick(&mut self, now: i64, names: &Names) {
        let is_new_slot = now.div_euclid(SLOT_SECONDS) != self.now.div_euclid(SLOT_SECONDS);
        self.now = now;
        if is_new_slot {
            self.connections.sweep(now);
            self.forget_idle(now, names);
            self.add_pods(names);
            let version = self.version + 1;
            for link in self.links.values_mut() {
                if link.recent.is_moving(now) {
                    link.version = version;
                    self.has_changed = true;
                }
            }
        }
        if std::mem::take(&mut self.has_changed) {
            self.version += 1;
        }
    }

    /// Pods that nobody talks to stand on the map, too.
    fn add_pods(&mut self, names: &Names) {
        for (namespace, name, _) in names.endpoints.values() {
            let Some((_, workload)) = workload_of(name) else {
                continue;
            };
            let labels = names.tables.as_deref().and_then(|tables| {
                let identity = tables.identity_of_pod(namespace, name)?;
                Some(tables.labels(identity))
            });
            let key = PlaceKey::Workload(namespace.clone(), workload.into());
            let Some(id) = self.place_of(key, labels.unwrap_or_default()) else {
                return;
            };
            self.add_pod(id, name);
            if let Some(place) = self.places.get_mut(&id)
                && !std::mem::replace(&mut place.is_local, true)
            {
                place.version = self.version + 1;
            }
        }
    }

    fn forget_idle(&mut self, now: i64, names: &Names) {
        let version = self.version + 1;
        let idle: Vec<LinkKey> = self
            .links
            .iter()
            .filter(|(_, link)| now - link.last > self.settings.idle_seconds_max)
            .map(|(key, _)| *key)
            .collect();
        for key in idle {
            let Some(link) = self.links.remove(&key) else {
                continue;
            };
            self.go(version, true, link.id);
            if let Some(count) = self.ports.get_mut(&(key.from, key.to)) {
                *count -= 1;
                if *count == 0 {
                    self.ports.remove(&(key.from, key.to));
                }
            }
            for end in [key.from, key.to] {
                if let Some(place) = self.places.get_mut(&end) {
                    place.links -= 1;
                }
            }
        }
        let present: std::collections::HashSet<(&str, &str)> = names
            .endpoints
            .values()
            .filter_map(|(namespace, name, _)| Some((namespace.as_str(), workload_of(name)?.1)))
            .collect();
        let is_left = |place: &Place| {
            place.links == 0 && !present.contains(&(place.namespace.as_str(), &*place.name))
        };
        let left: Vec<u32> = self
            .places
            .values()
            .filter(|place| is_left(place))
            .map(|place| place.id)
            .collect();
        for id in left {
            self.places.remove(&id);
            self.go(version, false, id);
        }
        let places = &self.places;
        self.by_key.retain(|_, id| places.contains_key(id));
    }

    fn go(&mut self, version: u64, is_link: bool, id: u32) {
        if self.gone.len() >= GONE_MAX
            && let Some(oldest) = self.gone.pop_front()
        {
            self.gone_before = oldest.version;
        }
        self.has_changed = true;
        self.gone.push_back(Gone {
            version,
            is_link,
            id,
        });
    }

    /// Connections that are open, as far as is known.
    pub(crate) fn connections(&self) -> usize {
        self.connections.count()
    }
}

/// The port of the side that did not begin it.
fn port_of(record: &Record, is_reply: bool) -> PortKey {
    let port = if is_reply {
        record.ports.0
    } else {
        record.ports.1
    };
    match record.protocol {
        None => PortKey::Unknown,
        Some(protocol @ (Protocol::Tcp | Protocol::Udp | Protocol::Sctp)) => {
            PortKey::At(protocol, port)
        }
        Some(protocol) => PortKey::Whole(protocol),
    }
}
