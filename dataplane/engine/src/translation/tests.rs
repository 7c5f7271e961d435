//! Sessions against a plain map, and what happens when something runs out.

use super::sessions::{EXPIRE_SESSIONS_MAX, LIST_SLOTS_MAX};
use super::*;
use crate::TcpFlags;
use crate::nat_ports::PortRange;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::Ipv4Addr;

const SECOND: u64 = 1_000_000_000;
const UPLINK: EndpointId = EndpointId(1);
const POD: EndpointId = EndpointId(2);
const TCP: u8 = 6;
const UDP: u8 = 17;

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

fn tuple(protocol: u8, source: (u8, u16), destination: (u8, u16)) -> Tuple {
    Tuple {
        protocol,
        source: address(source.0),
        destination: address(destination.0),
        source_port: source.1,
        destination_port: destination.1,
    }
}

fn table(sessions_max: u32, share_percent: u8) -> Sessions {
    Sessions::new(&SessionSettings {
        sessions_max,
        share_percent,
        bitmaps_max: 1,
        timeouts: SessionTimeouts::default(),
        hash_key: (7, 8),
    })
}

/// Pod 10.0.0.1 to server 10.0.0.9 at port 53 or 80, as 10.0.0.200.
fn masquerade(protocol: u8, port: u16, translated: u16) -> NewSession {
    NewSession {
        endpoint: UPLINK,
        charged: POD,
        before: tuple(protocol, (1, port), (9, 80)),
        after: tuple(protocol, (200, translated), (9, 80)),
        kind: SessionKind::Masquerade,
        owner: 0,
    }
}

fn at(seconds: u64) -> Now {
    Now(seconds * SECOND)
}

/// Makes a TCP session established.
fn shake_hands(sessions: &mut Sessions, ticket: SessionTicket, now: Now) {
    for (way, flags) in [
        (Way::Forward, TcpFlags::SYN),
        (Way::Reply, TcpFlags::SYN | TcpFlags::ACK),
        (Way::Forward, TcpFlags::ACK),
    ] {
        sessions.note(ticket, way, Some(TcpFlags(flags)), 40, now);
    }
}

#[test]
fn a_session_is_found_by_both_its_tuples_and_tells_the_way() {
    let mut sessions = table(4, 100);
    let new = masquerade(TCP, 5000, 6000);
    let ticket = sessions.insert(&new, at(0)).unwrap();
    let find = |endpoint, tuple: Tuple| sessions.find(endpoint, &tuple, at(1));
    assert_eq!(find(UPLINK, new.before), Some((ticket, Way::Forward)));
    assert_eq!(
        find(UPLINK, new.after.reversed()),
        Some((ticket, Way::Reply))
    );
    assert_eq!(find(UPLINK, new.after), None);
    assert_eq!(find(UPLINK, new.before.reversed()), None);
    assert_eq!(find(POD, new.before), None);
    let session = sessions.session(ticket).unwrap();
    assert_eq!(session.translated(Way::Forward), new.after);
    assert_eq!(session.translated(Way::Reply), new.before.reversed());
}

#[test]
fn a_tuple_belongs_to_one_live_session_only() {
    let mut sessions = table(8, 100);
    sessions
        .insert(&masquerade(UDP, 5000, 6000), at(0))
        .unwrap();
    let taken = Err(InsertError::TupleTaken);
    // The same packet; another packet with the same reply.
    assert_eq!(sessions.insert(&masquerade(UDP, 5000, 6001), at(1)), taken);
    assert_eq!(sessions.insert(&masquerade(UDP, 5001, 6000), at(1)), taken);
    // A session whose packets are the replies of the first.
    let mut crossed = masquerade(UDP, 1, 2);
    crossed.before = masquerade(UDP, 5000, 6000).after.reversed();
    assert_eq!(sessions.insert(&crossed, at(1)), taken);
    // A session that would be its own reply.
    let mut circle = masquerade(UDP, 7000, 7000);
    circle.after = circle.before.reversed();
    assert_eq!(sessions.insert(&circle, at(1)), taken);
    assert_eq!(sessions.count(), 1);
    // Past its time it stands in nobody's way.
    let ticket = sessions.insert(&masquerade(UDP, 5001, 6000), at(31));
    assert!(ticket.is_ok());
    assert_eq!(sessions.count(), 1);
}

#[test]
fn sessions_that_have_ended_make_room_for_new_ones_of_their_endpoint() {
    let mut sessions = table(4, 50);
    let end = |sessions: &mut Sessions, ticket, now| {
        shake_hands(sessions, ticket, now);
        sessions.note(ticket, Way::Reply, Some(TcpFlags(TcpFlags::RST)), 40, now);
    };
    let [first, second] = [1, 2].map(|port| {
        let ticket = sessions
            .insert(&masquerade(TCP, port, port), at(0))
            .unwrap();
        end(&mut sessions, ticket, at(u64::from(port)));
        ticket
    });
    // One that is used again is not ended any more.
    sessions.note(
        first,
        Way::Forward,
        Some(TcpFlags(TcpFlags::SYN)),
        40,
        at(3),
    );
    let third = sessions.insert(&masquerade(TCP, 3, 3), at(3)).unwrap();
    assert!(sessions.session(first).is_some());
    assert!(sessions.session(second).is_none());
    let fourth = masquerade(TCP, 4, 4);
    assert_eq!(
        sessions.insert(&fourth, at(3)),
        Err(InsertError::ShareSpent)
    );
    end(&mut sessions, third, at(4));
    assert!(sessions.insert(&fourth, at(4)).is_ok());
    assert_eq!(sessions.count(), 2);
}

#[test]
fn an_endpoint_has_its_share_and_no_more() {
    let mut sessions = table(8, 25);
    for port in 1..=2 {
        sessions
            .insert(&masquerade(UDP, port, port), at(0))
            .unwrap();
    }
    let third = masquerade(UDP, 3, 3);
    assert_eq!(sessions.insert(&third, at(1)), Err(InsertError::ShareSpent));
    let other = NewSession {
        charged: EndpointId(3),
        ..third
    };
    sessions.insert(&other, at(1)).unwrap();
    // What is past its time counts no longer.
    let fourth = masquerade(UDP, 4, 4);
    assert!(sessions.insert(&fourth, at(31)).is_ok());
}

#[test]
fn a_full_table_refuses_and_keeps_what_it_has() {
    let mut sessions = table(2, 100);
    let first = sessions.insert(&masquerade(UDP, 1, 1), at(0)).unwrap();
    let second = sessions.insert(&masquerade(UDP, 2, 2), at(20)).unwrap();
    let third = masquerade(UDP, 3, 3);
    assert_eq!(sessions.insert(&third, at(20)), Err(InsertError::Full));
    assert!(sessions.session(first).is_some());
    // The first has passed, and one sweep finds it.
    assert!(sessions.insert(&third, at(31)).is_ok());
    assert!(sessions.session(first).is_none());
    assert!(sessions.session(second).is_some());
}

#[test]
fn a_life_is_as_long_as_the_state_allows() {
    use TcpFlags as F;
    let syn = (Way::Forward, F::SYN);
    let syn_ack = (Way::Reply, F::SYN | F::ACK);
    let ack = (Way::Forward, F::ACK);
    let open = [syn, syn_ack, ack];
    let with = |more: &[(Way, u8)]| [&open[..], more].concat();
    let fin = F::FIN | F::ACK;
    let cases = [
        (TCP, vec![syn], 30),
        (TCP, vec![syn, syn_ack], 30),
        (TCP, vec![syn, ack, ack], 30),
        (TCP, open.to_vec(), 7440),
        (TCP, with(&[(Way::Reply, fin)]), 240),
        (TCP, with(&[(Way::Reply, fin), ack, (Way::Reply, fin)]), 240),
        (TCP, with(&[(Way::Reply, fin), (Way::Forward, fin)]), 10),
        (TCP, with(&[(Way::Reply, F::RST)]), 10),
        (TCP, vec![syn, (Way::Reply, F::RST | F::ACK)], 10),
        (TCP, with(&[(Way::Reply, F::RST), syn]), 30),
        (TCP, with(&[(Way::Reply, F::RST), syn_ack, ack]), 10),
        (UDP, vec![(Way::Forward, 0), (Way::Forward, 0)], 30),
        (UDP, vec![(Way::Forward, 0), (Way::Reply, 0)], 300),
        (1, vec![(Way::Forward, 0), (Way::Reply, 0)], 30),
        (58, vec![(Way::Forward, 0), (Way::Reply, 0)], 30),
        (132, vec![(Way::Forward, 0)], 30),
        (132, vec![(Way::Forward, 0), (Way::Reply, 0)], 7440),
    ];
    for (protocol, packets, seconds) in &cases {
        let mut sessions = table(2, 100);
        let new = masquerade(*protocol, 5000, 6000);
        let ticket = sessions.insert(&new, at(1)).unwrap();
        for (way, flags) in packets {
            let flags = (*protocol == TCP).then_some(TcpFlags(*flags));
            sessions.note(ticket, *way, flags, 40, at(2));
        }
        let is_live = |now| sessions.find(UPLINK, &new.before, now).is_some();
        assert!(is_live(at(2 + seconds)), "{protocol} {packets:?}");
        assert!(
            !is_live(Now(at(2 + seconds).0 + 1)),
            "{protocol} {packets:?}"
        );
        // And the wheel agrees, to a tick.
        sessions.expire(at(2 + seconds));
        assert_eq!(sessions.count(), 1, "{protocol} {packets:?}");
        sessions.expire(at(3 + seconds));
        assert_eq!(sessions.count(), 0, "{protocol} {packets:?}");
    }
}

#[test]
fn packets_and_bytes_are_counted_each_way_and_listed() {
    let mut sessions = table(2, 100);
    let new = NewSession {
        kind: SessionKind::Gateway,
        owner: 12,
        ..masquerade(UDP, 5000, 6000)
    };
    let ticket = sessions.insert(&new, at(1)).unwrap();
    sessions.note(ticket, Way::Forward, None, 100, at(2));
    sessions.note(ticket, Way::Forward, None, 50, at(3));
    sessions.note(ticket, Way::Reply, None, 7, at(4));
    let mut views = Vec::with_capacity(4);
    assert_eq!(sessions.list(0, &mut views), None);
    let expected = SessionView {
        endpoint: UPLINK,
        charged: POD,
        before: new.before,
        after: new.after,
        kind: SessionKind::Gateway,
        owner: 12,
        state: SessionState::Established,
        opened: at(1),
        seen: at(4),
        forward: Traffic {
            packets: 2,
            bytes: 150,
        },
        reply: Traffic {
            packets: 1,
            bytes: 7,
        },
    };
    assert_eq!(views, vec![expected]);
}

#[test]
fn a_listing_goes_on_from_its_cursor_and_never_grows_the_list() {
    let count = LIST_SLOTS_MAX as u16 * 2 + 40;
    let mut sessions = table(u32::from(count), 100);
    for port in 0..count {
        sessions
            .insert(&masquerade(UDP, port, port), at(0))
            .unwrap();
    }
    let mut ports = Vec::new();
    let mut cursor = Some(0);
    let mut views = Vec::with_capacity(100);
    let room = views.capacity();
    while let Some(from) = cursor {
        views.clear();
        cursor = sessions.list(from, &mut views);
        assert_eq!(views.capacity(), room);
        ports.extend(views.iter().map(|view| view.before.source_port));
    }
    assert_eq!(ports, (0..count).collect::<Vec<_>>());
    assert_eq!(sessions.list(u32::MAX, &mut views), None);
}

#[test]
fn one_call_of_expire_does_bounded_work() {
    let count = EXPIRE_SESSIONS_MAX as u16 * 2 + 1;
    let mut sessions = table(u32::from(count), 100);
    for port in 0..count {
        sessions
            .insert(&masquerade(UDP, port, port), at(0))
            .unwrap();
    }
    let mut left = Vec::new();
    for _ in 0..3 {
        sessions.expire(at(100));
        left.push(sessions.count());
    }
    assert_eq!(left, vec![EXPIRE_SESSIONS_MAX + 1, 1, 0]);
}

#[test]
fn an_old_ticket_does_not_fit_the_next_session_in_its_slot() {
    let mut sessions = table(1, 100);
    let old = sessions.insert(&masquerade(UDP, 1, 1), at(0)).unwrap();
    sessions.remove(old);
    let new = sessions.insert(&masquerade(UDP, 2, 2), at(0)).unwrap();
    sessions.remove(old);
    sessions.note(old, Way::Reply, None, 1, at(1));
    assert!(sessions.session(old).is_none());
    assert_eq!(sessions.session(new).unwrap().reply, Traffic::default());
}

#[test]
fn no_index_ever_grows_however_often_sessions_come_and_go() {
    let mut sessions = table(64, 100);
    let rooms = |sessions: &Sessions| (sessions.table.index_size().1, sessions.ports.room());
    let before = rooms(&sessions);
    let mut tickets = Vec::new();
    for round in 0..40_000_u32 {
        // A destination of its own for each.
        let port = (round % 60_000) as u16;
        let mut new = masquerade(UDP, port, port);
        new.charged = EndpointId(round);
        (new.before.destination_port, new.after.destination_port) = (port, port);
        tickets.push(sessions.insert(&new, at(0)).unwrap());
        if tickets.len() == 64 {
            tickets.drain(..).for_each(|ticket| sessions.remove(ticket));
        }
    }
    assert_eq!(sessions.count(), 0);
    assert_eq!(sessions.table.index_size().0, 0);
    assert_eq!(rooms(&sessions), before);
}

#[test]
fn under_exhaustion_ports_are_stolen_without_a_search() {
    let mut sessions = table(64, 100);
    let range = (2000, 2007);
    for number in 0..8 {
        let ticket = open(&mut sessions, &source(100 + number, range), at(0)).unwrap();
        let rst = Some(TcpFlags(TcpFlags::RST));
        sessions.note(ticket, Way::Reply, rst, 40, at(0));
    }
    assert!(open(&mut sessions, &source(200, range), at(1)).is_some());
    let known = sessions.ports.exhausted();
    assert_eq!(known, vec![at(2)]);
    for number in 1..8 {
        assert!(open(&mut sessions, &source(200 + number, range), at(1)).is_some());
    }
    assert_eq!(open(&mut sessions, &source(300, range), at(1)), None);
    assert_eq!(sessions.ports.exhausted(), known);
    assert_eq!(sessions.count(), 8);
}

fn source(port: u16, range: (u16, u16)) -> Source {
    Source {
        endpoint: UPLINK,
        before: tuple(TCP, (1, port), (9, 80)),
        address: address(200),
        destination: (address(9), 80),
        range: PortRange::new(range.0, range.1).unwrap(),
    }
}

fn open(sessions: &mut Sessions, source: &Source, now: Now) -> Option<SessionTicket> {
    let after = sessions.choose_source(source, now).ok()?;
    let new = NewSession {
        endpoint: source.endpoint,
        charged: POD,
        before: source.before,
        after,
        kind: SessionKind::Masquerade,
        owner: 0,
    };
    Some(
        sessions
            .insert(&new, now)
            .expect("the chosen tuple is free"),
    )
}

#[test]
fn the_longest_closed_connection_gives_its_port_and_an_established_one_never_does() {
    let mut sessions = table(64, 100);
    let tickets: Vec<_> = (0..4)
        .map(|number| open(&mut sessions, &source(100 + number, (2000, 2003)), at(0)).unwrap())
        .collect();
    for ticket in &tickets {
        shake_hands(&mut sessions, *ticket, at(1));
    }
    assert_eq!(open(&mut sessions, &source(200, (2000, 2003)), at(2)), None);
    // The second closes first, then the first; the second is heard of once more.
    for (closed, seconds) in [(1, 3), (0, 4), (1, 5)] {
        let rst = Some(TcpFlags(TcpFlags::RST));
        sessions.note(tickets[closed], Way::Reply, rst, 40, at(seconds));
    }
    for (port, expected) in [(200, [false, true]), (201, [false, false])] {
        let new = open(&mut sessions, &source(port, (2000, 2003)), at(6)).unwrap();
        shake_hands(&mut sessions, new, at(6));
        let is_there = [0, 1].map(|number| sessions.session(tickets[number]).is_some());
        assert_eq!(is_there, expected);
    }
    assert_eq!(open(&mut sessions, &source(202, (2000, 2003)), at(6)), None);
    assert!(sessions.session(tickets[2]).is_some() && sessions.session(tickets[3]).is_some());
}

#[test]
fn an_unanswered_datagram_gives_its_port_once_it_is_idle_and_an_answered_one_never_does() {
    let mut sessions = table(64, 100);
    let udp = |port| Source {
        before: tuple(UDP, (1, port), (9, 80)),
        ..source(port, (2000, 2002))
    };
    let tickets: Vec<_> = (0..3)
        .map(|number| open(&mut sessions, &udp(number), at(0)).unwrap())
        .collect();
    sessions.note(tickets[0], Way::Reply, None, 40, at(0));
    sessions.note(tickets[1], Way::Forward, None, 40, at(1));
    // The third is the longest idle now, but not for a second.
    let early = Now(SECOND / 2);
    assert_eq!(open(&mut sessions, &udp(10), early), None);
    assert!(open(&mut sessions, &udp(11), Now(SECOND * 3 / 2)).is_some());
    let is_there = [0, 1, 2].map(|number| sessions.session(tickets[number]).is_some());
    assert_eq!(is_there, [true, true, false]);
}

#[test]
fn what_a_session_takes_is_known() {
    assert_eq!(size_of::<Tuple>(), 40);
    assert_eq!(size_of::<Session>(), 144);
    assert_eq!(size_of::<table::Slot>(), 152);
}

#[test]
fn an_address_is_picked_by_source_and_stays_when_another_goes() {
    let addresses: Vec<IpAddr> = (1..=4)
        .map(address)
        .chain(["fd00::1".parse().unwrap()])
        .collect();
    let sources = || (0..=255).map(|last| IpAddr::V4(Ipv4Addr::new(10, 9, 0, last)));
    let picked: Vec<_> = sources()
        .map(|source| pick_address(&addresses, source).unwrap())
        .collect();
    for number in 1..=4 {
        let share = picked
            .iter()
            .filter(|found| **found == address(number))
            .count();
        assert!((32..=96).contains(&share), "{number}: {share}");
    }
    let fewer: Vec<_> = addresses
        .iter()
        .copied()
        .filter(|kept| *kept != address(2))
        .collect();
    for (source, was) in sources().zip(picked) {
        let is = pick_address(&fewer, source).unwrap();
        assert!(is == was || was == address(2));
    }
    let v6 = "fd00::77".parse().unwrap();
    assert_eq!(pick_address(&addresses, v6), Some(addresses[4]));
    assert_eq!(pick_address(&addresses[..4], v6), None);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Insert(u8, u8),
    Note(u8, bool, u8),
    Remove(u8),
    Expire,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![
        Just(TcpFlags::SYN),
        Just(TcpFlags::SYN | TcpFlags::ACK),
        Just(TcpFlags::ACK),
        Just(TcpFlags::FIN | TcpFlags::ACK),
        Just(TcpFlags::RST),
    ];
    prop_oneof![
        6 => (0_u8..16, 0_u8..16).prop_map(|(from, to)| Step::Insert(from, to)),
        6 => (0_u8..16, any::<bool>(), flags).prop_map(|(number, way, flags)| Step::Note(number, way, flags)),
        1 => (0_u8..16).prop_map(Step::Remove),
        1 => Just(Step::Expire),
        3 => prop_oneof![0..SECOND, 0..40 * SECOND, 0..9000 * SECOND].prop_map(Step::Wait),
    ]
}

/// A session of the plain reading.
#[derive(Debug, Clone, Copy)]
struct Plain {
    ticket: SessionTicket,
    new: NewSession,
    deadline: u64,
    /// When its connection ended, as a step number.
    ended: Option<usize>,
}

fn step_tuple(from: u8, to: u8) -> NewSession {
    let protocol = if from.is_multiple_of(2) { TCP } else { UDP };
    masquerade(protocol, u16::from(from), u16::from(to / 2))
}

proptest! {
    #[test]
    fn sessions_agree_with_a_plain_map(steps in proptest::collection::vec(step(), 0..300)) {
        let mut sessions = table(8, 100);
        let mut plain: HashMap<u8, Plain> = HashMap::new();
        let mut now = 0_u64;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Wait(span) => now += span,
                Step::Expire => sessions.expire(Now(now)),
                Step::Remove(from) => {
                    if let Some(gone) = plain.remove(&from) {
                        sessions.remove(gone.ticket);
                    }
                }
                Step::Insert(from, to) => {
                    let new = step_tuple(from, to);
                    plain.retain(|_, session| session.deadline >= now);
                    let is_taken = plain.values().any(|other| {
                        other.new.before == new.before || other.new.after == new.after
                    });
                    let has_ended = plain.values().any(|other| other.ended.is_some());
                    let expected = match (is_taken, plain.len()) {
                        (true, _) => Err(InsertError::TupleTaken),
                        (false, 8) if !has_ended => Err(InsertError::Full),
                        _ => Ok(()),
                    };
                    let was_full = sessions.count() == 8;
                    let found = sessions.insert(&new, Now(now));
                    // One that has ended may have made room, and the first of them.
                    let is_gone = |one: &Plain| sessions.session(one.ticket).is_none();
                    let first = plain.values().filter_map(|one| one.ended).min();
                    let gone: Vec<u8> = plain.iter().filter(|one| is_gone(one.1)).map(|one| *one.0).collect();
                    prop_assert!(gone.len() <= usize::from(was_full && found.is_ok()));
                    for from in gone {
                        let gone = plain.remove(&from).unwrap();
                        prop_assert!(gone.ended.is_some() && gone.ended == first);
                    }
                    // A tick may pass before the wheel knows that a slot is free.
                    let is_late = found == Err(InsertError::Full) && expected.is_ok();
                    prop_assert!(is_late || found.map(|_| ()) == expected);
                    if let Ok(ticket) = found {
                        let deadline = now + 30 * SECOND;
                        plain.insert(from, Plain { ticket, new, deadline, ended: None });
                    }
                }
                Step::Note(from, is_forward, flags) => {
                    let Some(known) = plain.get_mut(&from).filter(|known| known.deadline >= now) else {
                        continue;
                    };
                    let way = if is_forward { Way::Forward } else { Way::Reply };
                    sessions.note(known.ticket, way, Some(TcpFlags(flags)), 1, Now(now));
                    let session = sessions.session(known.ticket).unwrap();
                    let protocol = known.new.before.protocol;
                    let life = SessionTimeouts::default().life(protocol, session.state);
                    known.deadline = now + life;
                    known.ended = (session.state == SessionState::Closing)
                        .then(|| known.ended.unwrap_or(number));
                }
            }
            let mut live = 0;
            for from in 0..16 {
                let new = step_tuple(from, 0);
                let known = plain.get(&from).filter(|known| known.deadline >= now);
                live += usize::from(known.is_some());
                let expected = known.map(|known| (known.ticket, Way::Forward));
                prop_assert_eq!(sessions.find(UPLINK, &new.before, Now(now)), expected);
                if let Some(known) = known {
                    let reply = known.new.after.reversed();
                    let found = sessions.find(UPLINK, &reply, Now(now));
                    prop_assert_eq!(found, Some((known.ticket, Way::Reply)));
                }
            }
            prop_assert!(sessions.count() >= live);
        }
        sessions.expire(Now(now + 8000 * SECOND));
        prop_assert_eq!(sessions.count(), 0);
    }
}
