//! What was counted from events, at a scrape: Hubble's metrics, and Cilium's of drops.

use super::counts::{Counted, Counts};
use super::family::{Families, Labels, label};
use super::metric::Metric;
use super::series::TIME_BOUNDS;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a consumer counts, shared with those who scrape.
#[derive(Debug, Clone)]
pub(super) struct SharedCounts(Arc<Mutex<Counts>>);

impl SharedCounts {
    pub fn new(counts: Counts) -> Self {
        Self(Arc::new(Mutex::new(counts)))
    }

    /// Workers never wait for this: the consumer has a thread of its own.
    pub fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what was counted from events.
#[derive(Debug)]
pub(super) struct FlowCollector {
    pub counts: SharedCounts,
}

impl Collector for FlowCollector {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        let counts = self.counts.lock();
        write_hubble(&mut families, &counts)?;
        write_drops(&mut families, &counts)?;
        write_own(&mut families, &counts)
    }
}

fn write_hubble(families: &mut Families<'_>, counts: &Counts) -> fmt::Result {
    families.counter(
        "hubble_lost_events",
        "Events that nobody could count: observer_events_queue for records that found the queue from the workers full, hubble_ring_buffer for those overwritten in the history before these metrics read them.",
        [
            ("perf_event_ring_buffer", 0),
            ("observer_events_queue", counts.lost.queue),
            ("hubble_ring_buffer", counts.lost.ring),
        ]
        .map(|(source, lost)| (label("source", source), lost)),
    )?;
    for counted in counts.metrics() {
        let families_of_it = counted.metric.families();
        if let (Metric::Handshake, [(name, help)]) = (counted.metric, families_of_it) {
            families.histogram(name, help, times(counted))?;
            continue;
        }
        // Of several families only what counts has series, and then there is one.
        for (name, help) in families_of_it {
            let samples = counted.series.all().map(|(values, value)| {
                let labels = counted.series.labels().iter().copied();
                let labels: Labels = labels.zip(values.map(str::to_owned)).collect();
                (labels, value)
            });
            families.counter(name, help, samples)?;
        }
    }
    Ok(())
}

/// A histogram: labels, upper bounds with their counts, and the sum.
fn times(counted: &Counted) -> impl Iterator<Item = (Labels<'static>, Vec<(f64, u64)>, f64)> {
    counted.series.times().map(|(values, times)| {
        let labels = counted.series.labels().iter().copied();
        let labels = labels.zip(values.map(str::to_owned)).collect();
        let buckets = TIME_BOUNDS.into_iter().zip(times.counts);
        (labels, buckets.collect(), times.seconds)
    })
}

fn write_own(families: &mut Families<'_>, counts: &Counts) -> fmt::Result {
    families.counter(
        "portcullis_metrics_events",
        "Records that the metrics of flows were counted from.",
        [(Labels::new(), counts.events)],
    )?;
    families.gauge(
        "portcullis_metrics_series",
        "Series of each of Hubble's metrics now.",
        counts.metrics().iter().map(|counted| {
            (
                metric_label(counted.metric),
                (counted.series.len() * counted.metric.lines()) as f64,
            )
        }),
    )?;
    families.number(
        "portcullis_metrics_series_max",
        "Series that all of Hubble's metrics may have together (metrics.seriesMax).",
        counts.series_max as u64,
    )?;
    families.counter(
        "portcullis_metrics_folded",
        "Events counted under the label value other, because their metric had no room for another series.",
        counts
            .metrics()
            .iter()
            .map(|counted| (metric_label(counted.metric), counted.series.folded())),
    )
}

fn metric_label(metric: Metric) -> Labels<'static> {
    label("metric", metric.key())
}

fn write_drops(families: &mut Families<'_>, counts: &Counts) -> fmt::Result {
    let labels = |reason: &str, direction: &str| {
        vec![
            ("reason", reason.to_owned()),
            ("direction", direction.to_owned()),
        ]
    };
    let drops = &counts.drops;
    families.counter(
        "cilium_drop_count",
        "Dropped packets by Cilium's words for the reason and by the direction of the policy that was asked, or of the pod. Counted from records; portcullis_drops_total is exact even where records were lost.",
        drops
            .iter()
            .map(|((reason, direction), dropped)| (labels(reason.text, direction), dropped.packets)),
    )?;
    families.counter(
        "cilium_drop_bytes",
        "Bytes of the packets in cilium_drop_count_total.",
        drops
            .iter()
            .map(|((reason, direction), dropped)| (labels(reason.text, direction), dropped.bytes)),
    )
}
