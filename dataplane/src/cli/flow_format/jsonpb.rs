//! Flows with the names and nesting of Hubble's protobuf, as its command line prints them.

use crate::ipc::Lost;
use crate::observe::{DropReason, FlowEnd, FlowPolicy};
use crate::recall::SeenFlow;
use portcullis_engine::Drop;
use serde_json::{Map, Value, json};

/// An object of `observer.GetFlowsResponse`.
pub fn response(seen: &SeenFlow) -> Value {
    let flow = &seen.flow;
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        let is_empty = match &value {
            Value::Null => true,
            Value::Array(list) => list.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        // Protobuf leaves out what is empty.
        if !is_empty {
            out.insert(name.to_owned(), value);
        }
    };
    put("time", json!(flow.time));
    put("uuid", json!(seen.uuid));
    put("verdict", json!(flow.verdict));
    let drop = flow.drop_reason.as_ref();
    let drop = drop.and_then(|key| Drop::ALL.iter().find(|drop| drop.key() == key));
    put(
        "drop_reason",
        json!(drop.map(|drop| DropReason::of(*drop).number)),
    );
    if let Some(ip) = &flow.ip {
        let version = if ip.source.is_ipv6() { "IPv6" } else { "IPv4" };
        put(
            "IP",
            json!({"source": ip.source, "destination": ip.destination, "ipVersion": version}),
        );
    }
    put("ethernet", json!(seen.ethernet));
    put("l4", layer4(seen));
    put("source", end(&flow.source));
    put("destination", end(&flow.destination));
    put("Type", json!("L3_L4"));
    put("node_name", json!(seen.node_name));
    put("node_labels", json!(seen.node_labels));
    put("interface", json!(seen.interface));
    put("source_names", json!(seen.source_names));
    put("destination_names", json!(seen.destination_names));
    put("event_type", event_type(seen.event_type));
    put("source_service", json!(seen.source_service));
    put("destination_service", json!(seen.destination_service));
    let direction = flow
        .traffic_direction
        .as_ref()
        .map(|text| text.to_ascii_uppercase());
    put("traffic_direction", json!(direction));
    put("trace_observation_point", json!(point(&seen.event)));
    put("drop_reason_desc", json!(seen.drop_reason_desc));
    put("is_reply", json!(seen.is_reply));
    put("egress_allowed_by", policies(&flow.egress_allowed_by));
    put("ingress_allowed_by", policies(&flow.ingress_allowed_by));
    put("egress_denied_by", policies(&flow.egress_denied_by));
    put("ingress_denied_by", policies(&flow.ingress_denied_by));
    put("Summary", json!(super::lines::summary(seen)));
    json!({"flow": out, "node_name": seen.node_name, "time": flow.time})
}

/// Objects that tell of a gap: what the reader was too slow for, and what was never written.
pub fn lost(lost: &Lost) -> Vec<Value> {
    let counts = [
        ("HUBBLE_RING_BUFFER", lost.count, lost.span),
        ("OBSERVER_EVENTS_QUEUE", lost.unwritten, None),
    ];
    let told = counts.into_iter().filter(|(_, count, _)| *count > 0);
    let event = told.map(|(source, count, span)| {
        let mut event = json!({"source": source, "num_events_lost": count.to_string()});
        if let Some((first, last)) = span {
            event["first"] = json!(first);
            event["last"] = json!(last);
        }
        json!({"lost_events": event})
    });
    event.collect()
}

fn layer4(seen: &SeenFlow) -> Value {
    let flow = &seen.flow;
    let Some(protocol) = &flow.protocol else {
        return Value::Null;
    };
    let ports = json!({
        "source_port": flow.source_port.unwrap_or_default(),
        "destination_port": flow.destination_port.unwrap_or_default(),
    });
    let mut inner = match protocol.as_str() {
        "TCP" | "UDP" | "SCTP" => ports,
        "ICMPv4" | "ICMPv6" => {
            json!({"type": flow.destination_port.unwrap_or_default(), "code": seen.icmp_code})
        }
        _ => return Value::Null,
    };
    if protocol == "TCP" && !seen.tcp_flags.is_empty() {
        let flags = seen
            .tcp_flags
            .iter()
            .map(|name| (name.clone(), Value::Bool(true)));
        inner["flags"] = Value::Object(flags.collect());
    }
    let mut out = Map::new();
    out.insert(protocol.clone(), inner);
    Value::Object(out)
}

fn end(end: &FlowEnd) -> Value {
    let mut out = json!({"identity": end.identity, "labels": end.labels});
    if !end.pod_name.is_empty() {
        out["cluster_name"] = json!("default");
        out["namespace"] = json!(end.namespace);
        out["pod_name"] = json!(end.pod_name);
    }
    out
}

fn event_type((kind, sub_type): (i32, i32)) -> Value {
    let mut out = json!({"type": kind});
    if sub_type != 0 {
        out["sub_type"] = json!(sub_type);
    }
    out
}

fn point(event: &str) -> Option<&'static str> {
    match event {
        "to-endpoint" => Some("TO_ENDPOINT"),
        "to-host" => Some("TO_HOST"),
        "to-network" => Some("TO_NETWORK"),
        _ => None,
    }
}

fn policies(list: &[FlowPolicy]) -> Value {
    let policy =
        |one: &FlowPolicy| json!({"name": one.name, "namespace": one.namespace, "kind": one.kind});
    list.iter().map(policy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_and_what_was_never_written_are_told_apart() {
        let told = lost(&Lost {
            count: 3,
            span: None,
            unwritten: 2,
        });
        let of = |source: &str, count: &str| json!({"lost_events": {"source": source, "num_events_lost": count}});
        assert_eq!(
            told,
            [
                of("HUBBLE_RING_BUFFER", "3"),
                of("OBSERVER_EVENTS_QUEUE", "2")
            ]
        );
    }
}
