//! Services and ways out for the small node: virtual addresses, a node port, egress addresses.

use super::{CLIENT_PARTY, HOST, SERVER_PARTY, STRANGER_PARTY, snapshot};
use portcullis_engine::{
    Backend, BackendState, ExitPlan, Frontend, FrontendKind, GatewayPlace, PortRange, ServiceSpec,
    ServiceTable, Snapshot,
};
use portcullis_policy::Protocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));
pub const VIP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 10));
/// The node's own address on the uplink, which its stack uses, too.
pub const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 10));
pub const NODE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 10));
/// An address that packets leave with, and nothing else uses.
pub const EGRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 50));
pub const EGRESS_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 50));
/// An address of a service from outside.
pub const EXTERNAL: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
/// A backend on another node.
pub const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 42, 1));
pub const LOOPBACK_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0x2a, 1));

/// A node document whose label the policies of egress gateways ask for.
pub const GATEWAY_NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: here, labels: {egress: 'yes'}}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}
";

/// What the client sends to this network leaves through the gateway.
pub const CLIENT_THROUGH_GATEWAY: &str = "
apiVersion: cilium.io/v2
kind: CiliumEgressGatewayPolicy
metadata: {name: client-out}
spec:
  selectors:
  - podSelector: {matchLabels: {app: frontend}}
  destinationCIDRs: [198.51.100.0/24, '2001:db8::/64']
  excludedCIDRs: [198.51.100.128/25]
  egressGateway: {nodeSelector: {matchLabels: {egress: 'yes'}}, egressIP: 192.0.2.50}
";

pub fn backend(address: impl Into<IpAddr>, port: u16) -> Backend {
    Backend {
        address: address.into(),
        port,
        state: BackendState::Active,
        is_local: true,
    }
}

pub fn terminating(backend: Backend) -> Backend {
    Backend {
        state: BackendState::Terminating,
        ..backend
    }
}

pub fn server() -> Backend {
    backend(SERVER_PARTY.v4, 80)
}

pub fn stranger() -> Backend {
    backend(STRANGER_PARTY.v4, 80)
}

pub fn client() -> Backend {
    backend(CLIENT_PARTY.v4, 80)
}

/// A service at one address and port, for TCP, UDP and SCTP.
pub fn service(name: &str, address: IpAddr, port: u16, backends: &[Backend]) -> Vec<ServiceSpec> {
    let kind = match address {
        VIP | VIP_V6 => FrontendKind::ClusterIp,
        NODE | NODE_V6 => FrontendKind::NodePort,
        _ => FrontendKind::External,
    };
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .map(|protocol| ServiceSpec {
            namespace: "backend".to_owned(),
            name: name.to_owned(),
            port_name: format!("{protocol:?}"),
            frontends: vec![(
                Frontend {
                    address,
                    protocol,
                    port,
                },
                kind,
            )],
            backends: backends.to_vec(),
            ..ServiceSpec::default()
        })
        .collect()
}

/// A snapshot with services, and with the node's own address at the host.
pub fn serving(policies: &[&str], generation: u64, specs: &[ServiceSpec]) -> Snapshot {
    with_services(snapshot(policies, generation), specs)
}

pub fn with_services(mut snapshot: Snapshot, specs: &[ServiceSpec]) -> Snapshot {
    snapshot.services = Arc::new(ServiceTable::new(specs, None).0);
    for address in [NODE, NODE_V6] {
        snapshot.endpoint_of.insert(address, HOST);
        let host = snapshot.endpoints[usize::from(HOST.0)].as_mut().unwrap();
        host.addresses.push(address);
    }
    if snapshot.exits.node.is_empty() {
        snapshot.exits = Arc::new(plan((30_000, 30_999)));
    }
    snapshot
}

/// A plan that changes nothing that leaves, but knows the node's own addresses and egress ones.
pub fn plan(ports: (u16, u16)) -> ExitPlan {
    let range = PortRange::new(ports.0, ports.1).unwrap();
    let addresses = [NODE, NODE_V6, EGRESS, EGRESS_V6];
    ExitPlan {
        node: vec![NODE, NODE_V6],
        shared: vec![NODE, NODE_V6],
        ports: addresses.into_iter().map(|own| (own, range)).collect(),
        ..ExitPlan::default()
    }
}

/// A plan that hides pods behind the node's own addresses.
pub fn masquerade(ports: (u16, u16)) -> ExitPlan {
    ExitPlan {
        masquerade: vec![NODE, NODE_V6],
        ..plan(ports)
    }
}

/// A plan for one policy with one gateway.
pub fn gateway(place: GatewayPlace, ports: (u16, u16)) -> ExitPlan {
    ExitPlan {
        gateways: vec![vec![place]],
        ..plan(ports)
    }
}

/// A snapshot with this plan and without services.
pub fn leaving(policies: &[&str], generation: u64, plan: ExitPlan) -> Snapshot {
    let mut snapshot = snapshot(policies, generation);
    snapshot.exits = Arc::new(plan);
    with_services(snapshot, &[])
}
