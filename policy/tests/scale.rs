//! A node with many pods under many policies.
//!
//! Printed, not asserted: the time it takes is the machine's as much as ours.

use portcullis_policy::{
    Decision, Direction, Document, Generation, IdentityAllocator, NodeFacts, Protocol, Settings,
    compile, parse_documents,
};
use std::fmt::Write;
use std::time::Instant;

const PODS: usize = 250;
const POLICIES: usize = 1000;

fn documents() -> Vec<Document> {
    let mut text = String::new();
    for pod in 0..PODS {
        write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{pod}, namespace: ns-{}, labels: \
             {{app: app-{pod}, tier: tier-{}}}}}\nstatus: {{podIPs: [{{ip: 10.1.0.{pod}}}]}}\n",
            pod % 10,
            pod % 7,
        )
        .expect("a string takes all");
    }
    for policy in 0..POLICIES {
        write!(
            text,
            "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p-{policy}, \
             namespace: ns-{}}}\nspec:\n  endpointSelector: {{matchLabels: {{tier: tier-{}}}}}\n  \
             ingress:\n  - fromEndpoints: [{{matchLabels: {{app: app-{}, 'k8s:io.kubernetes.pod.namespace': \
             ns-{}}}}}]\n    toPorts: [{{ports: [{{port: '{}', protocol: TCP}}]}}]\n  egress:\n  - toCIDR: \
             [10.{}.0.0/16]\n",
            policy % 10,
            policy % 7,
            policy % PODS,
            policy % 10,
            1 + policy,
            2 + policy % 200,
        )
        .expect("a string takes all");
    }
    parse_documents("many.yaml", &text, &Settings::default()).expect("a valid file")
}

#[test]
fn a_thousand_policies_for_250_pods_compile() {
    let start = Instant::now();
    let documents = documents();
    println!(
        "read {} documents in {:?}",
        documents.len(),
        start.elapsed()
    );
    let start = Instant::now();
    let mut identities = IdentityAllocator::new();
    let facts = NodeFacts::default();
    let tables = compile(
        &documents,
        &facts,
        &Settings::default(),
        &mut identities,
        Generation(1),
    )
    .expect("valid");
    println!(
        "compiled {} rules in {:?}",
        tables.rule_count(),
        start.elapsed()
    );
    assert_eq!(
        (
            tables.pod_count(),
            tables.document_count(),
            tables.rule_count()
        ),
        (PODS, POLICIES, 2 * POLICIES)
    );
    assert!(
        tables.policy_count() <= 75,
        "pods of one tier and namespace share a policy"
    );
    // Policy 0 lets app-0 of ns-0 to pods of tier-0 in ns-0.
    let subject = tables.policy_of("ns-0", "pod-0").expect("a pod");
    let peer = tables.identity_of_pod("ns-0", "pod-0").expect("a pod");
    let say = |port| {
        tables
            .judge(subject, Direction::Ingress, peer, Protocol::Tcp, port)
            .decision
    };
    assert_eq!((say(1), say(2)), (Decision::Allow, Decision::DenyDefault));
}
