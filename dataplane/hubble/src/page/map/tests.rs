//! The map against a plain recount of the same events.

use super::service_map::{MapSettings, ServiceMap};
use jiff::Timestamp;
use portcullis_engine::{Drop, Ending, EndpointId, Now, Record, RecordKind, Totals};
use portcullis_observe::{Event, Names};
use portcullis_policy::{Decision, Protocol, Verdict};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const PODS: u32 = 6;
const PORTS: [u16; 3] = [80, 443, 5432];
const START: i64 = 1_000_000;

/// Numbers from a seed, each as likely as the others.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

fn names() -> Arc<Names> {
    let mut names = Names::default();
    for pod in 0..PODS {
        let name = (format!("space-{}", pod % 2), format!("pod{pod}"), None);
        names.endpoints.insert(EndpointId(pod), name);
    }
    Arc::new(names)
}

/// Who, to whom, at which port.
type Way = (u32, u32, u16);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Plain {
    forwarded: u64,
    dropped: u64,
    packets: [u64; 2],
    bytes: [u64; 2],
}

struct World {
    names: Arc<Names>,
    events: Vec<Event>,
    /// What each connection had passed when it was told of last.
    sums: Vec<(Way, Totals)>,
    plain: HashMap<Way, Plain>,
}

impl World {
    fn tell(&mut self, way: Way, kind: RecordKind, number: u16, totals: Totals, is_reply: bool) {
        let address = |pod: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0100 + pod));
        let (mut from, mut to) = (way.0, way.1);
        let mut ports = (20_000 + number, way.2);
        if is_reply {
            (from, to) = (to, from);
            ports = (ports.1, ports.0);
        }
        let record = Record {
            kind,
            from: Some(EndpointId(from)),
            to: Some(EndpointId(to)),
            addresses: Some((address(from), address(to))),
            protocol: Some(Protocol::Tcp),
            ports,
            is_reply: Some(is_reply),
            totals,
            ..Record::BLANK
        };
        let second = START + self.events.len() as i64 / 100;
        let time = Timestamp::from_second(second).expect("in range");
        self.events
            .push(Event::new(time, record, Arc::clone(&self.names)));
    }

    /// Connections that begin, go on and end, and packets that are dropped.
    fn make(seed: u64, steps: usize) -> Self {
        let mut chance = Chance(seed);
        let mut world = Self {
            names: names(),
            events: Vec::new(),
            sums: Vec::new(),
            plain: HashMap::new(),
        };
        let mut open: Vec<usize> = Vec::new();
        for _ in 0..steps {
            let way = (
                chance.below(u64::from(PODS)) as u32,
                chance.below(u64::from(PODS)) as u32,
                PORTS[chance.below(3) as usize],
            );
            match chance.below(4) {
                0 => {
                    let is_reply = chance.below(8) == 0;
                    world.plain.entry(way).or_default().dropped += 1;
                    let kind = RecordKind::Drop(Drop::PolicyDenied);
                    world.tell(way, kind, 0, Totals::default(), is_reply);
                }
                1 => {
                    let number = world.sums.len();
                    let totals = Totals {
                        opened: Now(number as u64),
                        ..Totals::default()
                    };
                    world.sums.push((way, totals));
                    open.push(number);
                    world.plain.entry(way).or_default().forwarded += 1;
                    world.tell(way, RecordKind::Flow, number as u16, totals, false);
                }
                more if !open.is_empty() => {
                    let place = chance.below(open.len() as u64) as usize;
                    let number = open[place];
                    let (way, totals) = &mut world.sums[number];
                    for side in 0..2 {
                        totals.packets[side] += chance.below(50) as u32;
                        totals.bytes[side] += chance.below(100_000);
                    }
                    let (way, totals) = (*way, *totals);
                    let kind = if more == 2 {
                        RecordKind::Update
                    } else {
                        open.swap_remove(place);
                        RecordKind::End(Ending::Finished)
                    };
                    world.tell(way, kind, number as u16, totals, false);
                }
                _ => {}
            }
        }
        for (way, totals) in &world.sums {
            let plain = world.plain.entry(*way).or_default();
            for side in 0..2 {
                plain.packets[side] += u64::from(totals.packets[side]);
                plain.bytes[side] += totals.bytes[side];
            }
        }
        world
    }
}

fn counted(map: &ServiceMap) -> HashMap<Way, Plain> {
    let pod = |id: u32| {
        let name = &map.places[&id].name;
        name.trim_start_matches("pod").parse().expect("a number")
    };
    let told = serde_json::to_value(map.delta(0)).expect("plain data");
    let links = told["links"].as_array().expect("a list");
    links
        .iter()
        .map(|link| {
            let number = |key: &str| link[key].as_u64().expect("a number");
            let pair = |key: &str| [0, 1].map(|side| link[key][side].as_u64().expect("a number"));
            let way = (
                pod(number("from") as u32),
                pod(number("to") as u32),
                number("port") as u16,
            );
            let plain = Plain {
                forwarded: number("forwarded"),
                dropped: number("dropped"),
                packets: pair("packets"),
                bytes: pair("bytes"),
            };
            (way, plain)
        })
        .collect()
}

#[test]
fn the_map_agrees_with_a_plain_recount() {
    for seed in 1..=20 {
        let world = World::make(seed, 5000);
        let mut map = ServiceMap::new(MapSettings::default());
        for event in &world.events {
            map.take(event);
        }
        assert_eq!(counted(&map), world.plain, "seed {seed}");
        assert_eq!(map.other, Default::default(), "seed {seed}");
    }
}

#[test]
fn changes_alone_add_up_to_the_whole() {
    let world = World::make(7, 4000);
    let settings = MapSettings {
        idle_seconds_max: 5,
        ..MapSettings::default()
    };
    let mut map = ServiceMap::new(settings);
    let (mut known, mut links, mut places) = (0, HashMap::new(), HashMap::new());
    for (step, events) in world.events.chunks(97).enumerate() {
        for event in events {
            map.take(event);
        }
        map.tick(START + step as i64, &world.names);
        if step % 3 != 0 {
            continue;
        }
        let told = serde_json::to_value(map.delta(known)).expect("plain data");
        known = told["version"].as_u64().expect("a number");
        assert_eq!(told["is_whole"], step == 0);
        for (kind, all) in [("links", &mut links), ("places", &mut places)] {
            for one in told[kind].as_array().expect("a list") {
                all.insert(one["id"].as_u64().expect("a number"), one.clone());
            }
            for gone in told[format!("gone_{kind}")].as_array().expect("a list") {
                all.remove(&gone.as_u64().expect("a number"));
            }
        }
        let whole = serde_json::to_value(map.delta(0)).expect("plain data");
        for (kind, all) in [("links", &links), ("places", &places)] {
            let whole = whole[kind].as_array().expect("a list");
            assert_eq!(whole.len(), all.len(), "{kind} at {step}");
            for one in whole {
                let mut one = one.clone();
                let mut told = all[&one["id"].as_u64().expect("a number")].clone();
                // A rate is of the moment in which it is told.
                for value in [&mut one, &mut told] {
                    if let Some(fields) = value.as_object_mut() {
                        fields.remove("rates");
                    }
                }
                assert_eq!(told, one, "{kind} at {step}");
            }
        }
    }
}

#[test]
fn what_finds_no_room_is_counted() {
    let world = World::make(3, 3000);
    let settings = MapSettings {
        links_max: 5,
        ports_max: 2,
        connections_max: 4,
        ..MapSettings::default()
    };
    let mut map = ServiceMap::new(settings);
    for event in &world.events {
        map.take(event);
    }
    assert_eq!(map.links.len(), 5);
    assert!(map.other.events > 0 && map.other.dropped > 0 && map.other.bytes > 0);
    let dropped: u64 = map.links.values().map(|link| link.counts.dropped).sum();
    let all: u64 = world.plain.values().map(|plain| plain.dropped).sum();
    assert_eq!(dropped + map.other.dropped, all);
    assert!(map.connections() <= 2 * 4);
}

#[test]
fn a_stranger_who_tries_every_port_takes_few_links() {
    let mut world = World::make(1, 0);
    for port in 1..2000 {
        let kind = RecordKind::Drop(Drop::PolicyDenied);
        world.tell((0, 1, port), kind, 0, Totals::default(), false);
    }
    let mut map = ServiceMap::new(MapSettings::default());
    for event in &world.events {
        map.take(event);
    }
    assert_eq!(map.links.len(), 33, "32 ports, and one link for all others");
    assert_eq!(map.other.events, 0);
}

#[test]
fn what_is_idle_leaves_and_pods_of_this_node_stay() {
    let world = World::make(5, 400);
    let mut map = ServiceMap::new(MapSettings::default());
    for event in &world.events {
        map.take(event);
    }
    map.tick(START + 4000, &world.names);
    assert_eq!((map.links.len(), map.places.len()), (0, PODS as usize));
    map.tick(START + 5000, &Names::default());
    assert!(map.places.is_empty());
}

#[test]
fn a_connection_that_goes_on_after_its_link_was_forgotten_is_seen_again() {
    let mut world = World::make(1, 0);
    let way = (0, 1, 80);
    let sums = |bytes| Totals {
        bytes: [bytes, 0],
        ..Totals::default()
    };
    world.tell(way, RecordKind::Flow, 0, Totals::default(), false);
    world.tell(way, RecordKind::Update, 0, sums(100), false);
    world.tell(way, RecordKind::Update, 0, sums(150), false);
    world.tell(way, RecordKind::Update, 0, sums(170), false);
    let mut map = ServiceMap::new(MapSettings::default());
    for event in &world.events[..2] {
        map.take(event);
    }
    map.tick(START + 4000, &world.names);
    assert!(map.links.is_empty());
    for event in &world.events[2..] {
        map.take(event);
    }
    let expected = Plain {
        forwarded: 1,
        bytes: [70, 0],
        ..Plain::default()
    };
    assert_eq!(counted(&map), HashMap::from([(way, expected)]));
}

#[test]
fn what_is_only_audited_is_told_with_each_policy_and_counted_once() {
    let mut world = World::make(1, 0);
    let way = (0, 1, 80);
    for _ in 0..3 {
        world.tell(way, RecordKind::Flow, 0, Totals::default(), false);
    }
    let mut map = ServiceMap::new(MapSettings::default());
    for event in &world.events {
        let mut event = event.clone();
        event.record.ingress = Some(Verdict {
            decision: Decision::DenyDefault,
            rule: None,
        });
        map.take(&event);
    }
    let link = map.links.values().next().expect("there is one");
    assert_eq!((link.counts.audited, link.counts.forwarded), (1, 0));
    assert!(link.recent.rates(START, START).audited > 0.0);
}
