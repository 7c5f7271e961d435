//! Who is where: the endpoints of this node, the ways out, and the tables, as one immutable snapshot.

use crate::{ExitPlan, ServiceTable};
use hashbrown::HashMap;
use portcullis_policy::{ExitPlace, Generation, Identity, PolicyIndex, Tables};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Everybody on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether more than one host is meant. [IEEE 802.3 §3.2.3: the first bit sent]
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

/// Names an endpoint for as long as the daemon runs: never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u32);

/// The place of an endpoint in `Snapshot::endpoints`: stable while it lives, used again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointIndex(pub u16);

/// What lies behind an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndpointKind {
    /// A pod, policed by its own policy.
    Pod,
    /// This node's own stack, over the pair of interfaces that the daemon owns.
    Host,
    /// The node's way out.
    Uplink,
}

/// One interface that the daemon owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name for the life of the daemon.
    pub id: EndpointId,
    /// What lies behind it.
    pub kind: EndpointKind,
    /// The worker that owns it.
    pub worker: u16,
    /// Who is behind it. For the uplink `UNKNOWN`: there each address has its own.
    pub identity: Identity,
    /// The policy of a pod. None for host and uplink, and for a pod whose labels are not known:
    /// nothing passes to or from the latter.
    pub policy: Option<PolicyIndex>,
    /// Addresses that may send from here: a pod's own, the node's own. Empty for the uplink.
    pub addresses: Vec<IpAddr>,
    /// MAC address of the far side: the pod's, the host interface's. None until it is known; for
    /// the uplink None, there each next hop has its own.
    pub peer_mac: Option<MacAddress>,
    /// MAC address that we send from and answer with.
    pub own_mac: MacAddress,
    /// Bytes of IP that may leave here in one packet.
    pub mtu: u32,
    /// Its place among the pods that egress gateway policies are about.
    pub exits: Option<ExitPlace>,
}

/// Where an address outside this node's pods is reached over the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Network of the destination and its prefix length in bits.
    pub network: IpAddr,
    /// Bits of the prefix.
    pub prefix_length: u8,
    /// The next hop; None when the destination itself is on the link.
    pub gateway: Option<IpAddr>,
}

/// The MAC address of a next hop on the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: MacAddress,
}

/// Everything that the packet path reads: shared by all workers, never changed.
#[derive(Debug)]
pub struct Snapshot {
    /// The number of this snapshot and its tables.
    pub generation: Generation,
    /// Policy and identities. None before the first set of documents was accepted.
    pub tables: Option<Arc<Tables>>,
    /// The endpoints by index; None where an index is free.
    pub endpoints: Vec<Option<Endpoint>>,
    /// Which endpoint has an address: pods and the node's own addresses.
    pub endpoint_of: HashMap<IpAddr, EndpointIndex>,
    /// The way out, if the node has one.
    pub uplink: Option<EndpointIndex>,
    /// Routes over the uplink, longest prefix first.
    pub routes: Vec<Route>,
    /// Next hops on the uplink.
    pub neighbours: HashMap<IpAddr, MacAddress>,
    /// How packets leave the cluster here.
    pub exits: Arc<ExitPlan>,
    /// What the gateway answers and sends errors from, IPv4 then IPv6.
    pub gateway_addresses: (Ipv4Addr, Ipv6Addr),
    /// Services, and what stands behind them.
    pub services: Arc<ServiceTable>,
}

/// The way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    /// The endpoint that the frame leaves by.
    pub to: EndpointIndex,
    /// The next hop on the uplink; None for pods and host, whose MAC address the endpoint knows.
    pub next_hop: Option<IpAddr>,
}

impl Endpoint {
    /// Whether the address is one of its own.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }
}

impl Snapshot {
    /// The endpoint at this index.
    #[must_use]
    pub fn endpoint(&self, index: EndpointIndex) -> Option<&Endpoint> {
        self.endpoints.get(usize::from(index.0))?.as_ref()
    }

    /// The pod or host endpoint that owns an address.
    #[must_use]
    pub fn owner_of(&self, address: IpAddr) -> Option<(EndpointIndex, &Endpoint)> {
        let index = *self.endpoint_of.get(&address)?;
        Some((index, self.endpoint(index)?))
    }

    /// Who is behind an address: a local endpoint's own identity, else what the tables say.
    pub(crate) fn identity_of(&self, tables: &Tables, address: IpAddr) -> Identity {
        match self.owner_of(address) {
            Some((_, owner)) => owner.identity,
            None => tables.identity_of(address),
        }
    }

    /// What the node calls itself when it tells somebody of an error: gateway addresses are of the
    /// pods' links alone, and routers elsewhere need not forward them. [RFC 3927 §2.7; RFC 4291
    /// §2.5.6]
    pub(crate) fn router_addresses(&self, to: IpAddr) -> (Ipv4Addr, Ipv6Addr) {
        let mut addresses = self.gateway_addresses;
        if self.owner_of(to).is_none() {
            for own in &self.exits.node {
                match *own {
                    IpAddr::V4(own) => addresses.0 = own,
                    IpAddr::V6(own) => addresses.1 = own,
                }
            }
        }
        addresses
    }

    /// The way to an address: a local endpoint, else the longest matching route on the uplink.
    pub(crate) fn way_to(&self, destination: IpAddr) -> Option<Way> {
        if let Some((to, _)) = self.owner_of(destination) {
            return Some(Way { to, next_hop: None });
        }
        let to = self.uplink?;
        let route = self.routes.iter().find(|route| route.has(destination))?;
        Some(Way {
            to,
            next_hop: Some(route.gateway.unwrap_or(destination)),
        })
    }

    /// Whether a frame that waits to go out here, to this next hop, has nothing to wait for: the MAC
    /// address is known, or nobody is here any more.
    pub(crate) fn is_reachable(&self, at: EndpointIndex, next_hop: IpAddr) -> bool {
        self.endpoint(at).is_none_or(|out| match out.kind {
            EndpointKind::Uplink => self.neighbours.contains_key(&next_hop),
            EndpointKind::Pod | EndpointKind::Host => out.peer_mac.is_some(),
        })
    }
}

impl Route {
    /// Whether the address lies in the route's network.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let (network, address, bits) = match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => (
                u128::from(network.to_bits()) << 96,
                u128::from(address.to_bits()) << 96,
                32,
            ),
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits(), address.to_bits(), 128)
            }
            _ => return false,
        };
        // A prefix longer than the address cannot match; no shift may overflow either.
        match u32::from(self.prefix_length) {
            0 => true,
            length if length <= bits => (network ^ address) >> (128 - length) == 0,
            _ => false,
        }
    }
}
