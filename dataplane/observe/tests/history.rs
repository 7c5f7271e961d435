//! History and its readers: bounded, exact about what was missed, never in anybody's way.

mod world;

use jiff::{SignedDuration, Timestamp};
use portcullis_engine::{Drop, Record, RecordKind};
use portcullis_observe::{Batch, Event, Flow, Gap, History, Names, Position, Reader};
use portcullis_policy::Generation;
use std::sync::Arc;
use std::time::Duration;

/// The time of event `number`: a millisecond after the one before.
fn time(number: u32) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_millis(i64::from(number))
}

fn event(number: u32) -> Event {
    let record = Record {
        kind: RecordKind::Drop(Drop::Truncated),
        length: number,
        ..Record::BLANK
    };
    Event::new(time(number), record, Arc::default())
}

fn lengths(batch: &Batch) -> Vec<u32> {
    batch
        .events
        .iter()
        .map(|event| event.record.length)
        .collect()
}

fn gap(first: u32, last: u32) -> Option<Gap> {
    Some(Gap {
        count: u64::from(last - first + 1),
        first: time(first),
        last: time(last),
    })
}

#[test]
fn a_slow_reader_is_told_what_it_missed() {
    let history = Arc::new(History::new(3));
    history.extend([event(1), event(2)]);
    let mut reader = history.reader();
    let batch = reader.read(10);
    assert_eq!((batch.lost, lengths(&batch)), (None, vec![1, 2]));
    history.extend((3..=7).map(event));
    let batch = reader.read(2);
    assert_eq!((batch.lost, lengths(&batch)), (gap(3, 4), vec![5, 6]));
    history.extend((8..=9).map(event));
    let batch = reader.read(10);
    assert_eq!((batch.lost, lengths(&batch)), (None, vec![7, 8, 9]));
    assert_eq!(history.counts(), (3, 9));
    let numbers: Vec<u64> = batch.events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, [6, 7, 8]);
}

#[test]
fn several_losses_are_one_gap_until_they_are_told() {
    let history = Arc::new(History::new(2));
    let mut reader = history.reader();
    for number in 1..=9 {
        history.extend([event(number)]);
    }
    let batch = reader.read(10);
    assert_eq!((batch.lost, lengths(&batch)), (gap(1, 7), vec![8, 9]));
    assert_eq!(reader.read(10).lost, None);
}

#[test]
fn what_was_gone_before_a_reader_began_it_has_not_missed() {
    let history = Arc::new(History::new(3));
    history.extend((0..10).map(event));
    for (position, expected) in [
        (Position::Oldest, vec![7, 8, 9]),
        (Position::Newest, vec![]),
        (Position::Since(time(2)), vec![7, 8, 9]),
        (Position::Since(time(8)), vec![8, 9]),
        (Position::Since(time(10)), vec![]),
        (Position::Number(2), vec![7, 8, 9]),
        (Position::Number(9), vec![9]),
        (Position::Number(50), vec![]),
    ] {
        let batch = history.reader_at(position).read(10);
        assert_eq!(
            (batch.lost, lengths(&batch)),
            (None, expected),
            "{position:?}"
        );
    }
}

#[test]
fn history_is_walked_backwards() {
    let history = History::new(5);
    history.extend((0..8).map(event));
    let mut found = Vec::new();
    let mut before = u64::MAX;
    loop {
        let events = history.events_before(before, 2);
        let Some(last) = events.last() else { break };
        before = last.number;
        found.extend(events.iter().map(|event| event.record.length));
    }
    assert_eq!(found, [7, 6, 5, 4, 3]);
}

#[test]
fn closing_ends_a_reader_that_waits() {
    let history = Arc::new(History::new(3));
    let reader = history.reader();
    let waiting = std::thread::spawn(move || reader.wait(Duration::from_secs(60)));
    history.close();
    assert!(!waiting.join().unwrap());
}

#[test]
fn what_workers_lost_is_told_once_to_each_reader() {
    let history = Arc::new(History::new(3));
    history.set_unwritten(5);
    let mut reader = history.reader();
    assert_eq!(reader.read(1).unwritten, 0);
    history.set_unwritten(12);
    assert_eq!((reader.read(1).unwritten, reader.read(1).unwritten), (7, 0));
    assert_eq!(history.counts_all().unwritten, 12);
}

#[test]
fn names_go_with_the_last_record_that_needs_them() {
    let history = Arc::new(History::new(10));
    let old = Arc::new(Names::default());
    let mut event_old = event(0);
    event_old.record.generation = Generation(1);
    event_old.names = Arc::clone(&old);
    history.extend(std::iter::repeat_n(event_old, 10));
    assert_eq!(Arc::strong_count(&old), 2);
    history.extend((1..10).map(event));
    let first = history.reader().read(1);
    assert_eq!(first.events[0].record.generation, Generation(1));
    assert!(Arc::ptr_eq(&first.events[0].names, &old));
    drop(first);
    history.extend([event(10)]);
    assert_eq!(Arc::strong_count(&old), 1);
}

#[test]
fn an_idle_history_takes_no_memory() {
    let history = History::new(1_000_000);
    assert_eq!(history.counts_all().bytes, 0);
    history.extend((0..5000).map(event));
    assert_eq!(history.counts_all().bytes, 2 * 4096 * 128);
}

/// Reads what there is, and adds up how much it saw and missed.
fn account(reader: &mut Reader, next: &mut u64, seen: &mut u64, lost: &mut u64) -> bool {
    let batch = reader.read(300);
    if let Some(gap) = batch.lost {
        *lost += gap.count;
        *next += gap.count;
        assert_eq!(gap.last, time(u32::try_from(*next - 1).unwrap()));
        assert_eq!(gap.first, time(u32::try_from(*next - gap.count).unwrap()));
    }
    for event in &batch.events {
        assert_eq!(
            (event.number, u64::from(event.record.length)),
            (*next, *next)
        );
        *next += 1;
    }
    *seen += batch.events.len() as u64;
    !batch.events.is_empty()
}

#[test]
fn what_a_slow_reader_sees_and_misses_is_all_that_was_written() {
    const WRITTEN: u32 = 400_000;
    let history = Arc::new(History::new(5000));
    // One that has stopped altogether: it must neither hold anything up nor be told too little.
    let mut stopped = history.reader();
    let readers: Vec<_> = (0..3)
        .map(|number| {
            let mut reader = history.reader();
            std::thread::spawn(move || {
                let (mut next, mut seen, mut lost) = (0, 0, 0);
                while reader.wait(Duration::from_secs(1)) {
                    account(&mut reader, &mut next, &mut seen, &mut lost);
                    std::thread::sleep(Duration::from_micros(500 * number));
                }
                while account(&mut reader, &mut next, &mut seen, &mut lost) {}
                (seen + lost, seen)
            })
        })
        .collect();
    for start in (0..WRITTEN).step_by(997) {
        history.extend((start..(start + 997).min(WRITTEN)).map(event));
    }
    history.close();
    for reader in readers {
        let (all, seen) = reader.join().unwrap();
        assert_eq!(all, u64::from(WRITTEN));
        assert!(seen >= 5000);
    }
    let (mut next, mut seen, mut lost) = (0, 0, 0);
    while account(&mut stopped, &mut next, &mut seen, &mut lost) {}
    assert_eq!((seen, lost), (5000, u64::from(WRITTEN) - 5000));
}

/// An event of a generation of its own, and its names.
fn event_of(generation: u64, number: u32, names: &Arc<Names>) -> Event {
    let mut event = world::event(number);
    event.record.generation = Generation(generation);
    event.names = Arc::clone(names);
    event
}

#[test]
fn names_of_many_generations_are_reduced_to_what_their_records_need() {
    const GENERATIONS: u64 = 300;
    let history = Arc::new(History::new(10_000));
    let mut all = Vec::new();
    for generation in 0..GENERATIONS {
        let names = Arc::new(world::names(generation));
        all.push(Arc::downgrade(&names));
        for number in 0..4 {
            history
                .extend((number * 25..(number + 1) * 25).map(|n| event_of(generation, n, &names)));
        }
        let whole = all.iter().filter(|names| names.strong_count() > 0).count();
        assert!(whole <= 66, "{whole} sets of names");
    }
    let names: Vec<_> = (0..GENERATIONS)
        .map(|generation| Arc::new(world::names(generation)))
        .collect();
    let mut reader = history.reader();
    let events = reader.read(usize::MAX).events;
    assert_eq!(events.len(), 10_000);
    let reduced = events
        .iter()
        .filter(|event| event.names.extract.is_some())
        .count();
    assert!(reduced >= 2_500, "{reduced} events with extracts");
    for event in &events {
        let generation = event.record.generation.0;
        let names = &names[usize::try_from(generation).unwrap()];
        let live = event_of(generation, event.record.length, names);
        assert_eq!(Flow::read(event), Flow::read(&live));
    }
    assert_eq!(history.counts_all().names, 100);
    // Extracts go with their last record, as whole sets do.
    history.extend((0..10_000).map(|number| event_of(0, number % 100, &names[0])));
    assert_eq!(history.counts_all().names, 1);
}
