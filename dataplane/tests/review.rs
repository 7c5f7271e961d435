//! What policy would say, asked without packets: explain, matrix, diff, check.

use jiff::Timestamp;
use portcullis::control::source::{SourceFile, SourceState};
use portcullis::observe::FlowPolicy;
use portcullis::review::{
    Allowed, Change, Pair, PortSpan, Question, Reading, check, compare, explain, matrix, unused,
};
use portcullis::status::RuleStatus;
use portcullis_policy::Settings;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: frontend, labels: {app: frontend}}
status: {podIPs: [{ip: 10.0.1.10}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: backend, labels: {app: backend}}
spec: {containers: [{name: api, ports: [{name: http, containerPort: 80}]}]}
status: {podIPs: [{ip: 10.0.1.20}]}
";

const CONFIG: &str = "podCIDRs: [10.0.1.0/24]\n";

const POLICIES: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: allow-frontend, namespace: backend}
spec:
  endpointSelector: {}
  ingress:
  - fromEndpoints: [{matchLabels: {app: frontend, 'k8s:io.kubernetes.pod.namespace': frontend}}]
    toPorts: [{ports: [{port: '80', protocol: TCP}, {port: '8000', endPort: 8009, protocol: TCP}]}]
  - fromCIDRSet: [{cidr: 198.51.100.0/24, except: [198.51.100.128/25]}]
  ingressDeny:
  - fromEntities: [cluster]
    toPorts: [{ports: [{port: '8005', protocol: TCP}]}]
";

fn state(config: &str, texts: &[&str]) -> SourceState {
    let files = texts.iter().enumerate().map(|(number, text)| SourceFile {
        name: format!("{number}.yaml"),
        text: (*text).to_owned(),
    });
    SourceState {
        config: (!config.is_empty()).then(|| SourceFile {
            name: "config.yaml".into(),
            text: config.into(),
        }),
        files: files.collect(),
    }
}

fn reading(texts: &[&str]) -> Reading {
    Reading::of_state(&state(CONFIG, texts)).expect("valid documents")
}

/// Verdict, what egress says, what ingress says.
fn told(reading: &Reading, from: &str, to: &str, port: &str) -> (String, String, String) {
    let question = Question {
        from: from.into(),
        to: to.into(),
        port: port.into(),
    };
    let told = explain(reading, &question).expect("a question that is understood");
    let reason = |side: Option<portcullis::review::Side>| side.map_or("-".into(), |s| s.reason);
    (told.verdict, reason(told.egress), reason(told.ingress))
}

#[test]
fn an_explanation_names_the_rule_on_both_sides() {
    let reading = reading(&[PODS, POLICIES]);
    let open = "egress: no policy selects it";
    let by = |words: &str, rule: &str| {
        let rule = if rule.is_empty() {
            String::new()
        } else {
            format!(" {rule}")
        };
        format!("ingress {words} CiliumNetworkPolicy backend/allow-frontend{rule}")
    };
    let allowed = by("allowed by", "ingress[0]");
    let fallen = by("default deny by", "");
    for (from, to, port, expected) in [
        (
            "frontend/web",
            "backend/api",
            "80/TCP",
            ("FORWARDED", open, allowed.clone()),
        ),
        ("web", "api", "http", ("FORWARDED", open, allowed.clone())),
        (
            "10.0.1.10",
            "10.0.1.20",
            "8009",
            ("FORWARDED", open, allowed.clone()),
        ),
        (
            "app=frontend,k8s:io.kubernetes.pod.namespace=frontend",
            "backend/api",
            "80/TCP",
            ("FORWARDED", open, allowed),
        ),
        (
            "app=frontend",
            "backend/api",
            "80/TCP",
            ("DROPPED", open, fallen.clone()),
        ),
        ("web", "api", "8/ICMP", ("DROPPED", open, fallen.clone())),
        (
            "web",
            "api",
            "8005/TCP",
            ("DROPPED", open, by("denied by", "ingressDeny[0]")),
        ),
        (
            "198.51.100.7",
            "api",
            "443/TCP",
            ("FORWARDED", "-", by("allowed by", "ingress[1]")),
        ),
        ("198.51.100.200", "api", "443/TCP", ("DROPPED", "-", fallen)),
        (
            "reserved:host",
            "api",
            "443/TCP",
            (
                "FORWARDED",
                "-",
                "ingress allowed for the local host".into(),
            ),
        ),
        (
            "api",
            "203.0.113.1",
            "443/TCP",
            ("FORWARDED", open, "-".into()),
        ),
    ] {
        let (verdict, egress, ingress) = expected;
        assert_eq!(
            told(&reading, from, to, port),
            (verdict.into(), egress.into(), ingress),
            "{from} {to} {port}"
        );
    }
}

#[test]
fn an_explanation_names_the_nearest_rule_and_what_failed() {
    let question = Question {
        from: "app=frontend".into(),
        to: "api".into(),
        port: "80".into(),
    };
    let told = explain(&reading(&[PODS, POLICIES]), &question).expect("understood");
    let side = told.ingress.clone().expect("a pod has a policy");
    let selected_by: Vec<_> = side.selected_by.iter().map(FlowPolicy::text).collect();
    assert_eq!(selected_by, ["CiliumNetworkPolicy backend/allow-frontend"]);
    let nearest = side.nearest.first().expect("a rule that nearly matched");
    assert_eq!(
        nearest.rule.text(),
        "CiliumNetworkPolicy backend/allow-frontend ingress[0]"
    );
    assert!(
        nearest
            .reasons
            .iter()
            .any(|reason| reason.contains("frontend")),
        "{:?}",
        nearest.reasons
    );
    assert!(told.text().contains("nearly allowed by"), "{}", told.text());
}

#[test]
fn an_address_among_the_pods_that_is_nobodys_is_dropped() {
    let reading = reading(&[PODS]);
    assert_eq!(told(&reading, "10.0.1.99", "api", "80").0, "DROPPED");
    assert_eq!(told(&reading, "web", "10.0.1.99", "80").0, "DROPPED");
}

#[test]
fn a_question_that_is_not_understood_says_what_was_expected() {
    let reading = reading(&[PODS]);
    for (from, port, expected) in [
        ("nobody", "80", "found \"nobody\""),
        ("frontend/api", "80", "found \"frontend/api\""),
        ("reserved:nobody", "80", "reserved:host"),
        ("app=a,b", "80", "found \"b\""),
        ("web", "80/HTTP", "found \"80/HTTP\""),
        ("web", "metrics", "found \"metrics\""),
        ("", "80", "found \"\""),
    ] {
        let question = Question {
            from: from.into(),
            to: "api".into(),
            port: port.into(),
        };
        let error = explain(&reading, &question).expect_err(from);
        assert!(error.contains(expected), "{error}");
    }
}

fn span(protocol: &str, first: u16, last: u16) -> PortSpan {
    PortSpan {
        protocol: protocol.into(),
        first,
        last,
    }
}

#[test]
fn the_matrix_collapses_ports_and_pods() {
    let twin = PODS
        .split("---")
        .next()
        .expect("the first document")
        .replace("name: web", "name: web2")
        .replace("10.0.1.10", "10.0.1.11");
    let matrix = matrix(&reading(&[PODS, POLICIES, &twin])).expect("a small one");
    let pair = |from: &str, to: &str| -> Option<&Pair> {
        matrix
            .pairs
            .iter()
            .find(|pair| pair.from == from && pair.to == to)
    };
    let to_api = pair("frontend/web (+1)", "backend/api").expect("a pair");
    assert_eq!(
        to_api.allowed,
        Allowed(vec![
            span("TCP", 80, 80),
            span("TCP", 8000, 8004),
            span("TCP", 8006, 8009)
        ])
    );
    assert_eq!(to_api.allowed.to_string(), "TCP 80, 8000-8004, 8006-8009");
    let back = pair("backend/api", "frontend/web (+1)").expect("a pair");
    assert_eq!(back.allowed.to_string(), "everything");
    assert!(pair("frontend/web (+1)", "frontend/web (+1)").is_some());
    assert_eq!(pair("backend/api", "backend/api"), None);
    assert_eq!(pair("host", "world-ipv4"), None);
    assert_eq!(pair("198.51.100.128/25", "backend/api"), None);
    assert!(pair("198.51.100.0/24", "backend/api").is_some());
}

#[test]
fn a_matrix_says_what_an_explanation_says() {
    let reading = reading(&[PODS, POLICIES]);
    let matrix = matrix(&reading).expect("a small one");
    let ends = ["frontend/web", "backend/api"];
    for (from, to) in [(ends[0], ends[1]), (ends[1], ends[0])] {
        let allowed = matrix
            .pairs
            .iter()
            .find(|pair| pair.from == from && pair.to == to)
            .map(|pair| pair.allowed.clone())
            .unwrap_or_default();
        for port in (0..=u16::MAX).step_by(5).chain([79, 81, 8004, 8006, 8009]) {
            let is_listed = allowed
                .0
                .iter()
                .any(|span| span.protocol == "TCP" && (span.first..=span.last).contains(&port));
            let (verdict, ..) = told(&reading, from, to, &port.to_string());
            assert_eq!(verdict == "FORWARDED", is_listed, "{from} {to} {port}");
        }
    }
}

#[test]
fn a_diff_names_pairs_ports_and_reasons() {
    let old = reading(&[PODS, POLICIES]);
    let changed = POLICIES
        .replace("endPort: 8009", "endPort: 8010")
        .replace("port: '80'", "port: '81'")
        .replace("198.51.100.128/25", "198.51.100.192/26");
    let difference = compare(&old, &reading(&[PODS, &changed]));
    let change = |from: &str, is_allowed, spans: Vec<PortSpan>, reason: &str| Change {
        from: from.into(),
        to: "backend/api".into(),
        is_allowed,
        ports: Allowed(spans),
        reason: reason.into(),
    };
    let policy = "CiliumNetworkPolicy backend/allow-frontend";
    let expected = [
        change(
            "frontend/web",
            false,
            vec![span("TCP", 80, 80)],
            &format!("ingress default deny by {policy}"),
        ),
        change(
            "frontend/web",
            true,
            vec![span("TCP", 81, 81), span("TCP", 8010, 8010)],
            &format!("egress: no policy selects it; ingress allowed by {policy} ingress[0]"),
        ),
        change(
            "198.51.100.128/25",
            true,
            vec![
                span("TCP", 0, u16::MAX),
                span("UDP", 0, u16::MAX),
                span("SCTP", 0, u16::MAX),
                span("ICMP", 0, 255),
                span("ICMPv6", 0, 255),
            ],
            &format!("ingress allowed by {policy} ingress[1]"),
        ),
    ];
    assert_eq!(difference.changes, expected);
    let same = compare(&old, &old);
    assert!(!same.has_changes() && same.pods_added.is_empty() && same.pods_removed.is_empty());
}

#[test]
fn an_audited_policy_is_explained_and_not_enforced() {
    let audited = POLICIES.replace(
        "metadata: {name: allow-frontend,",
        "metadata: {annotations: {portcullis.io/enforcement: audit}, name: allow-frontend,",
    );
    let by = "CiliumNetworkPolicy backend/allow-frontend";
    let asked = |reading: &Reading, from: &str, port: &str| {
        let question = Question {
            from: from.into(),
            to: "api".into(),
            port: port.into(),
        };
        let told = explain(reading, &question).expect("a question that is understood");
        let side = told.ingress.expect("a pod has a policy");
        (told.verdict, side.reason, side.audit)
    };
    let open = "ingress: no policy selects it";
    let says = |verdict: &str, audit: &str| (verdict.into(), open.into(), Some(audit.into()));
    for reading in [
        reading(&[PODS, &audited]),
        Reading::of_state(&state("policyAuditMode: true\n", &[PODS, POLICIES])).expect("valid"),
    ] {
        assert_eq!(
            asked(&reading, "web", "8005"),
            says("AUDIT", &format!("ingress denied by {by} ingressDeny[0]"))
        );
        assert_eq!(
            asked(&reading, "web", "80"),
            says("FORWARDED", &format!("ingress allowed by {by} ingress[0]"))
        );
        let (verdict, reason, audit) = asked(&reading, "web", "443");
        assert_eq!((verdict.as_str(), reason.as_str()), ("AUDIT", open));
        assert!(audit.is_some_and(|audit| audit.starts_with("ingress default deny")));
    }
}

#[test]
fn a_node_that_audits_tells_what_mode_always_would_deny() {
    let mode = "podCIDRs: [10.0.1.0/24]\npolicyEnforcementMode: always\n";
    let question = Question {
        from: "web".into(),
        to: "api".into(),
        port: "80/TCP".into(),
    };
    let told = |config: &str| {
        let reading = Reading::of_state(&state(config, &[PODS])).expect("valid");
        let told = explain(&reading, &question).expect("a question that is understood");
        let side = told.egress.expect("a pod has a policy");
        (told.verdict, side.reason, side.audit)
    };
    let denied = "egress default deny by enforcement mode always";
    assert_eq!(told(mode), ("DROPPED".into(), denied.into(), None));
    let open = "egress: no policy selects it";
    assert_eq!(
        told(&format!("{mode}policyAuditMode: true\n")),
        ("AUDIT".into(), open.into(), Some(denied.into()))
    );
}

#[test]
fn what_could_go_is_found() {
    let duplicate = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: more, namespace: backend}
spec:
  endpointSelector: {matchLabels: {app: backend}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: frontend, 'k8s:io.kubernetes.pod.namespace': frontend}}]
    toPorts: [{ports: [{port: '80', protocol: TCP}]}]
  - fromEndpoints: [{matchLabels: {app: frontend, 'k8s:io.kubernetes.pod.namespace': frontend}}]
    toPorts: [{ports: [{port: '81', protocol: TCP}]}]
";
    let nobody = POLICIES
        .replace("namespace: backend", "namespace: nowhere")
        .replace("name: allow-frontend", "name: nobody");
    let reading = reading(&[PODS, POLICIES, duplicate, &nobody]);
    let time = |second| Timestamp::from_second(second).expect("in range");
    let rule = |name: &str, last: Option<i64>, since| RuleStatus {
        policy: FlowPolicy {
            kind: "CiliumNetworkPolicy".into(),
            namespace: "backend".into(),
            name: name.into(),
            rule: Some("ingress[0]".into()),
            file: String::new(),
        },
        connections: u64::from(last.is_some()),
        last_hit: last.map(time),
        since: time(since),
    };
    let rules = vec![
        rule("never", None, 0),
        rule("long-ago", Some(10), 0),
        rule("young", None, 950),
        rule("busy", Some(990), 0),
    ];
    let found = |span| {
        let unused = unused(&reading, rules.clone(), span, time(1000));
        let names: Vec<_> = unused
            .rules
            .into_iter()
            .map(|rule| rule.policy.name)
            .collect();
        (names, unused.young_rules)
    };
    assert_eq!(found(None), (vec!["never".into(), "young".into()], 0));
    assert_eq!(
        found(Some(100)),
        (vec!["never".into(), "long-ago".into()], 1)
    );

    let unused = unused(&reading, Vec::new(), None, time(0));
    let texts = |policies: &[FlowPolicy]| policies.iter().map(FlowPolicy::text).collect::<Vec<_>>();
    assert_eq!(
        texts(&unused.policies_without_pods),
        ["CiliumNetworkPolicy nowhere/nobody"]
    );
    assert_eq!(
        texts(&unused.shadowed),
        ["CiliumNetworkPolicy backend/more ingress[0]"],
        "the first rule in document order decides"
    );
}

#[test]
fn a_check_finds_all_faults_at_once() {
    let wrong = POLICIES.replace("endpointSelector", "endpointSelectr");
    let port = POLICIES
        .replace("name: allow-frontend", "name: other")
        .replace("port: '80'", "port: '99999'");
    let found = check(
        &state("umemFrames: 3\n", &[PODS, &wrong, &port, PODS]),
        Settings::default(),
    );
    let texts: Vec<_> = found
        .errors
        .iter()
        .map(|fault| fault.text.as_str())
        .collect();
    for part in [
        "config.yaml, document 1, umemFrames",
        "1.yaml, document 1, spec",
        "2.yaml, document 1, spec.ingress[0].toPorts[0].ports[0].port",
        "3.yaml, document 1, metadata.name",
        "3.yaml, document 2, metadata.name",
    ] {
        assert!(
            texts.iter().any(|text| text.contains(part)),
            "{part}: {texts:?}"
        );
    }
    assert_eq!(found.documents.len(), 4);
    let right = check(&state(CONFIG, &[PODS, POLICIES]), Settings::default());
    assert_eq!((right.errors, right.policies, right.files), (vec![], 1, 3));
    assert_eq!(right.warnings, []);
    let nobody = POLICIES.replace("namespace: backend", "namespace: nowhere");
    let advised = check(&state(CONFIG, &[PODS, &nobody]), Settings::default());
    assert_eq!(advised.warnings.len(), 1, "{:?}", advised.warnings);
}
