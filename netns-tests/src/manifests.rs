//! The documents of the zero-trust tutorial, which the demo applies too.

/// Nothing may reach the pods of namespace backend.
pub const DEFAULT_DENY: &str = include_str!("../../demo/manifests/default-deny.yaml");
/// Pods `app=frontend` of namespace frontend may reach `app=backend` on 80/TCP.
pub const ALLOW_FRONTEND: &str = include_str!("../../demo/manifests/allow-frontend.yaml");
/// The namespaces frontend and backend.
pub const NAMESPACES: &str = include_str!("../../demo/manifests/namespaces.yaml");

/// A policy that lets the pods of a namespace send nothing but what `rules` allow: list items, each
/// line with its indent of two.
#[must_use]
pub fn egress_policy(namespace: &str, name: &str, rules: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n  name: {name}\n  \
         namespace: {namespace}\nspec:\n  endpointSelector: {{}}\n  egress:\n{rules}\n"
    )
}
