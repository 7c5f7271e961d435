//! Each kind of verdict on real packets, and what `policy explain` says of the same connection.

use netns_tests::{
    Lab, Place, Pod, Ran, SOCKET_FILE, echo_by_tcp, eventually, manifests::egress_policy,
};
use serde_json::Value;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const API: &str = "10.0.1.10";
const API_V6: &str = "fd00:10:1::10";
const NODE: &str = "192.0.2.1";
const WORLD: &str = "192.0.2.2";
/// Another address of the same host in the world.
const WORLD_TOO: &str = "192.0.2.3";

/// A server, two clients with different labels, a server on the node and one in the world.
struct Cluster {
    lab: Lab,
    web: Pod,
    stranger: Pod,
    /// Holds the namespace of its servers.
    _api: Pod,
}

fn cluster(settings: &str) -> Option<Cluster> {
    let lab = Lab::new(settings)?;
    let api = lab.pod_with(
        "backend/api",
        &["app=backend"],
        &[API, API_V6],
        &["--port", "admin=8080/TCP"],
    );
    let web = lab.pod(
        "frontend/web",
        &["app=frontend"],
        &["10.0.1.11", "fd00:10:1::11"],
    );
    let stranger = lab.pod(
        "frontend/stranger",
        &["app=batch"],
        &["10.0.1.12", "fd00:10:1::12"],
    );
    for port in [80, 8000, 8005, 8009, 8010, 8080] {
        api.echo_by_tcp(port);
    }
    lab.world
        .must(&format!("ip address add {WORLD_TOO}/24 dev eth0"));
    echo_by_tcp(&lab.node, 9000);
    echo_by_tcp(&lab.world, 9000);
    lab.start_daemon();
    let cluster = Cluster {
        lab,
        web,
        stranger,
        _api: api,
    };
    // The first packet to a next hop may have to wait for its MAC address.
    for (place, address) in [
        (&cluster.web.place, WORLD),
        (&cluster.web.place, WORLD_TOO),
        (&cluster.lab.world, API),
        (&cluster.lab.node, API),
        (&cluster.stranger.place, API),
    ] {
        eventually("everybody is found", || {
            does_ping(place, true, &[], address)
        });
    }
    Some(cluster)
}

/// How long a probe waits: for what shall come longer than for what shall not.
fn patience(passes: bool) -> Duration {
    Duration::from_millis(if passes { 10_000 } else { 800 })
}

/// Whether a ping comes back; `passes` is what is expected.
fn does_ping(place: &Place, passes: bool, more: &[&str], address: &str) -> bool {
    let seconds = patience(passes).as_secs_f32().ceil().to_string();
    let mut words = vec!["ping", "-n", "-c", "1", "-i", "0.2", "-w", &seconds];
    words.extend(more);
    words.push(address);
    place.run_words(&words).is_success
}

/// Whether a TCP connection comes about; `passes` is what is expected.
fn does_open(place: &Place, passes: bool, address: &str, port: u16) -> bool {
    let to = SocketAddr::new(address.parse().expect("an address"), port);
    let connecting = place.thread(move || TcpStream::connect_timeout(&to, patience(passes)));
    let connected = connecting.join().expect("connecting does not panic");
    connected.is_ok()
}

/// A policy for the pods of namespace backend.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: \
         backend}}\nspec:\n  endpointSelector: {{}}\n{spec}"
    )
}

/// What `policy explain` answers.
fn explain(lab: &Lab, from: &str, to: &str, port: &str) -> (Ran, Value) {
    let words = [
        "policy",
        "explain",
        "--from",
        from,
        "--to",
        to,
        "--port",
        port,
        "-o",
        "json",
        "--socket",
        SOCKET_FILE,
    ];
    let ran = lab.portcullis(&words);
    let told = serde_json::from_str(&ran.stdout)
        .unwrap_or_else(|e| panic!("{}: {e}: {}{}", words.join(" "), ran.stdout, ran.stderr));
    (ran, told)
}

impl Cluster {
    /// That a connection passes or not, and that `explain` says so.
    #[track_caller]
    fn expect(&self, passes: bool, has_passed: bool, from: &str, to: &str, port: &str) {
        assert_eq!(has_passed, passes, "{from} -> {to} {port}");
        let (ran, told) = explain(&self.lab, from, to, port);
        let verdict = if passes { "FORWARDED" } else { "DROPPED" };
        assert_eq!(told["verdict"], verdict, "{from} -> {to} {port}: {told}");
        assert_eq!(
            ran.is_success, passes,
            "the exit code of {from} -> {to} {port}"
        );
    }

    #[track_caller]
    fn web_opens(&self, passes: bool, port: u16) {
        let has_passed = does_open(&self.web.place, passes, API, port);
        self.expect(
            passes,
            has_passed,
            "frontend/web",
            "backend/api",
            &port.to_string(),
        );
    }

    #[track_caller]
    fn stranger_opens(&self, passes: bool, port: u16) {
        let has_passed = does_open(&self.stranger.place, passes, API, port);
        self.expect(
            passes,
            has_passed,
            "frontend/stranger",
            API,
            &format!("{port}/TCP"),
        );
    }

    #[track_caller]
    fn node_opens(&self, passes: bool) {
        let has_passed = does_open(&self.lab.node, passes, API, 80);
        self.expect(passes, has_passed, "reserved:host", "backend/api", "80/TCP");
    }

    #[track_caller]
    fn world_opens(&self, passes: bool) {
        let has_passed = does_open(&self.lab.world, passes, API, 80);
        self.expect(passes, has_passed, WORLD, "backend/api", "80/TCP");
    }
}

#[test]
fn a_deny_beats_an_allow_whatever_is_more_specific() {
    let Some(cluster) = cluster("") else { return };
    cluster.lab.apply(
        "policy.yaml",
        &policy(
            "mixed",
            "  ingress:
  - fromEndpoints: [{matchLabels: {app: frontend, 'k8s:io.kubernetes.pod.namespace': frontend}}]
    toPorts: [{ports: [{port: '8000', protocol: TCP}]}]
  - fromEntities: [cluster]
    toPorts: [{ports: [{port: '80', protocol: TCP}]}]
  ingressDeny:
  - fromEntities: [all]
    toPorts: [{ports: [{port: '8000', protocol: TCP}]}]
",
        ),
    );
    cluster.web_opens(true, 80);
    cluster.web_opens(false, 8000);
    cluster.web_opens(false, 8005);
    // What `explain` gives as the reason is what `observe` has seen.
    for (port, rule) in [("8000", "ingressDeny[0]"), ("8005", "")] {
        let (_, told) = explain(&cluster.lab, "frontend/web", "backend/api", port);
        let reason = told["ingress"]["reason"].as_str().expect("a reason");
        assert!(
            reason.contains("backend/mixed") && reason.contains(rule),
            "{reason}"
        );
        let seen = cluster
            .lab
            .observe(&format!("--verdict DROPPED --port {port}"));
        assert!(seen.contains(reason), "{reason} in {seen}");
    }
}

#[test]
fn port_ranges_and_named_ports_open_what_they_name() {
    let Some(cluster) = cluster("") else { return };
    cluster.lab.apply(
        "policy.yaml",
        &policy(
            "ports",
            "  ingress:
  - fromEntities: [cluster]
    toPorts: [{ports: [{port: '8000', endPort: 8009, protocol: TCP}]}]
  - fromEndpoints: [{matchLabels: {app: frontend, 'k8s:io.kubernetes.pod.namespace': frontend}}]
    toPorts: [{ports: [{port: admin, protocol: TCP}]}]
",
        ),
    );
    for (port, passes) in [
        (8000, true),
        (8009, true),
        (8010, false),
        (80, false),
        (8080, true),
    ] {
        cluster.web_opens(passes, port);
    }
    cluster.stranger_opens(true, 8005);
    cluster.stranger_opens(false, 8080);
    let (ran, told) = explain(&cluster.lab, "frontend/web", "backend/api", "admin");
    assert!(ran.is_success && told["traffic"] == "8080/TCP", "{told}");
}

#[test]
fn icmp_types_are_told_apart() {
    let Some(cluster) = cluster("") else { return };
    let pings = |passes| {
        for (address, port) in [(API, "8/ICMP"), (API_V6, "128/ICMPv6")] {
            let has_passed = does_ping(&cluster.web.place, passes, &[], address);
            cluster.expect(passes, has_passed, "frontend/web", "backend/api", port);
        }
    };
    let allow = |v4: u8, v6: u8| {
        let icmps = format!(
            "  ingress:\n  - icmps: [{{fields: [{{family: IPv4, type: {v4}}}, {{family: IPv6, type: \
             {v6}}}]}}]\n"
        );
        cluster.lab.apply("policy.yaml", &policy("icmp", &icmps));
    };
    allow(8, 128);
    pings(true);
    cluster.web_opens(false, 80);
    allow(13, 129);
    pings(false);
}

#[test]
fn a_block_with_a_hole_leaves_the_hole_out() {
    let Some(cluster) = cluster("") else { return };
    let block = format!("[{{cidr: 192.0.2.0/24, except: [{WORLD}/32]}}]");
    cluster.lab.apply(
        "out.yaml",
        &egress_policy("frontend", "out", &format!("  - toCIDRSet: {block}")),
    );
    for (address, passes) in [(WORLD, false), (WORLD_TOO, true)] {
        let has_passed = does_open(&cluster.web.place, passes, address, 9000);
        cluster.expect(passes, has_passed, "frontend/web", address, "9000/TCP");
    }
    // The node has an address in the block, but a block means only what lies outside the cluster.
    let has_passed = does_open(&cluster.web.place, false, NODE, 9000);
    cluster.expect(false, has_passed, "frontend/web", NODE, "9000/TCP");
    cluster.lab.apply(
        "in.yaml",
        &policy("in", &format!("  ingress:\n  - fromCIDRSet: {block}\n")),
    );
    for (address, passes) in [(WORLD, false), (WORLD_TOO, true)] {
        let has_passed = does_ping(&cluster.lab.world, passes, &["-I", address], API);
        cluster.expect(passes, has_passed, address, "backend/api", "8/ICMP");
    }
}

#[test]
fn entities_mean_world_host_and_cluster() {
    let Some(cluster) = cluster("allowLocalhost: policy\n") else {
        return;
    };
    // Who gets in: a pod, the node, the world.
    for (entity, expected) in [
        ("world", [false, false, true]),
        ("host", [false, true, false]),
        // The node is a part of it.
        ("cluster", [true, true, false]),
    ] {
        let spec = format!("  ingress:\n  - fromEntities: [{entity}]\n");
        cluster.lab.apply("policy.yaml", &policy("entity", &spec));
        cluster.web_opens(expected[0], 80);
        cluster.node_opens(expected[1]);
        cluster.world_opens(expected[2]);
    }
    cluster.lab.remove("policy.yaml");
    for (entity, expected) in [
        ("world", [false, false, true]),
        ("host", [false, true, false]),
        ("cluster", [true, true, false]),
    ] {
        let rule = format!("  - toEntities: [{entity}]");
        cluster
            .lab
            .apply("out.yaml", &egress_policy("frontend", "out", &rule));
        cluster.web_opens(expected[0], 80);
        for (address, passes) in [(NODE, expected[1]), (WORLD, expected[2])] {
            let has_passed = does_open(&cluster.web.place, passes, address, 9000);
            cluster.expect(passes, has_passed, "frontend/web", address, "9000/TCP");
        }
    }
}

#[test]
fn a_clusterwide_policy_binds_both_directions_in_all_namespaces() {
    let Some(cluster) = cluster("") else { return };
    cluster.lab.apply(
        "wide.yaml",
        "apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: wide}
spec:
  endpointSelector: {}
  ingress:
  - fromEndpoints: [{matchLabels: {app: frontend}}]
    toPorts: [{ports: [{port: '80', protocol: TCP}]}]
  egress:
  - toEndpoints: [{matchLabels: {app: backend}}]
    toPorts: [{ports: [{port: '80', protocol: TCP}, {port: '8000', protocol: TCP}]}]
",
    );
    cluster.web_opens(true, 80);
    // Out, but not in; neither; out, but not from this pod.
    cluster.web_opens(false, 8000);
    cluster.web_opens(false, 8005);
    cluster.stranger_opens(false, 80);
    let has_passed = does_open(&cluster.web.place, false, WORLD, 9000);
    cluster.expect(false, has_passed, "frontend/web", WORLD, "9000/TCP");
    let (_, told) = explain(&cluster.lab, "frontend/web", "backend/api", "8000/TCP");
    assert_eq!(told["egress"]["is_allowed"], true, "{told}");
    assert_eq!(told["ingress"]["is_allowed"], false, "{told}");
}

#[test]
fn an_audited_policy_is_told_and_not_enforced() {
    let Some(cluster) = cluster("") else { return };
    let deny = "  ingressDeny:
  - fromEntities: [all]
    toPorts: [{ports: [{port: '80', protocol: TCP}]}]
";
    let enforced = policy("shut", deny);
    let audited = enforced.replace(
        "namespace: backend}",
        "namespace: backend, annotations: {portcullis.io/enforcement: audit}}",
    );
    let is_audited = || {
        assert!(does_open(&cluster.web.place, true, API, 80));
        let (ran, told) = explain(&cluster.lab, "frontend/web", "backend/api", "80/TCP");
        assert!(ran.is_success && told["verdict"] == "AUDIT", "{told}");
    };
    cluster.lab.apply("policy.yaml", &audited);
    is_audited();
    eventually("the flow is told", || {
        let seen = cluster.lab.observe("--verdict AUDIT --pod frontend/web");
        seen.contains("backend/shut ingressDeny[0]")
    });
    // A default deny has no rule to name, so its policy is named.
    cluster
        .lab
        .apply("policy.yaml", &audited.replace(deny, "  ingress: [{}]\n"));
    is_audited();
    eventually("the policy is named", || {
        let seen = cluster.lab.observe("--verdict AUDIT --pod frontend/web");
        seen.contains("default deny by CiliumNetworkPolicy backend/shut")
    });
    cluster.lab.apply("policy.yaml", &enforced);
    cluster.web_opens(false, 80);
    // And by the node's settings, whatever the policies say.
    cluster.lab.edit("config.yaml", |config| {
        format!("{config}policyAuditMode: true\n")
    });
    is_audited();
    // What the mode denies without any policy is only told, too.
    cluster.lab.edit("config.yaml", |config| {
        format!("{config}policyEnforcementMode: always\n")
    });
    is_audited();
    eventually("the mode is named", || {
        let seen = cluster.lab.observe("--verdict AUDIT --pod frontend/web");
        seen.contains("egress default deny by enforcement mode always (only audited)")
    });
    cluster.lab.edit("config.yaml", |config| {
        config
            .replace("policyAuditMode: true\n", "")
            .replace("policyEnforcementMode: always\n", "")
    });
    cluster.web_opens(false, 80);
}

#[test]
fn rules_count_what_they_decide_over_generations() {
    let Some(cluster) = cluster("") else { return };
    let spec = "  ingress:
  - fromEndpoints: [{matchLabels: {app: frontend, 'k8s:io.kubernetes.pod.namespace': frontend}}]
    toPorts: [{ports: [{port: '80', protocol: TCP}]}]
  - fromEntities: [world]
";
    cluster.lab.apply("policy.yaml", &policy("counted", spec));
    cluster.web_opens(true, 80);
    cluster.web_opens(true, 80);
    // Another document is another generation.
    cluster
        .lab
        .apply("other.yaml", &egress_policy("nowhere", "other", "  - {}"));
    cluster.web_opens(true, 80);
    let connections = || {
        let status = cluster.lab.status();
        let rules = status.json()["rules"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let of = |place: &str| {
            let rule = rules
                .iter()
                .find(|rule| rule["name"] == "counted" && rule["rule"] == place);
            rule.and_then(|rule| rule["connections"].as_u64())
        };
        (of("ingress[0]"), of("ingress[1]"))
    };
    assert_eq!(connections(), (Some(3), Some(0)));
    let ran = cluster
        .lab
        .portcullis(&["policy", "unused", "-o", "json", "--socket", SOCKET_FILE]);
    let unused: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let names = |list: &str, field: &str| -> Vec<String> {
        let list = unused[list].as_array().cloned().unwrap_or_default();
        list.iter()
            .filter_map(|one| one[field].as_str().map(str::to_owned))
            .collect()
    };
    assert!(
        names("rules", "rule").contains(&"ingress[1]".into()),
        "{unused}"
    );
    assert_eq!(
        names("policies_without_pods", "name"),
        ["other"],
        "{unused}"
    );
}
