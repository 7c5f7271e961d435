//! Errors point: file, document, field, what was expected, what was found.

mod clashes;
mod files;
mod items;
mod policies;
mod warnings;

use portcullis_policy::{Document, DocumentError, Settings, parse_documents};

/// The errors of a file, as people see them.
fn errors(text: &str) -> Vec<String> {
    match parse_documents("web.yaml", text, &Settings::default()) {
        Ok(documents) => panic!("accepted: {documents:#?}"),
        Err(errors) => errors.iter().map(DocumentError::to_string).collect(),
    }
}

fn documents(file: &str, text: &str) -> Vec<Document> {
    parse_documents(file, text, &Settings::default()).expect("a valid file")
}

/// A policy whose spec holds these lines, each indented by two.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p, namespace: shop}}\n\
         spec:\n  endpointSelector: {{}}\n{spec}"
    )
}

fn network_policy(spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\n\
         spec:\n  podSelector: {{}}\n{spec}"
    )
}

/// Asserts that a policy with this spec has just this error, at this place.
#[track_caller]
fn refuses(spec: &str, error: &str) {
    assert_eq!(
        errors(&policy(spec)),
        [format!("web.yaml, document 1, {error}")],
        "{spec}"
    );
}

#[track_caller]
fn refuses_network_policy(spec: &str, error: &str) {
    assert_eq!(
        errors(&network_policy(spec)),
        [format!("web.yaml, document 1, {error}")],
        "{spec}"
    );
}
