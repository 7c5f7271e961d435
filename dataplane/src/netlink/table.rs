//! Rows of the kernel's tables, cut down to what the dataplane needs.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags};
use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteType};
use portcullis_engine::MacAddress;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in this network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address, where it has one of six bytes.
    pub mac: Option<MacAddress>,
    /// Bytes of IP in one packet.
    pub mtu: u32,
    /// Whether it carries packets: up at both ends, and the kernel has taken note of it.
    pub is_running: bool,
}

impl Link {
    pub(super) fn read(message: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewLink(message) = message else {
            return None;
        };
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            is_running: message.header.flags.contains(LinkFlags::Running),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(mac) => link.mac = mac.try_into().ok().map(MacAddress),
                _ => {}
            }
        }
        Some(link)
    }
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkAddress {
    /// The interface.
    pub link: u32,
    /// The address itself.
    pub address: IpAddr,
    /// Bits of its network.
    pub prefix_length: u8,
    /// Whether the host speaks from it no more by itself. [RFC 4862 §5.5.4]
    pub is_deprecated: bool,
}

impl LinkAddress {
    pub(super) fn read(message: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewAddress(message) = message else {
            return None;
        };
        let (mut local, mut peer) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(address) => local = Some(*address),
                AddressAttribute::Address(address) => peer = Some(*address),
                _ => {}
            }
        }
        // On a point-to-point link `Address` is the far end; `Local` is always ours.
        Some(Self {
            link: message.header.index,
            address: local.or(peer)?,
            prefix_length: message.header.prefix_len,
            is_deprecated: message
                .header
                .flags
                .contains(AddressHeaderFlags::Deprecated),
        })
    }
}

/// A way to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkRoute {
    /// The interface it leaves by.
    pub link: u32,
    /// The network.
    pub network: IpAddr,
    /// Bits of the network.
    pub prefix_length: u8,
    /// The next hop; None when the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// Smaller is preferred.
    pub metric: u32,
}

impl LinkRoute {
    pub(super) fn read(message: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewRoute(message) = message else {
            return None;
        };
        let header = &message.header;
        if header.kind != RouteType::Unicast || header.table != RouteHeader::RT_TABLE_MAIN {
            return None;
        }
        let unspecified = match header.address_family {
            netlink_packet_route::AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let mut route = Self {
            link: 0,
            network: unspecified,
            prefix_length: header.destination_prefix_length,
            gateway: None,
            metric: 0,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(link) => route.link = *link,
                RouteAttribute::Priority(metric) => route.metric = *metric,
                RouteAttribute::Destination(address) => route.network = ip(address)?,
                RouteAttribute::Gateway(address) => route.gateway = ip(address),
                _ => {}
            }
        }
        (route.link != 0).then_some(route)
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// A neighbour whose MAC address the kernel holds for usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkNeighbour {
    /// The interface it was found on.
    pub link: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: MacAddress,
}

impl LinkNeighbour {
    pub(super) fn read(message: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewNeighbour(message) = message else {
            return None;
        };
        let usable = [
            NeighbourState::Reachable,
            NeighbourState::Stale,
            NeighbourState::Delay,
            NeighbourState::Probe,
            NeighbourState::Permanent,
        ];
        if !usable.contains(&message.header.state) {
            return None;
        }
        let (mut address, mut mac) = (None, None);
        for attribute in message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                    address = Some(IpAddr::V4(ip));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                    address = Some(IpAddr::V6(ip));
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = bytes.try_into().ok().map(MacAddress);
                }
                _ => {}
            }
        }
        Some(Self {
            link: message.header.ifindex,
            address: address?,
            mac: mac?,
        })
    }
}
