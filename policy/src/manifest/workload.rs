//! Namespaces and pods, as kubectl prints them: fields that mean nothing here are passed over.

use super::metadata::Metadata;
use super::node::{Faults, Fields, Node};
use crate::{NamedPort, Namespace, Pod, PortProtocol};
use std::net::IpAddr;

pub(crate) fn namespace(metadata: &Metadata) -> Namespace {
    Namespace {
        name: metadata.name.clone(),
        labels: metadata.labels.clone(),
    }
}

pub(crate) fn pod(node: &Node<'_>, metadata: &Metadata, faults: &mut Faults) -> Option<Pod> {
    let fields = Fields::lenient(node, faults)?;
    let mut pod = Pod {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.clone(),
        uid: metadata.uid.clone(),
        ..Pod::default()
    };
    if let Some(spec) = fields.get("spec")
        && let Some(spec) = Fields::lenient(&spec, faults)
    {
        read_spec(&spec, &mut pod, faults);
    }
    if let Some(status) = fields.get("status")
        && let Some(status) = Fields::lenient(&status, faults)
    {
        read_status(&status, &mut pod, faults);
    }
    Some(pod)
}

fn read_spec(spec: &Fields<'_>, pod: &mut Pod, faults: &mut Faults) {
    let mut text = |name: &str| spec.get(name)?.text(faults).map(str::to_owned);
    pod.service_account = text("serviceAccountName").or_else(|| text("serviceAccount"));
    pod.node = text("nodeName");
    pod.host_network = spec
        .get("hostNetwork")
        .and_then(|node| node.truth(faults))
        .unwrap_or(false);
    for container in spec.list("containers", faults) {
        read_ports(&container, pod, faults);
    }
    for container in spec.list("initContainers", faults) {
        // Only one that stays beside the others can be connected to.
        let fields = Fields::lenient(&container, faults);
        let restarts = fields.and_then(|fields| fields.get("restartPolicy"));
        if restarts.is_some_and(|policy| policy.is_text("Always")) {
            read_ports(&container, pod, faults);
        }
    }
    pod.named_ports.sort();
    pod.named_ports.dedup();
}

fn read_ports(container: &Node<'_>, pod: &mut Pod, faults: &mut Faults) {
    let Some(fields) = Fields::lenient(container, faults) else {
        return;
    };
    for node in fields.list("ports", faults) {
        let Some(fields) = Fields::lenient(&node, faults) else {
            continue;
        };
        let Some(name) = fields.get("name").and_then(|name| name.text(faults)) else {
            continue;
        };
        let port = fields.required("containerPort", "a port, 1 to 65535", faults);
        let port = port.and_then(|port| port.number(1, u16::MAX, "a port", faults));
        let protocol = match fields.get("protocol") {
            None => Some(PortProtocol::Tcp),
            Some(node) => super::ports::transport(&node, faults),
        };
        if let (Some(port), Some(protocol)) = (port, protocol) {
            pod.named_ports.push(NamedPort {
                name: name.to_lowercase(),
                protocol,
                port,
            });
        }
    }
}

fn read_status(status: &Fields<'_>, pod: &mut Pod, faults: &mut Faults) {
    let phase = status.get("phase");
    pod.has_finished =
        phase.is_some_and(|phase| phase.is_text("Succeeded") || phase.is_text("Failed"));
    for node in status.list("podIPs", faults) {
        let Some(fields) = Fields::lenient(&node, faults) else {
            continue;
        };
        pod.addresses
            .extend(fields.get("ip").and_then(|node| address(&node, faults)));
    }
    if pod.addresses.is_empty() {
        pod.addresses
            .extend(status.get("podIP").and_then(|node| address(&node, faults)));
    }
    let mut seen = Vec::new();
    pod.addresses.retain(|address| {
        let is_new = !seen.contains(address);
        seen.push(*address);
        is_new
    });
}

pub(crate) fn address(node: &Node<'_>, faults: &mut Faults) -> Option<IpAddr> {
    let text = node.text(faults)?;
    // A pod that has just been made has the field, but nothing in it.
    if text.is_empty() {
        return None;
    }
    let address: Option<IpAddr> = text.parse().ok();
    let usable = address.filter(|address| !address.is_unspecified() && !address.is_multicast());
    if usable.is_none() {
        node.fault("an address", faults);
    }
    usable
}
