//! Bytes as a file of manifests: read, compiled, asked. Whatever they are, nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_policy::{
    Compat, Direction, Generation, IdentityAllocator, NodeFacts, Protocol, Settings, compile,
    parse_documents,
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
            for direction in [Direction::Ingress, Direction::Egress] {
                let verdict = tables.judge(policy, direction, *peer, Protocol::Tcp, 80);
                if let Some(rule) = verdict.rule {
                    assert!(
                        tables.rule(rule).is_some(),
                        "a rule that decides can be named"
                    );
                }
            }
        }
    }
}
