//! Random worlds: pods, policies of all kinds and tiers, groups, names.

use crate::{
    Action, AllowLocalhost, Authentication, Cidr, CidrGroup, Compat, Document, DocumentOrigin,
    EnforcementMode, Entity, Filter, Groups, Half, HttpRule, Inspection, Item, KeySource,
    KnownNames, NamePattern, NamedPort, Namespace, NodeFacts, Object, Operator, Order, Peer, Peers,
    Pod, Policy, PortMatch, PortProtocol, Ports, Requirement, Rule, Section, Selector, Settings,
    Tier, Traffic,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use std::net::IpAddr;
use std::sync::Arc;

const NAMESPACES: [&str; 2] = ["shop", "bank"];
/// Blocks that lie in each other, and blocks that do not.
const BLOCKS: [&str; 9] = [
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "198.51.100.0/24",
    "2001:db8::/32",
    "2001:db8:1::/48",
];
/// Pods have the first eight, as far as there are pods.
pub(crate) const ADDRESSES: [&str; 18] = [
    "10.1.0.10",
    "10.1.0.11",
    "10.1.0.12",
    "fd00::10",
    "10.1.0.13",
    "fd00::11",
    "10.1.0.14",
    "10.1.0.15",
    "10.1.0.99",
    "192.0.2.1",
    "192.0.2.2",
    "192.0.2.3",
    "198.51.100.7",
    "10.1.2.3",
    "10.1.2.4",
    "10.9.0.1",
    "2001:db8:1::5",
    "2001:db9::1",
];
const POD_ADDRESSES: usize = 8;

pub(crate) fn address(place: usize) -> IpAddr {
    ADDRESSES[place].parse().expect("an address")
}

pub(crate) fn facts() -> NodeFacts {
    let one = |text: &str| text.parse().expect("an address");
    NodeFacts {
        node_addresses: vec![one("192.0.2.1")],
        remote_node_addresses: vec![one("192.0.2.2"), one("192.0.2.3")],
        api_server_addresses: vec![one("192.0.2.3"), one("198.51.100.7")],
        pod_cidrs: vec![(one("10.1.0.0"), 24), (one("fd00::"), 64)],
    }
}

pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    use EnforcementMode as Mode;
    let mode =
        prop_oneof![8 => Just(Mode::Default), 2 => Just(Mode::Always), 1 => Just(Mode::Never)];
    let localhost = select(vec![AllowLocalhost::Always, AllowLocalhost::Policy]);
    (mode, localhost, prop::bool::weighted(0.8)).prop_map(|(mode, localhost, ipv6)| Settings {
        enforcement_mode: mode,
        allow_localhost: localhost,
        compat: Compat::Portcullis,
        ipv6,
        ..Settings::default()
    })
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let sources = vec![KeySource::Any, KeySource::K8s, KeySource::Reserved];
    let keys = vec![
        "app",
        "tier",
        "io.kubernetes.pod.namespace",
        "host",
        "world-ipv4",
    ];
    let values = || vec(select(vec!["web", "db", "shop", "bank", ""]), 1..3);
    let texts = |values: Vec<&str>| values.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let operator = prop_oneof![
        values().prop_map(move |values| Operator::In(texts(values))),
        values().prop_map(move |values| Operator::NotIn(texts(values))),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist),
    ];
    (select(sources), select(keys), operator).prop_map(|(source, key, operator)| Requirement {
        source,
        key: key.to_owned(),
        operator,
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    vec(requirement(), 0..3).prop_map(|requirements| Selector { requirements })
}

fn peer() -> impl Strategy<Value = Peer> {
    let block = || select(BLOCKS.to_vec()).prop_map(|text| text.parse::<Cidr>().expect("a block"));
    prop_oneof![
        3 => selector().prop_map(Peer::Labels),
        3 => (block(), vec(block(), 0..3)).prop_map(|(cidr, except)| Peer::Block { cidr, except }),
        2 => select(Entity::ALL.to_vec()).prop_map(Peer::Entity),
        1 => select(vec!["a.example", "b.example", "*.example", "c.test"])
            .prop_map(|text| Peer::Name(NamePattern::pattern(text).expect("a pattern"))),
        1 => (select(vec!["partners", "offices", "nobody"]), vec(block(), 0..2)).prop_map(
            |(name, except)| Peer::Group { groups: Groups::Named(name.to_owned()), except }
        ),
        1 => vec(block(), 0..2).prop_map(|except| Peer::Group {
            groups: Groups::Labelled(Selector { requirements: vec![Requirement {
                source: KeySource::Any, key: "kind".to_owned(), operator: Operator::Exists,
            }] }),
            except,
        }),
    ]
}

/// The groups that peers speak of.
fn groups() -> Vec<Document> {
    let group = |name: &str, labels: &[(&str, &str)], cidrs: &[&str]| {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let cidrs = cidrs
            .iter()
            .map(|text| text.parse().expect("a block"))
            .collect();
        let object = Object::CidrGroup(CidrGroup {
            name: name.to_owned(),
            labels,
            cidrs,
        });
        document("CiliumCIDRGroup", name.to_owned(), object)
    };
    vec![
        group(
            "partners",
            &[("kind", "partner")],
            &["198.51.100.0/24", "10.1.2.0/24"],
        ),
        group("offices", &[], &["2001:db8::/32", "10.9.0.1/32"]),
    ]
}

/// The names that peers speak of. One has the address of a pod, which it must not mean.
pub(crate) fn names() -> KnownNames {
    let name = |name: &str, addresses: &[&str]| {
        let addresses = addresses
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect();
        (name.to_owned(), addresses)
    };
    KnownNames(
        [
            name("a.example", &["198.51.100.7", "10.1.0.10"]),
            name("b.example", &["10.9.0.1", "2001:db8:1::5"]),
        ]
        .into(),
    )
}

fn inspection() -> impl Strategy<Value = Option<Arc<Inspection>>> {
    let http = Inspection {
        filter: Filter::Http(vec![HttpRule::default()]),
        ..Inspection::default()
    };
    let dns = Inspection {
        filter: Filter::Dns(Vec::new()),
        ..Inspection::default()
    };
    let tls = Inspection {
        server_names: vec!["a.example".to_owned()],
        ..Inspection::default()
    };
    select(vec![http, dns, tls]).prop_map(|one| Some(Arc::new(one)))
}

fn authentication() -> impl Strategy<Value = Option<Authentication>> {
    use Authentication as A;
    prop_oneof![
        6 => Just(None),
        1 => select(vec![Some(A::Disabled), Some(A::Required), Some(A::AlwaysFails)]),
    ]
}

fn port_match() -> impl Strategy<Value = PortMatch> {
    use PortProtocol as P;
    let range = (
        select(vec![0, 8, 53, 79, 80, 65535]),
        select(vec![0, 8, 53, 80, 81, 65535]),
    );
    let ports = prop_oneof![
        3 => range.prop_map(|(one, other)| Ports::Range(one.min(other), one.max(other))),
        1 => select(vec!["http", "dns"]).prop_map(|name| Ports::Named(name.to_owned())),
    ];
    let protocols = vec![P::Any, P::Tcp, P::Udp, P::Sctp, P::Icmp, P::Icmpv6];
    let inspection = prop_oneof![3 => Just(None), 1 => inspection()];
    (select(protocols), ports, inspection).prop_map(|(protocol, ports, inspection)| PortMatch {
        protocol,
        ports,
        inspection,
    })
}

pub(crate) fn item(section: Section) -> impl Strategy<Value = Item> {
    let peers = prop_oneof![
        1 => Just(Peers::Any),
        4 => vec(peer(), 0..3).prop_map(Peers::Of),
    ];
    let traffic = prop_oneof![
        1 => Just(Traffic::All),
        2 => vec(port_match(), 0..3).prop_map(Traffic::Of),
    ];
    let traffic = (traffic, authentication());
    (peers, traffic).prop_map(move |(peers, (traffic, authentication))| Item {
        section,
        index: 0,
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

/// Items of the administrator's tiers: any action, and some priority.
fn tiered() -> impl Strategy<Value = Vec<(Order, Action)>> {
    let tier = select(vec![Tier::Admin, Tier::Baseline]);
    let order = (tier, 0..3_u32).prop_map(|(tier, priority)| Order { tier, priority });
    vec(
        (
            order,
            select(vec![Action::Deny, Action::Allow, Action::Pass]),
        ),
        6,
    )
}

fn half(allow: Section, deny: Section) -> impl Strategy<Value = Option<Half>> {
    let items = (vec(item(allow), 0..3), vec(item(deny), 0..2)).prop_map(|(mut items, denies)| {
        items.extend(denies);
        items
    });
    let tiers = prop_oneof![3 => Just(None), 1 => tiered().prop_map(Some)];
    let half =
        (prop::bool::weighted(0.7), items, tiers).prop_map(|(default_deny, mut items, tiers)| {
            for (place, item) in items.iter_mut().enumerate() {
                item.index = place;
                if let Some(tiers) = &tiers {
                    (item.order, item.action) = tiers[place];
                }
            }
            Half {
                default_deny: default_deny && tiers.is_none(),
                items,
            }
        });
    prop::option::of(half)
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    let ingress = half(Section::Ingress, Section::IngressDeny);
    let egress = half(Section::Egress, Section::EgressDeny);
    (selector(), ingress, egress).prop_map(|(subject, ingress, egress)| Rule {
        spec: None,
        is_about_nodes: false,
        subject,
        ingress,
        egress,
    })
}

fn pod() -> impl Strategy<Value = Pod> {
    let labels = btree_map(select(vec!["app", "tier"]), select(vec!["web", "db"]), 0..3);
    let named = vec![
        NamedPort {
            name: "dns".to_owned(),
            protocol: PortProtocol::Udp,
            port: 53,
        },
        NamedPort {
            name: "http".to_owned(),
            protocol: PortProtocol::Tcp,
            port: 80,
        },
        NamedPort {
            name: "http".to_owned(),
            protocol: PortProtocol::Tcp,
            port: 81,
        },
    ];
    let named = prop::sample::subsequence(named, 0..3);
    (select(NAMESPACES.to_vec()), labels, named).prop_map(|(namespace, labels, named_ports)| Pod {
        namespace: namespace.to_owned(),
        labels: labels
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
        named_ports,
        ..Pod::default()
    })
}

fn document(kind: &'static str, name: String, object: Object) -> Document {
    let namespace = None;
    let origin = DocumentOrigin {
        file: "random".to_owned(),
        document: 1,
        kind,
        namespace,
        name,
    };
    Document {
        origin,
        object,
        warnings: Vec::new(),
    }
}

pub(crate) fn documents() -> impl Strategy<Value = Vec<Document>> {
    (vec(pod(), 1..=POD_ADDRESSES), vec(vec(rule(), 1..3), 0..5)).prop_map(|(pods, policies)| {
        let namespace = Namespace {
            name: "shop".to_owned(),
            ..Namespace::default()
        };
        let mut documents = vec![document(
            "Namespace",
            "shop".to_owned(),
            Object::Namespace(namespace),
        )];
        for (place, mut pod) in pods.into_iter().enumerate() {
            pod.name = format!("pod-{place}");
            pod.addresses = vec![address(place)];
            documents.push(document("Pod", pod.name.clone(), Object::Pod(pod)));
        }
        for (place, rules) in policies.into_iter().enumerate() {
            // Rules of one document are told apart by their place.
            let mut rules = rules;
            for (place, rule) in rules.iter_mut().enumerate() {
                rule.spec = Some(place);
            }
            let policy = Policy {
                is_audited: false,
                rules,
            };
            let policy = Object::CiliumClusterwideNetworkPolicy(policy);
            documents.push(document("Policy", format!("policy-{place}"), policy));
        }
        documents.extend(groups());
        documents
    })
}
