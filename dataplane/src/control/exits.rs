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
    // The node speaks from its first address, and is spoken to at the one that its Node names.
    let nodes = tables.into_iter().flat_map(Tables::egress_routes);
    let nodes = nodes.flat_map(|route| route.gateways.iter().map(|(node, _)| *node));
    let nodes: Vec<IpAddr> = nodes.chain(first).collect();
    take_ports(&mut plan, &nodes, services, config);
    plan
}

/// Says which ports each address has that anything leaves with; `nodes` are in use by nodes
/// themselves.
fn take_ports(plan: &mut ExitPlan, nodes: &[IpAddr], services: &ServiceTable, config: &Config) {
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
        // The others are there for us.
        let is_shared = nodes.contains(&address);
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

/// The first address of each family that others can answer to, and that the host speaks from by
/// itself: of IPv6 the kernel lists the latest one first.
fn first_addresses(kernel: &KernelView, link: u32) -> Vec<IpAddr> {
    let is_usable = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    let on_link = || {
        kernel
            .addresses
            .iter()
            .filter(|address| address.link == link && !address.is_deprecated)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Link, LinkAddress};
    use portcullis_policy::{
        Generation, IdentityAllocator, NodeFacts, Settings, compile, parse_documents,
    };
    use std::collections::HashMap;

    const UPLINK: u32 = 7;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A node whose uplink has these addresses, in the kernel's order; those with `~` deprecated.
    fn kernel(addresses: &[&str]) -> KernelView {
        let link = Link {
            index: UPLINK,
            name: "eth0".into(),
            mac: None,
            mtu: 1500,
            is_running: true,
        };
        let address = |text: &&str| LinkAddress {
            link: UPLINK,
            address: ip(text.trim_start_matches('~')),
            prefix_length: 24,
            is_deprecated: text.starts_with('~'),
        };
        KernelView {
            links: vec![link],
            addresses: addresses.iter().map(address).collect(),
            ..KernelView::default()
        }
    }

    fn plan(documents: &str, settings: &str, kernel: &KernelView) -> ExitPlan {
        let settings = format!("uplink: eth0\n{settings}");
        let config = Config::parse("config.yaml", &settings).unwrap();
        let documents = parse_documents("a.yaml", documents, &Settings::default()).unwrap();
        let tables = compile(
            &documents,
            &NodeFacts::default(),
            &Settings::default(),
            &mut IdentityAllocator::default(),
            Generation(1),
        );
        exit_plan(
            Some(&tables.unwrap()),
            &ServiceTable::default(),
            &config,
            kernel,
        )
    }

    const NODE: &str = "apiVersion: v1\nkind: Node\nmetadata: {name: here}\n";

    #[test]
    fn an_address_that_the_node_speaks_from_no_more_is_not_its_first() {
        let kernel = kernel(&["192.0.2.1", "~2001:db8::50", "2001:db8::1"]);
        let plan = plan(NODE, "masquerade: true", &kernel);
        let first = vec![ip("192.0.2.1"), ip("2001:db8::1")];
        assert_eq!(plan.masquerade, first);
        assert_eq!(plan.shared, first);
        let range = portcullis_engine::PortRange::new(61_000, 65_535).unwrap();
        let ports: HashMap<_, _> = plan.ports.into_iter().collect();
        assert_eq!(
            ports,
            first.iter().map(|address| (*address, range)).collect()
        );
    }

    #[test]
    fn an_egress_address_that_the_node_is_known_by_is_shared_with_it() {
        const POLICY: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: here}
status: {addresses: [{type: InternalIP, address: 192.0.2.9}]}
---
apiVersion: cilium.io/v2
kind: CiliumEgressGatewayPolicy
metadata: {name: out}
spec:
  selectors: [{podSelector: {}}]
  destinationCIDRs: [0.0.0.0/0]
  egressGateways:
  - {nodeSelector: {}, egressIP: 192.0.2.9}
  - {nodeSelector: {}, egressIP: 192.0.2.50}
"#;
        let kernel = kernel(&["192.0.2.1", "192.0.2.9", "192.0.2.50"]);
        let plan = plan(POLICY, "", &kernel);
        assert_eq!(plan.shared, [ip("192.0.2.9")]);
        let range = |first| portcullis_engine::PortRange::new(first, 65_535).unwrap();
        let ports: HashMap<_, _> = plan.ports.into_iter().collect();
        let expected = [("192.0.2.9", range(61_000)), ("192.0.2.50", range(1024))];
        let expected = expected.map(|(address, range)| (ip(address), range));
        assert_eq!(ports, expected.into_iter().collect());
    }
}
