//! What was counted over the last minute, for rates.

use serde::Serialize;

/// Seconds of one slot.
pub(crate) const SLOT_SECONDS: i64 = 5;
/// Slots that are kept.
const SLOTS: usize = 12;
/// Seconds that a rate is about.
pub(crate) const WINDOW_SECONDS: i64 = SLOT_SECONDS * SLOTS as i64;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sample {
    /// Connections that began.
    pub(crate) connections: u64,
    /// Connections that began though an audited policy denies them.
    pub(crate) audited: u64,
    /// Packets that were dropped.
    pub(crate) dropped: u64,
    /// Packets that passed, both ways.
    pub(crate) packets: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl Sample {
    fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.audited += other.audited;
        self.dropped += other.dropped;
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// The same for each second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(crate) struct Rates {
    /// Connections that began.
    pub(crate) connections: f64,
    /// Connections that began though an audited policy denies them.
    pub(crate) audited: f64,
    /// Packets that were dropped.
    pub(crate) dropped: f64,
    /// Packets that passed.
    pub(crate) packets: f64,
    /// Their bytes.
    pub(crate) bytes: f64,
}

/// The last minute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Recent {
    /// By number of the slot, modulo their count; each with its number.
    slots: [(i64, Sample); SLOTS],
}

impl Recent {
    /// Counts what happened at a second. What is older than the last minute changes nothing.
    pub(crate) fn add(&mut self, second: i64, sample: Sample) {
        let number = second.div_euclid(SLOT_SECONDS);
        let Ok(place) = usize::try_from(number.rem_euclid(SLOTS as i64)) else {
            return;
        };
        let slot = &mut self.slots[place];
        if slot.0 > number {
            return;
        }
        if slot.0 < number {
            *slot = (number, Sample::default());
        }
        slot.1.add(sample);
    }

    /// Rates at this second of what has been counted since `first`.
    pub(crate) fn rates(&self, now: i64, first: i64) -> Rates {
        let newest = now.div_euclid(SLOT_SECONDS);
        let mut sum = Sample::default();
        for (number, sample) in &self.slots {
            if (newest - SLOTS as i64 + 1..=newest).contains(number) {
                sum.add(*sample);
            }
        }
        let seconds = (now - first + 1).clamp(SLOT_SECONDS, WINDOW_SECONDS) as f64;
        Rates {
            connections: sum.connections as f64 / seconds,
            audited: sum.audited as f64 / seconds,
            dropped: sum.dropped as f64 / seconds,
            packets: sum.packets as f64 / seconds,
            bytes: sum.bytes as f64 / seconds,
        }
    }

    /// Whether there is anything to be seen of this minute or the slot after it: rates sink.
    pub(crate) fn is_moving(&self, now: i64) -> bool {
        let oldest = now.div_euclid(SLOT_SECONDS) - SLOTS as i64;
        self.slots
            .iter()
            .any(|(number, sample)| *number >= oldest && *sample != Sample::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_over_the_last_minute_and_sinks_to_nothing() {
        let mut recent = Recent::default();
        let one = Sample {
            connections: 30,
            ..Sample::default()
        };
        recent.add(1000, one);
        recent.add(1030, one);
        assert_eq!(recent.rates(1059, 0).connections, 1.0);
        assert_eq!(recent.rates(1080, 0).connections, 0.5);
        assert_eq!(recent.rates(1100, 0).connections, 0.0);
        assert!(recent.is_moving(1091) && !recent.is_moving(1200));
        recent.add(900, one);
        assert_eq!(recent.rates(1080, 0).connections, 0.5, "too old to count");
        assert_eq!(
            recent.rates(1030, 1026).connections,
            12.0,
            "young links are not diluted"
        );
    }
}
