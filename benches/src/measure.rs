//! One measurement on one path: what is run, and what it tells.

use crate::clients;
use crate::cost::processor_time;
use crate::figure::{Figure, Samples};
use crate::ledger::{Balance, Counters};
use crate::path::{Pair, Path};
use crate::policies::IPERF_PORT;
use serde_json::Value;
use std::time::Duration;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// iperf3, one stream, congestion control cubic.
    Tcp,
    /// iperf3 --udp, as fast as it can, 1400 bytes.
    UdpLarge,
    /// iperf3 --udp, as fast as it can, frames of 64 bytes.
    UdpSmall,
    /// Frames of 64 bytes, faster than any path.
    Flood,
    /// One connection after the other.
    Connections,
    /// One request after the other, over one connection.
    RoundTrips,
}

impl Measure {
    /// All of them, in the order of a round.
    pub const ALL: [Self; 6] = [
        Self::Tcp,
        Self::UdpLarge,
        Self::UdpSmall,
        Self::Flood,
        Self::Connections,
        Self::RoundTrips,
    ];

    /// Takes one sample. Where datagrams are sent, gives what became of them.
    ///
    /// # Panics
    /// When a client fails.
    pub fn take(self, pair: &Pair, span: Duration, samples: &mut Samples) -> Option<Balance> {
        let path = pair.path;
        match self {
            Self::Tcp => tcp(pair, span, samples),
            Self::UdpLarge => {
                let figures = (Figure::UdpLargeRate, Figure::UdpLargeLoss);
                return Some(udp(pair, span, 1400, figures, samples));
            }
            Self::UdpSmall => {
                let figures = (Figure::UdpSmallRate, Figure::UdpSmallLoss);
                let size = clients::SMALL_PAYLOAD;
                return Some(udp(pair, span, size, figures, samples));
            }
            Self::Flood => return Some(flood(pair, span, samples)),
            Self::Connections => {
                let rate = clients::connections(pair, span);
                samples.add(Figure::ConnectionRate, path, rate);
            }
            Self::RoundTrips => {
                let trips = clients::round_trips(pair, span);
                samples.add(Figure::RoundTripP50, path, trips.p50);
                samples.add(Figure::RoundTripP99, path, trips.p99);
                samples.add(Figure::RoundTripP999, path, trips.p999);
            }
        }
        None
    }
}

fn iperf(pair: &Pair, span: Duration, more: &str) -> Value {
    let (host, seconds) = (pair.server_address(), span.as_secs().max(1));
    let line = format!(
        "iperf3 --client {host} --port {IPERF_PORT} --time {seconds} --json --connect-timeout 2000 {more}"
    );
    let ran = pair.client.run(&line);
    assert!(ran.is_success, "{line}: {}{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout)
        .unwrap_or_else(|error| panic!("{line}: expected JSON, found {error}: {}", ran.stdout))
}

fn tcp(pair: &Pair, span: Duration, samples: &mut Samples) {
    let has_daemon = pair.path == Path::Portcullis;
    let used = || {
        if has_daemon {
            processor_time(&pair.lab)
        } else {
            Duration::ZERO
        }
    };
    let before = used();
    let said = iperf(pair, span, "--congestion cubic");
    let daemon = (used() - before).as_secs_f64();
    let end = &said["end"];
    let number = |value: &Value| {
        value
            .as_f64()
            .unwrap_or_else(|| panic!("iperf3: expected a number in {end}"))
    };
    let received = &end["sum_received"];
    let gigabytes = number(&received["bytes"]) / 1e9;
    let cpu = &end["cpu_utilization_percent"];
    let percent = number(&cpu["host_total"]) + number(&cpu["remote_total"]);
    let iperf_seconds = percent / 100.0 * number(&received["seconds"]);
    let rate = number(&received["bits_per_second"]) / 1e9;
    samples.add(Figure::TcpThroughput, pair.path, rate);
    let seconds_per_gb = (iperf_seconds + daemon) / gigabytes;
    samples.add(Figure::TcpCpu, pair.path, seconds_per_gb);
    if has_daemon {
        samples.add(Figure::TcpDaemonCpu, pair.path, daemon / gigabytes);
    }
}

fn udp(
    pair: &Pair,
    span: Duration,
    payload: usize,
    figures: (Figure, Figure),
    samples: &mut Samples,
) -> Balance {
    let before = Counters::read(pair);
    let said = iperf(
        pair,
        span,
        &format!("--udp --bitrate 0 --length {payload} --congestion cubic"),
    );
    let balance = Counters::settle(&before, pair, None);
    let seconds = said["end"]["sum"]["seconds"].as_f64();
    let seconds = seconds.unwrap_or_else(|| panic!("iperf3: expected seconds in {said}"));
    let (rate, loss) = figures;
    samples.add(rate, pair.path, balance.received as f64 / seconds);
    samples.add(loss, pair.path, balance.unread_percent());
    balance
}

fn flood(pair: &Pair, span: Duration, samples: &mut Samples) -> Balance {
    let has_daemon = pair.path == Path::Portcullis;
    let before = Counters::read(pair);
    let used = has_daemon.then(|| processor_time(&pair.lab));
    let flooded = clients::flood(pair, span);
    let used = used.map(|before| processor_time(&pair.lab) - before);
    // The kernel counts one datagram for each `send`; what it takes apart is what was sent.
    let balance = Counters::settle(&before, pair, Some(flooded.sent));
    let rate = balance.arrived as f64 / flooded.span.as_secs_f64();
    samples.add(Figure::FloodRate, pair.path, rate);
    samples.add(Figure::FloodLoss, pair.path, balance.lost_percent());
    if let Some(used) = used {
        let millions = balance.arrived as f64 / 1e6;
        let cost = used.as_secs_f64() / millions;
        samples.add(Figure::FloodDaemonCpu, pair.path, cost);
    }
    balance
}
