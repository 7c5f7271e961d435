//! A record as history keeps it: 128 bytes, without pointers, nothing of it lost.

use jiff::Timestamp;
use portcullis_engine::{EndpointId, Now, Record, RecordKind, TcpFlags, Totals};
use portcullis_policy::{Decision, Generation, Identity, Protocol, RuleId, Verdict};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A record with its time; its generation and names are those of the set that it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Stored {
    /// Nanoseconds since 1970.
    pub(crate) time: i64,
    pub(crate) bytes: [u64; 2],
    pub(crate) opened: u64,
    pub(crate) packets: [u32; 2],
    pub(crate) round_trip_us: u32,
    /// IPv4 in the first four bytes; which it is stands in `has`.
    pub(crate) addresses: [[u8; 16]; 2],
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) identities: [u32; 2],
    pub(crate) egress_rule: u32,
    pub(crate) ingress_rule: u32,
    pub(crate) length: u32,
    /// Its place in the table of names.
    pub(crate) names: u32,
    pub(crate) ports: [u16; 2],
    pub(crate) kind: RecordKind,
    pub(crate) egress: Option<Decision>,
    pub(crate) ingress: Option<Decision>,
    pub(crate) protocol: Option<Protocol>,
    /// Flags of TCP, the code of ICMP.
    pub(crate) flags_or_code: u8,
    pub(crate) is_reply: Option<bool>,
    /// Which of the optional numbers are there: bits of `Has`.
    pub(crate) has: u8,
}

// A million of them is the default history.
const _: () = assert!(size_of::<Stored>() <= 128);

/// Bits of `Stored::has`.
pub(crate) struct Has;

impl Has {
    pub(crate) const FROM: u8 = 1;
    pub(crate) const TO: u8 = 1 << 1;
    pub(crate) const ADDRESSES: u8 = 1 << 2;
    pub(crate) const SOURCE_IPV6: u8 = 1 << 3;
    pub(crate) const DESTINATION_IPV6: u8 = 1 << 4;
    pub(crate) const EGRESS_RULE: u8 = 1 << 5;
    pub(crate) const INGRESS_RULE: u8 = 1 << 6;
}

impl Stored {
    /// Packs a record. `names` is the place of the set that knows its generation.
    ///
    /// Times before 1677 and after 2262 become the nearest that has a number.
    #[must_use]
    pub fn new(time: Timestamp, record: &Record, names: u32) -> Self {
        let (source, destination) = match record.addresses {
            Some((source, destination)) => (Some(source), Some(destination)),
            None => (None, None),
        };
        let rule = |verdict: Option<Verdict>| verdict.and_then(|verdict| verdict.rule);
        let decision = |verdict: Option<Verdict>| verdict.map(|verdict| verdict.decision);
        let (egress, ingress) = (rule(record.egress), rule(record.ingress));
        let is_ipv6 = |address: Option<IpAddr>| address.is_some_and(|address| address.is_ipv6());
        let has = [
            (record.from.is_some(), Has::FROM),
            (record.to.is_some(), Has::TO),
            (record.addresses.is_some(), Has::ADDRESSES),
            (is_ipv6(source), Has::SOURCE_IPV6),
            (is_ipv6(destination), Has::DESTINATION_IPV6),
            (egress.is_some(), Has::EGRESS_RULE),
            (ingress.is_some(), Has::INGRESS_RULE),
        ];
        let has = has.into_iter().filter(|(is_there, _)| *is_there);
        Self {
            time: nanoseconds(time),
            bytes: record.totals.bytes,
            opened: record.totals.opened.0,
            packets: record.totals.packets,
            round_trip_us: record.totals.round_trip_us,
            addresses: [address_bytes(source), address_bytes(destination)],
            from: record.from.map_or(0, |id| id.0),
            to: record.to.map_or(0, |id| id.0),
            identities: [record.source_identity.0, record.destination_identity.0],
            egress_rule: egress.map_or(0, |rule| rule.0),
            ingress_rule: ingress.map_or(0, |rule| rule.0),
            length: record.length,
            names,
            ports: [record.ports.0, record.ports.1],
            kind: record.kind,
            egress: decision(record.egress),
            ingress: decision(record.ingress),
            protocol: record.protocol,
            flags_or_code: if is_icmp(record.protocol) {
                record.icmp_code
            } else {
                record.tcp_flags.0
            },
            is_reply: record.is_reply,
            has: has.fold(0, |all, (_, bit)| all | bit),
        }
    }

    /// When the worker saw it.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        timestamp(self.time)
    }

    /// The record that was packed, which had this generation.
    #[must_use]
    pub fn record(&self, generation: Generation) -> Record {
        let has = |bit: u8| self.has & bit != 0;
        let verdict = |decision: Option<Decision>, bit: u8, rule: u32| {
            decision.map(|decision| Verdict {
                decision,
                rule: has(bit).then_some(RuleId(rule)),
            })
        };
        let [source, destination] = self.addresses;
        Record {
            kind: self.kind,
            generation,
            from: has(Has::FROM).then_some(EndpointId(self.from)),
            to: has(Has::TO).then_some(EndpointId(self.to)),
            source_identity: Identity(self.identities[0]),
            destination_identity: Identity(self.identities[1]),
            addresses: has(Has::ADDRESSES).then(|| {
                (
                    address(source, has(Has::SOURCE_IPV6)),
                    address(destination, has(Has::DESTINATION_IPV6)),
                )
            }),
            protocol: self.protocol,
            ports: (self.ports[0], self.ports[1]),
            egress: verdict(self.egress, Has::EGRESS_RULE, self.egress_rule),
            ingress: verdict(self.ingress, Has::INGRESS_RULE, self.ingress_rule),
            length: self.length,
            tcp_flags: TcpFlags(if is_icmp(self.protocol) {
                0
            } else {
                self.flags_or_code
            }),
            icmp_code: if is_icmp(self.protocol) {
                self.flags_or_code
            } else {
                0
            },
            is_reply: self.is_reply,
            totals: Totals {
                packets: self.packets,
                bytes: self.bytes,
                opened: Now(self.opened),
                round_trip_us: self.round_trip_us,
            },
        }
    }
}

const fn is_icmp(protocol: Option<Protocol>) -> bool {
    matches!(protocol, Some(Protocol::Icmp | Protocol::Icmpv6))
}

/// Nanoseconds since 1970, or the nearest that has a number.
pub(crate) fn nanoseconds(time: Timestamp) -> i64 {
    let all = time.as_nanosecond();
    i64::try_from(all).unwrap_or(if all < 0 { i64::MIN } else { i64::MAX })
}

/// The moment with this number.
pub(crate) fn timestamp(nanoseconds: i64) -> Timestamp {
    // All of i64 lies within jiff's years.
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
}

fn address_bytes(address: Option<IpAddr>) -> [u8; 16] {
    match address {
        Some(IpAddr::V4(address)) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        Some(IpAddr::V6(address)) => address.octets(),
        None => [0; 16],
    }
}

fn address(bytes: [u8; 16], is_ipv6: bool) -> IpAddr {
    if is_ipv6 {
        return IpAddr::V6(Ipv6Addr::from(bytes));
    }
    let [a, b, c, d, ..] = bytes;
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}
