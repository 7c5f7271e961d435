//! When a worker goes before others on its core, and when it takes its turn like them.
//!
//! Pods that flood with small packets would starve who has to judge them: there a worker goes first.
//! Large units are another matter. Each is a copy of 64 KB that the receiver reads right away while
//! it is in the cache, if it is let: a worker that goes first copies the next ones over it. One TCP
//! stream to a receiver on the worker's core runs at half the speed then. [measured: docs/profile.md]

use crate::privileges::Place;
use portcullis_engine::Now;

/// From so many bytes a frame on average, work counts as bulk, and below so many no longer.
const BULK_FROM: u64 = 8192;
const BULK_UNTIL: u64 = 4096;
/// Work of this time is judged together, in nanoseconds.
const SPAN: u64 = 10_000_000;
/// No sooner than this is changed what has been changed.
const CHANGE_EVERY: u64 = 110_000_000;

/// What a worker has been doing lately.
#[derive(Debug)]
pub struct Manners {
    place: Place,
    is_bulk: bool,
    since: Now,
    changed: Option<Now>,
    frames: u64,
    bytes: u64,
}

impl Manners {
    /// Of this thread, which goes first at the start.
    #[must_use]
    pub fn of_this_thread(now: Now) -> Self {
        Self {
            place: Place::first(),
            is_bulk: false,
            since: now,
            changed: None,
            frames: 0,
            bytes: 0,
        }
    }

    /// Notes a turn with work, and changes this thread's place among others when that is due.
    pub fn note(&mut self, frames: u64, bytes: u64, now: Now) {
        if let Some(is_bulk) = self.judge(frames, bytes, now) {
            self.place.set(!is_bulk);
        }
    }

    /// Whether it is bulk from now on, if that has changed.
    fn judge(&mut self, frames: u64, bytes: u64, now: Now) -> Option<bool> {
        self.frames += frames;
        self.bytes += bytes;
        if now.0.saturating_sub(self.since.0) < SPAN || self.frames == 0 {
            return None;
        }
        let mean = self.bytes / self.frames;
        let least = if self.is_bulk { BULK_UNTIL } else { BULK_FROM };
        (self.since, self.frames, self.bytes) = (now, 0, 0);
        let is_bulk = mean >= least;
        let is_too_soon = |changed: Now| now.0.saturating_sub(changed.0) < CHANGE_EVERY;
        if is_bulk == self.is_bulk || self.changed.is_some_and(is_too_soon) {
            return None;
        }
        (self.is_bulk, self.changed) = (is_bulk, Some(now));
        Some(is_bulk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns of a millisecond each, with so many frames of so many bytes.
    fn work(manners: &mut Manners, now: &mut u64, turns: u32, frames: &[u64]) -> Vec<bool> {
        let turn = |_| {
            *now += 1_000_000;
            manners.judge(frames.len() as u64, frames.iter().sum(), Now(*now))
        };
        (0..turns).filter_map(turn).collect()
    }

    #[test]
    fn a_stream_of_large_segments_and_its_acknowledgements_is_bulk() {
        let (mut manners, mut now) = (Manners::of_this_thread(Now(0)), 0);
        assert_eq!(work(&mut manners, &mut now, 30, &[65_226, 66]), [true]);
    }

    #[test]
    fn small_packets_are_not_and_neither_are_frames_of_1500_bytes() {
        let (mut manners, mut now) = (Manners::of_this_thread(Now(0)), 0);
        assert!(work(&mut manners, &mut now, 30, &[64; 100]).is_empty());
        assert!(work(&mut manners, &mut now, 30, &[1514; 100]).is_empty());
    }

    #[test]
    fn a_flood_beside_a_stream_brings_the_worker_to_the_front_again() {
        let (mut manners, mut now) = (Manners::of_this_thread(Now(0)), 0);
        let mut frames = vec![65_226];
        assert_eq!(work(&mut manners, &mut now, 30, &frames), [true]);
        frames.extend([64; 100]);
        assert_eq!(work(&mut manners, &mut now, 130, &frames), [false]);
    }

    #[test]
    fn what_has_just_been_changed_stays_for_a_while() {
        let (mut manners, mut now) = (Manners::of_this_thread(Now(0)), 0);
        assert_eq!(work(&mut manners, &mut now, 10, &[65_226]), [true]);
        assert!(work(&mut manners, &mut now, 100, &[64]).is_empty());
        assert_eq!(work(&mut manners, &mut now, 20, &[64]), [false]);
    }

    #[test]
    fn between_the_two_bounds_nothing_changes() {
        let (mut manners, mut now) = (Manners::of_this_thread(Now(0)), 0);
        assert!(work(&mut manners, &mut now, 30, &[6000]).is_empty());
        assert_eq!(work(&mut manners, &mut now, 30, &[9000]), [true]);
        assert!(work(&mut manners, &mut now, 30, &[6000]).is_empty());
        assert_eq!(work(&mut manners, &mut now, 130, &[3000]), [false]);
    }

    #[test]
    fn a_pause_alone_teaches_nothing() {
        let (mut manners, mut now) = (Manners::of_this_thread(Now(0)), 0);
        assert_eq!(work(&mut manners, &mut now, 30, &[65_226]), [true]);
        assert!(work(&mut manners, &mut now, 3000, &[]).is_empty());
    }
}
