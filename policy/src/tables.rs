//! The tables: what the packet path asks, immutable and shared.

use crate::cidr::PrefixTable;
use crate::egress_gateway::GatewayTable;
use crate::half::PolicyHalf;
use crate::{
    Cidr, Compat, Decision, Direction, DocumentOrigin, EgressRoute, Exit, ExitChoice, ExitPlace,
    Family, Generation, Identity, Label, NamedPort, PolicyIndex, Protocol, RuleId, Section,
    Verdict,
};
use hashbrown::{Equivalent, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Where a rule was written: `CiliumNetworkPolicy backend/allow-frontend, ingress[0]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleOrigin {
    /// The document.
    pub document: Arc<DocumentOrigin>,
    /// The place in `specs`; None for `spec`.
    pub spec: Option<usize>,
    /// The section.
    pub section: Section,
    /// The place in the section, from 0.
    pub index: usize,
}

impl fmt::Display for RuleOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ", self.document)?;
        if let Some(spec) = self.spec {
            write!(f, "specs[{spec}].")?;
        }
        write!(f, "{}[{}]", self.section, self.index)
    }
}

/// Compiled policy of one generation: who is who, and what each may do.
#[derive(Debug)]
pub struct Tables {
    pub(crate) generation: Generation,
    pub(crate) compat: Compat,
    pub(crate) addresses: Addresses,
    pub(crate) slots: Arc<Slots>,
    /// By slot.
    pub(crate) known: Vec<Option<Arc<KnownIdentity>>>,
    pub(crate) pods: HashMap<PodKey, PodPlace>,
    /// By slot, the policies of those who can be a subject.
    pub(crate) policies: Vec<Option<EndpointPolicy>>,
    /// One direction of policies, shared by those that say the same.
    pub(crate) halves: Vec<Option<Arc<PolicyHalf>>>,
    /// Where items were written, by the number of the first one of each document.
    pub(crate) rules: Vec<(u32, Arc<[RuleOrigin]>)>,
    pub(crate) documents: Vec<Arc<DocumentOrigin>>,
    pub(crate) gateways: Arc<GatewayTable>,
}

/// One identity and its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownIdentity {
    pub(crate) identity: Identity,
    /// Sorted.
    pub(crate) labels: Vec<String>,
    /// As policy sees them.
    pub(crate) parsed: Vec<Label>,
    pub(crate) named_ports: Vec<NamedPort>,
}

/// What the tables hold of a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodPlace {
    pub(crate) identity: Identity,
    pub(crate) policy: PolicyIndex,
}

/// The policy of one endpoint, or of several that have the same: places in `Tables::halves`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EndpointPolicy {
    pub(crate) ingress: u32,
    pub(crate) egress: u32,
    /// As they were if policies that are only reported were enforced; None where there are none.
    pub(crate) audited_ingress: Option<u32>,
    pub(crate) audited_egress: Option<u32>,
}

impl EndpointPolicy {
    /// All halves it uses.
    pub(crate) fn halves(self) -> impl Iterator<Item = u32> {
        let audited = [self.audited_ingress, self.audited_egress];
        [self.ingress, self.egress]
            .into_iter()
            .chain(audited.into_iter().flatten())
    }
}

impl Tables {
    /// The number of these tables.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Who has this address.
    ///
    /// A pod's identity; `HOST` for this node; `UNKNOWN` among the pods when it is nobody's;
    /// otherwise the identity of the longest address block any policy speaks of, or the world.
    #[must_use]
    pub fn identity_of(&self, address: IpAddr) -> Identity {
        self.addresses.identity_of(address)
    }

    /// The policy of a pod.
    #[must_use]
    pub fn policy_of(&self, namespace: &str, pod: &str) -> Option<PolicyIndex> {
        self.pods
            .get(&PodName(namespace, pod))
            .map(|place| place.policy)
    }

    /// The identity of a pod.
    #[must_use]
    pub fn identity_of_pod(&self, namespace: &str, pod: &str) -> Option<Identity> {
        self.pods
            .get(&PodName(namespace, pod))
            .map(|place| place.identity)
    }

    /// The policy of an endpoint with a reserved identity (health, init, ingress, unmanaged; this
    /// node with the host firewall on).
    #[must_use]
    pub fn policy_of_reserved(&self, identity: Identity) -> Option<PolicyIndex> {
        let slot = self.slots.of(identity).filter(|_| identity.is_reserved())?;
        let policy = self.policies.get(slot as usize)?;
        policy.map(|_| PolicyIndex(slot))
    }

    /// What policy says of one connection.
    ///
    /// `port` is the destination port in host order, or the type of an ICMP. A peer that these
    /// tables do not know is denied, whatever the rules say. Never allocates; costs a few indexed
    /// reads, one probe of a hash table and a binary search over the port ranges of the rules
    /// that match the peer.
    #[must_use]
    pub fn judge(
        &self,
        subject: PolicyIndex,
        direction: Direction,
        peer: Identity,
        protocol: Protocol,
        port: u16,
    ) -> Verdict {
        let (Some(slot), Some(half)) = (self.slots.of(peer), self.half(subject, direction)) else {
            return STRANGER;
        };
        if self.compat == Compat::Cilium && self.is_conflicted(subject) {
            return CONFLICTED;
        }
        half.judge(slot, peer == Identity::HOST, protocol, port)
    }

    /// The policies that are only reported and would isolate the subject in this direction: they
    /// are why `judge_audit` denies what no rule names.
    pub fn isolating_audited(
        &self,
        subject: PolicyIndex,
        direction: Direction,
    ) -> impl Iterator<Item = &DocumentOrigin> {
        let enforced = self.half(subject, direction);
        self.audited_half(subject, direction)
            .into_iter()
            .flat_map(|half| &half.isolating)
            .filter(move |document| {
                enforced.is_none_or(|enforced| !enforced.isolating.contains(document))
            })
            .map(|document| &**document)
    }

    fn audited_half(&self, subject: PolicyIndex, direction: Direction) -> Option<&PolicyHalf> {
        let policy = self.policies.get(subject.0 as usize)?.as_ref()?;
        let place = match direction {
            Direction::Ingress => policy.audited_ingress,
            Direction::Egress => policy.audited_egress,
        };
        self.halves.get(place? as usize)?.as_deref()
    }

    /// What policy would say if policies that are only reported were enforced; None when no such
    /// policy selects the subject, or it says the same.
    #[must_use]
    pub fn judge_audit(
        &self,
        subject: PolicyIndex,
        direction: Direction,
        peer: Identity,
        protocol: Protocol,
        port: u16,
    ) -> Option<Verdict> {
        let half = self.audited_half(subject, direction)?;
        let slot = self.slots.of(peer)?;
        let audited = half.judge(slot, peer == Identity::HOST, protocol, port);
        let enforced = self.judge(subject, direction, peer, protocol, port);
        (audited.decision != enforced.decision).then_some(audited)
    }

    /// The reference engine computes no policy at all for an endpoint with a conflict.
    fn is_conflicted(&self, subject: PolicyIndex) -> bool {
        [Direction::Ingress, Direction::Egress]
            .iter()
            .any(|direction| {
                let half = self.half(subject, *direction);
                half.is_some_and(|half| !half.conflicts.is_empty())
            })
    }

    /// Pairs of rules that ask for things which cannot be done together: what both match is
    /// denied. The newer document should not have been accepted. [policy-semantics §15.7]
    #[must_use]
    pub fn conflicts(&self) -> Vec<(&RuleOrigin, &RuleOrigin)> {
        let mut pairs: Vec<_> = self
            .halves
            .iter()
            .flatten()
            .flat_map(|half| half.conflicts.iter().copied())
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        pairs
            .into_iter()
            .filter_map(|(one, other)| Some((self.rule(one)?, self.rule(other)?)))
            .collect()
    }

    /// How a packet of a pod leaves towards an address.
    #[must_use]
    pub fn exit(&self, namespace: &str, pod: &str, destination: IpAddr) -> Exit {
        let is_outside = self.addresses.is_outside(destination);
        if is_outside {
            self.gateways.exit(namespace, pod, destination)
        } else {
            Exit::Usual
        }
    }

    /// Where a pod stands among those that egress gateway policies are about.
    #[must_use]
    pub fn exit_place(&self, namespace: &str, pod: &str) -> Option<ExitPlace> {
        self.gateways.place(namespace, pod)
    }

    /// How a packet leaves towards an address, by the place of its pod. Allocates nothing.
    #[must_use]
    pub fn exit_choice(&self, place: ExitPlace, destination: IpAddr) -> ExitChoice {
        if self.is_outside_cluster(destination) {
            self.gateways.choice(place, destination)
        } else {
            ExitChoice::Usual
        }
    }

    /// The egress gateway policies, by the numbers in `ExitChoice`.
    pub fn egress_routes(&self) -> impl ExactSizeIterator<Item = EgressRoute<'_>> {
        self.gateways.routes()
    }

    /// Whether an address belongs to no pod and no node of the cluster.
    #[must_use]
    pub fn is_outside_cluster(&self, address: IpAddr) -> bool {
        self.addresses.is_outside(address)
    }

    /// Where a rule was written; None for the number of another generation.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> Option<&RuleOrigin> {
        let after = self.rules.partition_point(|(first, _)| *first <= id.0);
        let (first, origins) = self.rules[..after].last()?;
        origins.get((id.0 - first) as usize)
    }

    /// Every rule with its number, in no particular order. A rule keeps its number while its
    /// document stays the same.
    pub fn rules(&self) -> impl Iterator<Item = (RuleId, &RuleOrigin)> {
        self.rules
            .iter()
            .flat_map(|(first, origins)| (*first..).map(RuleId).zip(origins.iter()))
    }

    /// The policies that select the subject in this direction: they are why what nothing allows
    /// is denied. In document order.
    pub fn isolating(
        &self,
        subject: PolicyIndex,
        direction: Direction,
    ) -> impl Iterator<Item = &DocumentOrigin> {
        self.half(subject, direction)
            .into_iter()
            .flat_map(|half| &half.isolating)
            .map(|document| &**document)
    }

    /// The labels of an identity, sorted, `k8s:app=web`; none for an unknown one.
    #[must_use]
    pub fn labels(&self, identity: Identity) -> &[String] {
        self.slots
            .of(identity)
            .and_then(|slot| self.known[slot as usize].as_ref())
            .map_or(&[], |known| &known.labels)
    }

    /// Every identity of these tables with its labels, by number.
    pub fn identities(&self) -> impl Iterator<Item = (Identity, &[String])> {
        let mut known: Vec<_> = self.known.iter().flatten().collect();
        known.sort_by_key(|known| known.identity);
        known
            .into_iter()
            .map(|known| (known.identity, known.labels.as_slice()))
    }

    /// How many pods have a policy here.
    #[must_use]
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// The policy documents these tables were made from, those without rules among them.
    pub fn documents(&self) -> impl Iterator<Item = &DocumentOrigin> {
        self.documents.iter().map(|document| &**document)
    }

    /// How many policy documents these tables were made from.
    #[must_use]
    pub const fn document_count(&self) -> usize {
        self.documents.len()
    }

    /// How many rules they hold.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.iter().map(|(_, origins)| origins.len()).sum()
    }

    /// How many different policies they hold: pods bound by the same rules share one.
    #[must_use]
    pub fn policy_count(&self) -> usize {
        let different: HashSet<_> = self.policies.iter().flatten().collect();
        different.len()
    }

    /// Bytes of what the packet path reads of policies.
    #[must_use]
    pub fn policy_bytes(&self) -> usize {
        let halves = self.halves.iter().flatten();
        halves
            .map(|half| size_of::<PolicyHalf>() + half.classes.heap_bytes())
            .sum()
    }

    /// How many identities they know.
    #[must_use]
    pub fn identity_count(&self) -> usize {
        self.known.iter().flatten().count()
    }

    /// What the pods of a slot call their ports.
    pub(crate) fn named_ports(&self, slot: u32) -> Vec<NamedPort> {
        let known = self.known.get(slot as usize).and_then(Option::as_ref);
        known.map_or_else(Vec::new, |known| known.named_ports.clone())
    }

    #[inline]
    pub(crate) fn half(&self, subject: PolicyIndex, direction: Direction) -> Option<&PolicyHalf> {
        let policy = self.policies.get(subject.0 as usize)?.as_ref()?;
        let place = match direction {
            Direction::Ingress => policy.ingress,
            Direction::Egress => policy.egress,
        };
        self.halves.get(place as usize)?.as_deref()
    }
}

/// What is said of those whom nobody knows.
const STRANGER: Verdict = Verdict {
    decision: Decision::DenyDefault,
    rule: None,
};

const CONFLICTED: Verdict = Verdict {
    decision: Decision::Conflict,
    rule: None,
};

impl PolicyHalf {
    #[inline]
    pub(crate) fn judge(&self, slot: u32, is_host: bool, protocol: Protocol, port: u16) -> Verdict {
        if let Some(class) = self.classes.of(slot)
            && let Some(verdict) = class.find(protocol, port)
        {
            return verdict;
        }
        let decision = if is_host {
            self.fallback_host
        } else {
            self.fallback
        };
        Verdict {
            decision,
            rule: None,
        }
    }
}

/// A pod's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PodKey(Arc<str>, Arc<str>);

impl PodKey {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self(namespace.into(), name.into())
    }
}

/// A pod's name, borrowed for a look-up.
#[derive(Hash)]
struct PodName<'a>(&'a str, &'a str);

impl Equivalent<PodKey> for PodName<'_> {
    fn equivalent(&self, key: &PodKey) -> bool {
        *self.0 == *key.0 && *self.1 == *key.1
    }
}

/// Who has which address.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// Pods and nodes.
    pub(crate) exact: HashMap<IpAddr, Identity>,
    /// Where pods live.
    pub(crate) pod_blocks: Vec<Cidr>,
    /// Blocks that policies speak of.
    pub(crate) prefixes: Arc<PrefixTable>,
    /// What lies outside, by family.
    pub(crate) world_v4: Identity,
    pub(crate) world_v6: Identity,
}

impl Addresses {
    /// Whether the address lies outside the cluster.
    fn is_outside(&self, address: IpAddr) -> bool {
        !self.exact.contains_key(&address)
            && !self
                .pod_blocks
                .iter()
                .any(|block| block.has_address(address))
    }

    fn identity_of(&self, address: IpAddr) -> Identity {
        if let Some(identity) = self.exact.get(&address) {
            return *identity;
        }
        if self
            .pod_blocks
            .iter()
            .any(|block| block.has_address(address))
        {
            return Identity::UNKNOWN;
        }
        if let Some(identity) = self.prefixes.find(address) {
            return identity;
        }
        match Family::of(address) {
            Family::V4 => self.world_v4,
            Family::V6 => self.world_v6,
        }
    }
}

/// The dense numbering of the identities these tables know.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// By the number of a reserved or cluster identity.
    cluster: Vec<u32>,
    /// By the number of a block identity without its mark.
    local: Vec<u32>,
    /// By the number of a node identity without its mark.
    nodes: Vec<u32>,
}

/// In `Slots`: no such identity.
const NO_SLOT: u32 = u32::MAX;

impl Slots {
    /// The slots of these identities.
    pub(crate) fn new(identities: impl Iterator<Item = (u32, Identity)>) -> Self {
        let mut slots = Self::default();
        for (slot, identity) in identities {
            let place = (identity.0 & NUMBER) as usize;
            let list = match identity.0 & !NUMBER {
                0 => &mut slots.cluster,
                Identity::LOCAL_CIDR => &mut slots.local,
                _ => &mut slots.nodes,
            };
            if list.len() <= place {
                list.resize(place + 1, NO_SLOT);
            }
            list[place] = slot;
        }
        slots
    }

    /// The slot of an identity.
    #[inline]
    pub(crate) fn of(&self, identity: Identity) -> Option<u32> {
        let place = (identity.0 & NUMBER) as usize;
        let slot = match identity.0 & !NUMBER {
            0 => self.cluster.get(place),
            Identity::LOCAL_CIDR => self.local.get(place),
            Identity::REMOTE_NODE_LOCAL => self.nodes.get(place),
            _ => None,
        };
        slot.filter(|slot| **slot != NO_SLOT).copied()
    }
}

/// The part of an identity that is not its mark.
const NUMBER: u32 = 0x00ff_ffff;
