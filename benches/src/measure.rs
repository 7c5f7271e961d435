//! One measurement on one path: what is run, and what it tells.

use crate::bulk::Bulk;
use crate::clients::{self, Flood};
use crate::cost::{all_processor_time, processor_time};
use crate::figure::{Figure, Samples};
use crate::ledger;
use crate::machine::{CLIENT_CORE, WORKER_CORE};
use crate::path::{LARGE_MTU, PATH_MTU, Pair, Path};
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Frames of 64 bytes, one flow, faster than any path.
    FloodOne,
    /// The same, 1000 flows.
    FloodMany,
    /// The same, 1000 flows from two senders, so that every core is busy.
    FloodBoth,
    /// One connection after the other.
    Connections,
    /// One stream, routes of MTU 1500.
    Tcp,
    /// Eight streams, routes of MTU 1500.
    Tcp8,
    /// One stream, routes as large as the devices.
    TcpLarge,
    /// Eight streams, the same.
    TcpLarge8,
    /// One request after the other, over one connection.
    RoundTrips,
}

impl Measure {
    /// All of them, in the order of a round.
    pub const ALL: [Self; 9] = [
        Self::FloodOne,
        Self::FloodMany,
        Self::FloodBoth,
        Self::Connections,
        Self::Tcp,
        Self::Tcp8,
        Self::TcpLarge,
        Self::TcpLarge8,
        Self::RoundTrips,
    ];

    /// Its name in JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::FloodOne => "udp_64_flows_1",
            Self::FloodMany => "udp_64_flows_1000",
            Self::FloodBoth => "udp_64_flows_1000_senders_2",
            Self::Connections => "tcp_connections",
            Self::Tcp => "tcp_streams_1",
            Self::Tcp8 => "tcp_streams_8",
            Self::TcpLarge => "tcp_large_streams_1",
            Self::TcpLarge8 => "tcp_large_streams_8",
            Self::RoundTrips => "round_trip",
        }
    }

    /// What its rate is, for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::FloodOne => "64-byte UDP, 1 flow, packets/s",
            Self::FloodMany => "64-byte UDP, 1000 flows, packets/s",
            Self::FloodBoth => "64-byte UDP, 1000 flows, senders on all cores, packets/s",
            Self::Connections => "TCP connections/s, one after the other",
            Self::Tcp => "TCP, 1 stream, route MTU 1500, Gbit/s",
            Self::Tcp8 => "TCP, 8 streams, route MTU 1500, Gbit/s",
            Self::TcpLarge => "TCP, 1 stream, route MTU 65535, Gbit/s",
            Self::TcpLarge8 => "TCP, 8 streams, route MTU 65535, Gbit/s",
            Self::RoundTrips => "TCP request/response",
        }
    }

    /// As `title`, without what is counted.
    #[must_use]
    pub fn short(self) -> &'static str {
        let title = self.title();
        title.rsplit_once(", ").map_or(title, |(short, _)| short)
    }

    /// The unit of its rate in JSON.
    #[must_use]
    pub const fn unit_key(self) -> &'static str {
        match self {
            Self::FloodOne | Self::FloodMany | Self::FloodBoth => "packets_per_second",
            Self::Connections | Self::RoundTrips => "per_second",
            _ => "gbit_per_second",
        }
    }

    /// What processor time is given for.
    #[must_use]
    pub const fn amount_key(self) -> &'static str {
        match self {
            Self::FloodOne | Self::FloodMany | Self::FloodBoth => "million",
            _ => "gb",
        }
    }

    /// Whether the processor time of it says something.
    #[must_use]
    pub const fn has_cost(self) -> bool {
        !matches!(self, Self::Connections | Self::RoundTrips)
    }

    /// Whether it can be taken on a path.
    #[must_use]
    pub const fn fits(self, path: Path) -> bool {
        // Devices of 1500 have no large routes.
        !matches!(
            (self, path),
            (Self::TcpLarge | Self::TcpLarge8, Path::Kernel)
        )
    }

    /// Takes one sample. Gives the number of datagrams that were sent.
    ///
    /// # Errors
    /// A connection fails; nothing is added to the samples then.
    ///
    /// # Panics
    /// When a client cannot be started.
    pub fn take(self, pair: &Pair, span: Duration, samples: &mut Samples) -> io::Result<u64> {
        let path = pair.path;
        match self {
            Self::FloodOne => return Ok(self.flood(pair, span, (1, &[CLIENT_CORE]), samples)),
            Self::FloodMany => return Ok(self.flood(pair, span, (1000, &[CLIENT_CORE]), samples)),
            Self::FloodBoth => {
                let cores = [CLIENT_CORE, WORKER_CORE];
                return Ok(self.flood(pair, span, (1000, &cores), samples));
            }
            Self::Tcp => self.bulk(pair, span, 1, samples)?,
            Self::Tcp8 => self.bulk(pair, span, 8, samples)?,
            Self::TcpLarge | Self::TcpLarge8 => {
                let streams = if self == Self::TcpLarge { 1 } else { 8 };
                pair.set_route_mtu(LARGE_MTU);
                let done = self.bulk(pair, span, streams, samples);
                pair.set_route_mtu(PATH_MTU);
                done?;
            }
            Self::Connections => {
                let rate = clients::connections(pair, span)?;
                samples.add(Figure::Rate(self), path, rate);
            }
            Self::RoundTrips => {
                let trips = clients::round_trips(pair, span)?;
                samples.add(Figure::P50, path, trips.p50);
                samples.add(Figure::P99, path, trips.p99);
                samples.add(Figure::P999, path, trips.p999);
            }
        }
        Ok(0)
    }

    fn flood(
        self,
        pair: &Pair,
        span: Duration,
        (flows, cores): (usize, &[usize]),
        samples: &mut Samples,
    ) -> u64 {
        let flood = Flood::start(pair, flows, cores);
        let watched = self.watch(pair, span, || ledger::arrived(pair));
        let sent = flood.end();
        watched.note(self, pair, 1e6, 1.0, samples);
        sent
    }

    fn bulk(
        self,
        pair: &Pair,
        span: Duration,
        streams: usize,
        samples: &mut Samples,
    ) -> io::Result<()> {
        let bulk = Bulk::start(pair, streams)?;
        let watched = self.watch(pair, span, || bulk.received());
        bulk.end()?;
        watched.note(self, pair, 1e9, 8e-9, samples);
        Ok(())
    }

    /// Counts for a while, after a while for warming up.
    fn watch(self, pair: &Pair, span: Duration, count: impl Fn() -> u64) -> Watched {
        let daemon = || match pair.path.has_daemon() {
            true => Some(processor_time(&pair.lab)),
            false => None,
        };
        sleep(span / 3);
        let (cpu, of_daemon) = (all_processor_time(pair), daemon());
        let (before, since) = (count(), Instant::now());
        sleep(span);
        let (after, took) = (count(), since.elapsed());
        Watched {
            count: (after - before) as f64,
            seconds: took.as_secs_f64(),
            cpu: (all_processor_time(pair) - cpu).as_secs_f64(),
            daemon: daemon()
                .zip(of_daemon)
                .map(|(now, then)| (now - then).as_secs_f64()),
        }
    }
}

/// What was counted in a while.
struct Watched {
    count: f64,
    seconds: f64,
    cpu: f64,
    daemon: Option<f64>,
}

impl Watched {
    /// Notes the rate, in `unit` of what was counted, and the cost of each `amount`.
    fn note(&self, measure: Measure, pair: &Pair, amount: f64, unit: f64, samples: &mut Samples) {
        let amounts = self.count / amount;
        samples.add(
            Figure::Rate(measure),
            pair.path,
            self.count * unit / self.seconds,
        );
        if self.count == 0.0 {
            return;
        }
        samples.add(Figure::Cpu(measure), pair.path, self.cpu / amounts);
        if let Some(daemon) = self.daemon {
            samples.add(Figure::DaemonCpu(measure), pair.path, daemon / amounts);
        }
    }
}
