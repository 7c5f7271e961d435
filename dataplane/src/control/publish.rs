//! Builds the snapshot that workers read, and the names that its records are joined with.

use super::endpoints::{Slot, SlotKey, Slots};
use super::host_pair::{GATEWAY_IPV4, GATEWAY_IPV6, HOST_END};
use crate::netlink::{Link, LinkAddress, LinkNeighbour, LinkRoute, Netlink, NetlinkError};
use crate::observe::{Link as SeenLink, Names};
use portcullis_engine::{
    Endpoint, EndpointIndex, EndpointKind, ExitPlan, MacAddress, Route, ServiceTable, Snapshot,
};
use portcullis_policy::{Document, Generation, Identity, Object, Tables};
use std::net::IpAddr;
use std::sync::Arc;

/// MAC address of the pods' gateway: locally administered, the same for every pod.
pub const GATEWAY_MAC: MacAddress = MacAddress([0xee; 6]);

/// What the kernel knows at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelView {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<LinkAddress>,
    /// All routes.
    pub routes: Vec<LinkRoute>,
    /// All neighbours with a known MAC address.
    pub neighbours: Vec<LinkNeighbour>,
}

impl KernelView {
    /// Reads all of it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn read(netlink: &mut Netlink) -> Result<Self, NetlinkError> {
        Ok(Self {
            links: netlink.links()?,
            addresses: netlink.addresses()?,
            routes: netlink.routes()?,
            neighbours: netlink.neighbours()?,
        })
    }

    /// The link of that name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The node's own addresses, the gateway's included; no loopback, no other link-local ones.
    #[must_use]
    pub fn node_addresses(&self) -> Vec<IpAddr> {
        let host_end = self.link(HOST_END).map(|link| link.index);
        let is_own = |address: &&LinkAddress| match address.address {
            IpAddr::V4(ip) => !ip.is_loopback(),
            IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                ip == GATEWAY_IPV6 && Some(address.link) == host_end
            }
            IpAddr::V6(ip) => !ip.is_loopback(),
        };
        let mut addresses: Vec<_> = self
            .addresses
            .iter()
            .filter(is_own)
            .map(|address| address.address)
            .collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }
}

/// Builds the snapshot of a generation.
#[must_use]
pub fn snapshot(
    generation: Generation,
    tables: Option<&Arc<Tables>>,
    services: &Arc<ServiceTable>,
    exits: &Arc<ExitPlan>,
    slots: &Slots,
    kernel: &KernelView,
) -> Snapshot {
    let mut snapshot = Snapshot {
        generation,
        tables: tables.cloned(),
        endpoints: (0..slots.len()).map(|_| None).collect(),
        endpoint_of: hashbrown::HashMap::default(),
        uplink: None,
        routes: Vec::new(),
        neighbours: hashbrown::HashMap::default(),
        gateway_addresses: (GATEWAY_IPV4, GATEWAY_IPV6),
        services: Arc::clone(services),
        exits: Arc::clone(exits),
    };
    for (index, slot) in slots.iter() {
        let endpoint = endpoint(slot, tables, kernel);
        for address in &endpoint.addresses {
            snapshot.endpoint_of.insert(*address, index);
        }
        if endpoint.kind == EndpointKind::Uplink {
            snapshot.uplink = Some(index);
            ways_out(&mut snapshot, slot.link, kernel);
        }
        snapshot.endpoints[usize::from(index.0)] = Some(endpoint);
    }
    snapshot
}

fn endpoint(slot: &Slot, tables: Option<&Arc<Tables>>, kernel: &KernelView) -> Endpoint {
    let kind = slot.wanted.key.kind();
    let mut endpoint = Endpoint {
        id: slot.id,
        kind,
        worker: slot.worker,
        identity: Identity::UNKNOWN,
        policy: None,
        addresses: slot.wanted.addresses.clone(),
        peer_mac: slot.wanted.mac.or(slot.learned_mac),
        own_mac: GATEWAY_MAC,
        mtu: slot.mtu,
        exits: None,
    };
    match &slot.wanted.key {
        SlotKey::Pod { namespace, name } => {
            if let Some(tables) = tables {
                endpoint.policy = tables.policy_of(namespace, name);
                endpoint.exits = tables.exit_place(namespace, name);
                endpoint.identity = tables
                    .identity_of_pod(namespace, name)
                    .unwrap_or(Identity::UNKNOWN);
            }
        }
        SlotKey::Host => {
            endpoint.identity = Identity::HOST;
            endpoint.addresses = kernel.node_addresses();
            endpoint.peer_mac = kernel.link(HOST_END).and_then(|link| link.mac);
        }
        SlotKey::Uplink => {
            endpoint.own_mac = slot.own_mac.unwrap_or_default();
            endpoint.peer_mac = None;
        }
    }
    endpoint
}

/// Routes and next hops over the uplink, the longest prefix first, then the smallest metric.
fn ways_out(snapshot: &mut Snapshot, link: Option<u32>, kernel: &KernelView) {
    let Some(link) = link else { return };
    let mut routes: Vec<_> = kernel
        .routes
        .iter()
        .filter(|route| route.link == link)
        .collect();
    routes.sort_by_key(|route| (std::cmp::Reverse(route.prefix_length), route.metric));
    snapshot.routes = routes
        .into_iter()
        .map(|route| Route {
            network: route.network,
            prefix_length: route.prefix_length,
            gateway: route.gateway,
        })
        .collect();
    snapshot.neighbours = kernel
        .neighbours
        .iter()
        .filter(|neighbour| neighbour.link == link)
        .map(|neighbour| (neighbour.address, neighbour.mac))
        .collect();
}

/// Whether workers would see no difference but the number.
#[must_use]
pub fn is_same(old: &Snapshot, new: &Snapshot) -> bool {
    let is_same_tables = match (&old.tables, &new.tables) {
        (None, None) => true,
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        _ => false,
    };
    is_same_tables
        && old.endpoints == new.endpoints
        && old.endpoint_of == new.endpoint_of
        && old.uplink == new.uplink
        && old.routes == new.routes
        && old.neighbours == new.neighbours
        && old.services == new.services
        && old.exits == new.exits
}

/// Whether an address is one of this node itself.
fn is_own(snapshot: &Snapshot, address: IpAddr) -> bool {
    let owner = snapshot.owner_of(address);
    owner.is_some_and(|(_, endpoint)| endpoint.kind == EndpointKind::Host)
}

/// The names of a snapshot.
#[must_use]
pub fn names(snapshot: &Snapshot, slots: &Slots, documents: &[Arc<Document>]) -> Names {
    let mut names = Names {
        tables: snapshot.tables.clone(),
        services: Arc::clone(&snapshot.services),
        exits: Arc::clone(&snapshot.exits),
        ..Names::default()
    };
    for (EndpointIndex(index), slot) in slots.iter() {
        let endpoint = snapshot.endpoints[usize::from(index)].as_ref();
        let link = SeenLink {
            index: slot.link.unwrap_or_default(),
            name: slot.wanted.interface.clone(),
            own_mac: endpoint.map(|endpoint| endpoint.own_mac.into()),
            peer_mac: endpoint.and_then(|endpoint| Some(endpoint.peer_mac?.into())),
        };
        names.links.insert(slot.id, link);
        if let SlotKey::Pod { namespace, name } = &slot.wanted.key {
            let policy = endpoint.and_then(|e| e.policy);
            names
                .endpoints
                .insert(slot.id, (namespace.clone(), name.clone(), policy));
        }
    }
    for document in documents {
        match &document.object {
            Object::Pod(pod) => {
                for address in &pod.addresses {
                    names
                        .pods
                        .insert(*address, (pod.namespace.clone(), pod.name.clone()));
                }
            }
            Object::Node(node) if node.addresses.iter().any(|one| is_own(snapshot, *one)) => {
                let labels = node.labels.iter();
                names.node_labels = labels
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
            }
            _ => {}
        }
    }
    names
}
