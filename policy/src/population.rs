//! Who lives in the cluster and what lies outside it: one member for each identity, in a slot that
//! stays its own while it is there.

use crate::allocator::NumbersExhausted;
use crate::bits::Bits;
use crate::label::Label;
use crate::member::Member;
use crate::pod_labels::{labels_of, texts};
use crate::surroundings::{self, Surroundings};
use crate::tables::{KnownIdentity, PodKey, PodPlace};
use crate::{
    Cidr, Document, DocumentError, Entity, Identity, IdentityAllocator, Object, Operator, Peer,
    Peers, Pod, PolicyIndex, Requirement, Settings,
};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Everyone that rules can be about.
#[derive(Debug, Default)]
pub(crate) struct Population {
    members: Vec<Option<Member>>,
    known: Vec<Option<Arc<KnownIdentity>>>,
    free: Vec<u32>,
    slots: HashMap<Identity, u32>,
    /// By key and value of a label, who has it.
    having: HashMap<String, HashMap<String, Vec<u32>>>,
    /// By labels, the slot and how many pods have them.
    sets: HashMap<Vec<String>, (u32, usize)>,
    /// Label sets that may have lost their last pod.
    idle: Vec<Vec<String>>,
    pods: HashMap<PodKey, PodRecord>,
    places: HashMap<PodKey, PodPlace>,
    /// Pods and nodes.
    addresses: HashMap<IpAddr, Identity>,
    owners: HashMap<IpAddr, Arc<Document>>,
    /// Members that are no pods and no blocks, and the addresses of nodes among them.
    around: Vec<Identity>,
    around_addresses: Vec<IpAddr>,
    /// Slots of those among them that address blocks can mean.
    outsiders: Vec<u32>,
    blocks: BTreeMap<Cidr, (Identity, bool)>,
    /// Slots whose member came, went or changed since the last compile.
    touched: Vec<u32>,
}

#[derive(Debug)]
struct PodRecord {
    document: Arc<Document>,
    key: Vec<String>,
}

impl Population {
    pub(crate) fn member(&self, slot: u32) -> Option<&Member> {
        self.members.get(slot as usize)?.as_ref()
    }

    /// Every member with its slot.
    pub(crate) fn members(&self) -> impl Iterator<Item = (u32, &Member)> {
        let slots = (0..).zip(&self.members);
        slots.filter_map(|(slot, member)| Some((slot, member.as_ref()?)))
    }

    pub(crate) fn known(&self) -> &[Option<Arc<KnownIdentity>>] {
        &self.known
    }

    pub(crate) const fn places(&self) -> &HashMap<PodKey, PodPlace> {
        &self.places
    }

    pub(crate) const fn addresses(&self) -> &HashMap<IpAddr, Identity> {
        &self.addresses
    }

    /// The blocks that have an identity.
    pub(crate) fn blocks(&self) -> Vec<(Cidr, Identity)> {
        let blocks = self.blocks.iter();
        blocks
            .map(|(cidr, (identity, _))| (*cidr, *identity))
            .collect()
    }

    /// Pods with their labels, for what selects pods beside policies.
    pub(crate) fn pods(&self) -> impl Iterator<Item = (&Pod, &[Label])> {
        self.pods.values().filter_map(|record| {
            let Object::Pod(pod) = &record.document.object else {
                return None;
            };
            let slot = self.sets.get(&record.key)?.0;
            Some((pod, self.member(slot)?.labels.as_slice()))
        })
    }

    /// What changed since it was last asked.
    pub(crate) fn take_touched(&mut self) -> Vec<u32> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// A pod has gone, or is about to be put in anew.
    pub(crate) fn remove_pod(&mut self, key: &PodKey) {
        let Some(record) = self.pods.remove(key) else {
            return;
        };
        self.places.remove(key);
        if let Object::Pod(pod) = &record.document.object {
            for address in &pod.addresses {
                self.addresses.remove(address);
                self.owners.remove(address);
            }
        }
        let entry = self.sets.get_mut(&record.key);
        let entry = entry.expect("a pod's labels are known");
        entry.1 -= 1;
        if entry.1 == 0 {
            self.idle.push(record.key);
        }
    }

    /// Takes out the label sets that no pod has any more. Not before all changes are made: a pod
    /// that is only written anew keeps its identity.
    pub(crate) fn settle(&mut self, identities: &mut IdentityAllocator) {
        for key in std::mem::take(&mut self.idle) {
            if let Some((slot, 0)) = self.sets.get(&key).copied() {
                self.sets.remove(&key);
                identities.take_back_label_set(&key);
                self.take_out(slot);
            }
        }
    }

    /// Puts a pod in that is an endpoint.
    ///
    /// Fails when another one has one of its addresses, and when there are more label sets than
    /// numbers; the population is then not to be used any more.
    pub(crate) fn put_pod(
        &mut self,
        document: &Arc<Document>,
        namespace_labels: Option<&BTreeMap<String, String>>,
        settings: &Settings,
        identities: &mut IdentityAllocator,
    ) -> Result<(), Vec<DocumentError>> {
        let Object::Pod(pod) = &document.object else {
            return Ok(());
        };
        let errors = self.clashes(document, pod);
        if !errors.is_empty() {
            return Err(errors);
        }
        let labels = labels_of(pod, namespace_labels, settings);
        let key = texts(&labels);
        let slot = if let Some(entry) = self.sets.get_mut(&key) {
            entry.1 += 1;
            entry.0
        } else {
            let given = identities.give_label_set(&key);
            let identity = given.map_err(|full| exhausted(full, "label sets of pods"))?;
            let slot = self.put_in(Member {
                identity,
                labels,
                outside: None,
                named_ports: pod.named_ports.clone(),
            });
            self.sets.insert(key.clone(), (slot, 1));
            slot
        };
        let identity = self.member(slot).expect("it was just put in").identity;
        let pod_key = PodKey::new(&pod.namespace, &pod.name);
        for address in &pod.addresses {
            self.addresses.insert(*address, identity);
            self.owners.insert(*address, Arc::clone(document));
        }
        let policy = PolicyIndex(slot);
        self.places
            .insert(pod_key.clone(), PodPlace { identity, policy });
        let document = Arc::clone(document);
        self.pods.insert(pod_key, PodRecord { document, key });
        Ok(())
    }

    fn clashes(&self, document: &Document, pod: &Pod) -> Vec<DocumentError> {
        let mut errors = Vec::new();
        for address in &pod.addresses {
            let other = match (self.owners.get(address), self.addresses.get(address)) {
                (Some(other), _) => format!("{}, {}", other.origin, place(other)),
                (None, Some(_)) => "a node".to_owned(),
                (None, None) => continue,
            };
            errors.push(DocumentError {
                file: document.origin.file.clone(),
                document: document.origin.document,
                field: "status.podIPs".to_owned(),
                expected: format!("an address of its own ({other} has this one)"),
                found: address.to_string(),
            });
        }
        errors
    }

    /// The members that are no pods: this node, the others, the world.
    pub(crate) fn put_surroundings(
        &mut self,
        around: Surroundings,
    ) -> Result<(), Vec<DocumentError>> {
        for address in std::mem::take(&mut self.around_addresses) {
            self.addresses.remove(&address);
        }
        let kept: Vec<_> = around
            .members
            .iter()
            .map(|member| member.identity)
            .collect();
        for identity in std::mem::take(&mut self.around) {
            if !kept.contains(&identity) {
                let slot = self.slots[&identity];
                self.take_out(slot);
            }
        }
        for member in around.members {
            match self.slots.get(&member.identity).copied() {
                Some(slot) if self.member(slot) == Some(&member) => {}
                Some(slot) => {
                    self.take_out(slot);
                    self.put_in(member);
                }
                None => drop(self.put_in(member)),
            }
        }
        self.around = kept;
        let outside = |identity: &Identity| {
            let slot = self.slots[identity];
            self.member(slot)?.outside.map(|_| slot)
        };
        self.outsiders = self.around.iter().filter_map(outside).collect();
        let mut errors = Vec::new();
        for (address, identity) in around.addresses {
            if let Some(owner) = self.owners.get(&address) {
                errors.push(DocumentError {
                    file: owner.origin.file.clone(),
                    document: owner.origin.document,
                    field: "status.podIPs".to_owned(),
                    expected: "an address of its own (a node has this one)".to_owned(),
                    found: address.to_string(),
                });
            }
            self.addresses.insert(address, identity);
            self.around_addresses.push(address);
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    /// The blocks that need an identity, each with whether an API server is reached there.
    ///
    /// Says whether anything changed. Fails when there are more than numbers.
    pub(crate) fn put_blocks(
        &mut self,
        wanted: &BTreeMap<Cidr, bool>,
        settings: &Settings,
        identities: &mut IdentityAllocator,
    ) -> Result<bool, Vec<DocumentError>> {
        let is_same = self.blocks.len() == wanted.len()
            && self
                .blocks
                .iter()
                .zip(wanted)
                .all(|((old, entry), (new, is_api))| old == new && entry.1 == *is_api);
        if is_same && !wanted.is_empty() {
            return Ok(false);
        }
        identities
            .keep_blocks(&wanted.keys().copied().collect())
            .map_err(|full| exhausted(full, "address blocks"))?;
        let gone: Vec<_> = self
            .blocks
            .extract_if(.., |cidr, entry| wanted.get(cidr) != Some(&entry.1))
            .collect();
        for (_, (identity, _)) in gone {
            let slot = self.slots[&identity];
            self.take_out(slot);
        }
        for (cidr, is_api_server) in wanted {
            if !self.blocks.contains_key(cidr) {
                let identity = identities.of_block(*cidr).expect("it was just given");
                self.put_in(surroundings::block(
                    identity,
                    *cidr,
                    *is_api_server,
                    settings,
                ));
                self.blocks.insert(*cidr, (identity, *is_api_server));
            }
        }
        Ok(true)
    }

    /// Whom the peers mean.
    ///
    /// Looks only at those whom each of them may mean: a rule can name a hundred thousand blocks.
    pub(crate) fn meant_by(&self, peers: &Peers, settings: &Settings) -> Bits {
        let mut meant = Bits::default();
        let Peers::Of(list) = peers else {
            self.members().for_each(|(slot, _)| meant.put(slot, true));
            return meant;
        };
        for peer in list {
            let mut look_at = |slot: u32| {
                let member = self.member(slot);
                if member.is_some_and(|member| peer.means(member, &settings.cluster_name)) {
                    meant.put(slot, true);
                }
            };
            match self.candidates(peer) {
                Some(slots) => slots.into_iter().for_each(look_at),
                None => self.members().for_each(|(slot, _)| look_at(slot)),
            }
        }
        meant
    }

    /// Slots that a peer may mean; None when it may be anyone.
    fn candidates(&self, peer: &Peer) -> Option<Vec<u32>> {
        match peer {
            Peer::Entity(Entity::None) | Peer::Group { .. } | Peer::Service(_) | Peer::Name(_) => {
                Some(Vec::new())
            }
            Peer::Entity(_) => None,
            Peer::Labels(selector) => {
                let found = selector
                    .requirements
                    .iter()
                    .filter_map(|one| self.meeting(one));
                found.min_by_key(Vec::len)
            }
            Peer::Block { cidr, .. } => {
                let within = self.blocks.range(*cidr..=cidr.last());
                let within = within.map(|(_, (identity, _))| self.slots[identity]);
                Some(within.chain(self.outsiders.iter().copied()).collect())
            }
        }
    }

    /// Who may meet a requirement; None when that cannot be told from one label.
    fn meeting(&self, requirement: &Requirement) -> Option<Vec<u32>> {
        let Operator::In(values) = &requirement.operator else {
            return None;
        };
        let by_value = self.having.get(&requirement.key);
        let lists = values.iter().filter_map(|value| by_value?.get(value));
        Some(lists.flatten().copied().collect())
    }

    fn put_in(&mut self, member: Member) -> u32 {
        let known = KnownIdentity {
            identity: member.identity,
            labels: texts(&member.labels),
            parsed: member.labels.clone(),
            named_ports: member.named_ports.clone(),
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.known.push(None);
            u32::try_from(self.members.len() - 1).expect("identities are bounded far below")
        });
        for label in &member.labels {
            let by_value = self.having.entry_ref(label.key.as_str()).or_default();
            by_value
                .entry_ref(label.value.as_str())
                .or_default()
                .push(slot);
        }
        self.slots.insert(member.identity, slot);
        self.known[slot as usize] = Some(Arc::new(known));
        self.members[slot as usize] = Some(member);
        self.touched.push(slot);
        slot
    }

    fn take_out(&mut self, slot: u32) {
        let member = self.members[slot as usize]
            .take()
            .expect("a member is there once");
        self.known[slot as usize] = None;
        self.slots.remove(&member.identity);
        for label in &member.labels {
            if let Some(by_value) = self.having.get_mut(&label.key)
                && let Some(list) = by_value.get_mut(&label.value)
            {
                list.retain(|other| *other != slot);
                if list.is_empty() {
                    by_value.remove(&label.value);
                }
                if by_value.is_empty() {
                    self.having.remove(&label.key);
                }
            }
        }
        self.free.push(slot);
        self.touched.push(slot);
    }
}

/// Where a document stands, for another one's error.
pub(crate) fn place(document: &Document) -> String {
    format!(
        "{}, document {}",
        document.origin.file, document.origin.document
    )
}

pub(crate) fn exhausted(_: NumbersExhausted, what: &str) -> Vec<DocumentError> {
    vec![DocumentError {
        file: "all files".to_owned(),
        document: 0,
        field: String::new(),
        expected: format!("no more different {what} than there are identities"),
        found: "more".to_owned(),
    }]
}
