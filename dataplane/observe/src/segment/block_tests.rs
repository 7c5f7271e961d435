//! Bytes that pass for a block, because their checksums are right, and are none.

use super::block::{BlockBuilder, Header, read};
use super::row;
use crate::event::Event;
use jiff::Timestamp;
use portcullis_engine::{Drop, Record};
use proptest::prelude::*;
use std::sync::Arc;

/// A block of a hundred records, as it is before compression.
fn raw() -> (Header, Vec<u8>) {
    let mut block = BlockBuilder::default();
    for number in 0..100 {
        let mut event = Event::new(Timestamp::UNIX_EPOCH, Record::BLANK, Arc::default());
        event.number = number;
        block.push(&event);
    }
    let (header, bytes) = block.finish().unwrap();
    let payload = &bytes[super::block::HEADER..];
    (header, zstd::bulk::decompress(payload, 1 << 20).unwrap())
}

#[test]
fn an_unchanged_block_is_read_whole() {
    let (header, raw) = raw();
    let payload = zstd::bulk::compress(&raw, 1).unwrap();
    let events = read(&header.over(&payload, raw.len()), &payload).unwrap();
    assert_eq!(events.len(), 100);
    assert_eq!(events[99].record, Record::BLANK);
    assert_eq!(events[99].number, 99);
}

#[test]
fn a_block_that_would_fill_memory_is_refused() {
    let (header, _) = raw();
    let bomb = zstd::bulk::compress(&vec![0; 256 << 20], 1).unwrap();
    assert!(read(&header.over(&bomb, 1 << 20), &bomb).is_none());
    let header = header.over(&bomb, 256 << 20).bytes();
    assert_eq!(Header::read(&header), None);
}

#[test]
fn a_drop_reason_of_a_later_program_costs_its_records_alone() {
    let (header, raw) = raw();
    let text = Drop::NoTables.key().as_bytes();
    let place = raw
        .windows(text.len())
        .position(|window| window == text)
        .unwrap();
    let mut changed = raw;
    changed[place] = b'X';
    let payload = zstd::bulk::compress(&changed, 1).unwrap();
    let events = read(&header.over(&payload, changed.len()), &payload);
    assert_eq!(events.map(|events| events.len()), Some(0));
}

proptest! {
    #[test]
    fn changed_contents_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        count in 1..300_u32,
    ) {
        let (mut header, mut raw) = raw();
        for (place, byte) in changes {
            let place = place.index(raw.len());
            raw[place] = byte;
        }
        header.count = count;
        let payload = zstd::bulk::compress(&raw, 1).unwrap();
        for event in read(&header.over(&payload, raw.len()), &payload).unwrap_or_default() {
            let _ = crate::Flow::read(&event).line();
        }
    }

    #[test]
    fn changed_compression_never_panics(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let (header, raw) = raw();
        let mut payload = zstd::bulk::compress(&raw, 1).unwrap();
        let place = place.index(payload.len());
        payload[place] = byte;
        let _ = read(&header.over(&payload, raw.len()), &payload);
    }

    #[test]
    fn any_row_is_a_record_or_none(
        row in proptest::collection::vec(any::<u8>(), 0..200),
        drops in 0..Drop::ALL.len(),
    ) {
        let drops: Vec<_> = Drop::ALL[..drops].iter().copied().map(Some).collect();
        let _ = row::unpack(&row, &drops);
    }
}
