//! Halves of policies in use, and the rules that select each endpoint.

use crate::Direction;
use crate::half::{HalfKey, PolicyHalf, Sources};
use crate::rulebook::Rulebook;
use crate::sets::Sets;
use crate::tables::EndpointPolicy;
use hashbrown::HashMap;
use std::sync::Arc;

/// Halves of policies, each once.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    numbers: HashMap<Arc<HalfKey>, u32>,
    list: Vec<Option<(Arc<HalfKey>, Arc<PolicyHalf>)>>,
    free: Vec<u32>,
}

impl Halves {
    pub(crate) fn has(&self, number: u32) -> bool {
        self.list.get(number as usize).is_some_and(Option::is_some)
    }

    /// Takes out the halves whose rules or peers changed.
    pub(crate) fn forget_changed(
        &mut self,
        rulebook: &Rulebook,
        sets: &Sets,
        has_rules_changed: bool,
    ) {
        for (number, entry) in (0..).zip(&mut self.list) {
            let Some((key, _)) = entry else { continue };
            let is_gone = |rule: &u32| has_rules_changed && !rulebook.has(*rule);
            let has_changed = |rule: &u32| {
                let half = rulebook.rule(*rule).half(key.direction);
                half.is_some_and(|half| half.items.iter().any(|(_, set)| sets.get(*set).is_changed))
            };
            if key
                .rules
                .iter()
                .any(|rule| is_gone(rule) || has_changed(rule))
            {
                self.numbers.remove(key);
                *entry = None;
                self.free.push(number);
            }
        }
    }

    pub(crate) fn number(&mut self, key: HalfKey, sources: &Sources<'_>) -> u32 {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let half = Arc::new(sources.compile(&key));
        let key = Arc::new(key);
        let entry = Some((Arc::clone(&key), half));
        let number = if let Some(number) = self.free.pop() {
            self.list[number as usize] = entry;
            number
        } else {
            self.list.push(entry);
            u32::try_from(self.list.len() - 1).expect("halves are fewer than subjects")
        };
        self.numbers.insert(key, number);
        number
    }

    /// Takes out the halves that nobody uses any more.
    pub(crate) fn sweep(&mut self, policies: &[Option<EndpointPolicy>]) {
        let mut is_used = vec![false; self.list.len()];
        for half in policies.iter().flatten().flat_map(|policy| policy.halves()) {
            is_used[half as usize] = true;
        }
        for (number, is_used) in (0..).zip(is_used) {
            let entry = &mut self.list[number as usize];
            if !is_used && let Some((key, _)) = entry.take() {
                self.numbers.remove(&key);
                self.free.push(number);
            }
        }
    }

    pub(crate) fn all(&self) -> Vec<Option<Arc<PolicyHalf>>> {
        let list = self.list.iter();
        list.map(|entry| Some(Arc::clone(&entry.as_ref()?.1)))
            .collect()
    }
}

/// The rules that select each slot: worked out for all at once when rules changed, and else for
/// the few slots that are asked for.
pub(crate) struct KeysOf {
    all: Option<Vec<[Vec<u32>; 2]>>,
}

impl KeysOf {
    pub(crate) fn new(rulebook: &Rulebook, sets: &Sets, size: usize, is_for_all: bool) -> Self {
        if !is_for_all {
            return Self { all: None };
        }
        let mut all = vec![[Vec::new(), Vec::new()]; size];
        for (number, rule) in rulebook.in_order() {
            for slot in sets.get(rule.subject).members.iter() {
                for direction in [Direction::Ingress, Direction::Egress] {
                    if rule.half(direction).is_some() {
                        all[slot as usize][direction as usize].push(number);
                    }
                }
            }
        }
        Self { all: Some(all) }
    }

    pub(crate) fn of(
        &mut self,
        slot: u32,
        direction: Direction,
        rulebook: &Rulebook,
        sets: &Sets,
    ) -> Vec<u32> {
        match &mut self.all {
            Some(all) => std::mem::take(&mut all[slot as usize][direction as usize]),
            None => rulebook
                .in_order()
                .filter(|(_, rule)| {
                    rule.half(direction).is_some() && sets.get(rule.subject).members.has(slot)
                })
                .map(|(number, _)| number)
                .collect(),
        }
    }
}
