//! One direction of a policy: what the rules that select an endpoint say of each peer.

use crate::population::Population;
use crate::ports::{Class, Entry, Places, Span, resolve};
use crate::rulebook::{NumberedRule, Rulebook};
use crate::sets::Sets;
use crate::{
    Action, AllowLocalhost, Compat, Decision, Direction, DocumentOrigin, EnforcementMode, Item,
    NamedPort, RuleId, Settings, Tier, Traffic,
};
use hashbrown::HashMap;
use std::sync::Arc;

/// What two endpoints must share to share one half of their policies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HalfKey {
    pub(crate) direction: Direction,
    /// Whether the node only reports: nothing is enforced, in whatever mode.
    pub(crate) is_open: bool,
    pub(crate) is_init: bool,
    pub(crate) is_host: bool,
    /// Numbers of the rules that select the endpoint, in document order.
    pub(crate) rules: Vec<u32>,
    /// The endpoint's own names for ports, when a rule uses such names.
    pub(crate) named_ports: Vec<NamedPort>,
}

/// One direction of a policy.
#[derive(Debug)]
pub(crate) struct PolicyHalf {
    pub(crate) direction: Direction,
    /// What is decided where no rule matches.
    pub(crate) fallback: Decision,
    /// What is decided for this node where no rule matches.
    pub(crate) fallback_host: Decision,
    /// The class of each peer; empty when nothing is enforced.
    pub(crate) classes: Classes,
    /// The rules that are asked, in document order.
    pub(crate) candidates: Vec<Candidate>,
    /// The subject's names for ports.
    pub(crate) named_ports: Vec<NamedPort>,
    /// The documents that deny by default.
    pub(crate) isolating: Vec<Arc<DocumentOrigin>>,
    /// Pairs of rules that want things which cannot be done together.
    pub(crate) conflicts: Vec<(RuleId, RuleId)>,
}

/// An item of a rule that selects the endpoint.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) id: RuleId,
    pub(crate) rule: Arc<NumberedRule>,
    /// Place of the item in its half.
    pub(crate) place: usize,
    /// The set of its peers.
    set: u32,
    /// Whether its half denies by default.
    pub(crate) default_deny: bool,
}

impl Candidate {
    pub(crate) fn item(&self, direction: Direction) -> &Item {
        self.rule.item(direction, self.place)
    }
}

/// Classes, and who is in which: most peers are in the one that no rule names.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    list: Vec<Class>,
    /// By class, the candidates that match its members.
    matching: Vec<Vec<u32>>,
    /// Slot and class, open addressed; `FREE` where nobody is.
    places: Vec<(u32, u32)>,
}

const FREE: u32 = u32::MAX;

impl Classes {
    /// The class of a peer; None when nothing is enforced.
    #[inline]
    pub(crate) fn of(&self, slot: u32) -> Option<&Class> {
        self.list.get(self.number(slot))
    }

    /// The candidates that match a peer.
    pub(crate) fn matching(&self, slot: u32) -> &[u32] {
        self.matching
            .get(self.number(slot))
            .map_or(&[], Vec::as_slice)
    }

    /// Every class, with the candidates that match its members.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Class, &[u32])> {
        self.list
            .iter()
            .zip(self.matching.iter().map(Vec::as_slice))
    }

    #[inline]
    fn number(&self, slot: u32) -> usize {
        if self.places.is_empty() {
            return 0;
        }
        let mask = self.places.len() - 1;
        let mut place = start(slot, mask);
        loop {
            let (found, class) = self.places[place];
            if found == slot {
                return class as usize;
            }
            if found == FREE {
                return 0;
            }
            place = (place + 1) & mask;
        }
    }

    fn put(&mut self, members: &[(u32, u32)]) {
        if members.is_empty() {
            return;
        }
        let size = (members.len() * 2).next_power_of_two();
        self.places = vec![(FREE, 0); size];
        for member in members {
            let mut place = start(member.0, size - 1);
            while self.places[place].0 != FREE {
                place = (place + 1) & (size - 1);
            }
            self.places[place] = *member;
        }
    }

    /// Bytes it takes beyond itself, as the packet path sees it.
    pub(crate) fn heap_bytes(&self) -> usize {
        let classes: usize = self.list.iter().map(Class::heap_bytes).sum();
        classes + std::mem::size_of_val(&*self.list) + std::mem::size_of_val(&*self.places)
    }
}

/// Where the search for a slot begins. [Knuth, multiplicative hashing]
#[inline]
const fn start(slot: u32, mask: usize) -> usize {
    (slot.wrapping_mul(0x9E37_79B1) >> 7) as usize & mask
}

/// What a half is compiled from.
pub(crate) struct Sources<'a> {
    pub(crate) rulebook: &'a Rulebook,
    pub(crate) sets: &'a Sets,
    pub(crate) population: &'a Population,
    pub(crate) settings: &'a Settings,
}

impl Sources<'_> {
    /// [policy-semantics §0, §4.2 to §4.4]
    pub(crate) fn compile(&self, key: &HalfKey) -> PolicyHalf {
        let mode = self.settings.enforcement_mode;
        let has_rules = !key.rules.is_empty();
        let is_enforced = !key.is_open
            && match mode {
                EnforcementMode::Never => false,
                EnforcementMode::Always => true,
                EnforcementMode::Default => has_rules || key.is_init,
            };
        let mut half = PolicyHalf {
            direction: key.direction,
            fallback: Decision::AllowUnpoliced,
            fallback_host: Decision::AllowUnpoliced,
            classes: Classes::default(),
            candidates: Vec::new(),
            named_ports: key.named_ports.clone(),
            isolating: Vec::new(),
            conflicts: Vec::new(),
        };
        if !is_enforced {
            return half;
        }
        for number in &key.rules {
            let rule = self.rulebook.rule(*number);
            if rule
                .half(key.direction)
                .is_some_and(|half| half.default_deny)
            {
                half.isolating.push(Arc::clone(&rule.origin));
            }
        }
        half.isolating.dedup();
        let is_open = has_rules
            && half.isolating.is_empty()
            && mode != EnforcementMode::Always
            && !key.is_init;
        half.fallback = if is_open {
            Decision::AllowDefault
        } else {
            Decision::DenyDefault
        };
        let is_host_excepted = has_rules
            && !is_open
            && !key.is_host
            && key.direction == Direction::Ingress
            && self.settings.allow_localhost == AllowLocalhost::Always;
        half.fallback_host = if is_host_excepted {
            Decision::AllowLocalHost
        } else {
            half.fallback
        };
        half.candidates = self.candidates(key, !half.isolating.is_empty());
        let contradictions = contradictions(&half.candidates, key.direction);
        half.conflicts = contradictions
            .iter()
            .map(|(one, other)| (half.candidates[*one].id, half.candidates[*other].id))
            .collect();
        half.classes = self.classes(key, &half.candidates, &contradictions);
        half
    }

    fn candidates(&self, key: &HalfKey, is_isolated: bool) -> Vec<Candidate> {
        // What isolates in the tier Normal is final for the pods it selects, says the API.
        // [policy-semantics §15.10]
        let is_final = is_isolated && self.settings.compat == Compat::Portcullis;
        let mut candidates = Vec::new();
        for number in &key.rules {
            let rule = self.rulebook.rule(*number);
            let Some(half) = rule.half(key.direction) else {
                continue;
            };
            for (place, (id, set)) in half.items.iter().enumerate() {
                let candidate = Candidate {
                    id: *id,
                    rule: Arc::clone(rule),
                    place,
                    set: *set,
                    default_deny: half.default_deny,
                };
                let tier = candidate.item(key.direction).order.tier;
                if !(is_final && tier == Tier::Baseline) {
                    candidates.push(candidate);
                }
            }
        }
        candidates
    }

    /// Peers by the candidates that match them, and the candidates that match everyone.
    fn parts(&self, candidates: &[Candidate]) -> (Parts, Vec<u32>) {
        let mut parts = Parts::default();
        let mut everyone = Vec::new();
        for (place, candidate) in (0_u32..).zip(candidates) {
            let set = self.sets.get(candidate.set);
            if set.peers.are_everyone() {
                everyone.push(place);
            } else {
                parts.split(place, set.members.iter());
            }
        }
        (parts, everyone)
    }

    /// Sorts peers into classes: those that the same candidates match are in one.
    ///
    /// Each candidate splits the classes so far in two, at the cost of its members.
    fn classes(
        &self,
        key: &HalfKey,
        candidates: &[Candidate],
        contradictions: &[(usize, usize)],
    ) -> Classes {
        let (mut parts, everyone) = self.parts(candidates);
        let is_egress = key.direction == Direction::Egress;
        let needs_names = is_egress
            && candidates
                .iter()
                .any(|one| one.item(key.direction).traffic.has_names());
        if needs_names {
            let members = self.population.members();
            let named = members.filter(|(_, member)| !member.named_ports.is_empty());
            parts.touch(named.map(|(slot, _)| slot));
        }
        let mut classes = Classes::default();
        let build = |matching: &[u32], names: &[NamedPort]| {
            let entries: Vec<_> = matching
                .iter()
                .map(|place| {
                    let candidate = &candidates[*place as usize];
                    entry(
                        candidate,
                        key.direction,
                        names,
                        *place,
                        contradictions,
                        candidates,
                    )
                })
                .collect();
            Class::new(&entries)
        };
        // At ingress the names are the subject's, at egress each peer's own.
        let own = if is_egress {
            &[][..]
        } else {
            key.named_ports.as_slice()
        };
        classes.list.push(build(&everyone, own));
        classes.matching.push(everyone.clone());
        let mut seen: HashMap<(u32, &[NamedPort]), u32> = HashMap::new();
        let mut members = Vec::new();
        for (slot, part) in parts.moved() {
            let names = match self.population.member(slot) {
                Some(member) if needs_names => member.named_ports.as_slice(),
                _ => own,
            };
            let class = *seen.entry((part, names)).or_insert_with(|| {
                let mut matching = parts.candidates(part);
                matching.extend(&everyone);
                matching.sort_unstable();
                classes.list.push(build(&matching, names));
                classes.matching.push(matching);
                u32::try_from(classes.list.len() - 1).expect("classes are fewer than slots")
            });
            members.push((slot, class));
        }
        classes.put(&members);
        classes
    }
}

fn entry(
    candidate: &Candidate,
    direction: Direction,
    names: &[NamedPort],
    place: u32,
    contradictions: &[(usize, usize)],
    candidates: &[Candidate],
) -> Entry {
    let item = candidate.item(direction);
    let rivals: Vec<&Item> = contradictions
        .iter()
        .filter_map(|(one, other)| match place as usize {
            place if place == *one => Some(*other),
            place if place == *other => Some(*one),
            _ => None,
        })
        .map(|rival| candidates[rival].item(direction))
        .collect();
    let spans = match &item.traffic {
        Traffic::All => None,
        Traffic::Of(ports) => {
            let of_port = |port| {
                let mut contradicted = Places::default();
                for rival in &rivals {
                    contradicted.add(item.contradictions_at(port, rival));
                }
                resolve(port, names).map(move |span| Span {
                    contradicted,
                    ..span
                })
            };
            Some(ports.iter().flat_map(of_port).collect())
        }
    };
    Entry {
        rule: candidate.id,
        order: item.order,
        action: item.action,
        authentication: item.authentication,
        is_specific: item.peers != crate::Peers::Any,
        spans,
    }
}

/// Candidates that want different things of the same peers and ports. [policy-semantics §7.3]
fn contradictions(candidates: &[Candidate], direction: Direction) -> Vec<(usize, usize)> {
    let mut by_set: HashMap<(u32, crate::Order), Vec<usize>> = HashMap::new();
    for (place, candidate) in candidates.iter().enumerate() {
        let item = candidate.item(direction);
        if item.action == Action::Allow && (item.is_inspected() || item.authentication.is_some()) {
            by_set
                .entry((candidate.set, item.order))
                .or_default()
                .push(place);
        }
    }
    let mut found = Vec::new();
    for places in by_set.values() {
        for (count, one) in places.iter().enumerate() {
            // One rule may hold what contradicts itself.
            for other in &places[count..] {
                let (left, right) = (
                    candidates[*one].item(direction),
                    candidates[*other].item(direction),
                );
                // Alike by what they say, not by who happens to be meant today.
                if left.peers == right.peers && left.contradicts(right) {
                    found.push((*one, *other));
                }
            }
        }
    }
    found.sort_unstable();
    found
}

/// A partition of slots that becomes finer with each candidate.
#[derive(Default)]
struct Parts {
    /// By slot, its part; zero is the one that no candidate matches.
    of: Vec<u32>,
    /// By part less one, the part it was cut out of, and the candidate that did it; None for the
    /// one that only marks its members.
    cuts: Vec<(u32, Option<u32>)>,
    moved: Vec<u32>,
}

impl Parts {
    fn split(&mut self, candidate: u32, members: impl Iterator<Item = u32>) {
        self.cut(Some(candidate), members);
    }

    /// Gives those that no candidate matches a part of their own.
    fn touch(&mut self, members: impl Iterator<Item = u32>) {
        let untouched: Vec<_> = members
            .filter(|slot| self.of.get(*slot as usize).is_none_or(|part| *part == 0))
            .collect();
        self.cut(None, untouched.into_iter());
    }

    fn cut(&mut self, candidate: Option<u32>, members: impl Iterator<Item = u32>) {
        let mut cut: HashMap<u32, u32> = HashMap::new();
        for slot in members {
            let place = slot as usize;
            if self.of.len() <= place {
                self.of.resize(place + 1, 0);
            }
            let old = self.of[place];
            if old == 0 {
                self.moved.push(slot);
            }
            let cuts = &mut self.cuts;
            self.of[place] = *cut.entry(old).or_insert_with(|| {
                cuts.push((old, candidate));
                u32::try_from(cuts.len()).expect("parts are fewer than slots times candidates")
            });
        }
    }

    /// Slots that some candidate matches, with their parts.
    fn moved(&self) -> impl Iterator<Item = (u32, u32)> {
        self.moved
            .iter()
            .map(|slot| (*slot, self.of[*slot as usize]))
    }

    /// The candidates that match a part.
    fn candidates(&self, part: u32) -> Vec<u32> {
        let mut candidates = Vec::new();
        let mut part = part;
        while part != 0 {
            let (parent, candidate) = self.cuts[part as usize - 1];
            candidates.extend(candidate);
            part = parent;
        }
        candidates
    }
}
