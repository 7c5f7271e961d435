//! Who can be a peer or a subject: one member for each identity, and which of them a rule means.

use crate::label::{CLUSTER_KEY, Label, LabelSource};
use crate::{Cidr, Entity, Family, Identity, NamedPort, Peer, Peers};

/// All that policy can know of one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its number.
    pub(crate) identity: Identity,
    /// Its labels, sorted.
    pub(crate) labels: Vec<Label>,
    /// The addresses outside the cluster that it stands for.
    pub(crate) outside: Option<Outside>,
    /// Ports its pods have names for.
    pub(crate) named_ports: Vec<NamedPort>,
}

/// Addresses outside the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outside {
    /// Those of a family that lie in no block of any policy.
    Rest(Family),
    /// Those of a block that lie in no smaller block of any policy.
    Block(Cidr),
    /// Another node that address blocks select.
    Node(Cidr),
}

impl Outside {
    fn is_in(self, cidr: Cidr) -> bool {
        match self {
            Self::Rest(family) => cidr.is_everything() && cidr.family() == family,
            Self::Block(block) => cidr.has(block),
            // All addresses are the world, and a node is not in it.
            Self::Node(block) => !cidr.is_everything() && cidr.has(block),
        }
    }
}

impl Member {
    pub(crate) fn is(&self, reserved: &str) -> bool {
        self.labels
            .iter()
            .any(|label| label.source == LabelSource::Reserved && label.key == reserved)
    }

    fn cluster(&self) -> Option<&str> {
        self.labels
            .iter()
            .find(|label| label.source == LabelSource::K8s && label.key == CLUSTER_KEY)
            .map(|label| label.value.as_str())
    }

    /// Whether it runs inside the cluster without being a pod that we know.
    fn is_cluster_entity(&self) -> bool {
        [
            "host",
            "remote-node",
            "init",
            "ingress",
            "health",
            "unmanaged",
            "kube-apiserver",
        ]
        .iter()
        .any(|entity| self.is(entity))
    }
}

impl Peers {
    /// How many descriptions there are.
    pub(crate) const fn count(&self) -> usize {
        match self {
            Self::Any => 1,
            Self::Of(peers) => peers.len(),
        }
    }

    /// Whether everyone is meant, whoever comes.
    pub(crate) fn are_everyone(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Of(peers) => peers.contains(&Peer::Entity(Entity::All)),
        }
    }

    /// Whether the member is meant.
    pub(crate) fn mean(&self, member: &Member, cluster_name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Of(peers) => peers.iter().any(|peer| peer.means(member, cluster_name)),
        }
    }
}

impl Peer {
    pub(crate) fn means(&self, member: &Member, cluster_name: &str) -> bool {
        match self {
            Self::Labels(selector) => selector.selects(&member.labels),
            Self::Block { cidr, except } => member.outside.is_some_and(|outside| {
                outside.is_in(*cidr) && !except.iter().any(|hole| outside.is_in(*hole))
            }),
            Self::Entity(entity) => entity.means(member, cluster_name),
            // Resolved before anybody asks.
            Self::Group { .. } | Self::Service(_) | Self::Name(_) => false,
        }
    }
}

impl Entity {
    fn means(self, member: &Member, cluster_name: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::World => ["world", "world-ipv4", "world-ipv6"]
                .iter()
                .any(|world| member.is(world)),
            Self::Cluster => member.is_cluster_entity() || member.cluster() == Some(cluster_name),
            Self::ClusterMesh => member.is_cluster_entity() || member.cluster().is_some(),
            Self::WorldIpv4
            | Self::WorldIpv6
            | Self::Host
            | Self::RemoteNode
            | Self::KubeApiserver
            | Self::Init
            | Self::Health
            | Self::Ingress
            | Self::Unmanaged => member.is(self.name()),
        }
    }
}
