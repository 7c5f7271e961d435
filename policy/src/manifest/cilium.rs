//! CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy.

use super::node::{Faults, Fields, Node};
use super::selectors::{self, Scope};
use super::{icmp, peers, ports};
use crate::{
    Compat, Direction, Half, Item, KeySource, Peers, Policy, Rule, Section, Selector, Settings,
    Traffic,
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
    let subject = subject(&fields, namespace, faults);
    let is_about_init = subject.as_ref().is_some_and(is_about_init);
    let scope = Scope {
        namespace,
        is_about_init,
    };
    let present: Vec<_> = SECTIONS
        .iter()
        .filter_map(|section| Some((*section, fields.get(section.name())?)))
        .collect();
    check_sections(node, &present, settings, faults);
    let default_deny = default_deny(&fields, faults);
    let items: Vec<_> = present
        .iter()
        .map(|(section, node)| (*section, items(node, *section, scope, settings, faults)))
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
        subject: subject?,
        ingress: half(Direction::Ingress, default_deny.0),
        egress: half(Direction::Egress, default_deny.1),
    })
}

/// The pods the rule is about. Nodes can be no subject yet.
fn subject(fields: &Fields<'_>, namespace: Option<&str>, faults: &mut Faults) -> Option<Selector> {
    if let Some(node) = fields.get("nodeSelector") {
        let expected = match namespace {
            Some(_) => "no nodeSelector: only a clusterwide policy can have one",
            None => "no nodeSelector: policies for nodes are not supported yet",
        };
        node.fault(expected, faults);
        return None;
    }
    let expected = "the pods it is about; {} for all";
    let node = fields.required("endpointSelector", expected, faults)?;
    let scope = Scope {
        namespace,
        is_about_init: false,
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
    settings: &Settings,
    faults: &mut Faults,
) -> Vec<Item> {
    let list = node.list(faults);
    let items = list.iter().enumerate();
    items
        .filter_map(|(place, node)| item(node, place, section, scope, settings, faults))
        .collect()
}

fn item(
    node: &Node<'_>,
    index: usize,
    section: Section,
    scope: Scope<'_>,
    settings: &Settings,
    faults: &mut Faults,
) -> Option<Item> {
    let fields = item_fields(node, section, faults)?;
    let peers = peers::read(node, &fields, section, scope, faults);
    let traffic = traffic(node, &fields, section, settings, faults);
    let (peers, traffic) = match (peers, traffic) {
        // `- {}` names nobody: it is there for the default deny that comes with the section.
        (None, None) => (Peers::Of(Vec::new()), Traffic::All),
        (peers, traffic) => (peers.unwrap_or(Peers::Any), traffic.unwrap_or(Traffic::All)),
    };
    Some(Item {
        section,
        index,
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
            "toServices",
            "toPorts",
            "icmps",
        ],
    };
    if !section.is_deny() {
        known.push("authentication");
    }
    let fields = Fields::lenient(node, faults)?;
    // Known here so that the error can say more than "unknown".
    known.extend(
        fields
            .get("toFQDNs")
            .filter(|_| section.direction() == Direction::Egress)
            .map(|_| "toFQDNs"),
    );
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
    if let Some(node) = fields.get("authentication").filter(|_| !section.is_deny()) {
        node.fault(
            "no authentication: not supported yet, it comes with the mTLS stage",
            faults,
        );
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

/// The L4 part of an item; None when there is none.
fn traffic(
    item: &Node<'_>,
    fields: &Fields<'_>,
    section: Section,
    settings: &Settings,
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
        .flat_map(|node| ports::to_ports_entry(node, section.is_deny(), faults));
    let mut matches: Vec<_> = ports.collect();
    matches.extend(
        icmps
            .iter()
            .flat_map(|node| icmp::entry(node, settings, faults)),
    );
    Some(Traffic::Of(matches))
}
