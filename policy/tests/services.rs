//! Services and what stands behind them: what is read, and what is refused.

use portcullis_policy::{
    BackendEndpoint, BackendGroup, BackendPort, Backends, DocumentError, Object, PortProtocol,
    Readiness, Service, ServiceKind, ServicePort, Settings, TargetPort, TrafficScope,
    parse_documents,
};
use std::net::IpAddr;

fn object(text: &str) -> Object {
    let documents = parse_documents("web.yaml", text, &Settings::default());
    let documents = documents.expect("a valid file");
    assert_eq!(documents.len(), 1);
    documents.into_iter().next().unwrap().object
}

fn service(spec: &str) -> Service {
    let text =
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\n{spec}");
    match object(&text) {
        Object::Service(service) => service,
        other => panic!("no service: {other:?}"),
    }
}

fn backends(text: &str) -> Backends {
    match object(text) {
        Object::Backends(backends) => backends,
        other => panic!("no backends: {other:?}"),
    }
}

fn slice(rest: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-1\n  \
         namespace: shop\n  labels: {{kubernetes.io/service-name: web}}\n{rest}"
    )
}

fn errors(text: &str) -> Vec<String> {
    match parse_documents("web.yaml", text, &Settings::default()) {
        Ok(documents) => panic!("accepted: {documents:#?}"),
        Err(errors) => errors.iter().map(DocumentError::to_string).collect(),
    }
}

fn refuses(spec: &str, error: &str) {
    let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\n{spec}");
    assert_eq!(errors(&text), [format!("web.yaml, document 1, {error}")]);
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn empty() -> Service {
    Service {
        namespace: "shop".into(),
        name: "web".into(),
        ..Service::default()
    }
}

#[test]
fn a_service_is_read_as_kubectl_prints_it() {
    let read = service(
        r#"
spec:
  allocateLoadBalancerNodePorts: true
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, "fd00:96::a"]
  externalIPs: [198.51.100.7]
  externalTrafficPolicy: Local
  healthCheckNodePort: 31234
  internalTrafficPolicy: Cluster
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: PreferDualStack
  loadBalancerClass: example.com/fast
  loadBalancerIP: 203.0.113.5
  loadBalancerSourceRanges: [192.0.2.0/24]
  trafficDistribution: PreferClose
  publishNotReadyAddresses: true
  ports:
  - {appProtocol: http, name: http, nodePort: 30080, port: 80, protocol: TCP, targetPort: web}
  - {name: dns, port: 53, protocol: UDP, targetPort: 5353}
  - {name: sctp, port: 9, protocol: SCTP}
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  type: LoadBalancer
status:
  loadBalancer:
    ingress:
    - {ip: 203.0.113.5, ipMode: VIP, ports: [{port: 80, protocol: TCP}]}
    - {ip: 203.0.113.6, ipMode: Proxy}
    - {hostname: lb.example.com}
"#,
    );
    let port = |name: &str, protocol, port, target, node_port| ServicePort {
        name: name.into(),
        protocol,
        port,
        target,
        node_port,
    };
    assert_eq!(
        read,
        Service {
            kind: ServiceKind::LoadBalancer,
            cluster_addresses: vec![ip("10.96.0.10"), ip("fd00:96::a")],
            external_addresses: vec![ip("198.51.100.7")],
            balancer_addresses: vec![ip("203.0.113.5")],
            ports: vec![
                port(
                    "http",
                    PortProtocol::Tcp,
                    80,
                    TargetPort::Named("web".into()),
                    Some(30_080)
                ),
                port("dns", PortProtocol::Udp, 53, TargetPort::Number(5353), None),
                port("sctp", PortProtocol::Sctp, 9, TargetPort::Number(9), None),
            ],
            affinity_seconds: Some(60),
            external_traffic: TrafficScope::Local,
            is_publishing_unready: true,
            ..empty()
        }
    );
}

#[test]
fn what_is_not_said_of_a_service_is_as_in_kubernetes() {
    let read = service("spec: {clusterIP: 10.96.0.1, ports: [{port: 443}]}\n");
    let expected = Service {
        cluster_addresses: vec![ip("10.96.0.1")],
        ports: vec![ServicePort {
            name: String::new(),
            protocol: PortProtocol::Tcp,
            port: 443,
            target: TargetPort::Number(443),
            node_port: None,
        }],
        ..empty()
    };
    assert_eq!(read, expected);
    assert_eq!(service(""), empty());
    let read = service("spec: {sessionAffinity: ClientIP}\n");
    assert_eq!(read.affinity_seconds, Some(10_800));
}

#[test]
fn a_service_that_is_headless_or_only_a_name_has_no_address() {
    for spec in ["{clusterIP: None}", "{clusterIP: None, clusterIPs: [None]}"] {
        let read = service(&format!("spec: {spec}\n"));
        let headless = Service {
            is_headless: true,
            ..empty()
        };
        assert_eq!(read, headless);
    }
    let read = service("spec: {type: ExternalName, externalName: a.example, clusterIP: ''}\n");
    let name = Service {
        kind: ServiceKind::ExternalName,
        ..empty()
    };
    assert_eq!(read, name);
}

#[test]
fn faults_of_a_service_point() {
    refuses(
        "spec: {type: Nodeport}\n",
        "spec.type: expected ClusterIP, NodePort, LoadBalancer or ExternalName, found \"Nodeport\"",
    );
    refuses(
        "spec: {clusterIP: 10.96.0}\n",
        "spec.clusterIP: expected an address, found \"10.96.0\"",
    );
    refuses(
        "spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.2]}\n",
        "spec.clusterIP: expected the first of clusterIPs, found \"10.96.0.1\"",
    );
    refuses(
        "spec: {ports: [{name: a}]}\n",
        "spec.ports[0].port: expected a port, 1 to 65535, found nothing",
    );
    refuses(
        "spec: {ports: [{port: 65536}]}\n",
        "spec.ports[0].port: expected a port, 1 to 65535, found 65536",
    );
    refuses(
        "spec: {ports: [{port: 80, protocol: tcp}]}\n",
        "spec.ports[0].protocol: expected TCP, UDP or SCTP, found \"tcp\"",
    );
    refuses(
        "spec: {ports: [{port: 80, targetPort: -web}]}\n",
        "spec.ports[0].targetPort: expected a port, 1 to 65535, or the name of one, found \"-web\"",
    );
    refuses(
        "spec: {ports: [{port: 80, nodePort: 0}]}\n",
        "spec.ports[0].nodePort: expected a port, 1 to 65535, found 0",
    );
    refuses(
        "spec: {ports: [{port: 80}, {port: 81}]}\n",
        "spec.ports[1]: expected a name that no other port has, where there are several, found \"\"",
    );
    refuses(
        "spec: {sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}}\n",
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds: expected seconds, 1 to 86400, found \
         86401",
    );
    refuses(
        "spec: {sessionAffinity: Client}\n",
        "spec.sessionAffinity: expected None or ClientIP, found \"Client\"",
    );
    refuses(
        "spec: {internalTrafficPolicy: Node}\n",
        "spec.internalTrafficPolicy: expected Cluster or Local, found \"Node\"",
    );
    refuses(
        "status: {loadBalancer: {ingress: [{ip: example}]}}\n",
        "status.loadBalancer.ingress[0].ip: expected an address, found \"example\"",
    );
}

fn endpoint(address: &str, readiness: Readiness, node: Option<&str>) -> BackendEndpoint {
    BackendEndpoint {
        addresses: vec![ip(address)],
        readiness,
        node: node.map(str::to_owned),
    }
}

fn port(name: &str, protocol: PortProtocol, port: u16) -> BackendPort {
    BackendPort {
        name: name.into(),
        protocol,
        port,
    }
}

#[test]
fn a_slice_says_what_is_behind_a_service_and_in_which_state() {
    let read = backends(&slice(
        r#"
addressType: IPv4
endpoints:
- addresses: [10.0.1.1]
  conditions: {ready: true, serving: true, terminating: false}
  hints: {forZones: [{name: a}]}
  hostname: web-0
  nodeName: node-1
  targetRef: {kind: Pod, name: web-0, namespace: shop}
  zone: a
- addresses: [10.0.1.2]
- {addresses: [10.0.1.3], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.1.4], conditions: {ready: false, serving: false, terminating: true}}
- {addresses: [10.0.1.5], conditions: {ready: false, serving: true, terminating: false}}
- {addresses: [10.0.1.6], conditions: {terminating: true}}
- {addresses: [10.0.1.7], conditions: {ready: true, terminating: true}}
ports:
- {appProtocol: http, name: http, port: 8080, protocol: TCP}
- {name: dns, port: 5353, protocol: UDP}
- {name: all}
- {port: 9}
"#,
    ));
    use Readiness::{Active, NotReady, Terminating};
    let endpoints = vec![
        endpoint("10.0.1.1", Active, Some("node-1")),
        endpoint("10.0.1.2", Active, None),
        endpoint("10.0.1.3", Terminating, None),
        endpoint("10.0.1.4", NotReady, None),
        endpoint("10.0.1.5", NotReady, None),
        endpoint("10.0.1.6", Terminating, None),
        endpoint("10.0.1.7", Active, None),
    ];
    let expected = Backends {
        namespace: "shop".into(),
        service: "web".into(),
        addresses: endpoints.iter().map(|of| of.addresses[0]).collect(),
        groups: vec![BackendGroup {
            endpoints,
            ports: vec![
                port("http", PortProtocol::Tcp, 8080),
                port("dns", PortProtocol::Udp, 5353),
                port("", PortProtocol::Tcp, 9),
            ],
        }],
    };
    assert_eq!(read, expected);
}

#[test]
fn a_slice_of_names_has_no_addresses() {
    let read = backends(&slice(
        "addressType: FQDN\nendpoints: [{addresses: [web.example.com]}]\n",
    ));
    assert_eq!(read.addresses, Vec::<IpAddr>::new());
}

#[test]
fn faults_of_a_slice_point() {
    let refuses = |rest: &str, error: &str| {
        assert_eq!(
            errors(&slice(rest)),
            [format!("web.yaml, document 1, {error}")]
        );
    };
    refuses(
        "addressType: ipv4\n",
        "addressType: expected IPv4, IPv6 or FQDN, found \"ipv4\"",
    );
    refuses(
        "addressType: IPv6\nendpoints: [{addresses: [10.0.1.1]}]\n",
        "endpoints[0].addresses[0]: expected an IPv6 address, as addressType says, found \
         \"10.0.1.1\"",
    );
    refuses(
        "endpoints: [{addresses: [10.0.1.1], conditions: {ready: maybe}}]\n",
        "endpoints[0].conditions.ready: expected true or false, found \"maybe\"",
    );
    refuses(
        "ports: [{port: 70000}]\n",
        "ports[0].port: expected a port, 1 to 65535, found 70000",
    );
    refuses(
        "ports: [{port: 80, protocol: HTTP}]\n",
        "ports[0].protocol: expected TCP, UDP or SCTP, found \"HTTP\"",
    );
}

#[test]
fn endpoints_have_a_group_for_each_subset() {
    let read = backends(
        r#"
apiVersion: v1
kind: Endpoints
metadata: {name: web, namespace: shop}
subsets:
- addresses: [{ip: 10.0.1.1, nodeName: node-1, targetRef: {kind: Pod, name: a}}]
  notReadyAddresses: [{ip: 10.0.1.2}]
  ports: [{name: http, port: 8080}]
- addresses: [{ip: 10.0.1.3}]
  ports: [{name: http, port: 9090, protocol: TCP}]
"#,
    );
    let expected = Backends {
        namespace: "shop".into(),
        service: "web".into(),
        addresses: vec![ip("10.0.1.1"), ip("10.0.1.3")],
        groups: vec![
            BackendGroup {
                endpoints: vec![
                    endpoint("10.0.1.1", Readiness::Active, Some("node-1")),
                    endpoint("10.0.1.2", Readiness::NotReady, None),
                ],
                ports: vec![port("http", PortProtocol::Tcp, 8080)],
            },
            BackendGroup {
                endpoints: vec![endpoint("10.0.1.3", Readiness::Active, None)],
                ports: vec![port("http", PortProtocol::Tcp, 9090)],
            },
        ],
    };
    assert_eq!(read, expected);
}
