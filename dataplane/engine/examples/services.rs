//! How long tables of services take to build: `cargo run --release --example services`.

use portcullis_engine::{Backend, BackendState, Frontend, FrontendKind, ServiceSpec, ServiceTable};
use portcullis_policy::Protocol;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const ROUNDS: u32 = 11;

fn service(number: u32, backends: u32) -> ServiceSpec {
    let frontend = Frontend {
        address: IpAddr::from((0x0a60_0000 + number).to_be_bytes()),
        protocol: Protocol::Tcp,
        port: 80,
    };
    let backend = |of: u32| Backend {
        address: IpAddr::from((0x0a00_0000 + number * 256 + of).to_be_bytes()),
        port: 8080,
        state: BackendState::Active,
        is_local: false,
    };
    ServiceSpec {
        namespace: "default".into(),
        name: format!("s{number}"),
        frontends: vec![(frontend, FrontendKind::ClusterIp)],
        backends: (0..backends).map(backend).collect(),
        ..ServiceSpec::default()
    }
}

/// The median of some rounds.
fn time(what: &str, mut work: impl FnMut() -> ServiceTable) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("{what}: {:?}", times[times.len() / 2]);
}

fn main() {
    for backends in [3, 100, 250] {
        let one = [service(0, backends)];
        let what = format!("1 service of {backends} backends");
        time(&what, || ServiceTable::new(&one, None).0);
    }
    let mut all: Vec<_> = (0..1000).map(|number| service(number, 3)).collect();
    time("1000 services of 3 backends", || {
        ServiceTable::new(&all, None).0
    });
    let (old, _) = ServiceTable::new(&all, None);
    time("the same again", || ServiceTable::new(&all, Some(&old)).0);
    all[500].backends.pop();
    time("one of them changed", || {
        ServiceTable::new(&all, Some(&old)).0
    });
}
