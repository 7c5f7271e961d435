//! What connection tracking, services and address translation cost: lookups, whole walks, memory.

#[path = "../../dataplane/engine/tests/network/mod.rs"]
mod network;

use criterion::{Criterion, criterion_group, criterion_main};
use network::build::{ACK, SYN, v4};
use network::services::*;
use network::*;
use portcullis_engine::{
    AffinityTable, EndpointIndex, Engine, EngineSettings, FrameBytes, Now, Outcome, Record,
    ServiceTable,
};
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const FLOWS: u32 = 1_000_000;
/// Bytes of a frame that a walk may change.
const HEADERS: usize = 96;

/// A frame that is put back after each walk.
struct Kept {
    original: Vec<u8>,
    head: Vec<u8>,
}

impl Kept {
    fn new(bytes: &[u8]) -> Self {
        let mut head = vec![0; HEAD_MAX];
        head[..bytes.len()].copy_from_slice(bytes);
        Self {
            original: bytes.to_vec(),
            head,
        }
    }

    fn lend<T>(&mut self, run: impl FnOnce(&mut FrameBytes<'_>) -> T) -> T {
        let kept = self.original.len().min(HEADERS);
        self.head[..kept].copy_from_slice(&self.original[..kept]);
        run(&mut FrameBytes {
            head: &mut self.head,
            head_length: self.original.len(),
            tail: &[],
        })
    }
}

fn walk(
    engine: &mut Engine,
    from: EndpointIndex,
    frame: &mut FrameBytes<'_>,
    now: Now,
    records: &mut Vec<Record>,
) -> Outcome {
    match engine.egress(from, frame, now, records) {
        Outcome::HandOver(handover) => engine.ingress(&handover, frame, now, records),
        other => other,
    }
}

/// Walks a frame that has to arrive.
fn pass(engine: &mut Engine, from: EndpointIndex, to: EndpointIndex, frame: &mut Kept) {
    let mut records = Vec::new();
    let outcome = frame.lend(|frame| walk(engine, from, frame, LATER, &mut records));
    assert!(matches!(outcome, Outcome::Transmit(at, _) if at == to));
}

/// Bytes of this process that are in memory. [proc_pid_statm(5)]
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn services(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("service");
    let backends: Vec<_> = (1..=100)
        .map(|last| backend([10, 1, 0, last], 80))
        .collect();
    let mut specs = service("web", VIP, 8080, &backends);
    let (table, _) = ServiceTable::new(&specs, None);
    let mut affinity = AffinityTable::new(16_384, (1, 2));
    let mut hash = 0_u64;
    let port = table.iter().next().unwrap();
    group.bench_function("pick by Maglev", |bencher| {
        bencher.iter(|| {
            hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
            black_box(port.all_backends().pick(black_box(hash)));
        });
    });
    for spec in &mut specs {
        spec.affinity = Some(Duration::from_secs(60));
    }
    let (table, _) = ServiceTable::new(&specs, None);
    let port = table.iter().next().unwrap();
    group.bench_function("pick with affinity", |bencher| {
        bencher.iter(|| {
            hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let client = IpAddr::from((hash as u32 & 0xfff).to_be_bytes());
            black_box(affinity.pick(client, port, port.all_backends(), hash, LATER));
        });
    });
    let specs = service("web", VIP, 8080, &[server()]);
    let mut engine = Engine::new(EngineSettings::default(), (7, 8));
    engine.adopt(Arc::new(serving(&[], 1, &specs)));
    let to_vip = v4(CLIENT, SERVER).destination(VIP);
    pass(
        &mut engine,
        CLIENT,
        SERVER,
        &mut Kept::new(&to_vip.tcp((40_000, 8080), SYN, b"")),
    );
    let mut there = Kept::new(&to_vip.tcp((40_000, 8080), ACK, b"payload"));
    let mut back = Kept::new(&v4(SERVER, CLIENT).tcp((80, 40_000), ACK, b"payload"));
    group.bench_function("hit there, both halves", |bencher| {
        bencher.iter(|| pass(&mut engine, CLIENT, SERVER, &mut there));
    });
    group.bench_function("hit back, both halves", |bencher| {
        bencher.iter(|| pass(&mut engine, SERVER, CLIENT, &mut back));
    });
    group.finish();
}

fn ways_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("source translation");
    let mut engine = Engine::new(EngineSettings::default(), (7, 8));
    engine.adopt(Arc::new(leaving(&[], 1, masquerade((1024, 65_535)))));
    let out = v4(CLIENT, UPLINK);
    pass(
        &mut engine,
        CLIENT,
        UPLINK,
        &mut Kept::new(&out.tcp((40_000, 443), SYN, b"")),
    );
    let mut there = Kept::new(&out.tcp((40_000, 443), ACK, b"payload"));
    let answer = v4(UPLINK, CLIENT).destination(NODE);
    let mut back = Kept::new(&answer.tcp((443, 40_000), ACK, b"payload"));
    group.bench_function("hit out, both halves", |bencher| {
        bencher.iter(|| pass(&mut engine, CLIENT, UPLINK, &mut there));
    });
    group.bench_function("hit back, both halves", |bencher| {
        bencher.iter(|| pass(&mut engine, UPLINK, CLIENT, &mut back));
    });
    let mut records = Vec::new();
    let (mut now, mut number) = (LATER, 0_u32);
    let mut query = Kept::new(&out.udp((5000, 53), b"q"));
    group.bench_function("miss, decide, choose a port, insert", |bencher| {
        bencher.iter(|| {
            number += 1;
            if number.is_multiple_of(64) {
                now = Now(now.0 + 1_000_000_000);
                engine.expire(now);
            }
            query.original[34..36].copy_from_slice(&(number as u16).to_be_bytes());
            let outcome = query.lend(|frame| walk(&mut engine, CLIENT, frame, now, &mut records));
            assert!(matches!(outcome, Outcome::Transmit(UPLINK, _)));
        });
    });
    group.finish();
}

/// The host opens flows to the server: one entry each, at the server.
fn many_flows(criterion: &mut Criterion) {
    let settings = EngineSettings {
        flows_max: FLOWS,
        half_open_max: 1,
        endpoint_share_percent: 100,
        ..EngineSettings::default()
    };
    let before = resident();
    let mut engine = Engine::new(settings, (7, 8));
    engine.adopt(Arc::new(snapshot(&[], 1)));
    let mut query = Kept::new(&v4(HOST, SERVER).udp((1, 1), b"q"));
    let mut records = Vec::new();
    let mut send = |engine: &mut Engine, number: u32| {
        query.original[34..38].copy_from_slice(&number.to_be_bytes());
        query.lend(|frame| walk(engine, HOST, frame, LATER, &mut records))
    };
    for number in 0..FLOWS {
        assert!(matches!(
            send(&mut engine, number),
            Outcome::Transmit(SERVER, _)
        ));
    }
    assert_eq!(engine.flows_count(), FLOWS as usize);
    let bytes = resident() - before;
    println!(
        "a table of {FLOWS} flows: {} MiB resident with its engine, {} bytes for each flow",
        bytes >> 20,
        bytes / FLOWS as usize
    );
    let mut chance = 1_u64;
    let mut group = criterion.benchmark_group("flow table");
    for (name, of) in [
        ("one of 1000 flows", 1000),
        ("one of 1 000 000 flows", FLOWS),
    ] {
        group.bench_function(format!("both halves from host to pod, {name}"), |bencher| {
            bencher.iter(|| {
                chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let number = ((chance >> 33) % u64::from(of)) as u32;
                assert!(matches!(
                    send(&mut engine, number),
                    Outcome::Transmit(SERVER, _)
                ));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, services, ways_out, many_flows);
criterion_main!(benches);
