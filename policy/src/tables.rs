//! The tables: what the packet path asks, immutable and shared.

use crate::cidr::PrefixTable;
use crate::ports::Class;
use crate::{
    Cidr, Decision, Direction, DocumentOrigin, Family, Generation, Identity, PolicyIndex, Protocol,
    RuleId, Section, Verdict,
};
use hashbrown::{Equivalent, HashMap};
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
    pub(crate) addresses: Addresses,
    pub(crate) slots: Slots,
    /// By slot.
    pub(crate) known: Vec<KnownIdentity>,
    pub(crate) pods: HashMap<(String, String), PodPlace>,
    pub(crate) policies: Vec<EndpointPolicy>,
    /// One direction of policies, shared by those that say the same.
    pub(crate) halves: Vec<PolicyHalf>,
    /// Policies of endpoints that are no pods (health, init, ingress, unmanaged).
    pub(crate) reserved_policies: Vec<(Identity, PolicyIndex)>,
    /// Shared by all policies: many pairs of endpoints are bound by the same few rules.
    pub(crate) classes: Vec<Class>,
    pub(crate) rules: Vec<RuleOrigin>,
    pub(crate) documents: Vec<Arc<DocumentOrigin>>,
}

/// One identity and its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownIdentity {
    pub(crate) identity: Identity,
    /// Sorted.
    pub(crate) labels: Vec<String>,
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
}

/// One direction of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PolicyHalf {
    /// What is decided where no rule matches.
    pub(crate) fallback: Decision,
    /// What is decided for this node where no rule matches.
    pub(crate) fallback_host: Decision,
    /// The class of each peer by slot, an index into `Tables::classes`; empty when nothing is
    /// enforced.
    pub(crate) class_of: Vec<u32>,
    /// The documents that select the endpoint, indexes into `Tables::documents`.
    pub(crate) isolating: Vec<u32>,
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

    /// The policy of an endpoint with a reserved identity (health, init, ingress, unmanaged).
    #[must_use]
    pub fn policy_of_reserved(&self, identity: Identity) -> Option<PolicyIndex> {
        self.reserved_policies
            .iter()
            .find(|entry| entry.0 == identity)
            .map(|entry| entry.1)
    }

    /// What policy says of one connection.
    ///
    /// `port` is the destination port in host order, or the type of an ICMP. A peer that these
    /// tables do not know is denied, whatever the rules say. Never allocates; costs a few indexed
    /// reads and a binary search over the port ranges of the rules that match the peer.
    #[must_use]
    pub fn judge(
        &self,
        subject: PolicyIndex,
        direction: Direction,
        peer: Identity,
        protocol: Protocol,
        port: u16,
    ) -> Verdict {
        const STRANGER: Verdict = Verdict {
            decision: Decision::DenyDefault,
            rule: None,
        };
        let Some(slot) = self.slots.of(peer) else {
            return STRANGER;
        };
        let Some(half) = self.half(subject, direction) else {
            return STRANGER;
        };
        if let Some(class) = half.class_of.get(slot)
            && let Some(verdict) = self.classes[*class as usize].find(protocol, port)
        {
            return verdict;
        }
        let decision = if peer == Identity::HOST {
            half.fallback_host
        } else {
            half.fallback
        };
        Verdict {
            decision,
            rule: None,
        }
    }

    /// Where a rule was written; None for the number of another generation.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> Option<&RuleOrigin> {
        self.rules.get(id.0 as usize)
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
            .map(|document| &*self.documents[*document as usize])
    }

    /// The labels of an identity, sorted, `k8s:app=web`; none for an unknown one.
    #[must_use]
    pub fn labels(&self, identity: Identity) -> &[String] {
        self.slots
            .of(identity)
            .map_or(&[], |slot| &self.known[slot].labels)
    }

    /// Every identity of these tables with its labels, by number.
    pub fn identities(&self) -> impl Iterator<Item = (Identity, &[String])> {
        self.known
            .iter()
            .map(|known| (known.identity, known.labels.as_slice()))
    }

    /// How many pods have a policy here.
    #[must_use]
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// How many policy documents these tables were made from.
    #[must_use]
    pub const fn document_count(&self) -> usize {
        self.documents.len()
    }

    /// How many rules they hold.
    #[must_use]
    pub const fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// How many different policies they hold: pods bound by the same rules share one.
    #[must_use]
    pub const fn policy_count(&self) -> usize {
        self.policies.len()
    }

    /// How many identities they know.
    #[must_use]
    pub const fn identity_count(&self) -> usize {
        self.known.len()
    }

    fn half(&self, subject: PolicyIndex, direction: Direction) -> Option<&PolicyHalf> {
        let policy = self.policies.get(subject.0 as usize)?;
        let place = match direction {
            Direction::Ingress => policy.ingress,
            Direction::Egress => policy.egress,
        };
        self.halves.get(place as usize)
    }
}

/// A pod's name, borrowed for a look-up.
#[derive(Hash)]
struct PodName<'a>(&'a str, &'a str);

impl Equivalent<(String, String)> for PodName<'_> {
    fn equivalent(&self, key: &(String, String)) -> bool {
        self.0 == key.0 && self.1 == key.1
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
    pub(crate) prefixes: PrefixTable,
    /// What lies outside, by family.
    pub(crate) world_v4: Identity,
    pub(crate) world_v6: Identity,
}

impl Addresses {
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
}

/// In `Slots`: no such identity.
const NO_SLOT: u32 = u32::MAX;

impl Slots {
    /// Numbers the identities in the order given.
    pub(crate) fn new(identities: impl Iterator<Item = Identity>) -> Self {
        let mut slots = Self::default();
        for (slot, identity) in identities.enumerate() {
            let (list, place) = if identity.0 < Identity::LOCAL_CIDR {
                (&mut slots.cluster, identity.0 as usize)
            } else {
                (
                    &mut slots.local,
                    (identity.0 - Identity::LOCAL_CIDR) as usize,
                )
            };
            if list.len() <= place {
                list.resize(place + 1, NO_SLOT);
            }
            list[place] = u32::try_from(slot).expect("identities are bounded far below");
        }
        slots
    }

    /// The slot of an identity.
    pub(crate) fn of(&self, identity: Identity) -> Option<usize> {
        let slot = if identity.0 < Identity::LOCAL_CIDR {
            self.cluster.get(identity.0 as usize)
        } else {
            self.local.get((identity.0 - Identity::LOCAL_CIDR) as usize)
        };
        slot.filter(|slot| **slot != NO_SLOT)
            .map(|slot| *slot as usize)
    }
}
