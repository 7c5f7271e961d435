//! A flow from an object of JSON in Hubble's form: `observer.GetFlowsResponse` or `ExportEvent`.

use crate::observe::{DropReason, Flow, FlowEnd, FlowIp, FlowPolicy, Workload};
use crate::recall::{SeenEthernet, SeenFlow, SeenInterface, SeenService};
use jiff::Timestamp;
use portcullis_engine::Drop;
use serde_json::Value;

/// The flow of an object in Hubble's form. What is missing is empty: it may have been masked.
pub fn flow(object: &Value) -> SeenFlow {
    let flow = &object["flow"];
    let time = [&flow["time"], &object["time"]].into_iter();
    let mut times = time.filter_map(|time| time.as_str()?.parse().ok());
    let node_name = [&flow["node_name"], &object["node_name"]].into_iter();
    let node_name = node_name.map(text).find(|name| !name.is_empty());
    let address = |key: &str| flow["IP"][key].as_str()?.parse().ok();
    let ip = address("source").zip(address("destination"));
    let (protocol, layer) = flow["l4"]
        .as_object()
        .and_then(|layers| layers.iter().next())
        .map_or((None, &Value::Null), |(name, layer)| (Some(name), layer));
    let is_icmp = protocol.is_some_and(|name| name.starts_with("ICMP"));
    // A port that is zero is not written.
    let has_ports = protocol.is_some_and(|name| ["TCP", "UDP", "SCTP"].contains(&name.as_str()));
    let port = |key: &str| has_ports.then(|| small(&layer[key]));
    let kind = &flow["event_type"];
    let event_type = (number(&kind["type"]), number(&kind["sub_type"]));
    let event_type = (small_i32(event_type.0), small_i32(event_type.1));
    let optional = |value: &Value| Some(text(value)).filter(|text| !text.is_empty());
    let direction = optional(&flow["traffic_direction"]).map(|text| text.to_ascii_lowercase());
    let flags = layer["flags"].as_object();
    let set = flags
        .into_iter()
        .flatten()
        .filter(|(_, is_set)| **is_set == true);
    let drop_reason_desc = optional(&flow["drop_reason_desc"]);
    SeenFlow {
        flow: Flow {
            time: times.next().unwrap_or(Timestamp::UNIX_EPOCH),
            verdict: text(&flow["verdict"]),
            drop_reason: None,
            revoked: false,
            ip: ip.map(|(source, destination)| FlowIp {
                source,
                destination,
            }),
            protocol: protocol.cloned(),
            source_port: port("source_port"),
            destination_port: if is_icmp {
                Some(small(&layer["type"]))
            } else {
                port("destination_port")
            },
            source: end(&flow["source"]),
            destination: end(&flow["destination"]),
            egress_allowed_by: policies(&flow["egress_allowed_by"]),
            ingress_allowed_by: policies(&flow["ingress_allowed_by"]),
            egress_denied_by: policies(&flow["egress_denied_by"]),
            ingress_denied_by: policies(&flow["ingress_denied_by"]),
            traffic_direction: direction.filter(|one| one == "ingress" || one == "egress"),
            reason: text(&flow["Summary"]),
            length: 0,
            generation: 0,
        },
        number: 0,
        uuid: text(&flow["uuid"]),
        node_name: node_name.unwrap_or_default(),
        event: event(event_type, flow),
        event_type,
        drop_reason_desc,
        is_reply: flow["is_reply"].as_bool(),
        tcp_flags: set.map(|(name, _)| name.clone()).collect(),
        icmp_code: u8::try_from(number(&layer["code"])).unwrap_or_default(),
        interface: flow["interface"].as_object().map(|_| SeenInterface {
            index: u32::try_from(number(&flow["interface"]["index"])).unwrap_or_default(),
            name: text(&flow["interface"]["name"]),
        }),
        ethernet: flow["ethernet"].as_object().map(|_| SeenEthernet {
            source: text(&flow["ethernet"]["source"]),
            destination: text(&flow["ethernet"]["destination"]),
        }),
        node_labels: texts(&flow["node_labels"]),
        summary: text(&flow["Summary"]),
        source_workloads: workloads(&flow["source"]["workloads"]),
        destination_workloads: workloads(&flow["destination"]["workloads"]),
        source_names: texts(&flow["source_names"]),
        destination_names: texts(&flow["destination_names"]),
        source_service: service(&flow["source_service"]),
        destination_service: service(&flow["destination_service"]),
        ending: None,
        totals: None,
    }
}

/// The event in Hubble's words.
fn event((kind, sub_type): (i32, i32), flow: &Value) -> String {
    const POINTS: [&str; 14] = [
        "to-endpoint",
        "to-proxy",
        "to-host",
        "to-stack",
        "to-overlay",
        "from-endpoint",
        "from-proxy",
        "from-host",
        "from-stack",
        "from-overlay",
        "from-network",
        "to-network",
        "from-crypto",
        "to-crypto",
    ];
    const MATCHES: [&str; 7] = [
        "none",
        "L3-Only",
        "L3-L4",
        "L4-Only",
        "all",
        "L3-Proto",
        "Proto-Only",
    ];
    let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    match kind {
        1 => {
            let reasons = Drop::ALL.iter().map(|drop| DropReason::of(*drop));
            let mut known = reasons.filter(|reason| i32::from(reason.number) == sub_type);
            let text = known.next().map(|reason| reason.text.to_owned());
            let named =
                || Some(self::text(&flow["drop_reason_desc"])).filter(|name| !name.is_empty());
            text.or_else(named).unwrap_or_else(|| sub_type.to_string())
        }
        4 => {
            let point = POINTS.get(place(u64::from(sub_type.unsigned_abs())));
            point.map_or_else(|| sub_type.to_string(), |name| (*name).into())
        }
        5 => {
            let matched = MATCHES.get(place(number(&flow["policy_match_type"])));
            let direction = text(&flow["traffic_direction"]);
            format!("policy-verdict:{} {direction}", matched.unwrap_or(&"none"))
        }
        129 => "l7".into(),
        other => format!("type {other}"),
    }
}

fn end(end: &Value) -> FlowEnd {
    FlowEnd {
        identity: u32::try_from(number(&end["identity"])).unwrap_or_default(),
        namespace: text(&end["namespace"]),
        pod_name: text(&end["pod_name"]),
        labels: texts(&end["labels"]),
    }
}

fn policies(list: &Value) -> Vec<FlowPolicy> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice).iter();
    list.map(|policy| FlowPolicy {
        kind: text(&policy["kind"]),
        namespace: text(&policy["namespace"]),
        name: text(&policy["name"]),
        rule: None,
        file: String::new(),
    })
    .collect()
}

fn workloads(list: &Value) -> Vec<Workload> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice).iter();
    list.map(|workload| Workload {
        name: text(&workload["name"]),
        kind: text(&workload["kind"]),
    })
    .collect()
}

fn service(service: &Value) -> Option<SeenService> {
    service.as_object().map(|_| SeenService {
        name: text(&service["name"]),
        namespace: text(&service["namespace"]),
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().map(text).collect()
}

/// A number; protobuf writes those of 64 bits as text.
pub fn number(value: &Value) -> u64 {
    let written = || value.as_str()?.parse().ok();
    value.as_u64().or_else(written).unwrap_or_default()
}

fn small(value: &Value) -> u16 {
    u16::try_from(number(value)).unwrap_or_default()
}

fn small_i32(number: u64) -> i32 {
    i32::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests;
