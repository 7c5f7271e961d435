//! What every cluster has around its pods: this node, the other nodes, the world.

use crate::allocator::LabelSet;
use crate::label::{CLUSTER_KEY, Label, LabelSource};
use crate::member::{Member, Outside};
use crate::pod_labels::texts;
use crate::population::exhausted;
use crate::{
    Cidr, ClusterNode, DocumentError, Family, Identity, IdentityAllocator, NodeFacts, Settings,
};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Members that are no pods, and the addresses of nodes.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) members: Vec<Member>,
    pub(crate) addresses: Vec<(IpAddr, Identity)>,
}

/// Puts them together. Fails when there are more nodes than numbers.
pub(crate) fn surroundings(
    facts: &NodeFacts,
    nodes: &[&ClusterNode],
    settings: &Settings,
    identities: &mut IdentityAllocator,
) -> Result<Surroundings, Vec<DocumentError>> {
    let mut around = Surroundings {
        members: reserved_members(facts, nodes, settings),
        addresses: Vec::new(),
    };
    let others = other_nodes(facts, nodes, settings);
    let sets: BTreeSet<_> = others
        .iter()
        .filter(|(_, member)| member.identity == Identity::UNKNOWN)
        .map(|(_, member)| LabelSet::from(texts(&member.labels)))
        .collect();
    identities
        .keep_nodes(&sets)
        .map_err(|full| exhausted(full, "nodes"))?;
    for (address, mut member) in others {
        if member.identity == Identity::UNKNOWN {
            let identity = identities.of_node(&texts(&member.labels));
            member.identity = identity.expect("it was just given");
        }
        around.addresses.push((address, member.identity));
        if around
            .members
            .iter()
            .all(|other| other.identity != member.identity)
        {
            around.members.push(member);
        }
    }
    // This node's addresses come last: they are its own, whatever else is said of them.
    let own = facts.node_addresses.iter();
    around
        .addresses
        .extend(own.map(|address| (*address, Identity::HOST)));
    Ok(around)
}

fn reserved(identity: Identity, keys: &[&str], outside: Option<Outside>) -> Member {
    let mut labels: Vec<_> = keys
        .iter()
        .map(|key| Label::new(LabelSource::Reserved, key, ""))
        .collect();
    labels.sort();
    Member {
        identity,
        labels,
        outside,
        named_ports: Vec::new(),
    }
}

/// The members that every cluster has.
fn reserved_members(facts: &NodeFacts, nodes: &[&ClusterNode], settings: &Settings) -> Vec<Member> {
    let api_server = ["kube-apiserver", "remote-node"];
    let rest = |family| Some(Outside::Rest(family));
    let mut members = vec![
        this_node(facts, nodes, settings),
        reserved(Identity::UNMANAGED, &["unmanaged"], None),
        reserved(Identity::HEALTH, &["health"], None),
        reserved(Identity::INIT, &["init"], None),
        reserved(Identity::REMOTE_NODE, &["remote-node"], None),
        reserved(Identity::KUBE_APISERVER, &api_server, None),
        reserved(Identity::INGRESS, &["ingress"], None),
    ];
    if settings.ipv6 {
        members.push(reserved(
            Identity::WORLD_IPV4,
            &["world-ipv4"],
            rest(Family::V4),
        ));
        members.push(reserved(
            Identity::WORLD_IPV6,
            &["world-ipv6"],
            rest(Family::V6),
        ));
    } else {
        members.push(reserved(Identity::WORLD, &["world"], rest(Family::V4)));
    }
    members
}

/// This node; with the host firewall on, policies select it by its labels.
fn this_node(facts: &NodeFacts, nodes: &[&ClusterNode], settings: &Settings) -> Member {
    let is_own = |address: &IpAddr| facts.node_addresses.contains(address);
    let keys: &[&str] = if facts.api_server_addresses.iter().any(is_own) {
        &["host", "kube-apiserver"]
    } else {
        &["host"]
    };
    let mut member = reserved(Identity::HOST, keys, None);
    let own = nodes.iter().find(|node| node.addresses.iter().any(is_own));
    if let Some(node) = own.filter(|_| settings.has_host_firewall) {
        let labels = node.labels.iter();
        member
            .labels
            .extend(labels.map(|(key, value)| Label::new(LabelSource::K8s, key, value)));
        member.labels.sort();
    }
    member
}

/// The addresses of other nodes, each with its member; those that need a number of their own have
/// none yet.
fn other_nodes(
    facts: &NodeFacts,
    nodes: &[&ClusterNode],
    settings: &Settings,
) -> Vec<(IpAddr, Member)> {
    let told = nodes.iter().flat_map(|node| &node.addresses);
    let addresses: BTreeSet<IpAddr> = facts
        .remote_node_addresses
        .iter()
        .chain(told)
        .filter(|address| !facts.node_addresses.contains(address))
        .copied()
        .collect();
    let other = |address: IpAddr| {
        let mut member = if facts.api_server_addresses.contains(&address) {
            let keys = ["kube-apiserver", "remote-node"];
            reserved(Identity::KUBE_APISERVER, &keys, None)
        } else {
            reserved(Identity::REMOTE_NODE, &["remote-node"], None)
        };
        if settings.has_node_selectors || settings.blocks_select_nodes {
            member.identity = Identity::UNKNOWN;
        }
        if settings.has_node_selectors {
            let node = nodes.iter().find(|node| node.addresses.contains(&address));
            let labels = node.into_iter().flat_map(|node| &node.labels);
            member
                .labels
                .extend(labels.map(|(key, value)| Label::new(LabelSource::Node, key, value)));
            let cluster = &settings.cluster_name;
            member
                .labels
                .push(Label::new(LabelSource::K8s, CLUSTER_KEY, cluster));
        }
        if settings.blocks_select_nodes {
            let cidr = Cidr::host(address);
            member.outside = Some(Outside::Node(cidr));
            member
                .labels
                .push(Label::new(LabelSource::Cidr, &cidr.to_string(), ""));
        }
        member.labels.sort();
        member
    };
    addresses
        .into_iter()
        .map(|address| (address, other(address)))
        .collect()
}

/// The member that a block of outside addresses is.
pub(crate) fn block(
    identity: Identity,
    cidr: Cidr,
    is_api_server: bool,
    settings: &Settings,
) -> Member {
    let world = match (settings.ipv6, cidr.family()) {
        (false, _) => "world",
        (true, Family::V4) => "world-ipv4",
        (true, Family::V6) => "world-ipv6",
    };
    let keys: &[&str] = if is_api_server {
        &[world, "kube-apiserver"]
    } else {
        &[world]
    };
    let mut member = reserved(identity, keys, Some(Outside::Block(cidr)));
    let label = Label::new(LabelSource::Cidr, &cidr.to_string(), "");
    member.labels.push(label);
    member.labels.sort();
    member
}

/// Where pods live. A block that is none must not be passed over: pods that nobody knows would
/// count as the world.
pub(crate) fn pod_blocks(facts: &NodeFacts) -> Result<Vec<Cidr>, Vec<DocumentError>> {
    let block = |(address, length): &(IpAddr, u8)| {
        Cidr::new(*address, *length).ok_or_else(|| {
            vec![DocumentError {
                file: "the node's settings".to_owned(),
                document: 0,
                field: "pod CIDRs".to_owned(),
                expected: format!("a mask of at most {} bits", Family::of(*address).bits()),
                found: format!("{address}/{length}"),
            }]
        })
    };
    facts.pod_cidrs.iter().map(block).collect()
}
