//! How often each rule decided, over all workers and generations: a rule keeps its figures while
//! documents have it in the same place.

use crate::observe::FlowPolicy;
use crate::status::RuleStatus;
use jiff::{SignedDuration, Timestamp};
use portcullis_engine::{Now, RuleHits};
use portcullis_policy::{RuleId, RuleOrigin, Section, Tables};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Where a rule was written. The file does not count: documents may move.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RuleKey {
    kind: &'static str,
    namespace: Option<String>,
    name: String,
    spec: Option<usize>,
    section: Section,
    index: usize,
}

impl RuleKey {
    fn of(rule: &RuleOrigin) -> Self {
        Self {
            kind: rule.document.kind,
            namespace: rule.document.namespace.clone(),
            name: rule.document.name.clone(),
            spec: rule.spec,
            section: rule.section,
            index: rule.index,
        }
    }
}

/// What is known of one rule from tables that no worker uses any more.
#[derive(Debug, Clone, Copy)]
struct Past {
    since: Timestamp,
    connections: u64,
    last: Now,
}

/// Tables that workers count in, or counted in a moment ago.
#[derive(Debug)]
struct Counted {
    tables: Arc<Tables>,
    by_worker: Vec<Arc<RuleHits>>,
}

/// All figures.
#[derive(Debug, Default)]
pub(crate) struct RuleLedger {
    /// The newest last.
    counted: Vec<Counted>,
    past: HashMap<RuleKey, Past>,
}

impl RuleLedger {
    /// Counters for the rules of these tables, one set for each worker: new ones when the tables
    /// are new.
    pub fn counters(
        &mut self,
        tables: Option<&Arc<Tables>>,
        workers: usize,
        now: Timestamp,
    ) -> Vec<Arc<RuleHits>> {
        let Some(tables) = tables else {
            return (0..workers).map(|_| Arc::new(RuleHits::new(0))).collect();
        };
        if let Some(newest) = self.counted.last()
            && Arc::ptr_eq(&newest.tables, tables)
        {
            return newest.by_worker.clone();
        }
        self.settle();
        let mut kept = HashSet::new();
        for (_, rule) in tables.rules() {
            let key = RuleKey::of(rule);
            self.past.entry(key.clone()).or_insert(Past {
                since: now,
                connections: 0,
                last: Now(0),
            });
            kept.insert(key);
        }
        self.past.retain(|key, _| kept.contains(key));
        let ids = tables.rules().map(|(id, _)| id.0 as usize + 1);
        let id_end = ids.max().unwrap_or(0);
        let by_worker: Vec<_> = (0..workers)
            .map(|_| Arc::new(RuleHits::new(id_end)))
            .collect();
        self.counted.push(Counted {
            tables: Arc::clone(tables),
            by_worker: by_worker.clone(),
        });
        by_worker
    }

    /// Adds up the counters that no worker holds any more.
    fn settle(&mut self) {
        let is_held = |counted: &Counted| {
            counted
                .by_worker
                .iter()
                .any(|hits| Arc::strong_count(hits) > 1)
        };
        let newest = self.counted.pop();
        let (held, left): (Vec<_>, Vec<_>) = self.counted.drain(..).partition(is_held);
        self.counted = held;
        self.counted.extend(newest);
        for counted in left {
            for (id, rule) in counted.tables.rules() {
                let (connections, last) = counted.sum(id);
                if let Some(past) = self.past.get_mut(&RuleKey::of(rule)) {
                    past.connections += connections;
                    past.last = past.last.max(last);
                }
            }
        }
    }

    /// Every rule of the newest tables, in their order. `now` on both clocks.
    pub fn rules(&mut self, now: (Timestamp, Now)) -> Vec<RuleStatus> {
        self.settle();
        let Some(newest) = self.counted.last() else {
            return Vec::new();
        };
        let mut figures = self.past.clone();
        for counted in &self.counted {
            for (id, rule) in counted.tables.rules() {
                let (connections, last) = counted.sum(id);
                if let Some(figure) = figures.get_mut(&RuleKey::of(rule)) {
                    figure.connections += connections;
                    figure.last = figure.last.max(last);
                }
            }
        }
        let mut rules: Vec<_> = newest.tables.rules().collect();
        rules.sort_by_key(|(id, _)| *id);
        rules
            .into_iter()
            .filter_map(|(_, rule)| {
                let figure = figures.get(&RuleKey::of(rule))?;
                Some(RuleStatus {
                    policy: FlowPolicy::of_rule(rule),
                    connections: figure.connections,
                    last_hit: (figure.connections > 0).then(|| wall_time(figure.last, now)),
                    since: figure.since,
                })
            })
            .collect()
    }
}

impl Counted {
    /// What all workers counted of a rule.
    fn sum(&self, rule: RuleId) -> (u64, Now) {
        let hits = self.by_worker.iter().map(|hits| hits.of(rule));
        hits.fold((0, Now(0)), |(connections, last), hit| {
            (connections + hit.connections, last.max(hit.last))
        })
    }
}

/// A moment of the monotonic clock on the wall's.
fn wall_time(then: Now, (wall, monotonic): (Timestamp, Now)) -> Timestamp {
    let age = monotonic.0.saturating_sub(then.0);
    let age = SignedDuration::from_nanos(i64::try_from(age).unwrap_or(i64::MAX));
    wall.checked_sub(age).unwrap_or(wall)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::source::{SourceFile, SourceState};
    use crate::review::Reading;

    fn tables(names: &[&str]) -> Arc<Tables> {
        let text = names.iter().fold(String::new(), |text, name| {
            text + &format!(
                "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}}}\n\
                 spec: {{endpointSelector: {{}}, ingress: [{{}}]}}\n"
            )
        });
        let state = SourceState {
            config: None,
            files: vec![SourceFile {
                name: "a.yaml".into(),
                text,
            }],
        };
        Reading::of_state(&state).expect("valid").tables
    }

    fn second(number: i64) -> Timestamp {
        Timestamp::from_second(number).expect("in range")
    }

    /// Name, since when, and that nothing was counted.
    fn idle(ledger: &mut RuleLedger) -> Vec<(String, Timestamp, u64, Option<Timestamp>)> {
        let rules = ledger.rules((second(100), Now(0))).into_iter();
        rules
            .map(|rule| {
                (
                    rule.policy.name,
                    rule.since,
                    rule.connections,
                    rule.last_hit,
                )
            })
            .collect()
    }

    #[test]
    fn a_rule_keeps_its_age_over_generations_and_loses_it_with_its_document() {
        let mut ledger = RuleLedger::default();
        let first = tables(&["a", "b"]);
        let counters = ledger.counters(Some(&first), 2, second(1));
        assert_eq!(counters.len(), 2);
        let again = ledger.counters(Some(&first), 2, second(2));
        assert!(
            Arc::ptr_eq(&counters[0], &again[0]),
            "same tables, same counters"
        );
        let new = ledger.counters(Some(&tables(&["b", "c"])), 2, second(3));
        assert!(!Arc::ptr_eq(&counters[0], &new[0]));
        let never = |name: &str, since| (name.to_owned(), second(since), 0, None);
        assert_eq!(idle(&mut ledger), [never("b", 1), never("c", 3)]);
        assert_eq!(ledger.counted.len(), 2, "somebody still holds the old ones");
        drop((counters, again));
        assert_eq!(idle(&mut ledger).len(), 2);
        assert_eq!(ledger.counted.len(), 1);
        ledger.counters(Some(&tables(&["a", "b"])), 2, second(4));
        assert_eq!(idle(&mut ledger), [never("a", 4), never("b", 1)]);
    }

    #[test]
    fn without_tables_there_is_nothing_to_count() {
        let mut ledger = RuleLedger::default();
        assert_eq!(ledger.counters(None, 3, second(1)).len(), 3);
        assert_eq!(ledger.rules((second(1), Now(0))), []);
    }

    #[test]
    fn a_moment_of_the_monotonic_clock_is_told_on_the_wall() {
        let now = (second(100), Now(50_000_000_000));
        assert_eq!(wall_time(Now(20_000_000_000), now), second(70));
        assert_eq!(wall_time(Now(60_000_000_000), now), second(100));
    }
}
