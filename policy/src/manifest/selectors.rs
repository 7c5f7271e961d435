//! Label selectors, and the namespaces they are confined to.

use super::metadata::{LABEL_VALUE, is_label_key, is_label_value};
use super::node::{Faults, Fields, Node, quoted};
use crate::label::{CLUSTER_KEY, NAMESPACE_KEY, NAMESPACE_LABELS_PREFIX};
use crate::{KeySource, Operator, Requirement, Selector, Settings};

/// What a policy's selectors are confined to. [policy-semantics §3.2]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// The policy's namespace; None for a clusterwide one.
    pub(crate) namespace: Option<&'a str>,
    /// Whether the subject is the pods whose labels are not known yet.
    pub(crate) is_about_init: bool,
    /// What the node's owner decided.
    pub(crate) settings: &'a Settings,
}

impl Scope<'_> {
    /// Where peers are those of this cluster unless they name one, says so.
    pub(crate) fn confine_to_cluster(self, selector: &mut Selector) {
        let names_one = |requirement: &Requirement| {
            requirement.key == CLUSTER_KEY || requirement.source == KeySource::Reserved
        };
        if self.settings.is_confined_to_cluster && !selector.requirements.iter().any(names_one) {
            selector.requirements.push(Requirement {
                source: KeySource::K8s,
                key: CLUSTER_KEY.to_owned(),
                operator: Operator::In(vec![self.settings.cluster_name.clone()]),
            });
        }
    }
}

/// What a selector's keys may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyStyle {
    /// `app`, `k8s:app`, `reserved:host`; without a source, every source.
    Cilium,
    /// `app`, among labels from the API server.
    Kubernetes,
    /// `zone`, among labels of nodes.
    Node,
    /// `kind`, among labels of groups of address blocks.
    Group,
}

/// The subject of a Cilium policy, confined to its namespace.
pub(crate) fn subject(node: &Node<'_>, scope: Scope<'_>, faults: &mut Faults) -> Selector {
    let read = read(node, KeyStyle::Cilium, faults);
    let mut requirements = Vec::new();
    for (requirement, is_label) in read {
        // A namespace that is asked for by label is overwritten: the policy cannot leave its own.
        if scope.namespace.is_some() && is_label && is_about_namespace(&requirement) {
            let own = scope
                .namespace
                .map(|own| Operator::In(vec![own.to_owned()]));
            if own.as_ref() != Some(&requirement.operator) {
                node.warn(
                    "a policy selects only pods of its own namespace; the other one is ignored",
                    faults,
                );
            }
        } else {
            requirements.push(requirement);
        }
    }
    requirements.extend(scope.namespace.map(in_namespace));
    Selector { requirements }
}

/// Peers of a Cilium policy, confined to its namespace unless they name one.
pub(crate) fn peer(node: &Node<'_>, scope: Scope<'_>, faults: &mut Faults) -> Selector {
    let requirements: Vec<_> = read(node, KeyStyle::Cilium, faults)
        .into_iter()
        .map(|(requirement, _)| requirement)
        .collect();
    let is_scoped = requirements.iter().any(|requirement| {
        requirement.source == KeySource::Reserved
            || is_about_namespace(requirement)
            || requirement.key.starts_with(NAMESPACE_LABELS_PREFIX)
    });
    let mut selector = Selector { requirements };
    match scope.namespace {
        _ if is_scoped => {}
        Some(namespace) => selector.requirements.push(in_namespace(namespace)),
        None if !scope.is_about_init => selector.requirements.push(in_any_namespace()),
        None => {}
    }
    confine_to_pods(&mut selector);
    scope.confine_to_cluster(&mut selector);
    selector
}

/// Nodes that a policy is about: this one, if it has the labels.
pub(crate) fn own_node(node: &Node<'_>, faults: &mut Faults) -> Selector {
    let mut selector = plain(node, KeyStyle::Cilium, faults);
    selector.requirements.push(is_reserved("host"));
    selector
}

/// Other nodes, by their labels.
pub(crate) fn other_nodes(node: &Node<'_>, faults: &mut Faults) -> Selector {
    let mut selector = plain(node, KeyStyle::Node, faults);
    selector.requirements.push(is_reserved("remote-node"));
    selector
}

/// A selector that is not confined to anything.
pub(crate) fn plain(node: &Node<'_>, style: KeyStyle, faults: &mut Faults) -> Selector {
    let read = read(node, style, faults).into_iter();
    Selector {
        requirements: read.map(|(requirement, _)| requirement).collect(),
    }
}

fn is_reserved(key: &str) -> Requirement {
    Requirement {
        source: KeySource::Reserved,
        key: key.to_owned(),
        operator: Operator::Exists,
    }
}

/// Keeps a selector of only negative requirements from selecting the world, this node and all
/// else that has no labels: it means pods. [policy-semantics §15.1]
fn confine_to_pods(selector: &mut Selector) {
    let is_negative = selector.requirements.iter().all(Requirement::is_negative);
    let names_reserved = selector
        .requirements
        .iter()
        .any(|requirement| requirement.source == KeySource::Reserved);
    if is_negative && !selector.requirements.is_empty() && !names_reserved {
        selector.requirements.push(in_any_namespace());
    }
}

/// Pods of a NetworkPolicy: those that `pods` selects, in the namespaces that `namespaces`
/// selects, or in the policy's own.
pub(crate) fn pods(
    pods: Option<&Node<'_>>,
    namespaces: Option<&Node<'_>>,
    own: &str,
    faults: &mut Faults,
) -> Selector {
    let mut requirements = Vec::new();
    if let Some(node) = pods {
        requirements.extend(
            read(node, KeyStyle::Kubernetes, faults)
                .into_iter()
                .map(|read| read.0),
        );
    }
    match namespaces {
        None => requirements.push(in_namespace(own)),
        Some(node) => {
            for (mut requirement, _) in read(node, KeyStyle::Kubernetes, faults) {
                requirement.key.insert_str(0, NAMESPACE_LABELS_PREFIX);
                requirements.push(requirement);
            }
            // Also where the requirements are negative: they mean namespaces, not their absence.
            requirements.push(in_any_namespace());
        }
    }
    Selector { requirements }
}

fn in_namespace(namespace: &str) -> Requirement {
    Requirement {
        source: KeySource::K8s,
        key: NAMESPACE_KEY.to_owned(),
        operator: Operator::In(vec![namespace.to_owned()]),
    }
}

fn in_any_namespace() -> Requirement {
    Requirement {
        source: KeySource::K8s,
        key: NAMESPACE_KEY.to_owned(),
        operator: Operator::Exists,
    }
}

fn is_about_namespace(requirement: &Requirement) -> bool {
    requirement.source != KeySource::Reserved && requirement.key == NAMESPACE_KEY
}

/// The requirements of a selector, each with whether it stood under `matchLabels`.
fn read(node: &Node<'_>, style: KeyStyle, faults: &mut Faults) -> Vec<(Requirement, bool)> {
    let mut requirements = Vec::new();
    let known = ["matchLabels", "matchExpressions"];
    let Some(fields) = Fields::strict(node, "a label selector", &known, faults) else {
        return requirements;
    };
    let labels = fields
        .get("matchLabels")
        .map_or_else(Vec::new, |node| node.texts(faults));
    for (key, value) in labels {
        let read_key = read_key(key, &value, style, faults);
        let text = value
            .text(faults)
            .and_then(|text| checked_value(text, &value, faults));
        if let (Some((source, key)), Some(text)) = (read_key, text) {
            requirements.push((
                Requirement {
                    source,
                    key,
                    operator: Operator::In(vec![text]),
                },
                true,
            ));
        }
    }
    for node in fields.list("matchExpressions", faults) {
        requirements
            .extend(expression(&node, style, faults).map(|requirement| (requirement, false)));
    }
    requirements
}

fn expression(node: &Node<'_>, style: KeyStyle, faults: &mut Faults) -> Option<Requirement> {
    let known = ["key", "operator", "values"];
    let fields = Fields::strict(node, "a match expression", &known, faults)?;
    let key = fields.required("key", "a label key", faults);
    let key = key.and_then(|node| read_key(node.text(faults)?, &node, style, faults));
    let values = fields.get("values");
    let texts: Vec<_> = fields
        .list("values", faults)
        .iter()
        .filter_map(|node| checked_value(node.text(faults)?, node, faults))
        .collect();
    let operators = "one of the operators In, NotIn, Exists, DoesNotExist";
    let operator = fields.required("operator", operators, faults)?;
    let wants_values = match operator.text(faults)? {
        "In" | "NotIn" => true,
        "Exists" | "DoesNotExist" => false,
        _ => {
            operator.fault(operators, faults);
            return None;
        }
    };
    let has_values = values
        .as_ref()
        .is_some_and(|values| !values.is_empty_list());
    if wants_values != has_values {
        let expected = if wants_values {
            "values for In and NotIn"
        } else {
            "no values for Exists and DoesNotExist"
        };
        match values {
            Some(values) => values.fault(expected, faults),
            None => drop(fields.required("values", expected, faults)),
        }
        return None;
    }
    let operator = match operator.text(faults)? {
        "In" => Operator::In(texts),
        "NotIn" => Operator::NotIn(texts),
        "Exists" => Operator::Exists,
        _ => Operator::DoesNotExist,
    };
    let (source, key) = key?;
    Some(Requirement {
        source,
        key,
        operator,
    })
}

fn read_key(
    text: &str,
    node: &Node<'_>,
    style: KeyStyle,
    faults: &mut Faults,
) -> Option<(KeySource, String)> {
    let (source, key) = match (style, text.split_once(':')) {
        (KeyStyle::Kubernetes, _) => (KeySource::K8s, text),
        (KeyStyle::Node, _) => (KeySource::Node, text.strip_prefix("node:").unwrap_or(text)),
        (KeyStyle::Group, _) => (
            KeySource::Any,
            text.strip_prefix("cidrgroup:").unwrap_or(text),
        ),
        (KeyStyle::Cilium, None) => (KeySource::Any, text),
        (KeyStyle::Cilium, Some((source, key))) => {
            let source = match source {
                "any" => KeySource::Any,
                "k8s" => KeySource::K8s,
                "reserved" => KeySource::Reserved,
                "node" => KeySource::Node,
                _ => {
                    let expected = "a label key from the source any, k8s, node or reserved (groups \
                                    of address blocks are selected with cidrGroupSelector)";
                    node.fault_found(expected, &quoted(text), faults);
                    return None;
                }
            };
            (source, key)
        }
    };
    if !is_label_key(key) {
        node.fault_found("a label key", &quoted(text), faults);
        return None;
    }
    Some((source, key.to_owned()))
}

fn checked_value(text: &str, node: &Node<'_>, faults: &mut Faults) -> Option<String> {
    if is_label_value(text) {
        return Some(text.to_owned());
    }
    node.fault(LABEL_VALUE, faults);
    None
}
