//! The documents behind a verdict, and the verdict in words.

use super::judgement::Judgement;
use super::names::Names;
use portcullis_policy::{
    Decision, Direction, DocumentOrigin, PolicyIndex, RuleOrigin, Tables, Verdict,
};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// A document, and the rule in it, where one rule decided.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowPolicy {
    /// `CiliumNetworkPolicy` and so on.
    pub kind: String,
    /// Namespace of the document.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub namespace: String,
    /// Name of the document.
    pub name: String,
    /// The rule in it, `ingress[0]`; absent where the document decided as a whole.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<String>,
    /// File and number of the document.
    pub file: String,
}

impl FlowPolicy {
    /// A document, or a place in it.
    #[must_use]
    pub fn of(origin: &DocumentOrigin, rule: Option<String>) -> Self {
        Self {
            kind: origin.kind.into(),
            namespace: origin.namespace.clone().unwrap_or_default(),
            name: origin.name.clone(),
            rule,
            file: format!("{}, document {}", origin.file, origin.document),
        }
    }

    /// A rule.
    #[must_use]
    pub fn of_rule(rule: &RuleOrigin) -> Self {
        let spec = rule
            .spec
            .map(|spec| format!("specs[{spec}]."))
            .unwrap_or_default();
        let place = format!("{spec}{}[{}]", rule.section, rule.index);
        Self::of(&rule.document, Some(place))
    }

    /// The rule that decided; else every policy that isolates the subject, or would if it were
    /// enforced: `is_audited` tells which is meant.
    #[must_use]
    pub fn behind(
        tables: &Tables,
        subject: PolicyIndex,
        direction: Direction,
        verdict: Verdict,
        is_audited: bool,
    ) -> Vec<Self> {
        if let Some(rule) = verdict.rule {
            return tables.rule(rule).map(Self::of_rule).into_iter().collect();
        }
        match verdict.decision {
            Decision::DenyDefault if is_audited => tables
                .isolating_audited(subject, direction)
                .map(|origin| Self::of(origin, None))
                .collect(),
            Decision::DenyDefault | Decision::AllowDefault => tables
                .isolating(subject, direction)
                .map(|origin| Self::of(origin, None))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The same of a record, whose names may be gone.
    pub(super) fn behind_named(
        names: &Names,
        verdict: Verdict,
        subject: Option<PolicyIndex>,
        direction: Direction,
        is_audited: bool,
    ) -> Vec<Self> {
        let (Some(tables), Some(subject)) = (&names.tables, subject) else {
            return Vec::new();
        };
        Self::behind(tables, subject, direction, verdict, is_audited)
    }

    /// What is behind one policy's word about a record; nothing when its names are gone.
    #[must_use]
    pub fn of_judgement(names: &Names, judgement: &Judgement) -> Vec<Self> {
        let subject = judgement
            .subject
            .and_then(|subject| names.policy_of(subject));
        Self::behind_named(
            names,
            judgement.verdict,
            subject,
            judgement.direction,
            judgement.is_audited,
        )
    }

    /// `backend/allow-frontend ingress[0]`: what tells it from others of its kind.
    #[must_use]
    pub fn place(&self) -> String {
        let text = self.text();
        match text.split_once(' ') {
            Some((_, place)) => place.to_owned(),
            None => text,
        }
    }

    /// `CiliumNetworkPolicy backend/allow-frontend ingress[0]`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{} ", self.kind);
        if !self.namespace.is_empty() {
            let _ = write!(text, "{}/", self.namespace);
        }
        text.push_str(&self.name);
        if let Some(rule) = &self.rule {
            let _ = write!(text, " {rule}");
        }
        text
    }
}

/// A decision in words: `ingress denied by …`.
#[must_use]
pub fn words(direction: &str, decision: Decision, by: &[FlowPolicy]) -> String {
    let list = by.iter().map(FlowPolicy::text).collect::<Vec<_>>();
    let list = list.join(", ");
    match decision {
        Decision::Allow => format!("{direction} allowed by {list}"),
        Decision::AllowUnpoliced => format!("{direction}: no policy selects it"),
        Decision::AllowLocalHost => format!("{direction} allowed for the local host"),
        Decision::AllowDefault => format!("{direction}: default deny is off in {list}"),
        Decision::DenyRule => format!("{direction} denied by {list}"),
        Decision::DenyDefault if by.is_empty() => {
            format!("{direction} default deny by enforcement mode always")
        }
        Decision::DenyDefault => format!("{direction} default deny by {list}"),
        Decision::Authenticate(_) => {
            format!("{direction} denied: {list} asks for authentication, which nobody gave")
        }
        Decision::Redirect(..) => {
            format!("{direction} denied: {list} asks for a look above L4, which is not there yet")
        }
        Decision::Conflict => format!("{direction} denied: rules conflict, see {list}"),
    }
}
