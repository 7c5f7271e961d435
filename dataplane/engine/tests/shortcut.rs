//! The short way of known flows does what the whole walk does: to every frame, byte by byte.

mod network;

use network::build::{ACK, FIN, PSH, RST, SYN, v4, v6};
use network::*;
use portcullis_engine::{EndpointIndex, EngineSettings, FlowView};
use proptest::prelude::*;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// A frame between two of the three pods, some bytes of it changed.
    Send {
        from: u16,
        to: u16,
        port: u16,
        kind: Kind,
        is_v4: bool,
        is_partial: bool,
        hops: u8,
        payload: usize,
        padding: usize,
        changes: Vec<(usize, u8)>,
    },
    /// Another policy, or the same as another generation.
    Adopt(u8),
    Wait(u64),
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Udp,
    Tcp(u8, u32, u32),
    Echo(bool),
}

fn kinds() -> impl Strategy<Value = Kind> {
    let flags = prop_oneof![
        4 => Just(ACK),
        2 => Just(SYN),
        2 => Just(SYN | ACK),
        1 => Just(PSH | ACK),
        1 => Just(FIN | ACK),
        1 => Just(RST),
        1 => any::<u8>(),
    ];
    let number = prop_oneof![4 => 0_u32..3, 1 => any::<u32>()];
    prop_oneof![
        3 => Just(Kind::Udp),
        6 => (flags, number.clone(), number).prop_map(|(flags, one, other)| Kind::Tcp(flags, one, other)),
        1 => any::<bool>().prop_map(Kind::Echo),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let changes = prop_oneof![
        4 => Just(Vec::new()),
        1 => proptest::collection::vec((0_usize..90, any::<u8>()), 1..3),
    ];
    let sizes = (
        0_usize..40,
        prop_oneof![9 => Just(0_usize), 1 => 1_usize..8],
    );
    let send = (
        (0_u16..3, 0_u16..3, 0_u16..2),
        kinds(),
        (any::<bool>(), any::<bool>()),
        prop_oneof![8 => Just(64_u8), 1 => 0_u8..3],
        sizes,
        changes,
    );
    let send =
        send.prop_map(
            |(ends, kind, (is_v4, is_partial), hops, sizes, changes)| Step::Send {
                from: ends.0,
                to: ends.1,
                port: ends.2,
                kind,
                is_v4,
                is_partial,
                hops,
                payload: sizes.0,
                padding: sizes.1,
                changes,
            },
        );
    prop_oneof![
        30 => send,
        1 => (0_u8..3).prop_map(Step::Adopt),
        1 => prop_oneof![1_u64..3, 50_u64..100, 4000_u64..30_000].prop_map(Step::Wait),
    ]
}

/// The frame of a step, and where it comes in.
fn frame_of(step: &Step) -> Option<(EndpointIndex, Vec<u8>)> {
    let Step::Send {
        from,
        to,
        port,
        kind,
        is_v4,
        is_partial,
        hops,
        payload,
        padding,
        changes,
    } = step
    else {
        return None;
    };
    let (from, to) = (EndpointIndex(*from), EndpointIndex(*to));
    let mut build = if *is_v4 { v4(from, to) } else { v6(from, to) };
    build = build.hops(*hops).padding(*padding);
    if *is_partial {
        build = build.partial();
    }
    // Who has the lower number asks, so that answers meet their flows.
    let ports = if from.0 < to.0 {
        (5000, 80 + port)
    } else {
        (80 + port, 5000)
    };
    let payload = vec![7; *payload];
    let mut bytes = match *kind {
        Kind::Udp => build.udp(ports, &payload),
        Kind::Tcp(flags, sequence, acknowledgement) => build
            .sequence(sequence)
            .acknowledgement(acknowledgement)
            .tcp(ports, flags, &payload),
        Kind::Echo(is_request) => build.echo(is_request, *port),
    };
    for (at, value) in changes {
        let length = bytes.len();
        bytes[at % length] = *value;
    }
    Some((from, bytes))
}

fn flows(node: &Node) -> Vec<FlowView> {
    let mut all = Vec::with_capacity(1024);
    let mut cursor = Some(0);
    while let Some(from) = cursor {
        cursor = node.engine.list_flows(from, &mut all);
    }
    all
}

fn node(is_offloaded: bool, walks_always: bool) -> Node {
    let settings = EngineSettings {
        offload_checksums: is_offloaded,
        walks_always,
        ..EngineSettings::default()
    };
    let mut node = Node::with(settings, snapshot(&[], 1));
    node.records = Vec::with_capacity(4096);
    node
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_short_way_and_the_walk_agree(
        steps in proptest::collection::vec(steps(), 1..120),
        is_offloaded in any::<bool>(),
    ) {
        let (mut short, mut walk) = (node(is_offloaded, false), node(is_offloaded, true));
        let mut generation = 1;
        for step in &steps {
            match step {
                Step::Adopt(number) => {
                    generation += 1;
                    let policies = [&[][..], &[ALLOW_CLIENT][..], &[DENY_ALL][..]][usize::from(*number)];
                    for node in [&mut short, &mut walk] {
                        node.adopt(policies, generation);
                    }
                }
                Step::Wait(seconds) => {
                    for node in [&mut short, &mut walk] {
                        node.wait(*seconds);
                    }
                }
                Step::Send { .. } => {
                    let (from, bytes) = frame_of(step).expect("it sends");
                    let ends = [&mut short, &mut walk].map(|node| {
                        let end = node.send_all(from, [bytes.clone()]);
                        (end, node.resets())
                    });
                    prop_assert_eq!(&ends[0], &ends[1], "{:?}", step);
                }
            }
            prop_assert_eq!(&short.records, &walk.records);
            prop_assert_eq!(flows(&short), flows(&walk));
        }
    }
}

/// The property would hold just as well if nobody ever took the short way.
#[test]
fn a_known_flow_takes_the_short_way() {
    for build in [v4(CLIENT, SERVER), v6(CLIENT, SERVER)] {
        let mut node = node(false, false);
        let frame = build.udp((5000, 80), b"x");
        for is_short in [false, true, true] {
            let before = node.engine.shortcuts_count();
            node.delivered(CLIENT, SERVER, frame.clone());
            assert_eq!(node.engine.shortcuts_count() - before, u64::from(is_short));
        }
    }
}
