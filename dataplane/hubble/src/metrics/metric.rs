//! Hubble's metrics, and which events each of them counts.

use super::context::SEPARATOR;
use super::icmp;
use super::party::Party;
use super::series::Key;
use super::sighting::{Fate, Sight, Sighting};
use portcullis_engine::{Ending, Record, RecordKind, TcpFlags};
use portcullis_policy::{Decision, Direction, Protocol};
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
    Dns,
    Http,
}

/// What is known of one event.
pub(super) struct Seen<'a> {
    pub record: &'a Record,
    pub sighting: Sighting,
    pub source: &'a Party<'a>,
}

impl Metric {
    /// Those that count something; names and HTTP are seen once a proxy is there.
    pub const ALL: [Self; 8] = [
        Self::Flow,
        Self::Drop,
        Self::Tcp,
        Self::Icmp,
        Self::PortDistribution,
        Self::Policy,
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
            Self::Dns => "dns",
            Self::Http => "http",
        }
    }

    /// The metric with this name in the settings.
    pub fn of_key(key: &str) -> Option<Self> {
        // Both versions of HTTP differ only in what they count, and neither counts yet.
        let key = if key == "httpV2" { "http" } else { key };
        Self::ALL.into_iter().find(|metric| metric.key() == key)
    }

    /// Options beside those of the context, which change nothing as long as nothing is counted.
    pub fn has_option(self, option: &str) -> bool {
        match self {
            Self::Dns => matches!(option, "query" | "ignoreAAAA"),
            Self::Http => option == "exemplars",
            _ => false,
        }
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
                "Forwarded TCP packets that open or end a connection, by flag: one SYN a connection; SYN-ACK, FIN and RST once it has ended.",
            )],
            Self::Icmp => &[(
                "hubble_icmp",
                "Forwarded ICMP messages by type: the first of each exchange, and one reply once it has ended.",
            )],
            Self::PortDistribution => &[(
                "hubble_port_distribution",
                "Forwarded connections by destination port; for ICMP the port is 0.",
            )],
            Self::Policy => &[(
                "hubble_policy_verdicts",
                "Answers of policy about new connections, by direction, by what matched, and by what became of them. Those that the node itself asked for are left out.",
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

    /// Gives `count` the values of the labels before those of the context, once for each time that
    /// the event counts.
    pub fn rule(self, seen: &Seen<'_>, mut count: impl FnMut(&mut Key), key: &mut Key) {
        key.text.clear();
        match self {
            Self::Flow => {
                let (kind, subtype) = match seen.sighting.sight {
                    Sight::Verdict(..) => ("PolicyVerdict", ""),
                    Sight::Trace(point) => ("Trace", point),
                    Sight::Drop => ("Drop", ""),
                };
                let verdict = seen.sighting.fate.name();
                fill(key, &[protocol(seen.record), kind, subtype, verdict]);
                count(key);
            }
            Self::Drop => {
                if let Fate::Dropped(reason) = seen.sighting.fate {
                    fill(key, &[reason.name, protocol(seen.record)]);
                    count(key);
                }
            }
            Self::Tcp => {
                for flag in seen.tcp_flags().into_iter().flatten() {
                    fill(key, &[flag, family(seen.record)]);
                    count(key);
                }
            }
            Self::Icmp => {
                for kind in seen.icmp_types().into_iter().flatten() {
                    key.text.clear();
                    let _ = write!(key.text, "{}{SEPARATOR}", family(seen.record));
                    seen.write_icmp_type(&mut key.text, kind);
                    key.fixed = key.text.len();
                    count(key);
                }
            }
            Self::PortDistribution => {
                if let Some(port) = seen.service_port() {
                    fill(key, &[protocol(seen.record)]);
                    // There may be as many ports as pods, or more.
                    let _ = write!(key.text, "{SEPARATOR}{port}");
                    count(key);
                }
            }
            Self::Policy => {
                if let Sight::Verdict(direction, decision) = seen.sighting.sight
                    && !seen.source.is_host()
                {
                    let direction = match direction {
                        Direction::Egress => "egress",
                        Direction::Ingress => "ingress",
                    };
                    fill(key, &[direction, matched(decision), action(seen.sighting)]);
                    count(key);
                }
            }
            Self::Dns | Self::Http => {}
        }
    }
}

impl Seen<'_> {
    /// Whether this is the event of a packet that went on: each packet counts once, though Hubble
    /// tells of the first one several times.
    const fn is_forwarded_packet(&self) -> bool {
        matches!(self.sighting.sight, Sight::Trace(_))
            && matches!(self.sighting.fate, Fate::Forwarded)
    }

    /// The flags that the packet of a record carries. The end of a connection is told without a
    /// packet, but how it ended tells which were sent.
    fn tcp_flags(&self) -> [Option<&'static str>; 3] {
        if !self.is_forwarded_packet() || self.record.protocol != Some(Protocol::Tcp) {
            return [None; 3];
        }
        let flags = self.record.tcp_flags;
        match self.record.kind {
            RecordKind::Flow => {
                let is_answer = flags.has(TcpFlags::SYN) && flags.has(TcpFlags::ACK);
                [
                    (flags.has(TcpFlags::SYN)).then_some(if is_answer { "SYN-ACK" } else { "SYN" }),
                    flags.has(TcpFlags::FIN).then_some("FIN"),
                    flags.has(TcpFlags::RST).then_some("RST"),
                ]
            }
            RecordKind::End(ending) => {
                let is_answered = self.record.totals.packets[1] > 0 && ending != Ending::Unanswered;
                [
                    is_answered.then_some("SYN-ACK"),
                    (ending == Ending::Finished).then_some("FIN"),
                    (ending == Ending::Reset).then_some("RST"),
                ]
            }
            _ => [None; 3],
        }
    }

    /// The message that began an exchange; at its end, that there were replies.
    fn icmp_types(&self) -> [Option<u8>; 1] {
        let is_icmp = matches!(
            self.record.protocol,
            Some(Protocol::Icmp | Protocol::Icmpv6)
        );
        if !self.is_forwarded_packet() || !is_icmp {
            return [None];
        }
        let kind = u8::try_from(self.record.ports.1).ok();
        match self.record.kind {
            RecordKind::Flow => [kind],
            RecordKind::End(_) if self.record.totals.packets[1] > 0 => {
                [kind.and_then(|kind| icmp::reply_to(self.record.protocol, kind))]
            }
            _ => [None],
        }
    }

    fn write_icmp_type(&self, text: &mut String, kind: u8) {
        match icmp::name(self.record.protocol, kind) {
            Some(name) => text.push_str(name),
            None => {
                let _ = write!(text, "{kind}");
            }
        }
    }

    /// The port that a new connection asks for.
    fn service_port(&self) -> Option<u16> {
        let is_counted = self.is_forwarded_packet()
            && self.record.kind == RecordKind::Flow
            && self.record.is_reply == Some(false);
        match self.record.protocol {
            _ if !is_counted => None,
            Some(Protocol::Tcp | Protocol::Udp | Protocol::Sctp) => Some(self.record.ports.1),
            Some(Protocol::Icmp | Protocol::Icmpv6) => Some(0),
            _ => None,
        }
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

/// What of a rule fitted. A record names the rule and not its parts: of one that decided, the
/// commonest is said.
fn matched(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow
        | Decision::DenyRule
        | Decision::Authenticate(_)
        | Decision::Redirect(..) => "l3-l4",
        Decision::AllowUnpoliced | Decision::AllowDefault => "all",
        Decision::AllowLocalHost => "l3-only",
        Decision::DenyDefault | Decision::Conflict => "none",
    }
}

fn action(sighting: Sighting) -> &'static str {
    match sighting.fate {
        Fate::Forwarded => "forwarded",
        Fate::Dropped(_) => "dropped",
        Fate::Audited => "audit",
    }
}
