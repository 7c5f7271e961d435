use super::*;
use std::net::Ipv4Addr;

const DATAGRAM: Datagram = Datagram {
    ports: (1, 2),
    protocol: 17,
    message: 0,
    is_opening: false,
};

fn key(endpoint: u32, identification: u32) -> FragmentKey {
    FragmentKey {
        endpoint: EndpointId(endpoint),
        source: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        destination: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3)),
        identification,
        protocol: 17,
    }
}

fn piece(offset: u16, length: u16, is_last: bool) -> Fragment {
    Fragment {
        identification: 1,
        offset,
        length,
        is_last,
    }
}

fn table(datagrams_max: u32) -> FragmentTable {
    FragmentTable::new(datagrams_max, (1, 2))
}

fn enter(table: &mut FragmentTable, key: FragmentKey, now: u64) {
    let first = piece(0, 16, false);
    assert_eq!(
        table.check_first(&key, Some(DATAGRAM), &first, Now(now)),
        Ok(())
    );
    table.remember(key, DATAGRAM, &first, Now(now));
}

/// Notes pieces after a first one of 16 bytes.
fn noted(pieces: &[Fragment]) -> Vec<Result<(), Drop>> {
    let mut table = table(4);
    enter(&mut table, key(1, 1), 0);
    let (ticket, datagram) = table.find(&key(1, 1), Now(0)).unwrap();
    assert_eq!(datagram, DATAGRAM);
    let note = |piece| table.note(ticket, piece);
    pieces.iter().map(note).collect()
}

const OVERLAP: Result<(), Drop> = Err(Drop::FragmentOverlap);

#[test]
fn a_repetition_is_dropped_and_harms_nobody_else() {
    let pieces = [
        piece(16, 8, false),
        piece(16, 8, false),
        piece(0, 16, false),
        piece(8, 8, false),
        piece(24, 5, true),
    ];
    assert_eq!(noted(&pieces), [Ok(()), OVERLAP, OVERLAP, OVERLAP, Ok(())]);
}

#[test]
fn a_contradiction_ends_the_datagram() {
    let good = piece(400, 8, false);
    let last = piece(64, 8, true);
    for bad in [
        vec![piece(8, 16, false)],
        vec![piece(32, 8, false), piece(24, 16, false)],
        // Behind the end, another end, an end before what has come.
        vec![last, piece(72, 8, false)],
        vec![last, piece(80, 8, true)],
        vec![piece(80, 8, false), last],
    ] {
        let mut pieces = bad;
        pieces.push(good);
        let mut expected = vec![Ok(()); pieces.len() - 2];
        expected.extend([OVERLAP, OVERLAP]);
        assert_eq!(noted(&pieces), expected, "{pieces:?}");
    }
}

#[test]
fn pieces_that_touch_are_one_and_too_many_gaps_are_a_reason() {
    // Every other piece: with the first there are eight, and no room for a ninth.
    let mut pieces: Vec<_> = (1..8).map(|at| piece(at * 16 + 8, 8, false)).collect();
    let mut expected = vec![Ok(()); 7];
    pieces.push(piece(200, 8, false));
    expected.push(Err(Drop::FragmentScattered));
    // One gap closed, and there is room again.
    pieces.extend([piece(16, 8, false), piece(200, 8, true)]);
    expected.extend([Ok(()), Ok(())]);
    assert_eq!(noted(&pieces), expected);
}

#[test]
fn a_record_has_its_time_and_a_whole_datagram_less() {
    let mut table = table(16);
    enter(&mut table, key(1, 1), 0);
    enter(&mut table, key(1, 2), 0);
    let (ticket, _) = table.find(&key(1, 2), Now(0)).unwrap();
    table.note(ticket, &piece(16, 3, true)).unwrap();
    let is_there =
        |table: &FragmentTable, number, now| table.find(&key(1, number), Now(now)).is_some();
    assert!(is_there(&table, 1, LIFE - 1) && !is_there(&table, 1, LIFE));
    assert!(is_there(&table, 2, LIFE_WHOLE - 1) && !is_there(&table, 2, LIFE_WHOLE));
    // Its identification may be used again, by others too.
    enter(&mut table, key(1, 2), LIFE_WHOLE);
    assert!(is_there(&table, 2, LIFE_WHOLE + 1));
    assert_eq!(table.records.len(), 2);
}

#[test]
fn a_datagram_of_other_ports_may_follow_a_whole_one_under_its_identification() {
    let mut table = table(16);
    let other = Datagram {
        ports: (3, 2),
        ..DATAGRAM
    };
    let first = piece(0, 16, false);
    enter(&mut table, key(1, 1), 0);
    // Something of the one before may still come: by then two would be put together.
    let unfinished = table.check_first(&key(1, 1), Some(other), &first, Now(1));
    assert_eq!(unfinished, OVERLAP);
    let (ticket, _) = table.find(&key(1, 1), Now(1)).unwrap();
    table.note(ticket, &piece(16, 3, true)).unwrap();
    let repeated = table.check_first(&key(1, 1), Some(DATAGRAM), &first, Now(2));
    assert_eq!(repeated, OVERLAP);
    let followed = table.check_first(&key(1, 1), Some(other), &first, Now(2));
    assert_eq!(followed, Ok(()));
    table.remember(key(1, 1), other, &first, Now(2));
    let (ticket, datagram) = table.find(&key(1, 1), Now(2)).unwrap();
    assert_eq!(datagram, other);
    assert_eq!(table.note(ticket, &piece(16, 3, true)), Ok(()));
    assert_eq!((table.records.len(), table.index.len()), (1, 1));
}

#[test]
fn an_endpoint_evicts_its_own_and_a_full_table_the_oldest() {
    let mut table = table(16);
    enter(&mut table, key(1, 0), 0);
    for number in 0..100 {
        enter(&mut table, key(2, number), 0);
    }
    let count = |table: &FragmentTable, endpoint| {
        let numbers =
            (0..100).filter(|number| table.find(&key(endpoint, *number), Now(0)).is_some());
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(count(&table, 1), [0]);
    assert_eq!(count(&table, 2), [96, 97, 98, 99]);
    for endpoint in 3..6 {
        (0..4).for_each(|number| enter(&mut table, key(endpoint, number), 0));
    }
    // Seventeen: the first of all has gone.
    assert_eq!(count(&table, 1), [0; 0]);
    assert_eq!(count(&table, 2).len(), 4);
    assert_eq!((table.records.len(), table.index.len()), (16, 16));
    assert_eq!(table.shares.len(), 4);
}

#[test]
fn nothing_grows_however_long_it_works() {
    let mut table = table(8);
    let before = (table.index.capacity(), table.shares.capacity());
    for number in 0..10_000 {
        enter(&mut table, key(number % 97, number), u64::from(number));
    }
    assert_eq!(table.records.capacity(), 8);
    assert_eq!((table.index.capacity(), table.shares.capacity()), before);
}
