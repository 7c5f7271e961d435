//! One metric of the exposition with its samples, as collectors write it at a scrape.

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;

/// Writes metrics.
pub(super) struct Families<'e>(pub DescriptorEncoder<'e>);

/// Labels of one sample.
pub(super) type Labels<'l> = Vec<(&'l str, String)>;

impl Families<'_> {
    /// Writes a counter, of things or of seconds; its name gets `_total`. What is counted never falls.
    pub fn counter<'l, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            match labels.is_empty() {
                true => family.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
                false => family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, f64>(&value, None)?,
            }
        }
        Ok(())
    }

    /// Writes a gauge.
    pub fn gauge<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            match labels.is_empty() {
                true => family.encode_gauge(&value)?,
                false => family.encode_family(&labels)?.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    /// Writes a histogram: for each sample its labels, upper bounds with how many are within each and
    /// no lower one, and the sum.
    pub fn histogram<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, Vec<(f64, u64)>, f64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, buckets, sum) in samples {
            let count = buckets.iter().map(|(_, count)| count).sum();
            match labels.is_empty() {
                true => family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?,
                false => family
                    .encode_family(&labels)?
                    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?,
            }
        }
        Ok(())
    }

    /// Writes a gauge of one sample without labels.
    pub fn number(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.gauge(name, help, [(Labels::new(), value as f64)])
    }
}

/// One label.
pub(super) fn label<'l>(name: &'l str, value: impl ToString) -> Labels<'l> {
    vec![(name, value.to_string())]
}
