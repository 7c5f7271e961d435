//! What records of connections add: each packet and each connection once, whatever is told of them.

use portcullis_engine::{Drop, Ending, Now, Record, RecordKind, Totals};
use portcullis_observe::{Connections, Passed};
use portcullis_policy::{Decision, Protocol, Verdict};

const END: RecordKind = RecordKind::End(Ending::Finished);
const CUT: RecordKind = RecordKind::Revoked(Drop::PolicyDenied);
const TENTH: u64 = 100_000_000;

/// A record of a connection that began at a tenth of a second and has passed these bytes.
fn record(kind: RecordKind, opened: u64, bytes: u64) -> Record {
    let address = |text: &str| text.parse().expect("an address");
    Record {
        kind,
        addresses: Some((address("10.0.0.1"), address("10.0.0.2"))),
        protocol: Some(Protocol::Tcp),
        ports: (40_000, 80),
        is_reply: Some(false),
        totals: Totals {
            packets: [u32::from(bytes > 0), 0],
            bytes: [bytes, 2 * bytes],
            opened: Now(opened * TENTH),
            round_trip_us: if bytes > 0 { 70 } else { 0 },
        },
        ..Record::BLANK
    }
}

fn begin() -> Record {
    record(RecordKind::Flow, 0, 0)
}

fn audited() -> Record {
    let denied = Verdict {
        decision: Decision::DenyDefault,
        rule: None,
    };
    Record {
        ingress: Some(denied),
        ..begin()
    }
}

fn ping(record: Record) -> Record {
    Record {
        protocol: Some(Protocol::Icmp),
        ports: (0, 8),
        ..record
    }
}

/// As the other side's packet tells it.
fn reply(record: Record) -> Record {
    let (source, destination) = record.addresses.expect("they are there");
    Record {
        addresses: Some((destination, source)),
        ports: (record.ports.1, record.ports.0),
        is_reply: Some(true),
        ..record
    }
}

/// Sums over some records: connections, bytes of the side that began.
fn sums(records: &[Record]) -> (usize, u64) {
    let mut connections = Connections::new(100);
    let passed: Vec<_> = records
        .iter()
        .map(|record| connections.take(record, 0, ()))
        .collect();
    for passed in &passed {
        assert_eq!(passed.bytes[1], 2 * passed.bytes[0]);
    }
    let new = passed.iter().filter(|passed| passed.is_new).count();
    (new, passed.iter().map(|passed| passed.bytes[0]).sum())
}

#[test]
fn sums_that_grow_from_the_beginning_are_added_once() {
    let (update, end) = (RecordKind::Update, END);
    let mut connections = Connections::new(100);
    let told = [
        record(RecordKind::Flow, 0, 0),
        record(update, 3, 100),
        record(update, 3, 250),
        record(end, 3, 300),
    ]
    .map(|record| connections.take(&record, 0, "web"));
    let passed = |is_new, packets, bytes, round_trip_us| Passed {
        under: "web",
        is_new,
        packets: [packets, 0],
        bytes: [bytes, 2 * bytes],
        round_trip_us,
    };
    let expected = [
        passed(true, 0, 0, 0),
        passed(false, 1, 100, 70),
        passed(false, 0, 150, 0),
        passed(false, 0, 50, 0),
    ];
    assert_eq!(told, expected);
    assert_eq!(connections.count(), 0);
}

#[test]
fn a_connection_whose_beginning_was_missed_is_counted_with_its_first_sums() {
    let update = RecordKind::Update;
    assert_eq!(sums(&[record(update, 3, 7), record(END, 3, 9)]), (1, 9));
    assert_eq!(sums(&[record(END, 3, 9)]), (1, 9));
}

#[test]
fn what_a_cut_connection_has_passed_is_told_with_the_cut_and_not_again_by_its_other_end() {
    let cut = record(CUT, 4, 150);
    let update = record(RecordKind::Update, 3, 100);
    assert_eq!(sums(&[begin(), cut]), (1, 150));
    assert_eq!(sums(&[begin(), update, cut]), (1, 150));
    assert_eq!(sums(&[begin(), update, reply(cut)]), (1, 150));
    let end = record(RecordKind::End(Ending::Reset), 3, 160);
    assert_eq!(sums(&[begin(), cut, end]), (1, 160));
    assert_eq!(sums(&[begin(), update, cut, end]), (1, 160));
    assert_eq!(sums(&[begin(), update, record(CUT, 4, 90), end]), (1, 160));
    // Where the beginning is not known, the end tells all.
    assert_eq!(sums(&[cut, end]), (1, 160));
}

#[test]
fn one_that_takes_the_place_of_another_is_not_mixed_up_with_it() {
    let replaced = RecordKind::End(Ending::Replaced);
    let update = RecordKind::Update;
    // The packet that begins the new one is told of before the end of the old one is.
    let records = [
        begin(),
        record(update, 1, 100),
        begin(),
        record(replaced, 1, 120),
        record(update, 9, 30),
        record(END, 9, 50),
    ];
    assert_eq!(sums(&records), (2, 170));
    let young = [
        begin(),
        begin(),
        record(replaced, 1, 120),
        record(END, 9, 50),
    ];
    assert_eq!(sums(&young), (2, 170));
}

#[test]
fn pings_of_the_same_two_are_told_apart_by_when_they_began() {
    let update = RecordKind::Update;
    let records = [
        begin(),
        begin(),
        record(update, 1, 100),
        record(update, 3, 40),
        record(update, 1, 200),
        record(END, 3, 60),
        record(END, 1, 210),
    ]
    .map(ping);
    assert_eq!(sums(&records), (2, 270));
}

#[test]
fn what_is_only_audited_is_told_often_and_counted_once() {
    let update = record(RecordKind::Update, 3, 100);
    let records = [audited(), audited(), update, audited(), record(END, 3, 130)];
    assert_eq!(sums(&records), (1, 130));
    let mut connections = Connections::new(100);
    let mut take = |record: Record, under| connections.take(&record, 0, under);
    assert!(take(begin(), "forwarded").is_new);
    assert!(take(audited(), "audited").is_new, "counted under another");
    assert!(!take(audited(), "audited").is_new);
    let end = take(record(END, 3, 130), "forwarded");
    assert_eq!((end.under, end.bytes[0]), ("audited", 130));
}

#[test]
fn further_ones_are_told_with_their_ends_and_what_ended_unseen_goes() {
    let mut connections = Connections::new(4);
    let of = |port: u16, record: Record| Record {
        ports: (port, 80),
        ..record
    };
    let (mut new, mut bytes) = (0, 0);
    let kinds = [RecordKind::Flow, RecordKind::Update, RecordKind::Update];
    for (step, kind) in kinds.into_iter().enumerate() {
        for port in 1..=10 {
            let sum = 100 * step as u64;
            let passed = connections.take(&of(port, record(kind, 3, sum)), 0, ());
            new += usize::from(passed.is_new);
            bytes += passed.bytes[0];
        }
        assert!(connections.count() <= 8);
    }
    assert_eq!((new, bytes), (10, 4 * 200));
    for port in 1..=6 {
        let passed = connections.take(&of(port, record(END, 3, 300)), 0, ());
        new += usize::from(passed.is_new);
        bytes += passed.bytes[0];
    }
    assert_eq!((new, bytes), (10, 6 * 300));
    for port in 1..=4 {
        connections.take(&of(port, record(CUT, 3, 300)), 50, ());
        connections.take(&of(port, begin()), 50, ());
    }
    connections.sweep(100);
    assert_eq!(connections.count(), 4);
    connections.sweep(50 + 3 * 3600);
    assert_eq!(connections.count(), 0);
}
