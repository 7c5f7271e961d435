//! Policies that allow what was recorded, and nothing else.

mod cilium;
mod draft;
mod kubernetes;
mod selection;
mod workload;
mod yaml;

use super::recorded::RecordedConnection;
use draft::Draft;
use serde::{Deserialize, Serialize};
use workload::Workloads;

pub use workload::KnownPod;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Wish {
    /// Only policies of these namespaces.
    pub namespaces: Vec<String>,
    /// Only policies that select one of these pods: `namespace/name`, `namespace/` or `name`.
    pub pods: Vec<String>,
    /// The kind of the policies.
    pub kind: PolicyKind,
}

/// A kind of policy that can be suggested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PolicyKind {
    /// CiliumNetworkPolicy.
    #[default]
    Cilium,
    /// NetworkPolicy, which has no word for ICMP or nodes.
    Kubernetes,
}

/// Policies, and what they could not say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Suggestion {
    /// The policies, one for each workload.
    pub policies: Vec<SuggestedPolicy>,
    /// What was recorded and is not allowed by them, and why.
    pub left_out: Vec<String>,
    /// Connections that they were inferred from.
    pub connections: u64,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuggestedPolicy {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The document, YAML with comments.
    pub text: String,
}

impl Suggestion {
    /// All documents as one file.
    #[must_use]
    pub fn text(&self) -> String {
        let texts: Vec<_> = self.policies.iter().map(|one| one.text.as_str()).collect();
        texts.join("---\n")
    }
}

/// Suggests policies for every workload that a recorded connection which passed began or ended at.
///
/// `pods` are all that are known, so that a policy for one workload does not select another.
#[must_use]
pub fn suggest(connections: &[RecordedConnection], pods: &[KnownPod], wish: &Wish) -> Suggestion {
    let passed: Vec<_> = connections
        .iter()
        .filter(|connection| connection.outcome.is_passed())
        .collect();
    let workloads = Workloads::of(&passed, pods, &wish.pods);
    let (drafts, mut left_out) = Draft::all(&passed, &workloads);
    let wanted: Vec<&Draft> = drafts
        .iter()
        .filter(|draft| {
            let workload = workloads.get(draft.subject);
            (wish.namespaces.is_empty() || wish.namespaces.contains(&workload.namespace))
                && (wish.pods.is_empty() || workload.is_wanted)
        })
        .collect();
    let policies = wanted
        .iter()
        .map(|draft| match wish.kind {
            PolicyKind::Cilium => cilium::write(draft, &workloads),
            PolicyKind::Kubernetes => kubernetes::write(draft, &workloads, &mut left_out),
        })
        .collect();
    left_out.sort();
    left_out.dedup();
    Suggestion {
        policies,
        left_out,
        connections: passed.iter().map(|connection| connection.count).sum(),
    }
}
