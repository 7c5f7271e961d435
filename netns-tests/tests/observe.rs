//! What `portcullis observe` shows: live and of the past, filtered, for people and for machines.

use netns_tests::manifests::{ALLOW_FRONTEND, DEFAULT_DENY, egress_policy};
use netns_tests::{Follower, Lab, Pod, eventually, is_echoed};
use serde_json::{Value, json};

struct Cluster {
    lab: Lab,
    api: Pod,
    web: Pod,
    stranger: Pod,
}

/// Three pods that may all talk, and a daemon.
fn cluster() -> Option<Cluster> {
    let lab = Lab::new("")?;
    let api = lab.pod(
        "backend/api",
        &["app=backend"],
        &["10.0.1.10", "fd00:10:1::10"],
    );
    let web = lab.pod(
        "frontend/web",
        &["app=frontend"],
        &["10.0.1.11", "fd00:10:1::11"],
    );
    let stranger = lab.pod("frontend/stranger", &["app=batch"], &["10.0.1.12"]);
    api.serve_pages();
    api.echo_by_tcp(7);
    lab.start_daemon();
    Some(Cluster {
        lab,
        api,
        web,
        stranger,
    })
}

fn gets_page(pod: &Pod) -> bool {
    pod.fetch("http://10.0.1.10/").is_some()
}

fn gets_nothing(pod: &Pod) -> bool {
    pod.gets_nothing("http://10.0.1.10/")
}

fn flows(lab: &Lab, arguments: &str) -> Vec<Value> {
    let lines = lab.observe(&format!("-o json {arguments}"));
    let flow = |line| serde_json::from_str(line).expect("one object a line");
    lines.lines().map(flow).collect()
}

/// Waits for flows that match: records take a moment to reach the observer.
fn awaited_flows(lab: &Lab, arguments: &str) -> Vec<Value> {
    let mut found = Vec::new();
    eventually(&format!("observe {arguments} shows something"), || {
        found = flows(lab, arguments);
        !found.is_empty()
    });
    found
}

/// A flow without what differs from run to run.
fn essence(flow: &Value) -> Value {
    let mut flow = flow.clone();
    let object = flow.as_object_mut().expect("an object");
    for key in [
        "time",
        "source_port",
        "length",
        "generation",
        "number",
        "uuid",
        "node_name",
        "event",
        "event_type",
        "tcp_flags",
    ] {
        assert!(object.remove(key).is_some(), "{key}");
    }
    // Of what was dropped nobody knows, and of what was not it has none; others are of this run.
    for key in ["is_reply", "drop_reason_desc", "interface", "ethernet"] {
        object.remove(key);
    }
    for end in ["source", "destination"] {
        let identity = object[end]["identity"].take();
        assert!(
            identity.as_u64().is_some_and(|number| number > 0),
            "{end}: {identity}"
        );
    }
    flow
}

fn end(namespace: &str, name: &str, app: &str) -> Value {
    json!({
        "identity": null,
        "namespace": namespace,
        "pod_name": name,
        "labels": [
            format!("k8s:app={app}"),
            "k8s:io.cilium.k8s.policy.cluster=default",
            "k8s:io.cilium.k8s.policy.serviceaccount=default",
            format!("k8s:io.kubernetes.pod.namespace={namespace}"),
        ],
    })
}

#[test]
fn a_flow_shows_while_one_watches() {
    let Some(cluster) = cluster() else { return };
    let machine = Follower::observe(&cluster.lab, "machine", "-o json --pod frontend/web");
    let person = Follower::observe(&cluster.lab, "person", "--verdict DROPPED --protocol tcp");
    // A follower sees what comes after it: so ask until one of the requests did.
    eventually("a new flow shows", || {
        assert!(gets_page(&cluster.web));
        machine.text().contains("\"FORWARDED\"")
    });
    assert_eq!(person.text(), "", "nothing was dropped yet");
    cluster.lab.apply("default-deny.yaml", DEFAULT_DENY);
    eventually("a drop shows, to both", || {
        assert!(gets_nothing(&cluster.web));
        machine.text().contains("\"DROPPED\"") && person.text().contains(" DROPPED ")
    });
    assert!(gets_nothing(&cluster.stranger));
    eventually("another pod's drop shows", || {
        person.text().contains("frontend/stranger")
    });
    assert!(!machine.text().contains("stranger"), "{}", machine.text());
    for line in machine.text().lines() {
        let flow: Value = serde_json::from_str(line).expect("whole lines");
        assert_eq!(flow["source"]["pod_name"], "web", "{flow}");
    }
}

#[test]
fn an_allowed_flow_names_who_and_the_rule_that_allowed_it() {
    let Some(cluster) = cluster() else { return };
    cluster.lab.apply(
        "policies.yaml",
        &format!("{DEFAULT_DENY}\n---\n{ALLOW_FRONTEND}"),
    );
    assert!(gets_page(&cluster.web));
    let found = awaited_flows(&cluster.lab, "--verdict FORWARDED --port 80");
    let expected = json!({
        "verdict": "FORWARDED",
        "IP": {"source": "10.0.1.11", "destination": "10.0.1.10"},
        "protocol": "TCP",
        "destination_port": 80,
        "source": end("frontend", "web", "frontend"),
        "destination": end("backend", "api", "backend"),
        "traffic_direction": "ingress",
        "ingress_allowed_by": [{
            "kind": "CiliumNetworkPolicy",
            "namespace": "backend",
            "name": "allow-frontend",
            "rule": "ingress[0]",
            "file": "policies.yaml, document 2",
        }],
        "reason": "egress: no policy selects it; ingress allowed by \
                   CiliumNetworkPolicy backend/allow-frontend ingress[0]",
    });
    assert_eq!(found.iter().map(essence).collect::<Vec<_>>(), [expected]);
}

#[test]
fn a_denied_packet_names_who_and_the_documents_that_denied_it() {
    let Some(cluster) = cluster() else { return };
    cluster.lab.apply(
        "policies.yaml",
        &format!("{DEFAULT_DENY}\n---\n{ALLOW_FRONTEND}"),
    );
    assert!(gets_nothing(&cluster.stranger));
    let found = awaited_flows(&cluster.lab, "--verdict DROPPED --port 80");
    let policy = |name: &str, document: u32| {
        json!({
            "kind": "CiliumNetworkPolicy",
            "namespace": "backend",
            "name": name,
            "file": format!("policies.yaml, document {document}"),
        })
    };
    let expected = json!({
        "verdict": "DROPPED",
        "drop_reason": "policy_denied",
        "IP": {"source": "10.0.1.12", "destination": "10.0.1.10"},
        "protocol": "TCP",
        "destination_port": 80,
        "source": end("frontend", "stranger", "batch"),
        "destination": end("backend", "api", "backend"),
        "traffic_direction": "ingress",
        "ingress_denied_by": [policy("default-deny", 1), policy("allow-frontend", 2)],
        "reason": "ingress default deny by CiliumNetworkPolicy backend/default-deny, \
                   CiliumNetworkPolicy backend/allow-frontend",
    });
    assert_eq!(essence(&found[0]), expected);
}

#[test]
fn a_packet_that_may_not_leave_names_the_policy_of_its_sender() {
    let Some(cluster) = cluster() else { return };
    cluster
        .lab
        .apply("in.yaml", &egress_policy("frontend", "stay-in", "  - {}"));
    assert!(gets_nothing(&cluster.web));
    let found = awaited_flows(
        &cluster.lab,
        "--verdict DROPPED --pod frontend/web --protocol tcp",
    );
    let flow = &found[0];
    assert_eq!(
        [&flow["traffic_direction"], &flow["egress_denied_by"]],
        [
            &json!("egress"),
            &json!([{
                "kind": "CiliumNetworkPolicy",
                "namespace": "frontend",
                "name": "stay-in",
                "file": "in.yaml, document 1",
            }])
        ],
        "{flow}"
    );
    assert_eq!(flow["egress_allowed_by"], Value::Null, "{flow}");
}

#[test]
fn a_connection_that_new_policy_cuts_is_told_as_such() {
    let Some(cluster) = cluster() else { return };
    let echo = "10.0.1.10:7".parse().expect("an address");
    let mut open = cluster.web.connect(echo).expect("all is open");
    assert!(is_echoed(&mut open, b"before"));
    cluster.lab.apply("default-deny.yaml", DEFAULT_DENY);
    assert!(!is_echoed(&mut open, b"after"));
    let found = awaited_flows(&cluster.lab, "--verdict DROPPED --port 7");
    let cut = found.iter().find(|flow| flow["revoked"] == true);
    let cut = cut.unwrap_or_else(|| panic!("none is revoked: {found:?}"));
    let reason = cut["reason"].as_str().expect("words");
    assert!(reason.starts_with("cut by new policy; "), "{reason}");
    assert_eq!(cut["ingress_denied_by"][0]["name"], "default-deny", "{cut}");
}

#[test]
fn what_is_asked_for_is_what_is_shown() {
    let Some(cluster) = cluster() else { return };
    cluster.lab.apply(
        "policies.yaml",
        &format!("{DEFAULT_DENY}\n---\n{ALLOW_FRONTEND}"),
    );
    cluster.api.echo_by_udp(9);
    assert!(
        gets_page(&cluster.web)
            && gets_nothing(&cluster.stranger)
            && cluster.web.cannot_ping("fd00:10:1::10")
    );
    let udp = "10.0.1.10:9".parse().expect("an address");
    assert!(cluster.web.gets_no_answer(udp, b"?"));
    assert!(cluster.web.cannot_ping("10.0.1.99"));
    for (arguments, is_meant) in [
        (
            "--verdict FORWARDED",
            &(|f: &Value| f["verdict"] == "FORWARDED") as &dyn Fn(&Value) -> bool,
        ),
        ("--verdict dropped", &|f| f["verdict"] == "DROPPED"),
        ("--pod frontend/web", &|f| {
            f["source"]["pod_name"] == "web" || f["destination"]["pod_name"] == "web"
        }),
        ("--pod stranger", &|f| f["source"]["pod_name"] == "stranger"),
        ("--pod backend/", &|f| {
            f["destination"]["namespace"] == "backend" || f["source"]["namespace"] == "backend"
        }),
        ("--protocol udp", &|f| f["protocol"] == "UDP"),
        ("--protocol icmp", &|f| {
            f["protocol"] == "ICMPv4" || f["protocol"] == "ICMPv6"
        }),
        ("--protocol icmpv6", &|f| f["protocol"] == "ICMPv6"),
        ("--port 9", &|f| f["destination_port"] == 9),
        ("--drop-reason identity_unknown", &|f| {
            f["drop_reason"] == "identity_unknown"
        }),
        ("--verdict FORWARDED --pod web --to-port 80", &|f| {
            f["verdict"] == "FORWARDED"
                && f["source"]["pod_name"] == "web"
                && f["destination_port"] == 80
        }),
    ] {
        let found = awaited_flows(&cluster.lab, arguments);
        let not_meant: Vec<_> = found.iter().filter(|flow| !is_meant(flow)).collect();
        assert_eq!(not_meant, Vec::<&Value>::new(), "{arguments}");
    }
    assert_eq!(
        flows(&cluster.lab, "--pod nobody/at-all"),
        Vec::<Value>::new()
    );
    // Of TCP alone: kernels announce themselves by ICMPv6 whenever they like.
    let all = flows(&cluster.lab, "--protocol tcp");
    let last = flows(&cluster.lab, "--protocol tcp --last 2");
    assert_eq!(last, all[all.len() - 2..], "nothing happened in between");
}

#[test]
fn people_read_who_what_verdict_and_why_in_one_line() {
    let Some(cluster) = cluster() else { return };
    cluster.lab.apply(
        "policies.yaml",
        &format!("{DEFAULT_DENY}\n---\n{ALLOW_FRONTEND}"),
    );
    assert!(gets_page(&cluster.web) && gets_nothing(&cluster.stranger));
    awaited_flows(&cluster.lab, "--verdict DROPPED --port 80");
    let text = cluster.lab.observe("--port 80");
    let line = |word: &str| {
        let line = text.lines().find(|line| line.contains(word));
        line.unwrap_or_else(|| panic!("no {word} in {text}"))
    };
    for (word, parts) in [
        (
            " FORWARDED ",
            [
                ": frontend/web:",
                " -> backend/api:80 (ID:",
                " TCP FORWARDED (",
                "allow-frontend ingress[0])",
            ],
        ),
        (
            " DROPPED ",
            [
                ": frontend/stranger:",
                " -> backend/api:80 (ID:",
                " TCP DROPPED [policy_denied] (",
                "default-deny",
            ],
        ),
    ] {
        for part in parts {
            assert!(line(word).contains(part), "{part} in {}", line(word));
        }
    }
}
