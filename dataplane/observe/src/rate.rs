//! How many events there were in each second of the last minute.

use jiff::Timestamp;

/// Seconds that are counted.
const SECONDS: usize = 60;
const NANOSECONDS: i64 = 1_000_000_000;

/// Counts by second; a second has the place of the one a minute before.
#[derive(Debug)]
pub(crate) struct Rate([(i64, u64); SECONDS]);

impl Default for Rate {
    fn default() -> Self {
        Self([(i64::MIN, 0); SECONDS])
    }
}

impl Rate {
    /// Counts an event, by its nanoseconds since 1970.
    pub(crate) fn count(&mut self, time: i64) {
        let second = time.div_euclid(NANOSECONDS);
        let place = second.rem_euclid(SECONDS as i64);
        let (of, count) = &mut self.0[place as usize];
        if *of != second {
            (*of, *count) = (second, 0);
        }
        *count += 1;
    }

    /// Events a second, over the last minute.
    pub(crate) fn per_second(&self, now: Timestamp) -> f64 {
        let now = now.as_second();
        let last = self.0.iter().filter(|(second, _)| {
            let age = now.saturating_sub(*second);
            (0..SECONDS as i64).contains(&age)
        });
        let count: u64 = last.map(|(_, count)| count).sum();
        count as f64 / SECONDS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_minute_counts() {
        let mut rate = Rate::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(rate.per_second(at(0)), 0.0);
        for second in 1000..1300 {
            for _ in 0..6 {
                rate.count(second * NANOSECONDS + 5);
            }
        }
        assert_eq!(rate.per_second(at(1299)), 6.0);
        assert_eq!(rate.per_second(at(1329)), 3.0);
        assert_eq!(rate.per_second(at(2000)), 0.0);
    }
}
