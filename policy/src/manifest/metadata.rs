//! The metadata that every object has.

use super::Kind;
use super::node::{Faults, Fields, Node, quoted};
use std::collections::BTreeMap;

/// What is read of an object's metadata.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    /// `default` where none is given; without meaning for kinds that have none.
    pub(crate) namespace: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Empty where none is given.
    pub(crate) uid: String,
}

/// The annotation that says whether a policy is enforced or only reported.
const ENFORCEMENT_KEY: &str = "portcullis.io/enforcement";

impl Metadata {
    /// Whether a policy is only to be reported. An annotation that is misspelt is a fault: the
    /// policy would be enforced, or not, against what its author wants.
    pub(crate) fn is_audited(&self, object: &Node<'_>, faults: &mut Faults) -> bool {
        match self.annotations.get(ENFORCEMENT_KEY).map(String::as_str) {
            None | Some("enforce") => false,
            Some("audit") => true,
            Some(other) => {
                let expected = format!("audit or enforce in the annotation {ENFORCEMENT_KEY}");
                object.fault_found(&expected, &quoted(other), faults);
                false
            }
        }
    }
}

/// [Kubernetes, `ObjectMeta`]
const FIELDS: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

impl Metadata {
    /// Reads the metadata; None when the object has no usable name.
    pub(crate) fn read(fields: &Fields<'_>, kind: Kind, faults: &mut Faults) -> Option<Self> {
        let node = fields.required("metadata", "metadata with a name", faults)?;
        // Also for pods: a misspelt namespace would silently move the object to another one.
        let fields = Fields::known(&node, "metadata", FIELDS, faults)?;
        let name = fields.required("name", "a name", faults)?;
        let name = subdomain(&name, faults);
        let namespace = namespace(&fields, kind, faults);
        let labels = fields
            .get("labels")
            .map_or_else(BTreeMap::new, |node| labels(&node, faults));
        let annotations = fields
            .get("annotations")
            .map_or_else(BTreeMap::new, |node| texts(&node, faults));
        let uid = fields.get("uid").and_then(|node| node.text(faults));
        Some(Self {
            name: name?,
            namespace: namespace?,
            labels,
            annotations,
            uid: uid.unwrap_or_default().to_owned(),
        })
    }
}

fn namespace(fields: &Fields<'_>, kind: Kind, faults: &mut Faults) -> Option<String> {
    let Some(node) = fields.get("namespace") else {
        if kind.is_namespaced()
            && kind.is_policy()
            && let Some(name) = fields.get("name")
        {
            name.warn(
                "no metadata.namespace, so the policy is for the namespace \"default\"",
                faults,
            );
        }
        return Some("default".to_owned());
    };
    if !kind.is_namespaced() {
        node.fault(
            &format!("no namespace: a {} belongs to none", kind.name()),
            faults,
        );
        return None;
    }
    let name = node.text(faults)?;
    if is_dns_label(name) {
        return Some(name.to_owned());
    }
    node.fault(
        "the name of a namespace: at most 63 of a-z, 0-9 and inner dashes",
        faults,
    );
    None
}

fn subdomain(node: &Node<'_>, faults: &mut Faults) -> Option<String> {
    let name = node.text(faults)?;
    if is_subdomain(name) {
        return Some(name.to_owned());
    }
    node.fault(
        "a name: at most 253 of a-z, 0-9, and inner dashes and dots",
        faults,
    );
    None
}

/// Labels of an object; their syntax is checked, so that what an error names can exist.
fn labels(node: &Node<'_>, faults: &mut Faults) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, value) in node.texts(faults) {
        if !is_label_key(key) {
            value.fault_found("a label key", &quoted(key), faults);
        }
        let Some(text) = value.text(faults) else {
            continue;
        };
        if is_label_value(text) {
            labels.insert(key.to_owned(), text.to_owned());
        } else {
            value.fault(LABEL_VALUE, faults);
        }
    }
    labels
}

/// Strings by name, each of which may be missing.
fn texts(node: &Node<'_>, faults: &mut Faults) -> BTreeMap<String, String> {
    let texts = node.texts(faults);
    texts
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value.text(faults)?.to_owned())))
        .collect()
}

/// What a label value is. [Kubernetes, labels: syntax]
pub(crate) const LABEL_VALUE: &str =
    "a label value: at most 63 of letters, digits, and inner '-', '_' and '.'";

/// [Kubernetes, labels: syntax]
pub(crate) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}

/// [Kubernetes, labels: syntax]
pub(crate) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name_part(name),
        None => is_name_part(text),
    }
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// [RFC 1123 §2.1]
fn is_dns_label(text: &str) -> bool {
    let is_inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(is_inner)
        && bytes.last().is_some_and(is_inner)
        && bytes.iter().all(|byte| is_inner(byte) || *byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    // Kubernetes bounds the whole, not each label.
    text.len() <= 253
        && text.split('.').all(|label| {
            let end = |byte: Option<&u8>| {
                byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            };
            let bytes = label.as_bytes();
            end(bytes.first())
                && end(bytes.last())
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        })
}
