//! Which flows a reader wants.

use super::flow::{Flow, FlowEnd};
use serde::{Deserialize, Serialize};

/// All that are given must hold; of several values of one kind, one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// `FORWARDED`, `DROPPED`, `AUDIT`.
    pub verdicts: Vec<String>,
    /// `namespace/name`, `namespace/` for all of it, or a name in any namespace; either end.
    pub pods: Vec<String>,
    /// Protocols, in any case.
    pub protocols: Vec<String>,
    /// Ports, either end.
    pub ports: Vec<u16>,
    /// Keys of drop reasons.
    pub reasons: Vec<String>,
}

impl Filter {
    /// Whether a flow is wanted.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        let any = |list: &[String], is: &dyn Fn(&str) -> bool| {
            list.is_empty() || list.iter().any(|value| is(value))
        };
        any(&self.verdicts, &|verdict| {
            verdict.eq_ignore_ascii_case(&flow.verdict)
        }) && any(&self.pods, &|pod| {
            is_pod(pod, &flow.source) || is_pod(pod, &flow.destination)
        }) && any(&self.protocols, &|protocol| {
            flow.protocol.as_ref().is_some_and(|have| {
                have.eq_ignore_ascii_case(protocol)
                    || (protocol.eq_ignore_ascii_case("icmp") && have.starts_with("ICMP"))
            })
        }) && (self.ports.is_empty()
            || self
                .ports
                .iter()
                .any(|port| [flow.source_port, flow.destination_port].contains(&Some(*port))))
            && any(&self.reasons, &|reason| {
                flow.drop_reason.as_deref() == Some(reason)
            })
    }
}

/// Whether an end is this pod: `namespace/name`, `namespace/` for all of it, or a name in any.
#[must_use]
pub fn is_pod(wanted: &str, end: &FlowEnd) -> bool {
    match wanted.split_once('/') {
        Some((namespace, "")) => end.namespace == namespace,
        Some((namespace, name)) => end.namespace == namespace && end.pod_name == name,
        None => end.pod_name == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_with_or_without_its_namespace() {
        let end = FlowEnd {
            namespace: "backend".into(),
            pod_name: "api".into(),
            ..FlowEnd::default()
        };
        for wanted in ["backend/api", "backend/", "api"] {
            assert!(is_pod(wanted, &end), "{wanted}");
        }
        for other in ["frontend/api", "frontend/", "backend/web", "ap"] {
            assert!(!is_pod(other, &end), "{other}");
        }
    }
}
