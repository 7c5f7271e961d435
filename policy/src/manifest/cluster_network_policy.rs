//! ClusterNetworkPolicy of `policy.networking.k8s.io`: the administrator's rules, in tiers.
//!
//! [policy-semantics §10.2]

use super::inspection::LATER;
use super::node::{Faults, Fields, Node};
use super::selectors::{self, Scope};
use super::{peers, ports};
use crate::label::NAMESPACE_KEY;
use crate::{
    Action, Direction, Filter, Half, Inspection, Item, KeySource, NamePattern, Operator, Order,
    Peer, Peers, Policy, PortMatch, PortProtocol, Ports, Requirement, Rule, Section, Selector,
    Settings, Tier, Traffic,
};
use std::sync::Arc;

/// Rules of one direction. [API schema]
const RULES_MAX: usize = 25;
const PRIORITY_MAX: u16 = 1000;
/// Room between two priorities for the rules of one object, which are asked in order.
const PRIORITY_STEP: u32 = 100;

/// Reads a policy.
pub(crate) fn policy(node: &Node<'_>, settings: &Settings, faults: &mut Faults) -> Option<Policy> {
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let fields = Fields::known(node, "ClusterNetworkPolicy", &known, faults)?;
    let spec = fields.required("spec", "a spec", faults)?;
    let known = ["tier", "priority", "subject", "ingress", "egress"];
    let fields = Fields::strict(&spec, "a ClusterNetworkPolicy's spec", &known, faults)?;
    let tier = fields.required("tier", "Admin or Baseline", faults)?;
    let tier = match tier.text(faults)? {
        "Admin" => Tier::Admin,
        "Baseline" => Tier::Baseline,
        _ => {
            tier.fault("Admin or Baseline", faults);
            return None;
        }
    };
    let priority = fields.required("priority", "a priority, 0 (first) to 1000", faults)?;
    let priority = priority.number(0, PRIORITY_MAX, "a priority", faults)?;
    let subject = fields.required("subject", "the pods it is about", faults)?;
    let scope = Scope {
        namespace: None,
        is_about_init: false,
        settings,
    };
    let order = Order {
        tier,
        priority: u32::from(priority) * PRIORITY_STEP,
    };
    let subject = pods(&subject, faults)?;
    let mut half = |section| {
        let items = items(&fields, section, order, scope, faults);
        (!items.is_empty()).then_some(Half {
            default_deny: false,
            items,
        })
    };
    Some(Policy {
        is_audited: false,
        rules: vec![Rule {
            spec: None,
            is_about_nodes: false,
            subject,
            ingress: half(Section::Ingress),
            egress: half(Section::Egress),
        }],
    })
}

/// `namespaces`, or `pods` of namespaces.
fn pods(node: &Node<'_>, faults: &mut Faults) -> Option<Selector> {
    let fields = Fields::strict(node, "a choice of pods", &["namespaces", "pods"], faults)?;
    match (fields.get("namespaces"), fields.get("pods")) {
        (Some(namespaces), None) => Some(selectors::pods(None, Some(&namespaces), "", faults)),
        (None, Some(node)) => pods_of(&node, faults),
        _ => {
            node.fault("one of namespaces and pods", faults);
            None
        }
    }
}

fn pods_of(node: &Node<'_>, faults: &mut Faults) -> Option<Selector> {
    let known = ["namespaceSelector", "podSelector"];
    let fields = Fields::strict(node, "pods", &known, faults)?;
    let namespaces = fields.required("namespaceSelector", "the namespaces; {} for all", faults)?;
    let pods = fields.required("podSelector", "the pods; {} for all", faults)?;
    Some(selectors::pods(Some(&pods), Some(&namespaces), "", faults))
}

fn items(
    fields: &Fields<'_>,
    section: Section,
    order: Order,
    scope: Scope<'_>,
    faults: &mut Faults,
) -> Vec<Item> {
    let list = fields.list(section.name(), faults);
    if list.len() > RULES_MAX
        && let Some(node) = fields.get(section.name())
    {
        let found = list.len().to_string();
        node.fault_found(&format!("at most {RULES_MAX} rules"), &found, faults);
    }
    let mut items = Vec::new();
    for (index, node) in list.iter().enumerate().take(RULES_MAX) {
        let place = u32::try_from(index).expect("there are at most 25");
        let order = Order {
            priority: order.priority + place,
            ..order
        };
        items.extend(
            rule(node, section, index, order, scope, faults)
                .into_iter()
                .flatten(),
        );
    }
    items
}

fn action(fields: &Fields<'_>, faults: &mut Faults) -> Option<Action> {
    let action = fields.required("action", "Accept, Deny or Pass", faults)?;
    match action.text(faults)? {
        "Accept" => Some(Action::Allow),
        "Deny" => Some(Action::Deny),
        "Pass" => Some(Action::Pass),
        _ => {
            action.fault("Accept, Deny or Pass", faults);
            None
        }
    }
}

/// The items of a rule: one, and one more that lets names be looked up where it names some.
fn rule(
    node: &Node<'_>,
    section: Section,
    index: usize,
    order: Order,
    scope: Scope<'_>,
    faults: &mut Faults,
) -> Option<Vec<Item>> {
    let peers_name = match section.direction() {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let known = ["name", "action", peers_name, "protocols"];
    let fields = Fields::strict(node, "a rule", &known, faults)?;
    if let Some(name) = fields.get("name") {
        let _ = name.text(faults);
    }
    let action = action(&fields, faults)?;
    let read: Vec<_> = fields
        .list(peers_name, faults)
        .iter()
        .map(|node| peer(node, section, action, scope, faults))
        .collect();
    let ports: Vec<_> = fields
        .list("protocols", faults)
        .iter()
        .map(|node| protocol(node, faults))
        .collect();
    let is_all = (read.is_empty(), ports.is_empty());
    let peers: Vec<Peer> = read.into_iter().flatten().flatten().collect();
    let names: Vec<NamePattern> = peers
        .iter()
        .filter_map(|peer| match peer {
            Peer::Name(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    let item = |peers, traffic| Item {
        section,
        index,
        order,
        action,
        authentication: None,
        peers,
        traffic,
    };
    let mut items = vec![item(
        if is_all.0 {
            Peers::Any
        } else {
            Peers::Of(peers)
        },
        if is_all.1 {
            Traffic::All
        } else {
            Traffic::Of(ports.into_iter().flatten().collect())
        },
    )];
    if !names.is_empty() {
        items.push(item(Peers::Of(vec![dns_servers()]), look_ups(names)));
    }
    Some(items)
}

fn peer(
    node: &Node<'_>,
    section: Section,
    action: Action,
    scope: Scope<'_>,
    faults: &mut Faults,
) -> Option<Vec<Peer>> {
    let known: &[&str] = match section.direction() {
        Direction::Ingress => &["namespaces", "pods"],
        Direction::Egress => &["namespaces", "pods", "networks", "nodes", "domainNames"],
    };
    let fields = Fields::strict(node, "a peer", known, faults)?;
    let present: Vec<_> = known
        .iter()
        .filter_map(|name| Some((*name, fields.get(name)?)))
        .collect();
    let [(name, value)] = present.as_slice() else {
        node.fault(&format!("one of {}", known.join(", ")), faults);
        return None;
    };
    match *name {
        "namespaces" | "pods" => {
            let mut selector = pods(node, faults)?;
            scope.confine_to_cluster(&mut selector);
            Some(vec![Peer::Labels(selector)])
        }
        "networks" => {
            let list = value.list(faults);
            let blocks = list.iter().filter_map(|node| peers::cidr(node, faults));
            let block = |cidr| Peer::Block {
                cidr,
                except: Vec::new(),
            };
            Some(blocks.map(block).collect())
        }
        "nodes" if scope.settings.has_node_selectors => {
            Some(vec![Peer::Labels(selectors::other_nodes(value, faults))])
        }
        "nodes" => {
            value.fault(
                "no nodes: the node's settings have node selectors off",
                faults,
            );
            None
        }
        _ if action != Action::Allow => {
            value.fault("no domainNames but in an Accept rule", faults);
            None
        }
        _ => {
            value.warn(LATER, faults);
            let list = value.list(faults);
            Some(
                list.iter()
                    .filter_map(|node| Some(Peer::Name(domain(node, faults)?)))
                    .collect(),
            )
        }
    }
}

/// A domain; `*.` before it means any depth below it.
fn domain(node: &Node<'_>, faults: &mut Faults) -> Option<NamePattern> {
    let text = node.text(faults)?;
    let read = match text.strip_prefix("*.") {
        Some(rest) if !rest.contains('*') => NamePattern::pattern(&format!("**.{rest}")),
        _ => NamePattern::name(text).filter(|_| !text.is_empty()),
    };
    if read.is_none() {
        node.fault("a domain name, or `*.` and a domain name", faults);
    }
    read
}

/// The cluster's DNS servers.
fn dns_servers() -> Peer {
    let is = |key: &str, value: &str| Requirement {
        source: KeySource::K8s,
        key: key.to_owned(),
        operator: Operator::In(vec![value.to_owned()]),
    };
    Peer::Labels(Selector {
        requirements: vec![is("k8s-app", "kube-dns"), is(NAMESPACE_KEY, "kube-system")],
    })
}

fn look_ups(names: Vec<NamePattern>) -> Traffic {
    Traffic::Of(vec![PortMatch {
        protocol: PortProtocol::Any,
        ports: Ports::Range(53, 53),
        inspection: Some(Arc::new(Inspection {
            filter: Filter::Dns(names),
            ..Inspection::default()
        })),
    }])
}

fn protocol(node: &Node<'_>, faults: &mut Faults) -> Option<PortMatch> {
    let known = ["tcp", "udp", "sctp", "destinationNamedPort"];
    let fields = Fields::strict(node, "a protocol", &known, faults)?;
    let present: Vec<_> = known
        .iter()
        .filter_map(|name| Some((*name, fields.get(name)?)))
        .collect();
    let [(name, value)] = present.as_slice() else {
        node.fault(&format!("one of {}", known.join(", ")), faults);
        return None;
    };
    let protocol = match *name {
        "tcp" => PortProtocol::Tcp,
        "udp" => PortProtocol::Udp,
        "sctp" => PortProtocol::Sctp,
        _ => PortProtocol::Any,
    };
    let ports = if protocol == PortProtocol::Any {
        let text = value.text(faults)?;
        if !ports::is_port_name(text) {
            value.fault("the name of a port", faults);
            return None;
        }
        Ports::Named(text.to_lowercase())
    } else {
        let fields = Fields::strict(value, name, &["destinationPort"], faults)?;
        match fields.get("destinationPort") {
            None => Ports::ALL,
            Some(port) => destination_port(&port, faults)?,
        }
    };
    Some(PortMatch {
        protocol,
        ports,
        inspection: None,
    })
}

fn destination_port(node: &Node<'_>, faults: &mut Faults) -> Option<Ports> {
    let fields = Fields::strict(node, "a destination port", &["number", "range"], faults)?;
    match (fields.get("number"), fields.get("range")) {
        (Some(number), None) => {
            let port = number.number(1, u16::MAX, "a port", faults)?;
            Some(Ports::Range(port, port))
        }
        (None, Some(range)) => {
            let fields = Fields::strict(&range, "a range", &["start", "end"], faults)?;
            let start = fields.required("start", "the first port", faults)?;
            let first = start.number(1, u16::MAX, "a port", faults)?;
            let end = fields.required("end", "the last port", faults)?;
            let last = end.number(first, u16::MAX, "the last port", faults)?;
            Some(Ports::Range(first, last))
        }
        _ => {
            node.fault("one of number and range", faults);
            None
        }
    }
}
