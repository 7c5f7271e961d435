//! What `portcullis status` shows, and what changes while the daemon runs: settings and pods.

use netns_tests::manifests::{ALLOW_FRONTEND, DEFAULT_DENY};
use netns_tests::{Lab, Pod, SOCKET_FILE, eventually};
use serde_json::{Value, json};

fn two_pods() -> Option<(Lab, Pod, Pod)> {
    let lab = Lab::new("")?;
    let api = lab.pod(
        "backend/api",
        &["app=backend"],
        &["10.0.1.10", "fd00:10:1::10"],
    );
    let web = lab.pod("frontend/web", &["app=frontend"], &["10.0.1.11"]);
    api.serve_pages();
    lab.start_daemon();
    Some((lab, api, web))
}

fn gets_page(pod: &Pod) -> bool {
    pod.fetch("http://10.0.1.10/").is_some()
}

fn gets_nothing(pod: &Pod) -> bool {
    pod.gets_nothing("http://10.0.1.10/")
}

fn endpoint_of(status: &Value, name: &str) -> Value {
    let endpoints = status["endpoints"].as_array().expect("endpoints");
    let endpoint = endpoints.iter().find(|endpoint| endpoint["name"] == name);
    let mut endpoint = endpoint
        .unwrap_or_else(|| panic!("no {name} in {status}"))
        .clone();
    for number in ["id", "identity"] {
        let number = endpoint[number].take();
        assert!(number.as_u64().is_some_and(|number| number > 0), "{number}");
    }
    endpoint
}

#[test]
fn machines_read_endpoints_identities_documents_and_generations() {
    let Some((lab, api, _web)) = two_pods() else {
        return;
    };
    lab.apply("default-deny.yaml", DEFAULT_DENY);
    let status = lab.status();
    let status = status.json();
    let labels = [
        "k8s:app=backend",
        "k8s:io.cilium.k8s.policy.cluster=default",
        "k8s:io.cilium.k8s.policy.serviceaccount=default",
        "k8s:io.kubernetes.pod.namespace=backend",
    ];
    assert_eq!(
        endpoint_of(status, "backend/api"),
        json!({
            "id": null,
            "kind": "pod",
            "name": "backend/api",
            "interface": api.interface,
            "addresses": ["10.0.1.10", "fd00:10:1::10"],
            "identity": null,
            "labels": labels,
            "ingress_enforced": true,
            "egress_enforced": false,
            "worker": 0,
            "state": "ready",
        })
    );
    let identities = status["identities"].as_array().expect("identities");
    let backend = identities
        .iter()
        .filter(|identity| identity["labels"] == json!(labels));
    assert_eq!(backend.count(), 1, "{identities:?}");
    let mut node = status["node"].clone();
    let reason = node["xdp_mode_reason"].take();
    assert!(
        reason
            .as_str()
            .is_some_and(|reason| reason.starts_with("tried: ")),
        "{reason}"
    );
    for mode in ["generic", "native"] {
        for rate in ["bytes_per_second", "packets_per_second"] {
            assert!(node["xdp_trial"][mode][rate].as_f64() > Some(0.0), "{node}");
        }
    }
    node["xdp_trial"].take();
    assert!(node["cores_reason"].take().is_string());
    assert_eq!(
        node,
        json!({
            "uplink": "eth0",
            "xdp_mode": "generic",
            "xdp_mode_reason": null,
            "xdp_trial": null,
            "cores_reason": null,
            "checksums": "offload",
            "policy_enforcement_mode": "default",
            "pod_cidrs": ["10.0.1.0/24", "fd00:10:1::/64"],
        })
    );
    let mut documents = status["documents"].clone();
    assert!(
        documents["revision"]
            .take()
            .as_u64()
            .is_some_and(|revision| revision >= 2)
    );
    let expected = json!({"revision": null, "files": 3, "policies": 1, "pods": 2, "namespaces": 0});
    assert_eq!(documents, expected);
    let workers = status["workers"].as_array().expect("workers");
    let applied: Vec<_> = workers.iter().map(|worker| &worker["generation"]).collect();
    assert_eq!(applied, [&status["generation"]]);
    assert_eq!(status["is_ready"], true);
}

#[test]
fn people_read_the_same() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    lab.apply("default-deny.yaml", DEFAULT_DENY);
    assert!(gets_nothing(&web));
    let ran = lab.portcullis(&["status", "--socket", SOCKET_FILE]);
    assert!(ran.is_success, "{ran:?}");
    let starts = |start: &str| {
        let line = ran.stdout.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no line {start:?} in {}", ran.stdout))
    };
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(starts("portcullis ").contains("ready"), "{}", ran.stdout);
    assert!(
        starts("Node ")
            .contains("uplink eth0, XDP generic, checksums offload, enforcement default")
    );
    assert!(starts("Documents ").contains("1 policies, 2 pods"));
    let generation = lab.status().generation();
    let applied = format!("{generation} published; applied by workers: {generation}");
    assert!(starts("Generation ").contains(&applied));
    assert!(starts("Warning ").contains("default-deny.yaml, document 1, spec.ingress"));
    assert!(starts("Worker 0 ").contains(" received "));
    let api = ran
        .stdout
        .lines()
        .find(|line| line.contains(" backend/api "));
    let api = words(api.expect("a line for the pod"));
    assert_eq!(
        (&*api[1], &*api[2], &api[5..]),
        ("pod", "backend/api", &words("enforced open 0 ready")[..])
    );
    let drops = ran.stdout.lines().filter(|line| line.starts_with("Drops "));
    let denied = drops.map(words).find(|words| words[2] == "policy_denied");
    let denied = denied.unwrap_or_else(|| panic!("no denial in {}", ran.stdout));
    assert!(
        denied[1].parse::<u64>().is_ok_and(|count| count > 0),
        "{denied:?}"
    );
}

#[test]
fn a_pod_whose_interface_is_missing_shows_and_is_taken_when_it_comes() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    let late = lab.pod("frontend/late", &["app=frontend"], &["10.0.1.12"]);
    let interface = late.interface.clone();
    lab.edit("pod-frontend-late.yaml", |yaml| {
        yaml.replace(&interface, "later0")
    });
    let status = ["status", "-o", "json", "--socket", SOCKET_FILE];
    eventually("the pod is shown without its interface", || {
        let ran = lab.portcullis(&status);
        let status: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let state = endpoint_of(&status, "frontend/late")["state"].take();
        !ran.is_success && status["is_ready"] == false && state == "waiting for interface later0"
    });
    assert!(gets_nothing(&late));
    assert!(gets_page(&web), "the others go on");
    lab.node.must(&format!("ip link set {interface} down"));
    lab.node
        .must(&format!("ip link set {interface} name later0"));
    lab.await_ready();
    assert!(gets_page(&late));
}

#[test]
fn enforcement_modes_change_while_the_daemon_runs() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    let mode = |mode: &str| {
        lab.edit("config.yaml", |yaml| {
            let kept = yaml
                .lines()
                .filter(|line| !line.starts_with("policyEnforcementMode"));
            let kept: Vec<_> = kept.collect();
            format!("{}\npolicyEnforcementMode: {mode}\n", kept.join("\n"))
        });
        assert_eq!(lab.status().errors(), Vec::<String>::new());
    };
    assert!(gets_page(&web), "default: no policy selects them");
    mode("always");
    assert!(gets_nothing(&web), "always: no policy allows it");
    lab.apply("default-deny.yaml", DEFAULT_DENY);
    mode("never");
    assert!(gets_page(&web), "never: whatever policy says");
    mode("default");
    assert!(gets_nothing(&web), "default: the policy denies it");
}

#[test]
fn settings_that_are_wrong_are_refused_and_the_old_ones_stay() {
    let Some((lab, _api, web)) = two_pods() else {
        return;
    };
    let generation = lab.status().generation();
    lab.edit("config.yaml", |yaml| {
        format!("{yaml}policyEnforcementMode: sometimes\n")
    });
    let errors = lab.status().errors();
    let [error] = &errors[..] else {
        panic!("expected one error, found {errors:?}");
    };
    assert!(error.starts_with("config.yaml"), "{error}");
    assert!(
        error.contains("policyEnforcementMode") && error.contains("sometimes"),
        "{error}"
    );
    assert_eq!(lab.status().generation(), generation);
    assert!(gets_page(&web));
}

#[test]
fn settings_that_need_a_restart_say_so() {
    let Some((lab, _api, _web)) = two_pods() else {
        return;
    };
    lab.edit("config.yaml", |yaml| {
        format!("{yaml}xdpMode: native\nflowsMax: 2048\n")
    });
    let expected = json!(["config.yaml: needs a restart for xdpMode, flowsMax"]);
    assert_eq!(lab.status().json()["warnings"], expected);
    assert_eq!(lab.status().json()["node"]["xdp_mode"], "generic");
}

#[test]
fn a_pod_added_to_a_running_daemon_is_policed_from_its_first_packet() {
    let Some((lab, _api, _web)) = two_pods() else {
        return;
    };
    lab.apply(
        "policies.yaml",
        &format!("{DEFAULT_DENY}\n---\n{ALLOW_FRONTEND}"),
    );
    let friend = lab.pod("frontend/friend", &["app=frontend"], &["10.0.1.21"]);
    let stranger = lab.pod("frontend/stranger", &["app=batch"], &["10.0.1.22"]);
    let server = lab.pod("backend/new", &["app=new"], &["10.0.1.23"]);
    server.serve_pages();
    assert!(gets_page(&friend) && gets_nothing(&stranger));
    assert!(
        friend.gets_nothing("http://10.0.1.23/"),
        "default deny holds for the new server"
    );
    assert!(
        server.can_ping("10.0.1.21"),
        "nothing isolates what goes out of it"
    );
    let status = lab.status();
    let names = [
        "backend/api",
        "backend/new",
        "frontend/friend",
        "frontend/stranger",
        "frontend/web",
    ];
    for name in names {
        assert_eq!(endpoint_of(status.json(), name)["state"], "ready", "{name}");
    }
}

#[test]
fn every_frame_is_back_in_its_place_when_traffic_ends() {
    let Some((lab, api, web)) = two_pods() else {
        return;
    };
    let at_rest = |when: &str| eventually(when, || lab.status().is_memory_at_rest());
    at_rest("before");
    web.place.must("curl --silent --show-error --noproxy * --max-time 30 --output /run/big http://10.0.1.10/big");
    web.send_raw(&vec![vec![0xff; 60]; 200]);
    assert!(api.can_ping("192.0.2.1") && web.cannot_ping("10.0.1.99"));
    at_rest("after bulk, noise, and drops");
    lab.remove_pod(web);
    at_rest("after a pod has gone with its rings");
}
