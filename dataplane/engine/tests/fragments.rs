//! Datagrams in pieces: all pass by what the first one says, or none does.

mod network;

use network::build::{ACK, Build, SYN, forwarded, v4, v6};
use network::*;
use portcullis_engine::{
    Drop, EndpointId, EndpointIndex, EngineSettings, HOLDS_MAX, MacAddress, Record, RecordKind,
};
use portcullis_policy::Protocol;
use proptest::prelude::*;
use std::sync::Arc;

/// The piece from one byte to another of what is above IP; it says that it is of this protocol.
fn piece(build: &Build, protocol: u8, above: &[u8], from: usize, to: usize) -> Vec<u8> {
    let is_more = u16::from(to < above.len());
    let (offset, body) = (from as u16, &above[from..to]);
    if build.source.is_ipv4() {
        let build = build.clone().fragment((is_more << 13) | (offset / 8));
        return build.network(protocol, body);
    }
    let mut header = vec![protocol, 0];
    header.extend_from_slice(&(offset | is_more).to_be_bytes());
    header.extend_from_slice(&u32::from(build.identification).to_be_bytes());
    build.clone().options(44, &header).network(protocol, body)
}

/// What is above IP in a whole frame, and its protocol.
fn above(build: &Build, whole: &[u8]) -> (u8, Vec<u8>) {
    match build.source.is_ipv4() {
        true => (whole[23], whole[34..].to_vec()),
        false => (whole[20], whole[54..].to_vec()),
    }
}

/// A whole frame in pieces that begin at zero and at each cut.
fn pieces(build: &Build, whole: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let (protocol, above) = above(build, whole);
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([above.len()]);
    let bounds = starts.zip(ends);
    bounds
        .map(|(from, to)| piece(build, protocol, &above, from, to))
        .collect()
}

/// A datagram of 4 kB for UDP 53 in three pieces.
fn three(build: &Build) -> Vec<Vec<u8>> {
    pieces(build, &build.udp((5000, 53), &[7; 4000]), &[1448, 2896])
}

/// The same as they have to arrive.
fn three_at(build: &Build, to: EndpointIndex) -> Vec<End> {
    let frame = |at: usize| forwarded(build, to, |build| three(build).swap_remove(at));
    (0..3)
        .map(|at| End::Sent {
            to,
            frame: frame(at),
        })
        .collect()
}

fn both(from: EndpointIndex, to: EndpointIndex) -> [Build; 2] {
    [v4(from, to), v6(from, to)]
}

fn in_order<T: Clone>(all: &[T], order: &[usize]) -> Vec<T> {
    order.iter().map(|at| all[*at].clone()).collect()
}

/// Ends without those of frames that began to wait.
fn final_ends(ends: Vec<End>) -> Vec<End> {
    let is_final = |end: &End| !matches!(end, End::Held(_));
    ends.into_iter().filter(is_final).collect()
}

#[test]
fn a_datagram_in_three_pieces_passes_between_all_that_may_speak() {
    let pairs = [
        (CLIENT, SERVER),
        (CLIENT, HOST),
        (CLIENT, UPLINK),
        (HOST, SERVER),
        (UPLINK, SERVER),
    ];
    for (from, to) in pairs {
        for build in both(from, to) {
            let ends = Node::new(&[]).send_all(from, three(&build));
            assert_eq!(ends, three_at(&build, to), "{from:?} to {to:?}");
        }
    }
}

#[test]
fn pieces_ahead_of_the_first_wait_for_it_and_keep_their_order() {
    for order in [[1, 0, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1], [0, 2, 1]] {
        for build in both(CLIENT, SERVER) {
            let mut node = Node::new(&[ALLOW_CLIENT]);
            let ends = node.send_all(CLIENT, in_order(&three(&build), &order));
            // The first overtakes those that came before it.
            let place = order.iter().position(|at| *at == 0).unwrap();
            let mut passing = order.to_vec();
            passing[..=place].rotate_right(1);
            let expected = in_order(&three_at(&build, SERVER), &passing);
            assert_eq!(final_ends(ends), expected, "{order:?}");
            assert!(node.held.is_empty());
        }
    }
}

#[test]
fn one_record_tells_of_the_flow_and_none_of_its_pieces() {
    let mut node = Node::new(&[ALLOW_CLIENT]);
    node.send_all(CLIENT, in_order(&three(&v4(CLIENT, SERVER)), &[2, 0, 1]));
    let kinds: Vec<_> = node.records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, vec![RecordKind::Flow]);
}

#[test]
fn a_piece_that_comes_twice_passes_once() {
    let build = v4(CLIENT, SERVER);
    let [first, second, third] = three_at(&build, SERVER).try_into().unwrap();
    let again = || End::Dropped(Drop::FragmentOverlap);
    let mut node = Node::new(&[]);
    let frames = in_order(&three(&build), &[0, 0, 1, 1, 2, 2, 0]);
    let expected = vec![
        first.clone(),
        again(),
        second.clone(),
        again(),
        third.clone(),
    ];
    let expected = [expected, vec![again(), again()]].concat();
    assert_eq!(node.send_all(CLIENT, frames), expected);
    // Two of them waiting.
    let frames = in_order(&three(&build), &[1, 1, 0, 2]);
    let ends = Node::new(&[]).send_all(CLIENT, frames);
    assert_eq!(final_ends(ends), vec![first, second, again(), third]);
}

#[test]
fn an_overlap_ends_the_datagram_in_both_families() {
    for build in both(CLIENT, SERVER) {
        let (protocol, above) = above(&build, &build.udp((5000, 53), &[7; 4000]));
        let part = |from, to| piece(&build, protocol, &above, from, to);
        let mut node = Node::new(&[]);
        node.delivered(CLIENT, SERVER, part(0, 1480));
        for frame in [part(1472, 2960), part(1480, 2960), part(2960, above.len())] {
            assert_eq!(node.reason(CLIENT, frame), Drop::FragmentOverlap);
        }
        // Another datagram is another matter.
        let other = Build {
            identification: 7,
            ..build.clone()
        };
        let ends = node.send_all(CLIENT, three(&other));
        assert_eq!(ends, three_at(&other, SERVER));
    }
}

#[test]
fn a_first_piece_that_would_overwrite_the_ports_does_not_pass() {
    let build = v4(CLIENT, SERVER);
    let mut node = Node::new(&[ALLOW_CLIENT]);
    let allowed = three(&build);
    let forbidden = pieces(&build, &build.udp((5000, 54), &[7; 4000]), &[1448, 2896]);
    node.delivered(CLIENT, SERVER, allowed[0].clone());
    let reason = node.reason(CLIENT, forbidden[0].clone());
    assert_eq!(reason, Drop::FragmentOverlap);
    let late = v4(CLIENT, SERVER).fragment(0x2001).network(17, &[7; 64]);
    assert_eq!(node.reason(CLIENT, late), Drop::FragmentOverlap);
}

#[test]
fn a_piece_whose_first_does_not_come_ends_after_a_second_with_a_record() {
    let frames = three(&v4(CLIENT, SERVER));
    let length = frames[1].len() as u32;
    let mut node = Node::new(&[]);
    assert!(matches!(node.send(CLIENT, frames[1].clone()), End::Held(_)));
    node.engine.expire(node.now);
    assert_eq!(node.release(), vec![]);
    assert_eq!(node.records, vec![]);
    node.wait(1);
    node.engine.expire(node.now);
    assert_eq!(node.release(), vec![End::Dropped(Drop::FragmentUnknown)]);
    let [record] = node.records[..] else {
        panic!("{:?}", node.records);
    };
    let expected = Record {
        kind: RecordKind::Drop(Drop::FragmentUnknown),
        from: Some(EndpointId(100)),
        protocol: Some(Protocol::Udp),
        ports: (0, 0),
        length,
        ..record
    };
    assert_eq!(record, expected);
    // Too late: the others go without it.
    node.delivered(CLIENT, SERVER, frames[0].clone());
}

#[test]
fn the_memory_of_a_first_piece_ends() {
    let frames = three(&v4(CLIENT, SERVER));
    let mut node = Node::new(&[]);
    node.delivered(CLIENT, SERVER, frames[0].clone());
    node.wait(30);
    assert!(matches!(node.send(CLIENT, frames[1].clone()), End::Held(_)));
}

#[test]
fn of_a_denied_datagram_no_piece_passes() {
    let denied = [
        (v4(STRANGER, SERVER), STRANGER, ALLOW_CLIENT),
        (v6(STRANGER, SERVER), STRANGER, ALLOW_CLIENT),
        (v4(CLIENT, SERVER), CLIENT, CLIENT_SILENT),
        (v6(UPLINK, SERVER), UPLINK, ALLOW_CLIENT),
        (v4(UPLINK, SERVER), UPLINK, DENY_ALL),
    ];
    for (build, from, policy) in denied {
        for order in [[0, 1, 2], [2, 1, 0]] {
            let mut node = Node::new(&[policy]);
            let mut ends = node.send_all(from, in_order(&three(&build), &order));
            node.wait(1);
            node.engine.expire(node.now);
            ends.extend(node.release());
            let ends = final_ends(ends);
            assert_eq!(ends.len(), 3);
            for end in ends {
                let reasons = [Drop::PolicyDenied, Drop::FragmentUnknown];
                assert!(reasons.map(End::Dropped).contains(&end), "{end:?}");
            }
            assert_eq!(node.engine.flows_count(), 0);
        }
    }
}

#[test]
fn a_denied_opening_in_pieces_does_not_ride_on_the_answering_direction() {
    // The server opened a connection to the world; the world opens one on the same ports.
    let mut node = Node::new(&[ALLOW_CLIENT]);
    let out = v4(SERVER, UPLINK).tcp((40_000, 80), SYN, b"");
    node.delivered(SERVER, UPLINK, out);
    let build = v4(UPLINK, SERVER);
    let frames = pieces(&build, &build.tcp((80, 40_000), SYN, &[7; 100]), &[64]);
    assert_eq!(node.reason(UPLINK, frames[0].clone()), Drop::PolicyDenied);
    let reason = node.reason(UPLINK, frames[1].clone());
    assert_eq!(reason, Drop::FragmentUnknown);
    // An answer in pieces passes.
    let build = Build {
        identification: 7,
        ..build
    };
    let answer = pieces(
        &build,
        &build.tcp((80, 40_000), SYN | ACK, &[7; 100]),
        &[64],
    );
    for frame in answer {
        node.delivered(UPLINK, SERVER, frame);
    }
}

#[test]
fn new_tables_between_the_pieces_judge_the_rest() {
    for build in both(CLIENT, SERVER) {
        let frames = three(&build);
        let mut node = Node::new(&[ALLOW_CLIENT]);
        node.delivered(CLIENT, SERVER, frames[0].clone());
        node.adopt(&[ALLOW_CLIENT], 2);
        node.delivered(CLIENT, SERVER, frames[1].clone());
        node.adopt(&[DENY_ALL], 3);
        let reason = node.reason(CLIENT, frames[2].clone());
        assert_eq!(reason, Drop::PolicyDenied);
        let kind = node.records.last().map(|record| record.kind);
        assert_eq!(kind, Some(RecordKind::Revoked(Drop::PolicyDenied)));
        // What waits is judged by the tables that are there when its first comes.
        let waiting = Build {
            identification: 7,
            ..build
        };
        let frames = three(&waiting);
        assert!(matches!(node.send(CLIENT, frames[1].clone()), End::Held(_)));
        node.adopt(&[ALLOW_CLIENT], 4);
        let ends = node.send_all(CLIENT, [frames[0].clone()]);
        assert_eq!(ends, three_at(&waiting, SERVER)[..2]);
    }
}

#[test]
fn an_echo_in_pieces_passes_there_and_back() {
    for (there, back) in both(CLIENT, SERVER).into_iter().zip(both(SERVER, CLIENT)) {
        let echo = |build: &Build, kinds: (u8, u8)| {
            let kind = if build.source.is_ipv4() {
                kinds.0
            } else {
                kinds.1
            };
            build.icmp(kind, 0, [0, 9, 0, 1], &[7; 3000])
        };
        let mut node = Node::new(&[]);
        for frame in pieces(&there, &echo(&there, (8, 128)), &[1480, 2960]) {
            node.delivered(CLIENT, SERVER, frame);
        }
        for frame in pieces(&back, &echo(&back, (0, 129)), &[1480, 2960]) {
            node.delivered(SERVER, CLIENT, frame);
        }
        assert_eq!(node.engine.flows_count(), 2);
    }
}

#[test]
fn later_pieces_may_state_any_protocol_and_are_judged_by_the_first() {
    let build = v6(CLIENT, SERVER);
    let (protocol, above) = above(&build, &build.udp((5000, 53), &[7; 4000]));
    let mut node = Node::new(&[ALLOW_CLIENT]);
    node.delivered(CLIENT, SERVER, piece(&build, protocol, &above, 0, 1480));
    for (named, from) in [(6, 1480), (60, 1488)] {
        let frame = piece(&build, named, &above, from, from + 8);
        node.delivered(CLIENT, SERVER, frame);
    }
    node.adopt(&[DENY_ALL], 2);
    let frame = piece(&build, 6, &above, 1496, 1504);
    node.reason(CLIENT, frame);
    let record = node.records.last().unwrap();
    assert_eq!(record.protocol, Some(Protocol::Udp));
    assert_eq!(record.ports, (5000, 53));
}

#[test]
fn one_identification_at_two_pods_names_two_datagrams() {
    let mut node = Node::new(&[]);
    let (here, there) = (v4(CLIENT, SERVER), v4(STRANGER, SERVER));
    node.delivered(CLIENT, SERVER, three(&here).swap_remove(0));
    let held = node.send(STRANGER, three(&there).swap_remove(1));
    assert!(matches!(held, End::Held(_)));
    node.delivered(CLIENT, SERVER, three(&here).swap_remove(1));
    assert_eq!(node.release(), vec![]);
}

#[test]
fn a_flood_of_first_pieces_does_not_evict_those_of_others() {
    let mut node = Node::new(&[]);
    let frames = three(&v4(CLIENT, SERVER));
    node.delivered(CLIENT, SERVER, frames[0].clone());
    for identification in 0..10_000 {
        let flood = Build {
            identification,
            ..v4(STRANGER, SERVER)
        };
        let first = piece(&flood, 17, &[0, 1, 0, 2, 1, 0, 0, 0, 9], 0, 8);
        node.delivered(STRANGER, SERVER, first);
        node.records.clear();
    }
    node.delivered(CLIENT, SERVER, frames[1].clone());
    assert_eq!(node.engine.flows_count(), 4);
}

#[test]
fn few_frames_of_one_endpoint_wait_and_few_in_all() {
    let mut node = Node::new(&[]);
    let alone = |from, to, identification| {
        let build = Build {
            identification,
            ..v4(from, to)
        };
        three(&build).swap_remove(1)
    };
    let mut held = 0;
    for (from, to) in [
        (CLIENT, SERVER),
        (STRANGER, SERVER),
        (SERVER, CLIENT),
        (UPLINK, CLIENT),
    ] {
        for number in 0..16 {
            let end = node.send(from, alone(from, to, number));
            assert!(matches!(end, End::Held(_)), "{end:?}");
            held += 1;
        }
        let frame = alone(from, to, 16);
        assert_eq!(node.reason(from, frame), Drop::FragmentHoldFull);
    }
    assert_eq!((held, node.held.len()), (HOLDS_MAX, HOLDS_MAX));
    let frame = alone(HOST, CLIENT, 1);
    assert_eq!(node.reason(HOST, frame), Drop::FragmentHoldFull);
    node.wait(1);
    node.engine.expire(node.now);
    assert_eq!(node.release().len(), HOLDS_MAX);
    assert!(matches!(
        node.send(HOST, alone(HOST, CLIENT, 1)),
        End::Held(_)
    ));
}

#[test]
fn what_waits_ends_with_its_endpoint() {
    let frames = three(&v4(CLIENT, SERVER));
    let mut node = Node::new(&[]);
    assert!(matches!(node.send(CLIENT, frames[1].clone()), End::Held(_)));
    node.engine.release_held(SERVER);
    assert_eq!(node.release(), vec![]);
    // The index goes to another pod.
    let mut next = snapshot(&[], 2);
    next.endpoints[0].as_mut().unwrap().id = EndpointId(900);
    node.engine.adopt(Arc::new(next));
    node.engine.release_held(CLIENT);
    assert_eq!(node.release(), vec![End::Dropped(Drop::EndpointGone)]);
    // Nor does the new one profit from what the old one began.
    assert!(matches!(node.send(CLIENT, frames[1].clone()), End::Held(_)));
}

#[test]
fn no_error_is_sent_about_a_later_piece() {
    for build in both(CLIENT, UPLINK) {
        let mut node = Node::new(&[]);
        let (protocol, above) = above(&build, &build.udp((5000, 53), &[7; 4000]));
        let part = |build: &Build, from, to| piece(build, protocol, &above, from, to);
        let dying = build.clone().hops(1);
        let answered = node.send(CLIENT, part(&dying, 0, 800));
        assert!(matches!(answered, End::Answered { .. }));
        let reason = node.reason(CLIENT, part(&dying, 800, 1600));
        assert_eq!(reason, Drop::TtlExceeded);
        node.delivered(CLIENT, UPLINK, part(&build, 0, 800));
        let reason = node.reason(CLIENT, part(&build, 800, 2400));
        assert_eq!(reason, Drop::PacketTooBig);
        // It did not pass, so it may come again in smaller pieces.
        node.delivered(CLIENT, UPLINK, part(&build, 800, 1600));
        let other = Build {
            identification: 7,
            ..build.clone()
        };
        let answered = node.send(CLIENT, part(&other, 0, 2400));
        assert!(matches!(answered, End::Answered { .. }));
    }
}

#[test]
fn spoofed_and_strayed_pieces_do_not_wait() {
    let mut node = Node::new(&[]);
    let later = |build: Build| three(&build).swap_remove(1);
    let spoofed = v4(CLIENT, SERVER).source(v4(SERVER, CLIENT).source);
    let reason = node.reason(CLIENT, later(spoofed));
    assert_eq!(reason, Drop::SourceAddressSpoofed);
    let strayed = v6(CLIENT, SERVER).destination_mac(MacAddress([2, 0, 0, 0, 0, 77]));
    let reason = node.reason(CLIENT, later(strayed));
    assert_eq!(reason, Drop::DestinationMacForeign);
    let unknown = v4(CLIENT, SERVER).fragment(1).network(47, &[0; 64]);
    assert_eq!(node.reason(CLIENT, unknown), Drop::ProtocolUnknown);
}

#[test]
fn later_pieces_of_an_error_are_not_known() {
    let mut node = Node::new(&[]);
    let query = v4(SERVER, CLIENT).udp((1, 2), &[7; 60]);
    node.delivered(SERVER, CLIENT, query.clone());
    let build = v4(CLIENT, SERVER);
    let error = build.icmp(3, 3, [0; 4], &query[14..]);
    let frames = pieces(&build, &error, &[48]);
    node.delivered(CLIENT, SERVER, frames[0].clone());
    assert!(matches!(node.send(CLIENT, frames[1].clone()), End::Held(_)));
}

#[test]
fn a_small_table_forgets_the_oldest() {
    let settings = EngineSettings {
        datagrams_max: 1,
        ..EngineSettings::default()
    };
    let mut node = Node::with(settings, snapshot(&[], 1));
    let (one, other) = (v4(CLIENT, SERVER), v6(STRANGER, SERVER));
    node.delivered(CLIENT, SERVER, three(&one).swap_remove(0));
    node.delivered(STRANGER, SERVER, three(&other).swap_remove(0));
    let held = node.send(CLIENT, three(&one).swap_remove(1));
    assert!(matches!(held, End::Held(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_piece_passes_once_or_is_dropped_and_none_of_a_denied_datagram(
        is_v4 in any::<bool>(),
        port in prop_oneof![Just(53_u16), Just(54)],
        from in prop_oneof![Just(CLIENT), Just(UPLINK), Just(STRANGER)],
        sizes in proptest::collection::vec(1_usize..60, 1..24),
        order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
        shuffle in any::<u64>(),
    ) {
        let build = if is_v4 { v4(from, SERVER) } else { v6(from, SERVER) };
        let cuts: Vec<usize> = sizes.iter().scan(0, |at, size| {
            *at += size * 8;
            Some(*at)
        }).collect();
        let whole = build.udp((5000, port), &vec![7; cuts.last().unwrap() + 5]);
        let frames = pieces(&build, &whole, &cuts);
        // Each piece at least once, in any order; some again.
        let mut places: Vec<usize> = (0..frames.len()).collect();
        let mut chance = shuffle;
        for at in (1..places.len()).rev() {
            chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            places.swap(at, (chance >> 33) as usize % (at + 1));
        }
        let is_repeating = order.len() % 2 == 1;
        if is_repeating {
            places.extend(order.iter().map(|index| index.index(frames.len())));
        }
        let mut node = Node::new(&[ALLOW_CLIENT]);
        node.records = Vec::with_capacity(100);
        let sent = in_order(&frames, &places);
        let mut ends = node.send_all(from, sent.clone());
        node.wait(1);
        node.engine.expire(node.now);
        ends.extend(node.release());
        let ends = final_ends(ends);
        prop_assert!(node.held.is_empty());
        prop_assert_eq!(ends.len(), sent.len());
        let arrived: Vec<&Vec<u8>> = ends.iter().filter_map(|end| match end {
            End::Sent { frame, .. } => Some(frame),
            _ => None,
        }).collect();
        let is_allowed = from == CLIENT && port == 53;
        prop_assert!(is_allowed || arrived.is_empty());
        for at in 0..frames.len() {
            let frame = forwarded(&build, SERVER, |build| pieces(build, &whole, &cuts).swap_remove(at));
            let times = arrived.iter().filter(|arrived| ***arrived == frame).count();
            prop_assert!(times <= 1, "{} arrived {} times", at, times);
        }
        let reasons: Vec<Drop> = ends.iter().filter_map(|end| match end {
            End::Dropped(reason) => Some(*reason),
            _ => None,
        }).collect();
        let bounds = [Drop::FragmentHoldFull, Drop::FragmentScattered];
        let is_within = !reasons.iter().any(|reason| bounds.contains(reason));
        prop_assert_eq!(arrived.len() + reasons.len(), ends.len());
        if is_allowed && is_within {
            prop_assert_eq!(arrived.len(), frames.len());
            prop_assert!(reasons.iter().all(|reason| *reason == Drop::FragmentOverlap));
        }
    }
}
