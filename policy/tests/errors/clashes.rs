//! Faults between documents, which only the compiler can see.

use super::{documents, policy};
use portcullis_policy::{Document, Generation, IdentityAllocator, NodeFacts, Settings, compile};

#[test]
fn the_same_object_in_two_files_is_an_error_that_names_both() {
    let mut all = documents("a.yaml", &policy("  ingress: [{}]\n"));
    all.extend(documents(
        "b.yaml",
        &format!(
            "{}---\n{}",
            policy("  egress: [{}]\n").replace("name: p", "name: q"),
            policy("  egress: [{}]\n")
        ),
    ));
    let mut identities = IdentityAllocator::new();
    let found = compile(
        &all,
        &NodeFacts::default(),
        &Settings::default(),
        &mut identities,
        Generation(1),
    )
    .expect_err("one object stands twice");
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "b.yaml, document 2, metadata.name: expected each object once (a.yaml, document 1 has it \
          too), found CiliumNetworkPolicy shop/p"
        ]
    );
}

#[test]
fn an_address_that_two_pods_have_is_an_error_that_names_both() {
    let pod = |name: &str, rest: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n{rest}\n")
    };
    let status = "status: {podIPs: [{ip: 10.0.0.1}]}";
    let facts = NodeFacts {
        node_addresses: vec!["10.0.0.2".parse().expect("an address")],
        ..NodeFacts::default()
    };
    let errors = |all: &[Document]| {
        let mut identities = IdentityAllocator::new();
        compile(
            all,
            &facts,
            &Settings::default(),
            &mut identities,
            Generation(1),
        )
        .map_or_else(
            |errors| errors.iter().map(ToString::to_string).collect(),
            |_| Vec::new(),
        )
    };
    let mut all = documents("a.yaml", &pod("a", status));
    all.extend(documents("b.yaml", &pod("b", status)));
    assert_eq!(
        errors(&all),
        [
            "b.yaml, document 1, status.podIPs: expected an address of its own (Pod default/a, a.yaml, \
          document 1 has this one), found 10.0.0.1"
        ]
    );
    assert_eq!(
        errors(&documents("a.yaml", &pod("a", "status: {podIP: 10.0.0.2}"))),
        [
            "a.yaml, document 1, status.podIPs: expected an address of its own (a node has this one), found 10.0.0.2"
        ]
    );
    let mut all = documents("a.yaml", &pod("a", status));
    all.extend(documents(
        "b.yaml",
        &pod("b", "status: {phase: Succeeded, podIP: 10.0.0.1}"),
    ));
    all.extend(documents(
        "c.yaml",
        &pod("c", "spec: {hostNetwork: true}\nstatus: {podIP: 10.0.0.2}"),
    ));
    assert_eq!(
        errors(&all),
        Vec::<String>::new(),
        "neither of the two others is an endpoint"
    );
}

#[test]
fn a_failed_compilation_leaves_the_identities_as_they_were() {
    let settings = Settings::default();
    let pod = |name: &str, app: &str| {
        documents(
            "a.yaml",
            &format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {app}}}}}\n"
            ),
        )
    };
    let mut identities = IdentityAllocator::new();
    let mut run = |all: &[Document], generation| {
        compile(
            all,
            &NodeFacts::default(),
            &settings,
            &mut identities,
            Generation(generation),
        )
    };
    let before = run(&pod("a", "web"), 1)
        .expect("a valid world")
        .identity_of_pod("default", "a");
    let twice = [pod("b", "db"), pod("b", "db")].concat();
    assert!(run(&twice, 2).is_err());
    let after = run(&pod("c", "web"), 3)
        .expect("a valid world")
        .identity_of_pod("default", "c");
    assert_eq!(before, after);
    assert!(before.is_some());
}

#[test]
fn a_pod_block_that_is_none_is_an_error() {
    let facts = NodeFacts {
        pod_cidrs: vec![("10.1.0.0".parse().expect("an address"), 33)],
        ..NodeFacts::default()
    };
    let mut identities = IdentityAllocator::new();
    let found = compile(
        &[],
        &facts,
        &Settings::default(),
        &mut identities,
        Generation(1),
    )
    .expect_err("no such mask");
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["the node's settings, pod CIDRs: expected a mask of at most 32 bits, found 10.1.0.0/33"]
    );
}
