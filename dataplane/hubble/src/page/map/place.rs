//! Who stands on the map: a workload with all its pods, or what is no pod.

use portcullis_observe::Party;
use portcullis_policy::Identity;
use serde::Serialize;
use std::collections::BTreeSet;

/// Pods of one place that are named; the others are counted.
const PODS_MAX: usize = 64;
/// Labels of one place that are told.
const LABELS_MAX: usize = 24;

/// What makes two ends one place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum PlaceKey {
    /// Namespace and name of a workload.
    Workload(String, String),
    /// `world`, `host`, `remote-node`.
    Reserved(String),
    /// A block of addresses that a policy names.
    Block(String),
}

impl PlaceKey {
    /// Where an end belongs.
    pub(crate) fn of(party: &Party<'_>) -> Self {
        if let Some((_, workload)) = party.workload() {
            return Self::Workload(party.namespace.into(), workload.into());
        }
        let blocks = party
            .labels
            .iter()
            .filter_map(|label| label.strip_prefix("cidr:"));
        let bits = |block: &&str| {
            let (_, length) = block.split_once('/')?;
            length.parse::<u8>().ok()
        };
        if let Some(block) = blocks.max_by_key(bits) {
            return Self::Block(block.into());
        }
        let reserved = party
            .labels
            .iter()
            .find_map(|label| label.strip_prefix("reserved:"));
        let name = reserved.unwrap_or(match party.identity {
            Identity::HOST => "host",
            Identity::WORLD => "world",
            _ => "unknown",
        });
        Self::Reserved(name.into())
    }
}

/// A place as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    /// Its number: never used again.
    pub(crate) id: u32,
    /// `workload`, `block`, or what the reserved identity is.
    pub(crate) kind: String,
    /// Namespace, for a workload.
    pub(crate) namespace: String,
    /// Name, or the block.
    pub(crate) name: String,
    /// Its pods, as far as they are named.
    pub(crate) pods: BTreeSet<String>,
    /// Whether it has more pods than those.
    pub(crate) has_more_pods: bool,
    /// Labels of one of its pods.
    pub(crate) labels: Vec<String>,
    /// Whether a pod of it is on this node.
    pub(crate) is_local: bool,
    /// Links that begin or end here.
    #[serde(skip)]
    pub(crate) links: u32,
    /// When it changed.
    #[serde(skip)]
    pub(crate) version: u64,
}

impl Place {
    /// A place without a link.
    pub(crate) fn new(id: u32, key: &PlaceKey, labels: &[String]) -> Self {
        let (kind, namespace, name) = match key {
            PlaceKey::Workload(namespace, name) => ("workload", namespace.as_str(), name),
            PlaceKey::Block(block) => ("block", "", block),
            PlaceKey::Reserved(name) => (name.as_str(), "", name),
        };
        Self {
            id,
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.clone(),
            pods: BTreeSet::new(),
            has_more_pods: false,
            labels: labels.iter().take(LABELS_MAX).cloned().collect(),
            is_local: false,
            links: 0,
            version: 0,
        }
    }

    /// Notes a pod. True when it was not known.
    pub(crate) fn add_pod(&mut self, pod: &str) -> bool {
        if pod.is_empty() || self.pods.contains(pod) {
            return false;
        }
        if self.pods.len() >= PODS_MAX {
            return !std::mem::replace(&mut self.has_more_pods, true);
        }
        self.pods.insert(pod.into())
    }
}
