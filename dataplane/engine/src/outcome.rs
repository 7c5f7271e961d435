//! What becomes of a frame: each half of the walk ends in one outcome.

use crate::{
    Datagram, Drop, EndpointId, EndpointIndex, FlowTicket, HoldSlot, MacAddress, SessionTicket,
};
use portcullis_policy::{Generation, Identity, Verdict};

/// Nanoseconds of a clock that never runs backwards. Enters at the top of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Now(pub u64);

/// What the egress half knows that the ingress half needs. Travels beside the frame to the
/// destination's worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handover {
    /// Where the frame came in.
    pub from: EndpointIndex,
    /// Where it is to go out.
    pub to: EndpointIndex,
    /// The name of the endpoint at `from`: an index is used again, a name is not.
    pub from_id: EndpointId,
    /// The name of the endpoint at `to`.
    pub to_id: EndpointId,
    /// The snapshot that `source` was read from.
    pub generation: Generation,
    /// Who sent it.
    pub source: Identity,
    /// What egress policy said, when this packet began a flow or changed its verdict.
    pub egress: Option<Verdict>,
    /// The next hop's MAC address, when `to` is the uplink.
    pub next_hop: Option<MacAddress>,
    /// The largest TCP payload that the receiver takes, as it told the source; zero when unknown.
    pub payload_max: u16,
    /// The entry of this flow at the source's worker.
    pub flow: Option<FlowTicket>,
    /// The translation at the source that goes when the packet gets no further.
    pub session: Option<SessionTicket>,
    /// Whether this very packet opened that entry, or where there is none that translation.
    pub is_opening: bool,
    /// Whether it belongs to a flow that the other side began: it is never given another source.
    pub is_reply: bool,
    /// Whether who began it came in under another address than the pod's: its answers leave as
    /// they came, or not at all.
    pub is_translated: bool,
    /// Whether the packet is ours, made here about a flow: nobody's policy is asked.
    pub is_own: bool,
    /// What the first fragment said, for one of the others.
    pub datagram: Option<Datagram>,
}

// It travels between workers beside a 16-byte descriptor, in less than two cache lines: what the
// first fragment said is in it, so that the destination's worker needs no memory of fragments.
const _: () = assert!(size_of::<Handover>() <= 96);

impl Handover {
    /// Whether `Engine::withdraw` must be called on the source's worker after this outcome of the
    /// ingress half: it denied the flow, or dropped the packet that opened it.
    #[must_use]
    pub fn must_be_withdrawn(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Drop(reason) => self.has_memory() && (self.is_opening || reason.is_denial()),
            Outcome::Return { .. } => self.has_memory() && self.is_opening,
            _ => false,
        }
    }

    /// Whether the source's worker keeps anything that this packet began or belongs to.
    const fn has_memory(&self) -> bool {
        self.flow.is_some() || self.session.is_some()
    }
}

/// What has become of the transport checksum of a frame that goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// It goes out as it came in, or as the packet was made here.
    Untouched,
    /// It was partial, and was finished here.
    Finished,
    /// It is partial: whoever sends the frame finishes it, or tells the receiver. Only with
    /// `EngineSettings::offload_checksums`.
    Partial {
        /// The checksum covers all bytes from here, counted from the start of the frame.
        start: u16,
        /// Where it is, counted from `start`; within the head.
        offset: u16,
    },
}

/// What the daemon has to do with a frame now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Run the ingress half at `Handover::to`, on the worker that owns it.
    HandOver(Handover),
    /// Send the frame out as it now is, all its pieces, but for what is left of its checksum.
    Transmit(EndpointIndex, Checksum),
    /// Send it out cut up: `segment` makes each packet, `segments` counts them.
    TransmitSegmented {
        /// The way out.
        to: EndpointIndex,
        /// Bytes of TCP payload in each but the last.
        payload_max: u16,
    },
    /// The head was rewritten into an answer of `length` bytes (ARP, neighbour discovery, ICMP
    /// error): send only those out, and free the tail. `reason` counts the packet that was
    /// dropped, where the answer is an error. Only the egress half answers, always where the
    /// frame came in.
    Answer {
        /// The way out.
        to: EndpointIndex,
        /// Bytes of the answer, from the start of the head.
        length: u16,
        /// Why the packet itself ended, for an ICMP error.
        reason: Option<Drop>,
    },
    /// The head was rewritten into an answer to who sent the packet: send only `length` bytes of it
    /// to the ingress half that `handover` names. `reason` counts the packet, which was dropped.
    /// Only the ingress half at the uplink returns.
    Return {
        /// The way back.
        handover: Handover,
        /// Bytes of the answer, from the start of the head.
        length: u16,
        /// Why the packet itself ended.
        reason: Drop,
    },
    /// Keep the frame, until `Engine::take_released` names its slot. Only the egress half lets
    /// frames wait.
    Hold(HoldSlot),
    /// The frame ends here.
    Drop(Drop),
}
