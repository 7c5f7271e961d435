//! Pods that are alike: the same namespace, the same labels.

use super::selection::Selection;
use crate::observe::FlowEnd;
use crate::review::recorded::{RecordedConnection, RecordedEnd};
use std::collections::{BTreeMap, BTreeSet};

const NAMESPACE_LABEL: &str = "k8s:io.kubernetes.pod.namespace=";
/// Labels that nobody gave the pod itself: its namespace's, its service account, its cluster.
const NOT_OWN: &str = "io.cilium.k8s.";

/// A pod that exists, with the labels of its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The labels of its identity, `k8s:app=web`.
    pub labels: Vec<String>,
}

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// Pods that a policy does not tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Their namespace.
    pub namespace: String,
    /// Their own labels.
    pub labels: Labels,
    /// What selects them and no other workload that is known.
    pub selection: Selection,
    /// The name of the policy for them.
    pub policy: String,
    /// Whether one of them was asked for by name.
    pub is_wanted: bool,
}

/// The number of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadIndex(usize);

/// Every workload that is known.
#[derive(Debug)]
pub struct Workloads(Vec<Workload>);

impl Workloads {
    /// Those of recorded ends and of pods that exist.
    pub fn of(connections: &[&RecordedConnection], pods: &[KnownPod], wanted: &[String]) -> Self {
        let mut known: BTreeMap<(String, Labels), bool> = BTreeMap::new();
        let mut note = |labels: &[String], pod: Option<(&str, &str)>| {
            let Some(key) = key(labels) else { return };
            let is_wanted = pod.is_some_and(|pod| is_any(wanted, pod));
            *known.entry(key).or_default() |= is_wanted;
        };
        for pod in pods {
            note(&pod.labels, Some((&pod.namespace, &pod.name)));
        }
        for end in connections
            .iter()
            .flat_map(|connection| [&connection.source, &connection.destination])
        {
            let pod = end.pod.as_ref();
            note(
                &end.labels,
                pod.map(|(ns, name)| (ns.as_str(), name.as_str())),
            );
        }
        let all: Vec<(String, Labels)> = known.keys().cloned().collect();
        let mut taken = BTreeSet::new();
        let workloads = known.into_iter().map(|((namespace, labels), is_wanted)| {
            let others = all
                .iter()
                .filter(|(of, other)| *of == namespace && *other != labels);
            let others: Vec<&Labels> = others.map(|(_, other)| other).collect();
            let selection = Selection::of(&labels, &others);
            let policy = free_name(&selection.name(), &namespace, &mut taken);
            Workload {
                namespace,
                labels,
                selection,
                policy,
                is_wanted,
            }
        });
        Self(workloads.collect())
    }

    /// The workload of an end; None when it is no pod.
    pub fn find(&self, end: &RecordedEnd) -> Option<WorkloadIndex> {
        let (namespace, labels) = key(&end.labels)?;
        self.0
            .binary_search_by(|other| (&other.namespace, &other.labels).cmp(&(&namespace, &labels)))
            .ok()
            .map(WorkloadIndex)
    }

    /// One of them.
    pub fn get(&self, index: WorkloadIndex) -> &Workload {
        &self.0[index.0]
    }
}

impl Workload {
    /// Whether it is the cluster's DNS.
    pub fn is_dns(&self) -> bool {
        self.namespace == "kube-system"
            && self
                .labels
                .get("k8s-app")
                .is_some_and(|app| app == "kube-dns")
    }

    /// What it is called in comments.
    pub fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.selection.name())
    }
}

fn is_any(wanted: &[String], (namespace, name): (&str, &str)) -> bool {
    let end = FlowEnd {
        namespace: namespace.to_owned(),
        pod_name: name.to_owned(),
        ..FlowEnd::default()
    };
    wanted.iter().any(|wanted| end.is_pod(wanted))
}

/// Namespace and own labels of a pod; None for what is no pod.
fn key(labels: &[String]) -> Option<(String, Labels)> {
    let namespace = labels
        .iter()
        .find_map(|label| label.strip_prefix(NAMESPACE_LABEL))?;
    let own = labels.iter().filter_map(|label| {
        let label = label.strip_prefix("k8s:")?;
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        let is_own = !key.starts_with(NOT_OWN) && key != "io.kubernetes.pod.namespace";
        is_own.then(|| (key.to_owned(), value.to_owned()))
    });
    Some((namespace.to_owned(), own.collect()))
}

/// A name that no other policy of the namespace has.
fn free_name(of: &str, namespace: &str, taken: &mut BTreeSet<(String, String)>) -> String {
    let base = format!("suggested-{of}");
    let mut name = base.clone();
    let mut number = 2;
    while !taken.insert((namespace.to_owned(), name.clone())) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}
