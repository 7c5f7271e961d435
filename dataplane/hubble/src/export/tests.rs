//! Lines as they are written: their form against prost, what is chosen, what was lost, rotation.

use super::exporter::Exporter;
use super::file::{Bounds, RotatedFile};
use super::*;
use crate::json::Schema;
use crate::wire::flow::{
    Aggregate, CiliumEventType, Endpoint, Flow, Ip, Layer4, Tcp, TcpFlags, Workload, layer4,
};
use crate::wire::observer::{ExportEvent, export_event::ResponseTypes};
use crate::{Agent, AgentLog, NodeName, Sources};
use jiff::Timestamp;
use portcullis_engine::{Drop, Record, RecordKind};
use portcullis_observe::{Event, FlowFilter, History, Names};
use portcullis_policy::{Decision, Protocol, Verdict};
use prost::Message;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

struct NoAgent;

impl Agent for NoAgent {
    fn names(&self) -> Arc<Names> {
        Arc::default()
    }
}

fn sources() -> Sources {
    Sources {
        history: Arc::new(History::new(16)),
        agent: Arc::new(NoAgent),
        node: NodeName {
            name: "n1".into(),
            cluster: "default".into(),
            started: Timestamp::UNIX_EPOCH,
        },
        log: Arc::new(AgentLog::new(Timestamp::UNIX_EPOCH)),
    }
}

/// A directory of its own for one test, empty.
fn directory(test: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("portcullis-{test}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn event(port: u16, is_denied: bool) -> Event {
    let (kind, decision) = match is_denied {
        true => (RecordKind::Drop(Drop::PolicyDenied), Decision::DenyDefault),
        false => (RecordKind::Flow, Decision::Allow),
    };
    let record = Record {
        kind,
        addresses: Some(("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())),
        protocol: Some(Protocol::Tcp),
        ports: (40_000, port),
        ingress: Some(Verdict {
            decision,
            rule: None,
        }),
        is_reply: Some(false),
        ..Record::BLANK
    };
    let time = Timestamp::new(1_700_000_000, 5_000_000).unwrap();
    Event::new(time, record, Arc::default())
}

/// The lines that an export makes of these events.
fn lines(test: &str, settings: ExportSettings, events: Vec<Event>) -> Vec<Value> {
    let (sources, directory) = (sources(), directory(test));
    let path = directory.join("flows.log");
    let settings = ExportSettings {
        path: Some(path.clone()),
        ..settings
    };
    settings.check().unwrap();
    let counts = Arc::default();
    let mut exporter = Exporter::new(&settings, &sources, &counts)
        .unwrap()
        .unwrap();
    let mut reader = sources.history.reader();
    sources.history.extend(events);
    let forever = AtomicU64::new(u64::MAX);
    while exporter.take(&mut reader, &forever) {}
    exporter.finish(Instant::now(), true);
    let text = fs::read_to_string(&path).unwrap();
    fs::remove_dir_all(directory).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(counts.all()[0].2, lines.len() as u64);
    lines
}

fn filter(value: Value) -> FlowFilter {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_line_has_the_keys_that_hubble_prints() {
    let lines = lines("keys", ExportSettings::default(), vec![event(80, false)]);
    assert_eq!(lines.len(), 2, "a verdict and where it went");
    let verdict = &lines[0];
    assert_eq!(verdict["node_name"], "default/n1");
    assert_eq!(verdict["time"], "2023-11-14T22:13:20.005Z");
    let flow = &verdict["flow"];
    let expected = json!({
        "verdict": "FORWARDED",
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
        "Type": "L3_L4",
        "traffic_direction": "INGRESS",
        "is_reply": false,
        "event_type": {"type": 5},
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&flow[key], value, "{key}");
    }
    assert_eq!(flow["l4"]["TCP"]["destination_port"], 80);
}

#[test]
fn what_is_allowed_and_not_denied_is_written() {
    let settings = ExportSettings {
        allow: vec![filter(json!({"verdict": ["DROPPED"]}))],
        deny: vec![filter(json!({"destination_port": ["81"]}))],
        field_mask: vec!["l4.TCP.destination_port".into(), "drop_reason_desc".into()],
        ..ExportSettings::default()
    };
    let events = vec![event(80, false), event(80, true), event(81, true)];
    let lines = lines("chosen", settings, events);
    let expected = json!({
        "l4": {"TCP": {"destination_port": 80}},
        "drop_reason_desc": "POLICY_DENIED",
    });
    // The verdict and the drop.
    let flows: Vec<&Value> = lines.iter().map(|line| &line["flow"]).collect();
    assert_eq!(flows, [&expected, &expected]);
}

#[test]
fn why_something_was_denied_is_written_with_its_parts() {
    let lines = lines("why", ExportSettings::default(), vec![event(80, true)]);
    for line in &lines {
        let why = &line["flow"]["extensions"];
        assert_eq!(why["@type"], "type.googleapis.com/google.protobuf.Struct");
        let text = why["value"]["text"].as_str().unwrap();
        assert!(text.starts_with("ingress default deny"), "{line}");
        let summary = line["flow"]["Summary"].as_str().unwrap();
        assert!(summary.ends_with(text), "{line}");
    }
    assert_eq!(lines.len(), 2, "the verdict and the drop");
}

#[test]
fn flows_are_put_together_by_fields() {
    let settings = ExportSettings {
        aggregate: vec!["l4.TCP.destination_port".into(), "verdict".into()],
        deny: vec![filter(json!({"event_type": [{"type": 5}]}))],
        ..ExportSettings::default()
    };
    let events = vec![
        event(80, false),
        event(80, false),
        event(80, true),
        event(81, true),
    ];
    let lines = lines("aggregate", settings, events);
    let mut flows: Vec<String> = lines.iter().map(|line| line["flow"].to_string()).collect();
    flows.sort();
    let flow = |verdict: &str, port: u16, counts: Value| {
        json!({
            "verdict": verdict,
            "l4": {"TCP": {"destination_port": port}},
            "aggregate": counts,
        })
        .to_string()
    };
    let expected = [
        flow("DROPPED", 80, json!({"ingress_flow_count": 1})),
        flow("DROPPED", 81, json!({"ingress_flow_count": 1})),
        flow("FORWARDED", 80, json!({"egress_flow_count": 2})),
    ];
    assert_eq!(flows, expected);
}

#[test]
fn what_was_lost_is_a_line() {
    let events = (0..40).map(|port| event(port, false)).collect();
    let lines = lines("lost", ExportSettings::default(), events);
    let lost = &lines[0]["lost_events"];
    assert_eq!(lost["source"], "HUBBLE_RING_BUFFER");
    assert_eq!(lost["num_events_lost"], "24");
    assert_eq!(lines.len(), 1 + 2 * 16);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_full_file_makes_room_and_nobody_else_reads_any() {
    for compress in [false, true] {
        let directory = directory(&format!("rotation-{compress}"));
        let path = directory.join("flows.log");
        fs::write(&path, "before\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let bounds = Bounds {
            bytes_max: 17,
            backups_max: 2,
            compress,
        };
        let mut file = RotatedFile::new(path.clone(), bounds);
        let rotated: Vec<bool> = (0..7)
            .map(|number| {
                file.write(format!("line {number}...\n").as_bytes())
                    .unwrap()
            })
            .collect();
        file.flush().unwrap();
        assert_eq!(rotated, [false, true, true, true, true, true, true]);
        let suffix = if compress { ".zst" } else { "" };
        let read = |name: String| {
            let path = directory.join(name);
            assert_eq!(mode(&path), 0o600, "{path:?}");
            let bytes = fs::read(path).unwrap();
            let is_packed = bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
            let bytes = if is_packed {
                zstd::decode_all(&*bytes).unwrap()
            } else {
                bytes
            };
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(read("flows.log".into()), "line 6...\n");
        assert_eq!(read(format!("flows.log.1{suffix}")), "line 5...\n");
        assert_eq!(read(format!("flows.log.2{suffix}")), "line 4...\n");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 3);
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn a_file_that_cannot_be_made_is_counted_and_nothing_else() {
    let settings = ExportSettings {
        path: Some("/proc/nowhere/flows.log".into()),
        ..ExportSettings::default()
    };
    let (sources, counts) = (sources(), Arc::default());
    let mut exporter = Exporter::new(&settings, &sources, &counts)
        .unwrap()
        .unwrap();
    let mut reader = sources.history.reader();
    sources.history.extend([event(80, false)]);
    let forever = AtomicU64::new(u64::MAX);
    while exporter.take(&mut reader, &forever) {}
    let counted: Vec<u64> = counts.all().iter().map(|count| count.2).collect();
    assert_eq!(counted, [0, 0, 0, 2, 0]);
}

#[test]
fn settings_that_cannot_be_followed_name_their_field() {
    for (settings, fault) in [
        (
            json!({"maxMegabytes": 0}),
            "export.maxMegabytes: expected 1 to 10240, found 0",
        ),
        (
            json!({"path": "/x", "stdout": true}),
            "export.stdout: expected either export.path or export.stdout, found both",
        ),
        (
            json!({"fieldMask": ["sauce"]}),
            "export.fieldMask: a flow has no field \"sauce\"",
        ),
        (
            json!({"aggregate": ["IP.x"]}),
            "export.aggregate: a flow has no field \"IP.x\"",
        ),
    ] {
        let settings: ExportSettings = serde_json::from_value(settings).unwrap();
        assert_eq!(settings.check().unwrap_err(), fault);
    }
    let settings = json!({"deny": [{"source_ip": ["here"]}]});
    let settings: ExportSettings = serde_json::from_value(settings).unwrap();
    let fault = settings.check().unwrap_err();
    assert!(fault.starts_with("export.deny[0].source_ip"), "{fault}");
}

/// A flow in which each kind of field has a value.
fn full_flow() -> Flow {
    Flow {
        time: Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 123_456_789,
        }),
        verdict: 2,
        drop_reason_desc: 133,
        ip: Some(Ip {
            source: "fd00::1".into(),
            destination: "fd00::2".into(),
            ip_version: 2,
            encrypted: true,
            ..Ip::default()
        }),
        l4: Some(Layer4 {
            protocol: Some(layer4::Protocol::Tcp(Tcp {
                source_port: 1,
                destination_port: 65_535,
                flags: Some(TcpFlags {
                    syn: true,
                    ack: true,
                    ..TcpFlags::default()
                }),
            })),
        }),
        source: Some(Endpoint {
            id: 7,
            identity: u32::MAX,
            namespace: "shop".into(),
            pod_name: "web \"quoted\" \\ \u{1} ü\n".into(),
            labels: vec!["k8s:a=b".into(), String::new()],
            workloads: vec![
                Workload {
                    name: "web".into(),
                    kind: "Deployment".into(),
                },
                Workload::default(),
            ],
            ..Endpoint::default()
        }),
        socket_cookie: u64::MAX,
        is_reply: Some(false),
        event_type: Some(CiliumEventType {
            r#type: -5,
            sub_type: i32::MIN,
        }),
        trace_observation_point: 101,
        aggregate: Some(Aggregate::default()),
        ..Flow::default()
    }
}

/// Reads a line back by hand, field by field, into a message that prost can compare.
fn read_back(json: &Value) -> Flow {
    let flow = &json["flow"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default() as u32;
    let time: Timestamp = text(&flow["time"]).parse().unwrap();
    let (tcp, source) = (&flow["l4"]["TCP"], &flow["source"]);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    Flow {
        time: Some(prost_types::Timestamp {
            seconds: time.as_second(),
            nanos: time.subsec_nanosecond(),
        }),
        verdict: crate::wire::flow::Verdict::from_str_name(&text(&flow["verdict"])).unwrap() as i32,
        drop_reason_desc: crate::wire::flow::DropReason::from_str_name(&text(
            &flow["drop_reason_desc"],
        ))
        .unwrap() as i32,
        ip: Some(Ip {
            source: text(&flow["IP"]["source"]),
            destination: text(&flow["IP"]["destination"]),
            ip_version: crate::wire::flow::IpVersion::from_str_name(&text(&flow["IP"]["ipVersion"]))
                .unwrap() as i32,
            encrypted: flow["IP"]["encrypted"] == true,
            ..Ip::default()
        }),
        l4: Some(Layer4 {
            protocol: Some(layer4::Protocol::Tcp(Tcp {
                source_port: number(&tcp["source_port"]),
                destination_port: number(&tcp["destination_port"]),
                flags: Some(TcpFlags {
                    syn: tcp["flags"]["SYN"] == true,
                    ack: tcp["flags"]["ACK"] == true,
                    ..TcpFlags::default()
                }),
            })),
        }),
        source: Some(Endpoint {
            id: number(&source["ID"]),
            identity: number(&source["identity"]),
            namespace: text(&source["namespace"]),
            pod_name: text(&source["pod_name"]),
            labels: list(&source["labels"]).iter().map(text).collect(),
            workloads: list(&source["workloads"])
                .iter()
                .map(|workload| Workload {
                    name: text(&workload["name"]),
                    kind: text(&workload["kind"]),
                })
                .collect(),
            ..Endpoint::default()
        }),
        socket_cookie: text(&flow["socket_cookie"]).parse().unwrap(),
        is_reply: flow["is_reply"].as_bool(),
        event_type: Some(CiliumEventType {
            r#type: flow["event_type"]["type"].as_i64().unwrap() as i32,
            sub_type: flow["event_type"]["sub_type"].as_i64().unwrap() as i32,
        }),
        trace_observation_point: crate::wire::flow::TraceObservationPoint::from_str_name(&text(
            &flow["trace_observation_point"],
        ))
        .unwrap() as i32,
        aggregate: flow["aggregate"].is_object().then(Aggregate::default),
        ..Flow::default()
    }
}

#[test]
fn every_kind_of_field_is_written_as_it_was() {
    let event = ExportEvent {
        response_types: Some(ResponseTypes::Flow(full_flow())),
        ..ExportEvent::default()
    };
    let mut line = String::new();
    let schema = Schema::read().unwrap();
    schema
        .write(".observer.ExportEvent", &event.encode_to_vec(), &mut line)
        .unwrap();
    let json: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read_back(&json), full_flow(), "{line}");
    let damaged = &event.encode_to_vec()[..40];
    assert!(
        schema
            .write(".observer.ExportEvent", damaged, &mut line)
            .is_none()
    );
}

#[test]
fn nothing_is_written_after_the_end() {
    let (early, late) = (event(80, false), event(81, false));
    let time = late.time + std::time::Duration::from_millis(1);
    let late = Event::new(time, late.record, Arc::clone(&late.names));
    let settings = ExportSettings {
        end: Some(early.time),
        ..ExportSettings::default()
    };
    let lines = lines("the-end", settings, vec![early, late]);
    let ports: Vec<&Value> = lines
        .iter()
        .map(|line| &line["flow"]["l4"]["TCP"]["destination_port"])
        .collect();
    assert_eq!(ports, [80, 80], "the verdict and where it went");
}

#[test]
fn settings_are_exchanged_without_an_event_lost_or_written_twice() {
    let (sources, directory) = (sources(), directory("exchanged"));
    let [first, second] = ["first.log", "second.log"].map(|name| directory.join(name));
    let exports = Exports::new(&sources, &Arc::default(), || {});
    let to = |path: &Path| ExportSettings {
        path: Some(path.to_owned()),
        deny: vec![filter(json!({"event_type": [{"type": 5}]}))],
        ..ExportSettings::default()
    };
    let ports = |path: &Path| -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let port = |line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["flow"]["l4"]["TCP"]["destination_port"]
                .as_u64()
                .unwrap()
        };
        text.lines().map(port).collect()
    };
    exports.apply(&to(&first)).unwrap();
    let mut expected = [Vec::new(), Vec::new()];
    for port in 1..=200_u16 {
        // There and back again, into a file that was written before.
        let target = usize::from(port / 20 % 2);
        exports.apply(&to([&first, &second][target])).unwrap();
        sources.history.extend([event(port, false)]);
        expected[target].push(u64::from(port));
        if port % 10 == 0 {
            // Nobody is to be too slow for this short history.
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
    }
    let wrong = ExportSettings {
        field_mask: vec!["sauce".into()],
        ..to(&first)
    };
    assert!(exports.apply(&wrong).is_err());
    sources.history.close();
    exports.join();
    assert_eq!([ports(&first), ports(&second)], expected);
    fs::remove_dir_all(directory).unwrap();
}
