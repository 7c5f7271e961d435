//! What the daemon did: started, took policy, gained and lost pods, gave identities.

use jiff::Timestamp;
use portcullis_observe::Names;
use portcullis_policy::{DocumentOrigin, Tables};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Events that are kept.
const EVENTS_MAX: usize = 4096;

/// The last things that the daemon did; older ones make room.
#[derive(Debug, Default)]
pub struct AgentLog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<AgentEntry>,
    /// The number of the next one.
    next: u64,
}

/// One thing that the daemon did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentEntry {
    /// Counts up.
    pub number: u64,
    /// When.
    pub time: Timestamp,
    /// What.
    pub event: AgentEvent,
}

/// What the daemon did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEvent {
    /// It started.
    Started,
    /// A policy is in force now, or says something else.
    PolicyUpdated(PolicyChange),
    /// A policy is not in force any more.
    PolicyDeleted(PolicyChange),
    /// A pod of this node is policed now.
    EndpointCreated(PodChange),
    /// A pod of this node went.
    EndpointDeleted(PodChange),
    /// An address has this identity now; None before: it had none.
    IdentityGiven(AddressChange),
    /// An address belongs to no pod any more.
    IdentityTaken(AddressChange),
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyChange {
    /// `CiliumNetworkPolicy` and so on.
    pub kind: String,
    /// Its namespace; empty for none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The generation of tables.
    pub generation: u64,
    /// Its rules.
    pub rules: usize,
}

/// A pod of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodChange {
    /// The number of its endpoint.
    pub id: u64,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The labels behind its identity.
    pub labels: Vec<String>,
}

/// An address of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressChange {
    /// The address.
    pub address: IpAddr,
    /// Whose it is: namespace and name.
    pub pod: (String, String),
    /// Its identity.
    pub identity: u32,
    /// The one before.
    pub before: Option<u32>,
}

impl AgentLog {
    /// A log of a daemon that starts now.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let log = Self::default();
        log.add(now, [AgentEvent::Started]);
        log
    }

    /// Adds events.
    pub fn add(&self, time: Timestamp, events: impl IntoIterator<Item = AgentEvent>) {
        let mut inner = self.lock();
        for event in events {
            if inner.events.len() == EVENTS_MAX {
                inner.events.pop_front();
            }
            let number = inner.next;
            inner.next += 1;
            inner.events.push_back(AgentEntry {
                number,
                time,
                event,
            });
        }
    }

    /// Adds what is different in the names of a new generation.
    pub fn compare(&self, time: Timestamp, before: Option<&Names>, after: &Names) {
        let nothing = Names::default();
        let before = before.unwrap_or(&nothing);
        let mut events = policy_events(before.tables.as_deref(), after.tables.as_deref());
        events.extend(pod_events(before, after));
        events.extend(address_events(before, after));
        self.add(time, events);
    }

    /// The events from this number on that are still there, and the number of the one that will
    /// come next.
    #[must_use]
    pub fn since(&self, number: u64) -> (Vec<AgentEntry>, u64) {
        let inner = self.lock();
        let later = inner.events.iter().filter(|entry| entry.number >= number);
        (later.cloned().collect(), inner.next)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rules of each policy: their numbers stay while its document does. One that has none denies
/// all, and is a policy, too.
fn policies(tables: Option<&Tables>) -> BTreeMap<(&str, &str, &str), BTreeSet<u32>> {
    let mut all: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
    let Some(tables) = tables else { return all };
    for document in tables.documents() {
        all.entry(name(document)).or_default();
    }
    for (id, rule) in tables.rules() {
        all.entry(name(&rule.document)).or_default().insert(id.0);
    }
    all
}

fn name(document: &DocumentOrigin) -> (&str, &str, &str) {
    let namespace = document.namespace.as_deref().unwrap_or_default();
    (document.kind, namespace, &document.name)
}

fn policy_events(before: Option<&Tables>, after: Option<&Tables>) -> Vec<AgentEvent> {
    let (old, new) = (policies(before), policies(after));
    let generation = after.map_or(0, |tables| tables.generation().0);
    let change = |(kind, namespace, name): &(&str, &str, &str), rules: usize| PolicyChange {
        kind: (*kind).into(),
        namespace: (*namespace).into(),
        name: (*name).into(),
        generation,
        rules,
    };
    let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
    let come = new
        .iter()
        .filter(|(name, rules)| old.get(*name) != Some(rules));
    gone.map(|(name, rules)| AgentEvent::PolicyDeleted(change(name, rules.len())))
        .chain(come.map(|(name, rules)| AgentEvent::PolicyUpdated(change(name, rules.len()))))
        .collect()
}

fn pod_events(before: &Names, after: &Names) -> Vec<AgentEvent> {
    let change = |names: &Names, id: u64, namespace: &str, name: &str| PodChange {
        id,
        namespace: namespace.into(),
        name: name.into(),
        labels: names
            .tables
            .as_deref()
            .and_then(|tables| {
                let identity = tables.identity_of_pod(namespace, name)?;
                Some(tables.labels(identity).to_vec())
            })
            .unwrap_or_default(),
    };
    let mut events = Vec::new();
    for (id, (namespace, name, _)) in in_order(&before.endpoints, |id| id.0) {
        if !after.endpoints.contains_key(id) {
            let change = change(before, u64::from(id.0), namespace, name);
            events.push(AgentEvent::EndpointDeleted(change));
        }
    }
    for (id, (namespace, name, _)) in in_order(&after.endpoints, |id| id.0) {
        if !before.endpoints.contains_key(id) {
            let change = change(after, u64::from(id.0), namespace, name);
            events.push(AgentEvent::EndpointCreated(change));
        }
    }
    events
}

/// Events of one moment are told in an order that does not change from run to run.
fn in_order<K, V, O: Ord>(all: &HashMap<K, V>, key: impl Fn(&K) -> O) -> Vec<(&K, &V)> {
    let mut all: Vec<_> = all.iter().collect();
    all.sort_by_key(|(one, _)| key(one));
    all
}

fn address_events(before: &Names, after: &Names) -> Vec<AgentEvent> {
    let identity = |names: &Names, (namespace, name): &(String, String)| {
        let tables = names.tables.as_deref()?;
        Some(tables.identity_of_pod(namespace, name)?.0)
    };
    let mut events = Vec::new();
    for (address, pod) in in_order(&before.pods, |address| *address) {
        if !after.pods.contains_key(address)
            && let Some(identity) = identity(before, pod)
        {
            events.push(AgentEvent::IdentityTaken(AddressChange {
                address: *address,
                pod: pod.clone(),
                identity,
                before: None,
            }));
        }
    }
    for (address, pod) in in_order(&after.pods, |address| *address) {
        let old = before
            .pods
            .get(address)
            .and_then(|pod| identity(before, pod));
        if let Some(new) = identity(after, pod)
            && old != Some(new)
        {
            events.push(AgentEvent::IdentityGiven(AddressChange {
                address: *address,
                pod: pod.clone(),
                identity: new,
                before: old,
            }));
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy::{
        Generation, IdentityAllocator, NodeFacts, Settings, compile, parse_documents,
    };
    use std::sync::Arc;

    fn names(documents: &str) -> Names {
        let settings = Settings::default();
        let documents = parse_documents("some.yaml", documents, &settings).expect("documents");
        let (facts, mut identities) = (NodeFacts::default(), IdentityAllocator::new());
        let tables = compile(
            &documents,
            &facts,
            &settings,
            &mut identities,
            Generation(1),
        );
        Names {
            tables: Some(Arc::new(tables.expect("tables"))),
            ..Names::default()
        }
    }

    #[test]
    fn a_policy_without_rules_comes_and_goes_like_any_other() {
        let nothing = names("{apiVersion: v1, kind: Namespace, metadata: {name: a}}");
        let denying = names(
            "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: a}, \
             spec: {podSelector: {}, policyTypes: [Ingress]}}",
        );
        let change = PolicyChange {
            kind: "NetworkPolicy".into(),
            namespace: "a".into(),
            name: "deny".into(),
            generation: 1,
            rules: 0,
        };
        let log = AgentLog::default();
        log.compare(Timestamp::UNIX_EPOCH, Some(&nothing), &denying);
        log.compare(Timestamp::UNIX_EPOCH, Some(&denying), &denying);
        log.compare(Timestamp::UNIX_EPOCH, Some(&denying), &nothing);
        let told: Vec<AgentEvent> = log
            .since(0)
            .0
            .into_iter()
            .map(|entry| entry.event)
            .collect();
        assert_eq!(
            told,
            [
                AgentEvent::PolicyUpdated(change.clone()),
                AgentEvent::PolicyDeleted(change)
            ]
        );
    }
}
