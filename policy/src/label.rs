//! Labels: what policy can select by, and which of a pod's labels count.

use std::collections::BTreeMap;
use std::fmt;

/// The label that says which namespace a pod lives in.
pub(crate) const NAMESPACE_KEY: &str = "io.kubernetes.pod.namespace";
/// Labels of the namespace become labels of its pods under this prefix.
pub(crate) const NAMESPACE_LABELS_PREFIX: &str = "io.cilium.k8s.namespace.labels.";
/// The label that names a pod's service account.
pub(crate) const SERVICE_ACCOUNT_KEY: &str = "io.cilium.k8s.policy.serviceaccount";
/// The label that names a pod's cluster.
pub(crate) const CLUSTER_KEY: &str = "io.cilium.k8s.policy.cluster";
/// Pods may not bring labels below this prefix: they would forge those above.
const RESERVED_PREFIX: &str = "io.cilium.k8s";

/// Who says a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LabelSource {
    /// An address block.
    Cidr,
    /// Ourselves, to tell apart pods that policy must tell apart. Never selected by.
    Generated,
    /// The API server.
    K8s,
    /// A node's labels.
    Node,
    /// Special entities: host, world and so on.
    Reserved,
}

impl LabelSource {
    const fn name(self) -> &'static str {
        match self {
            Self::Cidr => "cidr",
            Self::Generated => "gen",
            Self::K8s => "k8s",
            Self::Node => "node",
            Self::Reserved => "reserved",
        }
    }
}

/// One label, printed `k8s:app=web`, or `reserved:host` where it has no value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// Who says it.
    pub source: LabelSource,
    /// Its key, without the source.
    pub key: String,
    /// Its value; often empty.
    pub value: String,
}

impl Label {
    pub(crate) fn new(source: LabelSource, key: &str, value: &str) -> Self {
        Self {
            source,
            key: key.to_owned(),
            value: value.to_owned(),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source.name(), self.key)?;
        if self.value.is_empty() {
            Ok(())
        } else {
            write!(f, "={}", self.value)
        }
    }
}

/// The labels of a pod that policy selects by, sorted.
///
/// [policy-semantics §1.1]
pub(crate) fn pod_labels(
    namespace: &str,
    namespace_labels: &BTreeMap<String, String>,
    pod_labels: &BTreeMap<String, String>,
    service_account: Option<&str>,
    cluster: &str,
) -> Vec<Label> {
    let mut labels = BTreeMap::new();
    for (key, value) in pod_labels {
        if !key.starts_with(RESERVED_PREFIX) && counts_for_identity(key) {
            labels.insert(key.clone(), value.as_str());
        }
    }
    for (key, value) in namespace_labels {
        labels.insert(format!("{NAMESPACE_LABELS_PREFIX}{key}"), value.as_str());
    }
    labels.insert(NAMESPACE_KEY.to_owned(), namespace);
    labels.insert(CLUSTER_KEY.to_owned(), cluster);
    if let Some(account) = service_account {
        labels.insert(SERVICE_ACCOUNT_KEY.to_owned(), account);
    }
    labels
        .into_iter()
        .map(|(key, value)| Label {
            source: LabelSource::K8s,
            key,
            value: value.to_owned(),
        })
        .collect()
}

/// Whether a pod's own label is security relevant: of the prefixes that match, the longest
/// decides; a label that none matches counts.
fn counts_for_identity(key: &str) -> bool {
    const INCLUDED: &[&str] = &["io.kubernetes.pod.namespace", "app.kubernetes.io"];
    const EXCLUDED: &[&str] = &[
        "io.kubernetes",
        "kubernetes.io",
        "k8s.io",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/job-completion-index",
        "batch.kubernetes.io/controller-uid",
        "pod-template-generation",
        "pod-template-hash",
        "controller-revision-hash",
        "controller-uid",
        "annotation",
        "etcd_node",
        "topology.kubernetes.io",
    ];
    const EXCLUDED_ANYWHERE: &str = "beta.kubernetes.io";
    let longest = |prefixes: &[&str]| {
        prefixes
            .iter()
            .filter(|prefix| key.starts_with(**prefix))
            .map(|prefix| prefix.len())
            .max()
    };
    let anywhere = key
        .rfind(EXCLUDED_ANYWHERE)
        .map(|start| start + EXCLUDED_ANYWHERE.len());
    let excluded = longest(EXCLUDED).max(anywhere);
    longest(INCLUDED) >= excluded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_change_with_every_pod_do_not_count() {
        for key in [
            "pod-template-hash",
            "controller-uid",
            "statefulset.kubernetes.io/pod-name",
            "k8s.io/role",
            "failure-domain.beta.kubernetes.io/zone",
            "topology.kubernetes.io/zone",
        ] {
            assert!(!counts_for_identity(key), "{key}");
        }
        for key in [
            "app",
            "app.kubernetes.io/name",
            "example.k8s.io/role",
            "tier",
        ] {
            assert!(counts_for_identity(key), "{key}");
        }
    }

    #[test]
    fn a_pod_cannot_forge_its_namespace_or_service_account() {
        let forged = BTreeMap::from(
            [
                (NAMESPACE_KEY, "kube-system"),
                (SERVICE_ACCOUNT_KEY, "admin"),
                (CLUSTER_KEY, "elsewhere"),
                ("io.cilium.k8s.namespace.labels.team", "finance"),
                ("app", "web"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let labels = pod_labels("shop", &BTreeMap::new(), &forged, Some("default"), "here");
        let text: Vec<_> = labels.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "k8s:app=web",
                "k8s:io.cilium.k8s.policy.cluster=here",
                "k8s:io.cilium.k8s.policy.serviceaccount=default",
                "k8s:io.kubernetes.pod.namespace=shop",
            ]
        );
    }
}
