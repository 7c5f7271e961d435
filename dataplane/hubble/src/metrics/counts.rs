//! Hubble's counters, fed with events: what a consumer's thread writes and a scrape reads.

use super::context::{Bound, Context};
use super::metric::Metric;
use super::series::{Key, PodName, Series};
use super::settings::Enabled;
use portcullis_observe::{Aspect, DropReason, Event, Names, Party, Sighting};
use portcullis_policy::Direction;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

/// How long the series of a pod that is gone are still shown: a scrape must see the last of them.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(60);

/// Events that were not counted, by where they were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lost {
    /// Between the workers and the history.
    pub queue: u64,
    /// Overwritten in the history before they were read here.
    pub ring: u64,
}

/// Dropped packets and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Dropped {
    pub packets: u64,
    pub bytes: u64,
}

/// Everything that is counted from events.
#[derive(Debug)]
pub(super) struct Counts {
    metrics: Vec<Counted>,
    key: Key,
    /// What was not counted.
    pub lost: Lost,
    /// Events that were.
    pub events: u64,
    /// What ended here, from the records: they know direction and length.
    pub drops: BTreeMap<(DropReason, &'static str), Dropped>,
    /// Pods that were there a moment ago, and since when they are not.
    pods: HashMap<PodName, Option<Instant>>,
}

/// One metric and its series.
#[derive(Debug)]
pub(super) struct Counted {
    pub metric: Metric,
    pub series: Series,
    context: Context,
}

impl Counts {
    /// Nothing counted yet. Each metric that counts gets an equal share of the
    /// series.
    pub fn new(enabled: &[Enabled], series_max: usize) -> Self {
        let is_counting =
            |enabled: &&Enabled| !matches!(enabled.metric, Metric::Dns | Metric::Http);
        let counting = enabled.iter().filter(is_counting).count();
        let share = (series_max / counting.max(1)).max(1);
        let metrics = enabled.iter().map(|enabled| {
            let labels = enabled.metric.labels().iter().copied();
            let labels = labels.chain(enabled.context.label_names()).collect();
            Counted {
                metric: enabled.metric,
                series: Series::new(labels, share),
                context: enabled.context.clone(),
            }
        });
        Self {
            metrics: metrics.collect(),
            key: Key::default(),
            lost: Lost::default(),
            events: 0,
            drops: BTreeMap::new(),
            pods: HashMap::new(),
        }
    }

    /// The metrics in the order of the settings.
    pub fn metrics(&self) -> &[Counted] {
        &self.metrics
    }

    /// Counts one event.
    pub fn count(&mut self, event: &Event) {
        self.events += 1;
        for sighting in Sighting::all(event) {
            self.count_drop(&sighting);
            for counted in &mut self.metrics {
                let Counted {
                    metric,
                    series,
                    context,
                } = counted;
                let pods = &mut self.pods;
                metric.rule(&sighting, &mut self.key, |key| {
                    let bound = context.write(&mut key.text, &sighting);
                    series.add(key, || bind(pods, bound, &sighting));
                });
            }
        }
    }

    fn count_drop(&mut self, sighting: &Sighting<'_>) {
        let Aspect::Drop(drop) = sighting.aspect else {
            return;
        };
        let direction = match sighting.direction() {
            Some(Direction::Ingress) => "INGRESS",
            Some(Direction::Egress) | None => "EGRESS",
        };
        let place = (DropReason::of(drop), direction);
        let dropped = self.drops.entry(place).or_default();
        dropped.packets += 1;
        dropped.bytes += u64::from(sighting.event.record.length);
    }

    /// Removes the series of pods that have been gone for a minute.
    pub fn forget_pods(&mut self, names: &Names, now: Instant) {
        if self.pods.is_empty() {
            return;
        }
        let here = names.endpoints.values().map(|(ns, name, _)| (ns, name));
        let known = names.pods.values().map(|(ns, name)| (ns, name));
        let present: HashSet<String> = here
            .chain(known)
            .map(|(namespace, name)| format!("{namespace}/{name}"))
            .collect();
        let mut gone = HashSet::new();
        self.pods.retain(|pod, since| {
            if present.contains(&**pod) {
                *since = None;
                return true;
            }
            let since = *since.get_or_insert(now);
            let is_over = now.saturating_duration_since(since) >= KEPT_FOR;
            if is_over {
                gone.insert(pod.clone());
            }
            !is_over
        });
        if !gone.is_empty() {
            for counted in &mut self.metrics {
                counted.series.forget(&gone);
            }
        }
    }
}

/// The pods that a new series goes with.
fn bind(
    pods: &mut HashMap<PodName, Option<Instant>>,
    bound: Bound,
    sighting: &Sighting<'_>,
) -> [Option<PodName>; 2] {
    let mut name = |is_bound: bool, party: &Party<'_>| {
        if !is_bound || party.pod_name.is_empty() {
            return None;
        }
        let pod: PodName = format!("{}/{}", party.namespace, party.pod_name).into();
        let known = pods.get_key_value(&pod).map(|(known, _)| known.clone());
        Some(known.unwrap_or_else(|| {
            pods.insert(pod.clone(), None);
            pod
        }))
    };
    [
        name(bound.source, &sighting.source),
        name(bound.destination, &sighting.destination),
    ]
}
