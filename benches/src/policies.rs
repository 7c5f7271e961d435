//! The documents that the measured daemon has to apply.

use std::fmt::Write;

/// Where iperf3 listens, on TCP and UDP.
pub const IPERF_PORT: u16 = 5201;
/// Where the flood of datagrams goes.
pub const FLOOD_PORT: u16 = 5301;
/// Where connections are counted, on TCP.
pub const CONNECTION_PORT: u16 = 5302;
/// Where requests are answered, on TCP.
pub const ANSWER_PORT: u16 = 5303;

const TCP_PORTS: [u16; 3] = [IPERF_PORT, CONNECTION_PORT, ANSWER_PORT];
const UDP_PORTS: [u16; 2] = [IPERF_PORT, FLOOD_PORT];

/// The client may send, and the server receive, exactly what is measured.
#[must_use]
pub fn allow_client() -> String {
    let ingress = section("server", "ingress", "fromEndpoints", "client");
    let egress = section("client", "egress", "toEndpoints", "server");
    format!("{ingress}---\n{egress}")
}

fn section(subject: &str, direction: &str, peers: &str, peer: &str) -> String {
    let mut document = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: {direction}-{subject}, namespace: bench}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: {subject}}}}}\n  {direction}:\n  \
         - {peers}: [{{matchLabels: {{app: {peer}}}}}]\n    toPorts:\n    - ports:\n"
    );
    for (protocol, ports) in [("TCP", &TCP_PORTS[..]), ("UDP", &UDP_PORTS[..])] {
        for port in ports {
            let _ = writeln!(
                document,
                "      - {{port: \"{port}\", protocol: {protocol}}}"
            );
        }
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
