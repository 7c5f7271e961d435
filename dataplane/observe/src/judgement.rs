//! What policy said of a record: which policy was asked, about whom, and whether its word counted.

use super::event::Event;
use portcullis_engine::{EndpointId, RecordKind};
use portcullis_policy::{Direction, Identity, Protocol, Verdict};

/// One policy's word about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The half of the policy that was asked.
    pub direction: Direction,
    /// Whose policy it is.
    pub subject: Option<EndpointId>,
    /// The other end.
    pub peer: Identity,
    /// What it said.
    pub verdict: Verdict,
    /// Whether the packet passed all the same: the policy that denies is only audited.
    pub is_audited: bool,
    /// What the connection is, in the direction in which it began.
    pub traffic: Option<(Protocol, u16)>,
}

impl Judgement {
    /// Whether it is why the packet ended.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        !self.verdict.decision.is_allowed() && !self.is_audited
    }

    /// `ingress` or `egress`.
    #[must_use]
    pub fn side(&self) -> &'static str {
        match self.direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }

    /// What was said of a record: first at its source, then at its destination.
    pub fn all(event: &Event) -> impl Iterator<Item = Self> + use<> {
        let record = &event.record;
        let has_passed = record.kind == RecordKind::Flow;
        // A reply is judged as what it answers: in the direction of the side that began.
        let is_reply = record.is_reply == Some(true);
        let (at_source, at_destination, port) = if is_reply {
            (Direction::Ingress, Direction::Egress, record.ports.0)
        } else {
            (Direction::Egress, Direction::Ingress, record.ports.1)
        };
        let of = |direction, subject, peer, verdict: Option<Verdict>, is_passed: bool| {
            verdict.map(|verdict| Self {
                direction,
                subject,
                peer,
                verdict,
                is_audited: is_passed && !verdict.decision.is_allowed(),
                traffic: record.protocol.map(|protocol| (protocol, port)),
            })
        };
        [
            of(
                at_source,
                record.from,
                record.destination_identity,
                record.egress,
                // The destination is asked of what the source let pass.
                has_passed || record.ingress.is_some(),
            ),
            of(
                at_destination,
                record.to,
                record.source_identity,
                record.ingress,
                has_passed,
            ),
        ]
        .into_iter()
        .flatten()
    }
}
