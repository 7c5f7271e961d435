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
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
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

fn settings(enabled: &[&str], series_max: usize) -> MetricsSettings {
    let enabled = enabled.iter().map(|text| Enabled::parse(text).unwrap());
    MetricsSettings {
        enabled: enabled.collect(),
        series_max,
        ..MetricsSettings::default()
    }
}

fn metrics(enabled: &[&str], series_max: usize) -> Metrics {
    Metrics::new(&settings(enabled, series_max), &sources(), Arc::default())
}

fn counts_of(enabled: &[&str]) -> counts::Counts {
    counts::Counts::new(&settings(enabled, 1000), sources().node.home())
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
fn handshakes_are_counted_by_how_long_they_took_once_their_connection_has_ended() {
    let end = |ending, round_trip_us| Record {
        kind: RecordKind::End(ending),
        totals: Totals {
            packets: [3, 3],
            round_trip_us,
            ..Totals::default()
        },
        ..opening()
    };
    let udp = Record {
        protocol: Some(Protocol::Udp),
        ..end(Ending::Idle, 70)
    };
    let metrics = metrics(&["handshake:sourceContext=pod-name"], 1000);
    let records = [
        opening(),
        end(Ending::Finished, 70),
        end(Ending::Reset, 400),
        end(Ending::Finished, 2_000_000),
        end(Ending::Unanswered, 0),
        udp,
    ];
    metrics.count(&records.map(event));
    let name = "portcullis_handshake_seconds";
    let labels = r#"family="IPv4",source="pod-0x""#;
    let count = |bound| {
        let labels = format!(r#"{{le="{bound}",{labels}}}"#);
        samples(&metrics, &format!("{name}_bucket"))[&labels]
    };
    let found = ["0.0001", "0.0005", "0.25", "+Inf"].map(count);
    assert_eq!(found, [1, 2, 2, 3]);
    let of = |suffix| samples(&metrics, &format!("{name}_{suffix}"))[&format!("{{{labels}}}")];
    assert_eq!([of("count"), of("sum")], [3, 2]);
    assert_eq!(
        samples(&metrics, "portcullis_metrics_series")[r#"{metric="handshake"}"#],
        9
    );
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
        "handshake:",
    ]
    .map(|metric| format!("{metric}{pods}"));
    let enabled: Vec<&str> = enabled.iter().map(String::as_str).collect();
    let exact = metrics(&["flow"], 1000);
    let metrics = metrics(&enabled, MetricsSettings::default().series_max);
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
                // The greatest number of lines comes from what has ended.
                let ended = Record {
                    kind: RecordKind::End(Ending::Finished),
                    totals: Totals {
                        round_trip_us: 100,
                        ..Totals::default()
                    },
                    ..record
                };
                let kept = if below(4) == 0 { ended } else { record };
                Event::new(Timestamp::UNIX_EPOCH, kept, Arc::clone(&names))
            })
            .collect();
        metrics.count(&events);
        exact.count(&events);
    }
    let text = plain(&metrics);
    // Those of the daemon itself among them.
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!((2000..=5000).contains(&series), "{series}");
    // Nothing is lost by folding.
    let sum = |metrics: &Metrics| -> u64 {
        let processed = samples(metrics, "hubble_flows_processed_total");
        processed.values().sum()
    };
    assert_eq!(sum(&metrics), sum(&exact));
    let folded: u64 = samples(&metrics, "portcullis_metrics_folded_total")
        .values()
        .sum();
    assert!(folded > 100_000, "{folded}");
    assert!(text.contains(r#"source="other",destination="other""#));
}

#[test]
fn the_series_of_a_pod_go_a_minute_after_it() {
    let mut counts = counts_of(&["flow:sourceContext=pod;destinationContext=namespace"]);
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
    counts.forget_gone(&names(2), start);
    assert_eq!(series(&counts), 4);
    // It goes, comes back within the minute, and goes for good.
    counts.forget_gone(&without_pod_1, start);
    counts.forget_gone(&names(2), start + 30 * second);
    counts.forget_gone(&without_pod_1, start + 70 * second);
    counts.forget_gone(&without_pod_1, start + 129 * second);
    assert_eq!(series(&counts), 4);
    counts.forget_gone(&without_pod_1, start + 130 * second);
    // What it was only the destination of names its namespace, which goes on.
    assert_eq!(series(&counts), 2);
}

#[test]
fn the_series_of_a_workload_go_a_minute_after_its_last_pod() {
    let names = |pods: &[&str]| {
        let pods = pods.iter().zip(0..);
        Arc::new(Names {
            endpoints: pods
                .map(|(pod, number)| (EndpointId(number), ("shop".into(), (*pod).into(), None)))
                .collect(),
            ..Names::default()
        })
    };
    let mut counts = counts_of(&["flow:sourceContext=workload-name|reserved-identity"]);
    let pods = names(&[
        "job-29012-bcdfg",
        "web-5d4f8c7b9d-x2x4z",
        "web-5d4f8c7b9d-z4z2x",
    ]);
    for number in 0..3 {
        let record = Record {
            from: Some(EndpointId(number)),
            ..opening()
        };
        counts.count(&Event::new(
            Timestamp::UNIX_EPOCH,
            record,
            Arc::clone(&pods),
        ));
    }
    let series = |counts: &counts::Counts| counts.metrics()[0].series.len();
    assert_eq!(series(&counts), 4);
    let (start, minute) = (Instant::now(), Duration::from_secs(60));
    let without_job = names(&["web-5d4f8c7b9d-z4z2x"]);
    counts.forget_gone(&without_job, start);
    counts.forget_gone(&without_job, start + minute);
    assert_eq!(series(&counts), 2);
}

#[test]
fn an_answer_is_counted_with_who_gave_it_as_its_source() {
    let end = |record| Record {
        kind: RecordKind::End(Ending::Finished),
        totals: Totals {
            packets: [3, 3],
            ..Totals::default()
        },
        ..record
    };
    let ping = Record {
        protocol: Some(Protocol::Icmp),
        ports: (0, 8),
        ..opening()
    };
    let ends = "sourceContext=pod;destinationContext=pod;labelsContext=traffic_direction";
    let asked = r#"traffic_direction="ingress",source="shop/pod-0x",destination="shop/pod-1x"}"#;
    let answered = r#"traffic_direction="ingress",source="shop/pod-1x",destination="shop/pod-0x"}"#;
    let found = counted(
        &format!("tcp:{ends}"),
        "hubble_tcp_flags_total",
        &[opening(), end(opening())],
    );
    let of_tcp = |flag: &str, ends: &str| format!(r#"{{flag="{flag}",family="IPv4",{ends}"#);
    let expected = [("SYN", asked), ("SYN-ACK", answered), ("FIN", asked)]
        .map(|(flag, ends)| (of_tcp(flag, ends), 1));
    assert_eq!(found, expected.into());
    let found = counted(
        &format!("icmp:{ends}"),
        "hubble_icmp_total",
        &[ping, end(ping)],
    );
    let of_icmp = |kind: &str, ends: &str| format!(r#"{{family="IPv4",type="{kind}",{ends}"#);
    let expected = [("EchoRequest", asked), ("EchoReply", answered)]
        .map(|(kind, ends)| (of_icmp(kind, ends), 1));
    assert_eq!(found, expected.into());
}

/// In the form of Cilium's dynamic-metrics.yaml.
const FILTERED: &str = r#"{"enabled": [
    {"name": "drop", "contextOptions": [{"name": "sourceContext", "values": ["pod", "ip"]},
        {"name": "labelsContext", "values": ["traffic_direction", "source_namespace"]}],
     "includeFilters": [{"source_pod": ["shop/"]}], "excludeFilters": [{"destination_port": ["22"]}]},
    "flow"]}"#;

#[test]
fn a_metric_counts_only_the_flows_that_its_filters_want() {
    let settings: MetricsSettings = serde_json::from_str(FILTERED).unwrap();
    let metrics = Metrics::new(&settings, &sources(), Arc::default());
    let to_ssh = Record {
        ports: (40_000, 22),
        ..denied()
    };
    let from_nobody = Record {
        from: None,
        addresses: Some(("1.2.3.4".parse().unwrap(), address(1))),
        ..denied()
    };
    metrics.count(&[denied(), to_ssh, from_nobody].map(event));
    let labels = r#"{reason="POLICY_DENIED",protocol="TCP",source_namespace="shop",traffic_direction="ingress",source="shop/pod-0x"}"#;
    let expected = of([(labels, 2)]);
    assert_eq!(samples(&metrics, "hubble_drop_total"), expected);
    let flows = samples(&metrics, "hubble_flows_processed_total");
    assert_eq!(flows.values().sum::<u64>(), 9);
    for (text, expected) in [
        (
            r#"{"name": "drop", "includeFilters": [{"source_ip": ["here"]}]}"#,
            "drop:includeFilters[0].source_ip",
        ),
        (
            r#"{"name": "drop", "excludeFilters": [{"sauce": []}]}"#,
            "unknown field `sauce`",
        ),
        (
            r#"{"name": "drop", "filters": []}"#,
            "unknown field `filters`",
        ),
        (
            r#"{"name": "drop", "contextOptions": [{"name": "sourceContext", "values": ["pood"]}]}"#,
            "drop:sourceContext: expected one of identity,",
        ),
    ] {
        let settings = format!(r#"{{"enabled": [{text}]}}"#);
        let fault = serde_json::from_str::<MetricsSettings>(&settings).unwrap_err();
        assert!(fault.to_string().contains(expected), "{text}: {fault}");
    }
}

#[test]
fn changed_settings_begin_anew_and_a_metric_that_is_as_it_was_goes_on() {
    let mut counts = counts_of(&["flow:sourceContext=pod", "drop", "tcp"]);
    counts.count(&event(denied()));
    let found = |counts: &counts::Counts| -> Vec<(Metric, usize)> {
        let all = counts.metrics().iter();
        all.map(|one| (one.metric, one.series.len())).collect()
    };
    use metric::Metric;
    counts.change(&settings(&["policy", "drop", "flow:sourceContext=ip"], 300));
    assert_eq!(
        found(&counts),
        [(Metric::Policy, 0), (Metric::Drop, 1), (Metric::Flow, 0)]
    );
    counts.count(&event(denied()));
    assert_eq!(
        found(&counts),
        [(Metric::Policy, 2), (Metric::Drop, 1), (Metric::Flow, 3)]
    );
    assert_eq!(counts.series_max, 300);
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

/// What a dashboard asks for: its queries, and those that fill its variables.
fn queries_of(dashboard: &Value, found: &mut Vec<String>) {
    match dashboard {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(query) if matches!(key.as_str(), "expr" | "query" | "definition") => {
                        found.push(query.to_owned());
                    }
                    _ => queries_of(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| queries_of(value, found)),
        _ => {}
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(move |c: char| !is_name(c))
        .filter(|word| !word.is_empty())
}

fn is_ours(word: &&str) -> bool {
    let ours = ["hubble_", "cilium_", "portcullis_", "process_"];
    ours.iter().any(|prefix| word.starts_with(prefix))
}

/// The texts between each `open` and the next `close`.
fn between<'t>(text: &'t str, open: &'t str, close: char) -> impl Iterator<Item = &'t str> {
    let parts = text.split(open).skip(1);
    parts.filter_map(move |part| part.split(close).next())
}

/// What of a query is not told: names of metrics, labels that choose, and labels by which it sums.
/// `told` has the labels of each metric; those of a target are Prometheus' own.
fn missing_of(query: &str, told: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut missing = Vec::new();
    let of_target = ["instance", "cluster", "pod", "k8s_app", "job"];
    let is_told = |metric: &str, label: &str| {
        of_target.contains(&label)
            || told
                .get(metric)
                .is_some_and(|labels| labels.contains(label))
    };
    let selectors = query.split('}').filter_map(|part| part.split_once('{'));
    for (before, chosen) in selectors {
        let Some(metric) = words(before).last() else {
            continue;
        };
        let names = chosen.split(',').filter_map(|one| words(one).next());
        let wrong = names.filter(|label| !is_told(metric, label));
        missing.extend(wrong.map(|label| format!("{metric}{{{label}}}")));
    }
    let metrics: Vec<&str> = words(query).filter(is_ours).collect();
    missing.extend(
        metrics
            .iter()
            .filter(|metric| !told.contains_key(**metric))
            .map(|metric| (*metric).to_owned()),
    );
    for list in between(query, "by (", ')') {
        // Of an expression over several metrics each has to have them.
        let wrong = list.split(',').map(str::trim).filter(|label| {
            !metrics
                .iter()
                .all(|metric| is_told(metric, label) || *label == "le")
        });
        missing.extend(wrong.map(|label| format!("by ({label}) of {metrics:?}")));
    }
    missing
}

/// The labels of every metric that is told by default, after one event of each kind.
fn told_by_default() -> BTreeMap<String, BTreeSet<String>> {
    let metrics = Metrics::new(&MetricsSettings::default(), &sources(), Arc::default());
    let ping = Record {
        protocol: Some(Protocol::Icmp),
        ports: (0, 8),
        ..opening()
    };
    let end = Record {
        kind: RecordKind::End(Ending::Finished),
        totals: Totals {
            round_trip_us: 100,
            ..Totals::default()
        },
        ..opening()
    };
    metrics.count(&[opening(), denied(), ping, end].map(event));
    let text = plain(&metrics);
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let name = family.split(' ').next().unwrap();
            told.entry(name.to_owned()).or_default();
        } else if !line.starts_with('#') {
            let (name, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            let labels = labels
                .split("\",")
                .filter_map(|label| label.split('=').next());
            let labels = labels.filter(|label| !label.is_empty()).map(str::to_owned);
            told.entry(name.to_owned()).or_default().extend(labels);
        }
    }
    told
}

#[test]
fn the_dashboard_asks_only_for_metrics_and_labels_that_are_told() {
    let text = include_str!("../../../../docs/grafana/portcullis.json");
    let dashboard: Value = serde_json::from_str(text).unwrap();
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
    queries_of(&dashboard, &mut asked);
    asked.retain(|query| words(query).any(|word| is_ours(&word)));
    assert!(asked.len() > 20, "{asked:?}");
    let told = told_by_default();
    for query in &asked {
        // `label_values(metric, label)`
        if let Some((metric, label)) = between(query, "label_values(", ')')
            .next()
            .and_then(|both| both.split_once(", "))
        {
            assert!(told.contains_key(metric), "{query}");
            assert!(missing_of(&format!("sum by ({label}) ({metric})"), &told).is_empty());
            continue;
        }
        assert_eq!(missing_of(query, &told), Vec::<String>::new(), "{query}");
    }
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            for label in between(legend, "{{", '}') {
                let mut lists = between(expression, "by (", ')');
                let is_summed_by = lists.any(|list| words(list).any(|word| word == label.trim()));
                assert!(is_summed_by, "{label} in {legend} of {expression}");
            }
        }
    }
    let mut ids: Vec<_> = panels
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
}

#[test]
fn a_query_that_asks_for_more_than_is_told_is_found_out() {
    let told = told_by_default();
    for (query, missing) in [
        ("rate(hubble_flows_total[5m])", "hubble_flows_total"),
        (
            r#"sum(hubble_drop_total{reson="x"})"#,
            "hubble_drop_total{reson}",
        ),
        (
            "sum by (reason, rule) (hubble_drop_total)",
            r#"by (rule) of ["hubble_drop_total"]"#,
        ),
    ] {
        assert_eq!(missing_of(query, &told), [missing], "{query}");
    }
}

/// What Hubble's and Cilium's own dashboards ask for of what there is here, by our default settings.
#[test]
fn the_dashboards_that_come_with_cilium_find_what_they_ask_for() {
    let told = told_by_default();
    let namespaces = r#"cluster=~"$cluster", source_namespace=~"$s", destination_namespace=~"$d""#;
    for query in [
        "sum(rate(hubble_flows_processed_total{NS}[1m])) by (type, subtype)",
        "sum(rate(hubble_flows_processed_total{NS}[1m])) by (verdict)",
        "topk(10, sum(rate(hubble_flows_processed_total{NS}[1m])) by (source))",
        "topk(10, sum(rate(hubble_flows_processed_total{NS}[1m])) by (destination))",
        r#"sum(rate(hubble_tcp_flags_total{NS, flag="SYN"}[1m])) by (source)"#,
        r#"sum(rate(hubble_tcp_flags_total{NS, flag="SYN-ACK"}[1m])) by (destination)"#,
        r#"sum(rate(hubble_icmp_total{NS, type="EchoRequest"}[1m])) by (source)"#,
        r#"sum(rate(hubble_icmp_total{NS, type="EchoReply"}[1m])) by (destination)"#,
        "sum(rate(hubble_drop_total{NS}[1m])) by (source, reason)",
        "sum(rate(hubble_drop_total{NS}[1m])) by (destination, reason)",
        "sum(rate(hubble_drop_total[1m])) by (pod, protocol)",
        r#"sum(rate(hubble_tcp_flags_total{family="IPv4"}[1m])) by (pod, flag)"#,
        "topk(10, sum(rate(hubble_port_distribution_total[1m])) by (port, protocol))",
        r#"sum(rate(cilium_drop_count_total{direction="INGRESS"}[1m])) by (pod, reason)"#,
        r#"sum(rate(cilium_forward_bytes_total{k8s_app="cilium"}[1m])) by (pod, direction)"#,
        r#"sum(rate(cilium_errors_warnings_total{k8s_app="cilium"}[1m])) by (pod, level)"#,
        "sum(cilium_policy_endpoint_enforcement_status) by (enforcement)",
        "sum(cilium_endpoint_state) by (endpoint_state)",
        "sum(rate(cilium_policy_implementation_delay_bucket[1m])) by (le, source)",
        "max(cilium_bpf_map_pressure) by (map_name)",
        r#"sum(rate(cilium_policy_change_total{outcome="fail"}[1m])) by (pod)"#,
        "sum(cilium_ip_addresses) by (family)",
        "avg(cilium_process_resident_memory_bytes + cilium_process_virtual_memory_bytes)",
        "process_open_fds / process_max_fds",
    ] {
        let query = query.replace("NS", namespaces);
        assert_eq!(missing_of(&query, &told), Vec::<String>::new(), "{query}");
    }
}
