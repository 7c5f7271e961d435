//! How often each rule decided: counted by one worker, read by anyone.

use crate::Now;
use portcullis_policy::RuleId;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter for each rule of one set of tables. Made by control, of fixed size; one worker adds.
#[derive(Debug)]
pub struct RuleHits {
    rules: Box<[Counter]>,
}

#[derive(Debug, Default)]
struct Counter {
    connections: AtomicU64,
    /// Nanoseconds; meaningful where there were connections.
    last: AtomicU64,
}

/// What was counted of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleHit {
    /// New flows that it decided about; of what it denies, every packet.
    pub connections: u64,
    /// When the last one was.
    pub last: Now,
}

impl RuleHits {
    /// Counters for tables with so many rules.
    #[must_use]
    pub fn new(rule_count: usize) -> Self {
        Self {
            rules: (0..rule_count).map(|_| Counter::default()).collect(),
        }
    }

    /// Counts a decision. The number of another set of tables counts nothing.
    pub(crate) fn count(&self, rule: RuleId, now: Now) {
        let Some(counter) = self.rules.get(rule.0 as usize) else {
            return;
        };
        // One thread adds, so a plain load and store is enough.
        let connections = counter.connections.load(Relaxed);
        counter.last.store(now.0, Relaxed);
        counter
            .connections
            .store(connections.wrapping_add(1), Relaxed);
    }

    /// What was counted of a rule as of a moment ago.
    #[must_use]
    pub fn of(&self, rule: RuleId) -> RuleHit {
        let counter = self.rules.get(rule.0 as usize);
        counter.map_or_else(RuleHit::default, |counter| RuleHit {
            connections: counter.connections.load(Relaxed),
            last: Now(counter.last.load(Relaxed)),
        })
    }
}
