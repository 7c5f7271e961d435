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
}

/// Addresses behind a service, from its Endpoints or one of its EndpointSlices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backends {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name.
    pub service: String,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
}
