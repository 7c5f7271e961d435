//! Filters and explanations on a small world: rules of Hubble, one line each.

use jiff::Timestamp;
use portcullis_engine::{Drop, EndpointId, Record, RecordKind, TcpFlags};
use portcullis_observe::{
    Event, EventTypeFilter, Expression, FlowChoice, FlowFilter, Home, Names, Sighting, Why,
};
use portcullis_policy::{
    Direction, Generation, IdentityAllocator, NodeFacts, Protocol, Settings, Tables, compile,
    parse_documents,
};
use std::sync::Arc;

const WORLD: &str = "
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
metadata: {name: web-5d4f8c7b9d-x2x4z, namespace: frontend, labels: {app: web}}
status: {podIP: 10.0.1.11, podIPs: [{ip: 10.0.1.11}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-0, namespace: backend, labels: {app: api}}
status: {podIP: 10.0.1.10, podIPs: [{ip: 10.0.1.10}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: allow-shop, namespace: backend}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: shop, io.kubernetes.pod.namespace: frontend}}]
    toPorts: [{ports: [{port: '80', protocol: TCP}]}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: allow-udp, namespace: backend}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: web, io.kubernetes.pod.namespace: frontend}}]
    toPorts: [{ports: [{port: '53', protocol: UDP}]}]
";

const WEB: EndpointId = EndpointId(1);
const API: EndpointId = EndpointId(2);

fn names() -> Names {
    let settings = Settings::default();
    let documents = parse_documents("world.yaml", WORLD, &settings).expect("right documents");
    let facts = NodeFacts {
        pod_cidrs: vec![("10.0.1.0".parse().unwrap(), 24)],
        ..NodeFacts::default()
    };
    let mut identities = IdentityAllocator::new();
    let tables = compile(
        &documents,
        &facts,
        &settings,
        &mut identities,
        Generation(1),
    );
    let tables: Arc<Tables> = Arc::new(tables.expect("tables"));
    let mut names = Names {
        tables: Some(Arc::clone(&tables)),
        ..Names::default()
    };
    for (id, namespace, name, address) in [
        (WEB, "frontend", "web-5d4f8c7b9d-x2x4z", "10.0.1.11"),
        (API, "backend", "api-0", "10.0.1.10"),
    ] {
        let of = (namespace.to_owned(), name.to_owned());
        let policy = tables.policy_of(namespace, name);
        names
            .endpoints
            .insert(id, (of.0.clone(), of.1.clone(), policy));
        names.pods.insert(address.parse().unwrap(), of);
    }
    names
}

/// The web's first packet to the api, as policy judges it.
fn event(protocol: Protocol, port: u16) -> Event {
    let names = names();
    let tables = names.tables.clone().unwrap();
    let (web, api) = (
        tables
            .identity_of_pod("frontend", "web-5d4f8c7b9d-x2x4z")
            .unwrap(),
        tables.identity_of_pod("backend", "api-0").unwrap(),
    );
    let judge = |subject, direction, peer| {
        let policy = names.policy_of(subject).unwrap();
        Some(tables.judge(policy, direction, peer, protocol, port))
    };
    let ingress = judge(API, Direction::Ingress, web);
    let is_allowed = ingress.unwrap().decision.is_allowed();
    let record = Record {
        kind: if is_allowed {
            RecordKind::Flow
        } else {
            RecordKind::Drop(Drop::PolicyDenied)
        },
        generation: Generation(1),
        from: Some(WEB),
        to: Some(API),
        source_identity: web,
        destination_identity: api,
        addresses: Some(("10.0.1.11".parse().unwrap(), "10.0.1.10".parse().unwrap())),
        protocol: Some(protocol),
        ports: (40_000, port),
        egress: judge(WEB, Direction::Egress, api),
        ingress,
        length: 74,
        tcp_flags: TcpFlags(TcpFlags::SYN | TcpFlags::CWR),
        is_reply: Some(false),
        ..Record::BLANK
    };
    let time: Timestamp = "2026-11-28T12:00:00.5Z".parse().unwrap();
    Event::new(time, record, Arc::new(names))
}

fn no_language(texts: &[String], _: &Home) -> Result<Box<dyn Expression>, String> {
    Err(format!("[0]: not understood: {}", texts[0]))
}

fn home() -> Home {
    Home {
        node: "node-1".into(),
        cluster: "default".into(),
    }
}

fn filter(json: &str) -> FlowFilter {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// The types of what a filter leaves of an event.
fn left(event: &Event, json: &str) -> Vec<i32> {
    let matcher = filter(json).compile(&home(), no_language);
    let matcher = matcher.unwrap_or_else(|error| panic!("{json}: {error}"));
    Sighting::all(event)
        .filter(|sighting| matcher.matches(sighting))
        .map(|sighting| sighting.event_type().0)
        .collect()
}

#[test]
fn a_denial_is_two_verdicts_and_a_drop_and_filters_part_them() {
    let event = event(Protocol::Tcp, 80);
    for (json, types) in [
        ("{}", &[5, 5, 1][..]),
        (r#"{"verdict":["DROPPED"]}"#, &[5, 1]),
        (r#"{"verdict":["FORWARDED"]}"#, &[5]),
        (r#"{"verdict":["FORWARDED","DROPPED"]}"#, &[5, 5, 1]),
        (r#"{"event_type":[{"type":1}]}"#, &[1]),
        (
            r#"{"event_type":[{"type":1,"match_sub_type":true,"sub_type":133}]}"#,
            &[1],
        ),
        (
            r#"{"event_type":[{"type":1,"match_sub_type":true,"sub_type":181}]}"#,
            &[],
        ),
        (r#"{"event_type":[{"type":0}]}"#, &[5, 5, 1]),
        (r#"{"drop_reason_desc":["POLICY_DENIED"]}"#, &[5, 1]),
        (r#"{"drop_reason_desc":["TTL_EXCEEDED"]}"#, &[]),
        (r#"{"traffic_direction":["INGRESS"]}"#, &[5, 1]),
        (r#"{"traffic_direction":["EGRESS"]}"#, &[5]),
        // What was dropped counts as no reply.
        (r#"{"reply":[false]}"#, &[5, 5, 1]),
        (r#"{"reply":[true]}"#, &[]),
    ] {
        assert_eq!(left(&event, json), types, "{json}");
    }
}

#[test]
fn every_field_asks_what_hubble_asks() {
    let event = event(Protocol::Tcp, 80);
    let uuid = Sighting::all(&event).last().unwrap().uuid();
    let by_uuid = format!(r#"{{"uuid":["{uuid}"]}}"#);
    for (json, is_wanted) in [
        (r#"{"source_pod":["frontend/web"]}"#, true),
        (r#"{"source_pod":["frontend/"]}"#, true),
        (r#"{"source_pod":["/web"]}"#, true),
        (r#"{"source_pod":["/"]}"#, true),
        (r#"{"source_pod":["web"]}"#, false),
        (r#"{"source_pod":["front/web"]}"#, false),
        (
            r#"{"destination_pod":["frontend/web","backend/api"]}"#,
            true,
        ),
        (r#"{"destination_pod":["frontend/web"]}"#, false),
        (r#"{"source_ip":["10.0.1.11"]}"#, true),
        (r#"{"source_ip":["10.0.0.0/16"]}"#, true),
        (r#"{"source_ip":["10.0.1.10","::/0"]}"#, false),
        (r#"{"source_label":["app=web"]}"#, true),
        (r#"{"source_label":["k8s:app in (api,web),!debug"]}"#, true),
        (r#"{"destination_label":["reserved:world"]}"#, false),
        (r#"{"destination_port":["80"]}"#, true),
        (r#"{"source_port":["80"]}"#, false),
        (r#"{"protocol":["TCP"]}"#, true),
        (r#"{"protocol":["udp","icmp"]}"#, false),
        (r#"{"protocol":["http"]}"#, false),
        (r#"{"tcp_flags":[{"SYN":true}]}"#, true),
        (
            r#"{"tcp_flags":[{"SYN":true,"ACK":true},{"SYN":true,"CWR":true}]}"#,
            true,
        ),
        (r#"{"tcp_flags":[{"SYN":true,"ACK":true}]}"#, false),
        (r#"{"ip_version":["IPv4"]}"#, true),
        (r#"{"ip_version":["IPv6"]}"#, false),
        (
            r#"{"source_workload":[{"name":"web","kind":"Deployment"}]}"#,
            true,
        ),
        (r#"{"source_workload":[{"kind":"deploy"}]}"#, false),
        (r#"{"destination_workload":[{"kind":"StatefulSet"}]}"#, true),
        (r#"{"node_name":["node-*"]}"#, true),
        (r#"{"node_name":["default/"]}"#, true),
        (r#"{"node_name":["other/node-1","node-2"]}"#, false),
        (r#"{"node_labels":["!zone"]}"#, true),
        (r#"{"node_labels":["zone"]}"#, false),
        (r#"{"source_cluster_name":["default"]}"#, true),
        (r#"{"source_cluster_name":["other"]}"#, false),
        (r#"{"encrypted":[false]}"#, true),
        (r#"{"encrypted":[true]}"#, false),
        (r#"{"source_fqdn":["*"]}"#, false),
        (r#"{"source_service":["/"]}"#, false),
        (r#"{"http_status_code":["404","5+"]}"#, false),
        (r#"{"trace_id":["1"]}"#, false),
        (&by_uuid, true),
        (
            r#"{"uuid":["00000000-0000-0000-0000-000000000000"]}"#,
            false,
        ),
        // All fields must hold.
        (
            r#"{"source_pod":["frontend/"],"destination_port":["80"]}"#,
            true,
        ),
        (
            r#"{"source_pod":["frontend/"],"destination_port":["81"]}"#,
            false,
        ),
    ] {
        assert_eq!(left(&event, json).contains(&1), is_wanted, "{json}");
    }
}

#[test]
fn identities_are_numbers() {
    let event = event(Protocol::Tcp, 80);
    let is_left = |number| {
        let filter = FlowFilter {
            source_identity: vec![number],
            ..FlowFilter::default()
        };
        let matcher = filter.compile(&home(), no_language).unwrap();
        Sighting::all(&event).any(|sighting| matcher.matches(&sighting))
    };
    assert!(is_left(event.record.source_identity.0));
    assert!(!is_left(event.record.destination_identity.0));
}

#[test]
fn patterns_are_those_of_re2() {
    for field in ["dns_query", "http_path", "http_url"] {
        for pattern in [
            r"^/api/v\\d+/\\w+$",
            r"\\bshop\\b",
            "(?i)größe",
            r"\\pL",
            ".",
        ] {
            let json = format!(r#"{{"{field}":["{pattern}"]}}"#);
            let read = filter(&json).compile(&home(), no_language);
            assert!(read.is_ok(), "{json}: {read:?}");
        }
        let json = format!(r#"{{"{field}":["a", "(b"]}}"#);
        let error = filter(&json).compile(&home(), no_language).unwrap_err();
        assert_eq!(error, format!("{field}[1]: unclosed group"));
    }
}

#[test]
fn what_a_field_cannot_hold_is_said_in_words() {
    for (json, error) in [
        (
            r#"{"source_pod":[""]}"#,
            "source_pod[0]: expected namespace/prefix, found \"\"",
        ),
        (
            r#"{"destination_ip":["::/0","10.0.0.0/33"]}"#,
            "destination_ip[1]: expected an address or a block such as 10.0.0.0/8, found \
             \"10.0.0.0/33\"",
        ),
        (
            r#"{"source_port":["http"]}"#,
            "source_port[0]: expected a port, 0 to 65535, found \"http\"",
        ),
        (
            r#"{"source_label":["a in"]}"#,
            "source_label[0]: expected \"(\" at letter 5, found the end",
        ),
        (
            r#"{"http_status_code":["600"]}"#,
            "http_status_code[0]: expected a status such as 404 or 5+, found \"600\"",
        ),
        (
            r#"{"http_method":["GET"],"event_type":[{"type":1}]}"#,
            "event_type: filters about HTTP need the type l7 (129)",
        ),
        (
            r#"{"experimental":{"cel_expression":["true"]}}"#,
            "experimental.cel_expression[0]: not understood: true",
        ),
        (
            r#"{"uuid":["1"]}"#,
            "uuid[0]: expected the uuid of a flow, found \"1\"",
        ),
    ] {
        assert_eq!(
            filter(json).compile(&home(), no_language).unwrap_err(),
            error,
            "{json}"
        );
    }
    let lists = FlowChoice::compile(
        &[],
        &[filter(r#"{"protocol":["x"]}"#)],
        &home(),
        no_language,
    );
    let error = lists.err().unwrap();
    assert!(
        error.starts_with("blacklist[0].protocol[0]: expected tcp, "),
        "{error}"
    );
}

#[test]
fn a_blacklist_takes_from_what_the_whitelist_leaves() {
    let event = event(Protocol::Tcp, 80);
    let choose = |white: &[&str], black: &[&str]| {
        let all = |list: &[&str]| list.iter().map(|json| filter(json)).collect::<Vec<_>>();
        let choice = FlowChoice::compile(&all(white), &all(black), &home(), no_language).unwrap();
        Sighting::all(&event)
            .filter(|sighting| choice.wants(sighting))
            .count()
    };
    let (verdicts, drops) = (
        r#"{"event_type":[{"type":5}]}"#,
        r#"{"event_type":[{"type":1}]}"#,
    );
    assert_eq!(choose(&[], &[]), 3);
    assert_eq!(choose(&[verdicts, drops], &[]), 3);
    assert_eq!(choose(&[verdicts], &[]), 2);
    assert_eq!(choose(&[], &[verdicts]), 1);
    assert_eq!(choose(&[drops], &["{}"]), 0);
}

#[test]
fn an_allowed_connection_is_a_verdict_at_each_end_and_a_trace() {
    let event = event(Protocol::Udp, 53);
    assert_eq!(left(&event, "{}"), [5, 5, 4]);
    let matches: Vec<u32> = Sighting::all(&event).map(|s| s.match_type()).collect();
    // No policy at the web: all; a rule with peers and ports at the api: L3-L4.
    assert_eq!(matches, [4, 2, 0]);
    let trace = FlowFilter {
        event_type: vec![EventTypeFilter {
            kind: 4,
            match_sub_type: true,
            sub_type: 0,
        }],
        ..FlowFilter::default()
    };
    let matcher = trace.compile(&home(), no_language).unwrap();
    assert_eq!(
        Sighting::all(&event).filter(|s| matcher.matches(s)).count(),
        1
    );
}

#[test]
fn a_denial_tells_who_selects_the_pod_and_what_the_nearest_rule_lacks() {
    let why = Why::of(&event(Protocol::Tcp, 80));
    assert_eq!(
        why.text,
        "ingress default deny: none of 2 policies allows it; nearest is backend/allow-shop \
         ingress[0]: source has label app=web, not shop"
    );
    let side = &why.sides[1];
    let selected: Vec<&str> = side
        .selected_by
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(selected, ["allow-shop", "allow-udp"]);
    assert_eq!(
        (side.subject.as_str(), side.is_allowed),
        ("backend/api-0", false)
    );
    let other = Why::of(&event(Protocol::Udp, 80));
    assert_eq!(
        other.sides[1].nearest[0].reasons,
        ["80/UDP is not 53/UDP"],
        "{other:?}"
    );
    let json = serde_json::to_string(&why).unwrap();
    assert_eq!(serde_json::from_str::<Why>(&json).unwrap(), why);
}

#[test]
fn what_passed_tells_the_rule_that_let_it() {
    let why = Why::of(&event(Protocol::Udp, 53));
    assert_eq!(
        why.text,
        "egress: no policy selects it; ingress allowed by CiliumNetworkPolicy backend/allow-udp \
         ingress[0]"
    );
    assert_eq!(why.verdict, "FORWARDED");
}
