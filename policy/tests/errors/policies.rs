//! Faults of policies, from the spec to its selectors.

use super::{errors, policy, refuses, refuses_network_policy};
use portcullis_policy::{Compat, Settings, parse_documents};

#[test]
fn a_policy_needs_a_subject_and_a_section() {
    let head = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: shop}\n";
    assert_eq!(
        errors(head),
        ["web.yaml, document 1, spec: expected a spec, or a list of specs, found nothing"]
    );
    assert_eq!(
        errors(&format!("{head}spec: {{ingress: [{{}}]}}\n")),
        [
            "web.yaml, document 1, spec.endpointSelector: expected the pods it is about; {} for all, found nothing"
        ]
    );
    assert_eq!(
        errors(&format!(
            "{head}specs: [{{endpointSelector: {{}}, ingress: [{{}}]}}, {{endpointSelector: {{}}}}]\n"
        )),
        [
            "web.yaml, document 1, specs[1]: expected at least one of ingress, ingressDeny, egress and \
          egressDeny, found none of them"
        ]
    );
    refuses(
        "  nodeSelector: {}\n  ingress: [{}]\n",
        "spec.nodeSelector: expected no nodeSelector: only a clusterwide policy can have one, found \
         an empty mapping",
    );
    refuses(
        "  ingress: {}\n",
        "spec.ingress: expected a list, found an empty mapping",
    );
    refuses(
        "  ingress: [7]\n",
        "spec.ingress[0]: expected a mapping, found 7",
    );
}

#[test]
fn unknown_fields_are_refused_at_every_level() {
    refuses(
        "  ingress: [{}]\n  egres: [{}]\n",
        "spec.egres: expected a field of a policy's spec (did you mean egress?), found the unknown \
         field \"egres\"",
    );
    refuses(
        "  ingress: [{fromEndpoint: [{}]}]\n",
        "spec.ingress[0].fromEndpoint: expected a field of an item of ingress (did you mean \
         fromEndpoints?), found the unknown field \"fromEndpoint\"",
    );
    refuses(
        "  ingress: [{toEndpoints: [{}], fromEntities: [all]}]\n",
        "spec.ingress[0].toEndpoints: expected a field of an item of ingress (did you mean \
         fromEndpoints?), found the unknown field \"toEndpoints\"",
    );
    refuses(
        "  ingress: [{fromEndpoints: [{matchLabel: {a: b}}]}]\n",
        "spec.ingress[0].fromEndpoints[0].matchLabel: expected a field of a label selector (did you \
         mean matchLabels?), found the unknown field \"matchLabel\"",
    );
    refuses(
        "  ingress: [{toPorts: [{ports: [{port: '80', proto: TCP}]}]}]\n",
        "spec.ingress[0].toPorts[0].ports[0].proto: expected a field of a port (did you mean port?), \
         found the unknown field \"proto\"",
    );
    refuses(
        "  ingress: [{}]\n  enableDefaultDeny: {ingres: false}\n",
        "spec.enableDefaultDeny.ingres: expected a field of enableDefaultDeny (did you mean \
         ingress?), found the unknown field \"ingres\"",
    );
    refuses(
        "  ingress: [{}]\n  somethingElse: 1\n",
        "spec.somethingElse: expected a field of a policy's spec (it has endpointSelector, \
         nodeSelector, ingress, ingressDeny, egress, egressDeny, enableDefaultDeny, labels, \
         description, log), found the unknown field \"somethingElse\"",
    );
}

#[test]
fn a_field_without_a_value_is_refused_where_leaving_it_out_would_open() {
    let expected =
        "expected a value, or not the field at all (that means something else), found nothing";
    for (spec, field) in [
        (
            "  ingress: [{fromEndpoints: , toPorts: [{ports: [{port: '80'}]}]}]\n",
            "ingress[0].fromEndpoints",
        ),
        (
            "  ingress: [{fromEntities: [all], toPorts: }]\n",
            "ingress[0].toPorts",
        ),
        ("  ingress:\n  egress: [{}]\n", "ingress"),
        (
            "  ingress: [{fromEndpoints: [{matchLabels: }]}]\n",
            "ingress[0].fromEndpoints[0].matchLabels",
        ),
    ] {
        refuses(spec, &format!("spec.{field}: {expected}"));
    }
    refuses_network_policy(
        "  ingress: [{from: , ports: [{port: 80}]}]\n",
        &format!("spec.ingress[0].from: {expected}"),
    );
}

#[test]
fn selectors_are_checked() {
    let at = "spec.ingress[0].fromEndpoints[0]";
    let with = |selector: &str| format!("  ingress: [{{fromEndpoints: [{selector}]}}]\n");
    let cases = [
        (
            "{matchLabels: {'bad key': x}}",
            ".matchLabels[\"bad key\"]: expected a label key, found \"bad key\"",
        ),
        (
            "{matchLabels: {a: 1}}",
            ".matchLabels.a: expected a string (put it in quotes), found 1",
        ),
        (
            "{matchLabels: {'fqdn:a': x}}",
            ".matchLabels[\"fqdn:a\"]: expected a label key from the source any, k8s, node or reserved (groups of address blocks are selected with cidrGroupSelector), found \"fqdn:a\"",
        ),
        (
            "{matchExpressions: [{key: a, operator: Is}]}",
            ".matchExpressions[0].operator: expected one of the operators In, NotIn, Exists, \
             DoesNotExist, found \"Is\"",
        ),
        (
            "{matchExpressions: [{key: a, operator: In}]}",
            ".matchExpressions[0].values: expected values for In and NotIn, found nothing",
        ),
        (
            "{matchExpressions: [{key: a, operator: NotIn, values: []}]}",
            ".matchExpressions[0].values: expected values for In and NotIn, found an empty list",
        ),
        (
            "{matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
            ".matchExpressions[0].values: expected no values for Exists and DoesNotExist, found a list",
        ),
        (
            "{matchExpressions: [{operator: Exists}]}",
            ".matchExpressions[0].key: expected a label key, found nothing",
        ),
    ];
    for (selector, error) in cases {
        refuses(&with(selector), &format!("{at}{error}"));
    }
}

#[test]
fn what_is_not_supported_here_is_refused_by_name() {
    let cases = [
        ("egress", "toNodes: [{}]", "toNodes"),
        ("egress", "toGroups: [{aws: {}}]", "toGroups"),
        ("ingress", "fromNodes: [{}]", "fromNodes"),
        ("ingress", "fromGroups: [{}]", "fromGroups"),
    ];
    for (section, item, field) in cases {
        let found = errors(&policy(&format!("  {section}: [{{{item}}}]\n")));
        assert_eq!(found.len(), 1, "{item}: {found:?}");
        let start = format!("web.yaml, document 1, spec.{section}[0].{field}: expected no {field}");
        assert!(found[0].starts_with(&start), "{}", found[0]);
        assert!(found[0].contains("not supported here"), "{}", found[0]);
    }
}

/// Asserts that an egress item is refused with these words.
#[track_caller]
fn refused_item(item: &str, words: &str) {
    let found = errors(&policy(&format!("  egress: [{{{item}}}]\n")));
    assert!(
        found.iter().any(|error| error.contains(words)),
        "{item}: {found:?}"
    );
}

#[test]
fn what_is_asked_above_l4_is_checked() {
    let tcp =
        |rest: &str| format!("toPorts: [{{ports: [{{port: '443', protocol: TCP}}], {rest}}}]");
    refused_item(
        "toPorts: [{ports: [{port: '80'}], rules: {http: [{}]}}]",
        "expected TCP where",
    );
    refused_item(
        &tcp("rules: {http: [{}], dns: [{matchName: a}]}"),
        "one kind of rules",
    );
    refused_item(
        &tcp("rules: {dns: [{}]}"),
        "one of matchName and matchPattern",
    );
    refused_item(&tcp("rules: {kafka: [{}]}"), "have been removed");
    refused_item(&tcp("rules: {l7proto: x}"), "have been removed");
    refused_item(&tcp("rules: {htp: [{}]}"), "did you mean http?");
    refused_item(
        &tcp("rules: {http: [{path: '(?=a)'}]}"),
        "a regular expression of RE2",
    );
    refused_item(
        &tcp("rules: {http: [{path: '((a{1,999}){1,999}){1,999}'}]}"),
        "regular expression",
    );
    refused_item(&tcp("rules: {http: [{host: 'a(b'}]}"), "regular expression");
    refused_item(
        &tcp("rules: {http: [{headerMatches: [{name: a, mismatch: DROP}]}]}"),
        "LOG, ADD",
    );
    refused_item(&tcp("serverNames: ['']"), "a server name");
    refused_item(
        &tcp("serverNames: [a.b], rules: {http: [{}]}"),
        "terminatingTLS",
    );
    refused_item(&tcp("terminatingTLS: {}"), "the secret that holds");
    refused_item(&tcp("listener: {}"), "the name of a listener");
    refused_item("toFQDNs: [{matchName: 'a$b'}]", "at most 255");
    refused_item(
        "toFQDNs: [{matchName: a, matchPattern: b}]",
        "one of matchName",
    );
    refused_item(
        "authentication: {mode: maybe}",
        "disabled, required or test-always-fail",
    );
    let range = "toPorts: [{ports: [{port: '53', endPort: 54, protocol: UDP}], rules: {dns: [{matchName: a}]}}]";
    refused_item(range, "one port where dns rules are");
}

#[test]
fn an_enforcement_that_is_misspelt_is_refused() {
    let text = policy("  ingress: [{}]\n").replace(
        "name: p",
        "name: p, annotations: {portcullis.io/enforcement: adit}",
    );
    assert_eq!(
        errors(&text),
        [
            "web.yaml, document 1: expected audit or enforce in the annotation \
          portcullis.io/enforcement, found \"adit\""
        ]
    );
}

#[test]
fn a_lone_empty_list_is_refused_where_the_reference_is_followed() {
    let settings = Settings {
        compat: Compat::Cilium,
        ..Settings::default()
    };
    let found =
        parse_documents("web.yaml", &policy("  ingress: []\n"), &settings).expect_err("refused");
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "web.yaml, document 1, spec.ingress: expected at least one element; write `- {}` for default \
          deny, found an empty list"
        ]
    );
}
