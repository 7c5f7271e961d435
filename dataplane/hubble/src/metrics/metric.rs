//! Hubble's metrics, and which events each of them counts.

use super::context::SEPARATOR;
use super::series::{self, Key};
use super::world_options::{Port, WorldOptions};
use crate::icmp;
use portcullis_engine::{Ending, Record, RecordKind, TcpFlags};
use portcullis_observe::{Aspect, DropReason, FlowVerdict, Point, Sighting};
use portcullis_policy::{Direction, Identity, Protocol};
use std::fmt::Write;
use std::net::IpAddr;

/// One that can be asked for in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    Flow,
    Drop,
    Tcp,
    Icmp,
    PortDistribution,
    Policy,
    FlowsToWorld(WorldOptions),
    Handshake,
    Dns,
    Http,
}

/// Who sent what a record tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// Its source.
    Source,
    /// Its destination: the record tells of the answer, too.
    Destination,
}

/// Names that Hubble knows and that count nothing here, and why.
const RESERVED: [(&str, &str); 3] = [
    ("httpV2", "reserved until a proxy reads HTTP"),
    ("kafka", "reserved: no proxy reads Kafka"),
    ("sctp", "reserved: chunks of SCTP are not read"),
];

impl Metric {
    /// All of them; names and HTTP are seen once a proxy is there.
    pub const ALL: [Self; 10] = [
        Self::Flow,
        Self::Drop,
        Self::Tcp,
        Self::Icmp,
        Self::PortDistribution,
        Self::Policy,
        Self::FlowsToWorld(WorldOptions::NONE),
        Self::Handshake,
        Self::Dns,
        Self::Http,
    ];

    /// The name in the settings.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Drop => "drop",
            Self::Tcp => "tcp",
            Self::Icmp => "icmp",
            Self::PortDistribution => "port-distribution",
            Self::Policy => "policy",
            Self::FlowsToWorld(_) => "flows-to-world",
            Self::Handshake => "handshake",
            Self::Dns => "dns",
            Self::Http => "http",
        }
    }

    /// The metric with this name in the settings.
    ///
    /// # Errors
    /// Names that nobody knows, and those that are reserved.
    pub fn of_key(key: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|metric| metric.key() == key);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::key).join(", ");
            let reserved = RESERVED.iter().find(|(name, _)| *name == key);
            let why = reserved.map_or("not a name of a metric", |(_, why)| why);
            format!("expected one of {known}, found \"{key}\", which is {why}")
        })
    }

    /// Takes an option beside those of the context. False when it has no such option.
    pub fn take_option(&mut self, option: &str) -> bool {
        match (self, option) {
            (Self::FlowsToWorld(options), "any-drop") => options.any_drop = true,
            (Self::FlowsToWorld(options), "port") => options.port = true,
            (Self::FlowsToWorld(options), "syn-only") => options.syn_only = true,
            // They change nothing as long as nothing is counted.
            (Self::Dns, "query" | "ignoreAAAA") | (Self::Http, "exemplars") => {}
            _ => return false,
        }
        true
    }

    /// The labels before those of the context.
    pub const fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Flow => &["protocol", "type", "subtype", "verdict"],
            Self::Drop => &["reason", "protocol"],
            Self::Tcp => &["flag", "family"],
            Self::Icmp => &["family", "type"],
            Self::PortDistribution => &["protocol", "port"],
            Self::Policy => &["direction", "match", "action"],
            Self::FlowsToWorld(options) if options.port => &["protocol", "verdict", "port"],
            Self::FlowsToWorld(_) => &["protocol", "verdict"],
            Self::Handshake => &["family"],
            Self::Dns => &["rcode", "qtypes", "ips_returned"],
            Self::Http => &["method", "protocol", "status", "reporter"],
        }
    }

    /// The metrics in the exposition, without `_total`, and what they are.
    pub const fn families(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Flow => &[(
                "hubble_flows_processed",
                "Events of flows, as hubble observe shows them: a verdict for each side that was asked of a new connection, where its packets went, and drops.",
            )],
            Self::Drop => &[(
                "hubble_drop",
                "Events that tell of a dropped packet, by Hubble's name for the reason. A denial is told twice, as verdict and as drop.",
            )],
            Self::Tcp => &[(
                "hubble_tcp_flags",
                "Forwarded TCP packets that open or end a connection, by flag: one SYN a connection; SYN-ACK, whose source is who answered, FIN and RST once it has ended.",
            )],
            Self::Icmp => &[(
                "hubble_icmp",
                "Forwarded ICMP messages by type: the first of each exchange, and one reply, whose source is who answered, once it has ended.",
            )],
            Self::PortDistribution => &[(
                "hubble_port_distribution",
                "Forwarded connections by destination port; for ICMP the port is 0.",
            )],
            Self::Policy => &[(
                "hubble_policy_verdicts",
                "Answers of policy about new connections, by direction, by what matched, and by what became of them. Those that the node itself asked for are left out.",
            )],
            Self::FlowsToWorld(_) => &[(
                "hubble_flows_to_world",
                "Events of flows to addresses outside the cluster, without replies; of drops those of policy, with any-drop all. With syn-only, packets that open a TCP connection.",
            )],
            Self::Handshake => &[(
                "portcullis_handshake_seconds",
                "Seconds from the SYN of a TCP connection to its answer, as seen here; counted once it has ended.",
            )],
            Self::Dns => &[
                (
                    "hubble_dns_queries",
                    "DNS queries seen by the proxy: none yet.",
                ),
                (
                    "hubble_dns_responses",
                    "DNS responses seen by the proxy: none yet.",
                ),
                (
                    "hubble_dns_response_types",
                    "Records in DNS responses seen by the proxy: none yet.",
                ),
            ],
            Self::Http => &[
                (
                    "hubble_http_requests",
                    "HTTP requests seen by the proxy: none yet.",
                ),
                (
                    "hubble_http_responses",
                    "HTTP responses seen by the proxy: none yet.",
                ),
            ],
        }
    }

    /// Gives `count` the values of the labels before those of the context, and who sent it, once for
    /// each time that the event counts.
    pub fn rule(self, seen: &Sighting<'_>, key: &mut Key, mut count: impl FnMut(&mut Key, Sender)) {
        let record = &seen.event.record;
        match self {
            Self::Flow => {
                let (kind, subtype) = match seen.aspect {
                    Aspect::Verdict(_) => ("PolicyVerdict", ""),
                    Aspect::Trace(Point::ToEndpoint) => ("Trace", "to-endpoint"),
                    Aspect::Trace(Point::ToHost) => ("Trace", "to-host"),
                    Aspect::Trace(Point::ToNetwork) => ("Trace", "to-network"),
                    Aspect::Drop(_) => ("Drop", ""),
                };
                fill(key, &[protocol(record), kind, subtype, verdict(seen)]);
                count(key, Sender::Source);
            }
            Self::Drop => {
                if let Some(drop) = seen.drop() {
                    fill(key, &[DropReason::of(drop).name, protocol(record)]);
                    count(key, Sender::Source);
                }
            }
            Self::Tcp => {
                for (flag, sender) in tcp_flags(seen).into_iter().flatten() {
                    fill(key, &[flag, family(record)]);
                    count(key, sender);
                }
            }
            Self::Icmp => {
                if let Some(((kind, code), sender)) = icmp_message(seen) {
                    fill(key, &[family(record), ""]);
                    icmp::write_name(&mut key.text, record.protocol, kind, code);
                    key.fixed = key.text.len();
                    count(key, sender);
                }
            }
            Self::PortDistribution => {
                if let Some(port) = service_port(seen) {
                    fill(key, &[protocol(record)]);
                    // There may be as many ports as pods, or more.
                    let _ = write!(key.text, "{SEPARATOR}{port}");
                    count(key, Sender::Source);
                }
            }
            Self::Policy => {
                if let Aspect::Verdict(judgement) = seen.aspect
                    && seen.source.identity != Identity::HOST
                {
                    let direction = match judgement.direction {
                        Direction::Egress => "egress",
                        Direction::Ingress => "ingress",
                    };
                    fill(key, &[direction, matched(seen), action(seen)]);
                    count(key, Sender::Source);
                }
            }
            Self::FlowsToWorld(options) => {
                if options.counts(seen) {
                    fill(key, &[protocol(record), verdict(seen)]);
                    if options.port {
                        // There may be as many ports as pods, or more.
                        let _ = write!(key.text, "{SEPARATOR}{}", Port(record));
                    }
                    count(key, Sender::Source);
                }
            }
            Self::Handshake => {
                if self.observed(record).is_some() && is_forwarded_packet(seen) {
                    fill(key, &[family(record)]);
                    count(key, Sender::Source);
                }
            }
            Self::Dns | Self::Http => {}
        }
    }

    /// Microseconds that an event is counted with, for what is counted by how long it took.
    pub fn observed(self, record: &Record) -> Option<u32> {
        let is_counted = self == Self::Handshake
            && record.protocol == Some(Protocol::Tcp)
            && matches!(record.kind, RecordKind::End(_));
        Some(record.totals.round_trip_us).filter(|time| is_counted && *time > 0)
    }

    /// Lines of the exposition for each series.
    pub const fn lines(self) -> usize {
        match self {
            Self::Handshake => series::TIME_BOUNDS.len() + 2,
            _ => 1,
        }
    }
}

/// Whether this is the event of a packet that went on: each packet counts once, though Hubble tells
/// of the first one several times.
fn is_forwarded_packet(seen: &Sighting<'_>) -> bool {
    matches!(seen.aspect, Aspect::Trace(_)) && seen.verdict() == FlowVerdict::Forwarded
}

/// The flags that the packet of a record carries. The end of a connection is told without a packet,
/// but how it ended tells which were sent.
fn tcp_flags(seen: &Sighting<'_>) -> [Option<(&'static str, Sender)>; 3] {
    use Sender::{Destination, Source};
    let record = &seen.event.record;
    if record.protocol != Some(Protocol::Tcp) || !is_forwarded_packet(seen) {
        return [None; 3];
    }
    let flags = record.tcp_flags;
    match record.kind {
        RecordKind::Flow => {
            let is_answer = flags.has(TcpFlags::ACK);
            let opening = if is_answer { "SYN-ACK" } else { "SYN" };
            [
                flags.has(TcpFlags::SYN).then_some((opening, Source)),
                flags.has(TcpFlags::FIN).then_some(("FIN", Source)),
                flags.has(TcpFlags::RST).then_some(("RST", Source)),
            ]
        }
        RecordKind::End(ending) => {
            let is_answered = record.totals.packets[1] > 0 && ending != Ending::Unanswered;
            [
                is_answered.then_some(("SYN-ACK", Destination)),
                (ending == Ending::Finished).then_some(("FIN", Source)),
                (ending == Ending::Reset).then_some(("RST", Source)),
            ]
        }
        _ => [None; 3],
    }
}

/// The message that began an exchange; at its end, that there were replies.
fn icmp_message(seen: &Sighting<'_>) -> Option<((u8, u8), Sender)> {
    let record = &seen.event.record;
    let is_icmp = matches!(record.protocol, Some(Protocol::Icmp | Protocol::Icmpv6));
    if !is_icmp || !is_forwarded_packet(seen) {
        return None;
    }
    let kind = u8::try_from(record.ports.1).ok()?;
    match record.kind {
        RecordKind::Flow => Some(((kind, record.icmp_code), Sender::Source)),
        RecordKind::End(_) if record.totals.packets[1] > 0 => {
            // Answers have no code but zero.
            let reply = icmp::reply_to(record.protocol, kind);
            reply.map(|kind| ((kind, 0), Sender::Destination))
        }
        _ => None,
    }
}

/// The port that a new connection asks for.
fn service_port(seen: &Sighting<'_>) -> Option<u16> {
    let record = &seen.event.record;
    let is_new = record.kind == RecordKind::Flow && seen.is_reply() == Some(false);
    if !is_new || !is_forwarded_packet(seen) {
        return None;
    }
    match record.protocol? {
        Protocol::Tcp | Protocol::Udp | Protocol::Sctp => Some(record.ports.1),
        Protocol::Icmp | Protocol::Icmpv6 => Some(0),
        Protocol::Other(_) => None,
    }
}

/// Sets the values that pods keep few.
fn fill(key: &mut Key, values: &[&str]) {
    key.text.clear();
    for (position, value) in values.iter().enumerate() {
        if position > 0 {
            key.text.push(SEPARATOR);
        }
        key.text.push_str(value);
    }
    key.fixed = key.text.len();
}

/// Hubble's name of what was seen above IP.
fn protocol(record: &Record) -> &'static str {
    match record.protocol {
        Some(Protocol::Tcp) => "TCP",
        Some(Protocol::Udp) => "UDP",
        Some(Protocol::Sctp) => "SCTP",
        Some(Protocol::Icmp) => "ICMPv4",
        Some(Protocol::Icmpv6) => "ICMPv6",
        Some(Protocol::Other(_)) | None => "Unknown L4",
    }
}

/// Of ICMPv6 too its own, which Cilium tells as IPv4 and its dashboards ask for as IPv6.
fn family(record: &Record) -> &'static str {
    match record.addresses {
        Some((IpAddr::V6(_), _)) => "IPv6",
        Some((IpAddr::V4(_), _)) => "IPv4",
        None => "Unknown",
    }
}

fn verdict(seen: &Sighting<'_>) -> &'static str {
    match seen.verdict() {
        FlowVerdict::VerdictUnknown => "VERDICT_UNKNOWN",
        FlowVerdict::Forwarded => "FORWARDED",
        FlowVerdict::Dropped => "DROPPED",
        FlowVerdict::Error => "ERROR",
        FlowVerdict::Audit => "AUDIT",
        FlowVerdict::Redirected => "REDIRECTED",
        FlowVerdict::Traced => "TRACED",
        FlowVerdict::Translated => "TRANSLATED",
    }
}

/// How much of a rule had to fit, in the words of `cilium monitor`.
fn matched(seen: &Sighting<'_>) -> &'static str {
    match seen.match_type() {
        1 => "l3-only",
        2 => "l3-l4",
        3 => "l4-only",
        4 => "all",
        5 => "l3-proto",
        6 => "proto-only",
        _ => "none",
    }
}

fn action(seen: &Sighting<'_>) -> &'static str {
    match seen.verdict() {
        FlowVerdict::Dropped | FlowVerdict::Error => "dropped",
        FlowVerdict::Audit => "audit",
        FlowVerdict::Redirected => "redirected",
        _ => "forwarded",
    }
}
