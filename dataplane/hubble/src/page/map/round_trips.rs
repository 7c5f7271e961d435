//! How long handshakes took, counted in steps: of a fixed size, however many there are.

/// Steps of each doubling: what is told is at most an eighth off.
const STEPS: usize = 4;
/// From one microsecond to sixteen seconds; what takes longer is in the last step.
const DOUBLINGS: usize = 24;

/// Handshakes by how long they took. Takes no room before the first one.
#[derive(Debug, Clone, Default)]
pub(crate) struct RoundTrips(Option<Box<[u32; STEPS * DOUBLINGS]>>);

impl RoundTrips {
    /// Counts one, in microseconds. Zero is none.
    pub(crate) fn add(&mut self, time_us: u32) {
        let Some(doubling) = time_us.checked_ilog2() else {
            return;
        };
        let part = ((u64::from(time_us) * STEPS as u64) >> doubling) as usize % STEPS;
        let step = (doubling as usize * STEPS + part).min(STEPS * DOUBLINGS - 1);
        let counts = self.0.get_or_insert_with(|| Box::new([0; _]));
        counts[step] = counts[step].saturating_add(1);
    }

    /// The microseconds in the middle of each step that has any, and how many it has.
    pub(crate) fn told(&self) -> Vec<(u32, u32)> {
        let counts = self.0.iter().flat_map(|counts| counts.iter().enumerate());
        let some = counts.filter(|(_, count)| **count > 0);
        some.map(|(step, count)| (middle_us(step), *count))
            .collect()
    }
}

const fn middle_us(step: usize) -> u32 {
    let eighths = (2 * STEPS + 2 * (step % STEPS) + 1) as u64;
    ((eighths << (step / STEPS)) / (2 * STEPS as u64)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_within_an_eighth_and_none_is_lost() {
        let mut time_us = 1;
        while time_us < 16_000_000 {
            let mut one = RoundTrips::default();
            one.add(time_us);
            let told = one.told();
            let [(middle_us, 1)] = told[..] else {
                panic!("{time_us}: {told:?}");
            };
            assert!(
                middle_us.abs_diff(time_us) <= time_us / 8,
                "{time_us}: {middle_us}"
            );
            time_us += 1 + time_us / 50;
        }
        let mut all = RoundTrips::default();
        for time_us in [0, 1, 100, 100, 101, u32::MAX] {
            all.add(time_us);
        }
        assert_eq!(all.told(), [(1, 1), (104, 3), (15_728_640, 1)]);
        assert_eq!(RoundTrips::default().told(), []);
    }
}
