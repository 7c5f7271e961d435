//! Label selectors, as they stand after namespace scoping.

use crate::label::{Label, LabelSource};

/// Which source a selector's key is looked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeySource {
    /// In every one.
    Any,
    /// Among labels from the API server.
    K8s,
    /// Among reserved labels.
    Reserved,
    /// Among labels of nodes.
    Node,
}

/// What a requirement asks of its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// The key is there, with one of these values.
    In(Vec<String>),
    /// The key is not there, or has none of these values.
    NotIn(Vec<String>),
    /// The key is there.
    Exists,
    /// The key is not there.
    DoesNotExist,
}

/// One requirement of a selector.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// Where the key is looked for.
    pub source: KeySource,
    /// The key, without its source.
    pub key: String,
    /// What is asked of it.
    pub operator: Operator,
}

impl Requirement {
    /// Whether the labels meet it.
    #[must_use]
    pub fn is_met_by(&self, labels: &[Label]) -> bool {
        let mut values = labels
            .iter()
            .filter(|label| self.looks_at(label.source) && label.key == self.key)
            .map(|label| &label.value);
        match &self.operator {
            Operator::In(wanted) => values.any(|value| wanted.contains(value)),
            Operator::NotIn(unwanted) => !values.any(|value| unwanted.contains(value)),
            Operator::Exists => values.next().is_some(),
            Operator::DoesNotExist => values.next().is_none(),
        }
    }

    /// Whether it can only be met by labels that are not there.
    #[must_use]
    pub const fn is_negative(&self) -> bool {
        matches!(self.operator, Operator::NotIn(_) | Operator::DoesNotExist)
    }

    const fn looks_at(&self, source: LabelSource) -> bool {
        match self.source {
            KeySource::Any => !matches!(source, LabelSource::Generated | LabelSource::Cidr),
            KeySource::K8s => matches!(source, LabelSource::K8s),
            KeySource::Reserved => matches!(source, LabelSource::Reserved),
            KeySource::Node => matches!(source, LabelSource::Node),
        }
    }
}

/// Requirements that must all be met; none at all is met by everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Selector {
    /// The requirements.
    pub requirements: Vec<Requirement>,
}

impl Selector {
    /// Whether the labels meet every requirement.
    #[must_use]
    pub fn selects(&self, labels: &[Label]) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.is_met_by(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meets(source: KeySource, key: &str, operator: Operator, labels: &[Label]) -> bool {
        Requirement {
            source,
            key: key.to_owned(),
            operator,
        }
        .is_met_by(labels)
    }

    #[test]
    fn operators_mean_what_kubernetes_says() {
        let labels = [Label::new(LabelSource::K8s, "app", "web")];
        let values = |value: &str| vec![value.to_owned()];
        let any = KeySource::Any;
        assert!(meets(any, "app", Operator::In(values("web")), &labels));
        assert!(!meets(any, "app", Operator::In(values("db")), &labels));
        assert!(!meets(any, "tier", Operator::In(values("web")), &labels));
        assert!(!meets(any, "app", Operator::NotIn(values("web")), &labels));
        assert!(meets(any, "app", Operator::NotIn(values("db")), &labels));
        assert!(meets(any, "tier", Operator::NotIn(values("web")), &labels));
        assert!(meets(any, "app", Operator::Exists, &labels));
        assert!(!meets(any, "tier", Operator::Exists, &labels));
        assert!(!meets(any, "app", Operator::DoesNotExist, &labels));
        assert!(meets(any, "tier", Operator::DoesNotExist, &labels));
    }

    #[test]
    fn a_key_is_looked_for_in_its_source() {
        let labels = [
            Label::new(LabelSource::Reserved, "host", ""),
            Label::new(LabelSource::Generated, "named-ports", "x"),
        ];
        assert!(meets(KeySource::Any, "host", Operator::Exists, &labels));
        assert!(meets(
            KeySource::Reserved,
            "host",
            Operator::Exists,
            &labels
        ));
        assert!(!meets(KeySource::K8s, "host", Operator::Exists, &labels));
        assert!(!meets(
            KeySource::Any,
            "named-ports",
            Operator::Exists,
            &labels
        ));
    }
}
