//! Rules: what every policy kind becomes before it is compiled.
//!
//! Inside one tier and priority there is no order: any matching deny beats any matching allow,
//! however broad or narrow. [policy-semantics §0]

use crate::ports::Places;
use crate::{Cidr, Direction, Inspection, NamePattern, Selector};
use std::fmt;
use std::sync::Arc;

/// What one policy document says, selectors scoped and lists read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether it is only reported what it would change. [annotation `portcullis.io/enforcement`]
    pub is_audited: bool,
    /// Its rules: one for each `spec` or element of `specs`.
    pub rules: Vec<Rule>,
}

/// One `spec`: whom it is about, and what it says for each direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The place in `specs`; None for `spec`.
    pub spec: Option<usize>,
    /// Whether it is about nodes: then no pod is meant, and otherwise no node.
    pub is_about_nodes: bool,
    /// The endpoints it is about.
    pub subject: Selector,
    /// What it says of traffic to them; None when it says nothing.
    pub ingress: Option<Half>,
    /// What it says of traffic from them; None when it says nothing.
    pub egress: Option<Half>,
}

impl Rule {
    /// The half of one direction.
    #[must_use]
    pub const fn half(&self, direction: Direction) -> Option<&Half> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }
}

/// What a rule says of one direction. Without items it allows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Half {
    /// Whether what no item matches is to be denied. [policy-semantics §4.3]
    pub default_deny: bool,
    /// The items, in document order.
    pub items: Vec<Item>,
}

/// One element of a section: these peers, on this traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The section it stands in.
    pub section: Section,
    /// Its place there, from 0.
    pub index: usize,
    /// When it is asked.
    pub order: Order,
    /// What it does with what it matches.
    pub action: Action,
    /// Whether both ends must authenticate; None where it does not say.
    pub authentication: Option<Authentication>,
    /// Whom it is about.
    pub peers: Peers,
    /// What they send or receive.
    pub traffic: Traffic,
}

/// When an item is asked: those of a lower order are asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Order {
    /// The tier.
    pub tier: Tier,
    /// The priority in it; lower ones come first.
    pub priority: u32,
}

/// A group of rules that are asked together. [policy-semantics §0, §10.2]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Tier {
    /// Before all others.
    Admin,
    /// Where NetworkPolicies and Cilium's kinds live.
    #[default]
    Normal,
    /// For what nobody decided.
    Baseline,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It forbids.
    Deny,
    /// It allows.
    Allow,
    /// It leaves the decision to the next tier.
    Pass,
}

/// What both ends of a connection must have proved. [policy-semantics §8.4]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Authentication {
    /// Nothing, whatever broader rules ask.
    Disabled,
    /// Who they are.
    Required,
    /// What nobody can: for tests.
    AlwaysFails,
}

/// The name of a list of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// What may reach the subject.
    Ingress,
    /// What may not.
    IngressDeny,
    /// What the subject may reach.
    Egress,
    /// What it may not.
    EgressDeny,
}

impl Section {
    /// The field that holds it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::IngressDeny => "ingressDeny",
            Self::Egress => "egress",
            Self::EgressDeny => "egressDeny",
        }
    }

    /// Whether its items forbid.
    #[must_use]
    pub const fn is_deny(self) -> bool {
        matches!(self, Self::IngressDeny | Self::EgressDeny)
    }

    /// The direction it speaks of.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::Ingress | Self::IngressDeny => Direction::Ingress,
            Self::Egress | Self::EgressDeny => Direction::Egress,
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The peers of an item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peers {
    /// Everyone: pods, nodes, the world.
    Any,
    /// Whom one of these matches; nobody when there are none.
    Of(Vec<Peer>),
}

/// One description of peers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// By labels.
    Labels(Selector),
    /// By address; only addresses outside the cluster. [policy-semantics §2.4]
    Block {
        /// The block.
        cidr: Cidr,
        /// What is left out of it.
        except: Vec<Cidr>,
    },
    /// By a name for a kind of peer.
    Entity(Entity),
    /// By groups of address blocks.
    Group {
        /// Which groups.
        groups: Groups,
        /// What is left out of their blocks.
        except: Vec<Cidr>,
    },
    /// By the services they stand behind.
    Service(Services),
    /// By a name whose addresses this node has learned.
    Name(NamePattern),
}

/// Groups of address blocks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Groups {
    /// The one with this name.
    Named(String),
    /// Those with these labels.
    Labelled(Selector),
}

/// Services of one namespace, or of all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Services {
    /// The namespace; None for every one.
    pub namespace: Option<String>,
    /// Which of its services.
    pub which: ServiceChoice,
}

/// Which services of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceChoice {
    /// The one with this name.
    Named(String),
    /// Those with these labels.
    Labelled(Selector),
}

/// A kind of peer with a name.
///
/// [policy-semantics §5]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// Everyone.
    All,
    /// Every address outside the cluster.
    World,
    /// Those of IPv4.
    WorldIpv4,
    /// Those of IPv6.
    WorldIpv6,
    /// This node.
    Host,
    /// Other nodes.
    RemoteNode,
    /// Wherever the API server runs.
    KubeApiserver,
    /// Nodes and pods of this cluster.
    Cluster,
    /// Nodes and pods of all clusters.
    ClusterMesh,
    /// Pods whose labels are not known yet.
    Init,
    /// The health probe endpoint.
    Health,
    /// The source address of the ingress proxy.
    Ingress,
    /// Pods that nobody manages.
    Unmanaged,
    /// Nobody.
    None,
}

impl Entity {
    /// Every entity, in the order in which they are offered.
    pub const ALL: &'static [Self] = &[
        Self::All,
        Self::World,
        Self::WorldIpv4,
        Self::WorldIpv6,
        Self::Host,
        Self::RemoteNode,
        Self::KubeApiserver,
        Self::Cluster,
        Self::ClusterMesh,
        Self::Init,
        Self::Health,
        Self::Ingress,
        Self::Unmanaged,
        Self::None,
    ];

    /// How it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::World => "world",
            Self::WorldIpv4 => "world-ipv4",
            Self::WorldIpv6 => "world-ipv6",
            Self::Host => "host",
            Self::RemoteNode => "remote-node",
            Self::KubeApiserver => "kube-apiserver",
            Self::Cluster => "cluster",
            Self::ClusterMesh => "cluster-mesh",
            Self::Init => "init",
            Self::Health => "health",
            Self::Ingress => "ingress",
            Self::Unmanaged => "unmanaged",
            Self::None => "none",
        }
    }
}

/// The traffic of an item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// Every protocol, also those without ports.
    All,
    /// What one of these matches; nothing when there are none.
    Of(Vec<PortMatch>),
}

/// One description of traffic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortMatch {
    /// The protocol.
    pub protocol: PortProtocol,
    /// The destination ports, or the types of an ICMP.
    pub ports: Ports,
    /// What must be looked at above L4 before it may pass.
    pub inspection: Option<Arc<Inspection>>,
}

/// The protocols that a port can be named with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortProtocol {
    /// TCP, UDP and SCTP.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP for IPv4.
    Icmp,
    /// ICMP for IPv6.
    Icmpv6,
}

/// Destination ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// From the first to the second, both included.
    Range(u16, u16),
    /// What the destination pod calls by this name, in lower case.
    Named(String),
}

impl Ports {
    /// Every port.
    pub const ALL: Self = Self::Range(0, u16::MAX);
}

impl Traffic {
    /// Whether ports are named.
    pub(crate) fn has_names(&self) -> bool {
        match self {
            Self::All => false,
            Self::Of(ports) => ports
                .iter()
                .any(|port| matches!(port.ports, Ports::Named(_))),
        }
    }
}

impl Item {
    /// Whether something is looked at above L4.
    pub(crate) fn is_inspected(&self) -> bool {
        match &self.traffic {
            Traffic::All => false,
            Traffic::Of(ports) => ports.iter().any(|port| port.inspection.is_some()),
        }
    }

    /// Whether both want things of the same ports that cannot be done together, for the same
    /// peers; an item may contradict itself. [policy-semantics §7.3]
    pub(crate) fn contradicts(&self, other: &Self) -> bool {
        match (&self.traffic, &other.traffic) {
            (Traffic::All, Traffic::All) => self.disagrees(other),
            (Traffic::Of(list), Traffic::Of(_)) => list
                .iter()
                .any(|one| self.contradictions_at(one, other) != Places::default()),
            _ => false,
        }
    }

    /// The protocols at which another item, for the same peers, contradicts what this one wants of
    /// one of its ports.
    pub(crate) fn contradictions_at(&self, one: &PortMatch, other: &Self) -> Places {
        let mut places = Places::default();
        let Traffic::Of(theirs) = &other.traffic else {
            return places;
        };
        for their in theirs {
            let inspections = match (&one.inspection, &their.inspection) {
                (Some(one), Some(their)) => !one.agrees_with(their),
                _ => false,
            };
            if one.ports == their.ports && (inspections || self.disagrees(other)) {
                places.add(one.protocol.shared_with(their.protocol));
            }
        }
        places
    }

    /// Whether both speak of authentication, and not alike.
    fn disagrees(&self, other: &Self) -> bool {
        self.authentication.is_some()
            && other.authentication.is_some()
            && self.authentication != other.authentication
    }
}
