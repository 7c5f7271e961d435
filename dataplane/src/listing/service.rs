//! Services with what stands behind them, and how many connections each backend has now.

use super::session::frontend_of;
use super::table::{Table, age, place};
use crate::observe::{FlowEnd, Names, protocol_name};
use portcullis_engine::{
    BackendState, FrontendKind, ServiceId, ServicePort, ServiceTable, SessionState, SessionView,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Backends that are counted at one time; more are left out.
const BACKENDS_MAX: usize = 100_000;

/// A port of a service, in one family of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of the port; left out when it is the only one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub port_name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Where it is reached.
    pub frontends: Vec<FrontendView>,
    /// What stands behind it; what has gone too, as long as it has connections.
    pub backends: Vec<BackendView>,
    /// For how long a client keeps its backend.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub affinity_seconds: Option<u64>,
}

/// Where a service is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontendView {
    /// `ClusterIP`, `NodePort` or `External`.
    pub kind: String,
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// What serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendView {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Who is there.
    pub end: FlowEnd,
    /// `active`; `terminating`: keeps what it has; `gone`: is in no EndpointSlice any more.
    pub state: String,
    /// Whether it is a pod of this node.
    pub is_local: bool,
    /// Connections from this node now, those that are closing left out.
    pub connections: u64,
}

/// Connections by service and backend.
#[derive(Debug, Default)]
pub(super) struct Census(HashMap<(ServiceId, IpAddr, u16), u64>);

impl Census {
    /// Counts sessions of services.
    pub fn count(&mut self, services: &ServiceTable, sessions: &[SessionView]) {
        for session in sessions {
            let Some((_, service, _)) = services.find(frontend_of(&session.before)) else {
                continue;
            };
            if session.state == SessionState::Closing {
                continue;
            }
            // A pod that reaches itself has its own address on both sides of the service.
            let after = &session.after;
            let key = (service.id, after.destination, after.destination_port);
            if self.0.len() < BACKENDS_MAX || self.0.contains_key(&key) {
                *self.0.entry(key).or_default() += 1;
            }
        }
    }

    /// All services with their connections.
    pub fn views(mut self, names: &Names) -> Vec<ServiceView> {
        let services = Arc::clone(&names.services);
        services
            .iter()
            .map(|service| self.view(service, names))
            .collect()
    }

    fn view(&mut self, service: &ServicePort, names: &Names) -> ServiceView {
        let protocol = service.frontends.first();
        let mut backends = Vec::new();
        for backend in service.all_backends().all() {
            let key = (service.id, backend.address, backend.port);
            backends.push(BackendView {
                address: backend.address,
                port: backend.port,
                end: names.end_at(backend.address),
                state: match backend.state {
                    BackendState::Active => "active",
                    BackendState::Terminating => "terminating",
                }
                .into(),
                is_local: backend.is_local,
                connections: self.0.remove(&key).unwrap_or_default(),
            });
        }
        let mut gone: Vec<_> = self
            .0
            .iter()
            .filter(|(key, _)| key.0 == service.id)
            .collect();
        gone.sort();
        backends.extend(
            gone.into_iter()
                .map(|((_, address, port), count)| BackendView {
                    address: *address,
                    port: *port,
                    end: names.end_at(*address),
                    state: "gone".into(),
                    is_local: names.pods.contains_key(address),
                    connections: *count,
                }),
        );
        ServiceView {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            port_name: service.port_name.clone(),
            protocol: protocol
                .map(|(frontend, _)| protocol_name(frontend.protocol))
                .unwrap_or_default(),
            frontends: service
                .frontends
                .iter()
                .map(|(frontend, kind)| FrontendView {
                    kind: match kind {
                        FrontendKind::ClusterIp => "ClusterIP",
                        FrontendKind::NodePort => "NodePort",
                        FrontendKind::External => "External",
                    }
                    .into(),
                    address: frontend.address,
                    port: frontend.port,
                })
                .collect(),
            backends,
            affinity_seconds: service.affinity.map(|time| time.as_secs()),
        }
    }
}

/// A table for people: a service has as many lines as it has frontends or backends.
#[must_use]
pub fn services_table(services: &[ServiceView]) -> String {
    let mut table = Table::new(&[
        "SERVICE",
        "PROTOCOL",
        "FRONTEND",
        "KIND",
        "AFFINITY",
        "BACKEND",
        "POD",
        "STATE",
        "CONNECTIONS",
    ]);
    for service in services {
        let mut name = format!("{}/{}", service.namespace, service.name);
        if !service.port_name.is_empty() {
            name = format!("{name}:{}", service.port_name);
        }
        let lines = service.frontends.len().max(service.backends.len()).max(1);
        for line in 0..lines {
            let first = |text: String| if line == 0 { text } else { String::new() };
            let affinity = service
                .affinity_seconds
                .map_or_else(|| "-".into(), |seconds| age(seconds * 1000));
            let mut row = vec![first(name.clone()), first(service.protocol.clone())];
            row.extend(match service.frontends.get(line) {
                Some(frontend) => [
                    place(frontend.address, frontend.port),
                    frontend.kind.clone(),
                ],
                None => Default::default(),
            });
            row.push(first(affinity));
            row.extend(match service.backends.get(line) {
                Some(backend) => [
                    place(backend.address, backend.port),
                    backend.end.name(),
                    backend.state.clone(),
                    backend.connections.to_string(),
                ],
                None => [
                    first("none".into()),
                    String::new(),
                    String::new(),
                    String::new(),
                ],
            });
            table.add(row);
        }
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_engine::{
        Backend, EndpointId, Frontend, Now, ServiceSpec, SessionKind, Traffic, Tuple,
    };
    use portcullis_policy::Protocol;
    use std::time::Duration;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn names() -> Names {
        let backend = |address, state| Backend {
            address: ip(address),
            port: 8080,
            state,
            is_local: true,
        };
        let frontend = Frontend {
            address: ip("10.96.0.10"),
            protocol: Protocol::Tcp,
            port: 80,
        };
        let spec = ServiceSpec {
            namespace: "shop".into(),
            name: "web".into(),
            frontends: vec![(frontend, FrontendKind::ClusterIp)],
            backends: vec![
                backend("10.0.1.1", BackendState::Active),
                backend("10.0.1.2", BackendState::Terminating),
            ],
            affinity: Some(Duration::from_secs(10_800)),
            ..ServiceSpec::default()
        };
        let (services, _) = ServiceTable::new(&[spec], None);
        let pod = ("shop".to_owned(), "web-0".to_owned());
        Names {
            services: Arc::new(services),
            pods: HashMap::from([(ip("10.0.1.1"), pod)]),
            ..Names::default()
        }
    }

    fn session(port: u16, backend: &str, state: SessionState) -> SessionView {
        let before = Tuple {
            protocol: 6,
            source: ip("10.0.1.9"),
            destination: ip("10.96.0.10"),
            source_port: port,
            destination_port: 80,
        };
        SessionView {
            endpoint: EndpointId(1),
            charged: EndpointId(1),
            before,
            after: Tuple {
                destination: ip(backend),
                destination_port: 8080,
                ..before
            },
            kind: SessionKind::Service,
            owner: 0,
            state,
            opened: Now(0),
            seen: Now(0),
            forward: Traffic::default(),
            reply: Traffic::default(),
        }
    }

    #[test]
    fn connections_are_counted_by_backend_also_of_those_that_are_gone() {
        let names = names();
        let mut census = Census::default();
        let sessions = [
            session(1, "10.0.1.1", SessionState::Established),
            session(2, "10.0.1.1", SessionState::Established),
            session(3, "10.0.1.1", SessionState::Closing),
            session(4, "10.0.1.3", SessionState::Established),
        ];
        census.count(&names.services, &sessions);
        let text = services_table(&census.views(&names));
        let expected = "\
SERVICE   PROTOCOL  FRONTEND       KIND       AFFINITY  BACKEND        POD         STATE        CONNECTIONS
shop/web  TCP       10.96.0.10:80  ClusterIP  3h00m     10.0.1.1:8080  shop/web-0  active       2
                                                        10.0.1.2:8080  unknown     terminating  0
                                                        10.0.1.3:8080  unknown     gone         1
";
        assert_eq!(text, expected);
    }
}
