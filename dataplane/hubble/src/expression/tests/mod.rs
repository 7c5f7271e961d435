//! What the reader of expressions promises.
#![allow(deprecated)] // `Summary` and `drop_reason` are old, and what clients read.

mod bounds;
mod meaning;
mod refusals;
mod soup;

use super::*;
use crate::wire::flow as wire;
use portcullis_observe::Expression;

fn home() -> Home {
    Home {
        node: "node-1".into(),
        cluster: "default".into(),
    }
}

fn read(texts: &[&str]) -> Result<Expressions, String> {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    Expressions::read(&texts, &home())
}

/// What an expression says of a flow, and the steps that it took.
fn run(texts: &[&str], flow: &wire::Flow) -> (Result<bool, Halt>, usize) {
    let expressions = read(texts).unwrap_or_else(|fault| panic!("{texts:?}{fault}"));
    let bytes = flow.encode_to_vec();
    let mut meter = Meter::new(STEPS_MAX);
    let found = expressions.is_true(&bytes, &mut meter);
    (found, STEPS_MAX - meter.left())
}

fn holds(text: &str, flow: &wire::Flow) -> bool {
    run(&[text], flow).0 == Ok(true)
}

fn refusal(text: &str) -> String {
    match read(&[text]) {
        Ok(_) => panic!("{text} is understood"),
        Err(fault) => fault,
    }
}

/// A connection from web to db that was denied.
fn denied() -> wire::Flow {
    wire::Flow {
        time: Some(prost_types::Timestamp {
            seconds: 1_795_867_200, // 2026-11-28T12:00:00Z
            nanos: 500_000_000,
        }),
        verdict: wire::Verdict::Dropped as i32,
        drop_reason_desc: wire::DropReason::PolicyDenied as i32,
        ip: Some(wire::Ip {
            source: "10.0.1.11".into(),
            destination: "10.0.1.10".into(),
            ip_version: wire::IpVersion::IPv4 as i32,
            ..wire::Ip::default()
        }),
        l4: Some(wire::Layer4 {
            protocol: Some(wire::layer4::Protocol::Tcp(wire::Tcp {
                source_port: 40_000,
                destination_port: 5432,
                flags: Some(wire::TcpFlags {
                    syn: true,
                    ..wire::TcpFlags::default()
                }),
            })),
        }),
        source: Some(wire::Endpoint {
            identity: 300,
            namespace: "shop".into(),
            labels: vec!["k8s:app=web".into(), "k8s:tier=front".into()],
            pod_name: "web-0".into(),
            ..wire::Endpoint::default()
        }),
        socket_cookie: 12,
        summary: "TCP Flags: SYN".into(),
        extensions: Some(prost_types::Any::default()),
        ..wire::Flow::default()
    }
}

#[test]
fn what_hubbles_own_tests_ask_for_holds_here() {
    let of = |verdict: wire::Verdict| wire::Flow {
        verdict: verdict as i32,
        ..wire::Flow::default()
    };
    let text = "_flow.verdict == Verdict.FORWARDED || _flow.verdict == Verdict.TRANSLATED";
    assert!(holds(text, &of(wire::Verdict::Forwarded)));
    assert!(!holds(text, &of(wire::Verdict::Dropped)));
    assert!(holds(text, &of(wire::Verdict::Translated)));
    let text = "_flow.IP.source == '1.1.1.1' || _flow.IP.destination == '10.0.1.10'";
    assert!(holds(text, &denied()));
    assert!(!holds(text, &of(wire::Verdict::Dropped)));
    assert!(holds("has(_flow.l4.TCP)", &denied()));
    assert!(!holds("has(_flow.l4.UDP)", &denied()));
    let text = "has(_flow.l4.TCP) && (_flow.l4.TCP.destination_port == uint(80) \
                || _flow.l4.TCP.destination_port == uint(5432))";
    assert!(holds(text, &denied()));
    for wrong in ["something-invalid", "_flow", ""] {
        assert!(read(&[wrong]).is_err(), "{wrong}");
    }
}

#[test]
fn of_several_expressions_one_must_hold() {
    let flow = denied();
    let web = "_flow.source.pod_name == 'web-0'";
    let db = "_flow.source.pod_name == 'db-0'";
    assert_eq!(run(&[db, web], &flow).0, Ok(true));
    assert_eq!(run(&[db, db], &flow).0, Ok(false));
    // As in Hubble, one without a value ends it.
    assert_eq!(run(&[web, "1 / 0 == 1"], &flow).0, Ok(true));
    assert!(run(&["1 / 0 == 1", web], &flow).0.is_err());
}

#[test]
fn a_flow_that_was_read_from_json_is_the_same() {
    let json = serde_json::json!({
        "time": "2026-11-28T12:00:00.5Z", "verdict": "DROPPED", "socket_cookie": "12",
        "drop_reason_desc": "POLICY_DENIED", "Summary": "TCP Flags: SYN",
        "IP": {"source": "10.0.1.11", "destination": "10.0.1.10", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 40000, "destination_port": 5432, "flags": {"SYN": true}}},
        "source": {"identity": 300, "namespace": "shop", "pod_name": "web-0",
                   "labels": ["k8s:app=web", "k8s:tier=front"]},
        // Of a newer Hubble.
        "news": {"a": [1]}, "trace_reason": "NEWS", "node_name": 7, "node_labels": "a",
    });
    let expressions = read(&["true"]).unwrap();
    let expected = wire::Flow {
        extensions: None,
        ..denied()
    };
    // What is the same has the same bytes.
    assert_eq!(
        expressions.told(&Origin::Json(&json)),
        expected.encode_to_vec()
    );
    assert!(expressions.holds(&Origin::Json(&json)));
    let reply = serde_json::json!({"is_reply": false});
    let is_reply = read(&["has(_flow.is_reply) && _flow.is_reply == false"]).unwrap();
    assert!(is_reply.holds(&Origin::Json(&reply)));
    assert!(!is_reply.holds(&Origin::Json(&json)));
    assert!(!is_reply.holds(&Origin::Json(&serde_json::Value::Null)));
}
