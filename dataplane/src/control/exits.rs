//! How packets leave the cluster at this node, as workers and kernel program read it.

use super::publish::KernelView;
use crate::config::Config;
use crate::xdp::{self, PortRange};
use portcullis_engine::{ExitPlan, FrontendKind, GatewayPlace, ServiceTable};
use portcullis_policy::{Cidr, Protocol, Source, Tables};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What documents, settings and the uplink's addresses say of leaving.
#[must_use]
pub fn exit_plan(
    tables: Option<&Tables>,
    services: &ServiceTable,
    config: &Config,
    kernel: &KernelView,
) -> ExitPlan {
    let Some(uplink) = config.uplink.as_deref().and_then(|name| kernel.link(name)) else {
        return ExitPlan::default();
    };
    let own = kernel.node_addresses();
    let first = first_addresses(kernel, uplink.index);
    let mut plan = ExitPlan {
        node: first.clone(),
        ..ExitPlan::default()
    };
    for route in tables.into_iter().flat_map(Tables::egress_routes) {
        let place = |(node, source): &(IpAddr, Source)| {
            if !own.contains(node) {
                return GatewayPlace::Elsewhere(*node);
            }
            let addresses = match source {
                Source::DefaultRoute => first.clone(),
                // Packets leave by the uplink, so no other interface's address fits them.
                Source::Interface(name) if Some(name) == config.uplink.as_ref() => first.clone(),
                Source::Address(address) if own.contains(address) => vec![*address],
                Source::Interface(_) | Source::Address(_) => Vec::new(),
            };
            if addresses.is_empty() {
                GatewayPlace::NoAddress
            } else {
                GatewayPlace::Here(addresses)
            }
        };
        plan.gateways
            .push(route.gateways.iter().map(place).collect());
    }
    if config.masquerade {
        plan.masquerade = first.clone();
        let blocks = config
            .masquerade_excluded_cidrs
            .iter()
            .chain(&config.pod_cidrs);
        plan.unmasked = blocks
            .filter_map(|block| Cidr::new(block.address, block.prefix_length))
            .collect();
    }
    take_ports(&mut plan, &first, services, config);
    plan
}

/// Says which ports each address has that anything leaves with.
fn take_ports(plan: &mut ExitPlan, first: &[IpAddr], services: &ServiceTable, config: &Config) {
    let from_outside = services
        .iter()
        .flat_map(|service| &service.frontends)
        .any(|(_, kind)| *kind != FrontendKind::ClusterIp);
    let gateways: Vec<IpAddr> = plan
        .gateways
        .iter()
        .flatten()
        .filter_map(|place| match place {
            GatewayPlace::Here(addresses) => Some(addresses),
            GatewayPlace::NoAddress | GatewayPlace::Elsewhere(_) => None,
        })
        .flatten()
        .copied()
        .collect();
    let node = plan.node.iter().copied().filter(|_| from_outside);
    let used: BTreeSet<IpAddr> = gateways
        .into_iter()
        .chain(plan.masquerade.iter().copied())
        .chain(node)
        .collect();
    for address in used {
        // The node speaks from its first address itself; the others are there for us.
        let is_shared = first.contains(&address);
        let range = if is_shared {
            plan.shared.push(address);
            config.nat_ports
        } else {
            config.egress_ports
        };
        if let Some(range) = portcullis_engine::PortRange::new(range.first, range.last) {
            plan.ports.insert(address, range);
        }
    }
}

/// The first address of each family that others can answer to.
fn first_addresses(kernel: &KernelView, link: u32) -> Vec<IpAddr> {
    let is_usable = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    let on_link = || {
        kernel
            .addresses
            .iter()
            .filter(|address| address.link == link)
            .map(|address| address.address)
            .filter(is_usable)
    };
    let of_family = |is_ipv4: bool| on_link().find(|address| address.is_ipv4() == is_ipv4);
    [true, false].into_iter().filter_map(of_family).collect()
}

/// The ports of addresses that the kernel program takes from the uplink for us.
#[must_use]
pub fn egress_ports(plan: &ExitPlan, config: &Config) -> BTreeMap<IpAddr, PortRange> {
    let ports = |address: &IpAddr| {
        let range = if plan.shared.contains(address) {
            config.nat_ports
        } else {
            PortRange::ALL
        };
        (*address, range)
    };
    plan.ports.keys().map(ports).collect()
}

/// The frontends that the kernel program takes from the uplink for us.
#[must_use]
pub fn frontends(services: &ServiceTable) -> BTreeSet<xdp::Frontend> {
    services
        .iter()
        .flat_map(|service| &service.frontends)
        .filter(|(_, kind)| *kind != FrontendKind::ClusterIp)
        .filter_map(|(frontend, _)| {
            let transport = match frontend.protocol {
                Protocol::Tcp => xdp::Transport::Tcp,
                Protocol::Udp => xdp::Transport::Udp,
                Protocol::Sctp => xdp::Transport::Sctp,
                _ => return None,
            };
            Some(xdp::Frontend::new(
                frontend.address,
                frontend.port,
                transport,
            ))
        })
        .collect()
}
