//! One entry of a worker's flow table with its names: half of a flow between pods.

use super::{ListFilter, Traffic, milliseconds};
use crate::observe::{FlowEnd, FlowPolicy, Names, protocol_name, words};
use portcullis_engine::{FlowState, FlowView, Now, Side};
use portcullis_policy::{Decision, Direction, Verdict};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// An entry, turned so that the source is who began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEntry {
    /// Whether the source keeps it; else the destination does.
    pub is_of_source: bool,
    /// `TCP` and so on.
    pub protocol: String,
    /// The source's address and port; of an echo its identifier.
    pub from: (IpAddr, u16),
    /// The destination's address and port; of an echo zero.
    pub to: (IpAddr, u16),
    /// Who the source is.
    pub source: FlowEnd,
    /// Who the destination is.
    pub destination: FlowEnd,
    /// How far it has come.
    pub state: String,
    /// Since it began.
    pub age_ms: u64,
    /// Since its last packet.
    pub idle_ms: u64,
    /// Until it is forgotten.
    pub time_left_ms: u64,
    /// From source to destination.
    pub forward: Traffic,
    /// Back.
    pub reply: Traffic,
    /// What allowed it at the end that keeps the entry: egress of the source, ingress of the
    /// destination.
    pub allowed_by: Vec<FlowPolicy>,
    /// The same in words.
    pub reason: String,
    /// The generation of policy that judged it last.
    pub generation: u64,
}

impl FlowEntry {
    /// Names an entry with the names of its generation.
    #[must_use]
    pub fn read(view: &FlowView, names: &Names, now: Now) -> Self {
        let is_of_source = view.initiator == Side::Local;
        let traffic = |(packets, bytes): (u32, u64)| Traffic {
            packets: packets.into(),
            bytes,
        };
        let (sent, received) = (traffic(view.sent), traffic(view.received));
        let (from, to, forward, reply) = if is_of_source {
            (view.local, view.remote, sent, received)
        } else {
            (view.remote, view.local, received, sent)
        };
        let (allowed_by, reason) = allowed(view, names, is_of_source);
        Self {
            is_of_source,
            protocol: protocol_name(view.protocol),
            from,
            to,
            source: names.end_at(from.0),
            destination: names.end_at(to.0),
            state: state_name(view.state).into(),
            age_ms: milliseconds(now, view.opened),
            idle_ms: milliseconds(now, view.seen),
            time_left_ms: u64::try_from(view.time_left.as_millis()).unwrap_or(u64::MAX),
            forward,
            reply,
            allowed_by,
            reason,
            generation: view.generation.0,
        }
    }

    /// Whether a reader wants it.
    #[must_use]
    pub fn is_wanted(&self, filter: &ListFilter) -> bool {
        filter.matches(&self.protocol, [&self.source, &self.destination])
    }
}

/// The rule at the end that keeps the entry; without one, why none was needed.
fn allowed(view: &FlowView, names: &Names, is_of_source: bool) -> (Vec<FlowPolicy>, String) {
    let (direction, side) = match is_of_source {
        true => (Direction::Egress, "egress"),
        false => (Direction::Ingress, "ingress"),
    };
    let subject = names.policy_of(view.endpoint);
    let (Some(tables), Some(subject)) = (names.tables.as_deref(), subject) else {
        return (Vec::new(), format!("{side}: its names are gone"));
    };
    if view.rule.is_some() {
        let verdict = Verdict {
            decision: Decision::Allow,
            rule: view.rule,
        };
        let by = FlowPolicy::behind(tables, subject, direction, verdict, false);
        let reason = words(side, Decision::Allow, &by);
        return (by, reason);
    }
    let reason = match tables.isolating(subject, direction).next() {
        None => words(side, Decision::AllowUnpoliced, &[]),
        Some(_) => format!("{side} passes without a rule"),
    };
    (Vec::new(), reason)
}

fn state_name(state: FlowState) -> &'static str {
    match state {
        FlowState::Datagrams => "datagrams",
        FlowState::Opening => "opening",
        FlowState::Answered => "answered",
        FlowState::Established => "established",
        FlowState::FinLocal | FlowState::FinRemote => "half_closed",
        FlowState::Closing => "closing",
    }
}
