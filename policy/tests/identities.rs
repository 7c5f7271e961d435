//! Who has which address, and which labels stand behind an identity.

use portcullis_policy::{
    Generation, Identity, IdentityAllocator, NodeFacts, Settings, Tables, compile, parse_documents,
};
use std::net::IpAddr;

const WORLD: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: retail}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web, pod-template-hash: a1}}
spec: {serviceAccountName: default}
status: {podIPs: [{ip: 10.1.0.10}, {ip: 'fd00::10'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: shop, labels: {app: web, pod-template-hash: b2}}
spec: {serviceAccountName: default}
status: {podIPs: [{ip: 10.1.0.11}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stray, namespace: nowhere}
spec: {containers: [{ports: [{name: HTTP, containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: shop}
spec: {hostNetwork: true}
status: {podIP: 192.0.2.1}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  endpointSelector: {}
  egress:
  - toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.2.0.0/16]}]
  - toCIDR: [0.0.0.0/0, '2001:db8::/32']
";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn facts() -> NodeFacts {
    NodeFacts {
        node_addresses: vec![address("192.0.2.1"), address("10.1.0.1")],
        remote_node_addresses: vec![address("192.0.2.2"), address("192.0.2.3")],
        api_server_addresses: vec![address("192.0.2.3"), address("198.51.100.7")],
        pod_cidrs: vec![(address("10.1.0.0"), 24), (address("fd00::"), 64)],
    }
}

fn tables(text: &str, settings: &Settings, identities: &mut IdentityAllocator) -> Tables {
    let documents = parse_documents("world.yaml", text, settings).expect("a valid file");
    compile(&documents, &facts(), settings, identities, Generation(7)).expect("a valid world")
}

fn world(settings: &Settings) -> Tables {
    tables(WORLD, settings, &mut IdentityAllocator::new())
}

/// The labels of whoever has the address.
fn labels(tables: &Tables, of: &str) -> Vec<String> {
    tables.labels(tables.identity_of(address(of))).to_vec()
}

#[test]
fn a_pod_has_one_identity_at_all_its_addresses() {
    let tables = world(&Settings::default());
    let web = tables.identity_of_pod("shop", "web").expect("a pod");
    assert!((Identity::CLUSTER_MIN..=Identity::CLUSTER_MAX).contains(&web));
    assert_eq!(tables.identity_of(address("10.1.0.10")), web);
    assert_eq!(tables.identity_of(address("fd00::10")), web);
    assert_eq!(
        tables.identity_of_pod("shop", "web-2"),
        Some(web),
        "the same labels that count"
    );
    assert_eq!(
        tables.labels(web),
        [
            "k8s:app=web",
            "k8s:io.cilium.k8s.namespace.labels.team=retail",
            "k8s:io.cilium.k8s.policy.cluster=default",
            "k8s:io.cilium.k8s.policy.serviceaccount=default",
            "k8s:io.kubernetes.pod.namespace=shop",
        ]
    );
}

#[test]
fn a_pod_without_address_or_namespace_document_still_has_an_identity() {
    let tables = world(&Settings::default());
    let stray = tables.identity_of_pod("nowhere", "stray").expect("a pod");
    assert_eq!(
        tables.labels(stray),
        [
            "gen:named-ports=http:80/TCP",
            "k8s:io.cilium.k8s.policy.cluster=default",
            "k8s:io.kubernetes.pod.namespace=nowhere",
        ]
    );
    assert!(tables.policy_of("nowhere", "stray").is_some());
}

#[test]
fn a_pod_in_the_nodes_network_is_no_endpoint() {
    let tables = world(&Settings::default());
    assert_eq!(tables.identity_of_pod("shop", "agent"), None);
    assert_eq!(tables.policy_of("shop", "agent"), None);
    assert_eq!(tables.identity_of(address("192.0.2.1")), Identity::HOST);
}

#[test]
fn nodes_and_the_api_server_are_known_by_address() {
    let tables = world(&Settings::default());
    assert_eq!(
        tables.identity_of(address("10.1.0.1")),
        Identity::HOST,
        "the pods' gateway"
    );
    assert_eq!(
        tables.identity_of(address("192.0.2.2")),
        Identity::REMOTE_NODE
    );
    assert_eq!(
        tables.identity_of(address("192.0.2.3")),
        Identity::KUBE_APISERVER
    );
    assert_eq!(labels(&tables, "192.0.2.1"), ["reserved:host"]);
    assert_eq!(
        labels(&tables, "192.0.2.3"),
        ["reserved:kube-apiserver", "reserved:remote-node"]
    );
    assert_eq!(
        labels(&tables, "198.51.100.7"),
        [
            "cidr:198.51.100.7/32",
            "reserved:kube-apiserver",
            "reserved:world-ipv4"
        ]
    );
}

#[test]
fn an_address_among_the_pods_that_nobody_has_is_unknown() {
    let tables = world(&Settings::default());
    assert_eq!(tables.identity_of(address("10.1.0.99")), Identity::UNKNOWN);
    assert_eq!(tables.identity_of(address("fd00::99")), Identity::UNKNOWN);
    assert_eq!(tables.labels(Identity::UNKNOWN), Vec::<String>::new());
}

#[test]
fn an_address_outside_has_the_longest_block_or_the_world() {
    let tables = world(&Settings::default());
    assert_eq!(
        labels(&tables, "10.3.0.1"),
        ["cidr:10.0.0.0/8", "reserved:world-ipv4"]
    );
    assert_eq!(
        labels(&tables, "10.2.0.1"),
        ["cidr:10.2.0.0/16", "reserved:world-ipv4"]
    );
    assert_eq!(
        labels(&tables, "2001:db8::1"),
        ["cidr:2001:db8::/32", "reserved:world-ipv6"]
    );
    assert_eq!(tables.identity_of(address("8.8.8.8")), Identity::WORLD_IPV4);
    assert_eq!(
        tables.identity_of(address("2001:db9::1")),
        Identity::WORLD_IPV6
    );
}

#[test]
fn without_ipv6_the_world_is_one_and_ipv6_addresses_are_nobodys() {
    let tables = world(&Settings {
        ipv6: false,
        ..Settings::default()
    });
    assert_eq!(tables.identity_of(address("8.8.8.8")), Identity::WORLD);
    assert_eq!(
        labels(&tables, "10.3.0.1"),
        ["cidr:10.0.0.0/8", "reserved:world"]
    );
    assert_eq!(
        tables.identity_of(address("2001:db8::1")),
        Identity::UNKNOWN
    );
    assert_eq!(
        tables.identity_of(address("2001:db9::1")),
        Identity::UNKNOWN
    );
}

#[test]
fn a_label_change_gives_a_new_identity_and_the_old_number_rests() {
    let settings = Settings::default();
    let mut identities = IdentityAllocator::new();
    let pod = |app: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a, labels: {{app: {app}}}}}\n")
    };
    let mut identity = |text: &str| {
        tables(text, &settings, &mut identities)
            .identity_of_pod("default", "a")
            .expect("a pod")
    };
    let (web, db) = (identity(&pod("web")), identity(&pod("db")));
    let again = identity(&pod("web"));
    assert!(
        web != db && again != db && again != web,
        "{web:?} {db:?} {again:?}"
    );
}

#[test]
fn the_tables_count_what_they_hold() {
    let tables = world(&Settings::default());
    assert_eq!(tables.generation(), Generation(7));
    assert_eq!(
        (
            tables.pod_count(),
            tables.document_count(),
            tables.rule_count()
        ),
        (3, 1, 2)
    );
    let numbers: Vec<_> = tables.identities().map(|(identity, _)| identity).collect();
    assert_eq!(numbers.len(), tables.identity_count());
    assert!(numbers.contains(&Identity::HOST) && !numbers.contains(&Identity::UNKNOWN));
    assert!(tables.rule(portcullis_policy::RuleId(2)).is_none());
}
