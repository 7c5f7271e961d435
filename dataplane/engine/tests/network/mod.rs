//! A small node for tests: three pods, a host, an uplink, policies from YAML, and packets.

// Each test binary and the benches use their own part of it.
#![allow(dead_code, missing_docs)]

pub mod build;
pub mod exercise;
pub mod services;

use portcullis_engine::{
    Checksum, Drop, Endpoint, EndpointId, EndpointIndex, EndpointKind, Engine, EngineSettings,
    FrameBytes, HoldSlot, MacAddress, Now, Outcome, Record, Route, Snapshot, segment, segments,
};
use portcullis_policy::{
    Document, Generation, Identity, IdentityAllocator, NodeFacts, Settings, Tables, compile,
    parse_documents,
};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub const CLIENT: EndpointIndex = EndpointIndex(0);
pub const SERVER: EndpointIndex = EndpointIndex(1);
pub const STRANGER: EndpointIndex = EndpointIndex(2);
pub const HOST: EndpointIndex = EndpointIndex(3);
pub const UPLINK: EndpointIndex = EndpointIndex(4);

/// Where the frames of an endpoint come from, as the packet builders need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Party {
    pub mac: MacAddress,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

pub const fn mac(last: u8) -> MacAddress {
    MacAddress([0x02, 0, 0, 0, 0, last])
}

/// The MAC address that the gateway has at an endpoint.
pub const fn gateway_mac(index: EndpointIndex) -> MacAddress {
    MacAddress([0x02, 0xff, 0, 0, 0, index.0 as u8])
}

const fn party(last: u8) -> Party {
    Party {
        mac: mac(last),
        v4: Ipv4Addr::new(10, 0, 0, last),
        v6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last as u16),
    }
}

pub const CLIENT_PARTY: Party = party(2);
pub const SERVER_PARTY: Party = party(3);
pub const STRANGER_PARTY: Party = party(4);
pub const HOST_PARTY: Party = party(1);
/// Somebody in the world, behind the router.
pub const WORLD_PARTY: Party = Party {
    mac: mac(0xfe),
    v4: Ipv4Addr::new(198, 51, 100, 7),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7),
};
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xff);

pub const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: frontend}
---
apiVersion: v1
kind: Namespace
metadata: {name: backend}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: frontend, labels: {app: frontend}}
status: {podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: backend, labels: {app: backend}}
status: {podIPs: [{ip: 10.0.0.3}, {ip: 'fd00::3'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: frontend, labels: {app: other}}
status: {podIPs: [{ip: 10.0.0.4}, {ip: 'fd00::4'}]}
";

/// The server takes TCP 80 and ICMP echo from the client only.
pub const ALLOW_CLIENT: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: allow-client, namespace: backend}
spec:
  endpointSelector: {matchLabels: {app: backend}}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: frontend, k8s:io.kubernetes.pod.namespace: frontend}
    toPorts:
    - ports: [{port: '80', protocol: TCP}, {port: '53', protocol: UDP}]
";

/// The server takes nothing.
pub const DENY_ALL: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all, namespace: backend}
spec:
  podSelector: {}
  policyTypes: [Ingress]
";

/// The client may open nothing.
pub const CLIENT_SILENT: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: silent, namespace: frontend}
spec:
  podSelector: {matchLabels: {app: frontend}}
  policyTypes: [Egress]
";

/// Tables from YAML, over the pods of this network.
pub fn tables(policies: &[&str], generation: u64) -> Arc<Tables> {
    tables_of(PODS, policies, generation)
}

/// Tables from YAML, over these pods.
pub fn tables_of(pods: &str, policies: &[&str], generation: u64) -> Arc<Tables> {
    let settings = Settings::default();
    let mut documents: Vec<Document> = parse_documents("pods.yaml", pods, &settings).unwrap();
    for policy in policies {
        documents.extend(parse_documents("policies.yaml", policy, &settings).unwrap());
    }
    let facts = NodeFacts {
        node_addresses: vec![IpAddr::V4(HOST_PARTY.v4), IpAddr::V6(HOST_PARTY.v6)],
        remote_node_addresses: Vec::new(),
        api_server_addresses: Vec::new(),
        pod_cidrs: vec![
            (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 24),
            (IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0)), 64),
        ],
    };
    let mut identities = IdentityAllocator::default();
    let generation = Generation(generation);
    Arc::new(compile(&documents, &facts, &settings, &mut identities, generation).unwrap())
}

/// A snapshot with these policies.
pub fn snapshot(policies: &[&str], generation: u64) -> Snapshot {
    snapshot_of(tables(policies, generation), generation)
}

/// A snapshot with these tables.
pub fn snapshot_of(tables: Arc<Tables>, generation: u64) -> Snapshot {
    let pod = |index: EndpointIndex, party: Party, namespace: &str, name: &str| Endpoint {
        id: EndpointId(100 + u32::from(index.0)),
        kind: EndpointKind::Pod,
        worker: 0,
        identity: tables
            .identity_of_pod(namespace, name)
            .unwrap_or(Identity::UNKNOWN),
        policy: tables.policy_of(namespace, name),
        addresses: vec![IpAddr::V4(party.v4), IpAddr::V6(party.v6)],
        peer_mac: Some(party.mac),
        own_mac: gateway_mac(index),
        mtu: 65_535,
        exits: tables.exit_place(namespace, name),
    };
    let endpoints = vec![
        pod(CLIENT, CLIENT_PARTY, "frontend", "client"),
        pod(SERVER, SERVER_PARTY, "backend", "server"),
        pod(STRANGER, STRANGER_PARTY, "frontend", "stranger"),
        Endpoint {
            id: EndpointId(103),
            kind: EndpointKind::Host,
            worker: 0,
            identity: Identity::HOST,
            policy: None,
            addresses: vec![IpAddr::V4(HOST_PARTY.v4), IpAddr::V6(HOST_PARTY.v6)],
            peer_mac: Some(HOST_PARTY.mac),
            own_mac: gateway_mac(HOST),
            mtu: 65_535,
            exits: None,
        },
        Endpoint {
            id: EndpointId(104),
            kind: EndpointKind::Uplink,
            worker: 0,
            identity: Identity::UNKNOWN,
            policy: None,
            addresses: Vec::new(),
            peer_mac: None,
            own_mac: gateway_mac(UPLINK),
            mtu: 1500,
            exits: None,
        },
    ];
    let endpoint_of = endpoints
        .iter()
        .enumerate()
        .flat_map(|(index, endpoint)| {
            let index = EndpointIndex(index as u16);
            endpoint
                .addresses
                .iter()
                .map(move |address| (*address, index))
        })
        .collect();
    Snapshot {
        generation: Generation(generation),
        tables: Some(tables),
        endpoint_of,
        endpoints: endpoints.into_iter().map(Some).collect(),
        uplink: Some(UPLINK),
        routes: vec![
            Route {
                network: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                prefix_length: 0,
                gateway: Some(IpAddr::V4(ROUTER_V4)),
            },
            Route {
                network: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                prefix_length: 0,
                gateway: Some(IpAddr::V6(ROUTER_V6)),
            },
        ],
        neighbours: [
            (IpAddr::V4(ROUTER_V4), WORLD_PARTY.mac),
            (IpAddr::V6(ROUTER_V6), WORLD_PARTY.mac),
        ]
        .into_iter()
        .collect(),
        gateway_addresses: (GATEWAY_V4, GATEWAY_V6),
        services: Arc::default(),
        exits: Arc::default(),
    }
}

/// Bytes of a frame in the first piece; more go on in pieces of 4096.
pub const HEAD_MAX: usize = 3840;

/// Lends a frame's bytes as the rings would: a head with room, and a tail.
pub fn with_frame<T>(bytes: &mut Vec<u8>, run: impl FnOnce(&mut FrameBytes<'_>) -> T) -> T {
    let head_length = bytes.len().min(HEAD_MAX);
    let mut head = vec![0; HEAD_MAX];
    head[..head_length].copy_from_slice(&bytes[..head_length]);
    let rest = bytes.split_off(head_length);
    let tail: Vec<&[u8]> = rest.chunks(4096).collect();
    let mut frame = FrameBytes {
        head: &mut head,
        head_length,
        tail: &tail,
    };
    let result = run(&mut frame);
    let head_length = frame.head_length;
    // All of the head: an answer may be longer than the frame was.
    bytes.clear();
    bytes.extend_from_slice(&head[..head_length]);
    bytes.extend_from_slice(&rest);
    result
}

/// What became of a frame, with the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Sent {
        to: EndpointIndex,
        frame: Vec<u8>,
    },
    Cut {
        to: EndpointIndex,
        frames: Vec<Vec<u8>>,
    },
    Answered {
        to: EndpointIndex,
        frame: Vec<u8>,
        reason: Option<Drop>,
    },
    /// It waits for the first fragment of its datagram.
    Held(HoldSlot),
    Dropped(Drop),
}

/// One worker that owns all endpoints.
pub struct Node {
    pub engine: Engine,
    pub now: Now,
    pub records: Vec<Record>,
    /// The frames that wait.
    pub held: HashMap<HoldSlot, Vec<u8>>,
}

/// Past the time in which connections are learned in mid-stream.
pub const LATER: Now = Now(1_000_000_000_000);

impl Node {
    pub fn new(policies: &[&str]) -> Self {
        Self::with(EngineSettings::default(), snapshot(policies, 1))
    }

    pub fn with(settings: EngineSettings, snapshot: Snapshot) -> Self {
        let mut engine = Engine::new(settings, (1, 2));
        assert!(engine.adopt(Arc::new(snapshot)).is_none());
        Self {
            engine,
            now: LATER,
            records: Vec::with_capacity(64),
            held: HashMap::new(),
        }
    }

    pub fn adopt(&mut self, policies: &[&str], generation: u64) {
        self.engine.adopt(Arc::new(snapshot(policies, generation)));
    }

    pub fn wait(&mut self, seconds: u64) {
        self.now = Now(self.now.0 + seconds * 1_000_000_000);
    }

    /// Walks a frame through both halves, as a worker does. Frames whose wait it ends stay where
    /// they are until `release`.
    pub fn send(&mut self, from: EndpointIndex, bytes: Vec<u8>) -> End {
        self.walk(bytes, |engine, frame, now, records| {
            let outcome = engine.egress(from, frame, now, records);
            if let Outcome::HandOver(handover) = outcome {
                assert_eq!(handover.from, from);
            }
            outcome
        })
    }

    /// Walks all frames whose wait is over, in their order.
    pub fn release(&mut self) -> Vec<End> {
        let mut ends = Vec::new();
        while let Some(released) = self.engine.take_released() {
            let bytes = self
                .held
                .remove(&released.slot)
                .expect("no frame in the slot");
            ends.push(self.walk(bytes, |engine, frame, now, records| {
                engine.resume(released, frame, now, records)
            }));
        }
        ends
    }

    /// Sends frames one after the other, and releases what waits after each: all ends in order.
    pub fn send_all(
        &mut self,
        from: EndpointIndex,
        frames: impl IntoIterator<Item = Vec<u8>>,
    ) -> Vec<End> {
        let mut ends = Vec::new();
        for frame in frames {
            ends.push(self.send(from, frame));
            ends.extend(self.release());
        }
        ends
    }

    fn walk(
        &mut self,
        mut bytes: Vec<u8>,
        egress: impl FnOnce(&mut Engine, &mut FrameBytes<'_>, Now, &mut Vec<Record>) -> Outcome,
    ) -> End {
        let (engine, now, records) = (&mut self.engine, self.now, &mut self.records);
        let end = with_frame(&mut bytes, |frame| {
            let mut outcome = egress(engine, frame, now, records);
            if let Outcome::HandOver(handover) = outcome {
                outcome = engine.ingress(&handover, frame, now, records);
                if handover.must_be_withdrawn(&outcome) {
                    engine.withdraw(&handover);
                }
            }
            returned(engine, outcome, frame, now, records)
        });
        if let End::Held(slot) = end {
            let before = self.held.insert(slot, bytes);
            assert_eq!(before, None, "two frames in one slot");
        }
        end
    }

    /// The resets that are owed, as they leave: where, and the frame.
    pub fn resets(&mut self) -> Vec<(EndpointIndex, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some(reset) = self.engine.take_reset() {
            let mut bytes = vec![0; HEAD_MAX];
            let length = reset.write(&mut bytes);
            bytes.truncate(length);
            let (engine, now, records) = (&mut self.engine, self.now, &mut self.records);
            let end = with_frame(&mut bytes, |frame| {
                let outcome = engine.ingress(reset.handover(), frame, now, records);
                end_of(outcome, frame)
            });
            match end {
                End::Sent { to, frame } => sent.push((to, frame)),
                other => panic!("a reset of ours ended as {other:?}"),
            }
        }
        sent
    }

    /// The reason a frame ends for, told by a reset or not; panics when it does not.
    pub fn reason(&mut self, from: EndpointIndex, bytes: Vec<u8>) -> Drop {
        match self.send(from, bytes) {
            End::Dropped(reason) => reason,
            End::Answered {
                reason: Some(Drop::FlowUnknown),
                ..
            } => Drop::FlowUnknown,
            other => panic!("expected a drop, got {other:?}"),
        }
    }

    /// The bytes that leave at `to`; panics when they do not.
    pub fn delivered(&mut self, from: EndpointIndex, to: EndpointIndex, bytes: Vec<u8>) -> Vec<u8> {
        match self.send(from, bytes) {
            End::Sent { to: out, frame } if out == to => frame,
            other => panic!("expected a frame at {to:?}, got {other:?}"),
        }
    }
}

/// Walks what the ingress half returns to its sender through the other half, as a worker does.
fn returned(
    engine: &mut Engine,
    outcome: Outcome,
    frame: &mut FrameBytes<'_>,
    now: Now,
    records: &mut Vec<Record>,
) -> End {
    let Outcome::Return {
        handover,
        length,
        reason,
    } = outcome
    else {
        return end_of(outcome, frame);
    };
    let mut answer = FrameBytes {
        head: &mut *frame.head,
        head_length: usize::from(length),
        tail: &[],
    };
    let outcome = engine.ingress(&handover, &mut answer, now, records);
    match end_of(outcome, &answer) {
        End::Sent { to, frame } => End::Answered {
            to,
            frame,
            reason: Some(reason),
        },
        other => panic!("an answer to who sent it ended as {other:?}"),
    }
}

/// Finishes a checksum as the kernel does for a frame with transmit metadata: over everything from
/// `start`, and zero is written as its other form. [Linux, `skb_checksum_help`]
fn finish_as_kernel(bytes: &mut [u8], start: usize, offset: usize) {
    let sum = match !build::plain_sum(&bytes[start..]) {
        0 => 0xffff_u16,
        sum => sum,
    };
    bytes[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
}

/// What the daemon would send, by the outcome.
pub fn end_of(outcome: Outcome, frame: &FrameBytes<'_>) -> End {
    match outcome {
        Outcome::HandOver(_) => panic!("a handover after the ingress half"),
        Outcome::Transmit(to, checksum) => {
            let mut bytes = frame.bytes().to_vec();
            frame
                .tail
                .iter()
                .for_each(|piece| bytes.extend_from_slice(piece));
            if let Checksum::Partial { start, offset } = checksum {
                finish_as_kernel(&mut bytes, usize::from(start), usize::from(offset));
            }
            End::Sent { to, frame: bytes }
        }
        Outcome::TransmitSegmented { to, payload_max } => End::Cut {
            to,
            frames: (0..segments(frame, payload_max))
                .map(|index| {
                    let mut out = vec![0; HEAD_MAX];
                    let length = segment(frame, payload_max, index, &mut out).unwrap();
                    out.truncate(length);
                    out
                })
                .collect(),
        },
        Outcome::Answer { to, length, reason } => End::Answered {
            to,
            frame: frame.head[..usize::from(length)].to_vec(),
            reason,
        },
        Outcome::Return { .. } => panic!("an answer that has yet to walk the other half"),
        Outcome::Hold(slot) => End::Held(slot),
        Outcome::Drop(reason) => End::Dropped(reason),
    }
}
