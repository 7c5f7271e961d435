//! Documents: the objects that can be loaded, and where each was written.

use crate::{Cidr, EgressGatewayPolicy, Policy, PortProtocol, Selector, Warning};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// One object, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Where it was written, and its name.
    pub origin: DocumentOrigin,
    /// What it says.
    pub object: Object,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Warning>,
}

/// Where an object was written, and its name.
///
/// Printed as people name objects: `CiliumNetworkPolicy backend/default-deny`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentOrigin {
    /// Name of the file or object source.
    pub file: String,
    /// Number of the document in the file, from 1.
    pub document: usize,
    /// The kind, as written.
    pub kind: &'static str,
    /// The namespace; None for kinds that have none.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl fmt::Display for DocumentOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A namespace.
    Namespace(Namespace),
    /// A pod.
    Pod(Pod),
    /// A policy for the pods of one namespace.
    CiliumNetworkPolicy(Policy),
    /// A policy for all pods.
    CiliumClusterwideNetworkPolicy(Policy),
    /// Kubernetes' own policy.
    NetworkPolicy(Policy),
    /// Kubernetes' policy of the administrator.
    ClusterNetworkPolicy(Policy),
    /// Which traffic leaves through which node.
    EgressGatewayPolicy(EgressGatewayPolicy),
    /// A named group of address blocks.
    CidrGroup(CidrGroup),
    /// A node of the cluster.
    Node(ClusterNode),
    /// A service.
    Service(Service),
    /// Addresses behind a service.
    Backends(Backends),
}

impl Object {
    /// The policy, of whatever kind.
    #[must_use]
    pub const fn policy(&self) -> Option<&Policy> {
        match self {
            Self::CiliumNetworkPolicy(policy)
            | Self::CiliumClusterwideNetworkPolicy(policy)
            | Self::NetworkPolicy(policy)
            | Self::ClusterNetworkPolicy(policy) => Some(policy),
            Self::Namespace(_)
            | Self::Pod(_)
            | Self::EgressGatewayPolicy(_)
            | Self::CidrGroup(_)
            | Self::Node(_)
            | Self::Service(_)
            | Self::Backends(_) => None,
        }
    }
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels; its pods can be selected by them.
    pub labels: BTreeMap<String, String>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its addresses; none before it has been given some.
    pub addresses: Vec<IpAddr>,
    /// The service account it runs as.
    pub service_account: Option<String>,
    /// Ports of its containers that have a name, sorted.
    pub named_ports: Vec<NamedPort>,
    /// Whether it lives in the node's own network: then it is no endpoint.
    pub host_network: bool,
    /// Whether all its containers have ended for good: then its addresses are no longer its own.
    pub has_finished: bool,
    /// What tells it from an earlier pod of the same name; empty when it is not known.
    pub uid: String,
    /// The node it runs on, when it has been given one.
    pub node: Option<String>,
    /// The cluster of a mesh it lives in; None for this one. No manifest says it.
    pub cluster: Option<String>,
}

impl Pod {
    /// Whether it is an endpoint: it has a network of its own, and still lives.
    #[must_use]
    pub const fn is_endpoint(&self) -> bool {
        !self.host_network && !self.has_finished
    }
}

/// A port with a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// The name, in lower case.
    pub name: String,
    /// Its protocol: TCP, UDP or SCTP.
    pub protocol: PortProtocol,
    /// The port.
    pub port: u16,
}

/// A named group of address blocks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CidrGroup {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its blocks.
    pub cidrs: Vec<Cidr>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The pods behind it; None when others say what is behind it.
    pub selector: Option<Selector>,
    /// From where it can be reached.
    pub kind: ServiceKind,
    /// Whether it has no address on purpose: its clients ask DNS for the backends.
    pub is_headless: bool,
    /// Its addresses inside the cluster; none for one that is headless or a name only.
    pub cluster_addresses: Vec<IpAddr>,
    /// Addresses that somebody else leads to the nodes.
    pub external_addresses: Vec<IpAddr>,
    /// Addresses that a load balancer has given it, and that the nodes answer to.
    pub balancer_addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Seconds for which a client keeps its backend after its last connection; None when each
    /// connection may go to another.
    pub affinity_seconds: Option<u32>,
    /// Which backends serve what comes from outside the cluster.
    pub external_traffic: TrafficScope,
    /// Which backends serve what comes from inside the cluster.
    pub internal_traffic: TrafficScope,
    /// Whether backends are used before they are ready.
    pub is_publishing_unready: bool,
}

/// From where a service can be reached. [Kubernetes, `ServiceType`]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ServiceKind {
    /// From the cluster, at an address of its own.
    #[default]
    ClusterIp,
    /// Also at a port of each node.
    NodePort,
    /// Also at the address of a load balancer.
    LoadBalancer,
    /// Another name in DNS: no packet is ever sent to it.
    ExternalName,
}

/// Which backends may serve. [Kubernetes, `ServiceExternalTrafficPolicy`]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TrafficScope {
    /// All of the cluster.
    #[default]
    Cluster,
    /// Those on the node where the packet is.
    Local,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePort {
    /// Its name; empty when it is the only one.
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: PortProtocol,
    /// The port that clients connect to.
    pub port: u16,
    /// The port of the pods, as written: what is really behind it the slices say.
    pub target: TargetPort,
    /// The port of each node.
    pub node_port: Option<u16>,
}

/// The port of a pod behind a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By its name in the pod.
    Named(String),
}

/// Addresses behind a service, from its Endpoints or one of its EndpointSlices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backends {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name; empty when nothing names it.
    pub service: String,
    /// All addresses that a policy for the service means.
    pub addresses: Vec<IpAddr>,
    /// Endpoints with the ports they share: one group for a slice, one for each subset.
    pub groups: Vec<BackendGroup>,
}

/// Endpoints that have the same ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackendGroup {
    /// The endpoints.
    pub endpoints: Vec<BackendEndpoint>,
    /// Their ports; those without a number are left out.
    pub ports: Vec<BackendPort>,
}

/// Something behind a service, most often a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackendEndpoint {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it may be used.
    pub readiness: Readiness,
    /// The node it is on, when it is said.
    pub node: Option<String>,
}

/// Whether something behind a service may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Readiness {
    /// It is ready, or nobody says otherwise.
    #[default]
    Active,
    /// It is about to end but still serves.
    Terminating,
    /// It is not to be used, unless the service asks for such.
    NotReady,
}

/// A port of endpoints, found by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendPort {
    /// The name of the service's port that it stands behind.
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: PortProtocol,
    /// The port.
    pub port: u16,
}
