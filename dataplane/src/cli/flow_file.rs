//! Flows from lines of JSON: what an export wrote, `observe -o jsonpb` or `-o json`, or Hubble.

use super::flow_format::{Printer, no_pipe, response};
use super::flow_object::{flow, number};
use crate::ipc::Lost;
use crate::observe::{FlowChoice, Home};
use crate::recall::{Ask, ReadFlow, SeenFlow};
use portcullis_hubble::read_expressions;
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Bytes of one line: more is no flow.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What a line tells.
enum Told {
    /// A flow, and the object that it was read from where that has Hubble's form.
    Flow(Box<SeenFlow>, Option<Value>),
    /// What went by unseen when it was written.
    Lost(Lost),
    /// Of a node, or nothing.
    Other,
}

/// Prints the flows of a file that are asked for; `-` is standard input.
///
/// # Errors
/// When it cannot be read, or has no line that is understood.
pub fn print(path: &Path, ask: &Ask, printer: &mut Printer<'_>) -> Result<(), String> {
    let place = path.display();
    if !ask.wanted.reasons.is_empty() || !ask.wanted.reasons_not.is_empty() {
        return Err(
            "--drop-reason: expected --drop-reason-desc with --input-file: files have \
                    Hubble's reasons"
                .into(),
        );
    }
    let mut input: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(
            File::open(path).map_err(|e| format!("{place}: {e}"))?,
        ))
    };
    let mut chosen = Chosen::new(ask)?;
    let (mut number, mut understood, mut wrong, mut first_fault) = (0_u64, 0_u64, 0_u64, None);
    let mut line = Vec::new();
    while !chosen.is_enough() {
        line.clear();
        let read = input
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if read.map_err(|e| format!("{place}: {e}"))? == 0 {
            break;
        }
        number += 1;
        match told(&line) {
            Ok(told) => {
                understood += 1;
                if no_pipe(chosen.take(told, printer))?.is_none() {
                    return Ok(());
                }
            }
            Err(fault) => {
                wrong += 1;
                first_fault.get_or_insert(format!("{place}, line {number}: {fault}"));
            }
        }
    }
    let fault = first_fault.map(|fault| format!("{wrong} lines are not understood; {fault}"));
    match fault {
        Some(fault) if understood == 0 => return Err(fault),
        Some(fault) => printer.warn(&fault),
        None => {}
    }
    no_pipe(chosen.finish(printer)).map(|_| ())
}

/// Those that are asked for.
struct Chosen<'a> {
    ask: &'a Ask,
    /// Filters for flows of one node: lines of several may be mixed, but mostly are not.
    choice: (String, FlowChoice),
    left: usize,
    last: VecDeque<(Box<SeenFlow>, Option<Value>)>,
}

impl<'a> Chosen<'a> {
    fn new(ask: &'a Ask) -> Result<Self, String> {
        Ok(Self {
            ask,
            choice: (String::new(), choice(ask, "")?),
            left: ask.first.unwrap_or(usize::MAX),
            last: VecDeque::new(),
        })
    }

    const fn is_enough(&self) -> bool {
        self.left == 0
    }

    fn wants(&mut self, seen: &SeenFlow, object: Option<&Value>) -> bool {
        let (ask, time) = (self.ask, seen.flow.time);
        if ask.since.is_some_and(|since| time < since)
            || ask.until.is_some_and(|until| time > until)
        {
            return false;
        }
        if self.choice.0 != seen.node_name {
            // It was understood for another node.
            let Ok(choice) = choice(ask, &seen.node_name) else {
                return false;
            };
            self.choice = (seen.node_name.clone(), choice);
        }
        let choice = &self.choice.1;
        let mut made = Value::Null;
        if object.is_none() && choice.has_expressions() {
            made = response(seen);
        }
        let object = &object.unwrap_or(&made)["flow"];
        choice.wants(&ReadFlow { seen, object })
    }

    fn take(&mut self, told: Told, printer: &mut Printer<'_>) -> io::Result<()> {
        let (seen, object) = match told {
            Told::Flow(seen, object) => (seen, object),
            Told::Lost(lost) => return printer.print_lost(&lost),
            Told::Other => return Ok(()),
        };
        if !self.wants(&seen, object.as_ref()) {
            return Ok(());
        }
        let Some(last) = self.ask.last else {
            self.left -= 1;
            return printer.print_read(&seen, object);
        };
        self.last.push_back((seen, object));
        if self.last.len() > last {
            self.last.pop_front();
        }
        Ok(())
    }

    fn finish(self, printer: &mut Printer<'_>) -> io::Result<()> {
        let mut last = self.last.into_iter();
        last.try_for_each(|(seen, object)| printer.print_read(&seen, object))?;
        printer.finish()
    }
}

fn choice(ask: &Ask, node_name: &str) -> Result<FlowChoice, String> {
    let (cluster, node) = node_name.split_once('/').unwrap_or(("default", node_name));
    let home = Home {
        node: node.into(),
        cluster: cluster.into(),
    };
    FlowChoice::compile(&ask.wanted.allow, &ask.wanted.deny, &home, read_expressions)
}

fn told(line: &[u8]) -> Result<Told, String> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(Told::Other);
    }
    let object: Value = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    if object["flow"].is_object() {
        let seen = flow(&object);
        return Ok(Told::Flow(Box::new(seen), Some(object)));
    }
    let lost = &object["lost_events"];
    if lost.is_object() {
        let count = number(&lost["num_events_lost"]);
        let time = |key: &str| lost[key].as_str().and_then(|text| text.parse().ok());
        let is_unwritten = lost["source"] == "OBSERVER_EVENTS_QUEUE";
        return Ok(Told::Lost(Lost {
            count: if is_unwritten { 0 } else { count },
            span: time("first").zip(time("last")),
            unwritten: if is_unwritten { count } else { 0 },
        }));
    }
    if ["node_status", "agent_event", "debug_event"]
        .iter()
        .any(|key| object[*key].is_object())
    {
        return Ok(Told::Other);
    }
    let seen = serde_json::from_value(object);
    let seen = seen.map_err(|_| "expected an object with a flow, or one of observe -o json")?;
    Ok(Told::Flow(Box::new(seen), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Event, Flow, FlowFilter};
    use crate::recall::Wanted;
    use jiff::Timestamp;
    use portcullis_engine::{Record, RecordKind, TcpFlags};
    use portcullis_policy::{Decision, Protocol, Verdict};
    use std::sync::Arc;

    fn read(line: &str) -> SeenFlow {
        match told(line.as_bytes()) {
            Ok(Told::Flow(seen, _)) => *seen,
            Ok(_) => panic!("no flow: {line}"),
            Err(fault) => panic!("{fault}: {line}"),
        }
    }

    /// Of Hubble, with fields that we do not have.
    const HUBBLE: &str = r#"{"flow":{"time":"2026-11-28T12:00:00.5Z","uuid":"0192d9a0-0000-8000-8000-000000000001",
        "verdict":"DROPPED","drop_reason":133,"ethernet":{"source":"02:00:00:00:00:01","destination":"ee:ee:ee:ee:ee:ee"},
        "IP":{"source":"10.0.1.11","destination":"10.0.1.10","ipVersion":"IPv4"},
        "l4":{"TCP":{"source_port":40000,"destination_port":80,"flags":{"SYN":true,"ACK":false}}},
        "source":{"identity":300,"namespace":"shop","pod_name":"web-5d4f8c7b9d-x2x4z","labels":["k8s:app=web"]},
        "destination":{"identity":301,"namespace":"shop","pod_name":"db-0","labels":["k8s:app=db"]},
        "Type":"L3_L4","node_name":"blue/n7","node_labels":["zone=a"],"interface":{"index":4,"name":"lxc1"},
        "event_type":{"type":1,"sub_type":133},"traffic_direction":"INGRESS","drop_reason_desc":"POLICY_DENIED",
        "Summary":"TCP Flags: SYN","socket_cookie":"12"},"node_name":"blue/n7","time":"2026-11-28T12:00:00.5Z"}"#;

    #[test]
    fn every_filter_looks_at_what_a_line_says() {
        let line = HUBBLE.replace('\n', "");
        let seen = read(&line);
        let object: Value = serde_json::from_str(&line).unwrap();
        for (filter, is_wanted) in [
            (r#"{"verdict":["DROPPED"]}"#, true),
            (r#"{"verdict":["FORWARDED"]}"#, false),
            (
                r#"{"source_pod":["shop/web"],"destination_port":["80"]}"#,
                true,
            ),
            (r#"{"source_pod":["shop/db"]}"#, false),
            (r#"{"destination_label":["app in (db)"]}"#, true),
            (r#"{"destination_label":["!app"]}"#, false),
            (
                r#"{"source_ip":["10.0.1.0/24"],"ip_version":["IPv4"]}"#,
                true,
            ),
            (r#"{"protocol":["udp"]}"#, false),
            (r#"{"tcp_flags":[{"SYN":true}]}"#, true),
            (r#"{"tcp_flags":[{"SYN":true,"ACK":true}]}"#, false),
            (
                r#"{"event_type":[{"type":1,"match_sub_type":true,"sub_type":133}]}"#,
                true,
            ),
            (
                r#"{"drop_reason_desc":["POLICY_DENIED"],"traffic_direction":["INGRESS"]}"#,
                true,
            ),
            (
                r#"{"source_workload":[{"name":"web","kind":"Deployment"}]}"#,
                true,
            ),
            (
                r#"{"node_name":["blue/n*"],"node_labels":["zone=a"]}"#,
                true,
            ),
            (r#"{"node_name":["n7"]}"#, false),
            (
                r#"{"source_cluster_name":["blue"],"interface":[{"index":4}]}"#,
                true,
            ),
            (r#"{"uuid":["0192d9a0-0000-8000-8000-000000000001"]}"#, true),
            (r#"{"source_identity":[301]}"#, false),
            (
                r#"{"experimental":{"cel_expression":["_flow.verdict == Verdict.DROPPED && _flow.socket_cookie == 12u && _flow.l4.TCP.flags.SYN"]}}"#,
                true,
            ),
            (
                r#"{"experimental":{"cel_expression":["_flow.destination.pod_name.startsWith('web')", "has(_flow.is_reply)"]}}"#,
                false,
            ),
            // What was dropped counts as no reply.
            (r#"{"reply":[false]}"#, true),
        ] {
            let allow: FlowFilter = serde_json::from_str(filter).expect(filter);
            let ask = Ask {
                wanted: Wanted {
                    allow: vec![allow],
                    ..Wanted::default()
                },
                ..Ask::default()
            };
            let mut chosen = Chosen::new(&ask).expect(filter);
            assert_eq!(chosen.wants(&seen, Some(&object)), is_wanted, "{filter}");
        }
        assert_eq!(seen.event, "Policy denied");
    }

    #[test]
    fn what_observe_prints_in_either_form_is_read_back() {
        let record = Record {
            kind: RecordKind::Flow,
            addresses: Some(("10.0.1.11".parse().unwrap(), "10.0.1.10".parse().unwrap())),
            protocol: Some(Protocol::Tcp),
            ports: (40_000, 80),
            tcp_flags: TcpFlags(TcpFlags::SYN),
            ingress: Some(Verdict {
                decision: Decision::AllowUnpoliced,
                rule: None,
            }),
            is_reply: Some(false),
            ..Record::BLANK
        };
        let event = Event::new(Timestamp::UNIX_EPOCH, record, Arc::default());
        let seen = SeenFlow::read(&event, "n1");
        let flat = serde_json::to_string(&seen).unwrap();
        assert_eq!(read(&flat), seen);
        let nested = crate::cli::flow_format::response(&seen).to_string();
        let expected = SeenFlow {
            flow: Flow {
                reason: "TCP Flags: SYN".into(),
                ..seen.flow.clone()
            },
            summary: "TCP Flags: SYN".into(),
            ..seen
        };
        assert_eq!(read(&nested), expected);
    }

    #[test]
    fn gaps_are_told_and_what_is_no_flow_is_refused() {
        let gap = r#"{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"7"}}"#;
        match told(gap.as_bytes()) {
            Ok(Told::Lost(lost)) => assert_eq!((lost.count, lost.unwritten), (7, 0)),
            _ => panic!("no gap"),
        }
        assert!(matches!(told(br#"{"node_status":{}}"#), Ok(Told::Other)));
        for wrong in ["{", "[]", r#"{"flow":"none"}"#, "7"] {
            assert!(told(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
