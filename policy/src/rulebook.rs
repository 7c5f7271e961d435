//! The rules of all policies, numbered, and the endpoints that each of them selects.

use crate::population::Population;
use crate::resolve::{Meanings, is_by_name};
use crate::sets::Sets;
use crate::{
    Cidr, Direction, Document, DocumentOrigin, Family, Item, Peer, Peers, Rule, RuleId, RuleOrigin,
    Settings,
};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rule, with the sets of those it means.
#[derive(Debug)]
pub(crate) struct NumberedRule {
    /// The document that holds it.
    pub(crate) document: Arc<Document>,
    pub(crate) origin: Arc<DocumentOrigin>,
    /// Its place in the policy.
    pub(crate) place: usize,
    pub(crate) is_audited: bool,
    pub(crate) is_about_nodes: bool,
    /// The set of endpoints it is about.
    pub(crate) subject: u32,
    /// By half, its items.
    halves: [Option<NumberedHalf>; 2],
}

#[derive(Debug)]
pub(crate) struct NumberedHalf {
    pub(crate) default_deny: bool,
    /// By item, its number and the set of its peers.
    pub(crate) items: Vec<(RuleId, u32)>,
}

impl NumberedRule {
    pub(crate) fn half(&self, direction: Direction) -> Option<&NumberedHalf> {
        self.halves[direction as usize].as_ref()
    }

    /// The rule as it was written.
    pub(crate) fn rule(&self) -> &Rule {
        let policy = self
            .document
            .object
            .policy()
            .expect("only policies are numbered");
        &policy.rules[self.place]
    }

    /// An item as it was written.
    pub(crate) fn item(&self, direction: Direction, place: usize) -> &Item {
        let half = self
            .rule()
            .half(direction)
            .expect("a numbered half is there");
        &half.items[place]
    }
}

/// The rules of one document.
#[derive(Debug)]
struct Chapter {
    document: Arc<Document>,
    /// The number of its first item.
    first: u32,
    origins: Arc<[RuleOrigin]>,
    rules: Vec<u32>,
    is_by_name: bool,
    /// What its rules meant when they were last resolved, in order of their items.
    resolved: Vec<Peers>,
}

/// The rules of all policies.
#[derive(Debug, Default)]
pub(crate) struct Rulebook {
    chapters: BTreeMap<Arc<DocumentOrigin>, Chapter>,
    rules: HashMap<u32, Arc<NumberedRule>>,
    next_rule: u32,
    next_item: u32,
    count: usize,
}

/// There are no numbers left: the rulebook must be written anew.
#[derive(Debug)]
pub(crate) struct NumbersUsedUp;

impl Rulebook {
    pub(crate) fn rule(&self, number: u32) -> &Arc<NumberedRule> {
        &self.rules[&number]
    }

    /// Whether the rule is still there.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.rules.contains_key(&number)
    }

    /// Every rule in document order, with its number.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (u32, &Arc<NumberedRule>)> {
        let numbers = self.chapters.values().flat_map(|chapter| &chapter.rules);
        numbers.map(|number| (*number, &self.rules[number]))
    }

    /// Where each item was written, by the number of the first one of its document.
    pub(crate) fn origins(&self) -> Vec<(u32, Arc<[RuleOrigin]>)> {
        // A document without items shares its number with the next.
        let chapters = self.chapters.values();
        let mut origins: Vec<_> = chapters
            .filter(|chapter| !chapter.origins.is_empty())
            .map(|chapter| (chapter.first, Arc::clone(&chapter.origins)))
            .collect();
        origins.sort_by_key(|origins| origins.0);
        origins
    }

    /// The policies, in document order.
    pub(crate) fn documents(&self) -> impl Iterator<Item = &Arc<DocumentOrigin>> {
        self.chapters.keys()
    }

    /// How many items there are.
    pub(crate) const fn item_count(&self) -> usize {
        self.count
    }

    /// Takes a document out.
    pub(crate) fn remove(&mut self, origin: &DocumentOrigin, sets: &mut Sets) {
        if let Some(chapter) = self.chapters.remove(origin) {
            self.count -= chapter.origins.len();
            self.forget_rules(&chapter.rules, sets);
        }
    }

    fn forget_rules(&mut self, numbers: &[u32], sets: &mut Sets) {
        for number in numbers {
            let rule = self
                .rules
                .remove(number)
                .expect("a rule of a chapter is there");
            sets.give_back(rule.subject);
            for half in rule.halves.iter().flatten() {
                half.items.iter().for_each(|(_, set)| sets.give_back(*set));
            }
        }
    }

    /// Puts a policy in; its rules are numbered when they are written.
    pub(crate) fn put(&mut self, document: &Arc<Document>) -> Result<(), NumbersUsedUp> {
        let origin = Arc::new(document.origin.clone());
        let Some(policy) = document.object.policy() else {
            return Ok(());
        };
        let mut origins = Vec::new();
        for rule in &policy.rules {
            for item in items(rule) {
                origins.push(RuleOrigin {
                    document: Arc::clone(&origin),
                    spec: rule.spec,
                    section: item.section,
                    index: item.index,
                });
            }
        }
        let first = self.next_item;
        let count = u32::try_from(origins.len()).map_err(|_| NumbersUsedUp)?;
        self.next_item = first.checked_add(count).ok_or(NumbersUsedUp)?;
        self.count += origins.len();
        let is_by_name = policy
            .rules
            .iter()
            .flat_map(items)
            .any(|item| is_by_name(&item.peers));
        let chapter = Chapter {
            document: Arc::clone(document),
            first,
            origins: origins.into(),
            rules: Vec::new(),
            is_by_name,
            resolved: Vec::new(),
        };
        self.chapters.insert(origin, chapter);
        Ok(())
    }

    /// Resolves what is new, and what goes by name. Says whether any rule changed.
    pub(crate) fn resolve(&mut self, meanings: &Meanings<'_>) -> Vec<Arc<DocumentOrigin>> {
        let mut changed = Vec::new();
        for (origin, chapter) in &mut self.chapters {
            let is_new = chapter.rules.is_empty();
            if !is_new && !chapter.is_by_name {
                continue;
            }
            let policy = chapter
                .document
                .object
                .policy()
                .expect("only policies are kept");
            let all = policy.rules.iter().flat_map(items);
            let resolved: Vec<_> = all.map(|item| meanings.resolve(item)).collect();
            if is_new || resolved != chapter.resolved {
                chapter.resolved = resolved;
                changed.push(Arc::clone(origin));
            }
        }
        changed
    }

    /// The address blocks that rules speak of. [policy-semantics §2.2]
    pub(crate) fn blocks(&self, settings: &Settings, blocks: &mut BTreeMap<Cidr, bool>) {
        let peers = self.chapters.values().flat_map(|chapter| &chapter.resolved);
        for peer in peers.filter_map(|peers| match peers {
            Peers::Any => None,
            Peers::Of(list) => Some(list),
        }) {
            for peer in peer {
                if let Peer::Block { cidr, except } = peer {
                    for block in std::iter::once(cidr).chain(except) {
                        if is_wanted(*block, settings) {
                            blocks.entry(*block).or_insert(false);
                        }
                    }
                }
            }
        }
    }

    /// Numbers the rules of these documents, and works out whom they mean.
    pub(crate) fn write(
        &mut self,
        origins: &[Arc<DocumentOrigin>],
        sets: &mut Sets,
        population: &Population,
        settings: &Settings,
    ) -> Result<(), NumbersUsedUp> {
        for origin in origins {
            let Some(mut chapter) = self.chapters.remove(origin) else {
                continue;
            };
            let old = std::mem::take(&mut chapter.rules);
            let policy = chapter
                .document
                .object
                .policy()
                .expect("only policies are kept");
            let mut numbers = (chapter.first..).map(RuleId);
            let mut resolved = chapter.resolved.iter();
            for (place, rule) in policy.rules.iter().enumerate() {
                let mut half = |direction: Direction| {
                    let half = rule.half(direction)?;
                    let items = half.items.iter().map(|_| {
                        let peers = resolved.next().expect("each item was resolved").clone();
                        let number = numbers.next().expect("they were counted");
                        (number, sets.take(peers, population, settings))
                    });
                    Some(NumberedHalf {
                        default_deny: half.default_deny,
                        items: items.collect(),
                    })
                };
                let halves = [half(Direction::Ingress), half(Direction::Egress)];
                let subject = Peers::Of(vec![Peer::Labels(rule.subject.clone())]);
                let number = self.next_rule;
                self.next_rule = number.checked_add(1).ok_or(NumbersUsedUp)?;
                let numbered = NumberedRule {
                    document: Arc::clone(&chapter.document),
                    origin: Arc::clone(origin),
                    place,
                    is_audited: policy.is_audited || settings.is_audited,
                    is_about_nodes: rule.is_about_nodes,
                    subject: sets.take(subject, population, settings),
                    halves,
                };
                chapter.rules.push(number);
                self.rules.insert(number, Arc::new(numbered));
            }
            self.forget_rules(&old, sets);
            self.chapters.insert(Arc::clone(origin), chapter);
        }
        Ok(())
    }
}

/// The items of a rule, in the order in which they are numbered.
fn items(rule: &Rule) -> impl Iterator<Item = &Item> {
    let halves = [Direction::Ingress, Direction::Egress].into_iter();
    halves
        .filter_map(|direction| rule.half(direction))
        .flat_map(|half| &half.items)
}

/// Whether a block needs an identity of its own.
pub(crate) fn is_wanted(cidr: Cidr, settings: &Settings) -> bool {
    !cidr.is_everything() && (settings.ipv6 || cidr.family() == Family::V4)
}
