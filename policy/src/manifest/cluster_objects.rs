//! Nodes, and groups of address blocks.

use super::metadata::Metadata;
use super::node::{Faults, Fields, Node};
use super::{peers, workload};
use crate::{CidrGroup, ClusterNode};

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
