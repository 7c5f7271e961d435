//! Each counting rule by an event of its own, the bound on series, and pods that go.

use super::*;
use crate::{Agent, AgentLog, NodeName, Sources};
use jiff::Timestamp;
use portcullis_engine::{Drop, Ending, EndpointId, Record, RecordKind, TcpFlags, Totals};
use portcullis_observe::{Event, History, Names};
use portcullis_policy::{
    Decision, Generation, Identity, IdentityAllocator, NodeFacts, Protocol, Settings, Verdict,
    compile,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct NoAgent;

impl Agent for NoAgent {
    fn names(&self) -> Arc<Names> {
        Arc::default()
    }

    fn figures(&self) -> Figures {
        figures()
    }
}

fn figures() -> Figures {
    Figures {
        version: "1.2.3".into(),
        generation: 7,
        drops: vec![("no_route", 3)],
        endpoints: vec![EndpointFigures {
            kind: "pod".into(),
            is_ready: true,
            ingress_enforced: true,
            addresses: [1, 1],
            ..EndpointFigures::default()
        }],
        workers: vec![WorkerFigures {
            received: 5,
            transmitted: 4,
            ..WorkerFigures::default()
        }],
        limits: vec![LimitFigures {
            name: "flows".into(),
            now: 1,
            max: 4,
            ..LimitFigures::default()
        }],
        messages: vec![("policy", "error", 2)],
        kernel: vec![("redirected".into(), 9)],
        ..Figures::default()
    }
}

fn sources() -> Sources {
    Sources {
        history: Arc::new(History::new(16)),
        agent: Arc::new(NoAgent),
        node: NodeName {
            name: "node".into(),
            cluster: "default".into(),
            started: Timestamp::UNIX_EPOCH,
        },
        log: Arc::new(AgentLog::new(Timestamp::UNIX_EPOCH)),
    }
}

fn metrics(enabled: &[&str], series_max: usize) -> Metrics {
    let enabled = enabled.iter().map(|text| Enabled::parse(text).unwrap());
    let settings = MetricsSettings {
        enabled: enabled.collect(),
        series_max,
        ..MetricsSettings::default()
    };
    Metrics::new(&settings, &sources(), Arc::default())
}

/// Pods by number: `shop/pod-N`, with the endpoint N and the address 10.0.x.y.
fn names(pods: u32) -> Arc<Names> {
    let pod = |number: u32| ("shop".to_owned(), format!("pod-{number}x"));
    Arc::new(Names {
        endpoints: (0..pods)
            .map(|number| {
                let (namespace, name) = pod(number);
                (EndpointId(number), (namespace, name, None))
            })
            .collect(),
        pods: (0..pods).map(|n| (address(n), pod(n))).collect(),
        ..Names::default()
    })
}

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
}

fn verdict(decision: Decision) -> Option<Verdict> {
    Some(Verdict {
        decision,
        rule: None,
    })
}

/// The first packet of a connection from pod 0 to pod 1 that nobody polices.
fn opening() -> Record {
    Record {
        kind: RecordKind::Flow,
        from: Some(EndpointId(0)),
        to: Some(EndpointId(1)),
        source_identity: Identity(1000),
        destination_identity: Identity(1001),
        addresses: Some((address(0), address(1))),
        protocol: Some(Protocol::Tcp),
        ports: (40_000, 80),
        egress: verdict(Decision::AllowUnpoliced),
        ingress: verdict(Decision::Allow),
        length: 74,
        tcp_flags: TcpFlags(TcpFlags::SYN),
        is_reply: Some(false),
        ..Record::BLANK
    }
}

fn denied() -> Record {
    Record {
        kind: RecordKind::Drop(Drop::PolicyDenied),
        ingress: verdict(Decision::DenyDefault),
        is_reply: None,
        ..opening()
    }
}

fn event(record: Record) -> Event {
    Event::new(Timestamp::UNIX_EPOCH, record, names(2))
}

/// Samples of one metric by their labels, after these records.
fn counted(enabled: &str, name: &str, records: &[Record]) -> BTreeMap<String, u64> {
    let metrics = metrics(&[enabled], 1000);
    let events: Vec<_> = records.iter().copied().map(event).collect();
    metrics.count(&events);
    samples(&metrics, name)
}

fn plain(metrics: &Metrics) -> String {
    metrics.text(None).unwrap().1
}

fn samples(metrics: &Metrics, name: &str) -> BTreeMap<String, u64> {
    let text = plain(metrics);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.filter_map(|line| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let value: f64 = value.parse().unwrap();
        (labels.is_empty() || labels.starts_with('{')).then(|| (labels.to_owned(), value as u64))
    });
    samples.collect()
}

fn of<const N: usize>(samples: [(&str, u64); N]) -> BTreeMap<String, u64> {
    samples
        .map(|(labels, value)| (labels.to_owned(), value))
        .into()
}

#[test]
fn every_event_of_a_flow_is_processed_once() {
    let found = counted(
        "flow",
        "hubble_flows_processed_total",
        &[opening(), denied()],
    );
    let expected = of([
        (
            r#"{protocol="TCP",type="PolicyVerdict",subtype="",verdict="FORWARDED"}"#,
            3,
        ),
        (
            r#"{protocol="TCP",type="Trace",subtype="to-endpoint",verdict="FORWARDED"}"#,
            1,
        ),
        (
            r#"{protocol="TCP",type="PolicyVerdict",subtype="",verdict="DROPPED"}"#,
            1,
        ),
        (
            r#"{protocol="TCP",type="Drop",subtype="",verdict="DROPPED"}"#,
            1,
        ),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn a_denial_is_dropped_twice_and_another_drop_once() {
    let unroutable = Record {
        kind: RecordKind::Drop(Drop::NoRoute),
        protocol: Some(Protocol::Other(47)),
        ingress: None,
        ..opening()
    };
    let found = counted(
        "drop",
        "hubble_drop_total",
        &[opening(), denied(), unroutable],
    );
    let expected = of([
        (r#"{reason="POLICY_DENIED",protocol="TCP"}"#, 2),
        (r#"{reason="FIB_LOOKUP_FAILED",protocol="Unknown L4"}"#, 1),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn drops_have_cilium_s_words_direction_and_bytes() {
    let at_source = Record {
        kind: RecordKind::Drop(Drop::PolicyDeniedByRule),
        egress: verdict(Decision::DenyRule),
        ingress: None,
        ..opening()
    };
    let records = [denied(), denied(), at_source];
    let both = [
        r#"{reason="Policy denied",direction="INGRESS"}"#,
        r#"{reason="Policy denied by denylist",direction="EGRESS"}"#,
    ];
    let found = counted("flow", "cilium_drop_count_total", &records);
    assert_eq!(found, of([(both[0], 2), (both[1], 1)]));
    let found = counted("flow", "cilium_drop_bytes_total", &records);
    assert_eq!(found, of([(both[0], 148), (both[1], 74)]));
}

#[test]
fn flags_are_counted_of_what_passed_and_at_the_end_of_what_was_seen_unrecorded() {
    let end = |ending, replies| Record {
        kind: RecordKind::End(ending),
        totals: Totals {
            packets: [3, replies],
            ..Totals::default()
        },
        ..opening()
    };
    let records = [
        opening(),
        denied(),
        end(Ending::Finished, 3),
        end(Ending::Reset, 1),
        end(Ending::Idle, 9),
        end(Ending::Unanswered, 0),
    ];
    let found = counted("tcp", "hubble_tcp_flags_total", &records);
    let expected = of([
        (r#"{flag="SYN",family="IPv4"}"#, 1),
        (r#"{flag="SYN-ACK",family="IPv4"}"#, 3),
        (r#"{flag="FIN",family="IPv4"}"#, 1),
        (r#"{flag="RST",family="IPv4"}"#, 1),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn icmp_is_named_in_its_own_family() {
    let echo = |protocol, kind| Record {
        protocol: Some(protocol),
        ports: (0, kind),
        tcp_flags: TcpFlags(0),
        ..opening()
    };
    let six: IpAddr = "fd00::1".parse().unwrap();
    let records = [
        echo(Protocol::Icmp, 8),
        echo(Protocol::Icmp, 3),
        Record {
            addresses: Some((six, six)),
            ..echo(Protocol::Icmpv6, 128)
        },
        Record {
            kind: RecordKind::End(Ending::Idle),
            totals: Totals {
                packets: [5, 4],
                ..Totals::default()
            },
            ..echo(Protocol::Icmp, 8)
        },
        echo(Protocol::Icmp, 200),
        opening(),
    ];
    let found = counted("icmp", "hubble_icmp_total", &records);
    let expected = of([
        (r#"{family="IPv4",type="EchoRequest"}"#, 1),
        (r#"{family="IPv4",type="DestinationUnreachable(Net)"}"#, 1),
        (r#"{family="IPv6",type="EchoRequest"}"#, 1),
        (r#"{family="IPv4",type="EchoReply"}"#, 1),
        (r#"{family="IPv4",type="200(0)"}"#, 1),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn ports_are_those_of_forwarded_connections() {
    let ping = Record {
        protocol: Some(Protocol::Icmp),
        ports: (0, 8),
        ..opening()
    };
    let reply = Record {
        is_reply: Some(true),
        ..opening()
    };
    let update = Record {
        kind: RecordKind::Update,
        ..opening()
    };
    let records = [opening(), denied(), ping, reply, update];
    let found = counted(
        "port-distribution",
        "hubble_port_distribution_total",
        &records,
    );
    let expected = of([
        (r#"{protocol="TCP",port="80"}"#, 1),
        (r#"{protocol="ICMPv4",port="0"}"#, 1),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn policy_s_answers_are_counted_unless_the_node_asked() {
    let of_the_node = Record {
        source_identity: Identity::HOST,
        ..opening()
    };
    let audited = Record {
        egress: None,
        ingress: verdict(Decision::DenyDefault),
        ..opening()
    };
    let records = [opening(), denied(), of_the_node, audited];
    let found = counted("policy", "hubble_policy_verdicts_total", &records);
    let expected = of([
        (r#"{direction="egress",match="all",action="forwarded"}"#, 2),
        (r#"{direction="ingress",match="all",action="forwarded"}"#, 1),
        (r#"{direction="ingress",match="none",action="dropped"}"#, 1),
        (r#"{direction="ingress",match="none",action="audit"}"#, 1),
    ]);
    assert_eq!(found, expected);
}

/// What `flows-to-world` with these options counts of packets to the world, from it, and in between.
fn counted_to_world(options: &str) -> BTreeMap<String, u64> {
    let settings = Settings::default();
    let facts = NodeFacts::default();
    let mut identities = IdentityAllocator::new();
    let tables = compile(&[], &facts, &settings, &mut identities, Generation(1));
    let names = Arc::new(Names {
        tables: Some(Arc::new(tables.unwrap())),
        ..Names::default()
    });
    let syn = Record {
        to: None,
        destination_identity: Identity::WORLD_IPV4,
        ingress: None,
        ..opening()
    };
    let dropped = |reason| Record {
        kind: RecordKind::Drop(reason),
        is_reply: None,
        ..syn
    };
    let records = [
        // As a verdict of egress and as a packet that leaves.
        syn,
        Record {
            kind: RecordKind::End(Ending::Finished),
            tcp_flags: TcpFlags(0),
            egress: None,
            ..syn
        },
        Record {
            is_reply: Some(true),
            ports: (80, 40_000),
            egress: None,
            ..syn
        },
        Record {
            protocol: Some(Protocol::Udp),
            ports: (40_000, 53),
            tcp_flags: TcpFlags(0),
            egress: None,
            ..syn
        },
        Record {
            protocol: Some(Protocol::Icmp),
            ports: (0, 8),
            tcp_flags: TcpFlags(0),
            egress: None,
            ..syn
        },
        Record {
            egress: verdict(Decision::DenyDefault),
            ..dropped(Drop::PolicyDenied)
        },
        Record {
            egress: None,
            ..dropped(Drop::NoRoute)
        },
        opening(),
        Record {
            protocol: Some(Protocol::Other(47)),
            ..syn
        },
    ];
    let metrics = metrics(&[&format!("flows-to-world{options}")], 1000);
    let event = |record| Event::new(Timestamp::UNIX_EPOCH, record, Arc::clone(&names));
    metrics.count(&records.map(event));
    samples(&metrics, "hubble_flows_to_world_total")
}

#[test]
fn flows_to_the_world_are_counted_without_replies_and_drops_by_policy_alone() {
    let (tcp, udp, ping) = ("TCP", "UDP", "ICMPv4");
    let label = |protocol: &str, verdict: &str, rest: &str| {
        format!(r#"{{protocol="{protocol}",verdict="{verdict}"{rest}}}"#)
    };
    let (passed, dropped) = ("FORWARDED", "DROPPED");
    let expected = |tcp_passed: u64, tcp_dropped: u64| {
        BTreeMap::from([
            (label(tcp, passed, ""), tcp_passed),
            (label(tcp, dropped, ""), tcp_dropped),
        ])
    };
    let others = [(label(udp, passed, ""), 1), (label(ping, passed, ""), 1)];
    let with = |mut some: BTreeMap<String, u64>| {
        some.extend(others.clone());
        some
    };
    assert_eq!(counted_to_world(""), with(expected(3, 2)));
    assert_eq!(counted_to_world(":any-drop"), with(expected(3, 3)));
    assert_eq!(counted_to_world(":syn-only"), expected(2, 2));
    let named = ":port;syn-only;sourceContext=ip;labelsContext=traffic_direction";
    let rest = r#",port="80",traffic_direction="egress",source="10.0.0.0""#;
    let expected = BTreeMap::from([
        (label(tcp, passed, rest), 2),
        (label(tcp, dropped, rest), 2),
    ]);
    assert_eq!(counted_to_world(named), expected);
    let ports = counted_to_world(":port");
    assert_eq!(ports.get(&label(udp, passed, r#",port="53""#)), Some(&1));
    assert_eq!(ports.get(&label(ping, passed, r#",port="""#)), Some(&1));
}

#[test]
fn contexts_name_both_ends() {
    let to_the_world = Record {
        to: None,
        destination_identity: Identity::WORLD,
        addresses: Some((address(0), "1.2.3.4".parse().unwrap())),
        ..opening()
    };
    let enabled = "port-distribution:sourceContext=pod;destinationContext=workload-name|dns|ip;\
                   labelsContext=traffic_direction,source_namespace,destination_workload_kind";
    let found = counted(
        enabled,
        "hubble_port_distribution_total",
        &[opening(), to_the_world],
    );
    let expected = of([
        (
            r#"{protocol="TCP",port="80",source_namespace="shop",destination_workload_kind="Pod",traffic_direction="ingress",source="shop/pod-0x",destination="pod-1x"}"#,
            1,
        ),
        (
            r#"{protocol="TCP",port="80",source_namespace="shop",destination_workload_kind="",traffic_direction="egress",source="shop/pod-0x",destination="1.2.3.4"}"#,
            1,
        ),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn a_direction_may_have_a_context_of_its_own() {
    let enabled = "policy:sourceContext=namespace;sourceEgressContext=pod-name";
    let found = counted(enabled, "hubble_policy_verdicts_total", &[opening()]);
    let expected = of([
        (
            r#"{direction="egress",match="all",action="forwarded",source="pod-0x"}"#,
            1,
        ),
        (
            r#"{direction="ingress",match="all",action="forwarded",source="shop"}"#,
            1,
        ),
    ]);
    assert_eq!(found, expected);
}

/// 250 pods that talk to one another at random, which is the worst for series.
#[test]
fn two_hundred_and_fifty_pods_and_a_hundred_thousand_flows_keep_the_bound() {
    let pods = "sourceContext=pod;destinationContext=pod";
    let enabled = [
        "flow:",
        "drop:",
        "tcp:",
        "icmp:",
        "port-distribution:",
        "policy:",
        "flows-to-world:port;",
    ]
    .map(|metric| format!("{metric}{pods}"));
    let enabled: Vec<&str> = enabled.iter().map(String::as_str).collect();
    let metrics = metrics(&enabled, 5000);
    let names = names(250);
    let mut chance = 1_u64;
    let mut below = |bound: u64| {
        // [Numerical Recipes, a linear congruential generator]
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (chance >> 33) % bound
    };
    for _ in 0..100 {
        let events: Vec<_> = (0..1000)
            .map(|_| {
                let (from, to) = (below(250) as u32, below(250) as u32);
                let record = Record {
                    from: Some(EndpointId(from)),
                    to: Some(EndpointId(to)),
                    addresses: Some((address(from), address(to))),
                    ports: (40_000, below(60_000) as u16),
                    ..if below(10) == 0 { denied() } else { opening() }
                };
                Event::new(Timestamp::UNIX_EPOCH, record, Arc::clone(&names))
            })
            .collect();
        metrics.count(&events);
    }
    let text = plain(&metrics);
    let hubble = text.lines().filter(|line| line.starts_with("hubble_"));
    let series = hubble.filter(|line| !line.contains("lost_events")).count();
    assert!((2000..=5000).contains(&series), "{series}");
    // Nothing is lost by folding: two verdicts and a way or an end for each record.
    let processed: u64 = samples(&metrics, "hubble_flows_processed_total")
        .values()
        .sum();
    assert_eq!(processed, 300_000);
    let folded: u64 = samples(&metrics, "portcullis_metrics_folded_total")
        .values()
        .sum();
    assert!(folded > 100_000, "{folded}");
    assert!(text.contains(r#"source="other",destination="other""#));
}

#[test]
fn the_series_of_a_pod_go_a_minute_after_it() {
    let enabled = [Enabled::parse("flow:sourceContext=pod;destinationContext=namespace").unwrap()];
    let mut counts = counts::Counts::new(&enabled, 1000);
    counts.count(&event(opening()));
    let other_way = Record {
        from: Some(EndpointId(1)),
        to: Some(EndpointId(0)),
        ..opening()
    };
    counts.count(&event(other_way));
    let series = |counts: &counts::Counts| counts.metrics()[0].series.len();
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let without_pod_1 = names(1);
    counts.forget_pods(&names(2), start);
    assert_eq!(series(&counts), 4);
    // It goes, comes back within the minute, and goes for good.
    counts.forget_pods(&without_pod_1, start);
    counts.forget_pods(&names(2), start + 30 * second);
    counts.forget_pods(&without_pod_1, start + 70 * second);
    counts.forget_pods(&without_pod_1, start + 129 * second);
    assert_eq!(series(&counts), 4);
    counts.forget_pods(&without_pod_1, start + 130 * second);
    // What it was only the destination of names its namespace, which goes on.
    assert_eq!(series(&counts), 2);
}

#[test]
fn what_nobody_can_count_is_counted_as_lost() {
    let sources = sources();
    let settings = MetricsSettings::default();
    let metrics = Metrics::new(&settings, &sources, Arc::default());
    let mut reader = sources.history.reader();
    sources.history.extend((0..20).map(|_| event(opening())));
    sources.history.set_unwritten(5);
    metrics.take(&mut reader);
    let expected = of([
        (r#"{source="perf_event_ring_buffer"}"#, 0),
        (r#"{source="observer_events_queue"}"#, 5),
        (r#"{source="hubble_ring_buffer"}"#, 4),
    ]);
    assert_eq!(samples(&metrics, "hubble_lost_events_total"), expected);
    assert_eq!(
        samples(&metrics, "portcullis_metrics_events_total"),
        of([("", 16)])
    );
}

#[test]
fn the_daemon_s_figures_have_the_names_that_dashboards_ask_for() {
    let metrics = metrics(&[], 100);
    let arch = std::env::consts::ARCH;
    let version = format!(r#"{{version="1.2.3",revision="",arch="{arch}"}}"#);
    for (name, labels, value) in [
        ("cilium_version", version.as_str(), 1),
        ("cilium_forward_count_total", r#"{direction="EGRESS"}"#, 5),
        ("cilium_forward_count_total", r#"{direction="INGRESS"}"#, 4),
        ("cilium_endpoint_state", r#"{endpoint_state="ready"}"#, 1),
        (
            "cilium_policy_endpoint_enforcement_status",
            r#"{enforcement="ingress"}"#,
            1,
        ),
        ("cilium_policy_max_revision", "", 7),
        (
            "cilium_errors_warnings_total",
            r#"{level="error",subsystem="policy"}"#,
            2,
        ),
        ("portcullis_drops_total", r#"{reason="no_route"}"#, 3),
        (
            "portcullis_kernel_packets_total",
            r#"{event="redirected"}"#,
            9,
        ),
        (
            "portcullis_table_entries_max",
            r#"{table="flows",worker="0"}"#,
            4,
        ),
    ] {
        assert_eq!(
            samples(&metrics, name).get(labels),
            Some(&value),
            "{name}{labels}"
        );
    }
    assert!(plain(&metrics).contains("cilium_bpf_map_pressure{map_name=\"flows\"} 0.25\n"));
}

/// Metrics that a dashboard's queries name.
fn metrics_of(dashboard: &serde_json::Value, found: &mut Vec<String>) {
    match dashboard {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(query) if matches!(key.as_str(), "expr" | "query" | "definition") => {
                        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
                        let words = query.split(|c: char| !is_name(c));
                        let ours = ["hubble_", "cilium_", "portcullis_", "process_"];
                        let named = words.filter(|w| ours.iter().any(|o| w.starts_with(o)));
                        found.extend(named.map(str::to_owned));
                    }
                    _ => metrics_of(value, found),
                }
            }
        }
        serde_json::Value::Array(list) => {
            for value in list {
                metrics_of(value, found);
            }
        }
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_only_for_what_is_told() {
    let text = include_str!("../../../../docs/grafana/portcullis.json");
    let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
    for field in [
        "title",
        "uid",
        "schemaVersion",
        "panels",
        "templating",
        "time",
    ] {
        assert!(!dashboard[field].is_null(), "{field}");
    }
    let mut asked = Vec::new();
    metrics_of(&dashboard, &mut asked);
    assert!(asked.len() > 20, "{asked:?}");
    let told = plain(&Metrics::new(
        &MetricsSettings::default(),
        &sources(),
        Arc::default(),
    ));
    for name in asked {
        assert!(
            told.contains(&format!("# TYPE {name} ")),
            "{name} is not told"
        );
    }
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids: Vec<_> = panels
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
}
