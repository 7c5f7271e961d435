//! The documents that the measured daemon has to apply.

use std::fmt::Write;

/// Where bulk goes, on TCP.
pub const BULK_PORT: u16 = 5201;
/// Where the flood of datagrams goes.
pub const FLOOD_PORT: u16 = 5301;
/// Where connections are counted, on TCP.
pub const CONNECTION_PORT: u16 = 5302;
/// Where requests are answered, on TCP.
pub const ANSWER_PORT: u16 = 5303;

/// All of them.
pub const PORTS: &[(&str, u16)] = &[
    ("TCP", BULK_PORT),
    ("TCP", CONNECTION_PORT),
    ("TCP", ANSWER_PORT),
    ("UDP", FLOOD_PORT),
];

/// Policies in [`allow_client`].
pub const OF_ALLOW_CLIENT: usize = 2;

/// The client may send, and the server receive, exactly what is measured.
#[must_use]
pub fn allow_client() -> String {
    let peer = |app: &str| format!("Endpoints: [{{matchLabels: {{app: {app}}}}}]");
    let ingress = section("server", "ingress", &format!("from{}", peer("client")));
    let egress = section("client", "egress", &format!("to{}", peer("server")));
    format!("{ingress}---\n{egress}")
}

/// The client may send to the host beyond the uplink exactly what is measured.
#[must_use]
pub fn allow_world() -> String {
    let peer = format!("toCIDR: [\"{}/32\"]", netns_tests::WORLD_ADDRESSES[0]);
    section("client", "egress", &peer).replace("egress-client", "egress-world")
}

fn section(subject: &str, direction: &str, peers: &str) -> String {
    let mut document = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: {direction}-{subject}, namespace: bench}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: {subject}}}}}\n  {direction}:\n  \
         - {peers}\n    toPorts:\n    - ports:\n"
    );
    for (protocol, port) in PORTS {
        let _ = writeln!(
            document,
            "      - {{port: \"{port}\", protocol: {protocol}}}"
        );
    }
    document
}

/// Policies of other pods of the same namespace, each with ports, peers and address blocks.
#[must_use]
pub fn unrelated(count: usize) -> String {
    let document = |number: usize| {
        let port = 1024 + number;
        let (high, low) = (number / 256, number % 256);
        format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
             metadata: {{name: other-{number}, namespace: bench}}\n\
             spec:\n  endpointSelector: {{matchLabels: {{app: other-{number}}}}}\n  ingress:\n  \
             - fromEndpoints: [{{matchLabels: {{app: caller-{number}}}}}]\n    toPorts:\n    \
             - ports: [{{port: \"{port}\", protocol: TCP}}]\n  egress:\n  \
             - toCIDR: [\"172.16.{high}.{low}/32\"]\n"
        )
    };
    (0..count).map(document).collect::<Vec<_>>().join("---\n")
}
