//! Peers of an item of Cilium's kinds: who is meant by its L3 fields.

use super::inspection;
use super::node::{Faults, Fields, Node, nearest};
use super::selectors::{self, KeyStyle, Scope};
use crate::{Cidr, Direction, Entity, Groups, Peer, Peers, Section, ServiceChoice, Services};

/// Reads the L3 fields of an item; None when there are none.
///
/// At most one kind of them may have elements. A kind that is there without elements selects
/// nobody, and then so does the item. [policy-semantics §3.3, §13]
pub(crate) fn read(
    item: &Node<'_>,
    fields: &Fields<'_>,
    section: Section,
    scope: Scope<'_>,
    faults: &mut Faults,
) -> Option<Peers> {
    let names = match section.direction() {
        Direction::Ingress => INGRESS,
        Direction::Egress => EGRESS,
    };
    let present: Vec<_> = names
        .iter()
        .filter_map(|name| Some((*name, fields.get(name)?)))
        .collect();
    let filled: Vec<_> = present
        .iter()
        .filter(|(_, node)| !node.is_empty_list())
        .map(|(name, _)| *name)
        .collect();
    if filled.len() > 1 {
        item.fault_found(
            "one kind of peers in an item (write one item for each)",
            &filled.join(" and "),
            faults,
        );
        return None;
    }
    let mut peers = Vec::new();
    for (name, node) in &present {
        if node.is_empty_list() {
            node.warn(
                "an empty list selects nobody, whatever else the item says",
                faults,
            );
        }
        peers.extend(kind(name, node, section, scope, faults));
    }
    if present.is_empty() {
        return None;
    }
    // An empty list beside a filled one still empties the item.
    let is_emptied = present.len() > filled.len();
    Some(Peers::Of(if is_emptied { Vec::new() } else { peers }))
}

const INGRESS: &[&str] = &[
    "fromEndpoints",
    "fromCIDR",
    "fromCIDRSet",
    "fromEntities",
    "fromNodes",
    "fromGroups",
];
const EGRESS: &[&str] = &[
    "toEndpoints",
    "toCIDR",
    "toCIDRSet",
    "toEntities",
    "toNodes",
    "toGroups",
    "toServices",
    "toFQDNs",
];

fn kind(
    name: &str,
    node: &Node<'_>,
    section: Section,
    scope: Scope<'_>,
    faults: &mut Faults,
) -> Vec<Peer> {
    let list = node.list(faults);
    match name {
        "fromEndpoints" | "toEndpoints" => list
            .iter()
            .map(|node| Peer::Labels(selectors::peer(node, scope, faults)))
            .collect(),
        "fromCIDR" | "toCIDR" => list
            .iter()
            .filter_map(|node| {
                Some(Peer::Block {
                    cidr: cidr(node, faults)?,
                    except: Vec::new(),
                })
            })
            .collect(),
        "fromCIDRSet" | "toCIDRSet" => list
            .iter()
            .filter_map(|node| cidr_set_entry(node, faults))
            .collect(),
        "fromEntities" | "toEntities" => list
            .iter()
            .filter_map(|node| Some(Peer::Entity(entity(node, faults)?)))
            .collect(),
        _ if list.is_empty() => Vec::new(),
        "toFQDNs" if section.is_deny() => {
            node.fault(
                "no toFQDNs in a deny section: what no egress rule allows is denied by default, so \
                 the document means the same without this element; remove it and keep egress as \
                 it stands",
                faults,
            );
            Vec::new()
        }
        "toFQDNs" => names(node, faults),
        "toServices" => list
            .iter()
            .filter_map(|node| service(node, scope, faults))
            .collect(),
        "fromNodes" | "toNodes" if scope.settings.has_node_selectors => list
            .iter()
            .map(|node| Peer::Labels(selectors::other_nodes(node, faults)))
            .collect(),
        "fromNodes" | "toNodes" => refuse(
            node,
            name,
            "when the node's settings switch node selectors on; until then use the entities host \
             and remote-node",
            faults,
        ),
        _ => refuse(
            node,
            name,
            "with the cloud's groups; until then name addresses as CIDRs",
            faults,
        ),
    }
}

fn names(node: &Node<'_>, faults: &mut Faults) -> Vec<Peer> {
    node.warn(
        "read and checked, but no names are learned before the DNS stage: until then it selects \
         nobody",
        faults,
    );
    let list = node.list(faults);
    list.iter()
        .filter_map(|node| Some(Peer::Name(inspection::name_pattern(node, faults)?)))
        .collect()
}

fn refuse(node: &Node<'_>, name: &str, when: &str, faults: &mut Faults) -> Vec<Peer> {
    node.fault(
        &format!("no {name}: not supported here, it comes {when}"),
        faults,
    );
    Vec::new()
}

/// A block with a mask; a warning when there are bits below it.
pub(crate) fn cidr(node: &Node<'_>, faults: &mut Faults) -> Option<Cidr> {
    let text = node.text(faults)?;
    let Ok(cidr) = text.parse::<Cidr>() else {
        let hint = match text.parse::<std::net::IpAddr>() {
            Ok(address) => format!(" (did you mean {}?)", Cidr::host(address)),
            Err(_) => String::new(),
        };
        node.fault(
            &format!("a block of addresses with a mask, 10.0.0.0/8 or 2001:db8::/32{hint}"),
            faults,
        );
        return None;
    };
    let written = text
        .split('/')
        .next()
        .and_then(|address| address.parse().ok());
    if written != Some(cidr.network()) {
        node.warn(
            &format!("bits below the mask are ignored: it means {cidr}"),
            faults,
        );
    }
    Some(cidr)
}

fn cidr_set_entry(node: &Node<'_>, faults: &mut Faults) -> Option<Peer> {
    let known = ["cidr", "cidrGroupRef", "cidrGroupSelector", "except"];
    let fields = Fields::strict(node, "a CIDR set", &known, faults)?;
    let mut except = Vec::new();
    for node in fields.list("except", faults) {
        if let Some(hole) = cidr(&node, faults) {
            except.push((hole, node));
        }
    }
    let holes = except.iter().map(|(hole, _)| *hole).collect();
    let choice = ["cidr", "cidrGroupRef", "cidrGroupSelector"].map(|name| fields.get(name));
    match choice {
        [Some(block), None, None] => {
            let block = cidr(&block, faults)?;
            for (hole, node) in &except {
                if !block.has(*hole) {
                    node.fault(&format!("a block inside {block}"), faults);
                }
            }
            Some(Peer::Block {
                cidr: block,
                except: holes,
            })
        }
        [None, Some(name), None] => Some(Peer::Group {
            groups: Groups::Named(name.text(faults)?.to_owned()),
            except: holes,
        }),
        [None, None, Some(labels)] => Some(Peer::Group {
            groups: Groups::Labelled(selectors::plain(&labels, KeyStyle::Group, faults)),
            except: holes,
        }),
        _ => {
            node.fault("one of cidr, cidrGroupRef and cidrGroupSelector", faults);
            None
        }
    }
}

fn service(node: &Node<'_>, scope: Scope<'_>, faults: &mut Faults) -> Option<Peer> {
    let known = ["k8sService", "k8sServiceSelector"];
    let fields = Fields::strict(node, "a service", &known, faults)?;
    let own = |fields: &Fields<'_>, faults: &mut Faults| match fields.get("namespace") {
        Some(node) if !node.is_text("") => node.text(faults).map(str::to_owned),
        _ => scope.namespace.map(str::to_owned),
    };
    match (fields.get("k8sService"), fields.get("k8sServiceSelector")) {
        (Some(node), None) => {
            let known = ["serviceName", "namespace"];
            let fields = Fields::strict(&node, "k8sService", &known, faults)?;
            let name = fields.required("serviceName", "the name of a service", faults)?;
            Some(Peer::Service(Services {
                namespace: own(&fields, faults),
                which: ServiceChoice::Named(name.text(faults)?.to_owned()),
            }))
        }
        (None, Some(node)) => {
            let known = ["selector", "namespace"];
            let fields = Fields::strict(&node, "k8sServiceSelector", &known, faults)?;
            let labels = fields.required("selector", "labels of services", faults)?;
            let labels = selectors::plain(&labels, KeyStyle::Kubernetes, faults);
            Some(Peer::Service(Services {
                namespace: own(&fields, faults),
                which: ServiceChoice::Labelled(labels),
            }))
        }
        _ => {
            node.fault("one of k8sService and k8sServiceSelector", faults);
            None
        }
    }
}

fn entity(node: &Node<'_>, faults: &mut Faults) -> Option<Entity> {
    let text = node.text(faults)?;
    let found = Entity::ALL
        .iter()
        .copied()
        .find(|entity| entity.name() == text);
    if found.is_none() {
        let names: Vec<_> = Entity::ALL.iter().map(|entity| entity.name()).collect();
        let hint = match nearest(text, &names) {
            Some(near) => format!(" (did you mean {near}?)"),
            None => String::new(),
        };
        node.fault(
            &format!("one of the entities {}{hint}", names.join(", ")),
            faults,
        );
    }
    found
}
