//! `portcullis flows`, `nat` and `service` show what happens: who talks to whom, through what.

use netns_tests::manifests::NAMESPACES;
use netns_tests::{LOG_FILE, Lab, Pod, SOCKET_FILE, echo_by_tcp, eventually, is_echoed};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpStream};

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: api, namespace: backend}
spec:
  clusterIP: 10.96.0.10
  sessionAffinity: ClientIP
  ports: [{port: 80, targetPort: 7}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, namespace: backend, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{port: 7}]
endpoints:
- addresses: [10.0.1.10]
- addresses: [10.0.1.99]
  conditions: {ready: false, serving: true, terminating: true}
";

const ALLOW: &str = "\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: allow-web, namespace: backend}
spec:
  endpointSelector: {matchLabels: {app: backend}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: frontend, k8s:io.kubernetes.pod.namespace: frontend}}]
    toPorts: [{ports: [{port: '7', protocol: TCP}]}]
";

struct Cluster {
    lab: Lab,
    api: Pod,
    web: Pod,
}

/// Two pods, a service before one of them, and a daemon with two workers that masquerades.
fn cluster() -> Option<Cluster> {
    cluster_with("masquerade: true\nworkers: {count: 2}")
}

fn cluster_with(settings: &str) -> Option<Cluster> {
    let lab = Lab::new(settings)?;
    let api = lab.pod("backend/api", &["app=backend"], &["10.0.1.10"]);
    let web = lab.pod("frontend/web", &["app=frontend"], &["10.0.1.11"]);
    lab.apply("namespaces.yaml", NAMESPACES);
    lab.apply("service.yaml", SERVICE);
    lab.apply("allow.yaml", ALLOW);
    api.echo_by_tcp(7);
    lab.start_daemon();
    Some(Cluster { lab, api, web })
}

impl Cluster {
    fn lines(&self, arguments: &str) -> Vec<Value> {
        let text = self.text(&format!("{arguments} -o json"));
        let line = |line| serde_json::from_str(line).expect("one object a line");
        text.lines().map(line).collect()
    }

    #[track_caller]
    fn text(&self, arguments: &str) -> String {
        let mut words: Vec<&str> = arguments.split_whitespace().collect();
        words.extend(["--socket", SOCKET_FILE]);
        let ran = self.lab.portcullis(&words);
        assert!(ran.is_success, "portcullis {arguments}: {}", ran.stderr);
        ran.stdout
    }

    fn connect(&self, to: &str) -> (TcpStream, u16) {
        let to: SocketAddr = to.parse().expect("an address");
        let mut stream = self.web.connect(to).expect("it is let in");
        assert!(is_echoed(&mut stream, b"hello"));
        let port = stream.local_addr().expect("it is bound").port();
        (stream, port)
    }
}

#[test]
fn a_connection_through_a_service_shows_in_all_three() {
    let Some(cluster) = cluster() else { return };
    let (stream, port) = cluster.connect("10.96.0.10:80");

    let flows = cluster.lines("flows --pod frontend/web --protocol tcp");
    let [flow] = &*flows else {
        panic!("one line for both ends: {flows:#?}")
    };
    assert_eq!(
        flow["IP"],
        json!({"source": "10.0.1.11", "destination": "10.0.1.10"})
    );
    assert_eq!(flow["source_port"], port);
    assert_eq!(flow["destination_port"], 7);
    assert_eq!(flow["source"]["pod_name"], "web");
    assert_eq!(flow["destination"]["namespace"], "backend");
    assert_eq!(flow["state"], "established");
    assert!(flow["forward"]["bytes"].as_u64() > Some(5), "{flow:#}");
    let expected = json!({
        "kind": "service",
        "service": {"namespace": "backend", "name": "api"},
        "address": "10.96.0.10",
        "port": 80,
    });
    assert_eq!(flow["via"], expected);
    let rule = &flow["ingress_allowed_by"][0];
    assert_eq!(
        (&rule["name"], &rule["rule"]),
        (&json!("allow-web"), &json!("ingress[0]"))
    );
    assert_eq!(
        flow["reason"],
        "egress: no policy selects it; \
         ingress allowed by CiliumNetworkPolicy backend/allow-web ingress[0]"
    );

    // Each filter leaves it or takes it.
    for (arguments, count) in [
        ("--port 80", 1),
        ("--port 81", 0),
        ("--state established --translated", 1),
        ("--state opening", 0),
        ("--namespace backend", 1),
        ("--namespace elsewhere", 0),
        ("--limit 0", 0),
    ] {
        let found = cluster.lines(&format!("flows --protocol tcp {arguments}"));
        assert_eq!(found.len(), count, "{arguments}: {found:#?}");
    }
    let text = cluster.text("flows --protocol tcp");
    assert!(text.starts_with("PROTOCOL  SOURCE"), "{text}");
    assert!(text.contains("backend/api:7"), "{text}");
    assert!(
        text.contains("via service backend/api 10.96.0.10:80"),
        "{text}"
    );
    let none = cluster.text("flows --port 9");
    assert_eq!(none, "no flows: nothing matches, or is open now\n");

    let sessions = cluster.lines("nat --pod frontend/web");
    let [session] = &*sessions else {
        panic!("{sessions:#?}")
    };
    assert_eq!(session["kind"], "service");
    assert_eq!(session["before"]["destination"], "10.96.0.10");
    assert_eq!(session["after"]["destination_port"], 7);

    let services = cluster.lines("service list --service backend/api");
    let backends = services[0]["backends"].as_array().expect("backends");
    let shown: Vec<_> = backends
        .iter()
        .map(|of| (&of["end"]["pod_name"], &of["state"], &of["connections"]))
        .collect();
    assert_eq!(
        shown,
        [
            (&json!("api"), &json!("active"), &json!(1)),
            (&Value::Null, &json!("terminating"), &json!(0)),
        ]
    );
    assert_eq!(services[0]["affinity_seconds"], 10_800);
    assert!(cluster.text("service").contains("ClusterIP"));

    drop(stream);
    eventually("a connection that ended counts no more", || {
        let services = cluster.lines("service");
        services[0]["backends"][0]["connections"] == 0
    });
}

#[test]
fn what_leaves_under_another_address_shows_with_its_port() {
    let Some(cluster) = cluster() else { return };
    eventually("the world answers", || cluster.web.can_ping("192.0.2.2"));
    let flows = cluster.lines("flows --pod frontend/web --translated");
    let leaves = |flow: &Value| flow["leaves_as"]["address"] == "192.0.2.1";
    assert!(flows.iter().any(leaves), "{flows:#?}");
    let sessions = cluster.lines("nat --egress 192.0.2.1");
    assert_eq!(sessions[0]["kind"], "masquerade");
    let uses = cluster.lines("nat --usage");
    let of = &uses[0];
    assert_eq!(
        (&of["egress"], &of["state"]),
        (&json!("192.0.2.1"), &json!("ok"))
    );
    assert!(of["used"].as_u64() >= Some(1), "{of:#}");
    assert_eq!(of["max"], 4536);
    let text = cluster.text("flows --translated");
    assert!(text.contains("as 192.0.2.1:"), "{text}");
    assert!(text.contains("(masquerade: true)"), "{text}");
}

#[test]
fn a_destination_that_runs_out_of_ports_is_told_and_shown() {
    let Some(cluster) = cluster_with("masquerade: true\nnatPorts: 61000-61003") else {
        return;
    };
    eventually("the world answers", || cluster.web.can_ping("192.0.2.2"));
    echo_by_tcp(&cluster.lab.world, 7);
    let open: Vec<_> = (0..4).map(|_| cluster.connect("192.0.2.2:7")).collect();
    assert!(
        cluster
            .web
            .cannot_connect("192.0.2.2:7".parse().expect("an address"))
    );
    let uses = cluster.lines("nat --usage");
    let of = uses
        .iter()
        .find(|of| of["protocol"] == "TCP")
        .expect("one of TCP");
    assert_eq!(
        (&of["used"], &of["max"], &of["state"]),
        (&json!(4), &json!(4), &json!("exhausted"))
    );
    assert_eq!(of["destination_port"], 7);
    let warning = "192.0.2.1 has no port left, new connections are dropped towards TCP 192.0.2.2:7";
    let is_told = |text: &str| text.contains(warning);
    eventually("status warns of it", || {
        is_told(&cluster.lab.status().json()["warnings"].to_string())
    });
    // It goes on, and is told once a minute.
    for _ in 0..3 {
        assert!(
            cluster
                .web
                .cannot_connect("192.0.2.2:7".parse().expect("an address"))
        );
    }
    let log = cluster.lab.node.read(LOG_FILE);
    assert_eq!(log.matches(warning).count(), 1, "{log}");
    drop(open);
}

#[test]
fn every_bound_shows_in_status() {
    let Some(cluster) = cluster() else { return };
    let (_stream, _) = cluster.connect("10.96.0.10:80");
    let count = |name: &str| {
        let status = cluster.lab.status();
        let limits = status.json()["limits"].as_array().expect("limits").clone();
        let of = limits.iter().filter(|limit| limit["name"] == name);
        let counts = of.map(|limit| {
            assert!(limit["max"].as_u64() > Some(0), "{limit}");
            limit["now"].as_u64().expect("a count")
        });
        counts.sum::<u64>()
    };
    eventually(
        "an entry at each end, a translation, a client that stays",
        || count("flows") >= 2 && count("sessions") >= 1 && count("affinities") == 1,
    );
    assert_eq!(
        count("half_open") + count("held_frames") + count("resets"),
        0
    );
    let text = cluster.text("status");
    assert!(text.contains("\nLIMIT           WORKER"), "{text}");
    assert!(text.contains("\nheld_frames"), "{text}");
}

#[test]
fn without_a_daemon_all_say_so_as_status_does() {
    let Some(lab) = Lab::new("") else { return };
    for command in ["status", "flows", "nat", "service"] {
        let ran = lab.portcullis(&[command, "--socket", SOCKET_FILE]);
        assert!(!ran.is_success, "{command}");
        assert!(
            ran.stderr.contains("Is `portcullis run` running?"),
            "{}",
            ran.stderr
        );
    }
    let ran = lab.portcullis(&["flows", "--state", "open"]);
    assert!(
        ran.stderr.contains("possible values: datagrams, opening"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_pod_that_has_gone_leaves_its_flows_readable() {
    let Some(cluster) = cluster() else { return };
    let (stream, _) = cluster.connect("10.96.0.10:80");
    let Cluster { lab, api, web } = cluster;
    lab.remove_pod(api);
    drop(stream);
    let ran = lab.portcullis(&["flows", "--socket", SOCKET_FILE, "--pod", "frontend/web"]);
    assert!(ran.is_success, "{}", ran.stderr);
    drop(web);
}
