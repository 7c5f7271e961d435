//! `/api/policies`: the policies in force, whom they select, and how often each rule decided.

use super::router::Page;
use axum::Json;
use axum::extract::State;
use portcullis_observe::{FlowPolicy, Names};
use portcullis_policy::Direction;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Policies that are told.
const POLICIES_MAX: usize = 2000;
/// Pods of a policy that are named.
const PODS_MAX: usize = 100;

/// All policies.
#[derive(Debug, Serialize)]
pub(super) struct Policies {
    policies: Vec<Policy>,
    /// How many more there are.
    left_off: usize,
    generation: u64,
}

/// One document.
#[derive(Debug, Serialize)]
struct Policy {
    #[serde(flatten)]
    document: FlowPolicy,
    /// Pods of this node that nothing reaches but what a rule allows.
    ingress: Pods,
    /// Pods of this node that reach nothing but what a rule allows.
    egress: Pods,
    rules: Vec<Rule>,
}

/// Whom a policy selects.
#[derive(Debug, Default, Serialize)]
struct Pods {
    count: usize,
    names: Vec<String>,
}

/// One rule.
#[derive(Debug, Serialize)]
struct Rule {
    place: String,
    /// How often it decided; absent when nobody counts.
    connections: Option<u64>,
    /// When it decided last.
    last_hit: Option<Value>,
}

/// `GET /api/policies`.
pub(super) async fn answer(State(page): State<Arc<Page>>) -> Json<Policies> {
    let names = page.sources.agent.names();
    Json(read(&names, &(page.status)()))
}

/// Reads the tables in force, and the figures of their rules from the daemon's status.
fn read(names: &Names, status: &Value) -> Policies {
    let mut policies: BTreeMap<FlowPolicy, Policy> = BTreeMap::new();
    let Some(tables) = &names.tables else {
        return Policies {
            policies: Vec::new(),
            left_off: 0,
            generation: 0,
        };
    };
    let figures = figures(status);
    let mut rules: Vec<_> = tables.rules().collect();
    rules.sort_by_key(|(id, _)| *id);
    for (_, rule) in rules {
        let of_rule = FlowPolicy::of_rule(rule);
        let figure = figures.get(&of_rule);
        let policy = entry(&mut policies, FlowPolicy::of(&rule.document, None));
        policy.rules.push(Rule {
            place: of_rule.rule.unwrap_or_default(),
            connections: figure.map(|figure| figure.0),
            last_hit: figure.and_then(|figure| figure.1.clone()),
        });
    }
    for (namespace, name, policy) in names.endpoints.values() {
        let Some(subject) = *policy else { continue };
        for direction in [Direction::Ingress, Direction::Egress] {
            for origin in tables.isolating(subject, direction) {
                let policy = entry(&mut policies, FlowPolicy::of(origin, None));
                let pods = match direction {
                    Direction::Ingress => &mut policy.ingress,
                    Direction::Egress => &mut policy.egress,
                };
                pods.count += 1;
                if pods.names.len() < PODS_MAX {
                    pods.names.push(format!("{namespace}/{name}"));
                }
            }
        }
    }
    let left_off = policies.len().saturating_sub(POLICIES_MAX);
    let mut policies: Vec<Policy> = policies.into_values().take(POLICIES_MAX).collect();
    for policy in &mut policies {
        policy.ingress.names.sort();
        policy.egress.names.sort();
    }
    Policies {
        policies,
        left_off,
        generation: status["generation"].as_u64().unwrap_or_default(),
    }
}

fn entry(policies: &mut BTreeMap<FlowPolicy, Policy>, document: FlowPolicy) -> &mut Policy {
    policies.entry(document.clone()).or_insert_with(|| Policy {
        document,
        ingress: Pods::default(),
        egress: Pods::default(),
        rules: Vec::new(),
    })
}

/// How often each rule decided, and when last, as `portcullis status -o json` has it.
fn figures(status: &Value) -> BTreeMap<FlowPolicy, (u64, Option<Value>)> {
    let rules = status["rules"].as_array().map_or(&[][..], Vec::as_slice);
    let figure = |rule: &Value| {
        let policy: FlowPolicy = serde_json::from_value(rule.clone()).ok()?;
        let last = Some(rule["last_hit"].clone()).filter(|last| !last.is_null());
        Some((policy, (rule["connections"].as_u64()?, last)))
    };
    rules.iter().filter_map(figure).collect()
}
