//! Works out what each endpoint may do to each peer: once for every pair of endpoint policy and
//! identity.

use crate::member::Member;
use crate::ports::{Class, Entry};
use crate::tables::{EndpointPolicy, PolicyHalf};
use crate::{
    AllowLocalhost, Decision, Direction, Document, DocumentOrigin, EnforcementMode, Half, Identity,
    NamedPort, Peers, PolicyIndex, PortMatch, PortProtocol, Ports, Rule, RuleId, RuleOrigin,
    Section, Selector, Settings, Traffic,
};
use hashbrown::HashMap;
use std::sync::Arc;

/// A rule, and where its items stand in the numbering.
struct NumberedRule<'a> {
    rule: &'a Rule,
    /// Place in `Compiler::documents`.
    document: u32,
    /// The number of the first item of each half.
    first_ingress: u32,
    first_egress: u32,
}

impl NumberedRule<'_> {
    const fn first(&self, direction: Direction) -> u32 {
        match direction {
            Direction::Ingress => self.first_ingress,
            Direction::Egress => self.first_egress,
        }
    }
}

/// What two endpoints must share to share one half of their policies.
#[derive(PartialEq, Eq, Hash)]
struct HalfKey {
    direction: Direction,
    is_init: bool,
    /// Places in `Compiler::numbered` of the rules that select the endpoint.
    rules: Vec<u32>,
    /// The endpoint's own names for ports, when a rule uses such names.
    named_ports: Vec<NamedPort>,
}

/// What was worked out for all endpoints together.
pub(crate) struct Compiled {
    pub(crate) policies: Vec<EndpointPolicy>,
    pub(crate) halves: Vec<PolicyHalf>,
    pub(crate) classes: Vec<Class>,
    pub(crate) rules: Vec<RuleOrigin>,
    pub(crate) documents: Vec<Arc<DocumentOrigin>>,
}

/// What has been worked out so far.
pub(crate) struct Compiler<'a> {
    settings: &'a Settings,
    members: &'a [Member],
    numbered: Vec<NumberedRule<'a>>,
    rules: Vec<RuleOrigin>,
    documents: Vec<Arc<DocumentOrigin>>,
    /// By slot, whom each subject selector selects.
    subjects: HashMap<&'a Selector, Vec<bool>>,
    /// By slot, whom each description of peers means.
    peers: HashMap<&'a Peers, Arc<[bool]>>,
    policies: Vec<EndpointPolicy>,
    policy_of: HashMap<EndpointPolicy, PolicyIndex>,
    halves: Vec<PolicyHalf>,
    half_of: HashMap<HalfKey, u32>,
    classes: Classes,
}

/// Classes, each once.
#[derive(Default)]
struct Classes {
    list: Vec<Class>,
    place_of: HashMap<Class, u32>,
}

impl Classes {
    fn place(&mut self, class: Class) -> u32 {
        *self.place_of.entry(class).or_insert_with_key(|class| {
            self.list.push(class.clone());
            index(self.list.len() - 1)
        })
    }
}

/// An item of a rule that selects the endpoint, ready to be matched.
struct Candidate<'a> {
    id: RuleId,
    is_deny: bool,
    means: Arc<[bool]>,
    traffic: &'a Traffic,
}

impl<'a> Compiler<'a> {
    /// Numbers the rules of all policies, in document order.
    pub(crate) fn new(
        documents: &'a [Document],
        members: &'a [Member],
        settings: &'a Settings,
    ) -> Self {
        let mut compiler = Self {
            settings,
            members,
            numbered: Vec::new(),
            rules: Vec::new(),
            documents: Vec::new(),
            subjects: HashMap::new(),
            peers: HashMap::new(),
            policies: Vec::new(),
            policy_of: HashMap::new(),
            halves: Vec::new(),
            half_of: HashMap::new(),
            classes: Classes::default(),
        };
        for document in documents {
            let Some(policy) = document.object.policy() else {
                continue;
            };
            let origin = Arc::new(document.origin.clone());
            compiler.documents.push(Arc::clone(&origin));
            for rule in &policy.rules {
                compiler.number(&origin, rule);
            }
        }
        compiler
    }

    /// Numbers the items of a rule, in document order.
    fn number(&mut self, origin: &Arc<DocumentOrigin>, rule: &'a Rule) {
        let first_ingress = index(self.rules.len());
        let items = |half: &'a Option<Half>| half.iter().flat_map(|half| &half.items);
        let mut add = |(section, place): (Section, usize)| {
            self.rules.push(RuleOrigin {
                document: Arc::clone(origin),
                spec: rule.spec,
                section,
                index: place,
            });
        };
        items(&rule.ingress).for_each(|item| add((item.section, item.index)));
        let ingress_count = items(&rule.ingress).count();
        items(&rule.egress).for_each(|item| add((item.section, item.index)));
        self.numbered.push(NumberedRule {
            rule,
            document: index(self.documents.len() - 1),
            first_ingress,
            first_egress: first_ingress + index(ingress_count),
        });
        let members = self.members;
        self.subjects.entry(&rule.subject).or_insert_with(|| {
            members
                .iter()
                .map(|member| rule.subject.selects(&member.labels))
                .collect()
        });
    }

    /// The policy of the endpoints with the identity in this slot.
    pub(crate) fn policy(&mut self, slot: usize) -> PolicyIndex {
        let ingress = self.half(slot, Direction::Ingress);
        let egress = self.half(slot, Direction::Egress);
        let policy = EndpointPolicy { ingress, egress };
        *self.policy_of.entry(policy).or_insert_with(|| {
            self.policies.push(policy);
            PolicyIndex(index(self.policies.len() - 1))
        })
    }

    /// Everything, once every endpoint has been asked for.
    pub(crate) fn finish(self) -> Compiled {
        let Self {
            policies,
            halves,
            classes,
            rules,
            documents,
            ..
        } = self;
        Compiled {
            policies,
            halves,
            classes: classes.list,
            rules,
            documents,
        }
    }

    fn half(&mut self, slot: usize, direction: Direction) -> u32 {
        let member = &self.members[slot];
        let rules: Vec<u32> = self
            .numbered
            .iter()
            .enumerate()
            .filter(|(_, numbered)| {
                numbered.rule.half(direction).is_some()
                    && self.subjects[&numbered.rule.subject][slot]
            })
            .map(|(place, _)| index(place))
            .collect();
        let needs_names = direction == Direction::Ingress
            && rules.iter().any(|place| {
                let half = self.numbered[*place as usize].rule.half(direction);
                half.is_some_and(|half| half.items.iter().any(|item| has_names(&item.traffic)))
            });
        let named_ports = if needs_names {
            member.named_ports.clone()
        } else {
            Vec::new()
        };
        let is_init = member.identity == Identity::INIT;
        let key = HalfKey {
            direction,
            is_init,
            rules,
            named_ports,
        };
        if let Some(place) = self.half_of.get(&key) {
            return *place;
        }
        let half = self.compile_half(&key);
        self.halves.push(half);
        let place = index(self.halves.len() - 1);
        self.half_of.insert(key, place);
        place
    }

    /// [policy-semantics §0, §4.2 to §4.4]
    fn compile_half(&mut self, key: &HalfKey) -> PolicyHalf {
        let mode = self.settings.enforcement_mode;
        let has_rules = !key.rules.is_empty();
        let is_enforced = match mode {
            EnforcementMode::Never => false,
            EnforcementMode::Always => true,
            EnforcementMode::Default => has_rules || key.is_init,
        };
        if !is_enforced {
            return PolicyHalf {
                fallback: Decision::AllowUnpoliced,
                fallback_host: Decision::AllowUnpoliced,
                class_of: Vec::new(),
                isolating: Vec::new(),
            };
        }
        let numbered = key
            .rules
            .iter()
            .map(|place| &self.numbered[*place as usize]);
        let mut isolating: Vec<u32> = numbered
            .filter(|numbered| {
                numbered
                    .rule
                    .half(key.direction)
                    .is_some_and(|half| half.default_deny)
            })
            .map(|numbered| numbered.document)
            .collect();
        isolating.dedup();
        let is_open =
            has_rules && isolating.is_empty() && mode != EnforcementMode::Always && !key.is_init;
        let fallback = if is_open {
            Decision::AllowDefault
        } else {
            Decision::DenyDefault
        };
        let is_host_excepted = has_rules
            && !is_open
            && key.direction == Direction::Ingress
            && self.settings.allow_localhost == AllowLocalhost::Always;
        let fallback_host = if is_host_excepted {
            Decision::AllowLocalHost
        } else {
            fallback
        };
        let class_of = self.classes_of_peers(key);
        PolicyHalf {
            fallback,
            fallback_host,
            class_of,
            isolating,
        }
    }

    /// The class of each peer: which rules match it, and what they say together.
    fn classes_of_peers(&mut self, key: &HalfKey) -> Vec<u32> {
        let candidates = self.candidates(key);
        let needs_names = key.direction == Direction::Egress
            && candidates
                .iter()
                .any(|candidate| has_names(candidate.traffic));
        let mut seen: HashMap<(Vec<u32>, &[NamedPort]), u32> = HashMap::new();
        let mut class_of = Vec::with_capacity(self.members.len());
        for (slot, member) in self.members.iter().enumerate() {
            let matching: Vec<u32> = candidates
                .iter()
                .enumerate()
                .filter(|(_, candidate)| candidate.means[slot])
                .map(|(place, _)| index(place))
                .collect();
            // At ingress the names are the subject's, at egress each peer's own.
            let names = if key.direction == Direction::Ingress {
                key.named_ports.as_slice()
            } else if needs_names {
                member.named_ports.as_slice()
            } else {
                &[]
            };
            let classes = &mut self.classes;
            let class = *seen
                .entry((matching, names))
                .or_insert_with_key(|(matching, names)| {
                    let entries: Vec<_> = matching
                        .iter()
                        .map(|place| entry(&candidates[*place as usize], names))
                        .collect();
                    classes.place(Class::new(&entries))
                });
            class_of.push(class);
        }
        class_of
    }

    fn candidates(&mut self, key: &HalfKey) -> Vec<Candidate<'a>> {
        let (members, settings) = (self.members, self.settings);
        let mut candidates = Vec::new();
        for place in &key.rules {
            let numbered = &self.numbered[*place as usize];
            let rule: &'a Rule = numbered.rule;
            let first = numbered.first(key.direction);
            let items = rule
                .half(key.direction)
                .into_iter()
                .flat_map(|half| &half.items);
            for (offset, item) in items.enumerate() {
                let means = self.peers.entry(&item.peers).or_insert_with(|| {
                    let mean = |member| item.peers.mean(member, &settings.cluster_name);
                    members.iter().map(mean).collect()
                });
                candidates.push(Candidate {
                    id: RuleId(first + index(offset)),
                    is_deny: item.section.is_deny(),
                    means: Arc::clone(means),
                    traffic: &item.traffic,
                });
            }
        }
        candidates
    }
}

fn has_names(traffic: &Traffic) -> bool {
    match traffic {
        Traffic::All => false,
        Traffic::Of(ports) => ports
            .iter()
            .any(|port| matches!(port.ports, Ports::Named(_))),
    }
}

fn entry(candidate: &Candidate<'_>, names: &[NamedPort]) -> Entry {
    let ranges = match candidate.traffic {
        Traffic::All => None,
        Traffic::Of(ports) => Some(ports.iter().flat_map(|port| resolve(port, names)).collect()),
    };
    Entry {
        rule: candidate.id,
        is_deny: candidate.is_deny,
        ranges,
    }
}

/// The ranges of a description of traffic; a name that the pod does not have means nothing.
fn resolve<'a>(
    port: &'a PortMatch,
    names: &'a [NamedPort],
) -> impl Iterator<Item = (PortProtocol, u16, u16)> + 'a {
    let (range, name) = match &port.ports {
        Ports::Range(first, last) => (Some((port.protocol, *first, *last)), None),
        Ports::Named(name) => (None, Some(name)),
    };
    let is_meant = move |named: &&NamedPort| {
        Some(&named.name) == name
            && (port.protocol == PortProtocol::Any || port.protocol == named.protocol)
    };
    let named = names
        .iter()
        .filter(is_meant)
        .map(|named| (named.protocol, named.port, named.port));
    range.into_iter().chain(named)
}

/// A place in a list that `ITEMS_MAX` and the numbers of identities bound.
fn index(place: usize) -> u32 {
    u32::try_from(place).expect("every list here is bounded far below")
}
