//! History on disk: what was written is read after a restart, with its names; damage costs what it
//! hit and no more.

mod records;
mod world;

use jiff::{SignedDuration, Timestamp};
use portcullis_observe::{
    Batch, Event, Flow, Gap, History, Position, Reader, SegmentSettings, SegmentWriter, Segments,
};
use proptest::prelude::*;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A directory that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "portcullis-segments-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Relaxed)
        );
        Self(std::env::temp_dir().join(name))
    }

    fn settings(&self, bytes_max: u64) -> SegmentSettings {
        SegmentSettings {
            directory: self.0.clone(),
            bytes_max,
            age_max: Duration::from_secs(24 * 3600),
        }
    }

    fn open(&self) -> Arc<Segments> {
        Arc::new(Segments::open(self.settings(1 << 30)).unwrap())
    }

    /// The files, the oldest first.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Everything that a reader gets.
fn drain(reader: &mut Reader) -> (Vec<Event>, u64) {
    let (mut events, mut lost) = (Vec::new(), 0);
    loop {
        let batch = reader.read(1000);
        lost += batch.lost.map_or(0, |gap| gap.count);
        if batch.events.is_empty() && batch.lost.is_none() {
            return (events, lost);
        }
        events.extend(batch.events);
    }
}

/// Writes events as a daemon does, and ends.
fn write(place: &Place, capacity: usize, events: impl IntoIterator<Item = Event>) {
    let segments = place.open();
    let history = Arc::new(History::with_segments(capacity, Arc::clone(&segments)));
    let mut reader = history.reader_at(Position::Newest);
    let mut writer = SegmentWriter::new(segments);
    let mut events = events.into_iter().peekable();
    while events.peek().is_some() {
        history.extend(events.by_ref().take(capacity));
        writer.write(&reader.read(usize::MAX), second(0)).unwrap();
    }
    writer.flush(second(0)).unwrap();
}

fn lengths(events: &[Event]) -> Vec<u32> {
    events.iter().map(|event| event.record.length).collect()
}

#[test]
fn after_a_restart_readers_begin_on_disk_and_go_on_in_memory() {
    let place = Place::new();
    write(&place, 500, (0..10_000).map(world::event));
    let history = Arc::new(History::with_segments(500, place.open()));
    assert_eq!(history.oldest_time(), Some(second(0)));
    history.extend((10_000..10_010).map(world::event));
    let mut reader = history.reader_at(Position::Since(second(3000)));
    let (events, lost) = drain(&mut reader);
    assert_eq!(lost, 0);
    let expected: Vec<u32> = (3000..10_010).collect();
    assert_eq!(lengths(&events), expected);
    let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (3000..10_010).collect::<Vec<_>>());
    // What people see of it is the same as it was in memory, policies and labels and all.
    for event in &events {
        let live = world::event(event.record.length);
        assert_eq!(Flow::read(event), Flow::read(&live));
        assert_eq!(event.record, live.record);
        let service = |event: &Event| {
            let (_, address) = event.record.addresses?;
            let (namespace, name) =
                event
                    .names
                    .service(address, event.record.protocol?, event.record.ports.1)?;
            Some((namespace.to_owned(), name.to_owned()))
        };
        assert_eq!(service(event), service(&live));
    }
    let flows: Vec<Flow> = events.iter().map(Flow::read).collect();
    let told = |is: fn(&Flow) -> bool| flows.iter().filter(|flow| is(flow)).count();
    assert!(told(|flow| !flow.ingress_allowed_by.is_empty()) > 1000);
    assert!(told(|flow| !flow.ingress_denied_by.is_empty()) > 1000);
    assert!(told(|flow| flow.source.labels.contains(&"k8s:app=web".into())) > 1000);
    history.extend([world::event(10_010)]);
    assert_eq!(lengths(&reader.read(10).events), [10_010]);
    let by_number = history.reader_at(Position::Number(9999)).read(2);
    assert_eq!(lengths(&by_number.events), [9999, 10_000]);
    let oldest = history.reader_at(Position::Oldest).read(1);
    assert_eq!(lengths(&oldest.events), [10_000]);
}

#[test]
fn history_is_walked_backwards_onto_disk() {
    let place = Place::new();
    write(&place, 500, (0..9000).map(world::event));
    let history = Arc::new(History::with_segments(500, place.open()));
    history.extend((9000..9010).map(world::event));
    let (mut before, mut found) = (u64::MAX, Vec::new());
    loop {
        let events = history.events_before(before, 700);
        let Some(last) = events.last() else { break };
        before = last.number;
        found.extend(lengths(&events));
    }
    assert_eq!(found, (0..9010).rev().collect::<Vec<_>>());
}

#[test]
fn a_reader_on_disk_is_overtaken_by_memory_and_told_exactly() {
    let place = Place::new();
    write(&place, 500, (0..5000).map(world::event));
    let history = Arc::new(History::with_segments(100, place.open()));
    let mut reader = history.reader_at(Position::Since(second(0)));
    assert_eq!(reader.read(10).events.len(), 10);
    // Nobody writes these to disk.
    history.extend((5000..6000).map(world::event));
    let (events, lost) = drain(&mut reader);
    assert_eq!((events.len() as u64, lost), (4990 + 100, 900));
    assert_eq!(lengths(&events).last(), Some(&5999));
}

#[test]
fn a_torn_end_is_passed_over_and_numbers_go_on() {
    let place = Place::new();
    write(&place, 500, (0..6000).map(world::event));
    let file = &place.files()[0];
    let length = fs::metadata(file).unwrap().len();
    OpenOptions::new()
        .write(true)
        .open(file)
        .unwrap()
        .set_len(length - 5)
        .unwrap();
    // 4096 events are a block, and the other one is torn.
    write(&place, 500, (4096..4200).map(world::event));
    let history = Arc::new(History::with_segments(500, place.open()));
    let (events, lost) = drain(&mut history.reader_at(Position::Since(second(0))));
    assert_eq!(lost, 0);
    assert_eq!(lengths(&events), (0..4200).collect::<Vec<_>>());
}

#[test]
fn a_damaged_block_is_a_gap_of_its_own_size() {
    let place = Place::new();
    write(&place, 500, (0..9000).map(world::event));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&place.files()[0])
        .unwrap();
    file.seek(SeekFrom::Start(1000)).unwrap();
    file.write_all(b"no longer what it was").unwrap();
    let history = Arc::new(History::with_segments(500, place.open()));
    let mut reader = history.reader_at(Position::Number(0));
    let Batch { lost, events, .. } = reader.read(1);
    assert_eq!(lengths(&events), [4096]);
    let gap = Gap {
        count: 4096,
        first: second(0),
        last: second(4095),
    };
    assert_eq!(lost, Some(gap));
}

#[test]
fn what_the_writer_missed_is_a_gap_for_readers_too() {
    let place = Place::new();
    let segments = place.open();
    let history = Arc::new(History::with_segments(100, Arc::clone(&segments)));
    let mut reader = history.reader_at(Position::Newest);
    let mut writer = SegmentWriter::new(Arc::clone(&segments));
    for start in [0, 1000] {
        history.extend((start..start + 500).map(world::event));
        writer.write(&reader.read(usize::MAX), second(0)).unwrap();
    }
    writer.flush(second(0)).unwrap();
    assert_eq!(
        (segments.counts().records, segments.counts().lost),
        (200, 800)
    );
    let history = Arc::new(History::with_segments(100, place.open()));
    let (events, lost) = drain(&mut history.reader_at(Position::Number(0)));
    assert_eq!((events.len(), lost), (200, 400));
}

#[test]
fn room_is_made_by_the_oldest_files() {
    let place = Place::new();
    let settings = place.settings(4 << 20);
    let segments = Arc::new(Segments::open(settings).unwrap());
    let mut writer = SegmentWriter::new(Arc::clone(&segments));
    let names = world::event(0).names;
    let mut number = 0;
    // Bytes that cannot be compressed: the bound is reached soon.
    let mut seed = 1_u64;
    while number < 100_000 {
        let events = (0..4096).map(|_| {
            let mut event = world::event(7);
            event.names = Arc::clone(&names);
            let mut random = || {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed
            };
            event.record.totals.bytes = [random(), random()];
            event.record.totals.packets = [random() as u32, random() as u32];
            event.number = number;
            number += 1;
            event
        });
        let batch = Batch {
            events: events.collect(),
            ..Batch::default()
        };
        writer.write(&batch, second(0)).unwrap();
        let bytes: u64 = place
            .files()
            .iter()
            .map(|file| fs::metadata(file).unwrap().len())
            .sum();
        assert!(bytes <= 4 << 20, "{bytes}");
        assert_eq!(bytes, segments.counts().bytes);
    }
    writer.flush(second(0)).unwrap();
    assert!(place.files().len() > 8);
    let history = Arc::new(History::with_segments(500, place.open()));
    let (events, lost) = drain(&mut history.reader_at(Position::Number(0)));
    assert_eq!(lost, 0);
    assert_eq!(events.last().map(|event| event.number), Some(number - 1));
    assert!(events.len() > 20_000);
    for file in place.files() {
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}

#[test]
fn old_files_go_though_there_is_room() {
    let place = Place::new();
    let segments = place.open();
    let mut writer = SegmentWriter::new(Arc::clone(&segments));
    let day = SignedDuration::from_hours(24);
    for number in 0..4_u32 {
        let now = second(0) + day * i32::try_from(number).unwrap();
        let mut event = world::event(number);
        (event.number, event.time) = (u64::from(number), now);
        let batch = Batch {
            events: vec![event],
            ..Batch::default()
        };
        writer.write(&batch, now).unwrap();
        writer.flush(now).unwrap();
    }
    assert_eq!(segments.counts().oldest, Some(second(0) + day * 2));
    assert_eq!(place.files().len(), 2);
}

/// The bytes of a small segment file.
fn small_file() -> Vec<u8> {
    let place = Place::new();
    write(&place, 100, (0..200).map(world::event));
    let mut bytes = Vec::new();
    fs::File::open(&place.files()[0])
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// Reads a file with these bytes in every way there is.
fn read_hostile(bytes: &[u8]) -> Vec<Event> {
    let place = Place::new();
    fs::create_dir_all(&place.0).unwrap();
    fs::write(place.0.join("records-000000000001.segment"), bytes).unwrap();
    let history = Arc::new(History::with_segments(10, place.open()));
    for event in history.events_before(u64::MAX, 1000) {
        let _ = Flow::read(&event).line();
    }
    history.extend([world::event(1)]);
    drain(&mut history.reader_at(Position::Since(Timestamp::MIN))).0
}

#[test]
fn an_undamaged_file_is_read_whole() {
    assert_eq!(read_hostile(&small_file()).len(), 201);
    assert_eq!(read_hostile(b"").len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_that_were_changed_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = small_file();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if is_cut {
            bytes.truncate(end.index(bytes.len()));
        }
        read_hostile(&bytes);
    }

    #[test]
    fn any_record_comes_back_from_disk(record in records::record(), time in records::time()) {
        let place = Place::new();
        let event = Event::new(time, record, Arc::default());
        write(&place, 10, [event.clone()]);
        let history = Arc::new(History::with_segments(10, place.open()));
        let events = history.events_before(u64::MAX, 10);
        prop_assert_eq!(events.len(), 1);
        prop_assert_eq!((events[0].record, events[0].time), (record, time));
    }
}
