//! How long a worker that has nothing to do looks for frames before it sleeps.
//!
//! A wake-up across cores costs more than many looks, so where work comes again soon, looking is
//! quicker. Where the core is shared it is slower: while the worker looks, nobody can send. So it is
//! tried now and then, and kept up only as long as it finds something.

use portcullis_engine::Now;

/// Looks before each sleep: a reply often comes right behind its request.
const LOOKS_MIN: u32 = 3;
/// No longer than this, in nanoseconds.
const SPIN_MAX: u64 = 100_000;
/// Less is no more than `LOOKS_MIN`.
const SPIN_MIN: u64 = 4_000;
/// Sleeps that were short before looking longer is tried, at first and after many failures.
const PROBE_MIN: u32 = 64;
const PROBE_MAX: u32 = 1 << 14;

/// What it has learned from the last gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// Nanoseconds that are spun at present.
    spin: u64,
    looks: u32,
    idle_since: Option<Now>,
    has_slept: bool,
    /// Short sleeps until the next try.
    until_probe: u32,
    /// Short sleeps between tries.
    probe_gap: u32,
    is_probe: bool,
}

impl Patience {
    pub const fn new() -> Self {
        Self {
            spin: 0,
            looks: 0,
            idle_since: None,
            has_slept: false,
            until_probe: PROBE_MIN,
            probe_gap: PROBE_MIN,
            is_probe: false,
        }
    }

    /// Notes a turn that ended at `moment`, and says whether it is time to sleep. Who shares its
    /// core looks no longer than it must.
    pub fn is_over(&mut self, has_worked: bool, is_alone: bool, moment: Now) -> bool {
        if has_worked {
            self.end_gap(moment);
            return false;
        }
        self.looks += 1;
        let since = self.idle_since.get_or_insert(moment).0;
        let spin = if is_alone { self.spin } else { 0 };
        if self.looks <= LOOKS_MIN || moment.0.saturating_sub(since) < spin {
            return false;
        }
        if !self.has_slept {
            self.has_slept = true;
            self.note_failure();
        }
        true
    }

    /// Work came: what does the gap before it teach?
    fn end_gap(&mut self, moment: Now) {
        let Some(since) = self.idle_since.take() else {
            return;
        };
        let gap = moment.0.saturating_sub(since.0);
        let has_slept = std::mem::take(&mut self.has_slept);
        let looks = std::mem::take(&mut self.looks);
        if has_slept {
            // Only a gap that looking could have bridged is a reason to try.
            if self.spin == 0 && gap < SPIN_MAX {
                self.until_probe -= 1;
                if self.until_probe == 0 {
                    self.until_probe = self.probe_gap;
                    self.is_probe = true;
                    self.spin = SPIN_MAX;
                }
            }
        } else if looks > LOOKS_MIN {
            self.is_probe = false;
            self.probe_gap = PROBE_MIN;
            self.spin = (4 * gap).clamp(SPIN_MIN, SPIN_MAX);
        }
    }

    /// It looked in vain.
    fn note_failure(&mut self) {
        if self.spin == 0 {
            return;
        }
        if std::mem::take(&mut self.is_probe) {
            self.spin = 0;
            self.probe_gap = (2 * self.probe_gap).min(PROBE_MAX);
            self.until_probe = self.probe_gap;
            return;
        }
        self.spin = if self.spin / 2 < SPIN_MIN {
            0
        } else {
            self.spin / 2
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker whose turns take a microsecond, and its world.
    struct Run {
        patience: Patience,
        clock: u64,
        sleeps: u32,
        looked: u64,
    }

    impl Run {
        fn new() -> Self {
            Self {
                patience: Patience::new(),
                clock: 1_000_000,
                sleeps: 0,
                looked: 0,
            }
        }

        /// Work that takes a microsecond, then work again `gap` later; a worker that looks keeps
        /// it from coming where the core is shared, until it sleeps.
        fn gap(&mut self, gap: u64, is_core_shared: bool) {
            self.clock += 1000;
            assert!(!self.patience.is_over(true, true, Now(self.clock)));
            let mut due = self.clock + gap;
            loop {
                if self.clock >= due {
                    return;
                }
                if self.patience.is_over(false, true, Now(self.clock)) {
                    self.sleeps += 1;
                    self.clock = if is_core_shared {
                        self.clock + gap
                    } else {
                        due
                    };
                    return;
                }
                self.looked += 1000;
                self.clock += 1000;
                if is_core_shared {
                    due += 1000;
                }
            }
        }
    }

    #[test]
    fn short_gaps_are_bridged_by_looking_where_the_core_is_free() {
        let mut run = Run::new();
        (0..10_000).for_each(|_| run.gap(30_000, false));
        assert!(run.sleeps <= PROBE_MIN + 1, "{}", run.sleeps);
    }

    #[test]
    fn where_looking_keeps_work_from_coming_it_is_hardly_tried() {
        let mut run = Run::new();
        (0..100_000).for_each(|_| run.gap(15_000, true));
        // A try costs SPIN_MAX: spread over all gaps it must be little beside the three looks.
        let tries = run.looked.saturating_sub(100_000 * 4000) / SPIN_MAX;
        assert!(tries <= 12, "{tries}");
    }

    #[test]
    fn an_idle_worker_does_not_look_longer_than_three_turns() {
        let mut run = Run::new();
        (0..1000).for_each(|_| run.gap(30_000, false));
        // It has learned to look; then a second passes between two packets.
        run.looked = 0;
        (0..100).for_each(|_| run.gap(1_000_000_000, false));
        assert!(run.looked < 2 * SPIN_MAX + 100 * 4000, "{}", run.looked);
        assert_eq!(run.patience.spin, 0);
    }
}
