//! A node in memory: an engine, pods that talk to their neighbours, policies that all concern them.

use crossbeam::queue::ArrayQueue;
use portcullis::rings::want_large_pages;
use portcullis::worker::{BATCH, Foresight, Observed};
use portcullis_engine::{
    Endpoint, EndpointId, EndpointIndex, EndpointKind, Engine, EngineSettings, FrameBytes,
    MacAddress, Now, Outcome, Record, Snapshot,
};
use portcullis_policy::{
    Document, Generation, Identity, IdentityAllocator, NodeFacts, Settings, compile,
    parse_documents,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Bytes of the frames.
const LENGTH: usize = 64;
/// Destination ports that flows are spread over.
const PORTS: usize = 1000;
/// Records that wait for the observer, as on a worker.
const QUEUE: usize = 8192;
const START: Now = Now(1_000_000_000);
/// Longer than datagrams are remembered.
const IDLE_NS: u64 = 120_000_000_000;

/// How packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// They are made, and no more: what the harness itself costs.
    None,
    /// As on a worker; of known flows the short way.
    All,
    /// The whole walk, each of them.
    Walk,
}

/// An engine and the frames that go through it.
pub struct Node {
    engine: Engine,
    /// One for each pod, to the next.
    frames: Vec<[u8; LENGTH]>,
    heads: Vec<[u8; 256]>,
    records: Vec<Record>,
    foresight: Foresight,
    now: Now,
    /// Where records go; None where nobody observes.
    queue: Option<ArrayQueue<Observed>>,
}

impl Node {
    /// A node with `pods` pods and `policies` policies, of which the last allows the traffic.
    ///
    /// # Panics
    /// Never: the documents are right.
    #[must_use]
    pub fn new(pods: usize, policies: usize) -> Self {
        Self::with(pods, policies, false)
    }

    /// The same, where known flows walk, too.
    ///
    /// # Panics
    /// Never: the documents are right.
    #[must_use]
    pub fn with(pods: usize, policies: usize, walks_always: bool) -> Self {
        let settings = EngineSettings {
            walks_always,
            flows_max: 1 << 22,
            endpoint_share_percent: 100,
            ..EngineSettings::default()
        };
        let mut engine = Engine::new(settings, (7, 8));
        // As the daemon does.
        for (start, length) in engine.flow_memory() {
            want_large_pages(start, length);
        }
        engine.adopt(Arc::new(snapshot(pods, policies)));
        Self {
            engine,
            frames: (0..pods)
                .map(|from| frame(from, (from + 1) % pods))
                .collect(),
            heads: vec![[0; 256]; BATCH],
            records: Vec::with_capacity(16),
            foresight: Foresight::new(BATCH),
            now: START,
            queue: None,
        }
    }

    /// Tells an observer of everything, or nobody of anything.
    #[must_use]
    pub fn observed(mut self, is_observed: bool) -> Self {
        self.records = Vec::with_capacity(if is_observed { 256 } else { 0 });
        self.queue = is_observed.then(|| ArrayQueue::new(QUEUE));
        self
    }

    /// Reads what the observer was told, as its own thread would, and counts it. None where nobody
    /// observes.
    pub fn read_records(&self) -> Option<usize> {
        let queue = self.queue.as_ref()?;
        Some(std::iter::from_fn(|| queue.pop()).count())
    }

    /// Sends a packet of a flow; all packets are delivered.
    ///
    /// # Panics
    /// When it is not.
    pub fn send(&mut self, flow: usize) {
        self.send_batch(&[flow], Way::All);
    }

    /// Sends a packet of each of these flows, at most `BATCH`, as a worker does with what came in.
    ///
    /// # Panics
    /// When one is not delivered.
    pub fn send_batch(&mut self, flows: &[usize], way: Way) {
        let pods = self.frames.len();
        self.foresight.begin();
        for (flow, head) in flows.iter().zip(&mut self.heads) {
            let (from, number) = (flow % pods, flow / pods);
            head[..LENGTH].copy_from_slice(&self.frames[from]);
            let ports = [number / PORTS, number % PORTS].map(|port| (1024 + port) as u16);
            head[34..36].copy_from_slice(&ports[0].to_be_bytes());
            head[36..38].copy_from_slice(&ports[1].to_be_bytes());
            if way == Way::None {
                std::hint::black_box(head);
                continue;
            }
            let index = EndpointIndex(from as u16);
            self.foresight.look(&self.engine, index, &bytes_of(head));
        }
        if way == Way::None {
            return;
        }
        self.foresight.fetch(&self.engine);
        self.records.clear();
        for (place, (flow, head)) in flows.iter().zip(&mut self.heads).enumerate() {
            let from = flow % pods;
            let (engine, records, now) = (&mut self.engine, &mut self.records, self.now);
            let (index, mut bytes) = (EndpointIndex(from as u16), bytes_of(head));
            let foreseen = self.foresight.of(place);
            let outcome = engine.egress_foreseen(index, foreseen, &mut bytes, now, records);
            let outcome = match outcome {
                Outcome::HandOver(handover) => engine.ingress(&handover, &mut bytes, now, records),
                other => other,
            };
            let to = EndpointIndex(((from + 1) % pods) as u16);
            assert!(
                matches!(outcome, Outcome::Transmit(at, _) if at == to),
                "flow {flow}"
            );
        }
        self.tell();
    }

    /// Has all flows end, as time does.
    pub fn end_flows(&mut self) {
        self.now.0 += IDLE_NS;
        while self.engine.flows_count() > 0 {
            self.engine.expire(self.now);
            self.records.clear();
            self.tell();
        }
    }

    fn tell(&mut self) {
        let Some(queue) = &self.queue else { return };
        self.engine.tell_flows(self.now, &mut self.records);
        for record in self.records.drain(..) {
            // What has no room is lost, as on a worker; here somebody reads in time.
            let time = self.now;
            let is_told = queue.push(Observed { time, record }).is_ok();
            debug_assert!(is_told, "somebody reads");
        }
    }
}

fn bytes_of(head: &mut [u8; 256]) -> FrameBytes<'_> {
    FrameBytes {
        head,
        head_length: LENGTH,
        tail: &[],
    }
}

fn address(pod: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, pod as u8 + 1)
}

fn mac(pod: usize) -> MacAddress {
    MacAddress([0x02, 0, 0, 0, 0, pod as u8])
}

const GATEWAY: MacAddress = MacAddress([0xee; 6]);

/// A datagram of 22 bytes from one pod to another, without ports.
fn frame(from: usize, to: usize) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..6].copy_from_slice(&GATEWAY.0);
    bytes[6..12].copy_from_slice(&mac(from).0);
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes[14..26].copy_from_slice(&[0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    bytes[26..30].copy_from_slice(&address(from).octets());
    bytes[30..34].copy_from_slice(&address(to).octets());
    let sum: u32 = bytes[14..34]
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    bytes[24..26].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    bytes[38..40].copy_from_slice(&30_u16.to_be_bytes());
    bytes
}

/// Documents of one file: a file may have no more than 10 000.
const DOCUMENTS_MAX: usize = 1000;

fn documents(pods: usize, policies: usize) -> Vec<Document> {
    let mut texts = vec!["apiVersion: v1\nkind: Namespace\nmetadata: {name: bench}\n".to_owned()];
    for pod in 0..pods {
        let address = address(pod);
        texts.push(format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{pod}, namespace: bench, labels: \
             {{app: many}}}}\nstatus: {{podIPs: [{{ip: {address}}}]}}\n"
        ));
    }
    let policy = |number: usize, peer: &str, ports: &str| {
        format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p-{number}, \
             namespace: bench}}\nspec:\n  endpointSelector: {{matchLabels: {{app: many}}}}\n  \
             ingress:\n  - fromEndpoints: [{{matchLabels: {{app: {peer}}}}}]\n{ports}"
        )
    };
    for number in 1..policies {
        let ports = format!(
            "    toPorts: [{{ports: [{{port: '{}', protocol: TCP}}]}}]\n",
            1024 + number
        );
        texts.push(policy(number, &format!("caller-{number}"), &ports));
    }
    texts.push(policy(0, "many", ""));
    let settings = Settings::default();
    let parse = |texts: &[String]| {
        parse_documents("bench.yaml", &texts.join("---\n"), &settings).expect("right documents")
    };
    texts.chunks(DOCUMENTS_MAX).flat_map(parse).collect()
}

fn snapshot(pods: usize, policies: usize) -> Snapshot {
    let settings = Settings::default();
    let documents = documents(pods, policies);
    let facts = NodeFacts {
        pod_cidrs: vec![(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 0)), 24)],
        ..NodeFacts::default()
    };
    let mut identities = IdentityAllocator::default();
    let tables = compile(
        &documents,
        &facts,
        &settings,
        &mut identities,
        Generation(1),
    );
    let tables = Arc::new(tables.expect("tables"));
    let endpoint = |pod: usize| {
        let name = format!("pod-{pod}");
        Endpoint {
            id: EndpointId(100 + pod as u32),
            kind: EndpointKind::Pod,
            worker: 0,
            identity: tables
                .identity_of_pod("bench", &name)
                .unwrap_or(Identity::UNKNOWN),
            policy: tables.policy_of("bench", &name),
            addresses: vec![IpAddr::V4(address(pod))],
            peer_mac: Some(mac(pod)),
            own_mac: GATEWAY,
            mtu: 65_535,
            exits: tables.exit_place("bench", &name),
        }
    };
    Snapshot {
        generation: Generation(1),
        endpoint_of: (0..pods)
            .map(|pod| (IpAddr::V4(address(pod)), EndpointIndex(pod as u16)))
            .collect(),
        endpoints: (0..pods).map(|pod| Some(endpoint(pod))).collect(),
        uplink: None,
        routes: Vec::new(),
        neighbours: std::iter::empty().collect(),
        gateway_addresses: (Ipv4Addr::new(169, 254, 1, 1), Ipv6Addr::UNSPECIFIED),
        services: Arc::default(),
        exits: Arc::default(),
        tables: Some(tables),
    }
}
