//! Hubble's counters, fed with events: what a consumer's thread writes and a scrape reads.

use super::context::{Bound, Owner};
use super::metric::{Metric, Sender};
use super::series::{Key, OwnerName, Series};
use super::settings::{Enabled, MetricsSettings};
use portcullis_observe::{
    Aspect, DropReason, Event, FlowChoice, Home, Names, Party, Sighting, workload_of,
};
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
    /// Pods and workloads that were there a moment ago, and since when they are not.
    owners: HashMap<OwnerName, Option<Instant>>,
    home: Home,
    /// Series of all metrics together.
    pub series_max: usize,
}

/// One metric and its series.
#[derive(Debug)]
pub(super) struct Counted {
    pub metric: Metric,
    pub series: Series,
    /// What was asked for.
    enabled: Enabled,
    /// Of all flows those that count.
    choice: FlowChoice,
}

impl Counted {
    fn new(enabled: &Enabled, home: &Home) -> Self {
        let labels = enabled.metric.labels().iter().copied();
        let labels = labels.chain(enabled.context.label_names()).collect();
        Self {
            metric: enabled.metric,
            series: Series::new(labels, 1),
            enabled: enabled.clone(),
            choice: enabled.choice(home).expect("read with the settings"),
        }
    }
}

impl Counts {
    /// Nothing counted yet.
    pub fn new(settings: &MetricsSettings, home: Home) -> Self {
        let mut counts = Self {
            metrics: Vec::new(),
            key: Key::default(),
            lost: Lost::default(),
            events: 0,
            drops: BTreeMap::new(),
            owners: HashMap::new(),
            home,
            series_max: 0,
        };
        counts.change(settings);
        counts
    }

    /// Counts by other settings from now on. A metric whose options are as they were goes on. Each
    /// that counts gets an equal share of the series.
    pub fn change(&mut self, settings: &MetricsSettings) {
        let is_counting =
            |enabled: &&Enabled| !matches!(enabled.metric, Metric::Dns | Metric::Http);
        let counting = settings.enabled.iter().filter(is_counting).count();
        let share = (settings.series_max / counting.max(1)).max(1);
        let mut before = std::mem::take(&mut self.metrics);
        for enabled in &settings.enabled {
            let known = before.iter().position(|one| one.enabled == *enabled);
            self.metrics.push(match known {
                Some(place) => before.swap_remove(place),
                None => Counted::new(enabled, &self.home),
            });
        }
        for counted in &mut self.metrics {
            counted
                .series
                .set_max((share / counted.metric.lines()).max(1));
        }
        self.series_max = settings.series_max;
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
                if !counted.choice.wants(&sighting) {
                    continue;
                }
                let Counted {
                    metric,
                    series,
                    enabled,
                    ..
                } = counted;
                let owners = &mut self.owners;
                let time_us = metric.observed(&event.record);
                metric.rule(&sighting, &mut self.key, |key, sender| {
                    let seen = match sender {
                        Sender::Source => sighting,
                        Sender::Destination => Sighting {
                            source: sighting.destination,
                            destination: sighting.source,
                            ..sighting
                        },
                    };
                    let bound = enabled.context.write(&mut key.text, &seen);
                    series.add(key, time_us, || bind(owners, bound, &seen));
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

    /// Removes the series of pods, and of workloads without a pod, that have been gone for a minute.
    pub fn forget_gone(&mut self, names: &Names, now: Instant) {
        if self.owners.is_empty() {
            return;
        }
        let here = names.endpoints.values().map(|(ns, name, _)| (ns, name));
        let known = names.pods.values().map(|(ns, name)| (ns, name));
        let mut present: HashSet<String> = HashSet::new();
        for (namespace, pod) in here.chain(known) {
            present.insert(owner_name(Owner::Pod, namespace, pod));
            if let Some((_, workload)) = workload_of(pod) {
                present.insert(owner_name(Owner::Workload, namespace, workload));
            }
        }
        let mut gone = HashSet::new();
        self.owners.retain(|owner, since| {
            if present.contains(&**owner) {
                *since = None;
                return true;
            }
            let since = *since.get_or_insert(now);
            let is_over = now.saturating_duration_since(since) >= KEPT_FOR;
            if is_over {
                gone.insert(owner.clone());
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

/// Kubernetes has no name with a space, so none of one kind is one of the other.
fn owner_name(owner: Owner, namespace: &str, name: &str) -> String {
    match owner {
        Owner::Workload => format!("workload {namespace}/{name}"),
        Owner::Pod | Owner::Nobody => format!("{namespace}/{name}"),
    }
}

/// What a new series goes with.
fn bind(
    owners: &mut HashMap<OwnerName, Option<Instant>>,
    bound: Bound,
    sighting: &Sighting<'_>,
) -> [Option<OwnerName>; 2] {
    let mut name = |owner: Owner, party: &Party<'_>| {
        let name = match owner {
            Owner::Nobody => return None,
            Owner::Workload => party.workload()?.1,
            Owner::Pod => party.pod_name,
        };
        if name.is_empty() {
            return None;
        }
        let owner: OwnerName = owner_name(owner, party.namespace, name).into();
        let known = owners.get_key_value(&owner).map(|(known, _)| known.clone());
        Some(known.unwrap_or_else(|| {
            owners.insert(owner.clone(), None);
            owner
        }))
    };
    [
        name(bound.source, &sighting.source),
        name(bound.destination, &sighting.destination),
    ]
}
