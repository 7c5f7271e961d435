//! The labels that make a pod's identity.

use crate::label::{self, Label, LabelSource};
use crate::{Pod, PortProtocol, Settings};
use std::collections::BTreeMap;

/// The labels of a pod as policy sees it, sorted.
pub(crate) fn labels_of(
    pod: &Pod,
    namespace_labels: Option<&BTreeMap<String, String>>,
    settings: &Settings,
) -> Vec<Label> {
    let none = BTreeMap::new();
    let mut labels = label::pod_labels(
        &pod.namespace,
        namespace_labels.unwrap_or(&none),
        &pod.labels,
        pod.service_account.as_deref(),
        pod.cluster.as_deref().unwrap_or(&settings.cluster_name),
    );
    labels.extend(named_ports_label(pod));
    labels.sort();
    labels
}

/// Egress rules may name ports of their peers, so pods that name other ports need another
/// identity.
fn named_ports_label(pod: &Pod) -> Option<Label> {
    let ports = pod.named_ports.iter().map(|port| {
        let protocol = match port.protocol {
            PortProtocol::Udp => "UDP",
            PortProtocol::Sctp => "SCTP",
            _ => "TCP",
        };
        format!("{}:{}/{protocol}", port.name, port.port)
    });
    let text: Vec<_> = ports.collect();
    (!text.is_empty()).then(|| Label::new(LabelSource::Generated, "named-ports", &text.join(",")))
}

/// The labels as text, sorted.
pub(crate) fn texts(labels: &[Label]) -> Vec<String> {
    let mut texts: Vec<_> = labels.iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}
