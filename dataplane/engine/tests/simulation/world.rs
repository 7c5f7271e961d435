//! What the simulation is made of: chance, snapshots and packets.

use crate::network::build::{Build, party_of, quote, v4, v6};
use crate::network::services::*;
use crate::network::*;
use portcullis_engine::{
    BackendState, EndpointId, EndpointIndex, ExitPlan, GatewayPlace, ServiceSpec, Snapshot,
};
use portcullis_policy::Tables;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

pub const WORKERS: usize = 3;
pub const ENDPOINTS: [EndpointIndex; 5] = [CLIENT, SERVER, STRANGER, HOST, UPLINK];

/// Numbers that look like chance and are not. [Vigna, SplitMix64]
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Policies that come and go.
const POLICIES: [&str; 8] = [
    "",
    ALLOW_CLIENT,
    DENY_ALL,
    CLIENT_SILENT,
    "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client-to-world, namespace: frontend}
spec:
  endpointSelector: {matchLabels: {app: frontend}}
  egress:
  - toCIDR: [198.51.100.0/24]
    toPorts:
    - ports: [{port: '443', protocol: TCP}, {port: '53', protocol: UDP}]
",
    "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: no-world, namespace: backend}
spec:
  endpointSelector: {}
  ingressDeny:
  - fromEntities: [world]
  egressDeny:
  - toEntities: [world]
    toPorts:
    - ports: [{port: '22', protocol: TCP}]
",
    "
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: others-wait}
spec:
  endpointSelector: {matchLabels: {app: other}}
  ingress:
  - fromEntities: [host]
  - toPorts:
    - ports: [{port: '40000', endPort: 40003, protocol: TCP}]
",
    "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: backend-answers-only, namespace: backend}
spec:
  endpointSelector: {}
  egress:
  - toEndpoints:
    - matchLabels: {app: backend}
",
];

/// How the pods are dealt out: as they are, two with exchanged addresses, one gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Population {
    All,
    Exchanged,
    WithoutServer,
}

fn tables_for(population: Population, mask: usize) -> Arc<Tables> {
    type Known = HashMap<(Population, usize), Arc<Tables>>;
    thread_local! {
        static KNOWN: RefCell<Known> = RefCell::default();
    }
    let made = || {
        let pods = match population {
            Population::All => PODS.to_owned(),
            Population::Exchanged => PODS
                .replace("10.0.0.2}", "10.0.0.x}")
                .replace("fd00::2'", "fd00::x'")
                .replace("10.0.0.4}", "10.0.0.2}")
                .replace("fd00::4'", "fd00::2'")
                .replace("10.0.0.x}", "10.0.0.4}")
                .replace("fd00::x'", "fd00::4'"),
            Population::WithoutServer => {
                let documents = PODS.split("---");
                let left: Vec<&str> = documents.filter(|text| !text.contains("server")).collect();
                left.join("---")
            }
        };
        let policies: Vec<&str> = (0..POLICIES.len())
            .filter(|bit| mask >> bit & 1 == 1)
            .map(|bit| POLICIES[bit])
            .filter(|policy| !policy.is_empty())
            .collect();
        let through = [GATEWAY_NODE, CLIENT_THROUGH_GATEWAY];
        let gateway = if mask & 1 == 1 { &through[..] } else { &[] };
        tables_of(&pods, &[policies, gateway.to_vec()].concat(), 0)
    };
    KNOWN.with_borrow_mut(|known| Arc::clone(known.entry((population, mask)).or_insert_with(made)))
}

/// A snapshot by chance. Pods that changed since `before` have new names.
pub fn snapshot_by(
    chance: &mut Chance,
    before: Option<(&Snapshot, Population)>,
) -> (Snapshot, Population) {
    let population = match before {
        Some((_, population)) if !chance.one_in(4) => population,
        _ => chance.pick(&[
            Population::All,
            Population::Exchanged,
            Population::WithoutServer,
        ]),
    };
    // Mostly few policies, so that something passes.
    let mask = chance.below(1 << POLICIES.len()) & chance.below(1 << POLICIES.len());
    let generation = before.map_or(1, |(snapshot, _)| snapshot.generation.0 + 1);
    let tables = tables_for(population, mask);
    let mut next = snapshot_parts(Arc::clone(&tables), generation, population);
    let is_new = before.is_none_or(|(_, was)| was != population);
    for (index, endpoint) in next.endpoints.iter_mut().enumerate() {
        let Some(endpoint) = endpoint else { continue };
        endpoint.worker = (index * 7 % WORKERS) as u16;
        let kept = before.and_then(|(old, _)| old.endpoint(EndpointIndex(index as u16)));
        endpoint.id = match kept {
            Some(kept) if !is_new || index > 2 => kept.id,
            _ => EndpointId((generation * 8) as u32 + index as u32),
        };
        if chance.one_in(40) {
            endpoint.peer_mac = None;
        }
        if chance.one_in(40) {
            endpoint.policy = None;
        }
    }
    next.exits = Arc::new(plan_by(chance));
    (with_services(next, &services_by(chance)), population)
}

/// Services whose backends come, go and terminate.
fn services_by(chance: &mut Chance) -> Vec<ServiceSpec> {
    let mut specs = Vec::new();
    for (name, frontend, port) in [
        ("web", VIP, 80),
        ("dns", VIP, 53),
        ("web6", VIP_V6, 80),
        ("node", NODE, 443),
        ("out", EXTERNAL, 80),
    ] {
        let mut backends = Vec::new();
        for party in [CLIENT_PARTY, SERVER_PARTY, STRANGER_PARTY] {
            let address = match frontend.is_ipv4() {
                true => IpAddr::V4(party.v4),
                false => IpAddr::V6(party.v6),
            };
            let mut backend = backend(address, 80);
            if chance.one_in(6) {
                backend.state = BackendState::Terminating;
            }
            if !chance.one_in(3) {
                backends.push(backend);
            }
        }
        if frontend.is_ipv4() && chance.one_in(3) {
            backends.push(backend(WORLD_PARTY.v4, 80));
        }
        let mut made = service(name, frontend, port, &backends);
        if chance.one_in(4) {
            made.iter_mut()
                .for_each(|spec| spec.affinity = Some(std::time::Duration::from_secs(20)));
        }
        if !chance.one_in(8) {
            specs.extend(made);
        }
    }
    specs
}

/// A way out with few ports, so that they run out.
fn plan_by(chance: &mut Chance) -> ExitPlan {
    let ports = (40_000, chance.pick(&[40_002, 40_010]));
    let place = match chance.below(5) {
        0 => GatewayPlace::NoAddress,
        1 => GatewayPlace::Elsewhere(IpAddr::V4(ROUTER_V4)),
        _ => GatewayPlace::Here(vec![EGRESS, EGRESS_V6]),
    };
    let mut plan = ExitPlan {
        gateways: vec![vec![place]],
        ..plan(ports)
    };
    if !chance.one_in(3) {
        plan.masquerade = vec![NODE, NODE_V6];
    }
    if chance.one_in(8) {
        plan.ports.remove(&EGRESS);
    }
    plan
}

fn snapshot_parts(tables: Arc<Tables>, generation: u64, population: Population) -> Snapshot {
    let places = [
        (CLIENT, "frontend", "client"),
        (SERVER, "backend", "server"),
        (STRANGER, "frontend", "stranger"),
    ];
    let mut next = snapshot_of(Arc::clone(&tables), generation);
    for (index, namespace, name) in places {
        let place = &mut next.endpoints[usize::from(index.0)];
        let Some(identity) = tables.identity_of_pod(namespace, name) else {
            *place = None;
            continue;
        };
        let endpoint = place.as_mut().unwrap();
        endpoint.identity = identity;
        endpoint.policy = tables.policy_of(namespace, name);
        let exchanged = match (population, index) {
            (Population::Exchanged, CLIENT) => STRANGER,
            (Population::Exchanged, STRANGER) => CLIENT,
            (_, index) => index,
        };
        let party = party_of(exchanged);
        endpoint.addresses = vec![IpAddr::V4(party.v4), IpAddr::V6(party.v6)];
    }
    next.endpoint_of = (0..next.endpoints.len())
        .filter_map(|index| Some((index, next.endpoints[index].as_ref()?)))
        .flat_map(|(index, endpoint)| {
            let index = EndpointIndex(index as u16);
            endpoint
                .addresses
                .iter()
                .map(move |address| (*address, index))
        })
        .collect();
    next
}

/// A packet by chance, some in pieces, from this endpoint as the snapshot has it: mostly honest, so that it gets
/// far; from few ports, so that it meets others.
pub fn frames_by(chance: &mut Chance, snapshot: &Snapshot, from: EndpointIndex) -> Vec<Vec<u8>> {
    let to = loop {
        let to = chance.pick(&ENDPOINTS);
        if to != from {
            break to;
        }
    };
    let is_v4 = chance.one_in(2);
    let mut build = if is_v4 { v4(from, to) } else { v6(from, to) };
    if let Some(endpoint) = snapshot.endpoint(from)
        && let Some(own) = endpoint.addresses.iter().find(|own| own.is_ipv4() == is_v4)
    {
        build.source = *own;
    }
    if chance.one_in(3) {
        build.destination = match (is_v4, from == UPLINK) {
            (true, true) => chance.pick(&[NODE, NODE, EXTERNAL, EGRESS]),
            (true, false) => chance.pick(&[VIP, VIP, VIP, NODE, EXTERNAL]),
            (false, true) => chance.pick(&[NODE_V6, EGRESS_V6]),
            (false, false) => VIP_V6,
        };
    }
    if chance.one_in(30) {
        let other = party_of(chance.pick(&ENDPOINTS));
        build.source = if is_v4 {
            IpAddr::V4(other.v4)
        } else {
            IpAddr::V6(other.v6)
        };
    }
    if chance.one_in(50) {
        build.hops = 1;
    }
    build.is_partial = chance.one_in(2);
    let mut frame = transport_by(chance, &build);
    if chance.one_in(6) {
        return pieces_by(chance, &build, frame);
    }
    if chance.one_in(25) {
        let at = chance.below(frame.len());
        frame[at] ^= 1 << chance.below(8);
    }
    if chance.one_in(50) {
        frame.truncate(chance.below(frame.len()));
    }
    vec![frame]
}

/// What whoever got a frame might say to it: an answer, or an ICMP error. None for what has no
/// ports of its own.
pub fn reply_by(chance: &mut Chance, from: EndpointIndex, frame: &[u8]) -> Option<Vec<u8>> {
    let to = if from == UPLINK { CLIENT } else { UPLINK };
    let mut build = v4(from, to);
    let (protocol, at) = if frame[12..14] == [0x08, 0] {
        if frame[14] != 0x45 || frame[20] & 0x3f != 0 || frame[21] != 0 {
            return None;
        }
        let four = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
        (build.source, build.destination) = (four(30), four(26));
        (frame[23], 34)
    } else {
        let sixteen = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        (build.source, build.destination) = (sixteen(38), sixteen(22));
        (frame[20], 54)
    };
    // Extension headers: not read here.
    if !matches!(protocol, 1 | 6 | 17 | 58 | 132) {
        return None;
    }
    build.is_partial = chance.one_in(2);
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let is_request = frame[at] == 8 || frame[at] == 128;
    let ports = (word(at + 2), word(at));
    if chance.one_in(5) && (is_request || !matches!(protocol, 1 | 58)) {
        let (kind, code) = if at == 34 { (3, 3) } else { (1, 4) };
        return Some(build.icmp(kind, code, [0; 4], quote(frame)));
    }
    Some(match protocol {
        6 => build.tcp(
            ports,
            chance.pick(&[0x12, 0x12, 0x10, 0x18, 0x11, 0x04]),
            b"reply",
        ),
        17 => build.udp(ports, b"reply"),
        132 => build.sctp(ports, b"reply"),
        1 | 58 if is_request => build.echo(false, word(at + 4)),
        _ => return None,
    })
}

/// A frame in pieces, of a datagram that is one of few, so that it meets others.
fn pieces_by(chance: &mut Chance, build: &Build, whole: Vec<u8>) -> Vec<Vec<u8>> {
    let (protocol, above) = match build.source.is_ipv4() {
        true => (whole[23], &whole[34..]),
        false => (whole[20], &whole[54..]),
    };
    let cuts = [(0, 24), (24, 40), (40, usize::MAX)];
    let identification = chance.below(64) as u8;
    if above.len() <= 40 {
        return vec![whole];
    }
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for (from, to) in cuts {
        let piece = piece(build, (protocol, identification), above, from, to);
        pieces.insert(chance.below(pieces.len() + 1), piece);
    }
    match chance.below(4) {
        // One is lost, one comes twice, one overlaps the others.
        0 => pieces.truncate(2),
        1 => pieces.push(pieces[0].clone()),
        2 => pieces.push(piece(build, (protocol, identification), above, 32, 48)),
        _ => {}
    }
    pieces
}

fn piece(build: &Build, names: (u8, u8), above: &[u8], from: usize, to: usize) -> Vec<u8> {
    let (protocol, identification) = names;
    let to = above.len().min(to);
    let more = u16::from(to < above.len());
    if build.source.is_ipv4() {
        let build = build.clone();
        let mut build = build.fragment((more << 13) | (from as u16 / 8));
        build.identification = u16::from(identification);
        return build.network(protocol, &above[from..to]);
    }
    let [high, low] = (from as u16 | more).to_be_bytes();
    let header = [protocol, 0, high, low, 0, 0, 0, identification];
    let build = build.clone().options(44, &header);
    build.network(protocol, &above[from..to])
}

fn transport_by(chance: &mut Chance, build: &Build) -> Vec<u8> {
    const PORTS: [u16; 7] = [22, 53, 80, 443, 40_000, 40_001, 50_000];
    const FLAGS: [u8; 9] = [0x02, 0x02, 0x02, 0x12, 0x12, 0x10, 0x18, 0x11, 0x04];
    let ports = (chance.pick(&PORTS), chance.pick(&PORTS));
    let payload = [0x5a; 1600];
    let length = chance.pick(&[0, 1, 40, 1400]);
    let payload = &payload[..if chance.one_in(40) { 1600 } else { length }];
    match chance.below(10) {
        0..=4 => build.tcp(ports, chance.pick(&FLAGS), payload),
        5 | 6 => build.udp(ports, payload),
        7 => build.echo(chance.one_in(2), chance.pick(&[1, 2])),
        8 => build.sctp(ports, payload),
        _ => {
            // An error about a packet that might have come the other way.
            let back = Build {
                source: build.destination,
                destination: build.source,
                ..build.clone()
            };
            let about = if chance.one_in(2) {
                back.udp(ports, b"q")
            } else {
                back.tcp(ports, 0x10, b"")
            };
            let kind = if build.source.is_ipv4() { 3 } else { 1 };
            build.icmp(kind, 3, [0; 4], quote(&about))
        }
    }
}
