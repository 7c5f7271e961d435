//! A small cluster with policies, and events in it.

use jiff::Timestamp;
use portcullis_engine::{
    Drop, Ending, EndpointId, Frontend, FrontendKind, Record, RecordKind, ServiceSpec,
    ServiceTable, TcpFlags,
};
use portcullis_observe::{Event, Names};
use portcullis_policy::{
    Direction, Generation, Identity, IdentityAllocator, NodeFacts, Protocol, Settings, Tables,
    Verdict, compile, parse_documents,
};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

const DOCUMENTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIPs: [{ip: 10.0.1.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: database, namespace: shop, labels: {app: database}}
status: {podIPs: [{ip: 10.0.1.2}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: database-from-web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: database}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 5432, protocol: TCP}]
";

/// Names of one generation of this cluster.
pub fn names(generation: u64) -> Names {
    let settings = Settings::default();
    let documents = parse_documents("shop.yaml", DOCUMENTS, &settings).unwrap();
    let mut identities = IdentityAllocator::default();
    let tables = compile(
        &documents,
        &NodeFacts::default(),
        &settings,
        &mut identities,
        Generation(generation),
    )
    .unwrap();
    let pod = |name: &str| {
        let policy = tables.policy_of("shop", name);
        ("shop".to_owned(), name.to_owned(), policy)
    };
    Names {
        endpoints: [
            (EndpointId(1), pod("web")),
            (EndpointId(2), pod("database")),
        ]
        .into(),
        pods: [("10.0.1.1", "web"), ("10.0.1.2", "database")]
            .map(|(address, name)| (ip(address), ("shop".to_owned(), name.to_owned())))
            .into(),
        tables: Some(Arc::new(tables)),
        services: Arc::new(services()),
        ..Names::default()
    }
}

/// The database is reached under another port, too.
fn services() -> ServiceTable {
    let frontend = Frontend {
        address: ip("10.0.1.2"),
        protocol: Protocol::Tcp,
        port: 22,
    };
    let spec = ServiceSpec {
        namespace: "shop".into(),
        name: "database".into(),
        frontends: vec![(frontend, FrontendKind::ClusterIp)],
        ..ServiceSpec::default()
    };
    ServiceTable::new(&[spec], None).0
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tables(names: &Names) -> &Tables {
    names.tables.as_deref().unwrap()
}

/// Event `number`, of second `number`: its length is its number. All that there is in turn: allowed,
/// denied by default, revoked, ended, from the world. Every hundred of them there is a new generation.
pub fn event(number: u32) -> Event {
    static GENERATIONS: LazyLock<Vec<Arc<Names>>> =
        LazyLock::new(|| (0..4).map(|number| Arc::new(names(number))).collect());
    let generation = u64::from(number / 100 % 4);
    let names = Arc::clone(&GENERATIONS[usize::try_from(generation).unwrap()]);
    let judge = |subject: &str, direction, peer: Identity, port| -> Verdict {
        let policy = tables(&names).policy_of("shop", subject).unwrap();
        tables(&names).judge(policy, direction, peer, Protocol::Tcp, port)
    };
    let web = tables(&names).identity_of_pod("shop", "web").unwrap();
    let database = tables(&names).identity_of_pod("shop", "database").unwrap();
    let port = if number.is_multiple_of(3) { 5432 } else { 22 };
    let ingress = judge("database", Direction::Ingress, web, port);
    let kind = match (ingress.decision.is_allowed(), number % 4) {
        (true, 0) => RecordKind::Flow,
        (true, 1) => RecordKind::Update,
        (true, _) => RecordKind::End(Ending::Finished),
        (false, 0) => RecordKind::Revoked(Drop::PolicyDenied),
        // A denial that is only reported.
        (false, 1) => RecordKind::Flow,
        (false, _) => RecordKind::Drop(Drop::PolicyDenied),
    };
    let mut record = Record {
        kind,
        generation: Generation(generation),
        from: Some(EndpointId(1)),
        to: Some(EndpointId(2)),
        source_identity: web,
        destination_identity: database,
        addresses: Some((ip("10.0.1.1"), ip("10.0.1.2"))),
        protocol: Some(Protocol::Tcp),
        ports: (40_000, port),
        egress: Some(judge("web", Direction::Egress, database, port)),
        ingress: Some(ingress),
        length: number,
        tcp_flags: TcpFlags(2),
        is_reply: Some(false),
        ..Record::BLANK
    };
    if number % 7 == 6 {
        let world = tables(&names).identity_of(ip("192.0.2.1"));
        (record.from, record.source_identity, record.egress) = (None, world, None);
        record.addresses = Some((ip("192.0.2.1"), ip("10.0.1.2")));
        record.ingress = Some(judge("database", Direction::Ingress, world, port));
        record.kind = RecordKind::Drop(Drop::PolicyDenied);
    }
    let time = Timestamp::from_second(i64::from(number)).unwrap();
    Event::new(time, record, names)
}
