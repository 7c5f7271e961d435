//! The compiler: keeps what it has worked out, and after a change works out again only what the
//! change touches.

use crate::cidr::PrefixTable;
use crate::egress_gateway::GatewayTable;
use crate::halves::Halves;
use crate::population::Population;
use crate::resolve::{KnownNames, Meanings};
use crate::rulebook::{Rulebook, is_wanted};
use crate::sets::Sets;
use crate::surroundings::{pod_blocks, surroundings};
use crate::tables::{Addresses, EndpointPolicy, PodKey, Slots};
use crate::{
    Cidr, Document, DocumentError, DocumentOrigin, Generation, Identity, IdentityAllocator,
    NodeFacts, Object, Settings, Tables,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Items of all policies together. Bounds the numbers of rules.
const ITEMS_MAX: usize = 1_000_000;

/// A change of what there is.
#[derive(Debug, Clone)]
pub enum Change {
    /// An object is there, or is now another.
    Put(Arc<Document>),
    /// An object is there no more: its kind, namespace and name.
    Remove(ObjectKey),
}

/// The name of an object among all others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The kind, as written.
    pub kind: &'static str,
    /// The namespace; None for kinds that have none.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl From<&DocumentOrigin> for ObjectKey {
    fn from(origin: &DocumentOrigin) -> Self {
        Self {
            kind: origin.kind,
            namespace: origin.namespace.clone(),
            name: origin.name.clone(),
        }
    }
}

/// What has been worked out so far, and from what.
#[derive(Debug)]
pub struct Compiler {
    pub(crate) settings: Settings,
    pub(crate) facts: NodeFacts,
    pub(crate) names: KnownNames,
    pub(crate) documents: BTreeMap<ObjectKey, Arc<Document>>,
    pub(crate) identities: IdentityAllocator,
    pub(crate) population: Population,
    pub(crate) sets: Sets,
    pub(crate) rulebook: Rulebook,
    pub(crate) halves: Halves,
    /// By slot, the endpoint policies of subjects.
    pub(crate) policies: Vec<Option<EndpointPolicy>>,
    shared: Shared,
}

/// What many generations share.
#[derive(Debug, Default)]
struct Shared {
    prefixes: Arc<PrefixTable>,
    slots: Arc<Slots>,
    pod_blocks: Vec<Cidr>,
    gateways: Arc<GatewayTable>,
}

/// What a change touches.
#[derive(Debug, Default)]
struct Touches {
    pods: Vec<Arc<Document>>,
    namespaces: BTreeSet<String>,
    has_surroundings: bool,
    has_meanings: bool,
    has_policies: bool,
    has_gateways: bool,
}

impl Compiler {
    /// A compiler that knows nothing yet; `identities` are those that have been given before.
    #[must_use]
    pub fn new(settings: Settings, identities: IdentityAllocator) -> Self {
        Self {
            settings,
            facts: NodeFacts::default(),
            names: KnownNames::default(),
            documents: BTreeMap::new(),
            identities,
            population: Population::default(),
            sets: Sets::default(),
            rulebook: Rulebook::default(),
            halves: Halves::default(),
            policies: Vec::new(),
            shared: Shared::default(),
        }
    }

    /// The identities as they are given now.
    #[must_use]
    pub const fn identities(&self) -> &IdentityAllocator {
        &self.identities
    }

    /// Every document it holds.
    pub fn documents(&self) -> impl Iterator<Item = &Document> + Clone {
        self.documents.values().map(|document| &**document)
    }

    /// Applies changes, all of them or none, and makes the tables of what there is now.
    ///
    /// # Errors
    /// As `compile`; everything is then as it was before.
    pub fn update(
        &mut self,
        changes: Vec<Change>,
        facts: &NodeFacts,
        names: &KnownNames,
        generation: Generation,
    ) -> Result<Tables, Vec<DocumentError>> {
        self.update_unless(Vec::new(), changes, facts, names, generation)
    }

    /// The same, unless there are errors already: then tells all that there are.
    pub(crate) fn update_unless(
        &mut self,
        mut errors: Vec<DocumentError>,
        changes: Vec<Change>,
        facts: &NodeFacts,
        names: &KnownNames,
        generation: Generation,
    ) -> Result<Tables, Vec<DocumentError>> {
        let before = (
            self.facts.clone(),
            self.names.clone(),
            self.identities.clone(),
        );
        let mut undo = Vec::new();
        match self.apply(changes, facts, names, &mut undo) {
            Ok(()) if errors.is_empty() => Ok(self.tables(generation)),
            done => {
                errors.extend(done.err().unwrap_or_default());
                for (key, document) in undo.into_iter().rev() {
                    match document {
                        Some(document) => drop(self.documents.insert(key, document)),
                        None => drop(self.documents.remove(&key)),
                    }
                }
                (self.facts, self.names, self.identities) = before;
                self.rebuild();
                Err(errors)
            }
        }
    }

    /// Works everything out anew, from documents that were worked out before.
    fn rebuild(&mut self) {
        let mut fresh = Self::new(self.settings.clone(), self.identities.clone());
        let all = self.documents.values();
        let changes = all
            .map(|document| Change::Put(Arc::clone(document)))
            .collect();
        let done = fresh.apply(changes, &self.facts, &self.names, &mut Vec::new());
        assert!(done.is_ok(), "what was compiled before compiles again");
        *self = fresh;
    }

    fn apply(
        &mut self,
        changes: Vec<Change>,
        facts: &NodeFacts,
        names: &KnownNames,
        undo: &mut Vec<(ObjectKey, Option<Arc<Document>>)>,
    ) -> Result<(), Vec<DocumentError>> {
        let mut touches = Touches {
            has_surroundings: *facts != self.facts || self.policies.is_empty(),
            has_meanings: *names != self.names,
            ..Touches::default()
        };
        self.facts = facts.clone();
        self.names = names.clone();
        for change in changes {
            self.take(change, &mut touches, undo);
        }
        self.settle_population(&touches)?;
        if self.rulebook.item_count() > ITEMS_MAX {
            return Err(vec![too_many_items(self.rulebook.item_count())]);
        }
        let changed = if touches.has_policies || touches.has_meanings {
            let meanings = Meanings::new(
                self.documents.values().map(|document| &**document),
                &self.names,
                &self.settings,
            );
            self.rulebook.resolve(&meanings)
        } else {
            Vec::new()
        };
        if touches.has_policies || touches.has_surroundings || !changed.is_empty() {
            self.settle_blocks()?;
        }
        let touched = self.population.take_touched();
        self.sets
            .look_again(&touched, &self.population, &self.settings);
        self.rulebook
            .write(&changed, &mut self.sets, &self.population, &self.settings)
            .expect("numbers last for billions of changes");
        if !touched.is_empty() {
            let members = self.population.members();
            let numbered = members.map(|(slot, member)| (slot, member.identity));
            self.shared.slots = Arc::new(Slots::new(numbered));
        }
        self.settle_policies(&touched, touches.has_policies || !changed.is_empty());
        if touches.has_gateways {
            self.settle_gateways();
        }
        self.sets.settle();
        Ok(())
    }

    /// Takes one change in, and notes what it touches.
    fn take(
        &mut self,
        change: Change,
        touches: &mut Touches,
        undo: &mut Vec<(ObjectKey, Option<Arc<Document>>)>,
    ) {
        let (key, new) = match change {
            Change::Put(document) => (ObjectKey::from(&document.origin), Some(document)),
            Change::Remove(key) => (key, None),
        };
        let old = match &new {
            Some(document) => self.documents.insert(key.clone(), Arc::clone(document)),
            None => self.documents.remove(&key),
        };
        undo.push((key, old.clone()));
        if let Some(old) = &old {
            touches.note(&old.object);
            self.rulebook.remove(&old.origin, &mut self.sets);
            if let Object::Pod(pod) = &old.object {
                let key = PodKey::new(&pod.namespace, &pod.name);
                self.population.remove_pod(&key);
            }
        }
        if let Some(new) = new {
            touches.note(&new.object);
            self.rulebook
                .put(&new)
                .expect("numbers last for billions of changes");
            if let Object::Pod(_) = &new.object {
                touches.pods.push(new);
            }
        }
    }

    /// Puts pods in, and what is around them.
    fn settle_population(&mut self, touches: &Touches) -> Result<(), Vec<DocumentError>> {
        if touches.has_surroundings {
            self.shared.pod_blocks = pod_blocks(&self.facts)?;
            let nodes: Vec<_> = self
                .documents
                .values()
                .filter_map(|document| match &document.object {
                    Object::Node(node) => Some(node),
                    _ => None,
                })
                .collect();
            let around = surroundings(&self.facts, &nodes, &self.settings, &mut self.identities)?;
            self.population.put_surroundings(around)?;
        }
        let mut pods = touches.pods.clone();
        if !touches.namespaces.is_empty() {
            let is_there = |pod: &&Arc<Document>| match &pod.object {
                Object::Pod(pod) => touches.namespaces.contains(&pod.namespace),
                _ => false,
            };
            pods.extend(self.documents.values().filter(is_there).cloned());
        }
        let mut errors = Vec::new();
        for document in pods {
            let Object::Pod(pod) = &document.object else {
                continue;
            };
            let is_latest = self
                .documents
                .get(&ObjectKey::from(&document.origin))
                .is_some_and(|latest| Arc::ptr_eq(latest, &document));
            let key = PodKey::new(&pod.namespace, &pod.name);
            self.population.remove_pod(&key);
            if pod.is_endpoint() && is_latest {
                let labels = namespace_labels(&self.documents, &pod.namespace);
                let (settings, identities) = (&self.settings, &mut self.identities);
                let put = self
                    .population
                    .put_pod(&document, labels, settings, identities);
                errors.extend(put.err().unwrap_or_default());
            }
        }
        self.population.settle(&mut self.identities);
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    /// Gives an identity to each block that rules speak of, and to API servers outside.
    fn settle_blocks(&mut self) -> Result<(), Vec<DocumentError>> {
        let mut blocks = BTreeMap::new();
        self.rulebook.blocks(&self.settings, &mut blocks);
        for address in &self.facts.api_server_addresses {
            let block = Cidr::host(*address);
            let is_inside = self.population.addresses().contains_key(address);
            if !is_inside && is_wanted(block, &self.settings) {
                blocks.insert(block, true);
            }
        }
        let (settings, identities) = (&self.settings, &mut self.identities);
        if self.population.put_blocks(&blocks, settings, identities)? {
            self.shared.prefixes = Arc::new(PrefixTable::new(&self.population.blocks()));
        }
        Ok(())
    }

    fn settle_gateways(&mut self) {
        let is_gateway = |object: &Object| matches!(object, Object::EgressGatewayPolicy(_));
        if !self
            .documents()
            .any(|document| is_gateway(&document.object))
        {
            self.shared.gateways = Arc::default();
            return;
        }
        let pods: Vec<_> = self.population.pods().collect();
        let documents = self.documents.values().map(|document| &**document);
        let table = GatewayTable::new(documents, &pods, &self.settings);
        self.shared.gateways = Arc::new(table);
    }

    fn tables(&self, generation: Generation) -> Tables {
        let (world_v4, world_v6) = if self.settings.ipv6 {
            (Identity::WORLD_IPV4, Identity::WORLD_IPV6)
        } else {
            // Without IPv6 in the cluster nobody can say who an IPv6 address is.
            (Identity::WORLD, Identity::UNKNOWN)
        };
        Tables {
            generation,
            compat: self.settings.compat,
            addresses: Addresses {
                exact: self.population.addresses().clone(),
                pod_blocks: self.shared.pod_blocks.clone(),
                prefixes: Arc::clone(&self.shared.prefixes),
                world_v4,
                world_v6,
            },
            slots: Arc::clone(&self.shared.slots),
            known: self.population.known().to_vec(),
            pods: self.population.places().clone(),
            policies: self.policies.clone(),
            halves: self.halves.all(),
            rules: self.rulebook.origins(),
            documents: self.rulebook.documents().cloned().collect(),
            gateways: Arc::clone(&self.shared.gateways),
        }
    }
}

impl Touches {
    fn note(&mut self, object: &Object) {
        match object {
            Object::Pod(_) => self.has_gateways = true,
            Object::Namespace(namespace) => {
                self.namespaces.insert(namespace.name.clone());
                self.has_gateways = true;
            }
            Object::Node(_) => {
                self.has_surroundings = true;
                self.has_gateways = true;
            }
            Object::EgressGatewayPolicy(_) => self.has_gateways = true,
            Object::CidrGroup(_) | Object::Service(_) | Object::Backends(_) => {
                self.has_meanings = true;
            }
            Object::CiliumNetworkPolicy(_)
            | Object::CiliumClusterwideNetworkPolicy(_)
            | Object::NetworkPolicy(_)
            | Object::ClusterNetworkPolicy(_) => self.has_policies = true,
        }
    }
}

fn namespace_labels<'a>(
    documents: &'a BTreeMap<ObjectKey, Arc<Document>>,
    namespace: &str,
) -> Option<&'a BTreeMap<String, String>> {
    let key = ObjectKey {
        kind: "Namespace",
        namespace: None,
        name: namespace.to_owned(),
    };
    match &documents.get(&key)?.object {
        Object::Namespace(namespace) => Some(&namespace.labels),
        _ => None,
    }
}

fn too_many_items(count: usize) -> DocumentError {
    DocumentError {
        file: "all files".to_owned(),
        document: 0,
        field: String::new(),
        expected: format!("at most {ITEMS_MAX} rules"),
        found: count.to_string(),
    }
}
