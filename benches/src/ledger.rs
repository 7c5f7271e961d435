//! The books: every datagram that was sent is received, or dropped at a place that counts it.

use crate::path::{Pair, Path};
use crate::sink::Sink;
use netns_tests::Place;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::{Add, AddAssign};
use std::thread::sleep;
use std::time::Duration;

/// The daemon asks the kernel for its losses once a second.
const BOOKKEEPING: Duration = Duration::from_millis(1100);
/// How often it is asked again, should it have been late.
const READINGS_MAX: usize = 4;

/// All counters on the way at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    sent: u64,
    arrived: u64,
    received: u64,
    receiver: u64,
    queues: u64,
    rings: u64,
    daemon: BTreeMap<String, u64>,
}

/// What became of the datagrams of one measurement, or of several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Balance {
    /// Datagrams that the client's kernel took from its sender.
    pub sent: u64,
    /// Datagrams that arrived at UDP of the server, or at the sink before it.
    pub arrived: u64,
    /// Of those, read by the receiver. What is neither read nor dropped lay in the buffer of the
    /// socket when it was closed.
    pub received: u64,
    /// Of those, dropped at the receiving socket: its buffer was full.
    pub receiver: u64,
    /// Dropped in a queue between the two ends of a veth pair: its reader was too slow.
    pub queues: u64,
    /// Dropped by the kernel before an AF_XDP ring, or refused from one.
    pub rings: u64,
    /// Dropped by the daemon, by reason.
    pub daemon: BTreeMap<String, u64>,
}

impl Counters {
    /// Reads them. The daemon's may be a second old.
    #[must_use]
    pub fn read(pair: &Pair) -> Self {
        let (mut rings, mut daemon) = (0, BTreeMap::new());
        if pair.path.has_daemon() {
            let status = pair.lab.status();
            // `fill_ring_empty` only says why: each of these is a part of `receive_dropped`.
            let keys = ["receive_dropped", "receive_ring_full", "transmit_invalid"];
            rings = keys
                .map(|key| number(&status.json()["kernel"][key]))
                .iter()
                .sum();
            let drops = status.json()["drops"].as_object().cloned();
            for (reason, count) in drops.unwrap_or_default() {
                daemon.insert(reason, number(&count));
            }
        }
        let (client, server) = (Udp::of(&pair.client.place), Udp::of(pair.server()));
        let sunk = pair.sink.as_ref().map_or(0, Sink::count);
        let way_out = match pair.path {
            Path::Nat => "eth0",
            _ => &pair.server_pod.interface,
        };
        // Counted by the end that sends. The other end counts them, too, and in native mode also
        // what was dropped before the rings.
        let queues =
            sending_drops(&pair.client.place, "eth0") + sending_drops(&pair.lab.node, way_out);
        Self {
            sent: client.out,
            arrived: server.arrived + sunk,
            received: server.read,
            receiver: server.failed,
            queues,
            rings,
            daemon,
        }
    }

    /// What became of the datagrams since `before`. `sent` is how many there were, where the
    /// kernel's own count is not.
    #[must_use]
    pub fn settle(before: &Self, pair: &Pair, sent: Option<u64>) -> Balance {
        let mut balance = Balance::default();
        for _ in 0..READINGS_MAX {
            if pair.path.has_daemon() {
                sleep(BOOKKEEPING);
            }
            balance = Self::read(pair).since(before);
            balance.sent = sent.unwrap_or(balance.sent);
            if balance.unexplained() == 0 {
                break;
            }
        }
        balance
    }

    fn since(&self, before: &Self) -> Balance {
        let of_daemon = self.daemon.iter().filter_map(|(reason, count)| {
            let new = count - before.daemon.get(reason).unwrap_or(&0);
            (new > 0).then(|| (reason.clone(), new))
        });
        Balance {
            sent: self.sent - before.sent,
            arrived: self.arrived - before.arrived,
            received: self.received - before.received,
            receiver: self.receiver - before.receiver,
            queues: self.queues - before.queues,
            rings: self.rings - before.rings,
            daemon: of_daemon.collect(),
        }
    }
}

impl Balance {
    /// Drops on the way, each counted by somebody.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.queues + self.rings + self.daemon.values().sum::<u64>()
    }

    /// Datagrams that neither arrived nor were counted: none is allowed.
    ///
    /// Drops of other packets, such as those of iperf3's own connection, are counted, too, so more
    /// may be counted than is missing.
    #[must_use]
    pub fn unexplained(&self) -> u64 {
        self.sent.saturating_sub(self.arrived + self.counted())
    }

    /// Datagrams that did not arrive, in percent of those sent.
    #[must_use]
    pub fn lost_percent(&self) -> f64 {
        percent(self.arrived, self.sent)
    }

    /// Datagrams that the receiver did not read, in percent of those sent.
    #[must_use]
    pub fn unread_percent(&self) -> f64 {
        percent(self.received, self.sent)
    }

    /// For JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "sent": self.sent,
            "arrived": self.arrived,
            "received": self.received,
            "dropped_at_receiving_socket": self.receiver,
            "dropped_in_veth_queues": self.queues,
            "dropped_before_rings": self.rings,
            "dropped_by_daemon": self.daemon,
            "unexplained": self.unexplained(),
        })
    }
}

impl AddAssign<&Self> for Balance {
    fn add_assign(&mut self, other: &Self) {
        let sums = [
            (&mut self.sent, other.sent),
            (&mut self.arrived, other.arrived),
            (&mut self.received, other.received),
            (&mut self.receiver, other.receiver),
            (&mut self.queues, other.queues),
            (&mut self.rings, other.rings),
        ];
        for (sum, more) in sums {
            *sum = sum.add(more);
        }
        for (reason, count) in &other.daemon {
            *self.daemon.entry(reason.clone()).or_default() += count;
        }
    }
}

fn percent(arrived: u64, sent: u64) -> f64 {
    if sent == 0 {
        return 0.0;
    }
    sent.saturating_sub(arrived) as f64 / sent as f64 * 100.0
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("expected a count, found {value}"))
}

/// Counters of UDP in a network namespace. [kernel, Documentation/networking/snmp_counter.rst]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Udp {
    out: u64,
    /// Handed up by IP.
    arrived: u64,
    read: u64,
    /// With a full buffer, a wrong checksum, or for want of memory.
    failed: u64,
}

impl Udp {
    fn of(place: &Place) -> Self {
        let text = place.read("/proc/thread-self/net/snmp");
        // UDP itself counts what is read or dropped, not what waits in a socket's buffer.
        let others = snmp(&text, "Tcp", "InSegs") + snmp(&text, "Icmp", "InMsgs");
        Self {
            arrived: snmp(&text, "Ip", "InDelivers") - others,
            out: snmp(&text, "Udp", "OutDatagrams"),
            read: snmp(&text, "Udp", "InDatagrams"),
            failed: snmp(&text, "Udp", "InErrors"),
        }
    }
}

/// Datagrams of the flood that have arrived at the server.
#[must_use]
pub fn arrived(pair: &Pair) -> u64 {
    match &pair.sink {
        Some(sink) => sink.count(),
        None => arrived_at(pair.server()),
    }
}

/// Datagrams that have arrived at UDP of a place.
#[must_use]
pub fn arrived_at(place: &Place) -> u64 {
    Udp::of(place).arrived
}

/// Packets that were received with a wrong checksum, by protocol, in a pod's own stack.
#[must_use]
pub fn checksum_errors(place: &Place) -> BTreeMap<String, u64> {
    let text = place.read("/proc/thread-self/net/snmp");
    ["Tcp", "Udp", "Icmp"]
        .map(|protocol| {
            let count = snmp(&text, protocol, "InCsumErrors");
            (format!("{protocol}InCsumErrors"), count)
        })
        .into()
}

/// One counter of /proc/net/snmp: for each protocol a line of names and a line of numbers.
fn snmp(text: &str, protocol: &str, name: &str) -> u64 {
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(':'));
    let (names, values) = (lines.next(), lines.next());
    let mut pairs = names
        .unwrap_or_default()
        .split_whitespace()
        .zip(values.unwrap_or_default().split_whitespace());
    pairs
        .find(|(found, _)| *found == name)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_else(|| panic!("expected {protocol} {name} in {text}"))
}

/// Packets that an interface could not send, such as to a full queue. [proc(5), /proc/net/dev]
fn sending_drops(place: &Place, interface: &str) -> u64 {
    const COLUMN: usize = 11;
    let text = place.read("/proc/thread-self/net/dev");
    let line = text
        .lines()
        .filter_map(|line| line.trim().split_once(':'))
        .find(|(found, _)| *found == interface);
    line.and_then(|(_, numbers)| numbers.split_whitespace().nth(COLUMN))
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("expected drops of {interface} in {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters() -> Counters {
        Counters {
            sent: 100,
            arrived: 65,
            received: 60,
            receiver: 5,
            queues: 4,
            rings: 3,
            daemon: [("transmit_full".to_owned(), 7)].into(),
        }
    }

    #[test]
    fn what_neither_arrived_nor_was_counted_is_unexplained() {
        let after = Counters {
            sent: 1100,
            arrived: 995,
            received: 960,
            receiver: 25,
            queues: 14,
            rings: 33,
            daemon: [
                ("transmit_full".to_owned(), 17),
                ("malformed".to_owned(), 2),
            ]
            .into(),
        };
        let balance = after.since(&counters());
        let expected = Balance {
            sent: 1000,
            arrived: 930,
            received: 900,
            receiver: 20,
            queues: 10,
            rings: 30,
            daemon: [
                ("transmit_full".to_owned(), 10),
                ("malformed".to_owned(), 2),
            ]
            .into(),
        };
        assert_eq!(balance, expected);
        assert_eq!((balance.counted(), balance.unexplained()), (52, 18));
    }

    #[test]
    fn nothing_is_unexplained_when_nothing_happened() {
        let balance = counters().since(&counters());
        assert_eq!(balance, Balance::default());
        assert_eq!(balance.unexplained(), 0);
    }

    #[test]
    fn balances_add_up() {
        let mut sum = Balance::default();
        let one = Balance {
            sent: 10,
            arrived: 8,
            received: 7,
            daemon: [("malformed".to_owned(), 2)].into(),
            ..Balance::default()
        };
        sum += &one;
        sum += &one;
        assert_eq!(
            sum.json(),
            json!({
                "sent": 20, "arrived": 16, "received": 14, "dropped_at_receiving_socket": 0,
                "dropped_in_veth_queues": 0, "dropped_before_rings": 0,
                "dropped_by_daemon": {"malformed": 4}, "unexplained": 0,
            })
        );
    }

    #[test]
    fn a_counter_is_found_by_its_name() {
        let text = "Tcp: InSegs InCsumErrors\nTcp: 5 6\nUdp: InDatagrams\nUdp: 7\n";
        assert_eq!(snmp(text, "Tcp", "InCsumErrors"), 6);
        assert_eq!(snmp(text, "Udp", "InDatagrams"), 7);
    }
}
