//! CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy.

use super::inspection::{LATER, Place};
use super::node::{Faults, Fields, Node};
use super::selectors::{self, Scope};
use super::{icmp, peers, ports};
use crate::{
    Action, Authentication, Compat, Direction, Half, Item, KeySource, Order, Peers, Policy, Rule,
    Section, Selector, Settings, Traffic,
};

/// Characters of `log.value`.
const LOG_MAX: usize = 32;
const SECTIONS: [Section; 4] = [
    Section::Ingress,
    Section::IngressDeny,
    Section::Egress,
    Section::EgressDeny,
];

/// Reads a policy; `namespace` is None for the clusterwide kind.
pub(crate) fn policy(
    node: &Node<'_>,
    kind: &str,
    namespace: Option<&str>,
    settings: &Settings,
    faults: &mut Faults,
) -> Option<Policy> {
    // The status is what some controller wrote of it, as kubectl prints it.
    let known = ["apiVersion", "kind", "metadata", "spec", "specs", "status"];
    let fields = Fields::known(node, kind, &known, faults)?;
    let (spec, specs) = (fields.get("spec"), fields.list("specs", faults));
    if spec.is_none() && specs.is_empty() {
        let _ = fields.required("spec", "a spec, or a list of specs", faults);
        return None;
    }
    let specs = specs
        .into_iter()
        .enumerate()
        .map(|(place, node)| (Some(place), node));
    let all = spec.map(|node| (None, node)).into_iter().chain(specs);
    let rules = all.filter_map(|(place, node)| rule(&node, place, namespace, settings, faults));
    Some(Policy {
        is_audited: false,
        rules: rules.collect(),
    })
}

const SPEC: &[&str] = &[
    "endpointSelector",
    "nodeSelector",
    "ingress",
    "ingressDeny",
    "egress",
    "egressDeny",
    "enableDefaultDeny",
    "labels",
    "description",
    "log",
];

fn rule(
    node: &Node<'_>,
    spec: Option<usize>,
    namespace: Option<&str>,
    settings: &Settings,
    faults: &mut Faults,
) -> Option<Rule> {
    let fields = Fields::strict(node, "a policy's spec", SPEC, faults)?;
    read_remarks(&fields, faults);
    let is_about_nodes = fields.get("nodeSelector").is_some();
    let subject = subject(node, &fields, namespace, settings, faults);
    let is_about_init = subject.as_ref().is_some_and(is_about_init);
    let scope = Scope {
        namespace,
        is_about_init,
        settings,
    };
    let present: Vec<_> = SECTIONS
        .iter()
        .filter_map(|section| Some((*section, fields.get(section.name())?)))
        .collect();
    check_sections(node, &present, settings, faults);
    let default_deny = default_deny(&fields, faults);
    let items: Vec<_> = present
        .iter()
        .map(|(section, node)| {
            (
                *section,
                items(node, *section, scope, is_about_nodes, faults),
            )
        })
        .collect();
    // A lone empty list is default deny; beside others it is as if it were not there.
    let has_content = present.iter().any(|(_, node)| !node.is_empty_list());
    let half = |direction: Direction, default_deny: bool| {
        let of_direction = || {
            items
                .iter()
                .filter(|(section, _)| section.direction() == direction)
        };
        let is_there = of_direction().any(|(_, items)| !has_content || !items.is_empty());
        let all = of_direction().flat_map(|(_, items)| items).cloned();
        is_there.then(|| Half {
            default_deny,
            items: all.collect(),
        })
    };
    Some(Rule {
        spec,
        is_about_nodes,
        subject: subject?,
        ingress: half(Direction::Ingress, default_deny.0),
        egress: half(Direction::Egress, default_deny.1),
    })
}

/// The endpoints the rule is about: pods, or this node.
fn subject(
    spec: &Node<'_>,
    fields: &Fields<'_>,
    namespace: Option<&str>,
    settings: &Settings,
    faults: &mut Faults,
) -> Option<Selector> {
    if let Some(node) = fields.get("nodeSelector") {
        if namespace.is_some() {
            node.fault(
                "no nodeSelector: only a clusterwide policy can have one",
                faults,
            );
            return None;
        }
        if fields.get("endpointSelector").is_some() {
            spec.fault_found("endpointSelector or nodeSelector", "both", faults);
            return None;
        }
        if !settings.has_host_firewall {
            node.warn(
                "the host firewall is off, so the policy does nothing on this node",
                faults,
            );
        }
        return Some(selectors::own_node(&node, faults));
    }
    let expected = "the pods it is about; {} for all";
    let node = fields.required("endpointSelector", expected, faults)?;
    let scope = Scope {
        namespace,
        is_about_init: false,
        settings,
    };
    Some(selectors::subject(&node, scope, faults))
}

fn is_about_init(subject: &Selector) -> bool {
    subject
        .requirements
        .iter()
        .any(|requirement| requirement.source == KeySource::Reserved && requirement.key == "init")
}

/// Sections without elements: refused, or default deny. [policy-semantics §3.3, §15.4]
fn check_sections(
    spec: &Node<'_>,
    present: &[(Section, Node<'_>)],
    settings: &Settings,
    faults: &mut Faults,
) {
    let has_content = present.iter().any(|(_, node)| !node.is_empty_list());
    if present.is_empty() {
        spec.fault_found(
            "at least one of ingress, ingressDeny, egress and egressDeny",
            "none of them",
            faults,
        );
    }
    for (section, node) in present.iter().filter(|(_, node)| node.is_empty_list()) {
        if has_content {
            node.warn(
                "an empty list beside other sections is as if it were not there; write `- {}` for \
                 default deny",
                faults,
            );
        } else if settings.compat == Compat::Cilium {
            node.fault(
                "at least one element; write `- {}` for default deny",
                faults,
            );
        } else {
            node.warn(
                &format!(
                    "read as default deny; other engines refuse this spelling, and then nothing \
                     is denied: `{section}: [{{}}]` means the same everywhere"
                ),
                faults,
            );
        }
    }
}

/// Fields that change no verdict.
fn read_remarks(fields: &Fields<'_>, faults: &mut Faults) {
    if let Some(node) = fields.get("description") {
        let _ = node.text(faults);
    }
    let _ = fields.list("labels", faults);
    let log = fields
        .get("log")
        .and_then(|node| Fields::strict(&node, "log", &["value"], faults));
    if let Some(node) = log.and_then(|fields| fields.get("value"))
        && let Some(text) = node.text(faults)
        && (text.chars().count() > LOG_MAX
            || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)))
    {
        node.fault(&format!("at most {LOG_MAX} printable characters"), faults);
    }
}

/// Whether ingress and egress deny by default. [policy-semantics §4.3]
fn default_deny(fields: &Fields<'_>, faults: &mut Faults) -> (bool, bool) {
    let Some(node) = fields.get("enableDefaultDeny") else {
        return (true, true);
    };
    let Some(fields) = Fields::strict(&node, "enableDefaultDeny", &["ingress", "egress"], faults)
    else {
        return (true, true);
    };
    let mut truth = |name: &str| {
        fields
            .get(name)
            .and_then(|node| node.truth(faults))
            .unwrap_or(true)
    };
    (truth("ingress"), truth("egress"))
}

fn items(
    node: &Node<'_>,
    section: Section,
    scope: Scope<'_>,
    is_about_nodes: bool,
    faults: &mut Faults,
) -> Vec<Item> {
    let list = node.list(faults);
    let items = list.iter().enumerate();
    items
        .filter_map(|(place, node)| item(node, place, section, scope, is_about_nodes, faults))
        .collect()
}

fn item(
    node: &Node<'_>,
    index: usize,
    section: Section,
    scope: Scope<'_>,
    is_about_nodes: bool,
    faults: &mut Faults,
) -> Option<Item> {
    let fields = item_fields(node, section, faults)?;
    let peers = peers::read(node, &fields, section, scope, faults);
    let place = Place {
        section,
        is_about_nodes,
        settings: scope.settings,
    };
    let traffic = traffic(node, &fields, place, faults);
    let authentication = authentication(&fields, section, faults);
    let (peers, traffic) = match (peers, traffic) {
        // `- {}` names nobody: it is there for the default deny that comes with the section.
        (None, None) => (Peers::Of(Vec::new()), Traffic::All),
        (peers, traffic) => (peers.unwrap_or(Peers::Any), traffic.unwrap_or(Traffic::All)),
    };
    Some(Item {
        section,
        index,
        order: Order::default(),
        action: if section.is_deny() {
            Action::Deny
        } else {
            Action::Allow
        },
        authentication,
        peers,
        traffic,
    })
}

/// The fields of an item; those that are not supported are refused here.
fn item_fields<'a>(node: &Node<'a>, section: Section, faults: &mut Faults) -> Option<Fields<'a>> {
    let mut known: Vec<&str> = match section.direction() {
        Direction::Ingress => vec![
            "fromEndpoints",
            "fromRequires",
            "fromCIDR",
            "fromCIDRSet",
            "fromEntities",
            "fromNodes",
            "fromGroups",
            "toPorts",
            "icmps",
        ],
        Direction::Egress => vec![
            "toEndpoints",
            "toRequires",
            "toCIDR",
            "toCIDRSet",
            "toEntities",
            "toNodes",
            "toGroups",
            "toPorts",
            "icmps",
        ],
    };
    if !section.is_deny() {
        known.push("authentication");
    }
    if section.direction() == Direction::Egress {
        known.push("toServices");
        // In a deny section too, so that the error can say more than "unknown".
        known.push("toFQDNs");
    }
    let fields = Fields::lenient(node, faults)?;
    known.extend(fields.get("termination").map(|_| "termination"));
    let fields = Fields::strict(node, &format!("an item of {section}"), &known, faults)?;
    for name in ["fromRequires", "toRequires"] {
        if let Some(node) = fields.get(name).filter(|node| !node.is_empty_list()) {
            node.fault(
                &format!("no {name}: it has been removed from the policy language"),
                faults,
            );
        }
    }
    if let Some(node) = fields.get("termination") {
        node.fault(
            "no termination: it is no field of the policy language; that authentication and \
             encryption are required is not supported yet and comes with the mTLS stage, until \
             then the document is refused so that nobody relies on it",
            faults,
        );
    }
    Some(fields)
}

fn authentication(
    fields: &Fields<'_>,
    section: Section,
    faults: &mut Faults,
) -> Option<Authentication> {
    let node = fields
        .get("authentication")
        .filter(|_| !section.is_deny())?;
    let fields = Fields::strict(&node, "authentication", &["mode"], faults)?;
    let mode = fields.required("mode", AUTHENTICATION, faults)?;
    let read = match mode.text(faults)? {
        "disabled" => Authentication::Disabled,
        "required" => Authentication::Required,
        "test-always-fail" => Authentication::AlwaysFails,
        _ => {
            mode.fault(AUTHENTICATION, faults);
            return None;
        }
    };
    if read != Authentication::Disabled {
        node.warn(LATER, faults);
    }
    Some(read)
}

const AUTHENTICATION: &str = "disabled, required or test-always-fail";

/// The L4 part of an item; None when there is none.
fn traffic(
    item: &Node<'_>,
    fields: &Fields<'_>,
    place: Place<'_>,
    faults: &mut Faults,
) -> Option<Traffic> {
    let to_ports = fields.list("toPorts", faults);
    let icmps = fields.list("icmps", faults);
    if !to_ports.is_empty() && !icmps.is_empty() {
        item.fault_found(
            "toPorts or icmps in an item (write one item for each)",
            "both",
            faults,
        );
        return None;
    }
    if to_ports.is_empty() && icmps.is_empty() {
        return None;
    }
    let ports = to_ports
        .iter()
        .flat_map(|node| ports::to_ports_entry(node, place, faults));
    let mut matches: Vec<_> = ports.collect();
    matches.extend(
        icmps
            .iter()
            .flat_map(|node| icmp::entry(node, place.settings, faults)),
    );
    Some(Traffic::Of(matches))
}
