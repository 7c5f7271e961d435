//! Identities: compact names of label sets, with Cilium's numbers for the reserved ones.

/// The number of a class of workloads.
///
/// [Cilium, `pkg/identity/reserved.go`: the numbers below 256 are shared with flow logs and tools]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Identity(pub u32);

impl Identity {
    /// Nobody knows who this is: nothing it sends is forwarded.
    pub const UNKNOWN: Self = Self(0);
    /// This node.
    pub const HOST: Self = Self(1);
    /// Any address outside the cluster, in a single-stack cluster.
    pub const WORLD: Self = Self(2);
    /// A pod that we do not manage.
    pub const UNMANAGED: Self = Self(3);
    /// The health probe endpoint.
    pub const HEALTH: Self = Self(4);
    /// A pod whose labels are not known yet.
    pub const INIT: Self = Self(5);
    /// Another node of the cluster.
    pub const REMOTE_NODE: Self = Self(6);
    /// A node that runs the API server.
    pub const KUBE_APISERVER: Self = Self(7);
    /// The source address of the ingress proxy.
    pub const INGRESS: Self = Self(8);
    /// Any IPv4 address outside the cluster.
    pub const WORLD_IPV4: Self = Self(9);
    /// Any IPv6 address outside the cluster.
    pub const WORLD_IPV6: Self = Self(10);
    /// The first number that is allocated to a set of pod labels.
    pub const CLUSTER_MIN: Self = Self(256);
    /// The last number that is allocated to a set of pod labels.
    pub const CLUSTER_MAX: Self = Self(65535);
    /// Set in identities of address blocks, which are local to the node.
    pub const LOCAL_CIDR: u32 = 0x0100_0000;

    /// Set in identities of other nodes with labels, which are local to the node.
    pub const REMOTE_NODE_LOCAL: u32 = 0x0200_0000;

    /// Whether the number has a fixed meaning.
    #[must_use]
    pub const fn is_reserved(self) -> bool {
        self.0 < Self::CLUSTER_MIN.0
    }
}
