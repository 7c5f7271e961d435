//! Rules: what every policy kind becomes before it is compiled.
//!
//! Inside one subject and direction there is no order: any matching deny beats any matching
//! allow, however broad or narrow. [policy-semantics §0]

use crate::{Cidr, Direction, Selector};
use std::fmt;

/// What one policy document says, selectors scoped and lists read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its rules: one for each `spec` or element of `specs`.
    pub rules: Vec<Rule>,
}

/// One `spec`: whom it is about, and what it says for each direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The place in `specs`; None for `spec`.
    pub spec: Option<usize>,
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
    /// Whom it is about.
    pub peers: Peers,
    /// What they send or receive.
    pub traffic: Traffic,
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
