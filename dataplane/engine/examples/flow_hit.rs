//! What a packet of a known flow costs: `cargo run --release --example flow_hit -- PACKETS [udp|tcp] [walk]`;
//! below `valgrind --tool=callgrind` it counts instructions.

#[path = "../tests/network/mod.rs"]
mod network;

use network::build::{ACK, SYN, v4};
use network::{CLIENT, HEAD_MAX, LATER, SERVER, snapshot};
use portcullis_engine::{Engine, EngineSettings, FrameBytes, Outcome};
use std::sync::Arc;
use std::time::Instant;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let packets: u32 = arguments
        .next()
        .map_or(1_000_000, |count| count.parse().expect("a number"));
    let is_tcp = arguments.next().is_some_and(|kind| kind == "tcp");
    let settings = EngineSettings {
        walks_always: std::env::args().any(|one| one == "walk"),
        ..EngineSettings::default()
    };
    let mut engine = Engine::new(settings, (1, 2));
    engine.adopt(Arc::new(snapshot(&[], 1)));
    let datagram = v4(CLIENT, SERVER).udp((5000, 80), &[0; 18]);
    let segment = |flags, payload: &[u8]| v4(CLIENT, SERVER).tcp((5000, 80), flags, payload);
    let (first, known) = match is_tcp {
        true => (
            vec![
                (CLIENT, segment(SYN, b"")),
                (SERVER, v4(SERVER, CLIENT).tcp((80, 5000), SYN | ACK, b"")),
                (CLIENT, segment(ACK, b"")),
            ],
            segment(ACK, &[0; 18]),
        ),
        false => (vec![(CLIENT, datagram.clone())], datagram),
    };
    let mut records = Vec::with_capacity(64);
    let mut head = vec![0; HEAD_MAX];
    let mut walk = |from, bytes: &[u8]| {
        head[..bytes.len()].copy_from_slice(bytes);
        let mut frame = FrameBytes {
            head: &mut head,
            head_length: bytes.len(),
            tail: &[],
        };
        let outcome = match engine.egress(from, &mut frame, LATER, &mut records) {
            Outcome::HandOver(handover) => {
                engine.ingress(&handover, &mut frame, LATER, &mut records)
            }
            other => other,
        };
        assert!(matches!(outcome, Outcome::Transmit(..)), "{outcome:?}");
    };
    for (from, bytes) in first {
        walk(from, &bytes);
    }
    let start = Instant::now();
    for _ in 0..packets {
        walk(CLIENT, &known);
    }
    let each = start.elapsed().as_nanos() as f64 / f64::from(packets);
    println!("{packets} packets, {each:.1} ns for both halves of each");
}
