//! What may pass from one end to another, ports collapsed into spans.

use super::End;
use super::traffic::{PROTOCOLS, Traffic};
use crate::observe::{FlowPolicy, words};
use portcullis_policy::{
    Direction, Document, Identity, PolicyIndex, Ports, Protocol, Tables, Verdict,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// What both policies say of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The policy of the source; None where it has none.
    pub egress: Option<Verdict>,
    /// The policy of the destination; None where it has none.
    pub ingress: Option<Verdict>,
    /// What they would say if policies that are only audited were enforced, where it differs.
    pub audited_egress: Option<Verdict>,
    /// The same of the destination.
    pub audited_ingress: Option<Verdict>,
    /// Whether nobody knows who one of the ends is.
    pub is_unknown: bool,
}

impl Judgement {
    /// Whether it passes.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        let mut verdicts = self.egress.iter().chain(&self.ingress);
        !self.is_unknown && verdicts.all(|verdict| verdict.decision.is_allowed())
    }

    /// Whether it passes only because a policy that denies it is audited, not enforced.
    #[must_use]
    pub fn is_audited(&self) -> bool {
        let mut audited = self.audited_egress.iter().chain(&self.audited_ingress);
        self.is_allowed() && audited.any(|verdict| !verdict.decision.is_allowed())
    }

    /// As `observe` would say it.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match (self.is_allowed(), self.is_audited()) {
            (true, true) => "AUDIT",
            (true, false) => "FORWARDED",
            (false, _) => "DROPPED",
        }
    }

    /// Forgets what a policy said that is not to count.
    pub fn keep(&mut self, egress: bool, ingress: bool) {
        if !egress {
            (self.egress, self.audited_egress) = (None, None);
        }
        if !ingress {
            (self.ingress, self.audited_ingress) = (None, None);
        }
    }

    /// What decides, in words: of a denial only what denies.
    #[must_use]
    pub fn words(&self, tables: &Tables, from: &End, to: &End) -> String {
        if self.is_unknown {
            return "an address that is nobody's".into();
        }
        let is_allowed = self.is_allowed();
        let side = |title, policy: Option<PolicyIndex>, verdict: Option<Verdict>, direction| {
            let (policy, verdict) = (policy?, verdict?);
            let by = FlowPolicy::behind(tables, policy, direction, verdict, false);
            (verdict.decision.is_allowed() == is_allowed)
                .then(|| words(title, verdict.decision, &by))
        };
        let sides = [
            side("egress", from.policy, self.egress, Direction::Egress),
            side("ingress", to.policy, self.ingress, Direction::Ingress),
        ];
        sides.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// Asks both policies, as the packet path would.
#[must_use]
pub fn judge(tables: &Tables, from: &End, to: &End, traffic: Traffic) -> Judgement {
    let ask = |subject: &End, direction, peer: &End| {
        let policy = subject.policy?;
        Some(tables.judge(
            policy,
            direction,
            peer.identity,
            traffic.protocol,
            traffic.port,
        ))
    };
    let audit = |subject: &End, direction, peer: &End| {
        tables.judge_audit(
            subject.policy?,
            direction,
            peer.identity,
            traffic.protocol,
            traffic.port,
        )
    };
    Judgement {
        audited_egress: audit(from, Direction::Egress, to),
        audited_ingress: audit(to, Direction::Ingress, from),
        egress: ask(from, Direction::Egress, to),
        ingress: ask(to, Direction::Ingress, from),
        is_unknown: from.identity == Identity::UNKNOWN || to.identity == Identity::UNKNOWN,
    }
}

/// Ports of one protocol, both ends included; for ICMP types.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortSpan {
    /// `TCP`, `UDP`, `SCTP`, `ICMP`, `ICMPv6`.
    pub protocol: String,
    /// The first port.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

/// What may pass: spans by protocol, in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Allowed(pub Vec<PortSpan>);

/// The ports at which any verdict of these documents can change, in order, beginning with 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundaries(Vec<u16>);

impl Boundaries {
    /// Those of some documents.
    #[must_use]
    pub fn of(documents: &[Arc<Document>]) -> Self {
        let mut starts = BTreeSet::from([0]);
        let mut mark = |first: u16, last: u16| {
            starts.insert(first);
            starts.extend(last.checked_add(1));
        };
        for document in documents {
            if let portcullis_policy::Object::Pod(pod) = &document.object {
                pod.named_ports
                    .iter()
                    .for_each(|named| mark(named.port, named.port));
            }
            let rules = document.object.policy().map(|policy| &policy.rules);
            let halves = rules
                .into_iter()
                .flatten()
                .flat_map(|rule| rule.ingress.iter().chain(&rule.egress));
            for item in halves.flat_map(|half| &half.items) {
                if let portcullis_policy::Traffic::Of(matches) = &item.traffic {
                    for one in matches {
                        if let Ports::Range(first, last) = one.ports {
                            mark(first, last);
                        }
                    }
                }
            }
        }
        Self(starts.into_iter().collect())
    }

    /// Those of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let all: BTreeSet<u16> = self.0.iter().chain(&other.0).copied().collect();
        Self(all.into_iter().collect())
    }

    /// The spans between boundaries, ICMP types up to 255.
    pub fn spans(&self, protocol: Protocol) -> impl Iterator<Item = (u16, u16)> + '_ {
        let end = match protocol {
            Protocol::Icmp | Protocol::Icmpv6 => 255,
            _ => u16::MAX,
        };
        let starts = self.0.iter().copied().filter(move |start| *start <= end);
        let next = self.0.iter().copied().skip(1).map(Some).chain([None]);
        starts.zip(next).map(move |(first, next)| {
            let last = next.map_or(end, |next| next - 1);
            (first, last.min(end))
        })
    }
}

impl Allowed {
    /// What may pass between two ends.
    #[must_use]
    pub fn between(tables: &Tables, from: &End, to: &End, boundaries: &Boundaries) -> Self {
        let mut allowed = Self::default();
        for (protocol, name) in PROTOCOLS {
            for (first, last) in boundaries.spans(protocol) {
                let traffic = Traffic {
                    protocol,
                    port: first,
                };
                if judge(tables, from, to, traffic).is_allowed() {
                    push(&mut allowed.0, name, first, last);
                }
            }
        }
        allowed
    }

    /// Whether nothing may pass.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether everything may.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        let mut spans = self.0.iter();
        PROTOCOLS.iter().all(|(protocol, name)| {
            let whole = Boundaries(vec![0]).spans(*protocol).next();
            spans.next().is_some_and(|span| {
                span.protocol == *name && Some((span.first, span.last)) == whole
            })
        })
    }
}

/// Adds a span, or makes the last one longer where it goes on.
pub(super) fn push(spans: &mut Vec<PortSpan>, protocol: &str, first: u16, last: u16) {
    if let Some(before) = spans.last_mut()
        && before.protocol == protocol
        && before.last.checked_add(1) == Some(first)
    {
        before.last = last;
        return;
    }
    spans.push(PortSpan {
        protocol: protocol.to_owned(),
        first,
        last,
    });
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_nothing() {
            return f.write_str("nothing");
        }
        if self.is_everything() {
            return f.write_str("everything");
        }
        let mut before = "";
        for span in &self.0 {
            match (before.is_empty(), before == span.protocol) {
                (true, _) => write!(f, "{} {}", span.protocol, span.ports())?,
                (false, true) => write!(f, ", {}", span.ports())?,
                (false, false) => write!(f, "; {} {}", span.protocol, span.ports())?,
            }
            before = &span.protocol;
        }
        Ok(())
    }
}

impl PortSpan {
    /// `80`, `8000-8999`, `all`.
    #[must_use]
    pub fn ports(&self) -> String {
        let is_icmp = self.protocol.starts_with("ICMP");
        match (self.first, self.last) {
            (0, u16::MAX) => "all".into(),
            (0, 255) if is_icmp => "all".into(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        }
    }
}
