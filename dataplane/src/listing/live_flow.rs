//! Whole flows: the entries of both ends as one, with the translations that belong to them.

use super::session::{Ends, ServiceName};
use super::table::{Table, age, amount, place};
use super::{FlowEntry, NatSession, Traffic};
use crate::observe::{FlowEnd, FlowIp, FlowPolicy};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Names of the states of flows.
pub const FLOW_STATES: [&str; 6] = [
    "datagrams",
    "opening",
    "answered",
    "established",
    "half_closed",
    "closing",
];

/// A flow as users read it: `observe`'s field names where it has the field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveFlow {
    /// Addresses as policy sees them: of a service's backend, of the pod before it gets another
    /// address.
    #[serde(rename = "IP")]
    pub ip: FlowIp,
    /// `TCP`, `UDP`, `SCTP`, `ICMPv4`, `ICMPv6`.
    pub protocol: String,
    /// Source port; of an echo its identifier.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Who began.
    pub source: FlowEnd,
    /// Whom it is for.
    pub destination: FlowEnd,
    /// How far it has come, as the source's end sees it.
    pub state: String,
    /// Since it began.
    pub age_ms: u64,
    /// Since its last packet.
    pub idle_ms: u64,
    /// Until it is forgotten, unless another packet comes.
    pub time_left_ms: u64,
    /// From source to destination.
    pub forward: Traffic,
    /// Back.
    pub reply: Traffic,
    /// The rule of the source's policy that allowed it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub egress_allowed_by: Vec<FlowPolicy>,
    /// The rule of the destination's policy that allowed it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ingress_allowed_by: Vec<FlowPolicy>,
    /// The verdict in words.
    pub reason: String,
    /// The generation of policy that judged it last.
    pub generation: u64,
    /// The service through which it came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub via: Option<Via>,
    /// Under which address it leaves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaves_as: Option<LeavesAs>,
    /// The translations in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub translations: Vec<String>,
}

/// A service, and where it was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Via {
    /// `service`, `node_port` or `hairpin`.
    pub kind: String,
    /// The service; absent when it is gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<ServiceName>,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// An address, and who asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavesAs {
    /// `gateway` or `masquerade`.
    pub kind: String,
    /// The address.
    pub address: IpAddr,
    /// The port; of an echo its identifier.
    pub port: u16,
    /// The policy that asks for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<FlowPolicy>,
}

impl LiveFlow {
    /// Whether any of its ports is this one, that of its service among them.
    #[must_use]
    pub fn has_port(&self, port: u16) -> bool {
        let via = self.via.as_ref().map(|via| via.port);
        let leaves_as = self.leaves_as.as_ref().map(|leaves_as| leaves_as.port);
        self.source_port == port
            || self.destination_port == port
            || [via, leaves_as].contains(&Some(port))
    }

    /// Packets and bytes both ways.
    #[must_use]
    pub fn total(&self) -> Traffic {
        Traffic {
            packets: self.forward.packets + self.reply.packets,
            bytes: self.forward.bytes + self.reply.bytes,
        }
    }
}

type Key = (String, (IpAddr, u16), (IpAddr, u16));

/// Entries and translations that are being joined.
#[derive(Debug, Default)]
pub struct Joined {
    flows: HashMap<Key, LiveFlow>,
    /// By what they became: what a flow has behind a service.
    services: HashMap<(String, Ends), NatSession>,
    /// By what they were: what a flow has before it leaves.
    leaving: HashMap<(String, Ends), NatSession>,
    /// What found no room.
    pub left_out: u64,
    room: usize,
}

impl Joined {
    /// With room for so many flows and translations each.
    #[must_use]
    pub fn with_room(room: usize) -> Self {
        Self {
            room,
            ..Self::default()
        }
    }

    /// Adds an entry: to the flow whose other end is there already, where it is.
    pub fn add_entry(&mut self, entry: FlowEntry) {
        let key = (entry.protocol.clone(), entry.from, entry.to);
        if let Some(flow) = self.flows.get_mut(&key) {
            join(flow, entry);
        } else if self.flows.len() < self.room {
            self.flows.insert(key, alone(entry));
        } else {
            self.left_out += 1;
        }
    }

    /// Adds a translation.
    pub fn add_session(&mut self, session: NatSession) {
        let (map, ends) = if session.is_of_service() {
            (&mut self.services, session.after)
        } else {
            (&mut self.leaving, session.before)
        };
        if map.len() < self.room {
            map.insert((session.protocol.clone(), ends), session);
        } else {
            self.left_out += 1;
        }
    }

    /// The flows, in no order.
    #[must_use]
    pub fn flows(self) -> Vec<LiveFlow> {
        let (services, leaving) = (self.services, self.leaving);
        let flows = self.flows.into_values().map(|mut flow| {
            let ends = Ends {
                source: flow.ip.source,
                source_port: flow.source_port,
                destination: flow.ip.destination,
                destination_port: flow.destination_port,
            };
            let key = (flow.protocol.clone(), ends);
            if let Some(session) = services.get(&key) {
                flow.translations.push(session.text());
                flow.via = Some(Via {
                    kind: session.kind.clone(),
                    service: session.service.clone(),
                    address: session.before.destination,
                    port: session.before.destination_port,
                });
            }
            if let Some(session) = leaving.get(&key) {
                flow.translations.push(session.text());
                flow.leaves_as = Some(LeavesAs {
                    kind: session.kind.clone(),
                    address: session.after.source,
                    port: session.after.source_port,
                    policy: session.policy.clone(),
                });
            }
            flow
        });
        flows.collect()
    }
}

/// A flow of which one end is known: the other is no pod of this node, or has not been read yet.
fn alone(entry: FlowEntry) -> LiveFlow {
    let (egress, ingress) = match entry.is_of_source {
        true => (entry.allowed_by, Vec::new()),
        false => (Vec::new(), entry.allowed_by),
    };
    LiveFlow {
        ip: FlowIp {
            source: entry.from.0,
            destination: entry.to.0,
        },
        protocol: entry.protocol,
        source_port: entry.from.1,
        destination_port: entry.to.1,
        source: entry.source,
        destination: entry.destination,
        state: entry.state,
        age_ms: entry.age_ms,
        idle_ms: entry.idle_ms,
        time_left_ms: entry.time_left_ms,
        forward: entry.forward,
        reply: entry.reply,
        egress_allowed_by: egress,
        ingress_allowed_by: ingress,
        reason: entry.reason,
        generation: entry.generation,
        via: None,
        leaves_as: None,
        translations: Vec::new(),
    }
}

/// Adds the entry of the other end. What only one of them can say, the source's says.
fn join(flow: &mut LiveFlow, entry: FlowEntry) {
    flow.age_ms = flow.age_ms.max(entry.age_ms);
    flow.idle_ms = flow.idle_ms.min(entry.idle_ms);
    flow.generation = flow.generation.max(entry.generation);
    if entry.is_of_source {
        flow.state = entry.state;
        flow.time_left_ms = entry.time_left_ms;
        (flow.forward, flow.reply) = (entry.forward, entry.reply);
        flow.egress_allowed_by = entry.allowed_by;
        flow.reason = format!("{}; {}", entry.reason, flow.reason);
    } else {
        flow.ingress_allowed_by = entry.allowed_by;
        flow.reason = format!("{}; {}", flow.reason, entry.reason);
    }
}

/// A table for people.
#[must_use]
pub fn flows_table(flows: &[LiveFlow]) -> String {
    let mut table = Table::new(&[
        "PROTOCOL",
        "SOURCE",
        "DESTINATION",
        "STATE",
        "AGE",
        "IDLE",
        "LEFT",
        "SENT",
        "RECEIVED",
        "TRANSLATED",
        "POLICY",
    ]);
    for flow in flows {
        let translated = match flow.translations.is_empty() {
            true => "-".into(),
            false => flow.translations.join(", "),
        };
        table.add(vec![
            flow.protocol.clone(),
            end(&flow.source, flow.ip.source, flow.source_port),
            end(
                &flow.destination,
                flow.ip.destination,
                flow.destination_port,
            ),
            flow.state.clone(),
            age(flow.age_ms),
            age(flow.idle_ms),
            age(flow.time_left_ms),
            amount(flow.forward),
            amount(flow.reply),
            translated,
            flow.reason.clone(),
        ]);
    }
    table.text()
}

/// `backend/api:80`, `192.0.2.2:443 (world)`.
fn end(end: &FlowEnd, address: IpAddr, port: u16) -> String {
    if end.pod_name.is_empty() {
        let name = end.name();
        if name == "unknown" {
            return place(address, port);
        }
        return format!("{} ({name})", SocketAddr::new(address, port));
    }
    format!("{}:{port}", end.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, port: u16) -> (IpAddr, u16) {
        (text.parse().unwrap(), port)
    }

    fn pod(namespace: &str, name: &str) -> FlowEnd {
        FlowEnd {
            namespace: namespace.into(),
            pod_name: name.into(),
            ..FlowEnd::default()
        }
    }

    fn policy(name: &str, rule: &str) -> FlowPolicy {
        FlowPolicy {
            kind: "CiliumNetworkPolicy".into(),
            namespace: "shop".into(),
            name: name.into(),
            rule: Some(rule.into()),
            file: "shop.yaml, document 1".into(),
        }
    }

    fn entry(is_of_source: bool) -> FlowEntry {
        let (rule, reason) = match is_of_source {
            true => (
                "egress[0]",
                "egress allowed by CiliumNetworkPolicy shop/out egress[0]",
            ),
            false => ("ingress[1]", "ingress: no policy selects it"),
        };
        let seen = u64::from(!is_of_source);
        FlowEntry {
            is_of_source,
            protocol: "TCP".into(),
            from: at("10.0.1.11", 40_000),
            to: at("10.0.1.10", 8080),
            source: pod("shop", "web"),
            destination: pod("shop", "api"),
            state: "established".into(),
            age_ms: 1000 + seen,
            idle_ms: 20 + seen,
            time_left_ms: 60_000 - seen,
            forward: Traffic {
                packets: 5,
                bytes: 500,
            },
            reply: Traffic {
                packets: 4 - seen,
                bytes: 40_000,
            },
            allowed_by: vec![policy("out", rule)],
            reason: reason.into(),
            generation: 3,
        }
    }

    fn session(kind: &str, before: (&str, u16), after: (&str, u16)) -> NatSession {
        let ends = |(address, port): (&str, u16)| {
            let (is_source, other) = match kind {
                "service" => (false, at("10.0.1.11", 40_000)),
                _ => (true, at("10.0.1.10", 8080)),
            };
            let own = at(address, port);
            let (source, destination) = if is_source {
                (own, other)
            } else {
                (other, own)
            };
            Ends {
                source: source.0,
                source_port: source.1,
                destination: destination.0,
                destination_port: destination.1,
            }
        };
        NatSession {
            kind: kind.into(),
            protocol: "TCP".into(),
            source: pod("shop", "web"),
            destination: FlowEnd::default(),
            before: ends(before),
            after: ends(after),
            state: "established".into(),
            age_ms: 1,
            idle_ms: 1,
            forward: Traffic::default(),
            reply: Traffic::default(),
            service: (kind == "service").then(|| ServiceName {
                namespace: "shop".into(),
                name: "api".into(),
                port_name: String::new(),
            }),
            policy: (kind == "gateway").then(|| policy("exit", "unused")),
        }
    }

    fn joined(entries: [FlowEntry; 2]) -> Vec<LiveFlow> {
        let mut joined = Joined::with_room(10);
        for entry in entries {
            joined.add_entry(entry);
        }
        joined.flows()
    }

    #[test]
    fn both_ends_are_one_flow_whichever_is_read_first() {
        let flows = joined([entry(true), entry(false)]);
        assert_eq!(flows, joined([entry(false), entry(true)]));
        let [flow] = &*flows else {
            panic!("{flows:#?}")
        };
        assert_eq!(flow.egress_allowed_by, [policy("out", "egress[0]")]);
        assert_eq!(flow.ingress_allowed_by, [policy("out", "ingress[1]")]);
        let times = (flow.age_ms, flow.idle_ms, flow.time_left_ms);
        assert_eq!((times, flow.reply.packets), ((1001, 20, 60_000), 4));
        assert_eq!(
            flow.reason,
            "egress allowed by CiliumNetworkPolicy shop/out egress[0]; \
             ingress: no policy selects it"
        );
    }

    #[test]
    fn a_flow_has_the_service_before_it_and_the_address_after_it() {
        let mut joined = Joined::with_room(10);
        joined.add_session(session("service", ("10.96.0.10", 80), ("10.0.1.10", 8080)));
        joined.add_session(session(
            "gateway",
            ("10.0.1.11", 40_000),
            ("192.0.2.7", 50_000),
        ));
        joined.add_entry(entry(true));
        let flows = joined.flows();
        let words = [
            "via service shop/api 10.96.0.10:80",
            "as 192.0.2.7:50000 (CiliumNetworkPolicy shop/exit unused)",
        ];
        assert_eq!(flows[0].translations, words);
        for port in [40_000, 8080, 80, 50_000] {
            assert!(flows[0].has_port(port), "{port}");
        }
        assert!(!flows[0].has_port(81));
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut joined = Joined::with_room(1);
        joined.add_entry(entry(true));
        joined.add_entry(FlowEntry {
            from: at("10.0.1.11", 40_001),
            ..entry(true)
        });
        joined.add_entry(entry(false));
        assert_eq!(joined.left_out, 1);
        assert_eq!(joined.flows().len(), 1);
    }

    #[test]
    fn flows_stand_below_their_header() {
        let text = flows_table(&joined([entry(true), entry(false)]));
        let expected = "\
PROTOCOL  SOURCE          DESTINATION    STATE        AGE  IDLE  LEFT   SENT   RECEIVED  TRANSLATED  POLICY
TCP       shop/web:40000  shop/api:8080  established  1s   20ms  1m00s  5/500  4/40.0K   -           \
egress allowed by CiliumNetworkPolicy shop/out egress[0]; ingress: no policy selects it
";
        assert_eq!(text, expected);
        let host = end(
            &FlowEnd {
                labels: vec!["reserved:world".into()],
                ..FlowEnd::default()
            },
            "2001:db8::2".parse().unwrap(),
            443,
        );
        assert_eq!(host, "[2001:db8::2]:443 (world)");
    }
}
