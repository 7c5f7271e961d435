//! The flow table: the only per-flow memory, of fixed size, one entry whichever side began.

use crate::packet::{Packet, Quoted, QuotedTransport, TcpFlags, Transport};
use crate::{Drop, EndpointId, Now};
use hashbrown::HashTable;
use portcullis_policy::{Generation, Protocol};
use siphasher::sip::SipHasher13;
use std::net::IpAddr;
use std::time::Duration;

/// Slots that one call of `expire` looks at.
pub(crate) const EXPIRE_SLOTS_MAX: usize = 512;

/// A side of a flow, seen from the endpoint that keeps the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The endpoint itself.
    Local,
    /// Its peer.
    Remote,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
        }
    }
}

/// How long an entry lives after its last packet. Defaults are Cilium's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowTimeouts {
    /// TCP until both sides have spoken.
    pub tcp_opening: Duration,
    /// TCP in both directions.
    pub tcp_established: Duration,
    /// TCP after a reset, or a FIN from both sides.
    pub tcp_closing: Duration,
    /// Everything else.
    pub other: Duration,
}

impl Default for FlowTimeouts {
    fn default() -> Self {
        Self {
            tcp_opening: Duration::from_secs(60),
            tcp_established: Duration::from_secs(8000),
            tcp_closing: Duration::from_secs(10),
            other: Duration::from_secs(60),
        }
    }
}

/// The timeouts in nanoseconds, as they are compared for each packet.
#[derive(Debug, Clone, Copy)]
struct Lives {
    tcp_opening: u64,
    tcp_established: u64,
    tcp_closing: u64,
    other: u64,
}

impl From<FlowTimeouts> for Lives {
    fn from(timeouts: FlowTimeouts) -> Self {
        // Five hundred years are as good as for ever.
        let nanoseconds = |life: Duration| u64::try_from(life.as_nanos()).unwrap_or(u64::MAX);
        Self {
            tcp_opening: nanoseconds(timeouts.tcp_opening),
            tcp_established: nanoseconds(timeouts.tcp_established),
            tcp_closing: nanoseconds(timeouts.tcp_closing),
            other: nanoseconds(timeouts.other),
        }
    }
}

/// What names a flow at one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowKey {
    pub endpoint: EndpointId,
    /// IP protocol number.
    pub protocol: u8,
    /// The ICMP type of a message that is neither echo nor error; else zero.
    pub message: u8,
    pub local: IpAddr,
    pub remote: IpAddr,
    pub local_port: u16,
    pub remote_port: u16,
}

/// What a packet is to the flow that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Always the first of a flow, whoever sent it: TCP SYN, echo request.
    Opens,
    /// The first of a flow when there is none: UDP, SCTP, other ICMP.
    MayOpen,
    /// Part of a flow that must exist: the other segments of TCP.
    Continues(TcpFlags),
    /// The answer in a flow that must exist: echo reply.
    Answers,
}

/// The ports that stand for a packet in a flow's key, and its role.
pub(crate) struct Tuple {
    pub ports: (u16, u16),
    pub message: u8,
    pub role: Role,
}

/// How a packet finds its flow. None for what has no flow of its own: ICMP errors, fragments
/// after the first, protocols that are not forwarded.
pub(crate) fn tuple_of(packet: &Packet) -> Option<Tuple> {
    if packet.is_icmp_error() {
        return None;
    }
    let (ports, message, role) = match packet.transport {
        Transport::Tcp { ports, flags, .. } if flags.is_opening() => (ports, 0, Role::Opens),
        Transport::Tcp { ports, flags, .. } => (ports, 0, Role::Continues(flags)),
        Transport::Udp { ports } | Transport::Sctp { ports } => (ports, 0, Role::MayOpen),
        Transport::Icmp(icmp) => icmp_tuple(icmp.kind, icmp.identifier, 8, 0),
        Transport::Icmpv6(icmp) => icmp_tuple(icmp.kind, icmp.identifier, 128, 129),
        Transport::LaterFragment(_) | Transport::Other(_) => return None,
    };
    Some(Tuple {
        ports,
        message,
        role,
    })
}

/// An echo is a flow from its identifier to zero, so that both ends may ping each other with one
/// identifier; any other message is a flow of its type from one to zero, which nothing answers.
fn icmp_tuple(kind: u8, identifier: u16, request: u8, reply: u8) -> ((u16, u16), u8, Role) {
    if kind == request {
        ((identifier, 0), 0, Role::Opens)
    } else if kind == reply {
        ((0, identifier), 0, Role::Answers)
    } else {
        ((1, 0), kind, Role::MayOpen)
    }
}

impl FlowKey {
    /// The key at an endpoint of a packet that `sender` sent.
    pub fn of(endpoint: EndpointId, sender: Side, packet: &Packet, tuple: &Tuple) -> Self {
        Self::between(
            endpoint,
            sender,
            packet.protocol().number(),
            tuple.message,
            (packet.source, packet.destination),
            tuple.ports,
        )
    }

    /// The key at an endpoint of the packet that an ICMP error quotes; `sender` had sent it.
    pub fn of_quoted(endpoint: EndpointId, sender: Side, quoted: &Quoted) -> Self {
        let (protocol, ports, message) = match quoted.transport {
            QuotedTransport::Ports(protocol, ports) => (protocol, ports, 0),
            QuotedTransport::Icmp(protocol, icmp) => {
                let (request, reply) = match quoted.source {
                    IpAddr::V4(_) => (8, 0),
                    IpAddr::V6(_) => (128, 129),
                };
                let (ports, message, _) = icmp_tuple(icmp.kind, icmp.identifier, request, reply);
                (protocol, ports, message)
            }
        };
        Self::between(
            endpoint,
            sender,
            protocol.number(),
            message,
            (quoted.source, quoted.destination),
            ports,
        )
    }

    fn between(
        endpoint: EndpointId,
        sender: Side,
        protocol: u8,
        message: u8,
        addresses: (IpAddr, IpAddr),
        ports: (u16, u16),
    ) -> Self {
        let (local, remote, local_port, remote_port) = match sender {
            Side::Local => (addresses.0, addresses.1, ports.0, ports.1),
            Side::Remote => (addresses.1, addresses.0, ports.1, ports.0),
        };
        Self {
            endpoint,
            protocol,
            message,
            local,
            remote,
            local_port,
            remote_port,
        }
    }

    /// The protocol as policy knows it.
    pub fn protocol(&self) -> Protocol {
        Protocol::from_number(self.protocol)
    }

    /// The port that the initiator wants; for ICMP the type of its message.
    pub fn service_port(&self, initiator: Side) -> u16 {
        match (self.protocol(), self.message, initiator) {
            (Protocol::Icmp, 0, _) => 8,
            (Protocol::Icmpv6, 0, _) => 128,
            (Protocol::Icmp | Protocol::Icmpv6, message, _) => u16::from(message),
            (_, _, Side::Local) => self.remote_port,
            (_, _, Side::Remote) => self.local_port,
        }
    }

    /// The key in 42 bytes; IPv4 addresses fill the low four of sixteen, which no IPv6 address
    /// that is let in does (`packet::is_martian`), and equality decides in any case.
    fn hash(&self, hasher: &SipHasher13) -> u64 {
        let mut bytes = [0; 42];
        bytes[..4].copy_from_slice(&self.endpoint.0.to_ne_bytes());
        bytes[4] = self.protocol;
        bytes[5] = self.message;
        bytes[6..8].copy_from_slice(&self.local_port.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.remote_port.to_ne_bytes());
        let length = match (self.local, self.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                bytes[10..14].copy_from_slice(&local.octets());
                bytes[14..18].copy_from_slice(&remote.octets());
                18
            }
            (local, remote) => {
                for (address, at) in [(local, 10), (remote, 26)] {
                    let octets = match address {
                        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                        IpAddr::V6(address) => address.octets(),
                    };
                    bytes[at..at + 16].copy_from_slice(&octets);
                }
                42
            }
        };
        hasher.hash(&bytes[..length])
    }
}

/// How far a TCP connection has come; everything else stays `Datagrams`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowState {
    /// Not TCP.
    Datagrams,
    /// The initiator's SYN; whether its peer has answered.
    Opening { is_answered: bool },
    /// Both have spoken; who has sent a FIN.
    Established { fin_local: bool, fin_remote: bool },
    /// A reset, or a FIN from both.
    Closing,
}

/// One flow at one endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    pub key: FlowKey,
    /// Who began it: the side whose direction is judged.
    pub initiator: Side,
    pub state: FlowState,
    /// The snapshot under which it was last judged, and `way` found.
    pub generation: Generation,
    /// When its last packet came.
    pub seen: Now,
    /// Where its packets go from the endpoint. None until one has gone.
    pub way: Option<CachedWay>,
    /// The largest TCP payload each side takes: local, remote. Zero when no SYN told.
    pub payload_max: (u16, u16),
}

/// A way that has been found, and the MAC address of the next hop on the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CachedWay {
    pub to: crate::EndpointIndex,
    pub to_id: EndpointId,
    pub next_hop: Option<crate::MacAddress>,
}

impl Flow {
    pub fn new(
        key: FlowKey,
        initiator: Side,
        role: Role,
        generation: Generation,
        now: Now,
    ) -> Self {
        let state = match role {
            Role::Opens if key.protocol == 6 => FlowState::Opening { is_answered: false },
            // Learned in mid-stream: somebody else saw it open.
            Role::Continues(_) => FlowState::Established {
                fin_local: false,
                fin_remote: false,
            },
            _ => FlowState::Datagrams,
        };
        Self {
            key,
            initiator,
            state,
            generation,
            seen: now,
            way: None,
            payload_max: (0, 0),
        }
    }

    pub fn is_closing(&self) -> bool {
        self.state == FlowState::Closing
    }

    /// Takes note of a packet that `sender` sent.
    pub fn note(&mut self, sender: Side, packet: &Packet, now: Now) {
        // Clocks of a batch never run backwards; a late call must not shorten a life.
        self.seen = self.seen.max(now);
        let Transport::Tcp {
            flags, payload_max, ..
        } = packet.transport
        else {
            return;
        };
        if let Some(payload_max) = payload_max {
            match sender {
                Side::Local => self.payload_max.0 = payload_max,
                Side::Remote => self.payload_max.1 = payload_max,
            }
        }
        self.state = self.state.after(sender, sender == self.initiator, flags);
    }

    fn is_expired(&self, lives: &Lives, now: Now) -> bool {
        let life = match self.state {
            FlowState::Datagrams => lives.other,
            FlowState::Opening { .. } => lives.tcp_opening,
            FlowState::Established { .. } => lives.tcp_established,
            FlowState::Closing => lives.tcp_closing,
        };
        now.0.saturating_sub(self.seen.0) > life
    }
}

impl FlowState {
    /// The state after a segment. Only the initiator's acknowledgement of an answer establishes:
    /// a flood of SYNs that a pod answers must not earn long lives.
    fn after(self, sender: Side, is_initiator: bool, flags: TcpFlags) -> Self {
        if flags.has(TcpFlags::RST) {
            return Self::Closing;
        }
        let (mut fin_local, mut fin_remote) = match self {
            Self::Datagrams | Self::Closing => return self,
            Self::Opening { .. } if !is_initiator => return Self::Opening { is_answered: true },
            Self::Opening { is_answered } if !is_answered || flags.is_opening() => {
                return Self::Opening { is_answered };
            }
            Self::Opening { .. } => (false, false),
            Self::Established {
                fin_local,
                fin_remote,
            } => (fin_local, fin_remote),
        };
        if flags.has(TcpFlags::FIN) {
            match sender {
                Side::Local => fin_local = true,
                Side::Remote => fin_remote = true,
            }
        }
        if fin_local && fin_remote {
            Self::Closing
        } else {
            Self::Established {
                fin_local,
                fin_remote,
            }
        }
    }
}

/// Names an entry for as long as it lives: after it has gone the ticket fits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowTicket {
    slot: u32,
    epoch: u32,
}

#[derive(Debug)]
struct Slot {
    /// Counts the flows that have lived here, so that an old ticket fits none of the later ones.
    epoch: u32,
    flow: Option<Flow>,
}

/// A table of fixed capacity: slots, and an index of slot numbers by key.
#[derive(Debug)]
pub(crate) struct FlowTable {
    slots: Vec<Slot>,
    slots_max: usize,
    free: Vec<u32>,
    /// Twice the capacity, so that tombstones are cleared in place and it never grows.
    index: HashTable<u32>,
    hasher: SipHasher13,
    lives: Lives,
    cursor: usize,
}

impl FlowTable {
    /// A table of `flows_max` entries, at most `u32::MAX`. Allocates all that it will ever need.
    pub fn new(flows_max: u32, timeouts: FlowTimeouts, hash_key: (u64, u64)) -> Self {
        let slots_max = flows_max as usize;
        Self {
            slots: Vec::with_capacity(slots_max),
            slots_max,
            free: Vec::with_capacity(slots_max),
            index: HashTable::with_capacity(slots_max * 2),
            hasher: SipHasher13::new_with_keys(hash_key.0, hash_key.1),
            lives: timeouts.into(),
            cursor: 0,
        }
    }

    pub fn count(&self) -> usize {
        self.index.len()
    }

    /// The live entry of a key. An entry past its time is removed on the way.
    pub fn find(&mut self, key: &FlowKey, now: Now) -> Option<FlowTicket> {
        let hash = key.hash(&self.hasher);
        let slots = &self.slots;
        let slot = *self
            .index
            .find(hash, |slot| has_key(&slots[*slot as usize], key))?;
        let ticket = FlowTicket {
            slot,
            epoch: self.slots[slot as usize].epoch,
        };
        if self.flow(ticket)?.is_expired(&self.lives, now) {
            self.remove(ticket);
            return None;
        }
        Some(ticket)
    }

    pub fn flow(&self, ticket: FlowTicket) -> Option<&Flow> {
        let slot = self.slots.get(ticket.slot as usize)?;
        slot.flow.as_ref().filter(|_| slot.epoch == ticket.epoch)
    }

    pub fn flow_mut(&mut self, ticket: FlowTicket) -> Option<&mut Flow> {
        let slot = self.slots.get_mut(ticket.slot as usize)?;
        slot.flow.as_mut().filter(|_| slot.epoch == ticket.epoch)
    }

    /// Takes a new flow in, in the place of an older one with the same key.
    ///
    /// # Errors
    /// `FlowTableFull` when no slot is free, and one sweep frees none.
    pub fn insert(&mut self, flow: Flow, now: Now) -> Result<FlowTicket, Drop> {
        if let Some(old) = self.find(&flow.key, now) {
            self.remove(old);
        }
        let slot = match self.take_slot() {
            Some(slot) => slot,
            None => {
                self.expire(now);
                self.take_slot().ok_or(Drop::FlowTableFull)?
            }
        };
        let place = &mut self.slots[slot as usize];
        place.epoch = place.epoch.wrapping_add(1);
        place.flow = Some(flow);
        let epoch = place.epoch;
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index
            .insert_unique(flow.key.hash(hasher), slot, |slot| {
                slots[*slot as usize]
                    .flow
                    .as_ref()
                    .map_or(0, |flow| flow.key.hash(hasher))
            });
        Ok(FlowTicket { slot, epoch })
    }

    fn take_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.slots.len() == self.slots_max {
            return None;
        }
        self.slots.push(Slot {
            epoch: 0,
            flow: None,
        });
        Some(self.slots.len() as u32 - 1)
    }

    /// Removes an entry; nothing happens when it has gone already.
    pub fn remove(&mut self, ticket: FlowTicket) {
        let Some(key) = self.flow(ticket).map(|flow| flow.key) else {
            return;
        };
        let hash = key.hash(&self.hasher);
        if let Ok(entry) = self.index.find_entry(hash, |slot| *slot == ticket.slot) {
            entry.remove();
        }
        self.slots[ticket.slot as usize].flow = None;
        self.free.push(ticket.slot);
    }

    /// Removes entries past their time: the next `EXPIRE_SLOTS_MAX` slots, round and round.
    pub fn expire(&mut self, now: Now) {
        for _ in 0..EXPIRE_SLOTS_MAX.min(self.slots.len()) {
            if self.cursor >= self.slots.len() {
                self.cursor = 0;
            }
            let place = &self.slots[self.cursor];
            let is_expired = place
                .flow
                .as_ref()
                .is_some_and(|flow| flow.is_expired(&self.lives, now));
            if is_expired {
                self.remove(FlowTicket {
                    slot: self.cursor as u32,
                    epoch: place.epoch,
                });
            }
            self.cursor += 1;
        }
    }
}

fn has_key(slot: &Slot, key: &FlowKey) -> bool {
    slot.flow.as_ref().is_some_and(|flow| flow.key == *key)
}

#[cfg(test)]
mod tests;
