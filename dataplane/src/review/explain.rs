//! Why a connection passes or not: what both policies say, and which rule of which document.

use super::allowed::judge;
use super::end::find_ends;
use super::{End, EndView, Reading, Traffic};
use crate::observe::{FlowPolicy, words};
use portcullis_policy::{Decision, Direction, PolicyIndex, Tables, Verdict};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Who begins: a pod, labels, an address, `reserved:NAME`.
    pub from: String,
    /// Who is meant.
    pub to: String,
    /// `80/TCP`, `8/ICMP`, a name that the destination has.
    pub port: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// `FORWARDED`, `DROPPED`, or `AUDIT` for what passes though an audited policy denies it: as
    /// `observe` would say.
    pub verdict: String,
    /// Who begins.
    pub from: EndView,
    /// Who is meant.
    pub to: EndView,
    /// `80/TCP`.
    pub traffic: String,
    /// What the policy of the source says; absent where it has none.
    pub egress: Option<Side>,
    /// What the policy of the destination says; absent where it has none.
    pub ingress: Option<Side>,
    /// What holds of both.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// What one policy says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Whether it lets the connection pass.
    pub is_allowed: bool,
    /// `allow`, `allow-unpoliced`, `allow-local-host`, `allow-default`, `deny-rule`, `deny-default`.
    pub decision: String,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<FlowPolicy>,
    /// The policies that select this end in this direction, so that what none allows is denied.
    pub selected_by: Vec<FlowPolicy>,
    /// Where no rule decided: the rules that nearly allowed it, nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub nearest: Vec<Nearest>,
    /// It in words.
    pub reason: String,
    /// What it would say if policies that are only audited were enforced, where that differs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub audit: Option<String>,
}

/// A rule that nearly allowed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nearest {
    /// The rule.
    pub rule: FlowPolicy,
    /// What of it did not match.
    pub reasons: Vec<String>,
}

/// Explains one connection.
///
/// # Errors
/// When an end or the port is not understood, or not there.
pub fn explain(reading: &Reading, question: &Question) -> Result<Explanation, String> {
    let (reading, from, to) = find_ends(reading, &question.from, &question.to)?;
    let tables = &reading.tables;
    let traffic = Traffic::parse(&question.port, &to.named_ports)?;
    let judgement = judge(tables, &from, &to, traffic);
    let side = |subject: &End, direction, peer: &End, audited| {
        let told = tables.explain(
            subject.policy?,
            direction,
            peer.identity,
            traffic.protocol,
            traffic.port,
        );
        Some(Side::of(
            tables,
            (subject.policy?, direction),
            &told,
            audited,
        ))
    };
    let note = if judgement.is_unknown {
        Some("an address among the pods that belongs to none: nothing passes".to_owned())
    } else if judgement.egress.is_none() && judgement.ingress.is_none() {
        Some("no end is a pod: this traffic never meets a policy".to_owned())
    } else {
        None
    };
    Ok(Explanation {
        verdict: judgement.verdict().into(),
        from: from.view(tables),
        to: to.view(tables),
        traffic: traffic.to_string(),
        egress: side(&from, Direction::Egress, &to, judgement.audited_egress),
        ingress: side(&to, Direction::Ingress, &from, judgement.audited_ingress),
        note,
    })
}

impl Side {
    fn of(
        tables: &Tables,
        (policy, direction): (PolicyIndex, Direction),
        told: &portcullis_policy::Explanation,
        audited: Option<Verdict>,
    ) -> Self {
        let by = FlowPolicy::behind(tables, policy, direction, told.verdict, false);
        let title = match direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        let decision = told.verdict.decision;
        let nearest = told.misses.iter().filter(|_| !decision.is_allowed());
        Self {
            is_allowed: decision.is_allowed(),
            decision: decision_key(decision).into(),
            reason: words(title, decision, &by),
            audit: audited.map(|audited| {
                let by = FlowPolicy::behind(tables, policy, direction, audited, true);
                words(title, audited.decision, &by)
            }),
            rule: told.rule.as_ref().map(FlowPolicy::of_rule),
            selected_by: told
                .isolating
                .iter()
                .map(|origin| FlowPolicy::of(origin, None))
                .collect(),
            nearest: nearest
                .map(|miss| Nearest {
                    rule: FlowPolicy::of_rule(&miss.rule),
                    reasons: miss.reasons.clone(),
                })
                .collect(),
        }
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

impl Explanation {
    /// Whether the connection passes.
    #[must_use]
    pub fn is_forwarded(&self) -> bool {
        self.verdict != "DROPPED"
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "{}  {} -> {}  {}\n",
            self.verdict, self.from.name, self.to.name, self.traffic
        );
        for (title, end, side) in [
            ("egress", &self.from, &self.egress),
            ("ingress", &self.to, &self.ingress),
        ] {
            match side {
                Some(side) => side.write(&mut out, end),
                None => {
                    let _ = writeln!(out, "  {}: {title} is not policed here", end.name);
                }
            }
        }
        if let Some(note) = &self.note {
            let _ = writeln!(out, "  {note}");
        }
        for end in [&self.from, &self.to] {
            let _ = writeln!(
                out,
                "  {}: identity {}, {}",
                end.name,
                end.identity,
                end.labels.join(" ")
            );
        }
        out
    }
}

impl Side {
    fn write(&self, out: &mut String, end: &EndView) {
        let _ = writeln!(out, "  {}: {}", end.name, self.reason);
        for nearest in &self.nearest {
            let (rule, reasons) = (nearest.rule.text(), nearest.reasons.join("; "));
            let _ = writeln!(out, "    nearly allowed by {rule}: {reasons}");
        }
        if let Some(audit) = &self.audit {
            let _ = writeln!(out, "    if audited policies were enforced: {audit}");
        }
        if let Some(rule) = &self.rule {
            let _ = writeln!(out, "    in {}", rule.file);
        }
    }
}
