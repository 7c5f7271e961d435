//! What the past is asked: flags and formats of observe, why, top.

use netns_tests::manifests::{ALLOW_FRONTEND, DEFAULT_DENY};
use netns_tests::{Lab, Pod, Ran, SOCKET_FILE, eventually};
use serde_json::Value;

struct Cluster {
    lab: Lab,
    web: Pod,
    stranger: Pod,
}

/// A backend that only the frontend reaches; both tried.
fn cluster() -> Option<Cluster> {
    cluster_with("")
}

fn cluster_with(settings: &str) -> Option<Cluster> {
    let lab = Lab::new(settings)?;
    let api = lab.pod("backend/api", &["app=backend"], &["10.0.1.10"]);
    let web = lab.pod("frontend/web", &["app=frontend"], &["10.0.1.11"]);
    let stranger = lab.pod("frontend/stranger", &["app=batch"], &["10.0.1.12"]);
    api.serve_pages();
    lab.start_daemon();
    lab.apply(
        "policies.yaml",
        &format!("{DEFAULT_DENY}\n---\n{ALLOW_FRONTEND}"),
    );
    let cluster = Cluster { lab, web, stranger };
    for _ in 0..3 {
        assert!(cluster.web.fetch("http://10.0.1.10/").is_some());
    }
    assert!(cluster.stranger.gets_nothing("http://10.0.1.10/"));
    eventually("all is recorded", || {
        cluster.flows("--verdict FORWARDED --to-port 80").len() == 3
            && !cluster.flows("--verdict DROPPED --to-port 80").is_empty()
    });
    Some(cluster)
}

impl Cluster {
    fn ask(&self, words: &str) -> Ran {
        let mut all: Vec<&str> = words.split_whitespace().collect();
        all.extend(["--socket", SOCKET_FILE]);
        self.lab.portcullis(&all)
    }

    #[track_caller]
    fn must(&self, words: &str) -> String {
        let ran = self.ask(words);
        assert!(ran.is_success, "{words}: {}", ran.stderr);
        ran.stdout
    }

    fn flows(&self, arguments: &str) -> Vec<Value> {
        let text = self.must(&format!("observe -o json {arguments}"));
        let flow = |line| serde_json::from_str(line).expect("one object a line");
        text.lines().map(flow).collect()
    }
}

#[test]
fn filters_of_hubble_find_what_they_name_and_not_turns_them_round() {
    let Some(cluster) = cluster() else { return };
    let all = cluster.flows("--protocol tcp");
    let is_from = |flow: &Value, pod: &str| flow["source"]["pod_name"] == pod;
    for (arguments, is_meant) in [
        (
            "--from-pod frontend/web",
            &(|f: &Value| is_from(f, "web")) as &dyn Fn(&Value) -> bool,
        ),
        ("--from-pod web", &|f| is_from(f, "web")),
        ("--to-pod backend/ --not --from-pod web", &|f| {
            is_from(f, "stranger")
        }),
        ("-n backend --from-label app=batch", &|f| {
            is_from(f, "stranger")
        }),
        ("-l app=frontend", &|f| is_from(f, "web")),
        ("--from-ip 10.0.1.11/32 --to-ip 10.0.1.10", &|f| {
            is_from(f, "web")
        }),
        ("--not --ip 10.0.1.11", &|f| is_from(f, "stranger")),
        ("--drop-reason-desc POLICY_DENIED", &|f| {
            is_from(f, "stranger")
        }),
        ("--not --drop-reason policy_denied", &|f| is_from(f, "web")),
        ("-t drop", &|f| is_from(f, "stranger")),
        ("-t trace:to-endpoint", &|f| is_from(f, "web")),
        ("--tcp-flags SYN --verdict FORWARDED", &|f| {
            is_from(f, "web")
        }),
        ("--traffic-direction ingress --workload Pod/web", &|f| {
            is_from(f, "web")
        }),
        ("--from-workload stranger", &|f| is_from(f, "stranger")),
    ] {
        let found = cluster.flows(&format!("--protocol tcp {arguments}"));
        let expected: Vec<_> = all.iter().filter(|flow| is_meant(flow)).cloned().collect();
        assert_eq!(found, expected, "{arguments}");
        assert!(!found.is_empty(), "{arguments}");
    }
    let identity = &all[0]["source"]["identity"];
    let of = cluster.flows(&format!("--protocol tcp --from-identity {identity}"));
    assert!(
        of.len() >= 3 && of.iter().all(|flow| is_from(flow, "web")),
        "{of:?}"
    );
    for nothing in [
        "--from-port 80",
        "--fqdn example.com",
        "--service a/b",
        "-t l7",
        "--until 1h",
    ] {
        assert_eq!(
            cluster.flows(&format!("--protocol tcp {nothing}")),
            [] as [Value; 0],
            "{nothing}"
        );
    }
}

#[test]
fn the_first_the_last_and_a_span_are_told_in_order() {
    let Some(cluster) = cluster() else { return };
    let all = cluster.flows("--protocol tcp");
    assert_eq!(cluster.flows("--protocol tcp --all --since 1h"), all);
    assert_eq!(cluster.flows("--protocol tcp --first 2"), all[..2]);
    assert_eq!(
        cluster.flows("--protocol tcp --last 2"),
        all[all.len() - 2..]
    );
    assert_eq!(cluster.flows("--protocol tcp --last 0"), [] as [Value; 0]);
    let second = all[1]["time"].as_str().expect("a time");
    let since = cluster.flows(&format!("--protocol tcp --since {second}"));
    assert_eq!(since, all[1..]);
    let until = cluster.flows(&format!("--protocol tcp --until {second}"));
    assert_eq!(until, all[..2]);
    for wrong in [
        "observe --first 1 --last 1",
        "observe --not",
        "observe --label a=(",
        "observe --drop-reason nonsense",
        "observe --field-mask time",
        "observe -f -o table",
    ] {
        let ran = cluster.ask(wrong);
        assert!(
            !ran.is_success && !ran.stderr.is_empty(),
            "{wrong}: {}",
            ran.stdout
        );
    }
}

#[test]
fn formats_are_hubbles() {
    let Some(cluster) = cluster() else { return };
    let one = "observe --from-pod web --to-port 80 -t trace --first 1";
    let compact = cluster.must(&format!(
        "{one} -o compact --print-policy-names --print-node-name"
    ));
    for part in [
        "]: frontend/web:",
        " -> backend/api:80 (ID:",
        ") to-endpoint FORWARDED (TCP Flags: SYN)\n",
    ] {
        assert!(compact.contains(part), "{part} in {compact}");
    }
    let verdict = cluster.must(
        "observe --from-pod web --to-port 80 -t policy-verdict --first 2 -o compact --print-policy-names",
    );
    let by = ") policy-verdict:L3-L4 INGRESS ALLOWED BY allow-frontend (CiliumNetworkPolicy) (TCP Flags: SYN)\n";
    assert!(verdict.ends_with(by), "{verdict}");
    let numeric = cluster.must(&format!(
        "{one} -o compact --numeric --time-format rfc3339nano"
    ));
    assert!(
        numeric.contains("Z: 10.0.1.11:") && numeric.contains(" 10.0.1.10:80 "),
        "{numeric}"
    );
    assert_eq!(
        numeric,
        cluster.must(&format!(
            "{one} -o compact --ip-translation=false --time-format RFC3339Nano"
        ))
    );
    let dict = cluster.must(&format!("{one} -o dict"));
    let titles: Vec<_> = dict
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    let expected = [
        "  TIMESTAMP",
        "     SOURCE",
        "DESTINATION",
        "       TYPE",
        "    VERDICT",
        "    SUMMARY",
    ];
    assert_eq!(titles, expected);
    let table = cluster.must("observe -o table --to-port 80");
    assert!(table.starts_with("TIMESTAMP "), "{table}");
    let dropped = cluster.must("observe -o compact --verdict DROPPED --to-port 80 --last 1");
    assert!(dropped.contains(" <> backend/api:80 "), "{dropped}");
    assert!(
        dropped.contains(" Policy denied DROPPED (TCP Flags: SYN; ingress default deny: none of "),
        "{dropped}"
    );
    let verdict = one.replace("-t trace", "-t policy-verdict --traffic-direction ingress");
    let pb = cluster.must(&format!("{verdict} -o jsonpb"));
    let pb: Value = serde_json::from_str(&pb).expect("JSON");
    let flow = &pb["flow"];
    for (found, expected) in [
        (&flow["verdict"], "FORWARDED"),
        (&flow["source"]["pod_name"], "web"),
        (&flow["Type"], "L3_L4"),
        (&flow["traffic_direction"], "INGRESS"),
        (&flow["IP"]["ipVersion"], "IPv4"),
        (&flow["ingress_allowed_by"][0]["name"], "allow-frontend"),
    ] {
        assert_eq!(*found, expected, "{pb}");
    }
    assert_eq!(flow["l4"]["TCP"]["destination_port"], 80, "{pb}");
    assert_eq!(flow["l4"]["TCP"]["flags"]["SYN"], true, "{pb}");
    let masked = cluster.must(&format!(
        "{one} -o json --field-mask verdict,source.pod_name"
    ));
    let masked: Value = serde_json::from_str(&masked).expect("JSON");
    let expected = serde_json::json!({"source": {"pod_name": "web"}, "verdict": "FORWARDED"});
    assert_eq!(masked, expected);
}

#[test]
fn why_names_who_selects_whom_and_the_rule_that_nearly_allowed() {
    let Some(cluster) = cluster() else { return };
    let dropped = &cluster.flows("--verdict DROPPED --to-port 80 --last 1")[0];
    let (number, uuid) = (
        &dropped["number"],
        dropped["uuid"].as_str().expect("a name"),
    );
    let text = cluster.must(&format!("why {number}"));
    for part in [
        "frontend/stranger",
        "k8s:app=batch",
        "selected by CiliumNetworkPolicy backend/default-deny in policies.yaml, document 1",
        "selected by CiliumNetworkPolicy backend/allow-frontend in policies.yaml, document 2",
        "DROPPED [policy_denied]: ingress default deny",
        "nearly allowed by CiliumNetworkPolicy backend/allow-frontend ingress[0]: source has label \
         app=batch, not frontend",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for other in [uuid, "--last-denied"] {
        assert_eq!(cluster.must(&format!("why {other}")), text, "{other}");
    }
    let told: Value =
        serde_json::from_str(&cluster.must(&format!("why -o json {number}"))).expect("JSON");
    assert_eq!(told["flow"]["uuid"], *uuid, "{told}");
    assert_eq!(
        told["why"]["sides"][1]["decision"], "deny-default",
        "{told}"
    );
    let allowed = &cluster.flows("--verdict FORWARDED --to-port 80 --last 1")[0];
    let text = cluster.must(&format!("why {}", allowed["number"]));
    assert!(
        text.contains("ingress allowed by CiliumNetworkPolicy backend/allow-frontend ingress[0]"),
        "{text}"
    );
    assert!(
        text.contains("no policy of this direction selects it"),
        "{text}"
    );
    for wrong in ["why 999999999", "why xyz", "why", "why ffffffff"] {
        let ran = cluster.ask(wrong);
        assert!(
            !ran.is_success && !ran.stderr.is_empty(),
            "{wrong}: {}",
            ran.stdout
        );
    }
    // All that is kept begins with the same digits: of the same days.
    let ran = cluster.ask(&format!("why {}", &uuid[..4]));
    assert!(
        ran.stderr.contains("several flows"),
        "{} {}",
        ran.stderr,
        ran.stdout
    );
}

#[test]
fn top_counts_by_what_is_asked_for() {
    let Some(cluster) = cluster() else { return };
    let rows = |arguments: &str| -> Vec<(Vec<String>, u64, bool)> {
        let text = cluster.must(&format!("top -o json --to-port 80 {arguments}"));
        let told: Value = serde_json::from_str(&text).expect("JSON");
        let row = |row: &Value| {
            let by = row["by"].as_array().expect("a list").iter();
            let by = by.map(|one| one.as_str().expect("text").to_owned());
            let drops = row["drops"].as_u64().expect("a number");
            (
                by.collect(),
                row["connections"].as_u64().expect("a number"),
                drops > 0,
            )
        };
        told["rows"]
            .as_array()
            .expect("a list")
            .iter()
            .map(row)
            .collect()
    };
    let row = |by: &[&str], connections, drops| {
        (
            by.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>(),
            connections,
            drops,
        )
    };
    assert_eq!(
        rows(""),
        [
            row(&["frontend/web", "backend/api", "80/TCP"], 3, false),
            row(&["frontend/stranger", "backend/api", "80/TCP"], 0, true),
        ]
    );
    assert_eq!(
        rows("--by verdict,namespace --sort drops"),
        [
            row(&["DROPPED", "frontend -> backend"], 0, true),
            row(&["FORWARDED", "frontend -> backend"], 3, false),
        ]
    );
    assert_eq!(
        // Each connection is told when it begins and when it ends.
        rows("--by source-workload --from-pod web --last 4"),
        [row(&["frontend/web"], 2, false)]
    );
    let told: Value =
        serde_json::from_str(&cluster.must("top -o json --by source --to-port 80")).expect("JSON");
    let bytes = told["rows"][0]["bytes"].as_u64();
    assert!(bytes.is_some_and(|bytes| bytes > 3 * 300), "{told}");
    assert_eq!(
        rows("--since 1h --limit 1 --by destination"),
        [row(&["backend/api"], 3, true)]
    );
    let text = cluster.must("top --by source,verdict");
    assert!(
        text.starts_with("SOURCE") && text.contains("events counted; history reaches back to"),
        "{text}"
    );
}

#[test]
fn a_file_of_lines_answers_as_the_daemon_does() {
    const LINES: &str = "/run/lines.json";
    let Some(cluster) = cluster() else { return };
    let lab = &cluster.lab;
    let now = lab.node.must("date -u +%Y-%m-%dT%H:%M:%S.%NZ");
    let until = format!("--until {}", now.trim());
    let all = cluster.must(&format!("observe -o jsonpb {until}"));
    lab.node.write(LINES, all.as_str());
    let filters = [
        "-t policy-verdict",
        "-t trace:to-endpoint",
        "-t drop",
        "--traffic-direction egress",
        "--workload web",
        "--verdict DROPPED --print-policy-names",
        "--from-label app=batch",
        "--not --port 80",
        "-n backend --port 80",
        "--ipv4 --cluster default",
        "--last 4",
        "--first 4",
    ];
    for filter in filters {
        for output in ["compact", "dict", "table", "jsonpb"] {
            let words = format!("-o {output} {until} {filter}");
            let live = cluster.must(&format!("observe {words}"));
            let mut read = vec!["observe", "--input-file", LINES];
            read.extend(words.split_whitespace());
            let read = lab.portcullis(&read);
            assert_eq!(read.stdout, live, "{words}: {}", read.stderr);
            assert!(!live.is_empty() || filter.starts_with("--not"), "{words}");
        }
    }
}

#[test]
fn after_a_restart_what_is_on_disk_is_told_however_it_is_asked_for() {
    let Some(cluster) = cluster_with("observeSegments: {directory: /run/segments}\n") else {
        return;
    };
    let lab = &cluster.lab;
    let names = |words: &str| -> Vec<Value> {
        let text = cluster.must(&format!("observe -o jsonpb --to-port 80 {words}"));
        let name = |line: &str| {
            let object: Value = serde_json::from_str(line).expect("one object a line");
            object["flow"]["uuid"].clone()
        };
        text.lines().map(name).collect()
    };
    let before = names("--all");
    assert!(before.len() >= 3 * 4, "{before:?}");
    lab.stop_daemon();
    lab.start_daemon();
    for words in ["--all", "--since 3d", "--last 1000", "--first 1000"] {
        assert_eq!(names(words), before, "{words}");
    }
    assert_eq!(names("--first 2"), before[..2]);
    assert_eq!(names("--last 2"), before[before.len() - 2..]);
}
