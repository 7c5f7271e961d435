//! Egress gateways: which traffic leaves the cluster through which node.

use crate::label::{Label, LabelSource};
use crate::{Cidr, Compat, Document, DocumentOrigin, Family, Object, Pod, Selector, Settings};
use hashbrown::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What one policy says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EgressGatewayPolicy {
    /// The pods it is about; nobody when there are none.
    pub subjects: Vec<EgressSubject>,
    /// Where their traffic goes.
    pub destinations: Vec<Cidr>,
    /// Where it goes as if there were no policy.
    pub excluded: Vec<Cidr>,
    /// The nodes it leaves through: one for each element.
    pub gateways: Vec<Gateway>,
    /// Whether pods are spread over the gateways.
    pub is_shared: bool,
}

/// Pods, perhaps only those on some nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressSubject {
    /// The pods.
    pub pods: Selector,
    /// The nodes they must be on; None for all.
    pub nodes: Option<Selector>,
}

/// A choice of one node, and of the address that its traffic gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The nodes; the first by name is taken.
    pub nodes: Selector,
    /// The address.
    pub source: Source,
}

/// Where a gateway takes its address from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The first of the interface with the default route.
    DefaultRoute,
    /// The first of this interface.
    Interface(String),
    /// This one.
    Address(IpAddr),
}

/// How a packet leaves the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// As usual: no policy is about it.
    Usual,
    /// As usual: this policy says so.
    Excluded(Arc<DocumentOrigin>),
    /// Through a node.
    Through {
        /// Its address.
        node: IpAddr,
        /// Where it takes the source address from.
        source: Source,
        /// The policy that says so.
        policy: Arc<DocumentOrigin>,
    },
    /// Not at all: no node matches the policy.
    NoGateway(Arc<DocumentOrigin>),
    /// Not at all: two policies say different things with the same right.
    Conflict(Arc<DocumentOrigin>, Arc<DocumentOrigin>),
}

/// A pod among those that policies of one generation are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExitPlace(u32);

/// How a packet leaves the cluster, in numbers of one generation: what the packet path asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitChoice {
    /// As usual: no policy is about it.
    Usual,
    /// As usual: this policy says so.
    Excluded(u32),
    /// Through a gateway of a policy.
    Through {
        /// The policy.
        policy: u32,
        /// The gateway, as it stands in `EgressRoute::gateways`.
        gateway: u32,
    },
    /// Not at all: no node matches the policy.
    NoGateway(u32),
    /// Not at all: two policies say different things with the same right.
    Conflict(u32, u32),
}

/// What is known of one policy and its gateways.
#[derive(Debug, Clone, Copy)]
pub struct EgressRoute<'a> {
    /// The policy.
    pub policy: &'a Arc<DocumentOrigin>,
    /// Each gateway's node, and where it takes the source address from.
    pub gateways: &'a [(IpAddr, Source)],
}

/// The policies of one generation, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct GatewayTable {
    policies: Vec<CompiledPolicy>,
    pods: Vec<PodExits>,
    places: HashMap<(String, String), ExitPlace>,
    exclusions_win: bool,
}

/// What a pod is bound by.
#[derive(Debug, Default)]
struct PodExits {
    families: Vec<Family>,
    /// The policies that are about it, and the gateway of each.
    policies: Vec<(usize, Option<usize>)>,
}

#[derive(Debug)]
struct CompiledPolicy {
    origin: Arc<DocumentOrigin>,
    destinations: Vec<Cidr>,
    excluded: Vec<Cidr>,
    /// Sorted by address where pods are spread over them.
    gateways: Vec<(IpAddr, Source)>,
}

/// A node as selectors see it.
struct KnownNode {
    name: String,
    address: Option<IpAddr>,
    labels: Vec<Label>,
}

impl GatewayTable {
    /// Compiles the policies; `labels` gives each pod's.
    pub(crate) fn new<'a>(
        documents: impl Iterator<Item = &'a Document> + Clone,
        pods: &[(&'a Pod, &'a [Label])],
        settings: &Settings,
    ) -> Self {
        let mut table = Self {
            exclusions_win: settings.compat == Compat::Portcullis,
            ..Self::default()
        };
        let nodes = known_nodes(documents.clone());
        for document in documents {
            let Object::EgressGatewayPolicy(policy) = &document.object else {
                continue;
            };
            let mut gateways: Vec<_> = policy
                .gateways
                .iter()
                .filter_map(|gateway| {
                    let node = nodes
                        .iter()
                        .find(|node| gateway.nodes.selects(&node.labels))?;
                    Some((node.address?, gateway.source.clone()))
                })
                .collect();
            if policy.is_shared {
                gateways.sort_by_key(|gateway| gateway.0);
            }
            for (pod, labels) in pods {
                if is_about(policy, pod, labels, &nodes, settings) {
                    let gateway = choose(pod, gateways.len(), policy.is_shared);
                    let place = table.policies.len();
                    let exits = table.exits_of(pod);
                    exits.families = pod.addresses.iter().map(|one| Family::of(*one)).collect();
                    exits.policies.push((place, gateway));
                }
            }
            table.policies.push(CompiledPolicy {
                origin: Arc::new(document.origin.clone()),
                destinations: policy.destinations.clone(),
                excluded: policy.excluded.clone(),
                gateways,
            });
        }
        table
    }

    fn exits_of(&mut self, pod: &Pod) -> &mut PodExits {
        let next = ExitPlace(self.pods.len() as u32);
        let key = (pod.namespace.clone(), pod.name.clone());
        let place = *self.places.entry(key).or_insert(next);
        if place == next {
            self.pods.push(PodExits::default());
        }
        &mut self.pods[place.0 as usize]
    }

    /// Where a pod stands that policies are about.
    pub(crate) fn place(&self, namespace: &str, pod: &str) -> Option<ExitPlace> {
        let key = (namespace.to_owned(), pod.to_owned());
        self.places.get(&key).copied()
    }

    /// What a policy is, and its gateways.
    pub(crate) fn routes(&self) -> impl ExactSizeIterator<Item = EgressRoute<'_>> {
        self.policies.iter().map(|policy| EgressRoute {
            policy: &policy.origin,
            gateways: &policy.gateways,
        })
    }

    /// How a packet of the pod leaves towards an address outside the cluster. Allocates nothing.
    ///
    /// The longest block that holds the address decides, across policies. [policy-semantics §12.2]
    pub(crate) fn choice(&self, place: ExitPlace, destination: IpAddr) -> ExitChoice {
        let mut best: Option<(u8, usize, Option<usize>, bool)> = None;
        let mut rival = None;
        // A pod sends nothing of a family that it has no address of.
        let exits = self.pods.get(place.0 as usize);
        let exits = exits.filter(|exits| exits.families.contains(&Family::of(destination)));
        for (place, gateway) in exits.into_iter().flat_map(|exits| &exits.policies) {
            let Some((length, is_excluded)) =
                self.policies[*place].longest(destination, self.exclusions_win)
            else {
                continue;
            };
            match best {
                Some((other, ..)) if other > length => {}
                Some((other, ..)) if other == length => rival = Some(*place),
                _ => {
                    best = Some((length, *place, *gateway, is_excluded));
                    rival = None;
                }
            }
        }
        let Some((_, place, gateway, is_excluded)) = best else {
            return ExitChoice::Usual;
        };
        let policy = place as u32;
        match (rival, gateway) {
            (Some(rival), _) => ExitChoice::Conflict(policy, rival as u32),
            (None, _) if is_excluded => ExitChoice::Excluded(policy),
            (None, None) => ExitChoice::NoGateway(policy),
            (None, Some(gateway)) => ExitChoice::Through {
                policy,
                gateway: gateway as u32,
            },
        }
    }

    /// As `choice`, with names.
    pub(crate) fn exit(&self, namespace: &str, pod: &str, destination: IpAddr) -> Exit {
        let Some(place) = self.place(namespace, pod) else {
            return Exit::Usual;
        };
        let origin = |policy: u32| Arc::clone(&self.policies[policy as usize].origin);
        match self.choice(place, destination) {
            ExitChoice::Usual => Exit::Usual,
            ExitChoice::Excluded(policy) => Exit::Excluded(origin(policy)),
            ExitChoice::NoGateway(policy) => Exit::NoGateway(origin(policy)),
            ExitChoice::Conflict(one, other) => Exit::Conflict(origin(one), origin(other)),
            ExitChoice::Through { policy, gateway } => {
                let (node, source) = &self.policies[policy as usize].gateways[gateway as usize];
                Exit::Through {
                    node: *node,
                    source: source.clone(),
                    policy: origin(policy),
                }
            }
        }
    }
}

impl CompiledPolicy {
    /// The length of the longest of its blocks that holds the address, and whether it is excluded.
    fn longest(&self, address: IpAddr, exclusions_win: bool) -> Option<(u8, bool)> {
        let longest = |blocks: &[Cidr]| {
            let holding = blocks.iter().filter(|block| block.has_address(address));
            holding.map(|block| block.length()).max()
        };
        let (to, excluded) = (longest(&self.destinations), longest(&self.excluded));
        match (to, excluded) {
            (None, None) => None,
            (None, Some(length)) => (!exclusions_win).then_some((length, true)),
            (Some(length), None) => Some((length, false)),
            (Some(to), Some(excluded)) if exclusions_win => Some((to.max(excluded), true)),
            (Some(to), Some(excluded)) => Some((to.max(excluded), excluded >= to)),
        }
    }
}

fn known_nodes<'a>(documents: impl Iterator<Item = &'a Document>) -> Vec<KnownNode> {
    let mut nodes: Vec<_> = documents
        .filter_map(|document| match &document.object {
            Object::Node(node) => Some(KnownNode {
                name: node.name.clone(),
                address: node.addresses.first().copied(),
                labels: node
                    .labels
                    .iter()
                    .map(|(key, value)| Label::new(LabelSource::Node, key, value))
                    .collect(),
            }),
            _ => None,
        })
        .collect();
    nodes.sort_by(|left, right| left.name.cmp(&right.name));
    nodes
}

fn is_about(
    policy: &EgressGatewayPolicy,
    pod: &Pod,
    labels: &[Label],
    nodes: &[KnownNode],
    settings: &Settings,
) -> bool {
    let own = nodes
        .iter()
        .find(|node| Some(&node.name) == pod.node.as_ref());
    let is_on = |selector: &Selector| own.is_some_and(|node| selector.selects(&node.labels));
    if settings.compat == Compat::Portcullis {
        return policy.subjects.iter().any(|subject| {
            subject.pods.selects(labels) && subject.nodes.as_ref().is_none_or(is_on)
        });
    }
    // The reference engine has one list of node selectors for all pod selectors.
    let mut limits = policy
        .subjects
        .iter()
        .filter_map(|subject| subject.nodes.as_ref());
    let is_limited = policy
        .subjects
        .iter()
        .any(|subject| subject.nodes.is_some());
    policy
        .subjects
        .iter()
        .any(|subject| subject.pods.selects(labels))
        && (!is_limited || limits.any(is_on))
}

/// The gateway of a pod: the first, or one by the pod's own number. [FNV-1a, 32 bits]
fn choose(pod: &Pod, count: usize, is_shared: bool) -> Option<usize> {
    let hash = pod.uid.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let place = if is_shared { hash as usize } else { 0 };
    (count > 0).then(|| place % count)
}
