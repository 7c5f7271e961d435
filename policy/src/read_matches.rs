//! The oracle's plain reading of selectors and ports.

use crate::read_rules::Who;
use crate::{
    Direction, Item, KeySource, Operator, Pod, PortMatch, PortProtocol, Ports, Protocol,
    Requirement, Selector, Traffic,
};

pub(crate) fn selects(selector: &Selector, labels: &[String]) -> bool {
    selector
        .requirements
        .iter()
        .all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &Requirement, labels: &[String]) -> bool {
    let sources: &[&str] = match requirement.source {
        KeySource::Any => &["k8s", "reserved"],
        KeySource::K8s => &["k8s"],
        KeySource::Reserved => &["reserved"],
        KeySource::Node => &["node"],
    };
    let has = |value: &str| {
        sources
            .iter()
            .any(|source| labels.contains(&format!("{source}:{}={value}", requirement.key)))
    };
    let has_key = sources.iter().any(|source| {
        let start = format!("{source}:{}=", requirement.key);
        labels.iter().any(|label| label.starts_with(&start))
    });
    match &requirement.operator {
        Operator::In(values) => values.iter().any(|value| has(value)),
        Operator::NotIn(values) => !values.iter().any(|value| has(value)),
        Operator::Exists => has_key,
        Operator::DoesNotExist => !has_key,
    }
}

/// What of the item's traffic matches; None stands for all traffic.
pub(crate) fn carried<'a>(
    item: &'a Item,
    direction: Direction,
    subject: &Pod,
    who: &Who<'_>,
    protocol: Protocol,
    port: u16,
) -> Vec<Option<&'a PortMatch>> {
    let Traffic::Of(matches) = &item.traffic else {
        return vec![None];
    };
    let destination = match (direction, who) {
        (Direction::Ingress, _) => Some(subject),
        (Direction::Egress, Who::Pod(pod)) => Some(*pod),
        (Direction::Egress, _) => None,
    };
    matches
        .iter()
        .filter(|one| carries_one(one, destination, protocol, port))
        .map(Some)
        .collect()
}

pub(crate) fn carries_one(
    one: &PortMatch,
    destination: Option<&Pod>,
    protocol: Protocol,
    port: u16,
) -> bool {
    let fits = |wanted: PortProtocol| {
        use PortProtocol as P;
        match protocol {
            Protocol::Tcp => matches!(wanted, P::Tcp | P::Any),
            Protocol::Udp => matches!(wanted, P::Udp | P::Any),
            Protocol::Sctp => matches!(wanted, P::Sctp | P::Any),
            Protocol::Icmp => wanted == P::Icmp,
            Protocol::Icmpv6 => wanted == P::Icmpv6,
            Protocol::Other(_) => false,
        }
    };
    match &one.ports {
        Ports::Range(first, last) => fits(one.protocol) && (*first..=*last).contains(&port),
        Ports::Named(name) => destination.is_some_and(|pod| {
            pod.named_ports.iter().any(|named| {
                named.name == *name
                    && named.port == port
                    && fits(one.protocol)
                    && fits(named.protocol)
            })
        }),
    }
}
