//! Which interfaces the daemon owns: one slot each, kept while the interface behind it is the same.

use crate::netlink::Link;
use portcullis_engine::{EndpointId, EndpointIndex, EndpointKind, MacAddress};
use std::net::IpAddr;

/// Slots there are at most: the kernel program's map of sockets has as many.
pub const SLOTS_MAX: usize = xdp_redirect::SLOTS_MAX as usize;

/// What a slot is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotKey {
    /// The node's own stack.
    Host,
    /// The way out.
    Uplink,
    /// A pod of this node.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl SlotKey {
    /// What lies behind it.
    #[must_use]
    pub fn kind(&self) -> EndpointKind {
        match self {
            Self::Host => EndpointKind::Host,
            Self::Uplink => EndpointKind::Uplink,
            Self::Pod { .. } => EndpointKind::Pod,
        }
    }

    /// `namespace/name`, `host`, `uplink`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Host => "host".into(),
            Self::Uplink => "uplink".into(),
            Self::Pod { namespace, name } => format!("{namespace}/{name}"),
        }
    }
}

/// An interface that documents or settings ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What for.
    pub key: SlotKey,
    /// Its name on the node.
    pub interface: String,
    /// Addresses that may send from behind it.
    pub addresses: Vec<IpAddr>,
    /// MAC address of the far side, where the manifest names it.
    pub mac: Option<MacAddress>,
}

/// An interface that the daemon owns, or waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name for the life of the daemon.
    pub id: EndpointId,
    /// What was asked for.
    pub wanted: Wanted,
    /// Number of the interface; None while there is none of that name.
    pub link: Option<u32>,
    /// Bytes of IP that may leave there in one packet.
    pub mtu: u32,
    /// MAC address of the interface itself.
    pub own_mac: Option<MacAddress>,
    /// The worker that owns it.
    pub worker: u16,
    /// Whether the interface carries packets.
    pub is_running: bool,
    /// Whether its socket stands and the kernel program sends to it.
    pub is_attached: bool,
    /// What it waits for.
    pub fault: Option<String>,
    /// MAC address of the far side as it told us itself.
    pub learned_mac: Option<MacAddress>,
}

/// All slots.
#[derive(Debug)]
pub struct Slots {
    slots: Vec<Place>,
    next_id: u32,
    workers: u16,
    /// Endpoints that found no slot when they were last looked at.
    pub refused: usize,
}

#[derive(Debug)]
enum Place {
    Free,
    /// No endpoint any more, but its worker may still hold its socket.
    Draining,
    Taken(Box<Slot>),
}

impl Slots {
    /// No slots, to be spread over so many workers.
    #[must_use]
    pub fn new(workers: u16) -> Self {
        Self {
            slots: Vec::new(),
            next_id: 1,
            workers,
            refused: 0,
        }
    }

    /// Makes the slots what is wanted, with the links that there are now.
    ///
    /// Returns the slots that ended. Their index is not used again before `release`.
    pub fn reconcile(&mut self, wanted: &[Wanted], links: &[Link]) -> Vec<(EndpointIndex, Slot)> {
        let link_of = |interface: &str| links.iter().find(|link| link.name == interface);
        let mut retired = Vec::new();
        for (index, place) in self.slots.iter_mut().enumerate() {
            let Place::Taken(slot) = place else { continue };
            let want = wanted.iter().find(|want| want.key == slot.wanted.key);
            let link = link_of(&slot.wanted.interface);
            if let Some(want) = want
                && slot.continues(want, link)
            {
                slot.wanted = want.clone();
                slot.see(link);
                continue;
            }
            let Place::Taken(slot) = std::mem::replace(place, Place::Draining) else {
                continue;
            };
            retired.push((index_of(index), *slot));
        }
        self.refused = 0;
        for want in wanted {
            let is_there = self.iter().any(|(_, slot)| slot.wanted.key == want.key);
            if !is_there {
                self.add(want.clone(), link_of(&want.interface));
            }
        }
        retired
    }

    fn add(&mut self, wanted: Wanted, link: Option<&Link>) {
        let free = self
            .slots
            .iter()
            .position(|place| matches!(place, Place::Free));
        let index = free.unwrap_or(self.slots.len());
        if index >= SLOTS_MAX {
            // The pod stays without an endpoint, hence cut off; `status` counts it.
            self.refused += 1;
            return;
        }
        let mut load = vec![0; usize::from(self.workers)];
        for (_, slot) in self.iter() {
            load[usize::from(slot.worker)] += 1;
        }
        let worker = (0..self.workers)
            .min_by_key(|worker| load[usize::from(*worker)])
            .unwrap_or(0);
        let mut slot = Slot {
            id: EndpointId(self.next_id),
            wanted,
            link: None,
            mtu: 1500,
            own_mac: None,
            worker,
            is_running: false,
            is_attached: false,
            fault: None,
            learned_mac: None,
        };
        slot.see(link);
        self.next_id += 1;
        let place = Place::Taken(Box::new(slot));
        if index == self.slots.len() {
            self.slots.push(place);
        } else {
            self.slots[index] = place;
        }
    }

    /// Lets the index of a slot that ended be used again.
    pub fn release(&mut self, index: EndpointIndex) {
        let place = &mut self.slots[usize::from(index.0)];
        assert!(
            matches!(place, Place::Draining),
            "only a slot that ended is released"
        );
        *place = Place::Free;
    }

    /// Whether a worker still holds the socket of a slot that ended.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.slots
            .iter()
            .any(|place| matches!(place, Place::Draining))
    }

    /// The slots in use.
    pub fn iter(&self) -> impl Iterator<Item = (EndpointIndex, &Slot)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, place)| match place {
                Place::Taken(slot) => Some((index_of(index), &**slot)),
                _ => None,
            })
    }

    /// One slot.
    pub fn get_mut(&mut self, index: EndpointIndex) -> Option<&mut Slot> {
        match self.slots.get_mut(usize::from(index.0)) {
            Some(Place::Taken(slot)) => Some(slot),
            _ => None,
        }
    }

    /// How many indexes have ever been used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no index has ever been used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl Slot {
    /// Whether this is still the same endpoint: same interface, same addresses.
    fn continues(&self, want: &Wanted, link: Option<&Link>) -> bool {
        let is_same_pod =
            self.wanted.key.kind() != EndpointKind::Pod || self.wanted.addresses == want.addresses;
        let is_same_link = self.link.is_none() || self.link == link.map(|link| link.index);
        is_same_pod && is_same_link && self.wanted.interface == want.interface
    }

    fn see(&mut self, link: Option<&Link>) {
        match link {
            Some(link) => {
                self.link = Some(link.index);
                self.mtu = link.mtu;
                self.is_running = link.is_running;
                self.own_mac = link.mac;
            }
            None => self.fault = Some(format!("waiting for interface {}", self.wanted.interface)),
        }
    }
}

fn index_of(index: usize) -> EndpointIndex {
    EndpointIndex(u16::try_from(index).expect("SLOTS_MAX fits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, interface: &str, last: u8) -> Wanted {
        Wanted {
            key: SlotKey::Pod {
                namespace: "default".into(),
                name: name.into(),
            },
            interface: interface.into(),
            addresses: vec![IpAddr::from([10, 0, 1, last])],
            mac: None,
        }
    }

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            mac: None,
            mtu: 65_535,
            is_running: true,
        }
    }

    fn ids(slots: &Slots) -> Vec<(u16, u32, Option<u32>)> {
        slots
            .iter()
            .map(|(index, slot)| (index.0, slot.id.0, slot.link))
            .collect()
    }

    #[test]
    fn an_interface_that_comes_back_under_its_name_is_another_endpoint() {
        let mut slots = Slots::new(1);
        let wanted = [pod("a", "va", 1)];
        assert_eq!(slots.reconcile(&wanted, &[]).len(), 0);
        assert_eq!(ids(&slots), [(0, 1, None)]);
        assert_eq!(slots.reconcile(&wanted, &[link(7, "va")]).len(), 0);
        assert_eq!(ids(&slots), [(0, 1, Some(7))]);
        let retired = slots.reconcile(&wanted, &[link(9, "va")]);
        assert_eq!(
            retired
                .iter()
                .map(|(index, slot)| (index.0, slot.id.0))
                .collect::<Vec<_>>(),
            [(0, 1)]
        );
        // The old index is not used again before its socket came back.
        assert_eq!(ids(&slots), [(1, 2, Some(9))]);
        slots.release(EndpointIndex(0));
        slots.reconcile(&[pod("a", "va", 1), pod("b", "vb", 2)], &[link(9, "va")]);
        assert_eq!(ids(&slots), [(0, 3, None), (1, 2, Some(9))]);
    }

    #[test]
    fn a_pod_with_another_address_is_another_endpoint() {
        let mut slots = Slots::new(1);
        let links = [link(7, "va")];
        slots.reconcile(&[pod("a", "va", 1)], &links);
        assert_eq!(slots.reconcile(&[pod("a", "va", 2)], &links).len(), 1);
        assert_eq!(ids(&slots), [(1, 2, Some(7))]);
    }

    #[test]
    fn endpoints_are_spread_over_the_workers() {
        let mut slots = Slots::new(2);
        slots.reconcile(
            &[pod("a", "va", 1), pod("b", "vb", 2), pod("c", "vc", 3)],
            &[],
        );
        let workers: Vec<_> = slots.iter().map(|(_, slot)| slot.worker).collect();
        assert_eq!(workers, [0, 1, 0]);
    }
}
