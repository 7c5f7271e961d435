//! What a filter leaves is the same of history and of its lines in a file.

use super::flow;
use crate::observe::{Event, FlowChoice, FlowFilter, Home, Names, NamesExtract, Sighting};
use crate::recall::ReadFlow;
use jiff::Timestamp;
use portcullis_engine::{Drop, Ending, EndpointId, Record, RecordKind, TcpFlags};
use portcullis_hubble::{Lines, NodeName, read_expressions};
use portcullis_policy::{Decision, Identity, Protocol, Verdict};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use std::sync::Arc;

/// Two pods of this node, one of another, a service, and who is no pod.
const NAMES: &str = r#"{
    "labels": {
        "300": ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"],
        "301": ["k8s:app=db", "k8s:tier=a"],
        "2": ["reserved:world"], "1": ["reserved:host"]
    },
    "endpoints": {"1": ["shop", "web-5d4f8c7b9d-x2x4z", null], "2": ["shop", "db-0", null]},
    "links": {"1": {"index": 4, "name": "lxc1", "own_mac": [2,0,0,0,0,1], "peer_mac": [2,0,0,0,0,2]},
              "3": {"index": 2, "name": "eth0"}},
    "node_labels": ["zone=a"],
    "pods": {"10.0.1.11": ["shop", "web-5d4f8c7b9d-x2x4z"], "10.0.1.10": ["shop", "db-0"],
             "10.0.2.1": ["bank", "api"], "fd00::1": ["bank", "api"]},
    "services": {"10.96.0.1": [[6, 80, "shop", "front"]]}
}"#;

const FILTERS: [&str; 62] = [
    r#"{"experimental": {"cel_expression": ["_flow.verdict == Verdict.DROPPED"]}}"#,
    r#"{"experimental": {"cel_expression": ["has(_flow.is_reply) && _flow.l4.TCP.flags.SYN"]}}"#,
    r#"{"experimental": {"cel_expression": ["_flow.source.labels.exists(l, l == 'k8s:app=web') || _flow.destination.identity == 2u"]}}"#,
    r#"{"experimental": {"cel_expression": ["_flow.Summary.matches('^TCP') && _flow.time > timestamp('2023-11-14T22:13:25Z')"]}}"#,
    r#"{"verdict":["DROPPED"]}"#,
    r#"{"verdict":["FORWARDED","AUDIT"]}"#,
    r#"{"event_type":[{"type":5}]}"#,
    r#"{"event_type":[{"type":4,"match_sub_type":true,"sub_type":0}]}"#,
    r#"{"event_type":[{"type":4,"match_sub_type":true,"sub_type":11}]}"#,
    r#"{"event_type":[{"type":1}]}"#,
    r#"{"event_type":[{"type":1,"match_sub_type":true,"sub_type":133}]}"#,
    r#"{"event_type":[{"type":129}]}"#,
    r#"{"drop_reason_desc":["POLICY_DENIED"]}"#,
    r#"{"drop_reason_desc":["INVALID_SOURCE_MAC","TTL_EXCEEDED"]}"#,
    r#"{"traffic_direction":["INGRESS"]}"#,
    r#"{"traffic_direction":["EGRESS"]}"#,
    r#"{"traffic_direction":["TRAFFIC_DIRECTION_UNKNOWN"]}"#,
    r#"{"reply":[true]}"#,
    r#"{"reply":[false]}"#,
    r#"{"protocol":["tcp"]}"#,
    r#"{"protocol":["icmp"]}"#,
    r#"{"protocol":["icmpv6","sctp"]}"#,
    r#"{"protocol":["vrrp"]}"#,
    r#"{"protocol":["igmp"]}"#,
    r#"{"protocol":["dns"]}"#,
    r#"{"source_port":["40000"]}"#,
    r#"{"destination_port":["80","8"]}"#,
    r#"{"destination_port":["0"]}"#,
    r#"{"source_ip":["10.0.1.0/24"]}"#,
    r#"{"destination_ip":["10.96.0.1"]}"#,
    r#"{"source_ip":["fd00::/16"]}"#,
    r#"{"ip_version":["IPv4"]}"#,
    r#"{"ip_version":["IP_NOT_USED"]}"#,
    r#"{"source_pod":["shop/"]}"#,
    r#"{"source_pod":["/"]}"#,
    r#"{"destination_pod":["shop/db"]}"#,
    r#"{"destination_pod":["/api"]}"#,
    r#"{"destination_service":["shop/front"]}"#,
    r#"{"source_service":["/"]}"#,
    r#"{"source_label":["app in (web)"]}"#,
    r#"{"source_label":["!app"]}"#,
    r#"{"destination_label":["reserved:world"]}"#,
    r#"{"destination_label":["k8s:tier,app!=web"]}"#,
    r#"{"source_identity":[300,2]}"#,
    r#"{"destination_identity":[0]}"#,
    r#"{"source_workload":[{"name":"web","kind":"Deployment"}]}"#,
    r#"{"destination_workload":[{"kind":"StatefulSet"}]}"#,
    r#"{"destination_workload":[{"name":"api"}]}"#,
    r#"{"source_cluster_name":["default"]}"#,
    r#"{"destination_cluster_name":["blue"]}"#,
    r#"{"tcp_flags":[{"SYN":true}]}"#,
    r#"{"tcp_flags":[{"SYN":true,"ACK":true},{"RST":true}]}"#,
    r#"{"tcp_flags":[{}]}"#,
    r#"{"encrypted":[true]}"#,
    r#"{"encrypted":[false]}"#,
    r#"{"interface":[{"index":4}]}"#,
    r#"{"interface":[{"name":"eth0"}]}"#,
    r#"{"node_name":["n1"]}"#,
    r#"{"node_name":["other/*"]}"#,
    r#"{"node_labels":["zone=a"]}"#,
    r#"{"source_fqdn":["*"]}"#,
    r#"{"uuid":["0192d9a0-0000-8000-8000-000000000001"]}"#,
];

fn verdicts() -> impl Strategy<Value = Option<Verdict>> {
    let decision = select(vec![
        Decision::Allow,
        Decision::AllowUnpoliced,
        Decision::AllowDefault,
        Decision::DenyDefault,
        Decision::Conflict,
    ]);
    proptest::option::of(decision.prop_map(|decision| Verdict {
        decision,
        rule: None,
    }))
}

fn kinds() -> impl Strategy<Value = RecordKind> {
    let reasons = select(Drop::ALL.to_vec());
    prop_oneof![
        Just(RecordKind::Flow),
        Just(RecordKind::Update),
        Just(RecordKind::End(Ending::Reset)),
        Just(RecordKind::Drop(Drop::PolicyDenied)),
        reasons.clone().prop_map(RecordKind::Drop),
        reasons.prop_map(RecordKind::Revoked),
    ]
}

fn records() -> impl Strategy<Value = Record> {
    let end = || select(vec![None, Some(1), Some(2), Some(3), Some(9)]);
    let identity = || select(vec![0, 1, 2, 300, 301, 999]);
    let v4 = || {
        select(vec![
            "10.0.1.11",
            "10.0.1.10",
            "10.0.2.1",
            "10.96.0.1",
            "8.8.8.8",
        ])
    };
    let addresses = prop_oneof![
        (v4(), v4()).prop_map(Some),
        Just(Some(("fd00::1", "fd00::2"))),
        Just(None),
    ];
    let protocol = select(vec![
        None,
        Some(Protocol::Tcp),
        Some(Protocol::Udp),
        Some(Protocol::Sctp),
        Some(Protocol::Icmp),
        Some(Protocol::Icmpv6),
        Some(Protocol::Other(2)),
        Some(Protocol::Other(112)),
        Some(Protocol::Other(47)),
    ]);
    let port = || select(vec![0, 8, 53, 80, 40_000]);
    (
        (kinds(), end(), end(), identity(), identity()),
        (addresses, protocol, port(), port()),
        (verdicts(), verdicts()),
        (any::<u8>(), select(vec![None, Some(false), Some(true)])),
    )
        .prop_map(|(who, what, judged, rest)| Record {
            kind: who.0,
            from: who.1.map(EndpointId),
            to: who.2.map(EndpointId),
            source_identity: Identity(who.3),
            destination_identity: Identity(who.4),
            addresses: what.0.map(|(from, to)| {
                let address = |text: &str| text.parse().expect("an address");
                (address(from), address(to))
            }),
            protocol: what.1,
            ports: (what.2, what.3),
            egress: judged.0,
            ingress: judged.1,
            tcp_flags: TcpFlags(rest.0),
            is_reply: rest.1,
            ..Record::BLANK
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_filter_leaves_the_same_of_history_and_of_its_lines_in_a_file(
        record in records(),
        seconds in 1_700_000_000_i64..1_700_000_010,
    ) {
        let names: NamesExtract = serde_json::from_str(NAMES).expect("names");
        let names: Arc<Names> = Arc::new(names.into_names());
        let time = Timestamp::from_second(seconds).expect("a time");
        let event = Event::new(time, record, names);
        let home = Home { node: "n1".into(), cluster: "default".into() };
        let node = NodeName { name: "n1".into(), cluster: "default".into(), started: time };
        let mut lines = Lines::new(&node).expect("descriptors");
        for sighting in Sighting::all(&event) {
            let line = lines.line(&sighting);
            let object: Value = serde_json::from_str(&line).expect("an object");
            let (seen, object) = (&flow(&object), &object["flow"]);
            let read = ReadFlow { seen, object };
            for text in FILTERS {
                let filter: FlowFilter = serde_json::from_str(text).expect(text);
                let choice = FlowChoice::compile(&[filter], &[], &home, read_expressions).expect(text);
                prop_assert_eq!(choice.wants(&sighting), choice.wants(&read), "{} {}", text, line);
            }
            let itself = FlowFilter { uuid: vec![sighting.uuid().to_string()], ..FlowFilter::default() };
            let choice = FlowChoice::compile(&[itself], &[], &home, read_expressions).expect("a uuid");
            prop_assert!(choice.wants(&read), "{}", line);
        }
    }
}
