//! The manifests of the tutorials that people paste: what becomes of each.
//!
//! They are the fuzzer's first seeds, so they lie in its corpus.

use portcullis_policy::{
    Compat, Decision, Direction, Document, Generation, Identity, IdentityAllocator, NodeFacts,
    Object, Protocol, Settings, Tables, Verdict, compile, lint, parse_documents,
};
use std::path::PathBuf;

fn manifest(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/document");
    std::fs::read_to_string(folder.join(format!("tutorial-{name}.yaml"))).expect("a tutorial")
}

fn documents(name: &str) -> Vec<Document> {
    parse_documents(name, &manifest(name), &Settings::default()).expect("an accepted manifest")
}

fn warnings(name: &str) -> Vec<String> {
    lint(&documents(name))
        .map(|warning| format!("{}: {}", warning.field, warning.message))
        .collect()
}

fn errors(name: &str) -> Vec<(String, String)> {
    parse_documents(name, &manifest(name), &Settings::default())
        .expect_err("a refused manifest")
        .into_iter()
        .map(|error| (error.field, error.expected))
        .collect()
}

/// Asserts that a manifest is refused at exactly these fields, with these words.
#[track_caller]
fn refused(name: &str, expected: &[(&str, &str)]) {
    let found = errors(name);
    let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(
        fields,
        expected.iter().map(|(field, _)| *field).collect::<Vec<_>>()
    );
    for ((_, said), (field, words)) in found.iter().zip(expected) {
        assert!(said.contains(words), "{field}: {said}");
    }
}

#[test]
fn an_empty_ingress_list_is_default_deny_with_a_warning() {
    let found = warnings("b-04-backend-default-deny");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("`ingress: [{}]`"), "{}", found[0]);
}

#[test]
fn an_empty_ingress_list_is_refused_where_the_reference_is_followed() {
    let settings = Settings {
        compat: Compat::Cilium,
        ..Settings::default()
    };
    let found = parse_documents("b-04", &manifest("b-04-backend-default-deny"), &settings);
    assert_eq!(found.expect_err("refused")[0].field, "spec.ingress");
}

#[test]
fn what_works_as_its_author_expects_is_accepted_in_silence() {
    for name in [
        "b-05-allow-frontend",
        "a-ciliumnetworkpolicy-default-deny-all",
    ] {
        assert_eq!(warnings(name), Vec::<String>::new(), "{name}");
    }
}

/// What every entry with rules above L4 is told.
const LATER: &str = "enforced only from a later stage on";

#[test]
fn a_path_that_looks_like_a_glob_is_read_as_it_stands_with_advice() {
    let found = warnings("a-ciliumnetworkpolicy-zero-trust-frontend-backend");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("matches '/api/v1' and slashes; did you mean '/api/v1/.*'?"));
    assert!(found[1].contains("did you mean '/api/v1/orders/.*'?"));
    assert!(found[2].contains(LATER), "{}", found[2]);
}

#[test]
fn http_rules_in_a_deny_section_are_refused_and_never_cut_down() {
    refused(
        "a-ciliumnetworkpolicy-l7-api-security",
        &[(
            "spec.egressDeny[0].toPorts[0].rules.http",
            "would deny the whole port",
        )],
    );
}

#[test]
fn header_values_that_look_like_patterns_are_read_as_they_stand_with_advice() {
    let text = manifest("a-ciliumnetworkpolicy-l7-api-security");
    let without_deny = text.split("  egressDeny:").next().expect("a first half");
    let documents = parse_documents("l7.yaml", without_deny, &Settings::default());
    let documents = documents.expect("an accepted manifest");
    let found: Vec<_> = lint(&documents).map(ToString::to_string).collect();
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(
        found[0].contains("only \".*\" itself matches"),
        "{}",
        found[0]
    );
    assert!(
        found[1].contains("only \"Bearer .*\" itself matches"),
        "{}",
        found[1]
    );
    assert!(found[5].contains(LATER), "{}", found[5]);
}

#[test]
fn an_egress_gateway_is_read() {
    let name = "a-ciliumegressgatewaypolicy-controlled-egress";
    assert_eq!(warnings(name), Vec::<String>::new());
    let Object::EgressGatewayPolicy(policy) = &documents(name)[0].object else {
        panic!("another kind");
    };
    assert_eq!(policy.destinations, ["0.0.0.0/0".parse().expect("a block")]);
    assert_eq!(policy.gateways.len(), 1);
}

#[test]
fn a_service_is_read() {
    assert_eq!(warnings("b-03-backend-service"), Vec::<String>::new());
}

#[test]
fn termination_is_refused_until_the_mtls_stage() {
    refused(
        "a-ciliumclusterwidenetworkpolicy-enforce-mtls-clusterwide",
        &[
            ("spec.ingress[0].termination", "comes with the mTLS stage"),
            ("spec.egress[0].termination", "comes with the mTLS stage"),
        ],
    );
}

#[test]
fn names_in_a_deny_section_are_refused_with_the_way_out() {
    refused(
        "a-ciliumnetworkpolicy-fqdn-egress-control",
        &[(
            "spec.egressDeny[0].toFQDNs",
            "the document means the same without this element",
        )],
    );
}

#[test]
fn other_kinds_are_refused_with_the_supported_ones() {
    for name in [
        "a-certificate-cilium-workload-cert",
        "a-clusterissuer-cilium-ca-issuer",
        "b-01-frontend",
        "b-02-backend",
    ] {
        refused(name, &[("kind", "Namespace, Pod, CiliumNetworkPolicy")]);
    }
}

/// The pods of the second tutorial, and one more in the frontend's namespace.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: frontend, namespace: frontend, labels: {app: frontend}}
status: {podIPs: [{ip: 10.1.0.10}]}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: frontend, labels: {app: other}}
status: {podIPs: [{ip: 10.1.0.11}]}
---
apiVersion: v1
kind: Pod
metadata: {name: backend, namespace: backend, labels: {app: backend}}
status: {podIPs: [{ip: 10.1.0.12}]}
";

fn tables(manifests: &[&str]) -> Tables {
    let settings = Settings::default();
    let mut all = parse_documents("pods", PODS, &settings).expect("pods");
    all.extend(manifests.iter().flat_map(|name| documents(name)));
    let facts = NodeFacts {
        node_addresses: vec!["192.0.2.1".parse().expect("an address")],
        pod_cidrs: vec![("10.1.0.0".parse().expect("an address"), 24)],
        ..NodeFacts::default()
    };
    let mut identities = IdentityAllocator::new();
    compile(&all, &facts, &settings, &mut identities, Generation(1)).expect("a valid world")
}

/// What the backend's policy says of TCP from an address.
fn to_backend(tables: &Tables, from: &str, port: u16) -> Verdict {
    let subject = tables.policy_of("backend", "backend").expect("the backend");
    let peer = tables.identity_of(from.parse().expect("an address"));
    tables.judge(subject, Direction::Ingress, peer, Protocol::Tcp, port)
}

const FRONTEND: &str = "10.1.0.10";
const OTHER: &str = "10.1.0.11";
const NOBODY: &str = "10.1.0.99";
const HOST: &str = "192.0.2.1";
const WORLD: &str = "198.51.100.7";

#[test]
fn without_policy_everyone_known_reaches_the_backend() {
    let tables = tables(&[]);
    for from in [FRONTEND, OTHER, HOST, WORLD] {
        let verdict = Verdict {
            decision: Decision::AllowUnpoliced,
            rule: None,
        };
        assert_eq!(to_backend(&tables, from, 80), verdict, "{from}");
    }
    assert_eq!(
        to_backend(&tables, NOBODY, 80).decision,
        Decision::DenyDefault
    );
}

#[test]
fn with_default_deny_only_the_host_reaches_the_backend() {
    let tables = tables(&["b-04-backend-default-deny"]);
    for from in [FRONTEND, OTHER, WORLD, NOBODY] {
        let verdict = Verdict {
            decision: Decision::DenyDefault,
            rule: None,
        };
        assert_eq!(to_backend(&tables, from, 80), verdict, "{from}");
    }
    assert_eq!(
        to_backend(&tables, HOST, 80).decision,
        Decision::AllowLocalHost
    );
    let subject = tables.policy_of("backend", "backend").expect("the backend");
    let names = |direction| {
        tables
            .isolating(subject, direction)
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(Direction::Ingress),
        ["CiliumNetworkPolicy backend/default-deny"]
    );
    assert_eq!(names(Direction::Egress), Vec::<String>::new());
}

#[test]
fn the_frontend_is_let_in_on_its_port_and_the_rule_is_named() {
    let tables = tables(&["b-04-backend-default-deny", "b-05-allow-frontend"]);
    let verdict = to_backend(&tables, FRONTEND, 80);
    assert_eq!(verdict.decision, Decision::Allow);
    let rule = tables
        .rule(verdict.rule.expect("a rule"))
        .expect("of these tables");
    assert_eq!(
        rule.to_string(),
        "CiliumNetworkPolicy backend/allow-frontend, ingress[0]"
    );
    for (from, port) in [(FRONTEND, 81), (FRONTEND, 443), (OTHER, 80), (WORLD, 80)] {
        assert_eq!(
            to_backend(&tables, from, port).decision,
            Decision::DenyDefault,
            "{from} {port}"
        );
    }
    let frontend = tables
        .policy_of("frontend", "frontend")
        .expect("the frontend");
    let back = tables
        .identity_of_pod("backend", "backend")
        .expect("the backend");
    assert_eq!(
        tables
            .judge(frontend, Direction::Egress, back, Protocol::Tcp, 80)
            .decision,
        Decision::AllowUnpoliced
    );
}

#[test]
fn an_identity_of_no_tables_is_denied_even_where_nothing_is_policed() {
    let tables = tables(&[]);
    let subject = tables.policy_of("backend", "backend").expect("the backend");
    for stranger in [
        Identity::UNKNOWN,
        Identity(99),
        Identity(60_000),
        Identity(0x0100_ffff),
        Identity(u32::MAX),
    ] {
        for direction in [Direction::Ingress, Direction::Egress] {
            let verdict = tables.judge(subject, direction, stranger, Protocol::Tcp, 80);
            assert_eq!(
                verdict,
                Verdict {
                    decision: Decision::DenyDefault,
                    rule: None
                },
                "{stranger:?}"
            );
        }
    }
}
