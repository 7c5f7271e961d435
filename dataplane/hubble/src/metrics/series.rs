//! The series of one counter: bounded, and without those of what is gone.

use super::context::{SEPARATOR, SEPARATOR_TEXT};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What takes the place of a label's value where there is no room for another series.
const OTHER: &str = "other";

/// What a series goes with: a pod, `namespace/name`, or a workload, `workload namespace/name`.
pub(super) type OwnerName = Arc<str>;

/// The labels of one event, the values behind one another.
#[derive(Debug, Default)]
pub(super) struct Key {
    /// The values.
    pub text: String,
    /// Bytes of those that any number of pods keep few; the rest is what may be folded.
    pub fixed: usize,
}

/// Upper bounds of what is counted by how long it took, in seconds.
pub(super) const TIME_BOUNDS: [f64; 7] = [0.0001, 0.0005, 0.002, 0.01, 0.05, 0.25, f64::INFINITY];

/// How often something took no longer than each of the bounds and longer than the one before, and
/// the seconds of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Times {
    pub counts: [u64; TIME_BOUNDS.len()],
    pub seconds: f64,
}

impl Times {
    fn add(&mut self, time_us: u32) {
        let seconds = f64::from(time_us) / 1e6;
        let place = TIME_BOUNDS.iter().position(|bound| seconds <= *bound);
        self.counts[place.unwrap_or(TIME_BOUNDS.len() - 1)] += 1;
        self.seconds += seconds;
    }
}

/// Counts by labels.
#[derive(Debug)]
pub(super) struct Series {
    labels: Vec<&'static str>,
    counts: HashMap<Box<str>, Count>,
    max: usize,
    folded: u64,
}

#[derive(Debug, Default)]
struct Count {
    value: u64,
    times: Option<Box<Times>>,
    owners: [Option<OwnerName>; 2],
}

impl Count {
    fn add(&mut self, time_us: Option<u32>) {
        self.value += 1;
        if let Some(time_us) = time_us {
            self.times.get_or_insert_default().add(time_us);
        }
    }
}

impl Series {
    /// At most `max` series with these labels.
    ///
    /// # Panics
    /// When there is no room for one series.
    pub fn new(labels: Vec<&'static str>, max: usize) -> Self {
        assert!(max > 0, "no room for any series");
        Self {
            labels,
            counts: HashMap::new(),
            max,
            folded: 0,
        }
    }

    /// Counts one, and how long it took where that is of interest. `owners` tells what a new series
    /// goes with.
    ///
    /// Where there is no room, the labels that grow with the pods become "other"; where there is none
    /// for that either, all do. So totals stay right.
    pub fn add(
        &mut self,
        key: &Key,
        time_us: Option<u32>,
        owners: impl FnOnce() -> [Option<OwnerName>; 2],
    ) {
        if let Some(count) = self.counts.get_mut(key.text.as_str()) {
            count.add(time_us);
            return;
        }
        // An eighth is kept for what is folded.
        if self.counts.len() < self.max - self.max.div_ceil(8) {
            let mut count = Count {
                owners: owners(),
                ..Count::default()
            };
            count.add(time_us);
            self.counts.insert(key.text.as_str().into(), count);
            return;
        }
        self.folded += 1;
        let fixed = &key.text[..key.fixed];
        let kept = if fixed.is_empty() {
            0
        } else {
            fixed.split(SEPARATOR).count()
        };
        let folded = std::iter::repeat_n(OTHER, self.labels.len() - kept);
        let values = fixed.split(SEPARATOR).take(kept).chain(folded);
        let mut other = values.collect::<Vec<_>>().join(SEPARATOR_TEXT);
        if !self.counts.contains_key(other.as_str()) && self.counts.len() + 1 >= self.max {
            other = vec![OTHER; self.labels.len()].join(SEPARATOR_TEXT);
        }
        self.counts.entry(other.into()).or_default().add(time_us);
    }

    /// Removes what goes with any of these.
    pub fn forget(&mut self, gone: &HashSet<OwnerName>) {
        self.counts.retain(|_, count| {
            let mut owners = count.owners.iter().flatten();
            !owners.any(|owner| gone.contains(owner))
        });
    }

    /// The names of the labels.
    pub fn labels(&self) -> &[&'static str] {
        &self.labels
    }

    /// Every series: the values in the order of the labels, and the count.
    pub fn all(&self) -> impl Iterator<Item = (std::str::Split<'_, char>, u64)> {
        self.counts
            .iter()
            .map(|(key, count)| (key.split(SEPARATOR), count.value))
    }

    /// Lets there be more or fewer. Those that there are stay.
    ///
    /// # Panics
    /// When there is no room for one series.
    pub fn set_max(&mut self, max: usize) {
        assert!(max > 0, "no room for any series");
        self.max = max;
    }

    /// The same with how long it took, of what was counted so.
    pub fn times(&self) -> impl Iterator<Item = (std::str::Split<'_, char>, &Times)> {
        let all = self.counts.iter();
        all.filter_map(|(key, count)| Some((key.split(SEPARATOR), count.times.as_deref()?)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Events that found no room for a series of their own.
    pub fn folded(&self) -> u64 {
        self.folded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fixed: &str, rest: &str) -> Key {
        Key {
            text: format!("{fixed}{SEPARATOR}{rest}"),
            fixed: fixed.len(),
        }
    }

    fn nobody() -> [Option<OwnerName>; 2] {
        [None, None]
    }

    fn value(series: &Series, values: &[&str]) -> Option<u64> {
        let mut all = series.all();
        all.find(|(have, _)| have.clone().eq(values.iter().copied()))
            .map(|(_, value)| value)
    }

    #[test]
    fn what_finds_no_room_is_counted_under_other() {
        let mut series = Series::new(vec!["verdict", "source"], 16);
        for round in 0..2 {
            for pod in 0..100 {
                series.add(&key("FORWARDED", &format!("pod-{pod}")), None, nobody);
            }
            assert!(series.len() <= 16, "in round {round}: {}", series.len());
        }
        assert_eq!(value(&series, &["FORWARDED", "pod-0"]), Some(2));
        assert_eq!(value(&series, &["FORWARDED", "pod-99"]), None);
        assert_eq!(
            value(&series, &["FORWARDED", "other"]),
            Some(2 * (100 - 14))
        );
        assert_eq!(series.folded(), 2 * (100 - 14));
        let total: u64 = series.all().map(|(_, value)| value).sum();
        assert_eq!(total, 200);
    }

    #[test]
    fn the_bound_holds_even_where_the_few_labels_are_many() {
        let mut series = Series::new(vec!["verdict", "source"], 8);
        for verdict in 0..100 {
            series.add(&key(&format!("verdict-{verdict}"), "pod"), None, nobody);
        }
        assert_eq!(series.len(), 8);
        assert_eq!(value(&series, &["other", "other"]), Some(100 - 7));
        let mut series = Series::new(vec!["source"], 1);
        let bare = Key {
            text: "pod".into(),
            fixed: 0,
        };
        series.add(&bare, None, nobody);
        assert_eq!(value(&series, &["other"]), Some(1));
    }

    #[test]
    fn the_series_of_a_pod_go_with_it() {
        let mut series = Series::new(vec!["verdict", "source"], 100);
        let (one, two): (OwnerName, OwnerName) = ("shop/one".into(), "shop/two".into());
        series.add(&key("FORWARDED", "one"), None, || [Some(one.clone()), None]);
        series.add(&key("FORWARDED", "one to two"), None, || {
            [Some(two.clone()), Some(one.clone())]
        });
        series.add(&key("FORWARDED", "two"), None, || [Some(two), None]);
        series.forget(&HashSet::from([one]));
        assert_eq!(series.len(), 1);
        assert_eq!(value(&series, &["FORWARDED", "two"]), Some(1));
    }
}
