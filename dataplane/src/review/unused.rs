//! What could go: rules that nothing was decided by, policies that select nobody, rules that others
//! always forestall.

use super::allowed::Boundaries;
use super::traffic::PROTOCOLS;
use super::{End, Reading};
use crate::observe::FlowPolicy;
use crate::status::RuleStatus;
use jiff::Timestamp;
use portcullis_policy::{Direction, Identity, Label, LabelSource, PolicyIndex, RuleId, Tables};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Verdicts that are looked up at most, to find what can never decide.
const LOOKUPS_MAX: usize = 50_000_000;

/// What could go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Unused {
    /// Rules that decided nothing for as long as was asked, or since they are in force.
    pub rules: Vec<RuleStatus>,
    /// How many rules are in force for less long than was asked, so that nothing can be said.
    pub young_rules: usize,
    /// Policies that select no pod.
    pub policies_without_pods: Vec<FlowPolicy>,
    /// Rules that can decide nothing between the ends that there are now: others forestall them, or
    /// they mean nobody.
    pub shadowed: Vec<FlowPolicy>,
    /// Whether there are too many ends and rules to look for shadowed ones.
    pub is_shadow_unknown: bool,
}

/// Finds what could go. `span` is for how many seconds a rule must have been idle; without it, for
/// as long as it is in force.
#[must_use]
pub fn unused(
    reading: &Reading,
    rules: Vec<RuleStatus>,
    span: Option<u64>,
    now: Timestamp,
) -> Unused {
    let is_within = |time: Timestamp| {
        span.is_some_and(|span| {
            let age = now.as_second().saturating_sub(time.as_second());
            u64::try_from(age).unwrap_or(0) < span
        })
    };
    let mut unused = Unused::default();
    for rule in rules {
        match rule.last_hit {
            // Without a span one hit is enough.
            Some(last) if span.is_none() || is_within(last) => {}
            None if is_within(rule.since) => unused.young_rules += 1,
            _ => unused.rules.push(rule),
        }
    }
    let without_pods = policies_without_pods(reading);
    match deciding(reading) {
        Some(deciding) => {
            let tables = &reading.tables;
            let mut rules: Vec<_> = tables.rules().collect();
            rules.sort_by_key(|(id, _)| *id);
            for (id, origin) in rules {
                let document = FlowPolicy::of(&origin.document, None);
                if !deciding.contains(&id) && !without_pods.contains(&document) {
                    unused.shadowed.push(FlowPolicy::of_rule(origin));
                }
            }
        }
        None => unused.is_shadow_unknown = true,
    }
    unused.policies_without_pods = without_pods;
    unused
}

fn policies_without_pods(reading: &Reading) -> Vec<FlowPolicy> {
    let mut label_sets: BTreeSet<&[String]> = BTreeSet::new();
    for pod in reading.pods() {
        let end = End::of_pod(&reading.tables, pod);
        label_sets.insert(reading.tables.labels(end.identity));
    }
    let pods: Vec<Vec<Label>> = label_sets
        .into_iter()
        .map(|labels| labels.iter().filter_map(|text| label(text)).collect())
        .collect();
    let mut found = Vec::new();
    for document in reading.documents.iter() {
        let Some(policy) = document.object.policy() else {
            continue;
        };
        let selects_any = policy
            .rules
            .iter()
            .any(|rule| pods.iter().any(|labels| rule.subject.selects(labels)));
        if !selects_any {
            found.push(FlowPolicy::of(&document.origin, None));
        }
    }
    found
}

/// Reads a label as tables print it.
fn label(text: &str) -> Option<Label> {
    let (source, rest) = text.split_once(':')?;
    let source = match source {
        "k8s" => LabelSource::K8s,
        "reserved" => LabelSource::Reserved,
        "cidr" => LabelSource::Cidr,
        _ => return None,
    };
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    Some(Label {
        source,
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

/// The rules that decide about any connection between the ends that there are now. None when there
/// are too many to look.
fn deciding(reading: &Reading) -> Option<BTreeSet<RuleId>> {
    let tables = &reading.tables;
    let boundaries = Boundaries::of(&reading.documents);
    let policies: BTreeSet<PolicyIndex> = reading
        .pods()
        .filter_map(|pod| tables.policy_of(&pod.namespace, &pod.name))
        .collect();
    let peers: Vec<Identity> = tables.identities().map(|(identity, _)| identity).collect();
    let spans: Vec<_> = PROTOCOLS
        .iter()
        .flat_map(|(protocol, _)| boundaries.spans(*protocol).map(|span| (*protocol, span.0)))
        .collect();
    let lookups = 2_usize
        .checked_mul(policies.len())
        .and_then(|count| count.checked_mul(peers.len()))
        .and_then(|count| count.checked_mul(spans.len()));
    if lookups.is_none_or(|lookups| lookups > LOOKUPS_MAX) {
        return None;
    }
    let mut deciding = BTreeSet::new();
    for direction in [Direction::Ingress, Direction::Egress] {
        for subject in &policies {
            for peer in &peers {
                collect(tables, (*subject, direction, *peer), &spans, &mut deciding);
            }
        }
    }
    Some(deciding)
}

fn collect(
    tables: &Tables,
    (subject, direction, peer): (PolicyIndex, Direction, Identity),
    spans: &[(portcullis_policy::Protocol, u16)],
    deciding: &mut BTreeSet<RuleId>,
) {
    for (protocol, port) in spans {
        let verdict = tables.judge(subject, direction, peer, *protocol, *port);
        deciding.extend(verdict.rule);
        let audited = tables.judge_audit(subject, direction, peer, *protocol, *port);
        deciding.extend(audited.and_then(|verdict| verdict.rule));
    }
}

impl Unused {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "Rules that decided nothing: {}", self.rules.len());
        for rule in &self.rules {
            let last = match rule.last_hit {
                Some(last) => format!("last hit {last}"),
                None => "never hit".into(),
            };
            let _ = writeln!(
                out,
                "  {}: {last}, in force since {} ({})",
                rule.policy.text(),
                rule.since.strftime("%Y-%m-%d %H:%M:%S"),
                rule.policy.file
            );
        }
        if self.young_rules > 0 {
            let _ = writeln!(
                out,
                "  {} more are not in force for that long yet, as far as this daemon knows",
                self.young_rules
            );
        }
        let lists = [
            ("Policies that select no pod", &self.policies_without_pods),
            (
                "Rules that can decide nothing between the pods and blocks of now: others forestall \
                 them, or they mean nobody",
                &self.shadowed,
            ),
        ];
        for (title, policies) in lists {
            let _ = writeln!(out, "{title}: {}", policies.len());
            for policy in policies {
                let _ = writeln!(out, "  {} ({})", policy.text(), policy.file);
            }
        }
        if self.is_shadow_unknown {
            out.push_str("Too many pods and rules to look for shadowed rules.\n");
        }
        out
    }
}
