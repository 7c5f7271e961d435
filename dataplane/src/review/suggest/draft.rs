//! What a workload needs, before it is written as one kind of policy or another.

use super::workload::{WorkloadIndex, Workloads};
use crate::review::recorded::{RecordedConnection, RecordedEnd};
use jiff::Timestamp;
use portcullis_policy::{Direction, Identity, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Addresses outside that are named one by one at a port; where there were more, all are allowed.
const ADDRESSES_MAX: usize = 16;
/// Elements of a list of ports, as the schema of policies has it.
pub const PORTS_MAX: usize = 40;

const DNS: u16 = 53;

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RulePeer {
    /// Pods.
    Workload(WorkloadIndex),
    /// The node, other nodes and the like, as Cilium names them.
    Entity(&'static str),
    /// Addresses outside.
    Addresses(BTreeSet<IpAddr>),
    /// Everybody outside, of one family; with how many there were.
    World {
        /// Whether it is IPv6.
        is_ipv6: bool,
        /// Different addresses.
        seen: usize,
    },
}

/// Destination ports by protocol, ends included; for ICMP types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The protocol.
    pub protocol: Protocol,
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftRule {
    /// Whom it is about.
    pub peer: RulePeer,
    /// What passes.
    pub spans: Vec<Span>,
    /// Connections it was inferred from.
    pub count: u64,
    /// When the last of them was.
    pub last: Timestamp,
    /// Whether 53/TCP is in it because 53/UDP was seen.
    pub is_dns: bool,
}

/// What one workload needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The workload.
    pub subject: WorkloadIndex,
    /// What comes to it.
    pub ingress: Vec<DraftRule>,
    /// What it begins.
    pub egress: Vec<DraftRule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    Workload(WorkloadIndex),
    Entity(&'static str),
    Address(IpAddr),
    World { is_ipv6: bool, seen: usize },
}

/// How often, and when for the last time.
type Evidence = (u64, Timestamp);
type Needs = BTreeMap<(Protocol, u16), BTreeMap<Peer, Evidence>>;

impl Draft {
    /// One for each workload, and what cannot be said of any.
    pub fn all(
        connections: &[&RecordedConnection],
        workloads: &Workloads,
    ) -> (Vec<Self>, Vec<String>) {
        let mut needs: BTreeMap<WorkloadIndex, [Needs; 2]> = BTreeMap::new();
        let mut left_out = Vec::new();
        for connection in connections {
            let (source, destination) = (&connection.source, &connection.destination);
            if let Protocol::Other(number) = connection.protocol {
                left_out.push(format!(
                    "{} -> {}: no policy can name IP protocol {number}",
                    source.name(),
                    destination.name()
                ));
                continue;
            }
            let is_icmp = matches!(connection.protocol, Protocol::Icmp | Protocol::Icmpv6);
            if connection.port == 0 && !is_icmp {
                let (from, to) = (source.name(), destination.name());
                left_out.push(format!(
                    "{from} -> {to}: in a policy port 0 means every port"
                ));
                continue;
            }
            for (side, subject, other) in [(0, destination, source), (1, source, destination)] {
                let Some(subject) = workloads.find(subject) else {
                    continue;
                };
                let Some(peer) = peer(other, workloads) else {
                    left_out.push(format!("{}: nobody knows who this is", other.name()));
                    continue;
                };
                let needs = &mut needs.entry(subject).or_default()[side];
                let evidence = (connection.count, connection.last);
                let traffic = (connection.protocol, connection.port);
                note(needs, traffic, peer, evidence);
            }
        }
        let drafts = needs.into_iter().map(|(subject, [ingress, egress])| Self {
            subject,
            ingress: rules(ingress, workloads, Some(subject)),
            egress: rules(egress, workloads, None),
        });
        (drafts.collect(), left_out)
    }

    /// Its directions with their rules.
    pub fn directions(&self) -> [(Direction, &[DraftRule]); 2] {
        [
            (Direction::Ingress, &self.ingress),
            (Direction::Egress, &self.egress),
        ]
    }
}

fn note(needs: &mut Needs, traffic: (Protocol, u16), peer: Peer, evidence: Evidence) {
    let held = needs.entry(traffic).or_default();
    let held = held.entry(peer).or_insert((0, evidence.1));
    held.0 += evidence.0;
    held.1 = held.1.max(evidence.1);
}

fn peer(end: &RecordedEnd, workloads: &Workloads) -> Option<Peer> {
    if let Some(index) = workloads.find(end) {
        return Some(Peer::Workload(index));
    }
    let is = |label: &str| end.labels.iter().any(|have| have == label);
    // A node may have several of these labels; what says most comes first.
    for (label, entity) in [
        ("reserved:kube-apiserver", "kube-apiserver"),
        ("reserved:host", "host"),
        ("reserved:remote-node", "remote-node"),
        ("reserved:health", "health"),
        ("reserved:ingress", "ingress"),
        ("reserved:unmanaged", "unmanaged"),
        ("reserved:init", "init"),
    ] {
        if is(label) {
            return Some(Peer::Entity(entity));
        }
    }
    (end.identity != Identity::UNKNOWN).then_some(Peer::Address(end.address))
}

/// Rules for what is needed: peers that need the same share none, addresses outside do.
fn rules(
    mut needs: Needs,
    workloads: &Workloads,
    subject: Option<WorkloadIndex>,
) -> Vec<DraftRule> {
    let is_dns_itself = subject.is_some_and(|subject| workloads.get(subject).is_dns());
    let dns_peers = add_dns(&mut needs, workloads, is_dns_itself);
    let mut by_peer: BTreeMap<Peer, (BTreeSet<(Protocol, u16)>, Evidence)> = BTreeMap::new();
    for (traffic, peers) in needs {
        for (peer, evidence) in fold(peers) {
            let held = by_peer
                .entry(peer)
                .or_insert((BTreeSet::new(), (0, evidence.1)));
            held.0.insert(traffic);
            held.1.0 += evidence.0;
            held.1.1 = held.1.1.max(evidence.1);
        }
    }
    let mut rules: Vec<DraftRule> = Vec::new();
    for (peer, (traffic, (count, last))) in by_peer {
        let spans = spans(&traffic);
        if let Peer::Address(address) = peer
            && let Some(same) = rules
                .iter_mut()
                .find(|rule| matches!(rule.peer, RulePeer::Addresses(_)) && rule.spans == spans)
            && let RulePeer::Addresses(addresses) = &mut same.peer
        {
            addresses.insert(address);
            same.count += count;
            same.last = same.last.max(last);
            continue;
        }
        rules.push(DraftRule {
            is_dns: dns_peers.contains(&peer),
            peer: match peer {
                Peer::Workload(index) => RulePeer::Workload(index),
                Peer::Entity(entity) => RulePeer::Entity(entity),
                Peer::Address(address) => RulePeer::Addresses([address].into()),
                Peer::World { is_ipv6, seen } => RulePeer::World { is_ipv6, seen },
            },
            spans,
            count,
            last,
        });
    }
    rules
}

/// A resolver that gets a truncated answer asks again over TCP; that is rare enough not to have been
/// seen, and must work all the same. [RFC 7766 §5]
fn add_dns(needs: &mut Needs, workloads: &Workloads, is_dns_itself: bool) -> BTreeSet<Peer> {
    let Some(asked) = needs.get(&(Protocol::Udp, DNS)) else {
        return BTreeSet::new();
    };
    let is_dns = |peer: &Peer| match peer {
        Peer::Workload(index) => is_dns_itself || workloads.get(*index).is_dns(),
        _ => is_dns_itself,
    };
    let asked: Vec<(Peer, Timestamp)> = asked
        .iter()
        .filter(|(peer, _)| is_dns(peer))
        .map(|(peer, evidence)| (*peer, evidence.1))
        .collect();
    for (peer, last) in &asked {
        note(needs, (Protocol::Tcp, DNS), *peer, (0, *last));
    }
    asked.into_iter().map(|(peer, _)| peer).collect()
}

/// Where too many addresses outside use a port, they become the world.
fn fold(peers: BTreeMap<Peer, Evidence>) -> BTreeMap<Peer, Evidence> {
    let mut folded = BTreeMap::new();
    for is_ipv6 in [false, true] {
        let of_family = |peer: &Peer| matches!(peer, Peer::Address(at) if at.is_ipv6() == is_ipv6);
        let seen = peers.keys().filter(|peer| of_family(peer)).count();
        for (peer, evidence) in peers.iter().filter(|(peer, _)| of_family(peer)) {
            let peer = if seen > ADDRESSES_MAX {
                Peer::World { is_ipv6, seen }
            } else {
                *peer
            };
            let held = folded.entry(peer).or_insert((0, evidence.1));
            held.0 += evidence.0;
            held.1 = held.1.max(evidence.1);
        }
    }
    let others = peers.into_iter();
    folded.extend(others.filter(|(peer, _)| !matches!(peer, Peer::Address(_))));
    folded
}

/// Ports that follow each other become one span; ICMP types do not.
fn spans(traffic: &BTreeSet<(Protocol, u16)>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for &(protocol, port) in traffic {
        let is_icmp = matches!(protocol, Protocol::Icmp | Protocol::Icmpv6);
        match spans.last_mut() {
            Some(span)
                if !is_icmp
                    && span.protocol == protocol
                    && span.last.checked_add(1) == Some(port) =>
            {
                span.last = port;
            }
            _ => spans.push(Span {
                protocol,
                first: port,
                last: port,
            }),
        }
    }
    spans
}
