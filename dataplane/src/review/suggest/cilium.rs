//! A draft as a CiliumNetworkPolicy.

use super::SuggestedPolicy;
use super::draft::{Draft, DraftRule, PORTS_MAX, RulePeer, Span};
use super::selection::Selection;
use super::workload::{Workload, Workloads};
use super::yaml::{Yaml, scalar};
use portcullis_policy::{Direction, Protocol};

/// Writes it.
pub fn write(draft: &Draft, workloads: &Workloads) -> SuggestedPolicy {
    let workload = workloads.get(draft.subject);
    let mut yaml = Yaml::default();
    yaml.head("cilium.io/v2", "CiliumNetworkPolicy", draft, workload);
    if is_empty(&workload.selection) {
        yaml.line(1, "endpointSelector: {}");
    } else {
        yaml.line(1, "endpointSelector:");
        selector(&mut yaml, 2, &workload.selection, None);
    }
    for (direction, rules) in draft.directions() {
        let (section, peers) = match direction {
            Direction::Ingress => ("ingress:", "from"),
            Direction::Egress => ("egress:", "to"),
        };
        yaml.line(1, section);
        if rules.is_empty() {
            yaml.comment(1, "None was seen: an empty rule allows nothing.");
            yaml.line(1, "- {}");
        }
        for one in rules {
            rule(&mut yaml, peers, one, workload, workloads);
        }
    }
    SuggestedPolicy {
        namespace: workload.namespace.clone(),
        name: workload.policy.clone(),
        text: yaml.finish(),
    }
}

fn is_empty(selection: &Selection) -> bool {
    selection.equals.is_empty() && selection.absent.is_empty()
}

/// Labels of pods, in their namespace where it has to be said.
fn selector(yaml: &mut Yaml, depth: usize, selection: &Selection, namespace: Option<&str>) {
    if !selection.equals.is_empty() || namespace.is_some() {
        yaml.line(depth, "matchLabels:");
    }
    for (key, value) in &selection.equals {
        yaml.line(depth + 1, &format!("{}: {}", scalar(key), scalar(value)));
    }
    if let Some(namespace) = namespace {
        let text = format!("k8s:io.kubernetes.pod.namespace: {}", scalar(namespace));
        yaml.line(depth + 1, &text);
    }
    if !selection.absent.is_empty() {
        yaml.line(depth, "matchExpressions:");
    }
    for key in &selection.absent {
        yaml.line(depth, &format!("- key: {}", scalar(key)));
        yaml.line(depth, "  operator: DoesNotExist");
    }
}

/// One rule as it was drafted: two where there is ICMP too, which has a list of its own.
fn rule(yaml: &mut Yaml, peers: &str, rule: &DraftRule, subject: &Workload, workloads: &Workloads) {
    let is_icmp = |span: &Span| matches!(span.protocol, Protocol::Icmp | Protocol::Icmpv6);
    let (icmp, ports): (Vec<Span>, Vec<Span>) = rule.spans.iter().copied().partition(is_icmp);
    yaml.evidence(1, rule);
    if !ports.is_empty() {
        peer(yaml, peers, rule, subject, workloads);
        yaml.line(2, "toPorts:");
        for some in ports.chunks(PORTS_MAX) {
            yaml.line(2, "- ports:");
            some.iter().for_each(|span| port(yaml, *span));
        }
    }
    if !icmp.is_empty() {
        peer(yaml, peers, rule, subject, workloads);
        yaml.line(2, "icmps:");
        for some in icmp.chunks(PORTS_MAX) {
            yaml.line(2, "- fields:");
            for span in some {
                let family = match span.protocol {
                    Protocol::Icmpv6 => "IPv6",
                    _ => "IPv4",
                };
                yaml.line(3, &format!("- type: {}", span.first));
                yaml.line(3, &format!("  family: {family}"));
            }
        }
    }
}

fn port(yaml: &mut Yaml, span: Span) {
    yaml.line(3, &format!("- port: \"{}\"", span.first));
    if span.first != span.last {
        yaml.line(3, &format!("  endPort: {}", span.last));
    }
    let name = match span.protocol {
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
        _ => "TCP",
    };
    yaml.line(3, &format!("  protocol: {name}"));
}

/// Begins an element of a section with whom it is about.
fn peer(yaml: &mut Yaml, word: &str, rule: &DraftRule, subject: &Workload, workloads: &Workloads) {
    match &rule.peer {
        RulePeer::Workload(index) => {
            let other = workloads.get(*index);
            yaml.line(1, &format!("- {word}Endpoints:"));
            let elsewhere = other.namespace != subject.namespace;
            let namespace = elsewhere.then_some(other.namespace.as_str());
            if is_empty(&other.selection) && namespace.is_none() {
                yaml.line(2, "- {}");
            } else {
                element(yaml, &other.selection, namespace);
            }
        }
        RulePeer::Entity(entity) => {
            yaml.line(1, &format!("- {word}Entities:"));
            yaml.line(2, &format!("- {entity}"));
        }
        RulePeer::Addresses(addresses) => {
            yaml.line(1, &format!("- {word}CIDR:"));
            for address in addresses {
                let bits = if address.is_ipv6() { 128 } else { 32 };
                yaml.line(2, &format!("- \"{address}/{bits}\""));
            }
        }
        RulePeer::World { is_ipv6, seen } => {
            let entity = if *is_ipv6 { "world-ipv6" } else { "world-ipv4" };
            yaml.comment(
                1,
                &format!("{seen} addresses outside used these ports: too many to name each."),
            );
            yaml.line(1, &format!("- {word}Entities:"));
            yaml.line(2, &format!("- {entity}"));
        }
    }
}

/// A selector as the element of a list.
fn element(yaml: &mut Yaml, selection: &Selection, namespace: Option<&str>) {
    let mut inner = Yaml::default();
    selector(&mut inner, 3, selection, namespace);
    let text = inner.finish();
    for (number, line) in text.lines().enumerate() {
        // The dash stands in the indentation of the first line.
        let line = line.strip_prefix("      ").unwrap_or(line);
        let dash = if number == 0 { "- " } else { "  " };
        yaml.line(2, &format!("{dash}{line}"));
    }
}
