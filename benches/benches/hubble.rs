//! What Hubble's API costs a flow: from an event of history to the bytes that are sent.

#[path = "../../dataplane/hubble/tests/world/mod.rs"]
mod world;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use portcullis_hubble::Teller;
use portcullis_observe::{FlowChoice, FlowFilter, Sighting, Why};
use prost::Message;
use std::hint::black_box;
use world::World;

fn told(c: &mut Criterion) {
    let world = World::new(16);
    world.log.compare(world::start(), None, world.names());
    let sources = world.sources();
    let mut teller = Teller::new(&sources.node);
    let mut group = c.benchmark_group("hubble/flow");
    // Each of these events is three flows.
    group.throughput(Throughput::Elements(3));
    for (name, event) in [("allowed", world.allowed(0)), ("denied", world.denied(1))] {
        group.bench_function(name, |b| {
            b.iter(|| {
                for sighting in Sighting::all(black_box(&event)) {
                    black_box(teller.flow(&sighting).encode_to_vec());
                }
            });
        });
    }
    group.finish();
    let event = world.denied(2);
    c.bench_function("hubble/why", |b| b.iter(|| Why::of(black_box(&event))));
    let filter: FlowFilter = FlowFilter {
        source_pod: vec!["frontend/".into()],
        destination_label: vec!["k8s:app in (api, web)".into()],
        ..FlowFilter::default()
    };
    let choice = FlowChoice::compile(
        &[filter],
        &[],
        &sources.node.home(),
        portcullis_hubble::read_expressions,
    )
    .expect("a filter");
    world.history.extend([event.clone()]);
    c.bench_function("hubble/filter", |b| {
        b.iter(|| {
            Sighting::all(black_box(&event))
                .filter(|s| choice.wants(s))
                .count()
        });
    });
}

criterion_group!(benches, told);
criterion_main!(benches);
