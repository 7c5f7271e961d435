//! Faults of single rules: peers and ports.

use super::{refuses, refuses_network_policy};

#[test]
fn peers_are_checked() {
    refuses(
        "  ingress: [{fromCIDR: [10.0.0.0/8], fromCIDRSet: [{cidr: 10.0.0.0/8}]}]\n",
        "spec.ingress[0]: expected one kind of peers in an item (write one item for each), found \
         fromCIDR and fromCIDRSet",
    );
    refuses(
        "  ingress: [{fromCIDR: [10.1.2.3]}]\n",
        "spec.ingress[0].fromCIDR[0]: expected a block of addresses with a mask, 10.0.0.0/8 or \
         2001:db8::/32 (did you mean 10.1.2.3/32?), found \"10.1.2.3\"",
    );
    refuses(
        "  egress: [{toCIDRSet: [{}]}]\n",
        "spec.egress[0].toCIDRSet[0]: expected one of cidr, cidrGroupRef and cidrGroupSelector, found \
         an empty mapping",
    );
    refuses(
        "  egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}]\n",
        "spec.egress[0].toCIDRSet[0].except[0]: expected a block inside 10.0.0.0/8, found \"11.0.0.0/16\"",
    );
    refuses(
        "  egress: [{toEntities: [wrld]}]\n",
        "spec.egress[0].toEntities[0]: expected one of the entities all, world, world-ipv4, \
         world-ipv6, host, remote-node, kube-apiserver, cluster, cluster-mesh, init, health, \
         ingress, unmanaged, none (did you mean world?), found \"wrld\"",
    );
    refuses(
        "  ingress: [{fromRequires: [{matchLabels: {a: b}}]}]\n",
        "spec.ingress[0].fromRequires: expected no fromRequires: it has been removed from the policy \
         language, found a list",
    );
}

#[test]
fn ports_are_checked() {
    let at = "spec.egress[0].toPorts[0].ports";
    let port = "a port in quotes, \"0\" to \"65535\", or the name of one";
    let with = |ports: &str| format!("  egress: [{{toPorts: [{{ports: [{ports}]}}]}}]\n");
    let cases = [
        ("{port: 80}", format!("[0].port: expected {port}, found 80")),
        ("{protocol: TCP}", format!("[0].port: expected {port}, found nothing")),
        ("{port: '65536'}", format!("[0].port: expected {port}, found \"65536\"")),
        ("{port: '-1'}", format!("[0].port: expected {port}, found \"-1\"")),
        ("{port: 'a--b'}", format!("[0].port: expected {port}, found \"a--b\"")),
        ("{port: 'sixteen-letters-'}", format!("[0].port: expected {port}, found \"sixteen-letters-\"")),
        ("{port: '80', protocol: QUIC}", "[0].protocol: expected TCP, UDP, SCTP or ANY, found \"QUIC\"".to_owned()),
        (
            "{port: '8', protocol: ICMP}",
            "[0].protocol: expected TCP, UDP, SCTP or ANY (ICMP is written under icmps), found \"ICMP\"".to_owned(),
        ),
        (
            "{port: '8', protocol: GRE}",
            "[0].protocol: expected TCP, UDP, SCTP or ANY (others are not supported yet), found \"GRE\"".to_owned(),
        ),
        (
            "{port: http, endPort: 90}",
            "[0].endPort: expected no endPort for a port that is named, found 90".to_owned(),
        ),
        (
            "{port: '80', endPort: 65536}",
            "[0].endPort: expected the last port of a range, 0 to 65535, found 65536".to_owned(),
        ),
    ];
    for (ports, error) in cases {
        refuses(&with(ports), &format!("{at}{error}"));
    }
    refuses(
        &with(&"{port: '1'}, ".repeat(41)),
        &format!("{at}: expected at most 40 ports, found 41"),
    );
}

#[test]
fn icmp_types_are_checked() {
    let at = "spec.egress[0].icmps[0].fields";
    let with = |fields: &str| format!("  egress: [{{icmps: [{{fields: [{fields}]}}]}}]\n");
    refuses(
        &with("{type: EchoReqest}"),
        &format!(
            "{at}[0].type: expected an ICMP type of that family, 0 to 255, or its name (did you mean \
             EchoRequest?), found \"EchoReqest\""
        ),
    );
    refuses(
        &with("{type: 256}"),
        &format!("{at}[0].type: expected an ICMP type, 0 to 255, found 256"),
    );
    refuses(
        &with("{family: IPv5, type: 8}"),
        &format!("{at}[0].family: expected IPv4 or IPv6, found \"IPv5\""),
    );
    refuses(
        &with(&"{type: 1}, ".repeat(41)),
        &format!("{at}: expected at most 40 types, found 41"),
    );
    refuses(
        "  egress: [{icmps: [{fields: [{type: 8}]}], toPorts: [{ports: [{port: '1'}]}]}]\n",
        "spec.egress[0]: expected toPorts or icmps in an item (write one item for each), found both",
    );
}

#[test]
fn network_policies_are_checked() {
    refuses_network_policy(
        "  policyTypes: [ingress]\n",
        "spec.policyTypes[0]: expected Ingress or Egress, found \"ingress\"",
    );
    refuses_network_policy(
        "  ingress: [{form: []}]\n",
        "spec.ingress[0].form: expected a field of an ingress rule (did you mean from?), found the \
         unknown field \"form\"",
    );
    refuses_network_policy(
        "  ingress: [{from: [{}]}]\n",
        "spec.ingress[0].from[0]: expected podSelector, namespaceSelector or ipBlock, found an empty mapping",
    );
    refuses_network_policy(
        "  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]\n",
        "spec.ingress[0].from[0].ipBlock: expected an ipBlock alone, or selectors without one, found a mapping",
    );
    refuses_network_policy(
        "  egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]\n",
        "spec.egress[0].to[0].ipBlock.except[0]: expected a block inside 10.0.0.0/8, and smaller, \
         found \"10.0.0.0/8\"",
    );
    refuses_network_policy(
        "  ingress: [{ports: [{port: 0}]}]\n",
        "spec.ingress[0].ports[0].port: expected a port, 1 to 65535, found 0",
    );
    refuses_network_policy(
        "  ingress: [{ports: [{port: '80'}]}]\n",
        "spec.ingress[0].ports[0].port: expected a port, 1 to 65535, or the name of one, found \"80\"",
    );
    refuses_network_policy(
        "  ingress: [{ports: [{port: 80, endPort: 79}]}]\n",
        "spec.ingress[0].ports[0].endPort: expected the last port of a range, 80 to 65535, found 79",
    );
    refuses_network_policy(
        "  ingress: [{ports: [{endPort: 79}]}]\n",
        "spec.ingress[0].ports[0].endPort: expected no endPort without a port, found 79",
    );
    refuses_network_policy(
        "  ingress: [{ports: [{port: 80, protocol: QUIC}]}]\n",
        "spec.ingress[0].ports[0].protocol: expected TCP, UDP or SCTP, found \"QUIC\"",
    );
    refuses_network_policy(
        "  ingress: [{from: [{podSelector: {matchLabels: {'k8s:app': a}}}]}]\n",
        "spec.ingress[0].from[0].podSelector.matchLabels[\"k8s:app\"]: expected a label key, found \"k8s:app\"",
    );
}
