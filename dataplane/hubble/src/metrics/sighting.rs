//! The events that Hubble would tell of one of our records: its metrics count events, not records.

use portcullis_engine::{Record, RecordKind};
use portcullis_observe::{DropReason, Names};
use portcullis_policy::{Decision, Direction, Identity, Verdict};

/// One event of Hubble's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sighting {
    /// What was seen.
    pub sight: Sight,
    /// What became of the packet there.
    pub fate: Fate,
    /// The direction of `flow.traffic_direction`, where one is known.
    pub direction: Option<Direction>,
}

/// Kinds of events, and what only they tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Policy was asked of a new connection.
    Verdict(Direction, Decision),
    /// A packet went where this says.
    Trace(&'static str),
    /// A packet ended.
    Drop,
}

/// The verdict of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It went on.
    Forwarded,
    /// It ended here.
    Dropped(DropReason),
    /// It went on though an audited policy denies it.
    Audited,
}

impl Fate {
    /// The name of `flow.Verdict`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "FORWARDED",
            Self::Dropped(_) => "DROPPED",
            Self::Audited => "AUDIT",
        }
    }
}

/// The events of a record, in the order in which Cilium tells them: a verdict for each side that was
/// asked, then the packet's way or end. A denial is thus told twice, and counted twice, as there.
pub(super) fn sightings(record: &Record, names: &Names) -> impl Iterator<Item = Sighting> {
    let verdict = |direction, verdict: Option<Verdict>, fate_of: &dyn Fn(Decision) -> Fate| {
        let decision = verdict?.decision;
        Some(Sighting {
            sight: Sight::Verdict(direction, decision),
            fate: fate_of(decision),
            direction: Some(direction),
        })
    };
    let passed = |decision: Decision| match decision.is_allowed() {
        true => Fate::Forwarded,
        false => Fate::Audited,
    };
    let all = match record.kind {
        RecordKind::Flow => [
            verdict(Direction::Egress, record.egress, &passed),
            verdict(Direction::Ingress, record.ingress, &passed),
            Some(trace(record, names)),
        ],
        RecordKind::Update | RecordKind::End(_) => [None, None, Some(trace(record, names))],
        RecordKind::Drop(drop) | RecordKind::Revoked(drop) => {
            let reason = DropReason::of(drop);
            let fate = |decision: Decision| match decision.is_allowed() {
                true => Fate::Forwarded,
                false => Fate::Dropped(reason),
            };
            // Ingress is asked only of what egress let pass, if only because it is audited.
            let egress: &dyn Fn(Decision) -> Fate = match record.ingress {
                Some(_) => &passed,
                None => &fate,
            };
            let end = Sighting {
                sight: Sight::Drop,
                fate: Fate::Dropped(reason),
                direction: direction(record, names),
            };
            // What fails for another reason may be any packet of a connection: policy was not asked
            // of it anew.
            match drop.is_denial() {
                true => [
                    verdict(Direction::Egress, record.egress, egress),
                    verdict(Direction::Ingress, record.ingress, &fate),
                    Some(end),
                ],
                false => [None, None, Some(end)],
            }
        }
    };
    all.into_iter().flatten()
}

/// The direction in which a packet ended, for the pod that is nearest.
pub(super) fn direction(record: &Record, names: &Names) -> Option<Direction> {
    let is_pod = |endpoint| names.endpoints.contains_key(&endpoint);
    if record.ingress.is_some() {
        Some(Direction::Ingress)
    } else if record.egress.is_some() || record.from.is_some_and(is_pod) {
        Some(Direction::Egress)
    } else if record.to.is_some_and(is_pod) {
        Some(Direction::Ingress)
    } else {
        None
    }
}

fn trace(record: &Record, names: &Names) -> Sighting {
    let is_pod = |endpoint| names.endpoints.contains_key(&endpoint);
    let (point, direction) = if record.to.is_some_and(is_pod) {
        ("to-endpoint", Direction::Ingress)
    } else if record.destination_identity == Identity::HOST {
        ("to-host", Direction::Egress)
    } else {
        ("to-network", Direction::Egress)
    };
    let is_audited = [record.egress, record.ingress]
        .into_iter()
        .flatten()
        .any(|verdict| !verdict.decision.is_allowed());
    Sighting {
        sight: Sight::Trace(point),
        fate: match is_audited {
            true => Fate::Audited,
            false => Fate::Forwarded,
        },
        direction: Some(direction),
    }
}
