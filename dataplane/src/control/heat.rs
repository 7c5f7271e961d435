//! Which endpoint takes how much of its worker, and whether others suffer from it.

use super::endpoints::Slots;
use crate::counters::WorkerCounters;
use crate::status::HotStatus;
use portcullis_engine::{EndpointId, EndpointIndex};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Endpoints that are told.
const TOLD_MAX: usize = 5;
/// What an endpoint must take of its worker's time to be hot, in percent.
const HOT_PERCENT: f64 = 70.0;
/// A worker that works this long of a second lets frames wait, in percent.
const FULL_PERCENT: f64 = 90.0;
/// Seconds that an endpoint is hot before it is moved.
const HOT_SECONDS: u32 = 10;
/// Seconds after a move in which none follows: its effect is to be seen first.
const REST_SECONDS: u32 = 60;

/// What one endpoint had asked of its worker when it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Reading {
    frames: u64,
    busy_ns: u64,
    lost: u64,
}

/// The loads of the last second.
#[derive(Debug, Default)]
pub struct Heat {
    before: BTreeMap<(EndpointId, u16), Reading>,
    busy_before: Vec<u64>,
    /// How much of the last second each worker worked, in percent.
    pub busy_percent: Vec<f64>,
    loads: Vec<(EndpointIndex, HotStatus)>,
    hot_seconds: BTreeMap<u32, u32>,
    rest: u32,
}

impl Heat {
    /// Reads what has been asked of the workers since the last call, `seconds` ago.
    pub fn read(&mut self, slots: &Slots, workers: &[Arc<WorkerCounters>], seconds: f64) {
        let busy: Vec<u64> = workers.iter().map(|worker| worker.busy_ns.get()).collect();
        let busy_new: Vec<u64> = busy
            .iter()
            .enumerate()
            .map(|(number, now)| now - self.busy_before.get(number).unwrap_or(now))
            .collect();
        self.busy_before = busy;
        self.busy_percent = busy_new
            .iter()
            .map(|ns| *ns as f64 / seconds / 1e7)
            .collect();
        let mut now = BTreeMap::new();
        let mut loads = Vec::new();
        for (index, slot) in slots.iter() {
            let load = workers[usize::from(slot.worker)].load(index);
            let reading = Reading {
                frames: load.frames.get(),
                busy_ns: load.busy_ns.get(),
                lost: load.lost.get(),
            };
            let key = (slot.id, slot.worker);
            now.insert(key, reading);
            // Of one that is new here nothing is known yet: its place had others before.
            let Some(before) = self.before.get(&key) else {
                continue;
            };
            let new = |now: u64, before: u64| now.saturating_sub(before) as f64;
            let busy_ns = new(reading.busy_ns, before.busy_ns);
            let of_worker = busy_new[usize::from(slot.worker)].max(1) as f64;
            let hot = HotStatus {
                id: slot.id.0,
                name: slot.wanted.key.name(),
                worker: slot.worker,
                frames_per_second: new(reading.frames, before.frames) / seconds,
                worker_percent: (busy_ns / of_worker * 100.0).min(100.0),
                core_percent: busy_ns / seconds / 1e7,
                lost_per_second: new(reading.lost, before.lost) / seconds,
                hot_seconds: 0,
            };
            if hot.frames_per_second > 0.0 || hot.lost_per_second > 0.0 {
                loads.push((index, hot));
            }
        }
        self.before = now;
        loads.sort_by(|(_, a), (_, b)| b.core_percent.total_cmp(&a.core_percent));
        self.loads = loads;
        self.count_hot();
        self.rest = self.rest.saturating_sub(1);
    }

    fn count_hot(&mut self) {
        let mut still = BTreeMap::new();
        for position in 0..self.loads.len() {
            if !self.is_hot(position) {
                continue;
            }
            let hot = &mut self.loads[position].1;
            hot.hot_seconds = self.hot_seconds.get(&hot.id).unwrap_or(&0) + 1;
            still.insert(hot.id, hot.hot_seconds);
        }
        self.hot_seconds = still;
    }

    /// Whether an endpoint takes most of the time of a worker that does not keep up, and another is
    /// served by it.
    fn is_hot(&self, position: usize) -> bool {
        let hot = &self.loads[position].1;
        if hot.worker_percent < HOT_PERCENT {
            return false;
        }
        let mut here = self
            .loads
            .iter()
            .map(|(_, load)| load)
            .filter(|load| load.worker == hot.worker);
        let is_full = self.busy_percent[usize::from(hot.worker)] >= FULL_PERCENT;
        // Losses of anybody say that it does not keep up, also where it has to wait for its core.
        let is_behind = is_full || here.clone().any(|load| load.lost_per_second > 0.0);
        is_behind && here.any(|other| other.id != hot.id)
    }

    /// The hottest endpoints.
    pub fn hottest(&self) -> Vec<HotStatus> {
        let hottest = self.loads.iter().take(TOLD_MAX);
        hottest.map(|(_, load)| load.clone()).collect()
    }

    /// An endpoint that should move, and to which worker: the least busy, if that is less than half
    /// as busy.
    pub fn advice(&self) -> Option<(EndpointIndex, u16)> {
        if self.rest > 0 {
            return None;
        }
        let is_due = |(_, load): &&(EndpointIndex, HotStatus)| load.hot_seconds >= HOT_SECONDS;
        let (index, hot) = self.loads.iter().find(is_due)?;
        let by_load = |(_, a): &(usize, &f64), (_, b): &(usize, &f64)| a.total_cmp(b);
        let (to, percent) = self.busy_percent.iter().enumerate().min_by(by_load)?;
        let here = self.busy_percent[usize::from(hot.worker)];
        (*percent * 2.0 < here).then_some((*index, to as u16))
    }

    /// An endpoint was moved: none is for a while.
    pub fn note_move(&mut self) {
        self.rest = REST_SECONDS;
        self.hot_seconds.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoints::{SlotKey, Wanted};
    use super::*;

    /// Two workers; a and c are at the first, b and d at the second.
    fn slots() -> Slots {
        let mut slots = Slots::new(2);
        let wanted = ["a", "b", "c", "d"].map(|name| Wanted {
            key: SlotKey::Pod {
                namespace: "default".into(),
                name: name.into(),
            },
            interface: name.into(),
            addresses: Vec::new(),
            mac: None,
        });
        slots.reconcile(&wanted, &[]);
        slots
    }

    /// A second in which endpoints take so many milliseconds of their workers.
    fn second(heat: &mut Heat, workers: &[Arc<WorkerCounters>], taken: &[(u16, u64)]) {
        for (index, milliseconds) in taken {
            let worker = &workers[usize::from(index % 2)];
            let load = worker.load(EndpointIndex(*index));
            load.frames.add(1000);
            load.busy_ns.add(milliseconds * 1_000_000);
            worker.busy_ns.add(milliseconds * 1_000_000);
        }
        heat.read(&slots(), workers, 1.0);
    }

    fn workers() -> Vec<Arc<WorkerCounters>> {
        (0..2).map(|_| Arc::default()).collect()
    }

    #[test]
    fn the_hottest_come_first_with_their_share() {
        let (mut heat, workers) = (Heat::default(), workers());
        second(&mut heat, &workers, &[]);
        second(&mut heat, &workers, &[(0, 600), (2, 200), (1, 300)]);
        let told: Vec<_> = heat
            .hottest()
            .into_iter()
            .map(|hot| (hot.name, hot.worker_percent as u32, hot.core_percent as u32))
            .collect();
        let expected = [
            ("default/a", 75, 60),
            ("default/b", 100, 30),
            ("default/c", 25, 20),
        ];
        assert_eq!(
            told,
            expected.map(|(name, worker, core)| (name.to_owned(), worker, core))
        );
    }

    #[test]
    fn only_a_pod_that_keeps_its_worker_from_others_for_long_is_to_move() {
        let (mut heat, workers) = (Heat::default(), workers());
        second(&mut heat, &workers, &[]);
        let crowded = [(0, 900), (2, 50), (1, 100)];
        for _ in 1..HOT_SECONDS {
            second(&mut heat, &workers, &crowded);
            assert_eq!(heat.advice(), None);
        }
        second(&mut heat, &workers, &crowded);
        assert_eq!(heat.advice(), Some((EndpointIndex(0), 1)));
        // One quiet second, and it is forgotten.
        second(&mut heat, &workers, &[(0, 300), (2, 50)]);
        assert_eq!(heat.advice(), None);
    }

    #[test]
    fn alone_at_its_worker_or_with_nowhere_to_go_it_stays() {
        let (mut heat, workers) = (Heat::default(), workers());
        second(&mut heat, &workers, &[]);
        for _ in 0..2 * HOT_SECONDS {
            second(&mut heat, &workers, &[(0, 990), (1, 100)]);
        }
        assert_eq!(heat.advice(), None);
        for _ in 0..2 * HOT_SECONDS {
            second(&mut heat, &workers, &[(0, 900), (2, 50), (1, 600)]);
        }
        assert_eq!(heat.advice(), None);
    }

    #[test]
    fn after_a_move_there_is_rest() {
        let (mut heat, workers) = (Heat::default(), workers());
        second(&mut heat, &workers, &[]);
        let crowded = [(0, 900), (2, 50)];
        (0..HOT_SECONDS).for_each(|_| second(&mut heat, &workers, &crowded));
        assert!(heat.advice().is_some());
        heat.note_move();
        (0..REST_SECONDS - 1).for_each(|_| second(&mut heat, &workers, &crowded));
        assert_eq!(heat.advice(), None);
        second(&mut heat, &workers, &crowded);
        assert!(heat.advice().is_some());
    }
}
