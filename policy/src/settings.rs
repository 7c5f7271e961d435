//! What the node's owner decides, and what the node knows of itself.

use std::net::IpAddr;

/// When policy is enforced for an endpoint that no policy selects.
///
/// [policy-semantics §4.2]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnforcementMode {
    /// A direction is enforced once a policy of that direction selects the endpoint.
    #[default]
    Default,
    /// Every endpoint is enforced in both directions.
    Always,
    /// Nothing is enforced: everything is allowed, whatever the policies say.
    Never,
}

/// Whether this node may reach its own pods when no rule says so (kubelet probes).
///
/// [policy-semantics §4.4]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AllowLocalhost {
    /// It may, unless a rule denies it.
    #[default]
    Always,
    /// Only where a rule allows it.
    Policy,
}

/// Whose reading is followed where Portcullis and the reference engine differ.
///
/// [policy-semantics §15]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    /// Ours: a lone `ingress: []` is default deny, ICMP type 0 is type 0.
    #[default]
    Portcullis,
    /// The reference engine's: a lone `ingress: []` is refused, ICMP type 0 is every type.
    Cilium,
}

/// What the node's owner decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// When policy is enforced.
    pub enforcement_mode: EnforcementMode,
    /// Whether this node reaches its own pods.
    pub allow_localhost: AllowLocalhost,
    /// Whose reading is followed.
    pub compat: Compat,
    /// Whether the cluster has IPv6. Without it the world has one identity, and IPv6 addresses
    /// are nobody's.
    pub ipv6: bool,
    /// The name of this cluster, a label of every pod.
    pub cluster_name: String,
    /// Whether peers that do not name a cluster are those of this one.
    pub is_confined_to_cluster: bool,
    /// Whether policies can select this node itself, by `nodeSelector`.
    pub has_host_firewall: bool,
    /// Whether peers can be nodes by their labels.
    pub has_node_selectors: bool,
    /// Whether address blocks select other nodes, too.
    pub blocks_select_nodes: bool,
    /// Whether nothing is enforced, and only reported what would be denied: by policies, and by
    /// enforcement mode `always` where there are none.
    pub is_audited: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enforcement_mode: EnforcementMode::default(),
            allow_localhost: AllowLocalhost::default(),
            compat: Compat::default(),
            ipv6: true,
            cluster_name: "default".to_owned(),
            is_confined_to_cluster: false,
            has_host_firewall: false,
            has_node_selectors: false,
            blocks_select_nodes: false,
            is_audited: false,
        }
    }
}

/// What the node knows of itself and of the cluster around it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeFacts {
    /// Addresses of this node, the pods' gateway among them.
    pub node_addresses: Vec<IpAddr>,
    /// Addresses of the other nodes of the cluster.
    pub remote_node_addresses: Vec<IpAddr>,
    /// Where the API server is reached: addresses of nodes, or of machines outside the cluster.
    pub api_server_addresses: Vec<IpAddr>,
    /// Networks that pods take their addresses from, with the bits of the prefix: an address
    /// inside that belongs to no known pod is nobody's.
    pub pod_cidrs: Vec<(IpAddr, u8)>,
}
