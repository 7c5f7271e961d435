//! What it costs to count an event, and to tell what was counted.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use portcullis_engine::{Drop, EndpointId, Record, RecordKind, TcpFlags};
use portcullis_hubble::metrics::{Enabled, Metrics, MetricsSettings};
use portcullis_hubble::{Agent, AgentLog, NodeName, Sources};
use portcullis_observe::{Event, History, Names};
use portcullis_policy::{Decision, Identity, Protocol, Verdict};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const PODS: u32 = 250;
const EVENTS: u32 = 1024;

struct Idle;

impl Agent for Idle {
    fn names(&self) -> Arc<Names> {
        Arc::default()
    }
}

fn address(pod: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + pod))
}

/// New connections of every pod to some others; each tenth is denied.
fn events() -> Vec<Event> {
    let pod = |number: u32| ("shop".to_owned(), format!("web-7c5ddbdf54-x{number:04}"));
    let names = Arc::new(Names {
        endpoints: (0..PODS)
            .map(|number| (EndpointId(number), (pod(number).0, pod(number).1, None)))
            .collect(),
        pods: (0..PODS)
            .map(|number| (address(number), pod(number)))
            .collect(),
        ..Names::default()
    });
    let verdict = |decision| {
        Some(Verdict {
            decision,
            rule: None,
        })
    };
    let record = |number: u32| {
        let (from, to) = (number % PODS, (number * 7 + number / PODS) % PODS);
        let is_denied = number.is_multiple_of(10);
        Record {
            kind: match is_denied {
                true => RecordKind::Drop(Drop::PolicyDenied),
                false => RecordKind::Flow,
            },
            from: Some(EndpointId(from)),
            to: Some(EndpointId(to)),
            source_identity: Identity(1000),
            destination_identity: Identity(1001),
            addresses: Some((address(from), address(to))),
            protocol: Some(Protocol::Tcp),
            ports: (40_000, 8080),
            egress: verdict(Decision::AllowUnpoliced),
            ingress: verdict(match is_denied {
                true => Decision::DenyDefault,
                false => Decision::Allow,
            }),
            length: 74,
            tcp_flags: TcpFlags(TcpFlags::SYN),
            is_reply: Some(false),
            ..Record::BLANK
        }
    };
    (0..EVENTS)
        .map(|number| Event::new(Timestamp::UNIX_EPOCH, record(number), Arc::clone(&names)))
        .collect()
}

fn sources() -> Sources {
    Sources {
        history: Arc::new(History::new(1)),
        agent: Arc::new(Idle),
        node: NodeName {
            name: "node".into(),
            cluster: "default".into(),
            started: Timestamp::UNIX_EPOCH,
        },
        log: Arc::new(AgentLog::new(Timestamp::UNIX_EPOCH)),
    }
}

fn count(criterion: &mut Criterion) {
    let events = events();
    let by_pod = ["flow", "drop", "tcp", "port-distribution", "policy"]
        .map(|name| format!("{name}:sourceContext=pod;destinationContext=pod"));
    let by_pod = MetricsSettings {
        enabled: by_pod
            .iter()
            .map(|text| Enabled::parse(text).expect("right"))
            .collect(),
        ..MetricsSettings::default()
    };
    let bare = MetricsSettings {
        enabled: ["flow", "drop"]
            .map(|text| Enabled::parse(text).expect("right"))
            .into(),
        ..MetricsSettings::default()
    };
    let mut group = criterion.benchmark_group("metrics");
    group.throughput(Throughput::Elements(EVENTS.into()));
    for (name, settings) in [
        ("default", MetricsSettings::default()),
        ("by pod, folded", by_pod),
        ("bare", bare),
    ] {
        let metrics = Metrics::new(&settings, &sources(), Arc::default());
        group.bench_function(format!("count 1024 records, {name}"), |bencher| {
            bencher.iter(|| metrics.count(black_box(&events)));
        });
        group.bench_function(format!("scrape, {name}"), |bencher| {
            bencher.iter(|| black_box(metrics.text(None)));
        });
    }
    group.finish();
}

criterion_group!(benches, count);
criterion_main!(benches);
