//! Whom a selector means: namespaces, entities, address blocks. One row is one document.

use portcullis_policy::{
    Direction, Generation, IdentityAllocator, NodeFacts, Protocol, Settings, compile,
    parse_documents,
};

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: bank, labels: {team: finance}}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: api}}
status: {podIPs: [{ip: 10.1.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIPs: [{ip: 10.1.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: teller, namespace: bank, labels: {app: web}}
status: {podIPs: [{ip: 10.1.0.3}]}
";

/// Peers by name, in the order in which they are listed.
const PEERS: [(&str, &str); 7] = [
    ("api", "10.1.0.1"),
    ("web", "10.1.0.2"),
    ("teller", "10.1.0.3"),
    ("host", "192.0.2.1"),
    ("node", "192.0.2.2"),
    ("world", "198.51.100.7"),
    ("world6", "2001:db8::1"),
];

/// Who reaches TCP port 80 of `api` under a policy.
fn reaching(policy: &str) -> Vec<&'static str> {
    let settings = Settings {
        allow_localhost: portcullis_policy::AllowLocalhost::Policy,
        ..Settings::default()
    };
    let mut documents = parse_documents("pods", PODS, &settings).expect("pods");
    documents.extend(parse_documents("policy", policy, &settings).expect("a valid policy"));
    let address = |text: &str| text.parse().expect("an address");
    let facts = NodeFacts {
        node_addresses: vec![address("192.0.2.1")],
        remote_node_addresses: vec![address("192.0.2.2")],
        pod_cidrs: vec![(address("10.1.0.0"), 24)],
        ..NodeFacts::default()
    };
    let mut identities = IdentityAllocator::new();
    let tables = compile(
        &documents,
        &facts,
        &settings,
        &mut identities,
        Generation(1),
    )
    .expect("valid");
    let subject = tables.policy_of("shop", "api").expect("a pod");
    let is_allowed = |peer: &str| {
        let identity = tables.identity_of(address(peer));
        let verdict = tables.judge(subject, Direction::Ingress, identity, Protocol::Tcp, 80);
        verdict.decision.is_allowed()
    };
    PEERS
        .iter()
        .filter(|(_, peer)| is_allowed(peer))
        .map(|(name, _)| *name)
        .collect()
}

/// A policy of namespace shop with one ingress item.
fn namespaced(item: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p, namespace: shop}}\n\
         spec:\n  endpointSelector: {{}}\n  ingress: [{item}]\n"
    )
}

/// A policy of all namespaces with one ingress item.
fn clusterwide(item: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {{name: p}}\nspec:\n  \
         endpointSelector: {{}}\n  ingress: [{item}]\n"
    )
}

/// A NetworkPolicy of namespace shop with one ingress rule.
fn kubernetes(item: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\n\
         spec:\n  podSelector: {{}}\n  ingress: [{item}]\n"
    )
}

const EVERYONE: [&str; 7] = ["api", "web", "teller", "host", "node", "world", "world6"];

#[test]
fn a_namespaced_policy_means_its_own_namespace_unless_it_names_one() {
    let own = "k8s:io.kubernetes.pod.namespace";
    let cases: [(String, &[&str]); 9] = [
        ("{fromEndpoints: [{}]}".to_owned(), &["api", "web"]),
        ("{fromEndpoints: [{matchLabels: {app: web}}]}".to_owned(), &["web"]),
        (format!("{{fromEndpoints: [{{matchLabels: {{app: web, {own}: bank}}}}]}}"), &["teller"]),
        (
            format!("{{fromEndpoints: [{{matchExpressions: [{{key: {own}, operator: Exists}}]}}]}}"),
            &["api", "web", "teller"],
        ),
        (
            "{fromEndpoints: [{matchLabels: {'k8s:io.cilium.k8s.namespace.labels.team': finance}}]}".to_owned(),
            &["teller"],
        ),
        ("{fromEndpoints: [{matchLabels: {'reserved:host': ''}}]}".to_owned(), &["host"]),
        // Purely negative: pods without the label, not the world and the nodes.
        (
            format!("{{fromEndpoints: [{{matchExpressions: [{{key: {own}, operator: NotIn, values: [shop]}}]}}]}}"),
            &["teller"],
        ),
        ("{fromEndpoints: []}".to_owned(), &[]),
        ("{fromEndpoints: [], fromEntities: [all]}".to_owned(), &[]),
    ];
    for (item, expected) in cases {
        assert_eq!(reaching(&namespaced(&item)), expected, "{item}");
    }
}

#[test]
fn a_clusterwide_policy_means_pods_of_all_namespaces() {
    let cases: [(&str, &[&str]); 4] = [
        ("{fromEndpoints: [{}]}", &["api", "web", "teller"]),
        (
            "{fromEndpoints: [{matchLabels: {app: web}}]}",
            &["web", "teller"],
        ),
        (
            "{fromEndpoints: [{matchExpressions: [{key: app, operator: DoesNotExist}]}]}",
            &[],
        ),
        (
            "{fromEndpoints: [{matchLabels: {'reserved:remote-node': ''}}]}",
            &["node"],
        ),
    ];
    for (item, expected) in cases {
        assert_eq!(reaching(&clusterwide(item)), expected, "{item}");
    }
}

#[test]
fn a_subject_cannot_leave_its_namespace() {
    let policy = namespaced("{}").replace(
        "endpointSelector: {}",
        "endpointSelector: {matchLabels: {'k8s:io.kubernetes.pod.namespace': bank, app: api}}",
    );
    assert_eq!(
        reaching(&policy),
        [] as [&str; 0],
        "it still selects api of shop"
    );
}

#[test]
fn entities_and_blocks_mean_what_they_say() {
    let cases: [(&str, &[&str]); 11] = [
        ("{fromEntities: [all]}", &EVERYONE),
        ("{fromEntities: [world]}", &["world", "world6"]),
        ("{fromEntities: [world-ipv6]}", &["world6"]),
        ("{fromEntities: [host, remote-node]}", &["host", "node"]),
        (
            "{fromEntities: [cluster]}",
            &["api", "web", "teller", "host", "node"],
        ),
        ("{fromEntities: [none]}", &[]),
        // Blocks mean addresses outside the cluster, and none inside.
        ("{fromCIDR: [0.0.0.0/0]}", &["world"]),
        ("{fromCIDR: [10.0.0.0/8, '::/0']}", &["world6"]),
        (
            "{fromCIDRSet: [{cidr: 198.51.100.0/24, except: [198.51.100.7/32]}]}",
            &[],
        ),
        ("{toPorts: [{ports: [{port: '80'}]}]}", &EVERYONE),
        ("{}", &[]),
    ];
    for (item, expected) in cases {
        assert_eq!(reaching(&namespaced(item)), expected, "{item}");
    }
}

#[test]
fn an_empty_rule_of_a_network_policy_means_everyone() {
    let cases: [(&str, &[&str]); 7] = [
        ("{}", &EVERYONE),
        ("{from: []}", &EVERYONE),
        ("{from: [{podSelector: {}}]}", &["api", "web"]),
        (
            "{from: [{namespaceSelector: {}}]}",
            &["api", "web", "teller"],
        ),
        (
            "{from: [{namespaceSelector: {matchLabels: {team: finance}}}]}",
            &["teller"],
        ),
        (
            "{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}, \
             podSelector: {matchLabels: {app: web}}}]}",
            &["web"],
        ),
        ("{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}", &["world"]),
    ];
    for (item, expected) in cases {
        assert_eq!(reaching(&kubernetes(item)), expected, "{item}");
    }
}

#[test]
fn a_direction_without_rules_is_open_and_one_with_an_empty_list_is_shut() {
    assert_eq!(reaching(&kubernetes("")), [] as [&str; 0]);
    let egress_only = kubernetes("").replace("  ingress: []\n", "  policyTypes: [Egress]\n");
    assert_eq!(reaching(&egress_only), EVERYONE);
    assert_eq!(
        reaching(&namespaced("").replace("ingress", "egress")),
        EVERYONE
    );
    let open = format!(
        "{}  enableDefaultDeny: {{ingress: false}}\n",
        namespaced("{}")
    );
    assert_eq!(reaching(&open), EVERYONE);
    let shut = format!("{open}  ingressDeny: [{{fromEntities: [world]}}]\n");
    assert_eq!(reaching(&shut), ["api", "web", "teller", "host", "node"]);
}
