//! Properties: what holds for any bytes, any words, any super-frame.

mod network;

use network::build::{ACK, CWR, FIN, PSH, has_valid_checksums, plain_sum, v4, v6};
use network::*;
use portcullis_engine::{FrameBytes, adjust, parse, segment, segments, sum};
use proptest::prelude::*;

/// Lends bytes in pieces of any sizes, with the head first.
fn with_pieces<T>(bytes: &[u8], cuts: &[usize], run: impl FnOnce(&mut FrameBytes<'_>) -> T) -> T {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for cut in cuts {
        let (piece, after) = rest.split_at(cut % (rest.len() + 1));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    let mut head = pieces[0].to_vec();
    let head_length = head.len();
    run(&mut FrameBytes {
        head: &mut head,
        head_length,
        tail: &pieces[1..],
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn parse_never_panics_on_any_bytes(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ethertype in prop_oneof![Just([0x08, 0x00]), Just([0x86, 0xdd]), any::<[u8; 2]>()],
        version in prop_oneof![Just(0x45_u8), Just(0x60), Just(0x4f), any::<u8>()],
        cuts in proptest::collection::vec(any::<usize>(), 0..4),
    ) {
        let mut bytes = bytes;
        if bytes.len() > 14 {
            bytes[12..14].copy_from_slice(&ethertype);
            bytes[14] = version;
        }
        with_pieces(&bytes, &cuts, |frame| {
            let _ = parse(frame);
            let _ = segments(frame, 9);
            prop_assert_eq!(frame.length(), bytes.len());
            Ok(())
        })?;
    }

    #[test]
    fn a_changed_byte_never_panics_the_walk(
        at in any::<usize>(),
        value in any::<u8>(),
        is_v4 in any::<bool>(),
    ) {
        let build = if is_v4 { v4(CLIENT, SERVER) } else { v6(CLIENT, SERVER) };
        let mut frame = build.tcp((40_000, 80), 2, b"payload");
        let at = at % frame.len();
        frame[at] = value;
        let mut node = Node::new(&[]);
        match node.send(CLIENT, frame) {
            End::Dropped(_) => prop_assert_eq!(node.records.len(), 1),
            End::Cut { frames, .. } => prop_assert!(false, "nothing to cut: {:?}", frames),
            End::Sent { .. } | End::Answered { .. } | End::Held(_) => {}
        }
    }

    #[test]
    fn the_sum_agrees_with_the_plain_one(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        prop_assert_eq!(sum(&bytes), plain_sum(&bytes));
    }

    #[test]
    fn adjusting_a_checksum_agrees_with_summing_again(
        words in proptest::collection::vec(any::<u16>(), 2..40),
        place in any::<usize>(),
        new in any::<u16>(),
    ) {
        // A sum of nothing but zeros has two writings of zero; no header is all zeros.
        prop_assume!(words[0] != 0);
        let place = 1 + place % (words.len() - 1);
        let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
        let before = !plain_sum(&bytes(&words));
        let mut changed = words.clone();
        changed[place] = new;
        let after = !plain_sum(&bytes(&changed));
        prop_assert_eq!(adjust(before, words[place], new), after);
    }

    #[test]
    fn segments_put_together_are_the_super_frame(
        payload in proptest::collection::vec(any::<u8>(), 0..9000),
        step in 1_u16..2000,
        is_v4 in any::<bool>(),
        sequence in any::<u32>(),
        cuts in proptest::collection::vec(80_usize..4000, 0..4),
    ) {
        let build = if is_v4 { v4(CLIENT, UPLINK) } else { v6(CLIENT, UPLINK) };
        let headers = if is_v4 { 54 } else { 74 };
        let flags = ACK | PSH | FIN | CWR;
        let bytes = build.sequence(sequence).partial().tcp((40_000, 80), flags, &payload);
        // The headers lie in the head.
        let mut cuts = cuts;
        if let Some(first) = cuts.first_mut() {
            *first = headers + *first % (payload.len() + 1);
        }
        let mut together = Vec::new();
        with_pieces(&bytes, &cuts, |frame| {
            let count = segments(frame, step);
            prop_assert_eq!(count, payload.len().div_ceil(usize::from(step)).max(1));
            let mut out = vec![0; 2100];
            for index in 0..count {
                let length = segment(frame, step, index, &mut out).unwrap();
                prop_assert!(has_valid_checksums(&out[..length]));
                let offset = (index * usize::from(step)) as u32;
                let at = headers - 16;
                let told = u32::from_be_bytes(out[at..at + 4].try_into().unwrap());
                prop_assert_eq!(told, sequence.wrapping_add(offset));
                together.extend_from_slice(&out[headers..length]);
            }
            prop_assert_eq!(segment(frame, step, count, &mut out), None);
            Ok(())
        })?;
        prop_assert_eq!(together, payload);
    }
}
