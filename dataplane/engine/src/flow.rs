//! A flow at one endpoint: who began it, how far it has come, what has passed.

use crate::flow_key::{FlowKey, Role};
use crate::flow_timeouts::Lives;
use crate::packet::{Packet, Transport};
use crate::tcp_state::{FlowState, Numbers, Segment, is_near};
use crate::{EndpointId, EndpointIndex, MacAddress, Now};
use portcullis_policy::{Generation, Protocol, RuleId};

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

/// A way that has been found, and the MAC address of the next hop on the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CachedWay {
    pub to: EndpointIndex,
    pub to_id: EndpointId,
    pub next_hop: Option<MacAddress>,
}

/// What a valid RST towards one side has to carry. [RFC 9293 §3.5.2]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetNumbers {
    /// What the side expects next.
    pub sequence: u32,
    /// What it has sent, where that is known: then the RST has ACK, too.
    pub acknowledgement: Option<u32>,
}

const TENTH_NS: u64 = 100_000_000;

/// One flow at one endpoint. The fields that a packet always reads come first, in one cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Flow {
    pub key: FlowKey,
    state: FlowState,
    flags: u8,
    /// Counts the flows that have lived in this place, and their ends; odd while one lives. The
    /// table's own.
    pub epoch: u32,
    /// The snapshot under which it was last judged, and `way` found.
    pub generation: Generation,
    /// When its last packet came.
    pub seen: Now,
    /// Of each side, local first, where `flags` says that it is known.
    next_sequence: [u32; 2],
    acknowledged: [u32; 2],
    /// What each side has sent, local first, counted in bytes of IP.
    bytes: [u64; 2],
    packets: [u32; 2],
    way_to_id: EndpointId,
    /// `u32::MAX` for none.
    rule: u32,
    /// Tenths of a second.
    opened: u32,
    /// The largest TCP payload each side takes: local, remote. Zero when no SYN told.
    pub payload_max: (u16, u16),
    way_to: EndpointIndex,
    /// All zero for none.
    next_hop: MacAddress,
}

const _: () = assert!(size_of::<Flow>() == 128);

/// Bits of `Flow::flags`; those of a side stand one above the other, local first.
const REMOTE_BEGAN: u8 = 1;
const IS_TRANSLATED: u8 = 1 << 1;
const HAS_WAY: u8 = 1 << 2;
const HAS_SEQUENCE: u8 = 1 << 3;
const HAS_ACKNOWLEDGED: u8 = 1 << 5;

impl Flow {
    pub fn new(
        key: FlowKey,
        initiator: Side,
        role: Role,
        generation: Generation,
        now: Now,
    ) -> Self {
        let state = match role {
            Role::Opens if key.protocol() == Protocol::Tcp => FlowState::Opening,
            // Learned in mid-stream: somebody else saw it open.
            Role::Continues(_) => FlowState::Established,
            _ => FlowState::Datagrams,
        };
        Self {
            key,
            state,
            flags: match initiator {
                Side::Local => 0,
                Side::Remote => REMOTE_BEGAN,
            },
            epoch: 0,
            generation,
            seen: now,
            next_sequence: [0; 2],
            acknowledged: [0; 2],
            bytes: [0; 2],
            packets: [0; 2],
            way_to_id: EndpointId(0),
            rule: u32::MAX,
            opened: u32::try_from(now.0 / TENTH_NS).unwrap_or(u32::MAX),
            payload_max: (0, 0),
            way_to: EndpointIndex(0),
            next_hop: MacAddress::default(),
        }
    }

    /// Who began it: the side whose direction is judged.
    pub fn initiator(&self) -> Side {
        match self.has(REMOTE_BEGAN) {
            false => Side::Local,
            true => Side::Remote,
        }
    }

    pub fn state(&self) -> FlowState {
        self.state
    }

    pub fn is_closing(&self) -> bool {
        self.state == FlowState::Closing
    }

    /// Where its packets go from the endpoint. None until one has gone.
    pub fn way(&self) -> Option<CachedWay> {
        self.has(HAS_WAY).then_some(CachedWay {
            to: self.way_to,
            to_id: self.way_to_id,
            next_hop: (self.next_hop != MacAddress::default()).then_some(self.next_hop),
        })
    }

    pub fn set_way(&mut self, way: CachedWay) {
        self.way_to = way.to;
        self.way_to_id = way.to_id;
        self.next_hop = way.next_hop.unwrap_or_default();
        self.set(HAS_WAY, true);
    }

    /// Whether a translation of a service or of addresses belongs to it.
    pub fn is_translated(&self) -> bool {
        self.has(IS_TRANSLATED)
    }

    pub fn set_translated(&mut self, is_translated: bool) {
        self.set(IS_TRANSLATED, is_translated);
    }

    /// The rule that allowed it, where one did.
    pub fn rule(&self) -> Option<RuleId> {
        (self.rule != u32::MAX).then_some(RuleId(self.rule))
    }

    /// Notes under which snapshot it was allowed, and by which rule. The way has to be found anew.
    pub fn judged(&mut self, generation: Generation, rule: Option<RuleId>) {
        self.generation = generation;
        self.rule = rule.map_or(u32::MAX, |rule| rule.0);
        self.set(HAS_WAY, false);
    }

    /// When it began, to a tenth of a second.
    pub fn opened(&self) -> Now {
        Now(u64::from(self.opened) * TENTH_NS)
    }

    /// Packets and bytes of IP that a side has sent.
    pub fn sent(&self, side: Side) -> (u32, u64) {
        (self.packets[side as usize], self.bytes[side as usize])
    }

    /// Takes note of a packet that `sender` sent, and that passes.
    pub fn note(&mut self, sender: Side, packet: &Packet, now: Now) {
        // Clocks of a batch never run backwards; a late call must not shorten a life.
        self.seen = self.seen.max(now);
        let side = sender as usize;
        self.packets[side] = self.packets[side].saturating_add(1);
        self.bytes[side] = self.bytes[side].saturating_add(u64::from(packet.ip_length));
        let Some(segment) = Segment::of(packet, sender, self.initiator()) else {
            return;
        };
        if let Transport::Tcp {
            payload_max: Some(payload_max),
            ..
        } = packet.transport
        {
            match sender {
                Side::Local => self.payload_max.0 = payload_max,
                Side::Remote => self.payload_max.1 = payload_max,
            }
        }
        let (own, peer) = (self.numbers(sender), self.numbers(sender.other()));
        let before = self.state;
        self.state = before.after(&segment, own, peer);
        self.set_numbers(sender, own.after(&segment, before));
        if before.is_established() {
            self.set_numbers(sender.other(), peer.after_answer(&segment));
        }
    }

    /// The state that `note` would lead to.
    pub fn state_after(&self, sender: Side, packet: &Packet) -> FlowState {
        match Segment::of(packet, sender, self.initiator()) {
            Some(segment) => {
                let (own, peer) = (self.numbers(sender), self.numbers(sender.other()));
                self.state.after(&segment, own, peer)
            }
            None => self.state,
        }
    }

    /// What an RST to `side` has to carry, as if the other side had sent it. None when the flow
    /// is no open TCP connection, or its numbers are not known.
    pub fn reset_towards(&self, side: Side) -> Option<ResetNumbers> {
        if matches!(self.state, FlowState::Datagrams | FlowState::Closing) {
            return None;
        }
        let (own, peer) = (self.numbers(side), self.numbers(side.other()));
        let sequence = match (peer.next_sequence, own.acknowledged) {
            (Some(next), Some(acknowledged)) if !is_near(next, acknowledged) => acknowledged,
            (Some(next), _) => next,
            (None, Some(acknowledged)) => acknowledged,
            // Nobody has answered its SYN: only the acknowledgement counts.
            (None, None) => own.next_sequence.map(|_| 0)?,
        };
        Some(ResetNumbers {
            sequence,
            acknowledgement: own.next_sequence,
        })
    }

    /// When it ends unless a packet comes, in nanoseconds.
    pub fn deadline(&self, lives: &Lives) -> u64 {
        let life = lives.of(self.state, self.key.protocol());
        self.seen.0.saturating_add(life)
    }

    pub fn is_expired(&self, lives: &Lives, now: Now) -> bool {
        now.0 > self.deadline(lives)
    }

    fn numbers(&self, side: Side) -> Numbers {
        let (at, bit) = (side as usize, side as u8);
        Numbers {
            next_sequence: self
                .has(HAS_SEQUENCE << bit)
                .then_some(self.next_sequence[at]),
            acknowledged: self
                .has(HAS_ACKNOWLEDGED << bit)
                .then_some(self.acknowledged[at]),
        }
    }

    fn set_numbers(&mut self, side: Side, numbers: Numbers) {
        let (at, bit) = (side as usize, side as u8);
        self.next_sequence[at] = numbers.next_sequence.unwrap_or(0);
        self.acknowledged[at] = numbers.acknowledged.unwrap_or(0);
        self.set(HAS_SEQUENCE << bit, numbers.next_sequence.is_some());
        self.set(HAS_ACKNOWLEDGED << bit, numbers.acknowledged.is_some());
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn set(&mut self, flag: u8, is_set: bool) {
        if is_set {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }
}

#[cfg(test)]
mod tests;
