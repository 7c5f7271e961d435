//! A node without a dataplane: two pods, a policy, and events that the test makes.

use jiff::{SignedDuration, Timestamp};
use portcullis_engine::{Drop, EndpointId, Record, RecordKind, TcpFlags};
use portcullis_hubble::wire::observer::observer_client::ObserverClient;
use portcullis_hubble::{Agent, AgentLog, ApiSettings, NodeName, Servers, Sources};
use portcullis_observe::{Event, History, Names};
use portcullis_policy::{
    Direction, Generation, IdentityAllocator, NodeFacts, Protocol, Settings, compile,
    parse_documents,
};
use std::net::SocketAddr;
use std::sync::Arc;
use tonic::transport::{Channel, Endpoint};

const DOCUMENTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: frontend}
---
apiVersion: v1
kind: Namespace
metadata: {name: backend}
---
apiVersion: v1
kind: Pod
metadata: {name: web-5d4f8c7b9d-x2x4z, namespace: frontend, labels: {app: web}}
status: {podIP: 10.0.1.11, podIPs: [{ip: 10.0.1.11}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-0, namespace: backend, labels: {app: api}}
status: {podIP: 10.0.1.10, podIPs: [{ip: 10.0.1.10}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: allow-dns, namespace: backend}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: web, io.kubernetes.pod.namespace: frontend}}]
    toPorts: [{ports: [{port: '53', protocol: UDP}]}]
";

const WEB: EndpointId = EndpointId(1);
const API: EndpointId = EndpointId(2);

/// The daemon's place.
pub struct World {
    names: Arc<Names>,
    /// What was seen.
    pub history: Arc<History>,
    /// What the daemon did.
    pub log: Arc<AgentLog>,
}

struct Still(Arc<Names>);

impl Agent for Still {
    fn names(&self) -> Arc<Names> {
        Arc::clone(&self.0)
    }
}

/// The time of the first event.
pub fn start() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().expect("a time")
}

impl World {
    /// A node that remembers so many events.
    pub fn new(capacity: usize) -> Self {
        Self {
            names: Arc::new(names()),
            history: Arc::new(History::new(capacity)),
            log: Arc::new(AgentLog::new(start())),
        }
    }

    /// The world as it is known.
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// What the servers read.
    pub fn sources(&self) -> Sources {
        Sources {
            history: Arc::clone(&self.history),
            agent: Arc::new(Still(Arc::clone(&self.names))),
            node: NodeName {
                name: "node-1".into(),
                cluster: "default".into(),
                started: start(),
            },
            log: Arc::clone(&self.log),
        }
    }

    /// A query of the web that is allowed: three sightings.
    pub fn allowed(&self, second: i64) -> Event {
        self.event(second, Protocol::Udp, 53)
    }

    /// A connection of the web that is denied: three sightings.
    pub fn denied(&self, second: i64) -> Event {
        self.event(second, Protocol::Tcp, 80)
    }

    fn event(&self, second: i64, protocol: Protocol, port: u16) -> Event {
        let names = &self.names;
        let tables = names.tables.as_ref().expect("tables");
        let identity = |namespace, name| {
            tables
                .identity_of_pod(namespace, name)
                .expect("a known pod")
        };
        let web = identity("frontend", "web-5d4f8c7b9d-x2x4z");
        let api = identity("backend", "api-0");
        let judge = |subject, direction, peer| {
            let policy = names.policy_of(subject).expect("a pod of this node");
            Some(tables.judge(policy, direction, peer, protocol, port))
        };
        let ingress = judge(API, Direction::Ingress, web);
        let is_allowed = ingress.is_some_and(|verdict| verdict.decision.is_allowed());
        let record = Record {
            kind: if is_allowed {
                RecordKind::Flow
            } else {
                RecordKind::Drop(Drop::PolicyDenied)
            },
            generation: Generation(1),
            from: Some(WEB),
            to: Some(API),
            source_identity: web,
            destination_identity: api,
            addresses: Some((
                "10.0.1.11".parse().expect("an address"),
                "10.0.1.10".parse().expect("an address"),
            )),
            protocol: Some(protocol),
            ports: (40_000, port),
            egress: judge(WEB, Direction::Egress, api),
            ingress,
            length: 74,
            tcp_flags: TcpFlags(match protocol {
                Protocol::Tcp => TcpFlags::SYN,
                _ => 0,
            }),
            is_reply: Some(false),
            ..Record::BLANK
        };
        let time = start() + SignedDuration::from_secs(second);
        Event::new(time, record, Arc::clone(names))
    }
}

fn names() -> Names {
    let settings = Settings::default();
    let documents = parse_documents("world.yaml", DOCUMENTS, &settings).expect("right documents");
    let facts = NodeFacts {
        pod_cidrs: vec![("10.0.1.0".parse().expect("an address"), 24)],
        ..NodeFacts::default()
    };
    let mut identities = IdentityAllocator::new();
    let tables = compile(
        &documents,
        &facts,
        &settings,
        &mut identities,
        Generation(1),
    );
    let tables = Arc::new(tables.expect("tables"));
    let mut names = Names {
        tables: Some(Arc::clone(&tables)),
        ..Names::default()
    };
    for (id, namespace, name, address) in [
        (WEB, "frontend", "web-5d4f8c7b9d-x2x4z", "10.0.1.11"),
        (API, "backend", "api-0", "10.0.1.10"),
    ] {
        let of = (namespace.to_owned(), name.to_owned());
        let policy = tables.policy_of(namespace, name);
        names
            .endpoints
            .insert(id, (of.0.clone(), of.1.clone(), policy));
        names.pods.insert(address.parse().expect("an address"), of);
    }
    names
}

/// The API of a world, on a socket and a port of its own.
pub struct Served {
    _servers: Servers,
    pub address: SocketAddr,
    directory: std::path::PathBuf,
}

impl Served {
    /// Serves a world.
    pub fn new(world: &World, test: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("hubble-{}-{test}", std::process::id()));
        let servers = Servers::new(|| {}).expect("threads");
        let settings = ApiSettings {
            socket: directory.join("hubble.sock"),
            listen: Some("127.0.0.1:0".parse().expect("an address")),
            tls: None,
        };
        let address = servers.start(&settings, &world.sources()).expect("serves");
        Self {
            _servers: servers,
            address: address.expect("it was asked for"),
            directory,
        }
    }

    /// A client of its own connection.
    pub async fn client(&self) -> ObserverClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        let channel = endpoint.expect("an address").connect().await;
        ObserverClient::new(channel.expect("it is served"))
    }
}

impl std::ops::Drop for Served {
    fn drop(&mut self) {
        // What is left of a test harms nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
