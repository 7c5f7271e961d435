//! The wheel with a clock of its own.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Every entry that is looked at by now; each leaves the wheel.
fn take(wheel: &mut FlowWheel, now: u64) -> Vec<u32> {
    let mut taken = Vec::new();
    while let Some(entry) = wheel.due(now) {
        wheel.disarm(entry);
        taken.push(entry);
    }
    taken.sort_unstable();
    taken
}

#[test]
fn an_entry_comes_up_in_its_second_and_not_before() {
    for second in [
        1, 60, 511, 512, 513, 1023, 1024, 8000, 262_143, 262_144, 9_000_000,
    ] {
        for start in [0, 1, 511, 512, 513, 1_000_000] {
            let mut wheel = FlowWheel::new(1);
            wheel.begin(start);
            let due = start + second;
            wheel.arm(0, due);
            // Looked at early it is armed again, as the table does.
            let mut looks = 0;
            while let Some(entry) = wheel.due(due - 1) {
                wheel.arm(entry, due);
                looks += 1;
            }
            assert!(looks <= 1 + second / 261_632, "{looks} looks for {second}");
            assert_eq!(take(&mut wheel, due), [0], "{second} from {start}");
        }
    }
}

#[test]
fn an_entry_armed_again_comes_up_once() {
    let mut wheel = FlowWheel::new(3);
    (0..3).for_each(|entry| wheel.arm(entry, 5));
    wheel.arm(1, 700);
    wheel.disarm(2);
    wheel.disarm(2);
    assert_eq!(take(&mut wheel, 6), [0]);
    assert_eq!(take(&mut wheel, 1000), [1]);
    assert!(take(&mut wheel, 1_000_000).is_empty());
}

#[test]
fn a_call_that_is_broken_off_goes_on_where_it_was() {
    let mut wheel = FlowWheel::new(4);
    (0..4).for_each(|entry| wheel.arm(entry, 600));
    let first = wheel.due(10_000).unwrap();
    wheel.disarm(first);
    // What comes meanwhile has its own second.
    wheel.arm(first, 10_060);
    let rest: Vec<u32> = (0..4).filter(|entry| *entry != first).collect();
    let mut taken = Vec::new();
    for _ in 0..3 {
        let entry = wheel.due(10_000).unwrap();
        wheel.disarm(entry);
        taken.push(entry);
    }
    taken.sort_unstable();
    assert_eq!(taken, rest);
    // The late one was put far off, where it was seen from then.
    while let Some(entry) = wheel.due(10_059) {
        wheel.arm(entry, 10_060);
    }
    assert_eq!(take(&mut wheel, 10_060), [first]);
}

proptest! {
    #[test]
    fn the_wheel_agrees_with_a_plain_map(
        steps in proptest::collection::vec((0_u32..20, 0_u64..4, 0_u64..1200), 0..200),
    ) {
        let mut wheel = FlowWheel::new(20);
        let mut plain: BTreeMap<u32, u64> = BTreeMap::new();
        let mut now = 0;
        for (entry, deed, seconds) in steps {
            match deed {
                0 => {
                    wheel.disarm(entry);
                    plain.remove(&entry);
                }
                1 => now += seconds * seconds,
                _ => {
                    let due = now + 1 + seconds * deed;
                    wheel.arm(entry, due);
                    plain.insert(entry, due);
                }
            }
            let mut looks = 0;
            while let Some(entry) = wheel.due(now) {
                let due = plain[&entry];
                if due <= now {
                    wheel.disarm(entry);
                    plain.remove(&entry);
                } else {
                    wheel.arm(entry, due);
                }
                looks += 1;
                prop_assert!(looks <= 200);
            }
            prop_assert!(plain.values().all(|due| *due > now), "{plain:?} at {now}");
        }
    }
}
