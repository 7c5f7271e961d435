//! How far a TCP connection has come, read off its segments with a loose look at their numbers.

use crate::flow::Side;
use crate::packet::{Packet, TcpFlags, Transport};

/// How far a number may lie from what was seen before: a quarter of all numbers, more than any
/// window. Strangers see neither the flow nor its numbers; this is against accidents.
const WINDOW: u32 = 1 << 30;
/// How much the answering side may have sent before the handshake's last acknowledgement comes.
const HANDSHAKE_AHEAD_MAX: u32 = 1 << 16;

/// How far a flow has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FlowState {
    /// Not TCP.
    Datagrams,
    /// TCP: the initiator's SYN.
    Opening,
    /// Its peer has answered it; the initiator has not acknowledged the answer yet.
    Answered,
    /// Both have spoken.
    Established,
    /// The endpoint itself has sent its last byte.
    FinLocal,
    /// Its peer has sent its last byte.
    FinRemote,
    /// A reset, or a FIN from both.
    Closing,
}

/// What one side has said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Numbers {
    /// The number after the highest that it has sent.
    pub next_sequence: Option<u32>,
    /// What it expects next of its peer.
    pub acknowledged: Option<u32>,
}

/// A TCP segment, as far as the state of its connection depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub sender: Side,
    /// Whether the sender has begun the connection.
    pub is_initiator: bool,
    pub flags: TcpFlags,
    pub sequence: u32,
    pub acknowledgement: u32,
    /// Bytes of payload.
    pub length: u32,
}

impl Segment {
    /// The segment in a packet. None when it is not TCP.
    pub fn of(packet: &Packet, sender: Side, initiator: Side) -> Option<Self> {
        let Transport::Tcp {
            flags,
            sequence,
            acknowledgement,
            ..
        } = packet.transport
        else {
            return None;
        };
        Some(Self {
            sender,
            is_initiator: sender == initiator,
            flags,
            sequence,
            acknowledgement,
            length: packet.payload_length(),
        })
    }

    /// The number after its last; SYN and FIN take one each. [RFC 9293 §3.4]
    fn end(&self) -> u32 {
        let flags =
            u32::from(self.flags.has(TcpFlags::SYN)) + u32::from(self.flags.has(TcpFlags::FIN));
        self.sequence.wrapping_add(self.length).wrapping_add(flags)
    }

    fn acknowledged(&self) -> Option<u32> {
        self.flags
            .has(TcpFlags::ACK)
            .then_some(self.acknowledgement)
    }

    /// Whether its sequence number lies where its sender's may, as far as that is known.
    fn is_plausible(&self, own: Numbers, peer: Numbers) -> bool {
        match (own.next_sequence, peer.acknowledged) {
            // A refusal carries no number of its own but that of the SYN. [RFC 9293 §3.5.2]
            (None, None) => match (self.acknowledged(), peer.next_sequence) {
                (Some(acknowledged), Some(next)) => is_near(acknowledged, next),
                _ => true,
            },
            known => [known.0, known.1]
                .into_iter()
                .flatten()
                .any(|number| is_near(self.sequence, number)),
        }
    }
}

impl Numbers {
    /// The numbers after a segment of this side; `state` is that before it.
    pub fn after(self, segment: &Segment, state: FlowState) -> Self {
        if segment.flags.has(TcpFlags::RST) {
            return self;
        }
        // Numbers begin anew with a SYN while the connection is opened, and with the answer to
        // one whose peer has forgotten the connection that we know.
        let is_answer = segment.flags.has(TcpFlags::SYN) && segment.flags.has(TcpFlags::ACK);
        let begins = segment.flags.has(TcpFlags::SYN) && (state.is_half_open() || is_answer);
        let newer = |known: Option<u32>, number: u32| match known {
            Some(known) if !begins && !is_ahead(number, known) => known,
            _ => number,
        };
        Self {
            next_sequence: Some(newer(self.next_sequence, segment.end())),
            acknowledged: match segment.acknowledged() {
                Some(number) => Some(newer(self.acknowledged, number)),
                None if begins => None,
                None => self.acknowledged,
            },
        }
    }

    /// What the peer of an answering side has sent next, when its answer shows that both begin
    /// anew; else what it was.
    pub fn after_answer(self, answer: &Segment) -> Self {
        let is_answer = answer.flags.has(TcpFlags::SYN) && !answer.flags.has(TcpFlags::RST);
        match (answer.acknowledged(), self.next_sequence) {
            (Some(number), Some(next)) if is_answer && !is_near(number, next) => Self {
                next_sequence: Some(number),
                acknowledged: None,
            },
            _ => self,
        }
    }
}

impl FlowState {
    /// Whether the connection has not been opened yet.
    #[must_use]
    pub const fn is_half_open(self) -> bool {
        matches!(self, Self::Opening | Self::Answered)
    }

    /// Whether the handshake is complete.
    pub(crate) const fn is_established(self) -> bool {
        matches!(self, Self::Established | Self::FinLocal | Self::FinRemote)
    }

    /// The state after a segment, by the numbers of its sender and of its peer before it.
    ///
    /// Only the initiator's acknowledgement of an answer establishes: a flood of SYNs that a pod
    /// answers must not earn long lives.
    pub(crate) fn after(self, segment: &Segment, own: Numbers, peer: Numbers) -> Self {
        let flags = segment.flags;
        if matches!(self, Self::Datagrams | Self::Closing) {
            return self;
        }
        if flags.has(TcpFlags::RST) {
            return match segment.is_plausible(own, peer) {
                true => Self::Closing,
                false => self,
            };
        }
        let is_answer = flags.has(TcpFlags::SYN) && flags.has(TcpFlags::ACK);
        let open = match self {
            Self::Opening if !segment.is_initiator && is_answer => return Self::Answered,
            Self::Opening => return Self::Opening,
            Self::Answered if !segment.is_initiator || !acknowledges(segment, peer) => {
                return Self::Answered;
            }
            Self::Answered => Self::Established,
            open => open,
        };
        if !flags.has(TcpFlags::FIN) || !segment.is_plausible(own, peer) {
            return open;
        }
        match (open, segment.sender) {
            (Self::Established | Self::FinLocal, Side::Local) => Self::FinLocal,
            (Self::Established | Self::FinRemote, Side::Remote) => Self::FinRemote,
            _ => Self::Closing,
        }
    }
}

/// Whether a segment acknowledges what its peer answered: who did not see the answer cannot.
fn acknowledges(segment: &Segment, peer: Numbers) -> bool {
    match (segment.acknowledged(), peer.next_sequence) {
        (Some(number), Some(next)) => next.wrapping_sub(number) <= HANDSHAKE_AHEAD_MAX,
        _ => false,
    }
}

/// Whether a number lies after another, and not too far.
fn is_ahead(number: u32, other: u32) -> bool {
    let distance = number.wrapping_sub(other);
    distance > 0 && distance <= WINDOW
}

pub(crate) fn is_near(number: u32, other: u32) -> bool {
    number == other || is_ahead(number, other) || is_ahead(other, number)
}

#[cfg(test)]
mod tests;
