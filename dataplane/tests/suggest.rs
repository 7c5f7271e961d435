//! Suggested policies, enforced, let pass what was recorded between random pods and nothing else.

use jiff::Timestamp;
use portcullis::control::source::{SourceFile, SourceState};
use portcullis::review::{
    KnownPod, Outcome, PolicyKind, Reading, RecordedConnection, RecordedEnd, Suggestion, Wish,
    check, suggest,
};
use portcullis_policy::{Direction, Identity, Protocol, Settings, Tables};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const CONFIG: &str = "podCIDRs: [10.0.0.0/16]\npolicyEnforcementMode: always\n";
const NAMESPACES: [&str; 3] = ["shop", "bank", "kube-system"];
/// More than are named one by one, so that the world is asked for, too.
const OUTSIDE: usize = 20;
const TRAFFIC: [(Protocol, u16); 7] = [
    (Protocol::Tcp, 80),
    (Protocol::Tcp, 81),
    (Protocol::Tcp, 8080),
    (Protocol::Udp, 80),
    (Protocol::Udp, 53),
    (Protocol::Tcp, 53),
    (Protocol::Icmp, 8),
];

/// A pod: its namespace and labels.
type PodOf = (&'static str, BTreeMap<&'static str, &'static str>);

/// Who began, who was meant, what: pods by their number, then the node, then addresses outside.
type Connection = (usize, usize, (Protocol, u16));

fn pods() -> impl Strategy<Value = Vec<PodOf>> {
    let keys = vec![
        "app",
        "tier",
        "version",
        "app.kubernetes.io/name",
        "k8s-app",
    ];
    let values = vec!["web", "db", "true", "1", "", "kube-dns"];
    let labels = btree_map(select(keys), select(values), 0..4);
    vec((select(NAMESPACES.to_vec()), labels), 2..9)
}

fn connections(traffic: &'static [(Protocol, u16)]) -> impl Strategy<Value = BTreeSet<Connection>> {
    let end = || prop_oneof![4 => 0..9_usize, 1 => 9..10 + OUTSIDE];
    btree_set((end(), end(), select(traffic)), 0..40)
}

struct World {
    pods: Vec<PodOf>,
    manifests: String,
    tables: std::sync::Arc<Tables>,
}

fn reading(texts: &[&str]) -> Reading {
    Reading::of_state(&state(texts)).expect("valid documents")
}

fn state(texts: &[&str]) -> SourceState {
    let file = |(number, text): (usize, &&str)| SourceFile {
        name: format!("{number}.yaml"),
        text: (*text).to_owned(),
    };
    SourceState {
        config: Some(SourceFile {
            name: "config.yaml".into(),
            text: CONFIG.into(),
        }),
        files: texts.iter().enumerate().map(file).collect(),
    }
}

impl World {
    fn new(pods: Vec<PodOf>) -> Self {
        let mut manifests = String::new();
        for namespace in NAMESPACES {
            manifests += &format!(
                "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: \
                 {{kubernetes.io/metadata.name: {namespace}}}}}\n---\n"
            );
        }
        for (number, (namespace, labels)) in pods.iter().enumerate() {
            manifests += &format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{number}, namespace: {namespace}, \
                 labels: {}}}\nstatus: {{podIPs: [{{ip: 10.0.0.{}}}]}}\n---\n",
                serde_json::to_string(labels).expect("JSON"),
                number + 10
            );
        }
        let tables = reading(&[&manifests]).tables;
        Self {
            pods,
            manifests,
            tables,
        }
    }

    fn address(&self, end: usize) -> IpAddr {
        let text = match end {
            9 => "169.254.1.1".to_owned(),
            end if end > 9 => format!("198.51.100.{end}"),
            end => format!("10.0.0.{}", self.pod(end) + 10),
        };
        text.parse().expect("an address")
    }

    fn pod(&self, end: usize) -> usize {
        end % self.pods.len()
    }

    fn identity(&self, tables: &Tables, end: usize) -> Identity {
        if end < 9 {
            let pod = self.pod(end);
            tables
                .identity_of_pod(self.pods[pod].0, &format!("pod-{pod}"))
                .expect("a pod")
        } else {
            tables.identity_of(self.address(end))
        }
    }

    fn end(&self, end: usize) -> RecordedEnd {
        let identity = self.identity(&self.tables, end);
        RecordedEnd {
            pod: (end < 9).then(|| {
                let pod = self.pod(end);
                (self.pods[pod].0.to_owned(), format!("pod-{pod}"))
            }),
            identity,
            labels: self.tables.labels(identity).to_vec(),
            address: self.address(end),
        }
    }

    fn suggestion(&self, connections: &BTreeSet<Connection>, kind: PolicyKind) -> Suggestion {
        let recorded = |(from, to, (protocol, port)): &Connection| RecordedConnection {
            source: self.end(*from),
            destination: self.end(*to),
            protocol: *protocol,
            port: *port,
            outcome: Outcome::Forwarded,
            is_egress_asked: true,
            is_ingress_asked: true,
            count: 1,
            last: Timestamp::UNIX_EPOCH,
        };
        let connections: Vec<_> = connections.iter().map(recorded).collect();
        let pods: Vec<_> = (0..self.pods.len())
            .map(|pod| KnownPod {
                namespace: self.pods[pod].0.to_owned(),
                name: format!("pod-{pod}"),
                labels: self.end(pod).labels,
            })
            .collect();
        let wish = Wish {
            kind,
            ..Wish::default()
        };
        suggest(&connections, &pods, &wish)
    }

    /// Whether both policies let it pass.
    fn passes(&self, tables: &Tables, (from, to, (protocol, port)): Connection) -> bool {
        let asks = [
            (from, Direction::Egress, to),
            (to, Direction::Ingress, from),
        ];
        asks.iter().all(|(subject, direction, peer)| {
            if *subject >= 9 {
                return true;
            }
            let pod = self.pod(*subject);
            let policy = tables
                .policy_of(self.pods[pod].0, &format!("pod-{pod}"))
                .expect("a policy");
            let peer = self.identity(tables, *peer);
            let verdict = tables.judge(policy, *direction, peer, protocol, port);
            verdict.decision.is_allowed()
        })
    }

    /// What policy tells apart: namespace and labels, or the address.
    fn class(&self, end: usize) -> String {
        match end {
            9.. => self.address(end).to_string(),
            _ => format!("{:?}", self.pods[self.pod(end)]),
        }
    }

    fn is_dns(&self, end: usize) -> bool {
        let (namespace, labels) = &self.pods[self.pod(end)];
        end < 9 && *namespace == "kube-system" && labels.get("k8s-app") == Some(&"kube-dns")
    }
}

/// The rest follows from what a suggestion promises.
fn check_suggestion(pods: Vec<PodOf>, connections: BTreeSet<Connection>, kind: PolicyKind) {
    let world = World::new(pods);
    let connections: BTreeSet<Connection> = connections
        .into_iter()
        .filter(|(from, to, _)| *from < 9 || *to < 9)
        // The node is no peer that a NetworkPolicy could name.
        .filter(|(from, to, _)| kind == PolicyKind::Cilium || (*from != 9 && *to != 9))
        .collect();
    let suggestion = world.suggestion(&connections, kind);
    assert_eq!(suggestion.left_out, Vec::<String>::new());
    let text = suggestion.text();
    if connections.is_empty() {
        assert_eq!(text, "");
        return;
    }
    let state = state(&[&world.manifests, &text]);
    assert_eq!(check(&state, Settings::default()).errors, [], "{text}");
    let tables = reading(&[&world.manifests, &text]).tables;
    let mut recorded: BTreeSet<(String, String, (Protocol, u16))> = BTreeSet::new();
    for connection in &connections {
        let (from, to, traffic) = *connection;
        assert!(world.passes(&tables, *connection), "{connection:?}\n{text}");
        recorded.insert((world.class(from), world.class(to), traffic));
        if traffic == (Protocol::Udp, 53) && world.is_dns(to) {
            recorded.insert((world.class(from), world.class(to), (Protocol::Tcp, 53)));
        }
    }
    for (from, to) in (0..9).flat_map(|from| (0..9).map(move |to| (from, to))) {
        for traffic in TRAFFIC
            .into_iter()
            .chain([(Protocol::Tcp, 0), (Protocol::Sctp, 80)])
        {
            let is_recorded = recorded.contains(&(world.class(from), world.class(to), traffic));
            let passes = world.passes(&tables, (from, to, traffic));
            assert_eq!(passes, is_recorded, "{from} -> {to} {traffic:?}\n{text}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_suggestion_allows_what_was_recorded_and_nothing_else_between_pods(
        pods in pods(),
        connections in connections(&TRAFFIC),
    ) {
        check_suggestion(pods, connections, PolicyKind::Cilium);
    }

    #[test]
    fn a_suggestion_in_the_words_of_kubernetes_does_too(
        pods in pods(),
        connections in connections(TRAFFIC.split_last().expect("some").1),
    ) {
        check_suggestion(pods, connections, PolicyKind::Kubernetes);
    }
}

#[test]
fn many_addresses_outside_at_one_port_are_the_world_and_few_are_named() {
    let world = || World::new(vec![("shop", [("app", "web")].into()), ("bank", [].into())]);
    let connections: BTreeSet<Connection> = (10..10 + OUTSIDE)
        .map(|end| (end, 0, (Protocol::Tcp, 443)))
        .chain([(0, 11, (Protocol::Tcp, 25)), (0, 12, (Protocol::Tcp, 25))])
        .collect();
    let text = world().suggestion(&connections, PolicyKind::Cilium).text();
    let expected = "\
# What shop/web was seen to need: 20 connections to it, 2 from it. Nothing else passes.
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: suggested-web
  namespace: shop
spec:
  endpointSelector:
    matchLabels:
      app: web
  ingress:
  # From 20 connections, the last at 1970-01-01 00:00:00Z.
  # 20 addresses outside used these ports: too many to name each.
  - fromEntities:
    - world-ipv4
    toPorts:
    - ports:
      - port: \"443\"
        protocol: TCP
  egress:
  # From 2 connections, the last at 1970-01-01 00:00:00Z.
  - toCIDR:
    - \"198.51.100.11/32\"
    - \"198.51.100.12/32\"
    toPorts:
    - ports:
      - port: \"25\"
        protocol: TCP
";
    assert_eq!(text, expected);
    check_suggestion(world().pods, connections.clone(), PolicyKind::Cilium);
    check_suggestion(world().pods, connections, PolicyKind::Kubernetes);
}
