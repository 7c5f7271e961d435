//! Services and what stands behind them, as kubectl prints them: fields that mean nothing here are
//! passed over.

use super::metadata::Metadata;
use super::node::{Faults, Fields, Node};
use super::{ports, workload};
use crate::{
    BackendEndpoint, BackendGroup, BackendPort, Backends, Family, KeySource, Operator,
    PortProtocol, Readiness, Requirement, Selector, Service, ServiceKind, ServicePort, TargetPort,
    TrafficScope,
};
use std::net::IpAddr;

/// The label of an EndpointSlice that names its service.
const SERVICE_NAME_KEY: &str = "kubernetes.io/service-name";
/// Seconds a client keeps its backend, where nothing else is said.
/// [Kubernetes, `ClientIPConfig.timeoutSeconds`]
const AFFINITY_SECONDS: u32 = 10_800;
const AFFINITY_SECONDS_MAX: u32 = 86_400;

const KINDS: &[(&str, ServiceKind)] = &[
    ("ClusterIP", ServiceKind::ClusterIp),
    ("NodePort", ServiceKind::NodePort),
    ("LoadBalancer", ServiceKind::LoadBalancer),
    ("ExternalName", ServiceKind::ExternalName),
];
const SCOPES: &[(&str, TrafficScope)] = &[
    ("Cluster", TrafficScope::Cluster),
    ("Local", TrafficScope::Local),
];
const AFFINITIES: &[(&str, bool)] = &[("None", false), ("ClientIP", true)];
/// Whether the nodes answer to an address of a load balancer, or the balancer itself does.
const ADDRESS_MODES: &[(&str, bool)] = &[("VIP", true), ("Proxy", false)];
/// The family of a slice; None for names.
const ADDRESS_TYPES: &[(&str, Option<Family>)] = &[
    ("IPv4", Some(Family::V4)),
    ("IPv6", Some(Family::V6)),
    ("FQDN", None),
];

pub(crate) fn service(
    node: &Node<'_>,
    metadata: &Metadata,
    faults: &mut Faults,
) -> Option<Service> {
    let fields = Fields::lenient(node, faults)?;
    let mut service = Service {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        labels: metadata.labels.clone(),
        ..Service::default()
    };
    if let Some(spec) = fields.get("spec")
        && let Some(spec) = Fields::lenient(&spec, faults)
    {
        service.selector = selector(&spec, faults);
        read_spec(&spec, &mut service, faults);
    }
    if let Some(status) = fields.get("status")
        && let Some(status) = Fields::lenient(&status, faults)
    {
        service.balancer_addresses = balancer_addresses(&status, faults);
    }
    Some(service)
}

fn selector(spec: &Fields<'_>, faults: &mut Faults) -> Option<Selector> {
    let labels = spec
        .get("selector")
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
    (!requirements.is_empty()).then_some(Selector { requirements })
}

fn read_spec(spec: &Fields<'_>, service: &mut Service, faults: &mut Faults) {
    service.kind = word(spec, "type", KINDS, faults);
    service.external_traffic = word(spec, "externalTrafficPolicy", SCOPES, faults);
    service.internal_traffic = word(spec, "internalTrafficPolicy", SCOPES, faults);
    service.is_publishing_unready = truth(spec, "publishNotReadyAddresses", faults);
    service.affinity_seconds = affinity(spec, faults);
    service.ports = service_ports(spec, faults);
    service.external_addresses = addresses(spec.list("externalIPs", faults), faults);
    if service.kind == ServiceKind::ExternalName {
        return;
    }
    let first = spec.get("clusterIP");
    let all = spec.list("clusterIPs", faults);
    service.is_headless = first.iter().chain(&all).any(|node| node.is_text("None"));
    if service.is_headless {
        return;
    }
    let own = first
        .as_ref()
        .and_then(|node| workload::address(node, faults));
    service.cluster_addresses = addresses(all, faults);
    match (own, service.cluster_addresses.first(), first) {
        (Some(own), None, _) => service.cluster_addresses.push(own),
        (Some(own), Some(other), Some(node)) if own != *other => {
            node.fault("the first of clusterIPs", faults);
        }
        _ => {}
    }
}

/// What a word means; what it means by default when the field is missing or wrong.
fn word<T: Copy + Default>(
    fields: &Fields<'_>,
    name: &str,
    words: &[(&str, T)],
    faults: &mut Faults,
) -> T {
    let node = fields.get(name);
    node.and_then(|node| node.word(words, faults))
        .unwrap_or_default()
}

fn truth(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> bool {
    fields
        .get(name)
        .and_then(|node| node.truth(faults))
        .unwrap_or(false)
}

/// The addresses of a list, each once.
fn addresses(nodes: Vec<Node<'_>>, faults: &mut Faults) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for node in nodes {
        if let Some(address) = workload::address(&node, faults)
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

fn affinity(spec: &Fields<'_>, faults: &mut Faults) -> Option<u32> {
    let config = spec.get("sessionAffinityConfig");
    let config = config.and_then(|node| Fields::lenient(&node, faults));
    let client = config.and_then(|config| config.get("clientIP"));
    let client = client.and_then(|node| Fields::lenient(&node, faults));
    let seconds = client
        .and_then(|client| client.get("timeoutSeconds"))
        .map_or(Some(AFFINITY_SECONDS), |node| {
            node.whole(1, AFFINITY_SECONDS_MAX, "seconds", faults)
        });
    if word(spec, "sessionAffinity", AFFINITIES, faults) {
        seconds
    } else {
        None
    }
}

fn service_ports(spec: &Fields<'_>, faults: &mut Faults) -> Vec<ServicePort> {
    let nodes = spec.list("ports", faults);
    let mut found: Vec<ServicePort> = Vec::new();
    for node in &nodes {
        let Some(port) = service_port(node, faults) else {
            continue;
        };
        // By its name each port finds what is behind it.
        if found.iter().any(|other| other.name == port.name) {
            let expected = "a name that no other port has, where there are several";
            node.fault_found(expected, &super::node::quoted(&port.name), faults);
        } else {
            found.push(port);
        }
    }
    found
}

fn service_port(node: &Node<'_>, faults: &mut Faults) -> Option<ServicePort> {
    let fields = Fields::lenient(node, faults)?;
    let (name, protocol) = name_and_protocol(&fields, faults);
    let port = fields.required("port", "a port, 1 to 65535", faults);
    let port = port.and_then(|node| node.number(1, u16::MAX, "a port", faults));
    let target = match fields.get("targetPort") {
        None => port.map(TargetPort::Number),
        Some(node) => target_port(&node, faults),
    };
    let node_port = fields
        .get("nodePort")
        .and_then(|node| node.number(1, u16::MAX, "a port", faults));
    Some(ServicePort {
        name,
        protocol: protocol?,
        port: port?,
        target: target?,
        node_port,
    })
}

/// The name, empty when there is none, and the protocol, TCP when there is none.
fn name_and_protocol(fields: &Fields<'_>, faults: &mut Faults) -> (String, Option<PortProtocol>) {
    let name = fields.get("name").and_then(|node| node.text(faults));
    let protocol = match fields.get("protocol") {
        None => Some(PortProtocol::Tcp),
        Some(node) => ports::transport(&node, faults),
    };
    (name.unwrap_or_default().to_owned(), protocol)
}

fn target_port(node: &Node<'_>, faults: &mut Faults) -> Option<TargetPort> {
    if node.is_number() {
        let port = node.number(1, u16::MAX, "a port", faults)?;
        return Some(TargetPort::Number(port));
    }
    let text = node.text(faults)?;
    if ports::is_port_name(text) {
        return Some(TargetPort::Named(text.to_owned()));
    }
    node.fault("a port, 1 to 65535, or the name of one", faults);
    None
}

fn balancer_addresses(status: &Fields<'_>, faults: &mut Faults) -> Vec<IpAddr> {
    let balancer = status
        .get("loadBalancer")
        .and_then(|node| Fields::lenient(&node, faults));
    let mut found = Vec::new();
    for node in balancer.map_or_else(Vec::new, |balancer| balancer.list("ingress", faults)) {
        let Some(fields) = Fields::lenient(&node, faults) else {
            continue;
        };
        let mode = fields.get("ipMode");
        let is_ours = mode.and_then(|node| node.word(ADDRESS_MODES, faults));
        let address = fields
            .get("ip")
            .and_then(|node| workload::address(&node, faults));
        found.extend(address.filter(|_| is_ours.unwrap_or(true)));
    }
    found
}

/// An Endpoints object: it has the name of its service.
pub(crate) fn endpoints(
    node: &Node<'_>,
    metadata: &Metadata,
    faults: &mut Faults,
) -> Option<Backends> {
    let fields = Fields::lenient(node, faults)?;
    let mut backends = Backends {
        namespace: metadata.namespace.clone(),
        service: metadata.name.clone(),
        ..Backends::default()
    };
    for subset in fields.list("subsets", faults) {
        let Some(fields) = Fields::lenient(&subset, faults) else {
            continue;
        };
        let mut group = BackendGroup {
            ports: backend_ports(&fields, faults),
            ..BackendGroup::default()
        };
        let lists = [
            ("addresses", Readiness::Active),
            ("notReadyAddresses", Readiness::NotReady),
        ];
        for (list, readiness) in lists {
            for node in fields.list(list, faults) {
                let Some(fields) = Fields::lenient(&node, faults) else {
                    continue;
                };
                let ip = fields.get("ip");
                let Some(address) = ip.and_then(|node| workload::address(&node, faults)) else {
                    continue;
                };
                if readiness == Readiness::Active {
                    backends.addresses.push(address);
                }
                group.endpoints.push(BackendEndpoint {
                    addresses: vec![address],
                    readiness,
                    node: node_name(&fields, faults),
                });
            }
        }
        backends.groups.push(group);
    }
    Some(backends)
}

/// An EndpointSlice: a label names its service; without one it is nobody's.
pub(crate) fn endpoint_slice(
    node: &Node<'_>,
    metadata: &Metadata,
    faults: &mut Faults,
) -> Option<Backends> {
    let fields = Fields::lenient(node, faults)?;
    let family = fields
        .get("addressType")
        .and_then(|node| node.word(ADDRESS_TYPES, faults));
    let mut group = BackendGroup {
        ports: backend_ports(&fields, faults),
        ..BackendGroup::default()
    };
    for node in fields.list("endpoints", faults) {
        let Some(fields) = Fields::lenient(&node, faults) else {
            continue;
        };
        let mut endpoint = BackendEndpoint {
            addresses: Vec::new(),
            readiness: readiness(&fields, faults),
            node: node_name(&fields, faults),
        };
        for node in fields.list("addresses", faults) {
            // Names are not for packets.
            if family != Some(None) {
                let address = address_of(&node, family.flatten(), faults);
                endpoint.addresses.extend(address);
            }
        }
        group.endpoints.push(endpoint);
    }
    let endpoints = group.endpoints.iter();
    Some(Backends {
        namespace: metadata.namespace.clone(),
        service: metadata
            .labels
            .get(SERVICE_NAME_KEY)
            .cloned()
            .unwrap_or_default(),
        addresses: endpoints
            .flat_map(|endpoint| &endpoint.addresses)
            .copied()
            .collect(),
        groups: vec![group],
    })
}

/// An address, of this family if there is one.
fn address_of(node: &Node<'_>, family: Option<Family>, faults: &mut Faults) -> Option<IpAddr> {
    let address = workload::address(node, faults)?;
    let expected = match family {
        Some(Family::V4) if !address.is_ipv4() => "an IPv4 address, as addressType says",
        Some(Family::V6) if !address.is_ipv6() => "an IPv6 address, as addressType says",
        _ => return Some(address),
    };
    node.fault(expected, faults);
    None
}

fn node_name(fields: &Fields<'_>, faults: &mut Faults) -> Option<String> {
    let name = fields.get("nodeName")?;
    name.text(faults).map(str::to_owned)
}

/// [Kubernetes, `EndpointConditions`]
fn readiness(endpoint: &Fields<'_>, faults: &mut Faults) -> Readiness {
    let conditions = endpoint
        .get("conditions")
        .and_then(|node| Fields::lenient(&node, faults));
    let Some(conditions) = conditions else {
        return Readiness::Active;
    };
    let mut condition = |name| {
        conditions
            .get(name)
            .and_then(|node: Node<'_>| node.truth(faults))
    };
    let (ready, serving) = (condition("ready"), condition("serving"));
    let is_terminating = condition("terminating").unwrap_or(false);
    // One that ends may still be ready where the service publishes what is not.
    match (ready, is_terminating) {
        (Some(true), _) | (None, false) => Readiness::Active,
        _ if is_terminating && serving.or(ready).unwrap_or(true) => Readiness::Terminating,
        _ => Readiness::NotReady,
    }
}

/// Ports without a number mean all of them, which no service can.
fn backend_ports(fields: &Fields<'_>, faults: &mut Faults) -> Vec<BackendPort> {
    let mut found = Vec::new();
    for node in fields.list("ports", faults) {
        let Some(fields) = Fields::lenient(&node, faults) else {
            continue;
        };
        let (name, protocol) = name_and_protocol(&fields, faults);
        let port = fields
            .get("port")
            .and_then(|node| node.number(1, u16::MAX, "a port", faults));
        if let (Some(protocol), Some(port)) = (protocol, port) {
            found.push(BackendPort {
                name,
                protocol,
                port,
            });
        }
    }
    found
}
