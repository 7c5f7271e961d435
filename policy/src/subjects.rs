//! The policies of subjects: which rules select each of them, enforced and only reported.

use crate::compiler::Compiler;
use crate::half::{HalfKey, Sources};
use crate::halves::KeysOf;
use crate::tables::EndpointPolicy;
use crate::{Direction, Identity};

impl Compiler {
    /// Works out the policies of the subjects that changes touch.
    pub(crate) fn settle_policies(&mut self, touched: &[u32], has_rules_changed: bool) {
        self.halves
            .forget_changed(&self.rulebook, &self.sets, has_rules_changed);
        let slots: Vec<u32> = self.population.members().map(|(slot, _)| slot).collect();
        let size = slots.iter().max().map_or(0, |slot| *slot as usize + 1);
        self.policies.resize(size.max(1), None);
        for slot in touched {
            if let Some(policy) = self.policies.get_mut(*slot as usize) {
                *policy = None;
            }
        }
        let mut keys = KeysOf::new(&self.rulebook, &self.sets, size, has_rules_changed);
        let mut next = std::mem::take(&mut self.policies);
        for slot in slots {
            let is_settled = next[slot as usize].as_ref().is_some_and(|policy| {
                !has_rules_changed && policy.halves().all(|half| self.halves.has(half))
            });
            if !is_settled {
                next[slot as usize] = self.policy(slot, &mut keys);
            }
        }
        self.halves.sweep(&next);
        self.policies = next;
    }

    fn policy(&mut self, slot: u32, keys: &mut KeysOf) -> Option<EndpointPolicy> {
        let (ingress, audited_ingress) = self.half(slot, Direction::Ingress, keys)?;
        let (egress, audited_egress) = self.half(slot, Direction::Egress, keys)?;
        Some(EndpointPolicy {
            ingress,
            egress,
            audited_ingress,
            audited_egress,
        })
    }

    /// The half of a subject, and the one it would have with the policies that are only reported;
    /// None for members that are no subjects.
    fn half(
        &mut self,
        slot: u32,
        direction: Direction,
        keys: &mut KeysOf,
    ) -> Option<(u32, Option<u32>)> {
        let member = self.population.member(slot)?;
        let is_host = member.identity == Identity::HOST;
        let is_subject = match member.identity {
            Identity::UNMANAGED | Identity::HEALTH | Identity::INIT | Identity::INGRESS => true,
            Identity::HOST => self.settings.has_host_firewall,
            other => !other.is_reserved() && other <= Identity::CLUSTER_MAX,
        };
        if !is_subject {
            return None;
        }
        let is_meant = |rule: &crate::rulebook::NumberedRule| rule.is_about_nodes == is_host;
        let selecting = keys.of(slot, direction, &self.rulebook, &self.sets);
        let all: Vec<u32> = selecting
            .iter()
            .copied()
            .filter(|number| is_meant(self.rulebook.rule(*number)))
            .collect();
        let enforced: Vec<u32> = all
            .iter()
            .copied()
            .filter(|number| !self.rulebook.rule(*number).is_audited)
            .collect();
        let is_init = member.identity == Identity::INIT;
        let named_ports = member.named_ports.clone();
        // A default deny that no rule asks for, by mode or for want of labels, is reported as well.
        let is_open = self.settings.is_audited;
        let has_audited = is_open || enforced.len() < all.len();
        let mut number = |rules: Vec<u32>, is_open| {
            let sources = Sources {
                rulebook: &self.rulebook,
                sets: &self.sets,
                population: &self.population,
                settings: &self.settings,
            };
            let needs_names = direction == Direction::Ingress
                && rules.iter().any(|number| {
                    let half = self.rulebook.rule(*number).rule().half(direction);
                    half.is_some_and(|half| half.items.iter().any(|item| item.traffic.has_names()))
                });
            let named_ports = if needs_names {
                named_ports.clone()
            } else {
                Vec::new()
            };
            let key = HalfKey {
                direction,
                is_open,
                is_init,
                is_host,
                rules,
                named_ports,
            };
            self.halves.number(key, &sources)
        };
        Some((
            number(enforced, is_open),
            has_audited.then(|| number(all, false)),
        ))
    }
}
