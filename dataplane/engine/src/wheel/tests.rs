//! The wheel against a plain list of deadlines.

use super::*;
use proptest::prelude::*;

const ENTRIES_MAX: u32 = 16;
const TICK: u64 = 1 << TICK_BITS;

/// Takes all off that are due, arming those again whose deadline has not passed.
fn sweep(wheel: &mut Wheel, deadlines: &[Option<u64>], now: Now) -> Vec<u32> {
    let mut ended = Vec::new();
    while let Some(entry) = wheel.next_due(now) {
        let deadline = deadlines[entry as usize].expect("an entry off the wheel is not due");
        if deadline < now.0 {
            ended.push(entry);
        } else {
            wheel.arm(entry, Now(deadline));
        }
    }
    ended.sort_unstable();
    ended
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Arm(u32, u64),
    /// The owner moves the deadline and tells nobody.
    Extend(u32, u64),
    Disarm(u32),
    Wait(u64),
}

fn span() -> impl Strategy<Value = u64> {
    // Up to a tick, an hour, and a lifetime.
    prop_oneof![0..TICK, 0..3_600_000_000_000_u64, 0..u64::MAX >> 8]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..ENTRIES_MAX, span()).prop_map(|(entry, after)| Step::Arm(entry, after)),
        2 => (0..ENTRIES_MAX, span()).prop_map(|(entry, more)| Step::Extend(entry, more)),
        1 => (0..ENTRIES_MAX).prop_map(Step::Disarm),
        4 => span().prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn what_is_past_its_deadline_by_a_tick_is_due_and_nothing_else_ends(
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut wheel = Wheel::new(ENTRIES_MAX);
        let mut deadlines = vec![None; ENTRIES_MAX as usize];
        let mut now = 0_u64;
        for step in steps {
            match step {
                Step::Arm(entry, after) => {
                    let deadline = now.saturating_add(after);
                    deadlines[entry as usize] = Some(deadline);
                    wheel.arm(entry, Now(deadline));
                }
                Step::Extend(entry, more) => {
                    if let Some(deadline) = &mut deadlines[entry as usize] {
                        *deadline = deadline.saturating_add(more);
                    }
                }
                Step::Disarm(entry) => {
                    deadlines[entry as usize] = None;
                    wheel.disarm(entry);
                }
                Step::Wait(span) => now = now.saturating_add(span),
            }
            for entry in sweep(&mut wheel, &deadlines, Now(now)) {
                prop_assert!(deadlines[entry as usize].take().unwrap() < now);
            }
            for deadline in deadlines.iter().flatten() {
                prop_assert!(deadline.saturating_add(TICK) >= now, "{} at {}", deadline, now);
            }
        }
    }
}

#[test]
fn an_entry_is_never_due_before_its_deadline_has_passed() {
    for deadline in [0, 1, TICK - 1, TICK, 65 * TICK, 4096 * TICK + 5] {
        let mut wheel = Wheel::new(1);
        wheel.arm(0, Now(deadline));
        let mut deadlines = vec![Some(deadline)];
        assert_eq!(
            sweep(&mut wheel, &deadlines, Now(deadline)),
            Vec::<u32>::new()
        );
        assert_eq!(sweep(&mut wheel, &deadlines, Now(deadline + TICK)), vec![0]);
        deadlines[0] = None;
        assert_eq!(
            sweep(&mut wheel, &deadlines, Now(u64::MAX)),
            Vec::<u32>::new()
        );
    }
}

#[test]
fn a_late_clock_does_not_turn_the_wheel_back() {
    let mut wheel = Wheel::new(2);
    assert_eq!(wheel.next_due(Now(1000 * TICK)), None);
    wheel.arm(0, Now(0));
    assert_eq!(wheel.next_due(Now(5)), Some(0));
    assert_eq!(wheel.next_due(Now(1000 * TICK)), None);
}
