//! Connections as they were recorded, those that are alike told once.

use crate::observe::{Event, Judgement, Names};
use jiff::Timestamp;
use portcullis_engine::{EndpointId, RecordKind};
use portcullis_policy::{Direction, Identity, Protocol};
use std::collections::HashMap;
use std::net::IpAddr;

/// Different connections that are held; more are counted, not held.
const HELD_MAX: usize = 200_000;

/// How a connection ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It passed.
    Forwarded,
    /// It passed though an audited policy denies it.
    Audited,
    /// Policy denied it, or cut it.
    Denied,
}

impl Outcome {
    /// As `observe` says it.
    #[must_use]
    pub const fn verdict(self) -> &'static str {
        match self {
            Self::Forwarded => "FORWARDED",
            Self::Audited => "AUDIT",
            Self::Denied => "DROPPED",
        }
    }

    /// Whether it passed.
    #[must_use]
    pub const fn is_passed(self) -> bool {
        matches!(self, Self::Forwarded | Self::Audited)
    }
}

/// One end, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordedEnd {
    /// Namespace and name, for a pod whose name is known.
    pub pod: Option<(String, String)>,
    /// Number of its identity.
    pub identity: Identity,
    /// Its labels, `k8s:app=web`.
    pub labels: Vec<String>,
    /// Its address.
    pub address: IpAddr,
}

impl RecordedEnd {
    fn read(
        names: &Names,
        identity: Identity,
        endpoint: Option<EndpointId>,
        address: IpAddr,
    ) -> Self {
        let end = names.end(identity, endpoint, Some(address));
        Self {
            pod: (!end.pod_name.is_empty()).then_some((end.namespace, end.pod_name)),
            identity,
            labels: end.labels,
            address,
        }
    }

    /// `namespace/pod`, or the address.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.pod {
            Some((namespace, name)) => format!("{namespace}/{name}"),
            None => self.address.to_string(),
        }
    }
}

/// Connections that are alike: the same ends, the same traffic, the same outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedConnection {
    /// Who began.
    pub source: RecordedEnd,
    /// Who was meant.
    pub destination: RecordedEnd,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination's port; for ICMP the type.
    pub port: u16,
    /// How it ended up.
    pub outcome: Outcome,
    /// Whether the policy of the source was asked here; that of a pod on another node is asked there.
    pub is_egress_asked: bool,
    /// Whether the policy of the destination was asked here.
    pub is_ingress_asked: bool,
    /// How many there were.
    pub count: u64,
    /// When the last one was.
    pub last: Timestamp,
}

/// What tells connections apart, without a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: (IpAddr, Identity),
    destination: (IpAddr, Identity),
    protocol: Protocol,
    port: u16,
    outcome: Outcome,
}

/// Gathers connections.
#[derive(Debug, Default)]
pub struct RecordBook {
    held: HashMap<Key, RecordedConnection>,
    /// Events of different connections beyond those that are held.
    pub left_out: u64,
}

impl RecordBook {
    /// Adds what an event says of a connection. Drops for other reasons than policy say nothing.
    pub fn note(&mut self, event: &Event) {
        let record = &event.record;
        let Some(outcome) = outcome(event) else {
            return;
        };
        let (Some(addresses), Some(protocol)) = (record.addresses, record.protocol) else {
            return;
        };
        // Policy judges in the direction of who began; a flow may be met at one of its replies.
        let is_reply = record.is_reply == Some(true);
        let mut ends = [
            (addresses.0, record.source_identity, record.from),
            (addresses.1, record.destination_identity, record.to),
        ];
        if is_reply {
            ends.reverse();
        }
        let [source, destination] = ends;
        let key = Key {
            source: (source.0, source.1),
            destination: (destination.0, destination.1),
            protocol,
            port: port(protocol, record.ports, is_reply),
            outcome,
        };
        if outcome == Outcome::Denied {
            self.forget_passed(key);
        }
        if !self.held.contains_key(&key) && self.held.len() >= HELD_MAX {
            self.left_out += 1;
            return;
        }
        let is_begun = !matches!(record.kind, RecordKind::Update | RecordKind::End(_));
        let is_asked = |direction| Judgement::all(event).any(|one| one.direction == direction);
        let held = self.held.entry(key).or_insert_with(|| {
            let end = |(address, identity, endpoint)| {
                RecordedEnd::read(&event.names, identity, endpoint, address)
            };
            RecordedConnection {
                source: end(source),
                destination: end(destination),
                protocol,
                port: key.port,
                outcome,
                is_egress_asked: false,
                is_ingress_asked: false,
                count: 0,
                last: event.time,
            }
        });
        held.is_egress_asked |= is_asked(Direction::Egress);
        held.is_ingress_asked |= is_asked(Direction::Ingress);
        // How it goes on is no further connection, unless its beginning is no longer kept.
        held.count += u64::from(is_begun || held.count == 0);
        held.last = held.last.max(event.time);
    }

    /// What policy cut is not to be taken for allowed, however it began.
    fn forget_passed(&mut self, key: Key) {
        for outcome in [Outcome::Forwarded, Outcome::Audited] {
            self.held.remove(&Key { outcome, ..key });
        }
    }

    /// The connections, in an order that does not change from call to call.
    #[must_use]
    pub fn connections(self) -> Vec<RecordedConnection> {
        let mut all: Vec<_> = self.held.into_values().collect();
        all.sort_by(|one, other| order(one).cmp(&order(other)));
        all
    }
}

fn order(of: &RecordedConnection) -> impl Ord + '_ {
    (
        &of.source,
        &of.destination,
        of.protocol,
        of.port,
        of.outcome,
    )
}

fn outcome(event: &Event) -> Option<Outcome> {
    match event.record.kind {
        RecordKind::Flow if Judgement::all(event).any(|judgement| judgement.is_audited) => {
            Some(Outcome::Audited)
        }
        RecordKind::Flow | RecordKind::Update | RecordKind::End(_) => Some(Outcome::Forwarded),
        RecordKind::Revoked(_) => Some(Outcome::Denied),
        RecordKind::Drop(_) => Judgement::all(event)
            .any(|judgement| judgement.is_denial())
            .then_some(Outcome::Denied),
    }
}

/// The port that was asked for; of an echo that answers, the type that asks.
fn port(protocol: Protocol, ports: (u16, u16), is_reply: bool) -> u16 {
    match (protocol, ports.1) {
        (Protocol::Icmp, 0) if is_reply => 8,
        (Protocol::Icmpv6, 129) if is_reply => 128,
        (Protocol::Icmp | Protocol::Icmpv6, kind) => kind,
        (_, port) if !is_reply => port,
        _ => ports.0,
    }
}
