//! Why a verdict is what it is, and what is probably not meant.

use portcullis_policy::{
    Decision, Direction, Document, Explanation, Generation, IdentityAllocator, NodeFacts, Protocol,
    Proxy, Settings, Tables, compile, parse_documents,
};

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIPs: [{ip: 10.1.0.10}]}
---
apiVersion: v1
kind: Pod
metadata: {name: frontend, namespace: shop, labels: {app: frontend}}
status: {podIPs: [{ip: 10.1.0.11}]}
---
apiVersion: v1
kind: Pod
metadata: {name: backend, namespace: shop, labels: {app: backend}}
status: {podIPs: [{ip: 10.1.0.12}]}
";

const POLICIES: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: allow-frontend, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: backend}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: frontend}}]
    toPorts: [{ports: [{port: '80', protocol: TCP}]}]
  - fromCIDR: [198.51.100.0/24]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: default-deny, namespace: shop}
spec:
  endpointSelector: {}
  ingress: [{}]
";

fn world(policies: &str) -> (Vec<Document>, Tables) {
    let settings = Settings::default();
    let mut documents = parse_documents("world.yaml", WORLD, &settings).expect("a world");
    documents.extend(parse_documents("policies.yaml", policies, &settings).expect("policies"));
    let (facts, mut identities) = (NodeFacts::default(), IdentityAllocator::new());
    let tables = compile(
        &documents,
        &facts,
        &settings,
        &mut identities,
        Generation(1),
    );
    (documents, tables.expect("a valid world"))
}

fn explain(tables: &Tables, from: &str, port: u16) -> Explanation {
    let subject = tables.policy_of("shop", "backend").expect("a pod");
    let peer = tables.identity_of(from.parse().expect("an address"));
    tables.explain(subject, Direction::Ingress, peer, Protocol::Tcp, port)
}

fn misses(explanation: &Explanation) -> Vec<String> {
    explanation.misses.iter().map(ToString::to_string).collect()
}

#[test]
fn a_default_deny_names_who_isolates_and_the_nearest_rule() {
    let (_, tables) = world(POLICIES);
    let found = explain(&tables, "10.1.0.10", 80);
    assert_eq!(found.verdict.decision, Decision::DenyDefault);
    assert_eq!(found.rule, None);
    let isolating: Vec<_> = found.isolating.iter().map(ToString::to_string).collect();
    assert_eq!(
        isolating,
        [
            "CiliumNetworkPolicy shop/allow-frontend",
            "CiliumNetworkPolicy shop/default-deny"
        ]
    );
    assert_eq!(
        misses(&found)[0],
        "CiliumNetworkPolicy shop/allow-frontend, ingress[0]: source has label app=web, not frontend"
    );
}

#[test]
fn a_miss_by_port_says_so() {
    let (_, tables) = world(POLICIES);
    let found = explain(&tables, "10.1.0.11", 443);
    assert_eq!(
        misses(&found)[0],
        "CiliumNetworkPolicy shop/allow-frontend, ingress[0]: 443/TCP is not 80/TCP"
    );
}

#[test]
fn a_pod_that_a_block_does_not_mean_is_told_so() {
    let (_, tables) = world(POLICIES);
    let found = misses(&explain(&tables, "10.1.0.10", 443));
    assert!(
        found.contains(
            &"CiliumNetworkPolicy shop/allow-frontend, ingress[1]: source is a pod, which the block \
              198.51.100.0/24 does not mean"
                .to_owned()
        ),
        "{found:?}"
    );
}

#[test]
fn what_a_rule_allows_names_the_rule_and_no_misses() {
    let (_, tables) = world(POLICIES);
    let found = explain(&tables, "10.1.0.11", 80);
    assert_eq!(
        found.rule.map(|rule| rule.to_string()),
        Some("CiliumNetworkPolicy shop/allow-frontend, ingress[0]".to_owned())
    );
    assert_eq!(found.misses, []);
}

fn lints(policies: &str) -> Vec<String> {
    let (documents, tables) = world(policies);
    tables
        .lint(&documents)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_policy_that_selects_no_pod_is_told() {
    let text = POLICIES.replace("app: backend", "app: bakend");
    assert_eq!(
        lints(&text),
        ["policies.yaml, document 1, spec: selects no pod that there is now"]
    );
    assert_eq!(lints(POLICIES), Vec::<String>::new());
}

#[test]
fn a_rule_that_a_deny_covers_is_told() {
    let deny = "---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: no-http}
spec:
  endpointSelector: {}
  ingressDeny:
  - toPorts: [{ports: [{port: '1', endPort: 100, protocol: TCP}]}]
";
    assert_eq!(
        lints(&format!("{POLICIES}{deny}")),
        [
            "policies.yaml, document 1, spec.ingress[0]: allows nothing: CiliumClusterwideNetworkPolicy \
          no-http, ingressDeny[0] denies all of it"
        ]
    );
    let narrower = deny.replace("endPort: 100", "endPort: 79");
    assert_eq!(
        lints(&format!("{POLICIES}{narrower}")),
        Vec::<String>::new()
    );
}

#[test]
fn rules_that_cannot_be_done_together_are_denied_and_named() {
    let rule = |name: &str, rules: &str| {
        format!(
            "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, \
             namespace: shop}}\nspec:\n  endpointSelector: {{matchLabels: {{app: backend}}}}\n  egress:\n  \
             - toEndpoints: [{{}}]\n    toPorts: [{{ports: [{{port: '53', protocol: TCP}}], rules: {rules}}}]\n"
        )
    };
    let text = rule("a", "{http: [{}]}") + &rule("b", "{dns: [{matchPattern: '*'}]}");
    let (_, tables) = world(&text);
    let conflicts: Vec<_> = tables
        .conflicts()
        .into_iter()
        .map(|(one, other)| format!("{one} and {other}"))
        .collect();
    assert_eq!(
        conflicts,
        ["CiliumNetworkPolicy shop/a, egress[0] and CiliumNetworkPolicy shop/b, egress[0]"]
    );
    let subject = tables.policy_of("shop", "backend").expect("a pod");
    let peer = tables.identity_of_pod("shop", "web").expect("a pod");
    let say = |port| {
        tables
            .judge(subject, Direction::Egress, peer, Protocol::Tcp, port)
            .decision
    };
    assert_eq!(
        (say(53), say(80)),
        (Decision::Conflict, Decision::DenyDefault)
    );
    assert!(!say(53).is_allowed());
}

#[test]
fn a_rule_that_contradicts_itself_is_denied_and_named() {
    let text = "---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: a, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: backend}}
  egress:
  - toEndpoints: [{}]
    toPorts:
    - ports: [{port: '53', protocol: TCP}, {port: '80', protocol: TCP}]
      rules: {http: [{}]}
    - ports: [{port: '53', protocol: ANY}]
      rules: {dns: [{matchPattern: '*'}]}
";
    let (_, tables) = world(text);
    let conflicts: Vec<_> = tables
        .conflicts()
        .into_iter()
        .map(|(one, other)| format!("{one} and {other}"))
        .collect();
    assert_eq!(
        conflicts,
        ["CiliumNetworkPolicy shop/a, egress[0] and CiliumNetworkPolicy shop/a, egress[0]"]
    );
    let subject = tables.policy_of("shop", "backend").expect("a pod");
    let peer = tables.identity_of_pod("shop", "web").expect("a pod");
    let say = |protocol, port| {
        tables
            .judge(subject, Direction::Egress, peer, protocol, port)
            .decision
    };
    assert_eq!(say(Protocol::Tcp, 53), Decision::Conflict);
    // Only what both ask about is contradicted.
    assert_eq!(
        say(Protocol::Tcp, 80),
        Decision::Redirect(Proxy::Http, None)
    );
    assert_eq!(say(Protocol::Udp, 53), Decision::Redirect(Proxy::Dns, None));
}
