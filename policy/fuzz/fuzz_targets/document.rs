//! Bytes as a file of manifests: read, compiled, asked. Whatever they are, nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_policy::{
    Compat, Decision, Direction, Generation, HttpRequest, HttpVerdict, Identity, IdentityAllocator,
    NodeFacts, PolicyIndex, Protocol, Settings, Tables, compile, parse_documents,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for compat in [Compat::Portcullis, Compat::Cilium] {
        read_compile_and_ask(
            text,
            &Settings {
                compat,
                ..Settings::default()
            },
        );
    }
});

/// Every way to ask about one pod and one peer.
fn ask(tables: &Tables, policy: PolicyIndex, peer: Identity) {
    let request = HttpRequest {
        method: "GET",
        path: "/a?b",
        host: "a.example",
        headers: &[("a", "b")],
    };
    for direction in [Direction::Ingress, Direction::Egress] {
        let verdict = tables.judge(policy, direction, peer, Protocol::Tcp, 80);
        if let Some(rule) = verdict.rule {
            assert!(
                tables.rule(rule).is_some(),
                "a rule that decides can be named"
            );
        }
        let explanation = tables.explain(policy, direction, peer, Protocol::Tcp, 80);
        assert_eq!(explanation.verdict, verdict);
        explanation
            .misses
            .iter()
            .for_each(|miss| drop(miss.to_string()));
        let asked = tables.judge_http(policy, direction, peer, 80, &request);
        assert!(
            verdict.decision.is_allowed() == matches!(asked, HttpVerdict::Forward(_))
                || matches!(verdict.decision, Decision::Redirect(..)),
            "only a proxy changes what becomes of a request"
        );
        let _ = tables.judge_audit(policy, direction, peer, Protocol::Udp, 53);
    }
    let _ = tables.judge_dns(policy, peer, Protocol::Udp, 53, "a.example");
}

fn read_compile_and_ask(text: &str, settings: &Settings) {
    let documents = match parse_documents("fuzz.yaml", text, settings) {
        Ok(documents) => documents,
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal says why");
            errors.iter().for_each(|error| drop(error.to_string()));
            return;
        }
    };
    assert!(!documents.is_empty(), "a file without documents is refused");
    let facts = NodeFacts {
        node_addresses: vec!["192.0.2.1".parse().expect("an address")],
        pod_cidrs: vec![("10.1.0.0".parse().expect("an address"), 24)],
        ..NodeFacts::default()
    };
    let mut identities = IdentityAllocator::new();
    let Ok(tables) = compile(&documents, &facts, settings, &mut identities, Generation(1)) else {
        return;
    };
    let peers: Vec<_> = tables
        .identities()
        .map(|(identity, _)| identity)
        .take(64)
        .collect();
    for document in &documents {
        let origin = &document.origin;
        let Some(namespace) = &origin.namespace else {
            continue;
        };
        let Some(policy) = tables.policy_of(namespace, &origin.name) else {
            continue;
        };
        for peer in &peers {
            ask(&tables, policy, *peer);
        }
        let _ = tables.exit(
            namespace,
            &origin.name,
            "198.51.100.7".parse().expect("an address"),
        );
    }
    let _ = (tables.lint(&documents), tables.conflicts());
}
