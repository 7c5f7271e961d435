//! What is allowed, but said to be odd.

use super::{documents, network_policy, policy};
use portcullis_policy::lint;

#[test]
fn what_is_probably_not_meant_is_said() {
    let warnings = |text: &str| {
        let documents = documents("web.yaml", text);
        lint(&documents)
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let at = "web.yaml, document 1, spec";
    let cases = [
        (
            "  ingress: []\n",
            ".ingress: read as default deny; other engines refuse this spelling, and then nothing is \
             denied: `ingress: [{}]` means the same everywhere",
        ),
        (
            "  ingress: []\n  egress: [{}]\n",
            ".ingress: an empty list beside other sections is as if it were not there; write `- {}` \
             for default deny",
        ),
        (
            "  ingress: [{fromEndpoints: []}]\n",
            ".ingress[0].fromEndpoints: an empty list selects nobody, whatever else the item says",
        ),
        (
            "  ingress: [{fromCIDR: [10.1.2.3/8]}]\n",
            ".ingress[0].fromCIDR[0]: bits below the mask are ignored: it means 10.0.0.0/8",
        ),
        (
            "  ingress: [{toPorts: [{}]}]\n",
            ".ingress[0].toPorts[0]: no ports, so nothing matches; leave toPorts out to mean every port",
        ),
        (
            "  ingress: [{toPorts: [{ports: [{port: '80', endPort: 79}]}]}]\n",
            ".ingress[0].toPorts[0].ports[0].endPort: it lies below port, so only that single port matches",
        ),
        (
            "  ingress: [{toPorts: [{ports: [{port: '80', protocol: tcp}]}]}]\n",
            ".ingress[0].toPorts[0].ports[0].protocol: other engines want it in capitals",
        ),
        (
            "  ingress: [{toPorts: [{ports: [{port: '80'}], rules: {http: []}}]}]\n",
            ".ingress[0].toPorts[0].rules.http: an empty list is as if it were not there: nothing is filtered",
        ),
    ];
    for (spec, warning) in cases {
        assert_eq!(
            warnings(&policy(spec)),
            [format!("{at}{warning}")],
            "{spec}"
        );
    }
    assert_eq!(warnings(&policy("  ingress: [{}]\n")), Vec::<String>::new());
    assert_eq!(
        warnings(&policy("  ingress: [{}]\n").replace(", namespace: shop", "")),
        [
            "web.yaml, document 1, metadata.name: no metadata.namespace, so the policy is for the \
          namespace \"default\""
        ]
    );
    assert_eq!(
        warnings(&network_policy(
            "  policyTypes: [Ingress]\n  egress: [{}]\n"
        )),
        [format!(
            "{at}.egress: policyTypes does not name this direction, so these rules do nothing"
        )]
    );
}
