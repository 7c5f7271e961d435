//! The figures that are compared, and their samples.

use crate::measure::Measure;
use crate::path::Path;
use std::collections::BTreeMap;

/// What one sample is a sample of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// How much a measurement got through: packets, Gbit, connections a second.
    Rate(Measure),
    /// Processor time of all that took part, for each million packets or each GB.
    Cpu(Measure),
    /// Of that, the daemon's.
    DaemonCpu(Measure),
    /// Round trip in microseconds that half were faster than.
    P50,
    /// That one in a hundred was slower than.
    P99,
    /// That one in a thousand was slower than.
    P999,
}

impl Figure {
    /// All of them, in the order of the table.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for measure in Measure::ALL {
            if measure == Measure::RoundTrips {
                all.extend([Self::P50, Self::P99, Self::P999]);
                continue;
            }
            all.push(Self::Rate(measure));
            if measure.has_cost() {
                all.extend([Self::Cpu(measure), Self::DaemonCpu(measure)]);
            }
        }
        all
    }

    /// Key in JSON, unit included.
    #[must_use]
    pub fn key(self) -> String {
        match self {
            Self::Rate(measure) => format!("{}_{}", measure.key(), measure.unit_key()),
            Self::Cpu(measure) => {
                format!("{}_cpu_seconds_per_{}", measure.key(), measure.amount_key())
            }
            Self::DaemonCpu(measure) => {
                format!(
                    "{}_daemon_cpu_seconds_per_{}",
                    measure.key(),
                    measure.amount_key()
                )
            }
            Self::P50 => "round_trip_us_p50".into(),
            Self::P99 => "round_trip_us_p99".into(),
            Self::P999 => "round_trip_us_p999".into(),
        }
    }

    /// What people read, unit included.
    #[must_use]
    pub fn title(self) -> String {
        match self {
            Self::Rate(measure) => measure.title().into(),
            Self::Cpu(measure) => format!("{}: CPU s/{}", measure.short(), measure.amount_key()),
            Self::DaemonCpu(measure) => {
                format!("{}: of that, daemon", measure.short())
            }
            Self::P50 => "TCP request/response, p50 µs".into(),
            Self::P99 => "p99 µs".into(),
            Self::P999 => "p99.9 µs".into(),
        }
    }
}

/// A ratio that is reported: key, figure and path above, figure and path below the line.
pub type Ratio = (&'static str, (Figure, Path), (Figure, Path));

const ONE: Figure = Figure::Rate(Measure::FloodOne);
const MANY: Figure = Figure::Rate(Measure::FloodMany);
const BOTH: Figure = Figure::Rate(Measure::FloodBoth);
const TCP: Figure = Figure::Rate(Measure::Tcp);
const TCP_LARGE: Figure = Figure::Rate(Measure::TcpLarge);
const OURS: Path = Path::Policies10;

/// All of them. Above one is better where rates are compared, below one where times are.
#[rustfmt::skip]
pub const RATIOS: &[Ratio] = &[
    ("pps_vs_kernel", (ONE, OURS), (ONE, Path::KernelLarge)),
    ("pps_vs_kernel_stateful", (ONE, OURS), (ONE, Path::Nft10)),
    ("pps_vs_kernel_stateful_1000_flows", (MANY, OURS), (MANY, Path::Nft10)),
    ("pps_vs_kernel_stateful_all_cores", (BOTH, OURS), (BOTH, Path::Nft10)),
    ("pps_vs_kernel_stateful_1000_rules", (ONE, Path::Policies1000), (ONE, Path::Nft1000)),
    ("pps_vs_kernel_set", (ONE, OURS), (ONE, Path::NftSet)),
    ("pps_vs_iptables_1000_rules", (ONE, Path::Policies1000), (ONE, Path::Iptables1000)),
    ("pps_vs_raw_afxdp", (ONE, OURS), (ONE, Path::Bare)),
    ("pps_vs_raw_afxdp_1000_flows", (MANY, OURS), (MANY, Path::Bare)),
    ("pps_vs_tc_bpf", (ONE, OURS), (ONE, Path::TcBpf)),
    ("pps_policies_1000_vs_10", (ONE, Path::Policies1000), (ONE, OURS)),
    ("pps_kernel_stateful_1000_vs_10", (ONE, Path::Nft1000), (ONE, Path::Nft10)),
    ("pps_flows_1000_vs_1", (MANY, OURS), (ONE, OURS)),
    ("pps_nat_vs_plain", (ONE, Path::Nat), (ONE, OURS)),
    ("pps_observe_vs_plain", (ONE, Path::Observe), (ONE, OURS)),
    ("cpu_per_packet_vs_kernel_stateful", (Figure::Cpu(Measure::FloodOne), OURS), (Figure::Cpu(Measure::FloodOne), Path::Nft10)),
    ("connections_vs_kernel", (Figure::Rate(Measure::Connections), OURS), (Figure::Rate(Measure::Connections), Path::KernelLarge)),
    ("connections_vs_kernel_stateful", (Figure::Rate(Measure::Connections), OURS), (Figure::Rate(Measure::Connections), Path::Nft10)),
    ("connections_vs_raw_afxdp", (Figure::Rate(Measure::Connections), OURS), (Figure::Rate(Measure::Connections), Path::Bare)),
    ("tcp_vs_kernel", (TCP, OURS), (TCP, Path::Kernel)),
    ("tcp_vs_kernel_large_devices", (TCP, OURS), (TCP, Path::KernelLarge)),
    ("tcp_vs_kernel_stateful", (TCP, OURS), (TCP, Path::Nft10)),
    ("tcp_vs_tc_bpf", (TCP, OURS), (TCP, Path::TcBpf)),
    ("tcp_vs_raw_afxdp", (TCP, OURS), (TCP, Path::Bare)),
    ("tcp_8_vs_kernel", (Figure::Rate(Measure::Tcp8), OURS), (Figure::Rate(Measure::Tcp8), Path::Kernel)),
    ("tcp_8_vs_raw_afxdp", (Figure::Rate(Measure::Tcp8), OURS), (Figure::Rate(Measure::Tcp8), Path::Bare)),
    ("tcp_large_vs_kernel", (TCP_LARGE, OURS), (TCP, Path::Kernel)),
    ("tcp_large_vs_kernel_large", (TCP_LARGE, OURS), (TCP_LARGE, Path::KernelLarge)),
    ("tcp_large_vs_raw_afxdp", (TCP_LARGE, OURS), (TCP_LARGE, Path::Bare)),
    ("tcp_nat_vs_plain", (TCP, Path::Nat), (TCP, OURS)),
    ("tcp_cpu_vs_kernel", (Figure::Cpu(Measure::Tcp), OURS), (Figure::Cpu(Measure::Tcp), Path::Kernel)),
    ("rr_p50_vs_kernel", (Figure::P50, OURS), (Figure::P50, Path::KernelLarge)),
    ("rr_p99_vs_kernel", (Figure::P99, OURS), (Figure::P99, Path::KernelLarge)),
    ("rr_p50_vs_raw_afxdp", (Figure::P50, OURS), (Figure::P50, Path::Bare)),
    ("rr_p99_vs_raw_afxdp", (Figure::P99, OURS), (Figure::P99, Path::Bare)),
];

/// All samples of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Samples(BTreeMap<(Figure, Path), Vec<f64>>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, figure: Figure, path: Path, value: f64) {
        self.0.entry((figure, path)).or_default().push(value);
    }

    /// All of a figure on a path, in the order of the rounds.
    #[must_use]
    pub fn of(&self, figure: Figure, path: Path) -> &[f64] {
        self.0.get(&(figure, path)).map_or(&[], Vec::as_slice)
    }

    /// Their median; None when there are none.
    #[must_use]
    pub fn median(&self, figure: Figure, path: Path) -> Option<f64> {
        median(self.of(figure, path))
    }

    /// Median over median.
    #[must_use]
    pub fn ratio(&self, (_, above, below): &Ratio) -> Option<f64> {
        let base = self.median(below.0, below.1).filter(|&base| base > 0.0)?;
        Some(self.median(above.0, above.1)? / base)
    }

    /// The lowest and the highest ratio of one round.
    #[must_use]
    pub fn ratio_spread(&self, (_, above, below): &Ratio) -> Option<(f64, f64)> {
        let pairs = self
            .of(above.0, above.1)
            .iter()
            .zip(self.of(below.0, below.1));
        let ratios = pairs
            .filter(|(_, base)| **base > 0.0)
            .map(|(value, base)| value / base);
        spread(&ratios.collect::<Vec<_>>())
    }
}

/// The middle value, or the mean of the two middle ones.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The lowest and the highest value.
#[must_use]
pub fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let first = *values.first()?;
    Some(values.iter().fold((first, first), |(low, high), &value| {
        (low.min(value), high.max(value))
    }))
}

/// The value that a share of all values does not exceed. `sorted` is not empty.
#[must_use]
pub fn quantile<T: Copy>(sorted: &[T], share: f64) -> T {
    let last = sorted.len() - 1;
    sorted[((last as f64 * share).ceil() as usize).min(last)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two_in_the_middle() {
        let medians = [&[][..], &[3.0], &[5.0, 1.0, 3.0], &[4.0, 1.0, 3.0, 2.0]].map(median);
        assert_eq!(medians, [None, Some(3.0), Some(3.0), Some(2.5)]);
    }

    #[test]
    fn a_quantile_is_reached_by_its_share() {
        let sorted: Vec<u32> = (0..=100).collect();
        assert_eq!(
            [0.0, 0.5, 0.99, 1.0].map(|share| quantile(&sorted, share)),
            [0, 50, 99, 100]
        );
    }

    #[test]
    fn a_ratio_needs_both_paths() {
        let mut samples = Samples::default();
        let ratio = ("x", (ONE, OURS), (ONE, Path::Kernel));
        samples.add(ONE, OURS, 3.0);
        assert_eq!(samples.ratio(&ratio), None);
        samples.add(ONE, Path::Kernel, 0.0);
        assert_eq!(samples.ratio(&ratio), None);
        samples.add(ONE, Path::Kernel, 4.0);
        assert_eq!(samples.ratio(&ratio), Some(1.5));
    }

    #[test]
    fn the_spread_of_a_ratio_is_that_of_its_rounds() {
        let mut samples = Samples::default();
        let ratio = ("x", (ONE, OURS), (ONE, Path::Kernel));
        assert_eq!(samples.ratio_spread(&ratio), None);
        for (ours, kernel) in [(2.0, 1.0), (3.0, 2.0), (4.0, 1.0)] {
            samples.add(ONE, OURS, ours);
            samples.add(ONE, Path::Kernel, kernel);
        }
        assert_eq!(samples.ratio_spread(&ratio), Some((1.5, 4.0)));
    }

    #[test]
    fn keys_are_unique_and_have_what_is_asked_for() {
        let mut keys: Vec<&str> = RATIOS.iter().map(|ratio| ratio.0).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
        for key in [
            "pps_vs_kernel_stateful",
            "pps_vs_raw_afxdp",
            "pps_vs_tc_bpf",
            "tcp_vs_kernel",
            "tcp_vs_raw_afxdp",
            "rr_p99_vs_kernel",
            "pps_policies_1000_vs_10",
        ] {
            assert!(keys.contains(&key), "{key}");
        }
        let mut keys: Vec<String> = Figure::all().into_iter().map(Figure::key).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
