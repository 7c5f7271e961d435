//! Faults of files, kinds, metadata and pods.

use super::{errors, policy};
use portcullis_policy::{Settings, parse_documents};

#[test]
fn a_file_without_documents_is_refused() {
    for text in [
        "",
        "\n\n",
        "# only a remark\n",
        "---\n",
        "---\n---\n",
        "null\n",
    ] {
        assert_eq!(
            errors(text),
            ["web.yaml: expected at least one document, found an empty file"],
            "{text:?}"
        );
    }
}

#[test]
fn text_that_is_no_yaml_is_refused_with_line_and_column() {
    let found = errors("kind: Pod\nmetadata: [a, b\nspec: {}\n");
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("web.yaml, line 3, column 5: expected YAML, found "),
        "{}",
        found[0]
    );
    assert!(!found[0].contains('\n'), "{}", found[0]);
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let found = errors("kind: Pod\nkind: Pod\n");
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("line 2, column 1") && found[0].contains("kind"),
        "{}",
        found[0]
    );
}

#[test]
fn what_is_no_mapping_is_refused() {
    assert_eq!(
        errors("- a\n---\n7\n"),
        [
            "web.yaml, document 1: expected a mapping, found a list",
            "web.yaml, document 2: expected a mapping, found 7",
        ]
    );
}

#[test]
fn an_unknown_kind_is_answered_with_the_known_ones() {
    let kinds = "Namespace, Pod, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, \
                 NetworkPolicy, ClusterNetworkPolicy, CiliumEgressGatewayPolicy, CiliumCIDRGroup, \
                 Node, Service, Endpoints, EndpointSlice";
    assert_eq!(
        errors("apiVersion: v1\nkind: Certificate\nmetadata: {name: a}\n"),
        [format!(
            "web.yaml, document 1, kind: expected one of the kinds {kinds}, found \"Certificate\""
        )]
    );
    assert_eq!(
        errors("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolice\nmetadata: {name: a}\n"),
        [format!(
            "web.yaml, document 1, kind: expected one of the kinds {kinds} (did you mean \
             CiliumNetworkPolicy?), found \"CiliumNetworkPolice\""
        )]
    );
    assert_eq!(
        errors("metadata: {name: a}\n"),
        ["web.yaml, document 1, kind: expected the kind of object, found nothing"]
    );
    assert_eq!(
        errors(
            "apiVersion: v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {podSelector: {}}\n"
        ),
        [
            "web.yaml, document 1, apiVersion: expected networking.k8s.io/v1 for a NetworkPolicy, found \"v1\""
        ]
    );
}

#[test]
fn every_fault_of_a_file_is_reported() {
    let text = format!(
        "{}---\n{}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\n",
        policy(
            "  ingress:\n  - fromCIDR: [10.0.0.0, 11.0.0.0/33]\n    toPorts: [{ports: [{port: 80}]}]\n"
        ),
        policy("  ingres: []\n  egress: [{toEntities: [word]}]\n"),
    );
    let places: Vec<_> = parse_documents("web.yaml", &text, &Settings::default())
        .expect_err("it is full of faults")
        .into_iter()
        .map(|error| (error.document, error.field))
        .collect();
    let expected = [
        (1, "spec.ingress[0].fromCIDR[0]"),
        (1, "spec.ingress[0].fromCIDR[1]"),
        (1, "spec.ingress[0].toPorts[0].ports[0].port"),
        (2, "spec.ingres"),
        (2, "spec.egress[0].toEntities[0]"),
        (3, "kind"),
    ];
    assert_eq!(
        places,
        expected.map(|(document, field)| (document, field.to_owned()))
    );
}

#[test]
fn no_more_than_a_hundred_errors_are_reported() {
    let text = policy(&format!(
        "  ingress: [{}]\n",
        "{fromCIDR: [x]}, ".repeat(500)
    ));
    assert_eq!(errors(&text).len(), 100);
}

#[test]
fn metadata_is_checked() {
    let with = |metadata: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {metadata}\n");
    let cases = [
        ("{}", "metadata.name: expected a name, found nothing"),
        (
            "{name: 7}",
            "metadata.name: expected a string (put it in quotes), found 7",
        ),
        (
            "{name: A_b}",
            "metadata.name: expected a name: at most 253 of a-z, 0-9, and inner dashes and dots, found \"A_b\"",
        ),
        (
            "{name: a, namepsace: b}",
            "metadata.namepsace: expected a field of metadata (did you mean namespace?), found the \
             unknown field \"namepsace\"",
        ),
        (
            "{name: a, namespace: a.b}",
            "metadata.namespace: expected the name of a namespace: at most 63 of a-z, 0-9 and inner \
             dashes, found \"a.b\"",
        ),
        (
            "{name: a, labels: [b]}",
            "metadata.labels: expected a mapping of strings, found a list",
        ),
        (
            "{name: a, labels: {b: true}}",
            "metadata.labels.b: expected a string (put it in quotes), found true",
        ),
        (
            "{name: a, labels: {'b c': d}}",
            "metadata.labels[\"b c\"]: expected a label key, found \"b c\"",
        ),
        (
            "{name: a, labels: {b: 'c d'}}",
            "metadata.labels.b: expected a label value: at most 63 of letters, digits, and inner \
             '-', '_' and '.', found \"c d\"",
        ),
    ];
    for (metadata, error) in cases {
        assert_eq!(
            errors(&with(metadata)),
            [format!("web.yaml, document 1, {error}")],
            "{metadata}"
        );
    }
    assert_eq!(
        errors("apiVersion: v1\nkind: Pod\n"),
        ["web.yaml, document 1, metadata: expected metadata with a name, found nothing"]
    );
    assert_eq!(
        errors("apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}\n"),
        [
            "web.yaml, document 1, metadata.namespace: expected no namespace: a Namespace belongs to none, found \"b\""
        ]
    );
}

#[test]
fn pods_are_checked_where_we_read_them() {
    let with = |rest: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\n{rest}\n");
    let cases = [
        (
            "status: {podIPs: [{ip: 10.0.0}]}",
            "status.podIPs[0].ip: expected an address, found \"10.0.0\"",
        ),
        (
            "status: {podIP: 0.0.0.0}",
            "status.podIP: expected an address, found \"0.0.0.0\"",
        ),
        (
            "spec: {hostNetwork: 'yes'}",
            "spec.hostNetwork: expected true or false, found \"yes\"",
        ),
        (
            "spec: {containers: [{ports: [{name: a, containerPort: 0}]}]}",
            "spec.containers[0].ports[0].containerPort: expected a port, 1 to 65535, found 0",
        ),
        (
            "spec: {containers: [{ports: [{name: a, containerPort: 1, protocol: tcp}]}]}",
            "spec.containers[0].ports[0].protocol: expected TCP, UDP or SCTP, found \"tcp\"",
        ),
    ];
    for (rest, error) in cases {
        assert_eq!(
            errors(&with(rest)),
            [format!("web.yaml, document 1, {error}")],
            "{rest}"
        );
    }
}

#[test]
fn values_in_errors_are_short_and_on_one_line() {
    let found = errors(&policy(&format!(
        "  ingress: [{{fromCIDR: [\"a\\nb{}\"]}}]\n",
        "x".repeat(1000)
    )));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].len() < 300 && !found[0].contains('\n'),
        "{}",
        found[0]
    );
}
