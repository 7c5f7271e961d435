//! What documents say of services, as the engine reads it.

use super::host_pair::{GATEWAY_IPV4, GATEWAY_IPV6};
use super::reconcile::INTERFACE_ANNOTATION;
use portcullis_engine::{
    Backend, BackendState, Frontend, FrontendConflict, FrontendKind, ServiceSpec, ServiceTable,
};
use portcullis_policy::{
    Backends, Document, Object, PortProtocol, Protocol, Readiness, Service, ServiceKind,
    ServicePort, TrafficScope, Warning,
};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The services in force, and what they were built from.
#[derive(Debug, Default)]
pub struct Services {
    /// What workers read.
    pub table: Arc<ServiceTable>,
    /// Frontends that more than one service claims, as people read it.
    pub conflicts: Vec<String>,
    documents: Arc<Vec<Arc<Document>>>,
    node_addresses: Vec<IpAddr>,
}

impl Services {
    /// Makes the table what documents and node say now. Nothing happens when neither changed.
    ///
    /// `node_addresses` are the node's own, the gateway's among them.
    pub fn update(&mut self, documents: Arc<Vec<Arc<Document>>>, mut node_addresses: Vec<IpAddr>) {
        // Every node has the gateway's addresses: no client reaches a port there from outside.
        node_addresses.retain(|address| *address != GATEWAY_IPV4 && *address != GATEWAY_IPV6);
        if Arc::ptr_eq(&self.documents, &documents) && self.node_addresses == node_addresses {
            return;
        }
        let specs = specs(&documents, &node_addresses);
        let (table, conflicts) = ServiceTable::new(&specs, Some(&self.table));
        // The same table stays the same to workers.
        if *self.table != table {
            self.table = Arc::new(table);
        }
        self.conflicts = warnings(&conflicts, &documents);
        self.documents = documents;
        self.node_addresses = node_addresses;
    }
}

/// The services of the documents: one for each port and family that has an address.
#[must_use]
pub fn specs(documents: &[Arc<Document>], node_addresses: &[IpAddr]) -> Vec<ServiceSpec> {
    let world = World::read(documents, node_addresses);
    let mut specs = Vec::new();
    for document in documents {
        let Object::Service(service) = &document.object else {
            continue;
        };
        // [Kubernetes: neither has an address that packets are sent to]
        if service.is_headless || service.kind == ServiceKind::ExternalName {
            continue;
        }
        for port in &service.ports {
            for is_ipv6 in [false, true] {
                specs.extend(world.spec(service, port, is_ipv6));
            }
        }
    }
    specs
}

/// What services are put together from.
struct World<'a> {
    node_addresses: &'a [IpAddr],
    /// Addresses of pods of this node.
    local: HashSet<IpAddr>,
    /// What stands behind a service, by its namespace and name.
    backends: HashMap<(&'a str, &'a str), Vec<&'a Backends>>,
}

impl<'a> World<'a> {
    fn read(documents: &'a [Arc<Document>], node_addresses: &'a [IpAddr]) -> Self {
        let mut world = Self {
            node_addresses,
            local: HashSet::new(),
            backends: HashMap::new(),
        };
        for document in documents {
            match &document.object {
                Object::Pod(pod) if pod.annotations.contains_key(INTERFACE_ANNOTATION) => {
                    world.local.extend(&pod.addresses);
                }
                Object::Backends(backends) => {
                    let service = (&*backends.namespace, &*backends.service);
                    world.backends.entry(service).or_default().push(backends);
                }
                _ => {}
            }
        }
        world
    }

    /// A port of a service in one family; None when it is not reached there.
    fn spec(&self, service: &Service, port: &ServicePort, is_ipv6: bool) -> Option<ServiceSpec> {
        let protocol = protocol(port.protocol)?;
        let mut frontends = self.frontends(service, port, protocol);
        frontends.retain(|(frontend, _)| frontend.address.is_ipv6() == is_ipv6);
        if frontends.is_empty() {
            return None;
        }
        let mut backends = self.backends(service, port);
        backends.retain(|backend| backend.address.is_ipv6() == is_ipv6);
        Some(ServiceSpec {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            port_name: port.name.clone(),
            frontends,
            backends,
            affinity: service
                .affinity_seconds
                .map(|seconds| Duration::from_secs(seconds.into())),
            is_external_local: service.external_traffic == TrafficScope::Local,
            is_internal_local: service.internal_traffic == TrafficScope::Local,
        })
    }

    fn frontends(
        &self,
        service: &Service,
        port: &ServicePort,
        protocol: Protocol,
    ) -> Vec<(Frontend, FrontendKind)> {
        let at = |address: &IpAddr, port, kind| {
            let frontend = Frontend {
                address: *address,
                protocol,
                port,
            };
            (frontend, kind)
        };
        // An external address may be one of the node's, which has other ports.
        let external = |address: &IpAddr| match self.node_addresses.contains(address) {
            true => at(address, port.port, FrontendKind::NodePort),
            false => at(address, port.port, FrontendKind::External),
        };
        let own = service.cluster_addresses.iter();
        let mut frontends: Vec<_> = own
            .map(|address| at(address, port.port, FrontendKind::ClusterIp))
            .collect();
        frontends.extend(service.external_addresses.iter().map(external));
        if service.kind == ServiceKind::LoadBalancer {
            frontends.extend(service.balancer_addresses.iter().map(external));
        }
        if let Some(node_port) = port.node_port
            && service.kind != ServiceKind::ClusterIp
        {
            let nodes = self.node_addresses.iter();
            frontends.extend(nodes.map(|address| at(address, node_port, FrontendKind::NodePort)));
        }
        frontends
    }

    /// What stands behind a port: ports of the same name and protocol. [Kubernetes, `EndpointPort`]
    fn backends(&self, service: &Service, port: &ServicePort) -> Vec<Backend> {
        let behind = self.backends.get(&(&*service.namespace, &*service.name));
        let groups = behind.into_iter().flatten().flat_map(|of| &of.groups);
        let mut backends = Vec::new();
        for group in groups {
            let ports = group
                .ports
                .iter()
                .filter(|of| of.name == port.name && of.protocol == port.protocol);
            for number in ports.map(|of| of.port) {
                for endpoint in &group.endpoints {
                    let state = match endpoint.readiness {
                        Readiness::Active => BackendState::Active,
                        Readiness::Terminating => BackendState::Terminating,
                        Readiness::NotReady if service.is_publishing_unready => {
                            BackendState::Active
                        }
                        Readiness::NotReady => continue,
                    };
                    backends.extend(endpoint.addresses.iter().map(|address| Backend {
                        address: *address,
                        port: number,
                        state,
                        is_local: self.local.contains(address),
                    }));
                }
            }
        }
        backends
    }
}

/// None for what no service has.
const fn protocol(protocol: PortProtocol) -> Option<Protocol> {
    match protocol {
        PortProtocol::Tcp => Some(Protocol::Tcp),
        PortProtocol::Udp => Some(Protocol::Udp),
        PortProtocol::Sctp => Some(Protocol::Sctp),
        PortProtocol::Any | PortProtocol::Icmp | PortProtocol::Icmpv6 => None,
    }
}

/// Points at the services that do not get what they claim.
fn warnings(conflicts: &[FrontendConflict], documents: &[Arc<Document>]) -> Vec<String> {
    let mut warnings = Vec::new();
    for conflict in conflicts {
        let is_refused = |document: &&Arc<Document>| match &document.object {
            Object::Service(service) => {
                (&service.namespace, &service.name) == (&conflict.refused.0, &conflict.refused.1)
            }
            _ => false,
        };
        let Some(document) = documents.iter().find(is_refused) else {
            continue;
        };
        let Frontend {
            address,
            protocol,
            port,
        } = conflict.frontend;
        let (namespace, name) = &conflict.holder;
        let protocol = format!("{protocol:?}").to_uppercase();
        let warning = Warning {
            file: document.origin.file.clone(),
            document: document.origin.document,
            field: "spec".to_owned(),
            message: format!(
                "{protocol} port {port} of {address} leads to Service {namespace}/{name} already, \
                 so it does not lead here"
            ),
        };
        warnings.push(warning.to_string());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy::{Settings, parse_documents};

    fn documents(text: &str) -> Vec<Arc<Document>> {
        let parsed = parse_documents("web.yaml", text, &Settings::default());
        parsed
            .expect("a valid file")
            .into_iter()
            .map(Arc::new)
            .collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const NODE: &str = "192.0.2.1";

    const WORLD: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.10, "fd00:96::a"]
  externalIPs: [192.0.2.1, 198.51.100.7]
  externalTrafficPolicy: Local
  sessionAffinity: ClientIP
  ports:
  - {name: http, port: 80, nodePort: 30080}
  - {name: dns, port: 53, protocol: UDP}
status: {loadBalancer: {ingress: [{ip: 203.0.113.5}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-4, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: dns, port: 5353, protocol: UDP}]
endpoints:
- {addresses: [10.0.1.1]}
- {addresses: [10.0.2.1], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.2.2], conditions: {ready: false}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-6, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ["fd00::1"]}]
---
apiVersion: v1
kind: Pod
metadata:
  {name: web-0, namespace: shop, annotations: {portcullis.io/interface: veth0}}
status: {podIPs: [{ip: 10.0.1.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: shop}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: shop}
spec: {type: ExternalName, externalName: a.example, ports: [{port: 80}]}
"#;

    #[test]
    fn documents_become_services_by_port_and_family() {
        let at = |address: &str, protocol, port, kind| {
            let frontend = Frontend {
                address: ip(address),
                protocol,
                port,
            };
            (frontend, kind)
        };
        let behind = |address: &str, port, state, is_local| Backend {
            address: ip(address),
            port,
            state,
            is_local,
        };
        use BackendState::{Active, Terminating};
        use FrontendKind::{ClusterIp, External, NodePort};
        use Protocol::{Tcp, Udp};
        let common = ServiceSpec {
            namespace: "shop".into(),
            name: "web".into(),
            affinity: Some(Duration::from_secs(10_800)),
            is_external_local: true,
            ..ServiceSpec::default()
        };
        let expected = [
            ServiceSpec {
                port_name: "http".into(),
                frontends: vec![
                    at("10.96.0.10", Tcp, 80, ClusterIp),
                    at(NODE, Tcp, 80, NodePort),
                    at("198.51.100.7", Tcp, 80, External),
                    at("203.0.113.5", Tcp, 80, External),
                    at(NODE, Tcp, 30_080, NodePort),
                ],
                backends: vec![
                    behind("10.0.1.1", 8080, Active, true),
                    behind("10.0.2.1", 8080, Terminating, false),
                ],
                ..common.clone()
            },
            ServiceSpec {
                port_name: "http".into(),
                frontends: vec![at("fd00:96::a", Tcp, 80, ClusterIp)],
                backends: vec![behind("fd00::1", 8080, Active, true)],
                ..common.clone()
            },
            ServiceSpec {
                port_name: "dns".into(),
                frontends: vec![
                    at("10.96.0.10", Udp, 53, ClusterIp),
                    at(NODE, Udp, 53, NodePort),
                    at("198.51.100.7", Udp, 53, External),
                    at("203.0.113.5", Udp, 53, External),
                ],
                backends: vec![
                    behind("10.0.1.1", 5353, Active, true),
                    behind("10.0.2.1", 5353, Terminating, false),
                ],
                ..common.clone()
            },
            ServiceSpec {
                port_name: "dns".into(),
                frontends: vec![at("fd00:96::a", Udp, 53, ClusterIp)],
                ..common
            },
        ];
        assert_eq!(specs(&documents(WORLD), &[ip(NODE)]), expected);
    }

    #[test]
    fn endpoints_without_a_selector_serve_as_slices_do() {
        let text = r#"
apiVersion: v1
kind: Service
metadata: {name: old}
spec: {clusterIP: 10.96.0.9, publishNotReadyAddresses: true, ports: [{port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: old}
subsets: [{addresses: [{ip: 10.9.0.1}], notReadyAddresses: [{ip: 10.9.0.2}], ports: [{port: 81}]}]
"#;
        let specs = specs(&documents(text), &[]);
        let backends: Vec<_> = specs
            .iter()
            .flat_map(|spec| &spec.backends)
            .map(|backend| (backend.address, backend.port, backend.state))
            .collect();
        assert_eq!(
            backends,
            [
                (ip("10.9.0.1"), 81, BackendState::Active),
                (ip("10.9.0.2"), 81, BackendState::Active),
            ]
        );
    }

    #[test]
    fn two_services_at_one_place_are_a_warning() {
        let text = r#"
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {type: NodePort, clusterIP: 10.96.0.2, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}
"#;
        let mut services = Services::default();
        let documents = Arc::new(documents(text));
        let nodes = vec![ip(NODE), GATEWAY_IPV4.into(), GATEWAY_IPV6.into()];
        services.update(Arc::clone(&documents), nodes.clone());
        assert_eq!(
            services.conflicts,
            [
                "web.yaml, document 1, spec: TCP port 30080 of 192.0.2.1 leads to Service default/a \
                 already, so it does not lead here"
            ]
        );
        let table = Arc::clone(&services.table);
        services.update(Arc::new(documents.to_vec()), nodes);
        assert!(Arc::ptr_eq(&table, &services.table));
    }
}
