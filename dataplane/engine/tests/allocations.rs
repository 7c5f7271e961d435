//! A packet costs no memory: flows come, go, expire and are listed within what was allocated at
//! the start.

mod network;

use network::build::{ACK, RST, SYN, v4, v6};
use network::services::*;
use network::{CLIENT, LATER, SERVER, UPLINK, snapshot, with_frame};
use portcullis_engine::{Engine, EngineSettings, Now, Outcome};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Counts what this thread asks for.
struct Counting;

#[expect(
    unsafe_code,
    reason = "a test that counts allocations needs an allocator of its own"
)]
// SAFETY: every call goes on to the system's allocator as it came; the counter is a plain cell of
// the thread and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised us.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations during a call.
fn counted<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATIONS.get();
    let result = run();
    (result, ALLOCATIONS.get() - before)
}

#[test]
fn flows_come_go_and_are_listed_without_an_allocation() {
    let settings = EngineSettings {
        flows_max: 64,
        half_open_max: 32,
        ..EngineSettings::default()
    };
    let mut engine = Engine::new(settings, (1, 2));
    engine.adopt(Arc::new(snapshot(&[], 1)));
    let mut records = Vec::with_capacity(8);
    let mut views = Vec::with_capacity(16);
    let mut now = LATER;
    let mut sum = 0;
    for round in 0_u16..400 {
        let (port, there) = (1000 + round, round % 2 == 0);
        let (client, server) = if there {
            (v4(CLIENT, SERVER), v4(SERVER, CLIENT))
        } else {
            (v6(CLIENT, SERVER), v6(SERVER, CLIENT))
        };
        let frames = [
            (CLIENT, client.tcp((port, 80), SYN, b"")),
            (SERVER, server.tcp((80, port), SYN | ACK, b"")),
            (CLIENT, client.tcp((port, 80), ACK, b"data")),
            (CLIENT, client.udp((port, 53), b"q")),
            (SERVER, server.tcp((80, port), RST, b"")),
            (CLIENT, v4(CLIENT, UPLINK).tcp((port, 80), SYN, b"")),
        ];
        for (from, mut bytes) in frames {
            records.clear();
            views.clear();
            let (engine, records, views) = (&mut engine, &mut records, &mut views);
            sum += with_frame(&mut bytes, |frame| {
                let ((), count) = counted(|| {
                    if let Outcome::HandOver(handover) = engine.egress(from, frame, now, records) {
                        let outcome = engine.ingress(&handover, frame, now, records);
                        if handover.must_be_withdrawn(&outcome) {
                            engine.withdraw(&handover);
                        }
                    }
                    engine.expire(now);
                    engine.list_flows(u32::from(round) % 64, views);
                });
                count
            });
        }
        now = Now(now.0 + u64::from(round % 7) * 1_000_000_000);
    }
    assert_eq!(sum, 0);
    let gauges = engine.flow_table_gauges();
    assert!(gauges.refused_share > 0, "{gauges:?}");
    assert!(gauges.half_open_evicted > 0, "{gauges:?}");
    assert_eq!(counted(|| vec![1]).1, 1);
}

#[test]
fn services_and_ways_out_cost_no_memory() {
    let settings = EngineSettings {
        flows_max: 64,
        half_open_max: 32,
        sessions_max: 48,
        affinities_max: 8,
        ..EngineSettings::default()
    };
    let mut specs = service("web", VIP, 8080, &[server(), stranger()]);
    for spec in &mut specs {
        spec.affinity = Some(std::time::Duration::from_secs(5));
    }
    specs.extend(service("self", VIP, 81, &[client()]));
    specs.extend(service("node", NODE, 443, &[server(), backend(FAR, 80)]));
    let mut snapshot = leaving(&[], 1, masquerade((40_000, 40_003)));
    snapshot.services = Arc::new(portcullis_engine::ServiceTable::new(&specs, None).0);
    let mut engine = Engine::new(settings, (1, 2));
    engine.adopt(Arc::new(snapshot));
    let mut records = Vec::with_capacity(8);
    let mut views = Vec::with_capacity(16);
    let (mut now, mut sum, mut returned) = (LATER, 0, 0);
    for round in 0_u16..400 {
        let port = 1000 + round;
        let to_vip = v4(CLIENT, SERVER).destination(VIP);
        let to_node = v4(UPLINK, SERVER).destination(NODE);
        let frames = [
            (CLIENT, to_vip.tcp((port, 8080), SYN, b"")),
            (CLIENT, to_vip.udp((port, 81), b"q")),
            (CLIENT, to_vip.udp((port, 9), b"nobody")),
            (CLIENT, v4(CLIENT, UPLINK).udp((port, 53), b"q")),
            (CLIENT, v6(CLIENT, UPLINK).tcp((port, 443), SYN, b"")),
            (UPLINK, to_node.udp((53, 40_000 + round % 4), b"a")),
            (UPLINK, to_node.tcp((port, 443), SYN, b"")),
        ];
        for (from, mut bytes) in frames {
            records.clear();
            views.clear();
            let (engine, records, views) = (&mut engine, &mut records, &mut views);
            let (is_returned, count) = with_frame(&mut bytes, |frame| {
                counted(|| {
                    let mut is_returned = false;
                    if let Outcome::HandOver(handover) = engine.egress(from, frame, now, records) {
                        let outcome = engine.ingress(&handover, frame, now, records);
                        is_returned = matches!(outcome, Outcome::Return { .. });
                        if handover.must_be_withdrawn(&outcome) {
                            engine.withdraw(&handover);
                        }
                    }
                    engine.expire(now);
                    engine.list_sessions(0, views);
                    is_returned
                })
            });
            returned += usize::from(is_returned);
            sum += count;
        }
        now = Now(now.0 + u64::from(round % 7) * 1_000_000_000);
    }
    assert_eq!(sum, 0);
    assert!(returned > 0, "no port ran out");
    assert!(engine.sessions_count() > 0);
}
