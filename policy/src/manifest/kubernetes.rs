//! Kubernetes' NetworkPolicy.
//!
//! [policy-semantics §10.1; Kubernetes, `networking.k8s.io/v1`]

use super::metadata::Metadata;
use super::node::{Faults, Fields, Node};
use super::selectors::{self, Scope};
use super::{peers, ports};
use crate::{
    Action, Direction, Half, Item, Order, Peer, Peers, Policy, Rule, Section, Settings, Traffic,
};

/// Reads a NetworkPolicy.
pub(crate) fn network_policy(
    node: &Node<'_>,
    metadata: &Metadata,
    settings: &Settings,
    faults: &mut Faults,
) -> Option<Policy> {
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let fields = Fields::known(node, "NetworkPolicy", &known, faults)?;
    let spec = fields.required("spec", "a spec", faults)?;
    let known = ["podSelector", "policyTypes", "ingress", "egress"];
    let fields = Fields::strict(&spec, "a NetworkPolicy's spec", &known, faults)?;
    let subject = fields.required("podSelector", "the pods it is about; {} for all", faults)?;
    let subject = selectors::pods(Some(&subject), None, &metadata.namespace, faults);
    let types = policy_types(&fields, faults);
    let scope = Scope {
        namespace: Some(&metadata.namespace),
        is_about_init: false,
        settings,
    };
    let ingress = items(&fields, Section::Ingress, scope, faults);
    let egress = items(&fields, Section::Egress, scope, faults);
    let is_about = |direction: Direction, by_default: bool| match &types {
        Some(types) => types.contains(&direction),
        None => by_default,
    };
    let half = |items: Vec<Item>| Half {
        default_deny: true,
        items,
    };
    let has_egress = !egress.is_empty();
    for (name, is_read) in [
        ("ingress", is_about(Direction::Ingress, true)),
        ("egress", is_about(Direction::Egress, has_egress)),
    ] {
        if let Some(node) = fields
            .get(name)
            .filter(|node| !is_read && !node.is_empty_list())
        {
            node.warn(
                "policyTypes does not name this direction, so these rules do nothing",
                faults,
            );
        }
    }
    Some(Policy {
        is_audited: false,
        rules: vec![Rule {
            spec: None,
            is_about_nodes: false,
            subject,
            ingress: is_about(Direction::Ingress, true).then(|| half(ingress)),
            egress: is_about(Direction::Egress, has_egress).then(|| half(egress)),
        }],
    })
}

/// The directions it is about; None when it does not say.
fn policy_types(fields: &Fields<'_>, faults: &mut Faults) -> Option<Vec<Direction>> {
    let list = fields.list("policyTypes", faults);
    if list.is_empty() {
        return None;
    }
    let read = list.iter().filter_map(|node| match node.text(faults)? {
        "Ingress" => Some(Direction::Ingress),
        "Egress" => Some(Direction::Egress),
        _ => {
            node.fault("Ingress or Egress", faults);
            None
        }
    });
    Some(read.collect())
}

fn items(
    fields: &Fields<'_>,
    section: Section,
    scope: Scope<'_>,
    faults: &mut Faults,
) -> Vec<Item> {
    let (what, peers_name) = match section.direction() {
        Direction::Ingress => ("an ingress rule", "from"),
        Direction::Egress => ("an egress rule", "to"),
    };
    let mut items = Vec::new();
    for (index, node) in fields.list(section.name(), faults).iter().enumerate() {
        let Some(fields) = Fields::strict(node, what, &[peers_name, "ports"], faults) else {
            continue;
        };
        let from: Vec<_> = fields
            .list(peers_name, faults)
            .iter()
            .map(|node| peer(node, scope, faults))
            .collect();
        let ports: Vec<_> = fields
            .list("ports", faults)
            .iter()
            .map(|node| ports::network_policy_port(node, faults))
            .collect();
        // Empty means all. What could not be read is a fault already, and must not count as empty.
        let is_all = (from.is_empty(), ports.is_empty());
        items.push(Item {
            section,
            index,
            order: Order::default(),
            action: Action::Allow,
            authentication: None,
            peers: if is_all.0 {
                Peers::Any
            } else {
                Peers::Of(from.into_iter().flatten().collect())
            },
            traffic: if is_all.1 {
                Traffic::All
            } else {
                Traffic::Of(ports.into_iter().flatten().collect())
            },
        });
    }
    items
}

fn peer(node: &Node<'_>, scope: Scope<'_>, faults: &mut Faults) -> Option<Peer> {
    let known = ["podSelector", "namespaceSelector", "ipBlock"];
    let fields = Fields::strict(node, "a peer", &known, faults)?;
    let (pods, namespaces) = (fields.get("podSelector"), fields.get("namespaceSelector"));
    match fields.get("ipBlock") {
        Some(block) if pods.is_none() && namespaces.is_none() => ip_block(&block, faults),
        Some(block) => {
            block.fault("an ipBlock alone, or selectors without one", faults);
            None
        }
        None if pods.is_none() && namespaces.is_none() => {
            node.fault("podSelector, namespaceSelector or ipBlock", faults);
            None
        }
        None => {
            let own = scope.namespace.unwrap_or_default();
            let mut selector = selectors::pods(pods.as_ref(), namespaces.as_ref(), own, faults);
            scope.confine_to_cluster(&mut selector);
            Some(Peer::Labels(selector))
        }
    }
}

fn ip_block(node: &Node<'_>, faults: &mut Faults) -> Option<Peer> {
    let fields = Fields::strict(node, "an ipBlock", &["cidr", "except"], faults)?;
    let cidr = fields.required("cidr", "a block of addresses", faults);
    let cidr = cidr.and_then(|node| peers::cidr(&node, faults))?;
    let mut except = Vec::new();
    for node in fields.list("except", faults) {
        let Some(hole) = peers::cidr(&node, faults) else {
            continue;
        };
        if !cidr.has(hole) || cidr == hole {
            node.fault(&format!("a block inside {cidr}, and smaller"), faults);
        }
        except.push(hole);
    }
    Some(Peer::Block { cidr, except })
}
