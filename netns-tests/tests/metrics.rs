//! What Prometheus fetches and what is exported, while real pods talk.

use netns_tests::manifests::{ALLOW_FRONTEND, DEFAULT_DENY};
use netns_tests::{Lab, Pod, WORLD_ADDRESSES, eventually};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

const LISTEN: &str = "http://127.0.0.1:9965/metrics";
const EXPORTED: &str = "/run/flows.log";

struct Cluster {
    lab: Lab,
    _api: Pod,
    web: Pod,
    stranger: Pod,
}

/// A pod that policy protects, one that may reach it, one that may not.
fn cluster(settings: &str) -> Option<Cluster> {
    let lab = Lab::new(settings)?;
    let api = lab.pod("backend/api", &["app=backend"], &["10.0.1.10"]);
    let web = lab.pod("frontend/web", &["app=frontend"], &["10.0.1.11"]);
    let stranger = lab.pod("frontend/stranger", &["app=batch"], &["10.0.1.12"]);
    api.serve_pages();
    lab.start_daemon();
    let policies = format!("{DEFAULT_DENY}\n---\n{ALLOW_FRONTEND}");
    lab.apply("policies.yaml", &policies);
    Some(Cluster {
        lab,
        _api: api,
        web,
        stranger,
    })
}

/// Samples by name and labels.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn of(lab: &Lab) -> Self {
        let text = lab.node.must(&format!("curl -sSf {LISTEN}"));
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
            (name.to_owned(), value.parse().expect("a number"))
        });
        Self(samples.collect())
    }

    /// The sum of a metric's samples that have all of these labels.
    fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let is_asked = |sample: &str| {
            let rest = sample.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
                && labels.iter().all(|label| sample.contains(label))
        };
        let found = self.0.iter().filter(|(sample, _)| is_asked(sample));
        found.map(|(_, value)| *value as u64).sum()
    }
}

const METRICS: &str = "\
metrics:
  listen: '127.0.0.1:9965'
  enabled:
  - flow:sourceContext=pod;destinationContext=pod
  - drop:sourceContext=pod|reserved-identity;labelsContext=destination_pod,traffic_direction
  - policy:sourceContext=pod
  - tcp
  - icmp
  - port-distribution:sourceContext=pod-name
  - flows-to-world:port;syn-only;sourceContext=pod
";

#[test]
fn what_passes_and_what_is_denied_moves_its_own_series_exactly() {
    let Some(cluster) = cluster(METRICS) else {
        return;
    };
    let lab = &cluster.lab;
    let before = Scrape::of(lab);
    let drops_before = lab.status().dropped("policy_denied");
    for _ in 0..5 {
        assert!(cluster.web.fetch("http://10.0.1.10/").is_some());
    }
    assert!(cluster.web.can_ping("10.0.1.12"));
    assert!(cluster.stranger.gets_nothing("http://10.0.1.10/"));
    // Curl may have asked several times before it gave up, and the daemon counts each of them.
    let denied = lab.status().dropped("policy_denied") - drops_before;
    assert!(denied > 0);
    let mut after = Scrape::of(lab);
    let stranger = r#"source="frontend/stranger""#;
    eventually("every record was counted", || {
        after = Scrape::of(lab);
        after.sum("hubble_drop_total", &[stranger]) >= 2 * denied
            && after.sum("hubble_icmp_total", &[]) > 0
    });
    let moved = |name: &str, labels: &[&str]| after.sum(name, labels) - before.sum(name, labels);
    let web = r#"source="frontend/web""#;
    for (name, labels, expected) in [
        (
            "hubble_port_distribution_total",
            &[r#"protocol="TCP",port="80",source="web""#][..],
            5,
        ),
        (
            "hubble_tcp_flags_total",
            &[r#"flag="SYN",family="IPv4""#],
            5,
        ),
        ("hubble_icmp_total", &[r#"type="EchoRequest""#], 1),
        (
            "hubble_policy_verdicts_total",
            &[
                r#"direction="ingress",match="l3-l4",action="forwarded""#,
                web,
            ],
            5,
        ),
        (
            "hubble_policy_verdicts_total",
            &[r#"action="dropped""#, stranger],
            denied,
        ),
        (
            "hubble_policy_verdicts_total",
            &[r#"action="dropped""#, web],
            0,
        ),
        // A denial is told as verdict and as drop.
        (
            "hubble_drop_total",
            &[
                r#"reason="POLICY_DENIED",protocol="TCP""#,
                r#"destination_pod="api",traffic_direction="ingress""#,
                stranger,
            ],
            2 * denied,
        ),
        ("hubble_drop_total", &[web], 0),
        (
            "hubble_flows_processed_total",
            &[r#"type="Drop",subtype="",verdict="DROPPED""#, stranger],
            denied,
        ),
        (
            "cilium_drop_count_total",
            &[r#"reason="Policy denied",direction="INGRESS""#],
            denied,
        ),
        (
            "portcullis_drops_total",
            &[r#"reason="policy_denied""#],
            denied,
        ),
        ("hubble_lost_events_total", &[], 0),
    ] {
        assert_eq!(moved(name, labels), expected, "{name} {labels:?}");
    }
}

#[test]
fn connections_to_the_world_are_counted_by_port_and_none_within_the_cluster() {
    let Some(cluster) = cluster(METRICS) else {
        return;
    };
    let lab = &cluster.lab;
    netns_tests::serve_pages(&lab.world, "world", 8080);
    let [ipv4, _] = WORLD_ADDRESSES;
    let page = format!("http://{ipv4}:8080/");
    // The first packets of all may find that nobody knows the neighbour yet.
    eventually("the world answers", || cluster.web.fetch(&page).is_some());
    let counted = || {
        let all = Scrape::of(lab);
        let name = "hubble_flows_to_world_total";
        let wanted = [
            r#"protocol="TCP",verdict="FORWARDED",port="8080""#,
            r#"source="frontend/web""#,
        ];
        (all.sum(name, &wanted), all.sum(name, &[]))
    };
    // As a verdict of its egress, and as the packet that leaves.
    eventually("the first is counted", || counted().0 >= 2);
    let before = counted();
    for _ in 0..3 {
        assert!(cluster.web.fetch(&page).is_some());
    }
    assert!(cluster.web.fetch("http://10.0.1.10/").is_some());
    eventually("all are counted", || counted().0 >= before.0 + 6);
    let ports = || Scrape::of(lab).sum("hubble_port_distribution_total", &[r#"port="80""#]);
    eventually("the one in the cluster is counted", || ports() == 1);
    assert_eq!(counted(), (before.0 + 6, before.1 + 6));
}

#[test]
fn prometheus_finds_nothing_to_object_to() {
    let Some(cluster) = cluster(METRICS) else {
        return;
    };
    let lab = &cluster.lab;
    assert!(cluster.web.fetch("http://10.0.1.10/").is_some());
    let samples = |name: &str, labels: &[&str]| Scrape::of(lab).sum(name, labels);
    eventually("a flow is counted", || {
        samples("hubble_flows_processed_total", &[]) > 0
    });
    let check = format!("curl -sSf {LISTEN} | promtool check metrics");
    let checked = lab.node.run_words(&["sh", "-c", &check]);
    assert!(checked.is_success, "{}{}", checked.stdout, checked.stderr);
    let open = lab.node.must(&format!(
        "curl -sSfi -H Accept:application/openmetrics-text;version=1.0.0 {LISTEN}"
    ));
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(open.ends_with("# EOF\n"));
    // Prometheus' own reader of it asks for times, which a scrape has none of.
    let read = format!(
        "curl -sSf -H Accept:application/openmetrics-text {LISTEN} | \
         awk '/^#/ {{ print; next }} {{ print $0, 1700000000 }}' > /run/open && \
         promtool tsdb create-blocks-from openmetrics /run/open /run/blocks"
    );
    let read = lab.node.run_words(&["sh", "-c", &read]);
    assert!(read.is_success, "{}{}", read.stdout, read.stderr);
    // Beside the page they are the same.
    let beside = lab.node.must("curl -sSfi http://127.0.0.1:4240/metrics");
    assert!(beside.contains("content-type: text/plain; version=0.0.4"));
    assert!(beside.contains("\nhubble_flows_processed_total{"));
    // The daemon speaks of itself.
    for (name, labels, expected) in [
        (
            "cilium_endpoint_state",
            &[r#"endpoint_state="ready""#][..],
            3,
        ),
        (
            "cilium_policy_endpoint_enforcement_status",
            &[r#"enforcement="ingress""#],
            1,
        ),
        ("portcullis_ready", &[], 1),
        (
            "cilium_policy_implementation_delay_count",
            &[r#"source="directory""#],
            samples("cilium_policy_change_total", &[r#"outcome="success""#]),
        ),
        ("cilium_policy", &[], 2),
        ("cilium_policy_max_revision", &[], lab.status().generation()),
    ] {
        assert_eq!(samples(name, labels), expected, "{name}");
    }
    let refused = samples("cilium_policy_change_total", &[r#"outcome="fail""#]);
    lab.apply("wrong.yaml", "kind: Nothing\n");
    assert_eq!(
        samples("cilium_policy_change_total", &[r#"outcome="fail""#]),
        refused + 1
    );
    assert!(samples("portcullis_document_errors", &[]) > 0);
    assert!(samples("cilium_process_resident_memory_bytes", &[]) > 1 << 20);
    assert!(samples("process_max_fds", &[]) >= samples("process_open_fds", &[]));
    let batches = samples("portcullis_worker_batch_frames_count", &[]);
    let frames = samples("portcullis_worker_batch_frames_sum", &[]);
    assert!(batches > 0 && frames >= batches, "{frames} in {batches}");
    std::thread::sleep(Duration::from_secs(1));
    assert!(samples("portcullis_history_seconds", &[]) >= 1);
}

/// As an operator edits Cilium's dynamic-metrics.yaml.
#[test]
fn other_metrics_are_counted_from_the_moment_the_settings_say_so() {
    let Some(cluster) = cluster(METRICS) else {
        return;
    };
    let lab = &cluster.lab;
    assert!(cluster.stranger.gets_nothing("http://10.0.1.10/"));
    let samples = |name: &str, labels: &[&str]| Scrape::of(lab).sum(name, labels);
    eventually("a drop is counted", || {
        samples("hubble_drop_total", &[r#"source="frontend/stranger""#]) > 0
    });
    let filtered = "{name: drop, contextOptions: [{name: destinationContext, values: [pod-name]}], \
                    excludeFilters: [{destination_port: ['80']}]}";
    let change = |text: &str| {
        text.replace(
            "drop:sourceContext=pod|reserved-identity;labelsContext=destination_pod,traffic_direction",
            filtered,
        )
    };
    lab.edit("config.yaml", change);
    let warnings = lab.portcullis(&["status", "-o", "json"]).stdout;
    assert!(!warnings.contains("needs a restart"), "{warnings}");
    eventually("what was counted otherwise is gone", || {
        samples("hubble_drop_total", &[]) == 0
    });
    // What has other settings began anew; the rest went on.
    assert!(samples("hubble_flows_processed_total", &[]) > 0);
    assert!(cluster.stranger.gets_nothing("http://10.0.1.10/"));
    assert!(cluster.stranger.gets_nothing("http://10.0.1.10:81/"));
    let to_api = [r#"reason="POLICY_DENIED""#, r#"destination="api""#];
    eventually("the other port is counted", || {
        samples("hubble_drop_total", &to_api) > 0
    });
    let denied = || {
        lab.observe("--verdict DROPPED --to-port 81")
            .lines()
            .count() as u64
    };
    assert_eq!(samples("hubble_drop_total", &to_api), 2 * denied());
}

#[test]
fn an_export_is_read_back_and_filtered() {
    let Some(cluster) = cluster(&format!("export: {{path: {EXPORTED}}}\n{METRICS}")) else {
        return;
    };
    let lab = &cluster.lab;
    assert!(cluster.web.fetch("http://10.0.1.10/").is_some());
    assert!(cluster.stranger.gets_nothing("http://10.0.1.10/"));
    let observe = |arguments: &str| -> Vec<Value> {
        let mut words = vec!["observe", "--input-file", EXPORTED, "-o", "jsonpb"];
        words.extend(arguments.split_whitespace());
        let ran = lab.portcullis(&words);
        assert!(ran.is_success && ran.stderr.is_empty(), "{}", ran.stderr);
        let lines = ran.stdout.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("one object a line")
    };
    eventually("both are exported", || {
        !observe("--pod frontend/web --type trace --protocol tcp").is_empty()
            && !observe("--pod frontend/stranger --type drop").is_empty()
    });
    type Meant<'a> = &'a dyn Fn(&Value) -> bool;
    let rows: [(&str, Meant<'_>); 6] = [
        ("--verdict DROPPED", &|flow| flow["verdict"] == "DROPPED"),
        ("--from-pod frontend/stranger -t drop", &|flow| {
            flow["source"]["pod_name"] == "stranger" && flow["event_type"]["type"] == 1
        }),
        ("--to-port 80 --traffic-direction egress", &|flow| {
            flow["l4"]["TCP"]["destination_port"] == 80 && flow["traffic_direction"] == "EGRESS"
        }),
        ("--from-label app=frontend --type policy-verdict", &|flow| {
            flow["source"]["pod_name"] == "web" && flow["event_type"]["type"] == 5
        }),
        ("--not --pod frontend/web --tcp-flags SYN", &|flow| {
            flow["source"]["pod_name"] != "web" && flow["l4"]["TCP"]["flags"]["SYN"] == true
        }),
        ("--ip 10.0.1.11", &|flow| {
            [&flow["IP"]["source"], &flow["IP"]["destination"]].contains(&&Value::from("10.0.1.11"))
        }),
    ];
    // What is read again, so that nothing comes in between.
    lab.stop_daemon();
    let whole = lab.node.read(EXPORTED);
    let written: Vec<Value> = whole
        .lines()
        .map(|line| serde_json::from_str(line).expect("whole lines"))
        .collect();
    assert_eq!(observe(""), written);
    assert_eq!(observe("--last 2"), written[written.len() - 2..]);
    assert_eq!(observe("--first 3"), written[..3]);
    for (arguments, is_meant) in rows {
        let found = observe(arguments);
        let meant = written.iter().filter(|line| is_meant(&line["flow"]));
        assert!(!found.is_empty(), "{arguments}");
        assert_eq!(found, meant.cloned().collect::<Vec<_>>(), "{arguments}");
    }
    let text = lab.portcullis(&["observe", "--input-file", EXPORTED, "--verdict", "DROPPED"]);
    assert!(
        text.stdout.contains("frontend/stranger") && text.stdout.contains("[POLICY_DENIED]"),
        "{}",
        text.stdout
    );
}

#[test]
fn an_export_begins_moves_and_ends_with_its_settings_while_the_daemon_runs() {
    const MOVED: &str = "/run/moved.log";
    let Some(cluster) = cluster(METRICS) else {
        return;
    };
    let lab = &cluster.lab;
    let base = lab.node.read("/run/state/config.yaml");
    for path in [EXPORTED, MOVED] {
        lab.apply(
            "config.yaml",
            &format!("{base}\nexport: {{path: {path}}}\n"),
        );
        assert!(cluster.web.fetch("http://10.0.1.10/").is_some());
        eventually("it is exported", || {
            let ran = lab.node.run_words(&["cat", path]);
            ran.stdout.contains("\"destination_port\":80")
        });
    }
    lab.apply("config.yaml", &base);
    let status = lab.status();
    let warnings = status.json()["warnings"].to_string();
    assert!(!warnings.contains("restart"), "{warnings}");
    let moved = lab.node.read(MOVED);
    assert!(cluster.web.fetch("http://10.0.1.10/").is_some());
    lab.stop_daemon();
    let after = lab.node.read(MOVED);
    let ports = |text: &str| text.matches("\"destination_port\":80").count();
    assert_eq!(
        ports(&after),
        ports(&moved),
        "nothing after it was taken away"
    );
}

#[test]
fn denied_flows_are_exported_and_the_file_makes_room() {
    let settings = format!(
        "export: {{path: {EXPORTED}, allow: [{{drop_reason_desc: [POLICY_DENIED]}}], maxMegabytes: 1, maxBackups: 2, \
         compress: true}}\n{METRICS}"
    );
    let Some(cluster) = cluster(&settings) else {
        return;
    };
    let lab = &cluster.lab;
    assert!(cluster.web.fetch("http://10.0.1.10/").is_some());
    assert!(cluster.stranger.gets_nothing("http://10.0.1.10/"));
    let lines = || -> Vec<Value> {
        let text = lab.node.read(EXPORTED);
        let whole = text.lines().map(serde_json::from_str);
        whole.collect::<Result<_, _>>().expect("whole lines")
    };
    eventually("a denial is exported", || lines().len() >= 2);
    for line in lines() {
        let flow = &line["flow"];
        assert_eq!(flow["verdict"], "DROPPED", "{line}");
        assert_eq!(flow["drop_reason_desc"], "POLICY_DENIED", "{line}");
        assert_eq!(flow["source"]["pod_name"], "stranger", "{line}");
        assert_eq!(flow["destination"]["pod_name"], "api", "{line}");
        assert_eq!(line["node_name"], flow["node_name"], "{line}");
        assert_eq!(line["time"], flow["time"], "{line}");
    }
    assert_eq!(lab.node.must(&format!("stat -c %a {EXPORTED}")), "600\n");
    let is_there = |path: &str| lab.node.run(&format!("test -s {path}")).is_success;
    let first_backup = format!("{EXPORTED}.1.zst");
    eventually("the file is full", || {
        cluster.stranger.place.call(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
            for _ in 0..200 {
                // Denied in silence.
                socket.send_to(b"?", "10.0.1.10:9").expect("it is sent");
            }
        });
        std::thread::sleep(Duration::from_millis(50));
        is_there(&first_backup)
    });
    assert!(lab.node.must(&format!("stat -c %a {first_backup}")) == "600\n");
    eventually("metrics tell of it", || {
        Scrape::of(lab).sum("portcullis_export_rotations_total", &[]) >= 1
    });
    let scrape = Scrape::of(lab);
    assert!(scrape.sum("portcullis_export_lines_total", &[]) > 100);
    assert_eq!(scrape.sum("portcullis_export_failed_total", &[]), 0);
}
