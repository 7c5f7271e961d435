//! Assigns identities: who lives in the cluster and what lies outside it, one member for each.

use crate::allocator::NumbersExhausted;
use crate::label::{self, Label, LabelSource};
use crate::member::{Member, Outside};
use crate::tables::Addresses;
use crate::{
    Cidr, Document, DocumentError, Family, Identity, IdentityAllocator, NodeFacts, Object, Peer,
    Peers, Pod, PortProtocol, Settings,
};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Everyone that rules can be about.
#[derive(Debug)]
pub(crate) struct Population<'a> {
    /// One for each identity; the place is the slot.
    pub(crate) members: Vec<Member>,
    /// Pods that are endpoints, with the slot of each.
    pub(crate) pods: Vec<(&'a Pod, usize)>,
    /// Who has which address.
    pub(crate) addresses: Addresses,
}

/// Gives everyone in the documents an identity.
///
/// Fails when two pods, or a pod and a node, have the same address, when there are more label sets
/// or address blocks than numbers, and when a block of the node's own settings is none.
pub(crate) fn assign_identities<'a>(
    documents: &'a [Document],
    facts: &NodeFacts,
    settings: &Settings,
    identities: &mut IdentityAllocator,
) -> Result<Population<'a>, Vec<DocumentError>> {
    let mut members = reserved_members(facts, settings);
    let mut addresses = node_addresses(facts, settings);
    addresses.pod_blocks = pod_blocks(facts)?;
    let labelled = labelled_pods(documents, settings);
    check_addresses(&labelled, &addresses.exact)?;

    let sets = labelled.iter().map(|pod| pod.key.clone()).collect();
    identities
        .keep_label_sets(&sets)
        .map_err(|full| exhausted(full, "label sets of pods"))?;
    let mut slots = HashMap::new();
    let mut pods = Vec::new();
    for LabelledPod {
        document,
        pod,
        labels,
        key,
    } in labelled
    {
        let identity = identities.of_labels(&key).expect("it was just given");
        let slot = *slots.entry(identity).or_insert_with(|| {
            let named_ports = pod.named_ports.clone();
            members.push(Member {
                identity,
                labels,
                outside: None,
                named_ports,
            });
            members.len() - 1
        });
        addresses
            .exact
            .extend(pod.addresses.iter().map(|address| (*address, identity)));
        let _ = document;
        pods.push((pod, slot));
    }

    let blocks = blocks(documents, facts, settings, &addresses.exact);
    let wanted = blocks.keys().copied().collect();
    identities
        .keep_blocks(&wanted)
        .map_err(|full| exhausted(full, "address blocks"))?;
    let mut prefixes = Vec::new();
    for (cidr, is_api_server) in blocks {
        let identity = identities.of_block(cidr).expect("it was just given");
        prefixes.push((cidr, identity));
        members.push(block_member(identity, cidr, is_api_server, settings));
    }
    addresses.prefixes = crate::cidr::PrefixTable::new(&prefixes);
    Ok(Population {
        members,
        pods,
        addresses,
    })
}

/// A pod that is an endpoint.
struct LabelledPod<'a> {
    document: &'a Document,
    pod: &'a Pod,
    labels: Vec<Label>,
    /// The labels as text: what the identity is given to.
    key: Vec<String>,
}

fn labelled_pods<'a>(documents: &'a [Document], settings: &Settings) -> Vec<LabelledPod<'a>> {
    let namespaces: BTreeMap<&str, &BTreeMap<String, String>> = documents
        .iter()
        .filter_map(|document| match &document.object {
            Object::Namespace(namespace) => Some((namespace.name.as_str(), &namespace.labels)),
            _ => None,
        })
        .collect();
    let none = BTreeMap::new();
    documents
        .iter()
        .filter_map(|document| match &document.object {
            Object::Pod(pod) if pod.is_endpoint() => Some((document, pod)),
            _ => None,
        })
        .map(|(document, pod)| {
            let namespace_labels = namespaces.get(pod.namespace.as_str()).copied();
            let mut labels = label::pod_labels(
                &pod.namespace,
                namespace_labels.unwrap_or(&none),
                &pod.labels,
                pod.service_account.as_deref(),
                pod.cluster.as_deref().unwrap_or(&settings.cluster_name),
            );
            labels.extend(named_ports_label(pod));
            labels.sort();
            let key = texts(&labels);
            LabelledPod {
                document,
                pod,
                labels,
                key,
            }
        })
        .collect()
}

/// Egress rules may name ports of their peers, so pods that name other ports need another
/// identity.
fn named_ports_label(pod: &Pod) -> Option<Label> {
    let text: Vec<_> = pod
        .named_ports
        .iter()
        .map(|port| {
            format!(
                "{}:{}/{}",
                port.name,
                port.port,
                protocol_name(port.protocol)
            )
        })
        .collect();
    (!text.is_empty()).then(|| Label::new(LabelSource::Generated, "named-ports", &text.join(",")))
}

const fn protocol_name(protocol: PortProtocol) -> &'static str {
    match protocol {
        PortProtocol::Any => "ANY",
        PortProtocol::Tcp => "TCP",
        PortProtocol::Udp => "UDP",
        PortProtocol::Sctp => "SCTP",
        PortProtocol::Icmp => "ICMP",
        PortProtocol::Icmpv6 => "ICMPv6",
    }
}

/// The labels as text, sorted.
pub(crate) fn texts(labels: &[Label]) -> Vec<String> {
    let mut texts: Vec<_> = labels.iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}

fn check_addresses(
    pods: &[LabelledPod<'_>],
    nodes: &HashMap<IpAddr, Identity>,
) -> Result<(), Vec<DocumentError>> {
    let mut errors = Vec::new();
    let mut owners: HashMap<IpAddr, &Document> = HashMap::new();
    for LabelledPod { document, pod, .. } in pods {
        for address in &pod.addresses {
            let other = if nodes.contains_key(address) {
                "a node".to_owned()
            } else if let Some(other) = owners.insert(*address, document) {
                format!("{}, {}", other.origin, place(other))
            } else {
                continue;
            };
            errors.push(DocumentError {
                file: document.origin.file.clone(),
                document: document.origin.document,
                field: "status.podIPs".to_owned(),
                expected: format!("an address of its own ({other} has this one)"),
                found: address.to_string(),
            });
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// Where a document stands, for another one's error.
pub(crate) fn place(document: &Document) -> String {
    format!(
        "{}, document {}",
        document.origin.file, document.origin.document
    )
}

fn exhausted(_: NumbersExhausted, what: &str) -> Vec<DocumentError> {
    vec![DocumentError {
        file: "all files".to_owned(),
        document: 0,
        field: String::new(),
        expected: format!(
            "at most as many different {what} as there are identities (65280, 65536)"
        ),
        found: "more".to_owned(),
    }]
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
fn reserved_members(facts: &NodeFacts, settings: &Settings) -> Vec<Member> {
    let is_api_server_here = facts
        .node_addresses
        .iter()
        .any(|address| facts.api_server_addresses.contains(address));
    let host: &[&str] = if is_api_server_here {
        &["host", "kube-apiserver"]
    } else {
        &["host"]
    };
    let mut members = vec![
        reserved(Identity::HOST, host, None),
        reserved(Identity::UNMANAGED, &["unmanaged"], None),
        reserved(Identity::HEALTH, &["health"], None),
        reserved(Identity::INIT, &["init"], None),
        reserved(Identity::REMOTE_NODE, &["remote-node"], None),
        reserved(
            Identity::KUBE_APISERVER,
            &["kube-apiserver", "remote-node"],
            None,
        ),
        reserved(Identity::INGRESS, &["ingress"], None),
    ];
    let rest = |family| Some(Outside::Rest(family));
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

fn block_member(
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
    member
        .labels
        .push(Label::new(LabelSource::Cidr, &cidr.to_string(), ""));
    member.labels.sort();
    member
}

fn node_addresses(facts: &NodeFacts, settings: &Settings) -> Addresses {
    let mut exact = HashMap::new();
    for address in &facts.remote_node_addresses {
        let identity = if facts.api_server_addresses.contains(address) {
            Identity::KUBE_APISERVER
        } else {
            Identity::REMOTE_NODE
        };
        exact.insert(*address, identity);
    }
    exact.extend(
        facts
            .node_addresses
            .iter()
            .map(|address| (*address, Identity::HOST)),
    );
    let (world_v4, world_v6) = if settings.ipv6 {
        (Identity::WORLD_IPV4, Identity::WORLD_IPV6)
    } else {
        // Without IPv6 in the cluster nobody can say who an IPv6 address is.
        (Identity::WORLD, Identity::UNKNOWN)
    };
    Addresses {
        exact,
        world_v4,
        world_v6,
        ..Addresses::default()
    }
}

/// Where pods live. A block that is none must not be passed over: pods that nobody knows would
/// count as the world.
fn pod_blocks(facts: &NodeFacts) -> Result<Vec<Cidr>, Vec<DocumentError>> {
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

/// The blocks that need an identity: those that policies speak of, and API servers outside the
/// cluster (true). [policy-semantics §2.2]
fn blocks(
    documents: &[Document],
    facts: &NodeFacts,
    settings: &Settings,
    inside: &HashMap<IpAddr, Identity>,
) -> BTreeMap<Cidr, bool> {
    let is_wanted =
        |cidr: &Cidr| !cidr.is_everything() && (settings.ipv6 || cidr.family() == Family::V4);
    let mut named = BTreeSet::new();
    for policy in documents
        .iter()
        .filter_map(|document| document.object.policy())
    {
        for rule in &policy.rules {
            for half in rule.ingress.iter().chain(&rule.egress) {
                half.items
                    .iter()
                    .for_each(|item| collect_blocks(&item.peers, &mut named));
            }
        }
    }
    let mut blocks: BTreeMap<_, _> = named
        .into_iter()
        .filter(is_wanted)
        .map(|cidr| (cidr, false))
        .collect();
    let outside = facts
        .api_server_addresses
        .iter()
        .filter(|address| !inside.contains_key(*address));
    blocks.extend(
        outside
            .map(|address| (Cidr::host(*address), true))
            .filter(|(c, _)| is_wanted(c)),
    );
    blocks
}

fn collect_blocks(peers: &Peers, blocks: &mut BTreeSet<Cidr>) {
    let Peers::Of(peers) = peers else { return };
    for peer in peers {
        if let Peer::Block { cidr, except } = peer {
            blocks.insert(*cidr);
            blocks.extend(except);
        }
    }
}
