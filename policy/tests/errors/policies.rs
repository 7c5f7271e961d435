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
            ".matchLabels[\"fqdn:a\"]: expected a label key from the source any, k8s or reserved \
             (other sources are not supported yet), found \"fqdn:a\"",
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
fn what_is_not_supported_yet_is_refused_by_name() {
    let cases = [
        ("egress", "toFQDNs: [{matchName: a.example}]", "toFQDNs"),
        (
            "egress",
            "toServices: [{k8sService: {serviceName: s}}]",
            "toServices",
        ),
        ("egress", "toNodes: [{}]", "toNodes"),
        ("egress", "toGroups: [{aws: {}}]", "toGroups"),
        ("ingress", "fromNodes: [{}]", "fromNodes"),
        ("ingress", "fromGroups: [{}]", "fromGroups"),
        (
            "ingress",
            "fromCIDRSet: [{cidrGroupRef: g}]",
            "fromCIDRSet[0].cidrGroupRef",
        ),
        (
            "ingress",
            "authentication: {mode: required}",
            "authentication",
        ),
        (
            "ingress",
            "toPorts: [{ports: [{port: '80'}], rules: {http: [{}]}}]",
            "toPorts[0].rules.http",
        ),
        (
            "egress",
            "toPorts: [{ports: [{port: '53'}], rules: {dns: [{}]}}]",
            "toPorts[0].rules.dns",
        ),
        (
            "egress",
            "toPorts: [{ports: [{port: '443'}], serverNames: [a.b]}]",
            "toPorts[0].serverNames",
        ),
        (
            "egress",
            "toPorts: [{ports: [{port: '443'}], terminatingTLS: {}}]",
            "toPorts[0].terminatingTLS",
        ),
        (
            "egress",
            "toPorts: [{ports: [{port: '443'}], originatingTLS: {}}]",
            "toPorts[0].originatingTLS",
        ),
        (
            "egress",
            "toPorts: [{ports: [{port: '443'}], listener: {}}]",
            "toPorts[0].listener",
        ),
    ];
    for (section, item, field) in cases {
        let text = policy(&format!("  {section}: [{{{item}}}]\n"));
        let found = parse_documents("web.yaml", &text, &Settings::default()).expect_err(item);
        assert_eq!(found.len(), 1, "{item}: {found:?}");
        assert_eq!(
            found[0].field,
            format!("spec.{section}[0].{field}"),
            "{item}"
        );
        assert!(
            found[0].expected.contains("not supported yet"),
            "{item}: {}",
            found[0]
        );
    }
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
