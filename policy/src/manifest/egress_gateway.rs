//! CiliumEgressGatewayPolicy.

use super::node::{Faults, Fields, Node};
use super::selectors::{self, KeyStyle};
use super::{peers, workload};
use crate::egress_gateway::{EgressGatewayPolicy, EgressSubject, Gateway, Source};
use crate::{Cidr, Selector};

/// Reads a policy. [policy-semantics §12.1]
pub(crate) fn policy(node: &Node<'_>, faults: &mut Faults) -> Option<EgressGatewayPolicy> {
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let fields = Fields::known(node, "CiliumEgressGatewayPolicy", &known, faults)?;
    let spec = fields.required("spec", "a spec", faults)?;
    let known = [
        "selectors",
        "destinationCIDRs",
        "excludedCIDRs",
        "egressGateway",
        "egressGateways",
    ];
    let fields = Fields::strict(&spec, "an egress gateway policy's spec", &known, faults)?;
    let selectors = fields.required("selectors", "the pods it is about", faults)?;
    let subjects: Vec<_> = selectors.list(faults);
    let subjects = subjects
        .iter()
        .filter_map(|node| subject(node, faults))
        .collect();
    let blocks = |node: Option<Node<'_>>, faults: &mut Faults| -> Vec<Cidr> {
        let list = node.map_or_else(Vec::new, |node| node.list(faults));
        list.iter()
            .filter_map(|node| peers::cidr(node, faults))
            .collect()
    };
    let destinations = fields.required("destinationCIDRs", "the destinations", faults);
    let destinations = blocks(destinations, faults);
    let excluded = blocks(fields.get("excludedCIDRs"), faults);
    let many: Vec<_> = fields
        .list("egressGateways", faults)
        .iter()
        .filter_map(|node| gateway(node, faults))
        .collect();
    let one = fields.get("egressGateway");
    if one.is_none() && many.is_empty() {
        let _ = fields.required(
            "egressGateway",
            "the node that traffic leaves through",
            faults,
        );
    }
    let one = one.and_then(|node| gateway(&node, faults));
    let is_shared = !many.is_empty();
    Some(EgressGatewayPolicy {
        subjects,
        destinations,
        excluded,
        gateways: if is_shared {
            many
        } else {
            one.into_iter().collect()
        },
        is_shared,
    })
}

fn subject(node: &Node<'_>, faults: &mut Faults) -> Option<EgressSubject> {
    let known = ["podSelector", "namespaceSelector", "nodeSelector"];
    let fields = Fields::strict(node, "a selector", &known, faults)?;
    let (pods, namespaces) = (fields.get("podSelector"), fields.get("namespaceSelector"));
    let selector = match (&pods, &namespaces) {
        (None, None) => {
            node.fault("podSelector or namespaceSelector", faults);
            return None;
        }
        (Some(pods), None) => selectors::plain(pods, KeyStyle::Kubernetes, faults),
        (pods, Some(namespaces)) => selectors::pods(pods.as_ref(), Some(namespaces), "", faults),
    };
    Some(EgressSubject {
        pods: selector,
        nodes: fields.get("nodeSelector").map(|node| nodes(&node, faults)),
    })
}

fn nodes(node: &Node<'_>, faults: &mut Faults) -> Selector {
    selectors::plain(node, KeyStyle::Node, faults)
}

fn gateway(node: &Node<'_>, faults: &mut Faults) -> Option<Gateway> {
    let known = ["nodeSelector", "interface", "egressIP"];
    let fields = Fields::strict(node, "a gateway", &known, faults)?;
    let selector = fields.required("nodeSelector", "the nodes; {} for all", faults)?;
    let source = match (fields.get("interface"), fields.get("egressIP")) {
        (None, None) => Source::DefaultRoute,
        (Some(name), None) => Source::Interface(name.text(faults)?.to_owned()),
        (None, Some(address)) => Source::Address(workload::address(&address, faults)?),
        (Some(_), Some(_)) => {
            node.fault_found("interface or egressIP", "both", faults);
            return None;
        }
    };
    Some(Gateway {
        nodes: nodes(&selector, faults),
        source,
    })
}
