//! The figures that are compared, and their samples.

use crate::path::Path;
use std::collections::BTreeMap;

/// What one sample is a sample of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // `facts` says what each is.
pub enum Figure {
    TcpThroughput,
    TcpCpu,
    TcpDaemonCpu,
    UdpLargeRate,
    UdpLargeLoss,
    UdpSmallRate,
    UdpSmallLoss,
    FloodRate,
    FloodLoss,
    FloodDaemonCpu,
    ConnectionRate,
    RoundTripP50,
    RoundTripP99,
    RoundTripP999,
}

impl Figure {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 14] = [
        Self::TcpThroughput,
        Self::TcpCpu,
        Self::TcpDaemonCpu,
        Self::UdpLargeRate,
        Self::UdpLargeLoss,
        Self::UdpSmallRate,
        Self::UdpSmallLoss,
        Self::FloodRate,
        Self::FloodLoss,
        Self::FloodDaemonCpu,
        Self::ConnectionRate,
        Self::RoundTripP50,
        Self::RoundTripP99,
        Self::RoundTripP999,
    ];

    /// Key in JSON, unit included.
    #[must_use]
    pub const fn key(self) -> &'static str {
        self.facts().0
    }

    /// What people read, unit included.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.facts().1
    }

    /// Key of the ratio of Portcullis to the kernel, where it says something.
    #[must_use]
    pub const fn ratio_key(self) -> Option<&'static str> {
        self.facts().2
    }

    const fn facts(self) -> (&'static str, &'static str, Option<&'static str>) {
        match self {
            Self::TcpThroughput => (
                "tcp_gbit_per_second",
                "TCP, 1 stream: Gbit/s",
                Some("tcp_vs_kernel"),
            ),
            Self::TcpCpu => (
                "tcp_cpu_seconds_per_gb",
                "  CPU s/GB: iperf3 and daemon",
                Some("tcp_cpu_vs_kernel"),
            ),
            Self::TcpDaemonCpu => (
                "tcp_daemon_cpu_seconds_per_gb",
                "  CPU s/GB: of that, daemon",
                None,
            ),
            Self::UdpLargeRate => (
                "udp_1400_packets_per_second",
                "UDP 1400 bytes, iperf3: packets/s",
                Some("udp_1400_vs_kernel"),
            ),
            Self::UdpLargeLoss => ("udp_1400_unread_percent", "  not read: %", None),
            Self::UdpSmallRate => (
                "udp_64_packets_per_second",
                "UDP 64-byte frames, iperf3: packets/s",
                Some("udp_64_vs_kernel"),
            ),
            Self::UdpSmallLoss => ("udp_64_unread_percent", "  not read: %", None),
            Self::FloodRate => (
                "flood_packets_per_second",
                "UDP 64-byte frames, flood: packets/s",
                Some("pps_vs_kernel"),
            ),
            Self::FloodLoss => ("flood_loss_percent", "  did not arrive: %", None),
            Self::FloodDaemonCpu => (
                "flood_daemon_cpu_seconds_per_million",
                "  CPU s/million: daemon",
                None,
            ),
            Self::ConnectionRate => (
                "connections_per_second",
                "TCP connect and close: /s",
                Some("connections_vs_kernel"),
            ),
            Self::RoundTripP50 => (
                "round_trip_us_p50",
                "TCP request/response: p50 us",
                Some("rr_p50_vs_kernel"),
            ),
            Self::RoundTripP99 => ("round_trip_us_p99", "  p99 us", Some("rr_p99_vs_kernel")),
            Self::RoundTripP999 => ("round_trip_us_p999", "  p99.9 us", None),
        }
    }
}

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

    /// Median on one path over median on another.
    #[must_use]
    pub fn ratio(&self, figure: Figure, path: Path, base: Path) -> Option<f64> {
        let base = self.median(figure, base).filter(|&base| base > 0.0)?;
        Some(self.median(figure, path)? / base)
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
        let ratio =
            |samples: &Samples| samples.ratio(Figure::FloodRate, Path::Portcullis, Path::Kernel);
        samples.add(Figure::FloodRate, Path::Portcullis, 3.0);
        assert_eq!(ratio(&samples), None);
        samples.add(Figure::FloodRate, Path::Kernel, 0.0);
        assert_eq!(ratio(&samples), None);
        samples.add(Figure::FloodRate, Path::Kernel, 4.0);
        assert_eq!(ratio(&samples), Some(1.5));
    }
}
