//! Nodes, services, what stands behind them, and groups of address blocks.

use super::metadata::Metadata;
use super::node::{Faults, Fields, Node};
use super::{peers, workload};
use crate::{
    Backends, CidrGroup, ClusterNode, KeySource, Operator, Requirement, Selector, Service,
};
use std::net::IpAddr;

/// The label of an EndpointSlice that names its service.
const SERVICE_NAME_KEY: &str = "kubernetes.io/service-name";

pub(crate) fn cidr_group(
    node: &Node<'_>,
    metadata: &Metadata,
    faults: &mut Faults,
) -> Option<CidrGroup> {
    let known = ["apiVersion", "kind", "metadata", "spec"];
    let fields = Fields::known(node, "CiliumCIDRGroup", &known, faults)?;
    let spec = fields.required("spec", "a spec", faults)?;
    let fields = Fields::strict(&spec, "a group's spec", &["externalCIDRs"], faults)?;
    let blocks = fields.required("externalCIDRs", "blocks of addresses", faults)?;
    let blocks = blocks.list(faults);
    Some(CidrGroup {
        name: metadata.name.clone(),
        labels: metadata.labels.clone(),
        cidrs: blocks
            .iter()
            .filter_map(|node| peers::cidr(node, faults))
            .collect(),
    })
}

pub(crate) fn node(
    node: &Node<'_>,
    metadata: &Metadata,
    faults: &mut Faults,
) -> Option<ClusterNode> {
    let fields = Fields::lenient(node, faults)?;
    let mut found = ClusterNode {
        name: metadata.name.clone(),
        labels: metadata.labels.clone(),
        addresses: Vec::new(),
    };
    let status = fields
        .get("status")
        .and_then(|node| Fields::lenient(&node, faults));
    for node in status.map_or_else(Vec::new, |status| status.list("addresses", faults)) {
        let Some(fields) = Fields::lenient(&node, faults) else {
            continue;
        };
        let is_address = fields
            .get("type")
            .is_some_and(|kind| kind.is_text("InternalIP") || kind.is_text("ExternalIP"));
        if is_address {
            let address = fields.get("address");
            found
                .addresses
                .extend(address.and_then(|node| workload::address(&node, faults)));
        }
    }
    Some(found)
}

pub(crate) fn service(
    node: &Node<'_>,
    metadata: &Metadata,
    faults: &mut Faults,
) -> Option<Service> {
    let fields = Fields::lenient(node, faults)?;
    let spec = fields
        .get("spec")
        .and_then(|node| Fields::lenient(&node, faults));
    let labels = spec
        .and_then(|spec| spec.get("selector"))
        .map_or_else(Vec::new, |node| node.texts(faults));
    let requirements: Vec<_> = labels
        .into_iter()
        .filter_map(|(key, value)| {
            Some(Requirement {
                source: KeySource::K8s,
                key: key.to_owned(),
                operator: Operator::In(vec![value.text(faults)?.to_owned()]),
            })
        })
        .collect();
    Some(Service {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        labels: metadata.labels.clone(),
        selector: (!requirements.is_empty()).then_some(Selector { requirements }),
    })
}

/// An Endpoints object: it has the name of its service.
pub(crate) fn endpoints(
    node: &Node<'_>,
    metadata: &Metadata,
    faults: &mut Faults,
) -> Option<Backends> {
    let fields = Fields::lenient(node, faults)?;
    let mut addresses = Vec::new();
    for subset in fields.list("subsets", faults) {
        let Some(fields) = Fields::lenient(&subset, faults) else {
            continue;
        };
        for node in fields.list("addresses", faults) {
            let fields = Fields::lenient(&node, faults);
            let ip = fields.and_then(|fields| fields.get("ip"));
            addresses.extend(ip.and_then(|node| workload::address(&node, faults)));
        }
    }
    Some(Backends {
        namespace: metadata.namespace.clone(),
        service: metadata.name.clone(),
        addresses,
    })
}

/// An EndpointSlice: a label names its service; without one it is nobody's.
pub(crate) fn endpoint_slice(
    node: &Node<'_>,
    metadata: &Metadata,
    faults: &mut Faults,
) -> Option<Backends> {
    let fields = Fields::lenient(node, faults)?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for node in fields.list("endpoints", faults) {
        let Some(fields) = Fields::lenient(&node, faults) else {
            continue;
        };
        for node in fields.list("addresses", faults) {
            addresses.extend(workload::address(&node, faults));
        }
    }
    Some(Backends {
        namespace: metadata.namespace.clone(),
        service: metadata
            .labels
            .get(SERVICE_NAME_KEY)
            .cloned()
            .unwrap_or_default(),
        addresses,
    })
}
