//! The plain reading that the simulation is judged by: policy asked directly, in the initiator's
//! direction, over a memory of who opened what.

use portcullis_engine::{
    Endpoint, EndpointId, EndpointKind, FlowTicket, Now, Packet, Snapshot, Transport,
};
use portcullis_policy::{Direction, Identity, Protocol};
use std::collections::HashMap;
use std::net::IpAddr;

/// Which side of an endpoint sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    Pod,
    Peer,
}

/// A flow at one pod: protocol, message, and the ends with their ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    pub pod: EndpointId,
    pub protocol: u8,
    pub kind: u8,
    pub pod_end: (IpAddr, u16),
    pub peer_end: (IpAddr, u16),
}

/// What a packet is, in the plain reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A TCP SYN or an echo request: a flow of its own whoever sends it.
    Opener,
    /// Needs an open flow: other TCP, echo replies.
    Follower,
    /// Opens a flow where there is none.
    Either,
}

#[derive(Debug, Clone, Copy)]
struct Memory {
    opened_by: Side,
    seen: Now,
    ticket: Option<FlowTicket>,
}

/// Who opened what, at every pod.
#[derive(Debug, Default)]
pub struct Oracle {
    flows: HashMap<Flow, Memory>,
    /// The first fragments that passed at their source, the last of each name.
    firsts: HashMap<(EndpointId, IpAddr, IpAddr, u32, u8), Packet>,
}

/// The sort of a packet and the two ports it is remembered by.
pub fn read(packet: &Packet) -> (Sort, u8, (u16, u16)) {
    let echo = |kind: u8, identifier: u16, request: u8, reply: u8| {
        if kind == request {
            (Sort::Opener, 0, (identifier, 0))
        } else if kind == reply {
            (Sort::Follower, 0, (0, identifier))
        } else {
            (Sort::Either, kind, (1, 0))
        }
    };
    match packet.transport {
        Transport::Tcp { ports, flags, .. } if flags.is_opening() => (Sort::Opener, 0, ports),
        Transport::Tcp { ports, .. } => (Sort::Follower, 0, ports),
        Transport::Udp { ports } | Transport::Sctp { ports } => (Sort::Either, 0, ports),
        Transport::Icmp(message) => echo(message.kind, message.identifier, 8, 0),
        Transport::Icmpv6(message) => echo(message.kind, message.identifier, 128, 129),
        other => panic!("a packet of {other:?} was forwarded"),
    }
}

/// The flow of a packet that `sender` sent, at a pod.
pub fn flow_of(pod: EndpointId, sender: Side, packet: &Packet) -> Flow {
    let (_, kind, ports) = read(packet);
    let ends = ((packet.source, ports.0), (packet.destination, ports.1));
    between(pod, sender, packet.protocol().number(), kind, ends)
}

pub fn between(
    pod: EndpointId,
    sender: Side,
    protocol: u8,
    kind: u8,
    ends: ((IpAddr, u16), (IpAddr, u16)),
) -> Flow {
    let (pod_end, peer_end) = match sender {
        Side::Pod => ends,
        Side::Peer => (ends.1, ends.0),
    };
    Flow {
        pod,
        protocol,
        kind,
        pod_end,
        peer_end,
    }
}

/// Who is at an address, as this snapshot has it.
pub fn identity_at(snapshot: &Snapshot, address: IpAddr) -> Identity {
    match snapshot.owner_of(address) {
        Some((_, endpoint)) => endpoint.identity,
        None => snapshot.tables.as_deref().unwrap().identity_of(address),
    }
}

/// Whether policy lets `opened_by` open this flow at its pod.
pub fn is_allowed(snapshot: &Snapshot, pod: &Endpoint, flow: &Flow, opened_by: Side) -> bool {
    assert_eq!(pod.kind, EndpointKind::Pod);
    let peer = identity_at(snapshot, flow.peer_end.0);
    let Some(policy) = pod.policy else {
        return false;
    };
    if peer == Identity::UNKNOWN || pod.identity == Identity::UNKNOWN {
        return false;
    }
    let protocol = Protocol::from_number(flow.protocol);
    let port = match (protocol, flow.kind, opened_by) {
        (Protocol::Icmp, 0, _) => 8,
        (Protocol::Icmpv6, 0, _) => 128,
        (Protocol::Icmp | Protocol::Icmpv6, kind, _) => u16::from(kind),
        (_, _, Side::Pod) => flow.peer_end.1,
        (_, _, Side::Peer) => flow.pod_end.1,
    };
    let direction = match opened_by {
        Side::Pod => Direction::Egress,
        Side::Peer => Direction::Ingress,
    };
    let tables = snapshot.tables.as_deref().unwrap();
    let verdict = tables.judge(policy, direction, peer, protocol, port);
    verdict.decision.is_allowed()
}

impl Oracle {
    /// Who opened a flow that is not older than any state of its protocol may get.
    pub fn opener(&self, flow: &Flow, now: Now) -> Option<Side> {
        let memory = self.flows.get(flow)?;
        let seconds = if flow.protocol == 6 { 8000 } else { 60 };
        (now.0 - memory.seen.0 <= seconds * 1_000_000_000).then_some(memory.opened_by)
    }

    /// Who opened a flow last, however long ago.
    pub fn opened_by(&self, flow: &Flow) -> Option<Side> {
        self.flows.get(flow).map(|memory| memory.opened_by)
    }

    /// Whether a packet may pass at a pod, by the plain reading.
    pub fn may_pass(
        &self,
        snapshot: &Snapshot,
        pod: &Endpoint,
        sender: Side,
        packet: &Packet,
        now: Now,
    ) -> bool {
        let flow = flow_of(pod.id, sender, packet);
        let by = |side| is_allowed(snapshot, pod, &flow, side);
        let remembered = self.opener(&flow, now);
        match read(packet).0 {
            Sort::Opener => by(sender),
            Sort::Follower => remembered.is_some_and(by),
            Sort::Either => remembered.is_some_and(by) || by(sender),
        }
    }

    /// What judges a packet in place of itself: of a later fragment, which must not have passed
    /// without it, the first.
    ///
    /// `original` is the packet as it came, which names its datagram.
    pub fn first_of(
        &mut self,
        from: EndpointId,
        original: &Packet,
        packet: &Packet,
    ) -> Option<Packet> {
        let fragment = packet.fragment?;
        let protocol = match packet.source {
            IpAddr::V4(_) => packet.protocol().number(),
            IpAddr::V6(_) => 0,
        };
        let ends = (original.source, original.destination);
        let key = (from, ends.0, ends.1, fragment.identification, protocol);
        if fragment.offset == 0 {
            self.firsts.insert(key, *packet);
            return None;
        }
        let first = self.firsts.get(&key).copied();
        assert!(first.is_some(), "passed without the first: {packet:?}");
        first.map(|first| Packet {
            source: packet.source,
            destination: packet.destination,
            ..first
        })
    }

    /// Whether an ICMP error about this flow may pass at its pod.
    pub fn may_relate(&self, snapshot: &Snapshot, pod: &Endpoint, flow: &Flow, now: Now) -> bool {
        self.opener(flow, now)
            .is_some_and(|side| is_allowed(snapshot, pod, flow, side))
    }

    /// Remembers a packet that passed at a pod.
    pub fn remember(
        &mut self,
        snapshot: &Snapshot,
        pod: &Endpoint,
        sender: Side,
        packet: &Packet,
        ticket: Option<FlowTicket>,
        now: Now,
    ) {
        let flow = flow_of(pod.id, sender, packet);
        let opened_by = match (read(packet).0, self.opener(&flow, now)) {
            (Sort::Opener, _) | (_, None) => sender,
            // It was revoked meanwhile, and begun anew from the other side.
            (_, Some(side)) if !is_allowed(snapshot, pod, &flow, side) => sender,
            (_, Some(side)) => side,
        };
        let memory = Memory {
            opened_by,
            seen: now,
            ticket,
        };
        self.flows.insert(flow, memory);
    }

    /// Forgets what was withdrawn.
    pub fn withdraw(&mut self, ticket: FlowTicket, pod: EndpointId) {
        self.flows
            .retain(|flow, memory| flow.pod != pod || memory.ticket != Some(ticket));
    }
}
