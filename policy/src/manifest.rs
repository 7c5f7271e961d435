//! Reads manifests: text becomes documents, or errors that point.

mod cilium;
mod cluster_network_policy;
mod cluster_objects;
mod egress_gateway;
mod icmp;
mod inspection;
mod kubernetes;
mod metadata;
mod node;
mod peers;
mod ports;
mod selectors;
mod services;
mod workload;
mod yaml;

use crate::{Document, DocumentError, DocumentOrigin, Object, Policy, Settings, Warning};
use metadata::Metadata;
use node::{Faults, Fields, Node};

/// Documents in one file, those in lists included.
const DOCUMENTS_MAX: usize = 10_000;

/// A kind of object that can be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Namespace,
    Pod,
    CiliumNetworkPolicy,
    CiliumClusterwideNetworkPolicy,
    NetworkPolicy,
    ClusterNetworkPolicy,
    EgressGatewayPolicy,
    CidrGroup,
    Node,
    Service,
    Endpoints,
    EndpointSlice,
}

impl Kind {
    const ALL: &'static [Self] = &[
        Self::Namespace,
        Self::Pod,
        Self::CiliumNetworkPolicy,
        Self::CiliumClusterwideNetworkPolicy,
        Self::NetworkPolicy,
        Self::ClusterNetworkPolicy,
        Self::EgressGatewayPolicy,
        Self::CidrGroup,
        Self::Node,
        Self::Service,
        Self::Endpoints,
        Self::EndpointSlice,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::CiliumNetworkPolicy => "CiliumNetworkPolicy",
            Self::CiliumClusterwideNetworkPolicy => "CiliumClusterwideNetworkPolicy",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::EgressGatewayPolicy => "CiliumEgressGatewayPolicy",
            Self::CidrGroup => "CiliumCIDRGroup",
            Self::Node => "Node",
            Self::Service => "Service",
            Self::Endpoints => "Endpoints",
            Self::EndpointSlice => "EndpointSlice",
        }
    }

    /// The versions it is read in.
    const fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::Namespace | Self::Pod | Self::Node | Self::Service | Self::Endpoints => &["v1"],
            Self::CiliumNetworkPolicy
            | Self::CiliumClusterwideNetworkPolicy
            | Self::EgressGatewayPolicy => &["cilium.io/v2"],
            Self::NetworkPolicy => &["networking.k8s.io/v1"],
            Self::ClusterNetworkPolicy => &["policy.networking.k8s.io/v1alpha2"],
            Self::CidrGroup => &["cilium.io/v2", "cilium.io/v2alpha1"],
            Self::EndpointSlice => &["discovery.k8s.io/v1"],
        }
    }

    const fn is_namespaced(self) -> bool {
        matches!(
            self,
            Self::Pod
                | Self::CiliumNetworkPolicy
                | Self::NetworkPolicy
                | Self::Service
                | Self::Endpoints
                | Self::EndpointSlice
        )
    }

    /// Whether it holds rules for pods or nodes.
    const fn is_policy(self) -> bool {
        matches!(
            self,
            Self::CiliumNetworkPolicy
                | Self::CiliumClusterwideNetworkPolicy
                | Self::NetworkPolicy
                | Self::ClusterNetworkPolicy
        )
    }
}

/// Reads a stream of YAML documents; JSON is YAML too. A `List`, as kubectl prints several
/// objects, stands for its items.
///
/// Documents that are empty are not counted.
///
/// What it reads is bounded: 16 MiB and 10 000 documents a file; 48 levels, 2 000 000 nodes, 1000
/// anchors and 1000 aliases with 100 000 repeated values of YAML; 40 ports and 40 ICMP types a
/// rule; 4096 bytes and 1 MiB compiled a regular expression, each matched in linear time. `compile`
/// bounds what all documents say together: 1 000 000 rules, 262 144 address blocks, 65 280 label
/// sets. `portcullis policy check --help` tells users.
///
/// # Errors
/// Every fault of the file, up to a hundred: text that is no YAML (with line and column), a file
/// without documents (a file that is just being written must not open anything), kinds that are
/// not supported, unknown fields, values out of range, and all that is not supported yet.
pub fn parse_documents(
    file: &str,
    text: &str,
    settings: &Settings,
) -> Result<Vec<Document>, Vec<DocumentError>> {
    let values = yaml::read(file, text).map_err(|error| vec![error])?;
    let mut faults = Faults::new(file);
    let mut documents = Vec::new();
    for (place, value) in values.iter().enumerate() {
        faults.document = place + 1;
        read_document(&Node::root(value), settings, &mut faults, &mut documents);
    }
    if documents.is_empty() && faults.errors.is_empty() {
        faults.document = 0;
        faults.add(String::new(), "at least one document", "an empty file");
    }
    if faults.errors.is_empty() {
        Ok(documents)
    } else {
        Err(faults.errors)
    }
}

/// What is allowed but probably not meant, in all of these documents.
pub fn lint(documents: &[Document]) -> impl Iterator<Item = &Warning> {
    documents.iter().flat_map(|document| &document.warnings)
}

fn read_document(
    node: &Node<'_>,
    settings: &Settings,
    faults: &mut Faults,
    documents: &mut Vec<Document>,
) {
    let Some(fields) = Fields::lenient(node, faults) else {
        return;
    };
    if fields.get("kind").is_some_and(|kind| kind.is_text("List")) {
        let fields = Fields::known(
            node,
            "List",
            &["apiVersion", "kind", "metadata", "items"],
            faults,
        );
        let items = fields.map_or_else(Vec::new, |fields| fields.list("items", faults));
        for item in items {
            if item.is_kind("List") {
                item.fault("an object: a list in a list is not read", faults);
            } else {
                read_document(&item, settings, faults, documents);
            }
        }
        return;
    }
    if documents.len() >= DOCUMENTS_MAX {
        faults.add(
            String::new(),
            &format!("at most {DOCUMENTS_MAX} documents in a file"),
            "more",
        );
        return;
    }
    let Some(kind) = read_kind(&fields, faults) else {
        return;
    };
    let errors_before = faults.errors.len();
    let Some(metadata) = Metadata::read(&fields, kind, faults) else {
        return;
    };
    let object = read_object(node, kind, &metadata, settings, faults);
    let warnings = std::mem::take(&mut faults.warnings);
    if let Some(object) = object
        && faults.errors.len() == errors_before
    {
        let origin = DocumentOrigin {
            file: faults.file.clone(),
            document: faults.document,
            kind: kind.name(),
            namespace: kind.is_namespaced().then_some(metadata.namespace),
            name: metadata.name,
        };
        documents.push(Document {
            origin,
            object,
            warnings,
        });
    }
}

fn read_kind(fields: &Fields<'_>, faults: &mut Faults) -> Option<Kind> {
    let node = fields.required("kind", "the kind of object", faults)?;
    let text = node.text(faults)?;
    let Some(kind) = Kind::ALL.iter().copied().find(|kind| kind.name() == text) else {
        let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        let near = node::nearest(text, &names);
        let hint = near.map_or(String::new(), |name| format!(" (did you mean {name}?)"));
        node.fault(
            &format!("one of the kinds {}{hint}", names.join(", ")),
            faults,
        );
        return None;
    };
    let versions = kind.api_versions();
    let node = fields.required("apiVersion", versions[0], faults)?;
    if !versions.contains(&node.text(faults)?) {
        node.fault(
            &format!("{} for a {}", versions.join(" or "), kind.name()),
            faults,
        );
        return None;
    }
    Some(kind)
}

fn read_object(
    node: &Node<'_>,
    kind: Kind,
    metadata: &Metadata,
    settings: &Settings,
    faults: &mut Faults,
) -> Option<Object> {
    let namespace = Some(metadata.namespace.as_str());
    let object = match kind {
        Kind::Namespace => Object::Namespace(workload::namespace(metadata)),
        Kind::Pod => Object::Pod(workload::pod(node, metadata, faults)?),
        Kind::Node => Object::Node(cluster_objects::node(node, metadata, faults)?),
        Kind::Service => Object::Service(services::service(node, metadata, faults)?),
        Kind::Endpoints => Object::Backends(services::endpoints(node, metadata, faults)?),
        Kind::EndpointSlice => Object::Backends(services::endpoint_slice(node, metadata, faults)?),
        Kind::CidrGroup => Object::CidrGroup(cluster_objects::cidr_group(node, metadata, faults)?),
        Kind::EgressGatewayPolicy => {
            Object::EgressGatewayPolicy(egress_gateway::policy(node, faults)?)
        }
        Kind::NetworkPolicy => {
            let read = kubernetes::network_policy(node, metadata, settings, faults)?;
            Object::NetworkPolicy(audited(read, node, metadata, faults))
        }
        Kind::ClusterNetworkPolicy => {
            let read = cluster_network_policy::policy(node, settings, faults)?;
            Object::ClusterNetworkPolicy(audited(read, node, metadata, faults))
        }
        Kind::CiliumNetworkPolicy => {
            let read = cilium::policy(node, kind.name(), namespace, settings, faults)?;
            Object::CiliumNetworkPolicy(audited(read, node, metadata, faults))
        }
        Kind::CiliumClusterwideNetworkPolicy => {
            let read = cilium::policy(node, kind.name(), None, settings, faults)?;
            Object::CiliumClusterwideNetworkPolicy(audited(read, node, metadata, faults))
        }
    };
    Some(object)
}

/// The policy, marked when its annotation says that it is only to be reported.
fn audited(policy: Policy, node: &Node<'_>, metadata: &Metadata, faults: &mut Faults) -> Policy {
    Policy {
        is_audited: metadata.is_audited(node, faults),
        ..policy
    }
}
