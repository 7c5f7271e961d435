//! A draft as a NetworkPolicy of Kubernetes.

use super::SuggestedPolicy;
use super::draft::{Draft, DraftRule, RulePeer, Span};
use super::selection::Selection;
use super::workload::{Workload, Workloads};
use super::yaml::{Yaml, scalar};
use portcullis_policy::{Direction, Protocol};

/// The label that the API server gives each namespace: its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Writes it. What the kind has no word for is told.
pub fn write(draft: &Draft, workloads: &Workloads, left_out: &mut Vec<String>) -> SuggestedPolicy {
    let workload = workloads.get(draft.subject);
    let mut yaml = Yaml::default();
    yaml.head("networking.k8s.io/v1", "NetworkPolicy", draft, workload);
    selector(&mut yaml, 1, "podSelector", &workload.selection);
    yaml.line(1, "policyTypes: [Ingress, Egress]");
    for (direction, rules) in draft.directions() {
        let (section, peers) = match direction {
            Direction::Ingress => ("ingress", "from"),
            Direction::Egress => ("egress", "to"),
        };
        let mut lines = Yaml::default();
        for rule in rules {
            let place = format!("{} {section} {peers}", workload.title());
            write_rule(
                &mut lines, peers, rule, workload, workloads, &place, left_out,
            );
        }
        let lines = lines.finish();
        if lines.is_empty() {
            yaml.line(1, &format!("{section}: []"));
        } else {
            yaml.line(1, &format!("{section}:"));
            lines.lines().for_each(|line| yaml.line(0, line));
        }
    }
    SuggestedPolicy {
        namespace: workload.namespace.clone(),
        name: workload.policy.clone(),
        text: yaml.finish(),
    }
}

fn write_rule(
    yaml: &mut Yaml,
    peers: &str,
    rule: &DraftRule,
    subject: &Workload,
    workloads: &Workloads,
    place: &str,
    left_out: &mut Vec<String>,
) {
    if let RulePeer::Entity(entity) = rule.peer {
        left_out.push(format!(
            "{place} {entity}: a NetworkPolicy has no word for it, --kind cilium has"
        ));
        return;
    }
    let is_icmp = |span: &Span| matches!(span.protocol, Protocol::Icmp | Protocol::Icmpv6);
    let ports: Vec<Span> = rule
        .spans
        .iter()
        .copied()
        .filter(|span| !is_icmp(span))
        .collect();
    if ports.len() < rule.spans.len() {
        left_out.push(format!(
            "{place} {}: a NetworkPolicy has no word for ICMP, --kind cilium has",
            name(&rule.peer, workloads)
        ));
    }
    if ports.is_empty() {
        return;
    }
    yaml.evidence(1, rule);
    if let RulePeer::World { seen, .. } = rule.peer {
        let text = format!("{seen} addresses outside used these ports: too many to name each.");
        yaml.comment(1, &text);
    }
    yaml.line(1, &format!("- {peers}:"));
    peer(yaml, &rule.peer, subject, workloads);
    yaml.line(2, "ports:");
    for span in ports {
        let name = match span.protocol {
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
            _ => "TCP",
        };
        yaml.line(2, &format!("- port: {}", span.first));
        if span.first != span.last {
            yaml.line(2, &format!("  endPort: {}", span.last));
        }
        yaml.line(2, &format!("  protocol: {name}"));
    }
}

fn name(peer: &RulePeer, workloads: &Workloads) -> String {
    match peer {
        RulePeer::Workload(index) => workloads.get(*index).title(),
        RulePeer::Entity(entity) => (*entity).to_owned(),
        RulePeer::Addresses(addresses) => {
            let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            texts.join(", ")
        }
        RulePeer::World { .. } => "the world".into(),
    }
}

fn peer(yaml: &mut Yaml, peer: &RulePeer, subject: &Workload, workloads: &Workloads) {
    match peer {
        RulePeer::Workload(index) => {
            let other = workloads.get(*index);
            if other.namespace == subject.namespace {
                selector(yaml, 2, "- podSelector", &other.selection);
            } else {
                yaml.comment(2, "Every Namespace has this label from the API server.");
                yaml.line(2, "- namespaceSelector:");
                yaml.line(4, "matchLabels:");
                yaml.line(5, &format!("{NAME_LABEL}: {}", scalar(&other.namespace)));
                selector(yaml, 3, "podSelector", &other.selection);
            }
        }
        RulePeer::Entity(_) => {}
        RulePeer::Addresses(addresses) => {
            for address in addresses {
                let bits = if address.is_ipv6() { 128 } else { 32 };
                yaml.line(2, "- ipBlock:");
                yaml.line(4, &format!("cidr: \"{address}/{bits}\""));
            }
        }
        RulePeer::World { is_ipv6, .. } => {
            yaml.line(2, "- ipBlock:");
            let all = if *is_ipv6 { "::/0" } else { "0.0.0.0/0" };
            yaml.line(4, &format!("cidr: \"{all}\""));
        }
    }
}

/// A selector below its name. A dash in the name moves what is below it.
fn selector(yaml: &mut Yaml, depth: usize, title: &str, selection: &Selection) {
    if selection.equals.is_empty() && selection.absent.is_empty() {
        yaml.line(depth, &format!("{title}: {{}}"));
        return;
    }
    yaml.line(depth, &format!("{title}:"));
    let depth = depth + if title.starts_with('-') { 2 } else { 1 };
    if !selection.equals.is_empty() {
        yaml.line(depth, "matchLabels:");
    }
    for (key, value) in &selection.equals {
        yaml.line(depth + 1, &format!("{}: {}", scalar(key), scalar(value)));
    }
    if !selection.absent.is_empty() {
        yaml.line(depth, "matchExpressions:");
    }
    for key in &selection.absent {
        yaml.line(depth, &format!("- key: {}", scalar(key)));
        yaml.line(depth, "  operator: DoesNotExist");
    }
}
