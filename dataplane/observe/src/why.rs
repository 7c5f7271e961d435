//! Why a record is what it is: the policies that were asked, and the rules that nearly allowed it.

use super::event::Event;
use super::flow_policy::{FlowPolicy, words};
use super::judgement::Judgement;
use super::names::Names;
use portcullis_engine::{Drop, RecordKind};
use portcullis_policy::Decision;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// The explanation of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// `FORWARDED`, `DROPPED`, or `AUDIT` for what passed though an audited policy denies it.
    pub verdict: String,
    /// Key of the drop reason.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drop_reason: Option<String>,
    /// Whether it was allowed once and new policy forbade it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub revoked: bool,
    /// What decided, in one line.
    pub text: String,
    /// The policies that were asked, in the order in which they were.
    pub sides: Vec<WhySide>,
    /// The generation of policy that judged.
    pub generation: u64,
}

/// What one policy said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhySide {
    /// `egress` of the source or `ingress` of the destination.
    pub direction: String,
    /// Whose policy it is, `namespace/name`; empty when the pod is not known any more.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub subject: String,
    /// Whether it allows.
    pub is_allowed: bool,
    /// Whether it denies and was passed all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_audited: bool,
    /// `allow`, `allow-unpoliced`, `allow-local-host`, `allow-default`, `deny-rule`, `deny-default`,
    /// `authenticate`, `redirect`, `conflict`.
    pub decision: String,
    /// The rule that decided, where one did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<FlowPolicy>,
    /// The policies that select the subject in this direction, so that what none allows is denied.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub selected_by: Vec<FlowPolicy>,
    /// Where nothing allowed it: the rules that nearly did, nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub nearest: Vec<NearMiss>,
    /// It in words.
    pub reason: String,
}

/// A rule that nearly allowed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearMiss {
    /// The rule.
    pub rule: FlowPolicy,
    /// What of it did not match: `source lacks label app=frontend`.
    pub reasons: Vec<String>,
}

impl Why {
    /// Explains a record with the policy that judged it. For people: it looks at every rule.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        let (drop, revoked) = match event.record.kind {
            RecordKind::Drop(reason) => (Some(reason), false),
            RecordKind::Revoked(reason) => (Some(reason), true),
            RecordKind::Flow | RecordKind::Update | RecordKind::End(_) => (None, false),
        };
        let asked: Vec<Judgement> = Judgement::all(event).collect();
        let sides: Vec<WhySide> = asked
            .iter()
            .map(|judgement| WhySide::of(&event.names, judgement))
            .collect();
        let verdict = match drop {
            Some(_) => "DROPPED",
            None if asked.iter().any(|judgement| judgement.is_audited) => "AUDIT",
            None => "FORWARDED",
        };
        let decisive: Vec<&WhySide> = asked
            .iter()
            .zip(&sides)
            .filter(|(judgement, _)| drop.is_none() || judgement.is_denial())
            .map(|(_, side)| side)
            .collect();
        Self {
            verdict: verdict.into(),
            drop_reason: drop.map(|reason| reason.key().to_owned()),
            revoked,
            text: text(drop, revoked, &decisive),
            sides,
            generation: event.record.generation.0,
        }
    }

    /// For people, on several lines.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut out = String::new();
        let reason = self.drop_reason.as_deref();
        let _ = writeln!(
            out,
            "{}{}: {}",
            self.verdict,
            reason.map(|key| format!(" [{key}]")).unwrap_or_default(),
            self.text
        );
        for side in &self.sides {
            let subject = if side.subject.is_empty() {
                &side.direction
            } else {
                &side.subject
            };
            let _ = writeln!(out, "  {subject}: {}", side.reason);
            for miss in &side.nearest {
                let (rule, reasons) = (miss.rule.text(), miss.reasons.join("; "));
                let _ = writeln!(out, "    nearly allowed by {rule}: {reasons}");
            }
            for policy in side.rule.iter().chain(&side.selected_by) {
                let _ = writeln!(out, "    {} is in {}", policy.text(), policy.file);
            }
        }
        out
    }
}

impl WhySide {
    fn of(names: &Names, judgement: &Judgement) -> Self {
        let decision = judgement.verdict.decision;
        let subject = judgement.subject;
        let by = FlowPolicy::of_judgement(names, judgement);
        let mut reason = words(judgement.side(), decision, &by);
        if judgement.is_audited {
            reason.push_str(" (only audited)");
        }
        Self {
            direction: judgement.side().into(),
            subject: subject
                .and_then(|subject| names.endpoints.get(&subject))
                .map(|(namespace, name, _)| format!("{namespace}/{name}"))
                .unwrap_or_default(),
            is_allowed: decision.is_allowed(),
            is_audited: judgement.is_audited,
            decision: decision_key(decision).into(),
            nearest: nearest(names, judgement),
            rule: judgement.verdict.rule.and_then(|_| by.first().cloned()),
            selected_by: if judgement.verdict.rule.is_some() {
                Vec::new()
            } else {
                by
            },
            reason,
        }
    }

    /// `default deny: none of 2 policies allows it; nearest is …: …`.
    fn short(&self) -> String {
        let mut out = match (&self.rule, self.decision.as_str()) {
            (None, "deny-default") if self.selected_by.is_empty() => {
                "default deny by enforcement mode always".to_owned()
            }
            (None, "deny-default") => match self.selected_by.as_slice() {
                [one] => format!("default deny: {} does not allow it", one.place()),
                all => format!("default deny: none of {} policies allows it", all.len()),
            },
            _ => self.reason.clone(),
        };
        if let Some(miss) = self.nearest.first() {
            let _ = write!(
                out,
                "; nearest is {}: {}",
                miss.rule.place(),
                miss.reasons.join(", ")
            );
        }
        if self.is_audited && self.rule.is_none() && self.decision == "deny-default" {
            out.push_str(" (only audited)");
        }
        out
    }
}

/// Why nothing allowed it. What is only audited is in other tables than `explain` asks.
fn nearest(names: &Names, judgement: &Judgement) -> Vec<NearMiss> {
    let (Some(tables), Some(subject), Some((protocol, port))) =
        (&names.tables, judgement.subject, judgement.traffic)
    else {
        return Vec::new();
    };
    let Some(policy) = names.policy_of(subject) else {
        return Vec::new();
    };
    if judgement.verdict.decision != Decision::DenyDefault {
        return Vec::new();
    }
    let told = tables.explain(policy, judgement.direction, judgement.peer, protocol, port);
    let misses = told.misses.iter().filter(|miss| !miss.reasons.is_empty());
    misses
        .map(|miss| NearMiss {
            rule: FlowPolicy::of_rule(&miss.rule),
            reasons: miss.reasons.clone(),
        })
        .collect()
}

fn text(drop: Option<Drop>, revoked: bool, decisive: &[&WhySide]) -> String {
    let mut parts: Vec<String> = Vec::new();
    if revoked {
        parts.push("cut by new policy".into());
    }
    match drop {
        Some(reason) if decisive.is_empty() => {
            parts.push(reason.sentence().trim_end_matches('.').to_owned());
        }
        Some(_) => parts.extend(
            decisive
                .iter()
                .map(|side| format!("{} {}", side.direction, strip(side, side.short()))),
        ),
        None => parts.extend(decisive.iter().map(|side| side.reason.clone())),
    }
    parts.join("; ")
}

/// The words of a decision begin with their direction already.
fn strip(side: &WhySide, text: String) -> String {
    match text.strip_prefix(&side.direction) {
        Some(rest) => rest.trim_start_matches(':').trim_start().to_owned(),
        None => text,
    }
}

/// The name of a decision in JSON.
const fn decision_key(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::AllowUnpoliced => "allow-unpoliced",
        Decision::AllowLocalHost => "allow-local-host",
        Decision::AllowDefault => "allow-default",
        Decision::DenyRule => "deny-rule",
        Decision::DenyDefault => "deny-default",
        Decision::Authenticate(_) => "authenticate",
        Decision::Redirect(..) => "redirect",
        Decision::Conflict => "conflict",
    }
}
