//! Policies suggested from what was recorded: enforced, they let pass what was recorded, over both
//! families, and nothing else; and replay tells so beforehand.

use netns_tests::manifests::NAMESPACES;
use netns_tests::{Lab, Pod, Ran, SOCKET_FILE, eventually};
use serde_json::Value;
use std::net::SocketAddr;

struct Cluster {
    lab: Lab,
    api: Pod,
    web: Pod,
    job: Pod,
}

const API: [&str; 2] = ["10.0.1.10", "fd00:10:1::10"];

/// Three pods that may all talk; the daemon runs.
fn cluster() -> Option<Cluster> {
    let lab = Lab::new("")?;
    lab.apply("namespaces.yaml", NAMESPACES);
    let api = lab.pod("backend/api", &["app=backend", "version=1"], &API);
    let web = lab.pod(
        "frontend/web",
        &["app=frontend"],
        &["10.0.1.11", "fd00:10:1::11"],
    );
    let job = lab.pod("frontend/job", &["app=batch"], &["10.0.1.12"]);
    api.serve_pages();
    api.serve_pages_on(81);
    api.echo_by_udp(7);
    web.serve_pages();
    lab.start_daemon();
    Some(Cluster { lab, api, web, job })
}

fn echo(host: &str) -> SocketAddr {
    let text = if host.contains(':') {
        format!("[{host}]:7")
    } else {
        format!("{host}:7")
    };
    text.parse().expect("an address")
}

fn page(host: &str) -> String {
    if host.contains(':') {
        format!("http://[{host}]/")
    } else {
        format!("http://{host}/")
    }
}

impl Cluster {
    /// What the demo does all day: pages over both families, UDP, pings, a call back, a fetch from
    /// the node. Whether each works.
    fn talk(&self) -> Vec<(&'static str, bool)> {
        let mut found = Vec::new();
        for host in API {
            found.push(("page", self.web.fetch(&page(host)).is_some()));
            found.push(("ping", self.web.can_ping(host)));
        }
        let answer = self.job.ask_by_udp(echo(API[0]), b"hello");
        found.push(("udp", answer == Some(b"hello".to_vec())));
        found.push(("back", self.api.fetch("http://10.0.1.11/").is_some()));
        found
    }

    fn ask(&self, words: &[&str]) -> Ran {
        let mut all = words.to_vec();
        all.extend(["--socket", SOCKET_FILE]);
        self.lab.portcullis(&all)
    }

    fn suggestion(&self, kind: &str) -> String {
        let ran = self.ask(&["policy", "suggest", "--kind", kind]);
        assert!(ran.is_success, "{}", ran.stderr);
        ran.stdout
    }

    fn replay(&self, file: &str, text: &str, more: &[&str]) -> (bool, Value) {
        let path = format!("/run/{file}");
        self.lab.node.write(&path, text);
        let mut words = vec!["policy", "replay", &path, "-o", "json"];
        words.extend(more);
        let ran = self.ask(&words);
        let value = serde_json::from_str(&ran.stdout);
        (
            ran.is_success,
            value.unwrap_or_else(|e| panic!("{e}: {}", ran.stderr)),
        )
    }

    /// Records take a moment to reach history.
    fn await_records(&self) {
        eventually("what was said last is recorded", || {
            let flows = self
                .lab
                .observe("-o json --from-pod backend/api --to-port 80");
            flows.contains("FORWARDED")
        });
    }
}

fn all(work: &[(&'static str, bool)]) -> bool {
    work.iter().all(|(_, works)| *works)
}

#[test]
fn a_suggestion_lets_pass_what_was_recorded_and_denies_a_scan() {
    let Some(cluster) = cluster() else { return };
    let said = cluster.talk();
    assert!(all(&said), "all is open: {said:?}");
    cluster.await_records();
    let suggested = cluster.suggestion("cilium");
    for part in [
        "name: suggested-backend\n  namespace: backend",
        "name: suggested-batch\n  namespace: frontend",
        "name: suggested-frontend\n  namespace: frontend",
        "port: \"80\"",
        "- type: 8\n        family: IPv4",
        "- type: 128\n        family: IPv6",
    ] {
        assert!(suggested.contains(part), "{part} in\n{suggested}");
    }
    assert!(!suggested.contains("version"), "{suggested}");
    // Before it is in force: nothing that was recorded would change.
    let (is_fine, replay) =
        cluster.replay("new.yaml", &suggested, &["--enforcement-mode", "always"]);
    assert!(is_fine, "{replay}\n{suggested}");
    assert_eq!(replay["newly_denied"], 0, "{replay}");
    assert_eq!(replay["changes"], Value::Array(Vec::new()), "{replay}");
    assert!(replay["connections"].as_u64() >= Some(6), "{replay}");
    // In force, and what no policy allows is denied.
    cluster.lab.apply("suggested.yaml", &suggested);
    cluster.lab.edit("config.yaml", |text| {
        format!("{text}policyEnforcementMode: always\n")
    });
    assert_eq!(cluster.lab.status().errors(), Vec::<String>::new());
    let said = cluster.talk();
    assert!(
        all(&said),
        "what was recorded passes: {said:?}\n{suggested}"
    );
    // The scan of a pod that was seen to ask for an echo alone, and of others where they never were.
    let (job, web, api) = (&cluster.job, &cluster.web, &cluster.api);
    assert!(job.gets_nothing("http://10.0.1.10/"), "{suggested}");
    assert!(job.gets_nothing("http://10.0.1.10:81/"), "{suggested}");
    assert!(job.gets_nothing("http://10.0.1.11/"), "{suggested}");
    assert!(job.cannot_ping("10.0.1.10"), "{suggested}");
    assert!(web.gets_nothing("http://10.0.1.10:81/"), "{suggested}");
    assert!(web.gets_no_answer(echo(API[0]), b"?"), "{suggested}");
    assert!(api.cannot_ping("10.0.1.11"), "{suggested}");
    // What was denied now is no reason to allow it.
    assert_eq!(essence(&cluster.suggestion("cilium")), essence(&suggested));
}

/// A suggestion without its comments, which count.
fn essence(text: &str) -> Vec<&str> {
    let lines = text.lines();
    lines
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect()
}

#[test]
fn replay_tells_what_a_tighter_policy_would_deny_and_a_wider_one_allow() {
    let Some(cluster) = cluster() else { return };
    assert!(all(&cluster.talk()), "all is open");
    cluster.await_records();
    let tight = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: tight, \
                 namespace: backend}\nspec:\n  endpointSelector: {}\n  ingress:\n  - fromEndpoints:\n    \
                 - matchLabels: {app: frontend, 'k8s:io.kubernetes.pod.namespace': frontend}\n";
    let (is_fine, replay) = cluster.replay("tight.yaml", tight, &[]);
    assert!(!is_fine, "something would newly be denied: {replay}");
    let [change] = replay["changes"].as_array().expect("a list").as_slice() else {
        panic!("one change: {replay}");
    };
    for (field, expected) in [
        ("before", "FORWARDED"),
        ("after", "DROPPED"),
        ("from", "frontend/job"),
        ("to", "backend/api"),
        ("traffic", "7/UDP"),
        (
            "reason",
            "ingress default deny by CiliumNetworkPolicy backend/tight",
        ),
    ] {
        assert_eq!(change[field], expected, "{change}");
    }
    let ran = cluster.ask(&["policy", "replay", "/run/tight.yaml"]);
    assert!(!ran.is_success);
    assert!(ran.stdout.starts_with("BEFORE     AFTER"), "{}", ran.stdout);
    assert!(
        ran.stdout
            .contains("would newly be denied, 0 newly allowed"),
        "{}",
        ran.stdout
    );
    // In force, and something is denied; what takes its place allows that again.
    cluster.lab.apply("tight.yaml", tight);
    assert!(cluster.job.gets_no_answer(echo(API[0]), b"?"));
    let wide = tight.replace("app: frontend, ", "");
    eventually(
        "a denial is recorded, which the wider policy would allow",
        || {
            let (_, replay) = cluster.replay("wide.yaml", &wide, &[]);
            replay["newly_allowed"].as_u64() >= Some(1) && replay["newly_denied"] == 0
        },
    );
    // Without any policy all passes again.
    let empty = NAMESPACES;
    let (is_fine, replay) = cluster.replay("none.yaml", empty, &["--replace"]);
    assert!(
        is_fine && replay["newly_allowed"].as_u64() >= Some(1),
        "{replay}"
    );
    let (_, replay) = cluster.replay("none.yaml", empty, &[]);
    assert_eq!(replay["newly_allowed"], 0, "{replay}");
}

#[test]
fn a_suggestion_in_the_words_of_kubernetes_tells_what_it_cannot_say() {
    let Some(cluster) = cluster() else { return };
    assert!(all(&cluster.talk()), "all is open");
    cluster.await_records();
    let ran = cluster.ask(&["policy", "suggest", "--kind", "kubernetes", "-n", "backend"]);
    assert!(ran.is_success, "{}", ran.stderr);
    assert!(ran.stdout.contains("kind: NetworkPolicy"), "{}", ran.stdout);
    assert!(
        !ran.stdout.contains("namespace: frontend\nspec"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stderr.contains("has no word for ICMP"),
        "{}",
        ran.stderr
    );
    cluster
        .lab
        .node
        .write("/run/suggested.yaml", ran.stdout.as_str());
    let check = cluster
        .lab
        .portcullis(&["policy", "check", "/run/suggested.yaml"]);
    assert!(check.is_success, "{}", check.stderr);
    let nobody = cluster.ask(&["policy", "suggest", "-n", "nobody"]);
    assert!(
        !nobody.is_success && nobody.stdout.is_empty(),
        "{}",
        nobody.stdout
    );
}
