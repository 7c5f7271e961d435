//! What a record costs after the worker has let go of it: to be stored, to be read, to be kept on
//! disk; and how many bytes it takes.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use portcullis_benches::node::{Node, Way};
use portcullis_engine::{Ending, EndpointId, Now, Record, RecordKind, TcpFlags, Totals};
use portcullis_observe::{
    Event, Flow, History, Names, Position, SegmentSettings, SegmentWriter, Segments, Stored,
};
use portcullis_policy::{
    Direction, Generation, Identity, IdentityAllocator, NodeFacts, Protocol, Settings, compile,
    parse_documents,
};
use std::collections::HashMap;
use std::fmt::Write;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The default history.
const HISTORY: usize = 1_000_000;
/// What the observer takes at one time.
const BATCH: usize = 4096;
const PODS: u32 = 200;

fn address(pod: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0100 + pod))
}

/// A node's worth of pods, and a policy for those of each kind.
fn names() -> Names {
    let mut text = String::from("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
    for pod in 0..PODS {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: web-{pod}-5d8f7c9b4-x2k{pod}, namespace: shop, \
             labels: {{app: web-{pod}, team: shop, app.kubernetes.io/version: v1.{pod}}}}}\n\
             status: {{podIPs: [{{ip: {}}}]}}\n",
            address(pod)
        );
    }
    text.push_str(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {name: allow-own-team, namespace: shop}\nspec:\n  podSelector: {}\n  \
         ingress: [{from: [{podSelector: {matchLabels: {team: shop}}}], ports: [{port: 80}]}]\n",
    );
    let settings = Settings::default();
    let documents = parse_documents("shop.yaml", &text, &settings).expect("documents");
    let mut identities = IdentityAllocator::default();
    let facts = NodeFacts::default();
    let tables = compile(
        &documents,
        &facts,
        &settings,
        &mut identities,
        Generation(1),
    );
    let tables = tables.expect("tables");
    let (mut endpoints, mut pods) = (HashMap::new(), HashMap::new());
    for pod in 0..PODS {
        let name = format!("web-{pod}-5d8f7c9b4-x2k{pod}");
        let policy = tables.policy_of("shop", &name);
        endpoints.insert(EndpointId(pod), ("shop".to_owned(), name.clone(), policy));
        pods.insert(address(pod), ("shop".to_owned(), name));
    }
    Names {
        endpoints,
        pods,
        tables: Some(Arc::new(tables)),
        ..Names::default()
    }
}

/// Events of connections between these pods, as an even mix of beginnings and endings. The same
/// every time.
struct Traffic {
    names: Arc<Names>,
    identities: Vec<Identity>,
    seed: u64,
    time: Timestamp,
}

impl Traffic {
    fn new() -> Self {
        let names = names();
        let tables = names.tables.as_deref().expect("tables");
        let identities = (0..PODS).map(|pod| tables.identity_of(address(pod)));
        Self {
            identities: identities.collect(),
            names: Arc::new(names),
            seed: 1,
            time: Timestamp::UNIX_EPOCH,
        }
    }

    fn random(&mut self) -> u32 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as u32
    }

    fn event(&mut self) -> Event {
        let (source, destination) = (self.random() % PODS, self.random() % PODS);
        let is_end = self.random().is_multiple_of(2);
        let step = self.random() % 20_000;
        self.time += SignedDuration::from_nanos(i64::from(step));
        let tables = self.names.tables.as_deref().expect("tables");
        let end = EndpointId(destination);
        let policy = self.names.policy_of(end).expect("a policy");
        let peer = self.identities[source as usize];
        let verdict = tables.judge(policy, Direction::Ingress, peer, Protocol::Tcp, 80);
        let mut record = Record {
            kind: RecordKind::Flow,
            generation: Generation(1),
            from: Some(EndpointId(source)),
            to: Some(end),
            source_identity: peer,
            destination_identity: self.identities[destination as usize],
            addresses: Some((address(source), address(destination))),
            protocol: Some(Protocol::Tcp),
            ports: (32_768 + (self.random() % 28_000) as u16, 80),
            ingress: Some(verdict),
            length: 74,
            tcp_flags: TcpFlags(TcpFlags::SYN),
            is_reply: Some(false),
            ..Record::BLANK
        };
        if is_end {
            let packets = [5 + self.random() % 60, 5 + self.random() % 60];
            record.kind = RecordKind::End(Ending::Finished);
            (record.length, record.tcp_flags) = (0, TcpFlags(0));
            record.totals = Totals {
                packets,
                bytes: packets.map(|packets| u64::from(packets) * 700 + u64::from(packets % 37)),
                opened: Now(u64::from(self.random()) * 100_000_000),
                round_trip_us: 80 + self.random() % 400,
            };
        }
        Event::new(self.time, record, Arc::clone(&self.names))
    }

    fn batch(&mut self) -> Vec<Event> {
        (0..BATCH).map(|_| self.event()).collect()
    }
}

fn full_history(traffic: &mut Traffic) -> Arc<History> {
    let history = Arc::new(History::new(HISTORY));
    for _ in 0..=HISTORY / BATCH {
        history.extend(traffic.batch());
    }
    let counts = history.counts_all();
    println!(
        "memory: {} records in {} bytes, {:.1} bytes a record of {}",
        counts.kept,
        counts.bytes,
        counts.bytes as f64 / counts.kept as f64,
        size_of::<Stored>()
    );
    history
}

/// Packets of a flow.
const PACKETS: usize = 10;
/// Flows that there are at one time, and the part of them that talks at the same time.
const FLOWS: usize = 192;
const TOGETHER: usize = 64;
/// Of two, one would answer the other with the ports that it has.
const PODS_TALKING: usize = 3;

/// Sends the packets of flows through a node until they are over. The observer's work, which is
/// another core's, is not in the time.
fn pass(node: &mut Node, flows: &[usize]) -> Duration {
    let mut spent = Duration::ZERO;
    for some in flows.chunks(TOGETHER) {
        let since = Instant::now();
        for _ in 0..PACKETS {
            node.send_batch(some, Way::All);
        }
        spent += since.elapsed();
        let begun = node.read_records();
        assert!(begun.is_none_or(|begun| begun == some.len()), "{begun:?}");
    }
    let since = Instant::now();
    node.end_flows();
    spent += since.elapsed();
    let ended = node.read_records();
    assert!(ended.is_none_or(|ended| ended == flows.len()), "{ended:?}");
    spent
}

fn worker_node(is_observed: bool) -> Node {
    Node::new(PODS_TALKING, 10).observed(is_observed)
}

/// What being observed costs a worker: flows of ten packets, each told when it begins and when it
/// has ended.
fn worker(criterion: &mut Criterion) {
    let flows: Vec<usize> = (0..FLOWS).collect();
    let mut group = criterion.benchmark_group("worker");
    group.throughput(Throughput::Elements((FLOWS * PACKETS) as u64));
    for (name, is_observed) in [("observed", true), ("not observed", false)] {
        let mut node = worker_node(is_observed);
        group.bench_function(format!("flows of ten packets, {name}"), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| pass(&mut node, &flows)).sum());
        });
    }
    group.finish();
    println!("worker: {}", observed_less_not(&flows));
}

/// The difference of the two, from nodes that take turns: it is smaller than what changes on the
/// machine between two benches. Each is first as often as second.
fn observed_less_not(flows: &[usize]) -> String {
    const ROUNDS: usize = 2000;
    let (mut observed, mut other) = (worker_node(true), worker_node(false));
    let mut differences = Vec::new();
    for _ in 0..ROUNDS {
        let (with, without) = (pass(&mut observed, flows), pass(&mut other, flows));
        let (then_without, then_with) = (pass(&mut other, flows), pass(&mut observed, flows));
        let (with, without) = (with + then_with, without + then_without);
        let difference = with.as_secs_f64() - without.as_secs_f64();
        differences.push(difference * 1e9 / (2 * flows.len() * PACKETS) as f64);
    }
    differences.sort_by(f64::total_cmp);
    let [low, middle, high] = [1, 2, 3].map(|part| differences[part * ROUNDS / 4]);
    format!("observed less not observed: {middle:.1} ns a packet (quartiles {low:.1} to {high:.1})")
}

fn memory(criterion: &mut Criterion) {
    let mut traffic = Traffic::new();
    let history = full_history(&mut traffic);
    let mut group = criterion.benchmark_group("memory");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("store 4096 records in a full history", |bencher| {
        bencher.iter_batched(
            || traffic.batch(),
            |batch| history.extend(batch),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("read 4096 records", |bencher| {
        bencher.iter_batched(
            || history.reader_at(Position::Oldest),
            |mut reader| reader.read(BATCH),
            BatchSize::LargeInput,
        );
    });
    group.throughput(Throughput::Elements(1));
    let event = traffic.event();
    let stored = Stored::new(event.time, &event.record, 0);
    group.bench_function("pack a record", |bencher| {
        bencher.iter(|| Stored::new(event.time, black_box(&event.record), 0));
    });
    group.bench_function("unpack a record", |bencher| {
        bencher.iter(|| black_box(&stored).record(Generation(1)));
    });
    group.bench_function("join a record with its names", |bencher| {
        bencher.iter(|| Flow::read(black_box(&event)));
    });
    group.finish();
}

fn disk(criterion: &mut Criterion) {
    let directory = std::env::temp_dir().join(format!("portcullis-bench-{}", std::process::id()));
    let settings = SegmentSettings {
        directory: directory.clone(),
        bytes_max: 64 << 20,
        age_max: Duration::from_secs(3600),
    };
    let segments = Arc::new(Segments::open(settings).expect("a directory"));
    let history = Arc::new(History::with_segments(BATCH, Arc::clone(&segments)));
    let mut writer = SegmentWriter::new(Arc::clone(&segments));
    let (mut reader, mut traffic) = (history.reader(), Traffic::new());
    let mut group = criterion.benchmark_group("disk");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("write 4096 records", |bencher| {
        bencher.iter_batched(
            || {
                history.extend(traffic.batch());
                reader.read(BATCH)
            },
            |batch| writer.write(&batch, Timestamp::UNIX_EPOCH).expect("disk"),
            BatchSize::PerIteration,
        );
    });
    let counts = segments.counts();
    println!(
        "disk: {} records in {} bytes, {:.1} bytes a record",
        counts.records,
        counts.bytes,
        counts.bytes as f64 / counts.records as f64
    );
    group.bench_function("read 4096 records", |bencher| {
        bencher.iter_batched(
            || history.reader_at(Position::Number(0)),
            |mut reader| reader.read(BATCH),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    // Nothing of it is of use to anybody.
    let _ = std::fs::remove_dir_all(directory);
}

criterion_group!(benches, worker, memory, disk);
criterion_main!(benches);
