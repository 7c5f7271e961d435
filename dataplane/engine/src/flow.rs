//! A flow at one endpoint: who began it, how far it has come, what has passed.

use crate::flow_key::{FlowKey, Role};
use crate::flow_table::FlowTicket;
use crate::flow_timeouts::Lives;
use crate::packet::{Packet, TcpFlags, Transport};
use crate::round_trip::RoundTrip;
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
    flags: u16,
    /// Counts the flows that have lived in this place, and their ends; odd while one lives. The
    /// table's own.
    pub epoch: u32,
    /// When its last packet came.
    pub seen: Now,
    /// The snapshot under which it was last judged, and `way` found; its lower half, for those four
    /// thousand million generations ago no flow has lived.
    generation: u32,
    way_to: EndpointIndex,
    state: FlowState,
    round_trip: RoundTrip,
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
    /// The place and epoch of the entry at the other end with `HAS_TWIN`; else the next hop's MAC
    /// address, all zero for none.
    next: [u8; 8],
}

const _: () = assert!(size_of::<Flow>() == 128);

/// Bits of `Flow::flags`; those of a side stand one above the other, local first.
const REMOTE_BEGAN: u16 = 1;
const IS_TRANSLATED: u16 = 1 << 1;
const HAS_WAY: u16 = 1 << 2;
const HAS_SEQUENCE: u16 = 1 << 3;
const HAS_ACKNOWLEDGED: u16 = 1 << 5;
const HAS_TWIN: u16 = 1 << 7;
const IS_TELLING: u16 = 1 << 8;
const WAS_RESET: u16 = 1 << 9;

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
            seen: now,
            generation: generation.0 as u32,
            way_to: EndpointIndex(0),
            round_trip: RoundTrip::default(),
            next_sequence: [0; 2],
            acknowledged: [0; 2],
            bytes: [0; 2],
            packets: [0; 2],
            way_to_id: EndpointId(0),
            rule: u32::MAX,
            opened: u32::try_from(now.0 / TENTH_NS).unwrap_or(u32::MAX),
            payload_max: (0, 0),
            next: [0; 8],
        }
    }

    /// The snapshot under which it was last judged.
    pub fn generation(&self) -> Generation {
        Generation(u64::from(self.generation))
    }

    /// Whether it was last judged under this snapshot.
    pub fn is_of(&self, generation: Generation) -> bool {
        self.generation == generation.0 as u32
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

    /// Whether it is none of TCP.
    pub fn is_datagrams(&self) -> bool {
        self.state == FlowState::Datagrams
    }

    pub fn is_closing(&self) -> bool {
        self.state == FlowState::Closing
    }

    /// Where its packets go from the endpoint. None until one has gone.
    pub fn way(&self) -> Option<CachedWay> {
        self.has(HAS_WAY).then_some(CachedWay {
            to: self.way_to,
            to_id: self.way_to_id,
            next_hop: self.next_hop(),
        })
    }

    fn next_hop(&self) -> Option<MacAddress> {
        let [mac @ .., _, _] = self.next;
        let is_one = !self.has(HAS_TWIN) && mac != [0; 6];
        is_one.then_some(MacAddress(mac))
    }

    pub fn set_way(&mut self, way: CachedWay) {
        self.way_to = way.to;
        self.way_to_id = way.to_id;
        if way.next_hop.is_some() || !self.has(HAS_TWIN) {
            let [a, b, c, d, e, f] = way.next_hop.unwrap_or_default().0;
            self.next = [a, b, c, d, e, f, 0, 0];
            self.set(HAS_TWIN, false);
        }
        self.set(HAS_WAY, true);
    }

    /// The entry at the other end of its way, in the same table, while both are judged by the same
    /// snapshot and nothing is translated: what a packet of it needs no walk for.
    pub fn twin(&self) -> Option<FlowTicket> {
        let [a, b, c, d, e, f, g, h] = self.next;
        let (place, epoch) = (
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
        );
        self.has(HAS_TWIN).then_some(FlowTicket { place, epoch })
    }

    pub fn set_twin(&mut self, twin: FlowTicket) {
        let [a, b, c, d] = twin.place.to_ne_bytes();
        let [e, f, g, h] = twin.epoch.to_ne_bytes();
        self.next = [a, b, c, d, e, f, g, h];
        self.set(HAS_TWIN, true);
    }

    /// Whether a reset has ended it.
    pub fn was_reset(&self) -> bool {
        self.has(WAS_RESET)
    }

    /// Whether its end is told: of the two entries of a flow between pods one tells.
    pub fn is_telling(&self) -> bool {
        self.has(IS_TELLING)
    }

    pub fn set_telling(&mut self, is_telling: bool) {
        self.set(IS_TELLING, is_telling);
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
        self.generation = generation.0 as u32;
        self.rule = rule.map_or(u32::MAX, |rule| rule.0);
        if self.has(HAS_TWIN) {
            self.next = [0; 8];
        }
        self.set(HAS_WAY | HAS_TWIN, false);
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
        let before_seen = self.seen;
        self.count(sender, packet.ip_length, now);
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
        if (before, self.state) == (FlowState::Opening, FlowState::Answered) {
            self.round_trip = RoundTrip::of_ns(now.0.saturating_sub(before_seen.0));
        }
        if self.state == FlowState::Closing && before != FlowState::Closing {
            self.set(WAS_RESET, segment.flags.has(TcpFlags::RST));
        }
        self.set_numbers(sender, own.after(&segment, before));
        if before.is_established() {
            self.set_numbers(sender.other(), peer.after_answer(&segment));
        }
    }

    /// Counts a packet that `sender` sent.
    pub fn count(&mut self, sender: Side, ip_length: u32, now: Now) {
        // Clocks of a batch never run backwards; a late call must not shorten a life.
        self.seen = self.seen.max(now);
        let side = sender as usize;
        self.packets[side] = self.packets[side].saturating_add(1);
        self.bytes[side] = self.bytes[side].saturating_add(u64::from(ip_length));
    }

    /// Takes note of the numbers of a segment that neither opens nor ends: the state stays.
    pub fn note_numbers(&mut self, sender: Side, segment: &Segment) {
        let own = self.numbers(sender);
        self.set_numbers(sender, own.after(segment, self.state));
    }

    /// From its SYN to the answer, in microseconds; zero where that was not seen.
    pub fn round_trip_us(&self) -> u32 {
        self.round_trip.us()
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
        let (at, bit) = (side as usize, side as u16);
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
        let (at, bit) = (side as usize, side as u16);
        self.next_sequence[at] = numbers.next_sequence.unwrap_or(0);
        self.acknowledged[at] = numbers.acknowledged.unwrap_or(0);
        self.set(HAS_SEQUENCE << bit, numbers.next_sequence.is_some());
        self.set(HAS_ACKNOWLEDGED << bit, numbers.acknowledged.is_some());
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    fn set(&mut self, flag: u16, is_set: bool) {
        if is_set {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }
}

#[cfg(test)]
mod tests;
