//! What the engine costs a packet, in nanoseconds: each step by itself, and whole walks.

#[path = "../../dataplane/engine/tests/network/mod.rs"]
mod network;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use network::build::{ACK, SYN, arp, v4, v6};
use network::*;
use portcullis_engine::{
    EndpointIndex, Engine, EngineSettings, FrameBytes, MacAddress, Now, Outcome, Record,
    finish_checksum, parse, segment, segments,
};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// A frame in pieces as the rings have it, that can be put back after a walk.
struct Pieces {
    original: Vec<u8>,
    head: Vec<u8>,
    head_length: usize,
    rest: Vec<u8>,
}

impl Pieces {
    fn new(bytes: &[u8]) -> Self {
        let head_length = bytes.len().min(HEAD_MAX);
        let mut head = vec![0; HEAD_MAX];
        head[..head_length].copy_from_slice(&bytes[..head_length]);
        Self {
            original: bytes[..head_length.min(96)].to_vec(),
            head,
            head_length,
            rest: bytes[head_length..].to_vec(),
        }
    }

    /// Lends the frame, its headers as they were at first.
    fn lend<T>(&mut self, run: impl FnOnce(&mut FrameBytes<'_>) -> T) -> T {
        self.head[..self.original.len()].copy_from_slice(&self.original);
        let mut tail: [&[u8]; 17] = [&[]; 17];
        let mut count = 0;
        for (place, piece) in tail.iter_mut().zip(self.rest.chunks(4096)) {
            *place = piece;
            count += 1;
        }
        run(&mut FrameBytes {
            head: &mut self.head,
            head_length: self.head_length,
            tail: &tail[..count],
        })
    }
}

fn engine() -> Engine {
    let mut engine = Engine::new(EngineSettings::default(), (7, 8));
    engine.adopt(Arc::new(snapshot(&[ALLOW_CLIENT], 1)));
    engine
}

/// Both halves, as one worker runs them.
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

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, build) in [("ipv4", v4(CLIENT, SERVER)), ("ipv6", v6(CLIENT, SERVER))] {
        let mut pieces = Pieces::new(&build.tcp((40_000, 80), ACK, b"payload"));
        group.bench_function(name, |bencher| {
            bencher.iter(|| pieces.lend(|frame| black_box(parse(frame))));
        });
    }
    group.finish();
}

fn walking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("walk");
    let mut records = Vec::with_capacity(16);
    for (name, there) in [("ipv4", v4(CLIENT, SERVER)), ("ipv6", v6(CLIENT, SERVER))] {
        let mut engine = engine();
        let mut syn = Pieces::new(&there.tcp((40_000, 80), SYN, b""));
        let mut data = Pieces::new(&there.tcp((40_000, 80), ACK, b"payload"));
        syn.lend(|frame| walk(&mut engine, CLIENT, frame, LATER, &mut records));
        group.bench_function(format!("flow hit, both halves, {name}"), |bencher| {
            bencher.iter(|| {
                data.lend(|frame| {
                    let outcome = walk(&mut engine, CLIENT, frame, LATER, &mut records);
                    assert!(matches!(outcome, Outcome::Transmit(SERVER, _)));
                });
            });
        });
    }
    let mut engine = engine();
    let mut now = LATER;
    let mut port = 0_u16;
    let mut query = Pieces::new(&v4(CLIENT, SERVER).udp((5000, 53), b"q"));
    group.bench_function("flow miss and decide, both halves, ipv4", |bencher| {
        bencher.iter(|| {
            port = port.wrapping_add(1);
            // As the worker does between batches: old flows make room for new ones.
            if port.is_multiple_of(64) {
                now = Now(now.0 + 1_000_000_000);
                engine.expire(now);
            }
            query.original[34..36].copy_from_slice(&port.to_be_bytes());
            records.clear();
            let outcome = query.lend(|frame| walk(&mut engine, CLIENT, frame, now, &mut records));
            assert!(matches!(outcome, Outcome::Transmit(SERVER, _)));
        });
    });
    let mut denied = Pieces::new(&v4(STRANGER, SERVER).udp((5000, 53), b"q"));
    group.bench_function("denied at the destination, ipv4", |bencher| {
        bencher.iter(|| {
            records.clear();
            denied.lend(|frame| {
                let Outcome::HandOver(handover) = engine.egress(STRANGER, frame, now, &mut records)
                else {
                    panic!("no handover");
                };
                let outcome = engine.ingress(&handover, frame, now, &mut records);
                assert!(handover.must_be_withdrawn(&outcome));
                engine.withdraw(&handover);
            });
        });
    });
    let link = (CLIENT_PARTY.mac, MacAddress::BROADCAST);
    let target = (MacAddress::default(), Ipv4Addr::new(10, 0, 0, 200));
    let mut request = Pieces::new(&arp(1, link, (CLIENT_PARTY.mac, CLIENT_PARTY.v4), target));
    group.bench_function("arp answer", |bencher| {
        bencher.iter(|| {
            request.lend(|frame| {
                black_box(walk(&mut engine, CLIENT, frame, now, &mut records));
            });
        });
    });
    group.finish();
}

fn summing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("finish_checksum");
    for length in [1500, 65_535] {
        let payload = vec![0x5a; length - 40];
        let build = v4(CLIENT, SERVER).partial();
        let mut pieces = Pieces::new(&build.tcp((40_000, 80), ACK, &payload));
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(format!("{length} bytes"), |bencher| {
            bencher.iter(|| pieces.lend(|frame| finish_checksum(black_box(frame))));
        });
    }
    group.finish();
}

fn cutting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("segment");
    let payload = vec![0x5a; 65_495];
    let build = v4(CLIENT, UPLINK).partial();
    let mut pieces = Pieces::new(&build.tcp((40_000, 80), ACK, &payload));
    group.throughput(Throughput::Bytes(65_535));
    group.bench_function("65535 bytes into packets of 1500", |bencher| {
        bencher.iter_batched_ref(
            || vec![0; 1514],
            |out| {
                pieces.lend(|frame| {
                    for index in 0..segments(frame, 1460) {
                        black_box(segment(frame, 1460, index, out).unwrap());
                    }
                });
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, parsing, walking, summing, cutting);
criterion_main!(benches);
