//! The table against a plain map.

use super::*;
use crate::EndpointId;
use crate::flow::Side;
use crate::flow_key::Role;
use portcullis_policy::Generation;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

const FLOWS_MAX: u32 = 8;

fn key(number: u8) -> FlowKey {
    FlowKey {
        endpoint: EndpointId(u32::from(number % 2)),
        protocol: 17,
        message: 0,
        local: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        remote: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        local_port: u16::from(number / 2),
        remote_port: 53,
    }
}

fn flow(number: u8, now: Now) -> Flow {
    Flow::new(key(number), Side::Local, Role::MayOpen, Generation(1), now)
}

fn table() -> FlowTable {
    FlowTable::new(FLOWS_MAX, FlowTimeouts::default(), (5, 6))
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Insert(u8),
    Find(u8),
    Remove(u8),
    Expire,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..24).prop_map(Step::Insert),
        4 => (0_u8..24).prop_map(Step::Find),
        2 => (0_u8..24).prop_map(Step::Remove),
        1 => Just(Step::Expire),
        2 => (1_u64..40).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_plain_map(steps in proptest::collection::vec(step(), 0..300)) {
        let mut table = table();
        let mut plain: HashMap<u8, Now> = HashMap::new();
        let mut now = Now(0);
        for step in steps {
            let life = FlowTimeouts::default().other.as_nanos() as u64;
            let is_live = |seen: &Now| now.0 - seen.0 <= life;
            match step {
                Step::Wait(seconds) => now = Now(now.0 + seconds * 1_000_000_000),
                Step::Expire => {
                    table.expire(now);
                    plain.retain(|_, seen| is_live(seen));
                    prop_assert_eq!(table.count(), plain.len());
                }
                Step::Find(number) => {
                    let expected = plain.get(&number).filter(|seen| is_live(seen)).copied();
                    let found = table.find(&key(number), now);
                    let seen = found.and_then(|ticket| table.flow(ticket)).map(|flow| flow.seen);
                    prop_assert_eq!(seen, expected);
                }
                Step::Remove(number) => {
                    if let Some(ticket) = table.find(&key(number), now) {
                        table.remove(ticket);
                        prop_assert!(table.flow(ticket).is_none());
                        table.remove(ticket);
                    }
                    plain.remove(&number);
                }
                Step::Insert(number) => {
                    let is_there = plain.get(&number).is_some_and(is_live);
                    let live = plain.values().filter(|seen| is_live(seen)).count();
                    let inserted = table.insert(flow(number, now), now).is_ok();
                    prop_assert_eq!(inserted, is_there || live < FLOWS_MAX as usize);
                    if inserted {
                        plain.insert(number, now);
                    }
                    plain.retain(|_, seen| is_live(seen));
                }
            }
            prop_assert!(table.count() <= FLOWS_MAX as usize);
        }
    }
}

#[test]
fn an_old_ticket_does_not_fit_the_next_flow_in_its_slot() {
    let mut table = table();
    let old = table.insert(flow(1, Now(0)), Now(0)).unwrap();
    table.remove(old);
    let new = table.insert(flow(2, Now(0)), Now(0)).unwrap();
    assert_eq!(new.slot, old.slot);
    table.remove(old);
    assert_eq!(table.flow(new).map(|flow| flow.key), Some(key(2)));
}

#[test]
fn the_index_never_grows_however_often_flows_come_and_go() {
    let mut table = FlowTable::new(1000, FlowTimeouts::default(), (5, 6));
    let capacity = table.index.allocation_size();
    let mut now = Now(0);
    for round in 0_u32..100 {
        for number in 0_u32..1000 {
            let mut flow = flow(0, now);
            flow.key.local_port = (number % 500) as u16;
            flow.key.remote_port = (round * 2 + number / 500) as u16;
            table.insert(flow, now).unwrap();
        }
        now = Now(now.0 + 61_000_000_000);
        table.expire(now);
        table.expire(now);
        assert_eq!(table.count(), 0);
    }
    assert_eq!(table.index.allocation_size(), capacity);
}

#[test]
fn an_entry_takes_at_most_128_bytes() {
    assert!(size_of::<Slot>() <= 128, "{}", size_of::<Slot>());
}
