//! Translations and the ports that they take, with their names.

use super::table::{Table, age, amount, place};
use super::{ListFilter, Traffic, milliseconds};
use crate::observe::{FlowEnd, FlowPolicy, Names, protocol_name};
use portcullis_engine::{
    DestinationUse, Frontend, GatewayPlace, Now, PortRange, SessionKind, SessionState, SessionView,
    Tuple,
};
use portcullis_policy::{ExitChoice, Protocol};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Who sends to whom. Of an echo the source port is the identifier, the other port zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ends {
    /// Address of the source.
    pub source: IpAddr,
    /// Port of the source.
    pub source_port: u16,
    /// Address of the destination.
    pub destination: IpAddr,
    /// Port of the destination.
    pub destination_port: u16,
}

impl From<&Tuple> for Ends {
    fn from(tuple: &Tuple) -> Self {
        Self {
            source: tuple.source,
            source_port: tuple.source_port,
            destination: tuple.destination,
            destination_port: tuple.destination_port,
        }
    }
}

impl Ends {
    fn text(&self) -> String {
        format!(
            "{} -> {}",
            place(self.source, self.source_port),
            place(self.destination, self.destination_port)
        )
    }

    /// Whether a port is one of both.
    #[must_use]
    pub fn has_port(&self, port: u16) -> bool {
        self.source_port == port || self.destination_port == port
    }
}

/// A service, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of the port; left out when it is the only one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub port_name: String,
}

/// One translation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatSession {
    /// `masquerade`, `gateway`, `node_port`, `service` or `hairpin`.
    pub kind: String,
    /// `TCP` and so on.
    pub protocol: String,
    /// Who opened it.
    pub source: FlowEnd,
    /// Who answers: for a service its backend.
    pub destination: FlowEnd,
    /// The packet that opened it, as it came.
    pub before: Ends,
    /// The same packet, as it went on.
    pub after: Ends,
    /// `opening`, `established`, `half_closed`, `closing`.
    pub state: String,
    /// Since it was opened.
    pub age_ms: u64,
    /// Since its last packet.
    pub idle_ms: u64,
    /// From `before` to `after`.
    pub forward: Traffic,
    /// Back.
    pub reply: Traffic,
    /// The service that it serves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<ServiceName>,
    /// The egress gateway policy that asks for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<FlowPolicy>,
}

impl NatSession {
    /// Names a session with the names in force.
    #[must_use]
    pub fn read(view: &SessionView, names: &Names, now: Now) -> Self {
        let traffic = |traffic: portcullis_engine::Traffic| Traffic {
            packets: traffic.packets,
            bytes: traffic.bytes,
        };
        Self {
            kind: view.kind.key().into(),
            protocol: protocol_name(Protocol::from_number(view.before.protocol)),
            source: names.end_at(view.before.source),
            destination: names.end_at(view.after.destination),
            before: (&view.before).into(),
            after: (&view.after).into(),
            state: match view.state {
                SessionState::Opening { .. } => "opening",
                SessionState::Established => "established",
                SessionState::HalfClosed(_) => "half_closed",
                SessionState::Closing => "closing",
            }
            .into(),
            age_ms: milliseconds(now, view.opened),
            idle_ms: milliseconds(now, view.seen),
            forward: traffic(view.forward),
            reply: traffic(view.reply),
            service: service_of(view, names),
            policy: policy_of(view, names),
        }
    }

    /// Whether a reader wants it.
    #[must_use]
    pub fn is_wanted(&self, filter: &ListFilter) -> bool {
        filter.matches(&self.protocol, [&self.source, &self.destination])
    }

    /// Whether it stands before the pod's policy: then a flow has what it became.
    #[must_use]
    pub fn is_of_service(&self) -> bool {
        !matches!(self.kind.as_str(), "masquerade" | "gateway")
    }

    /// Whom it serves: a service, a policy, or the node's setting.
    #[must_use]
    pub fn owner(&self) -> String {
        match (&self.service, &self.policy) {
            (Some(service), _) => format!("service {}/{}", service.namespace, service.name),
            (None, Some(policy)) => policy.text(),
            (None, None) if self.kind == "masquerade" => "masquerade: true".into(),
            (None, None) => "its service or policy is gone".into(),
        }
    }

    /// `via service shop/web 10.96.0.10:80`, `as 192.0.2.7:40123 (policy)`.
    #[must_use]
    pub fn text(&self) -> String {
        let owner = self.owner();
        if self.is_of_service() {
            let frontend = place(self.before.destination, self.before.destination_port);
            format!("via {owner} {frontend}")
        } else {
            let source = place(self.after.source, self.after.source_port);
            format!("as {source} ({owner})")
        }
    }
}

/// By its frontend: numbers of services change with each table.
fn service_of(view: &SessionView, names: &Names) -> Option<ServiceName> {
    if matches!(view.kind, SessionKind::Masquerade | SessionKind::Gateway) {
        return None;
    }
    let (_, service, _) = names.services.find(frontend_of(&view.before))?;
    Some(ServiceName {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        port_name: service.port_name.clone(),
    })
}

pub(super) fn frontend_of(before: &Tuple) -> Frontend {
    Frontend {
        address: before.destination,
        protocol: Protocol::from_number(before.protocol),
        port: before.destination_port,
    }
}

/// The policy that gives the pod this address now: numbers of policies change with each table.
fn policy_of(view: &SessionView, names: &Names) -> Option<FlowPolicy> {
    if view.kind != SessionKind::Gateway {
        return None;
    }
    let tables = names.tables.as_deref()?;
    let (namespace, name, _) = names.endpoints.get(&view.charged)?;
    let exits = tables.exit_place(namespace, name)?;
    let ExitChoice::Through { policy, gateway } =
        tables.exit_choice(exits, view.before.destination)
    else {
        return None;
    };
    let place = names.exits.gateways.get(policy as usize)?;
    match place.get(gateway as usize)? {
        GatewayPlace::Here(addresses) if addresses.contains(&view.after.source) => {
            let route = tables.egress_routes().nth(policy as usize)?;
            Some(FlowPolicy::of(route.policy, None))
        }
        _ => None,
    }
}

/// How many ports of an egress address one destination takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortUse {
    /// The address that is sent from.
    pub egress: IpAddr,
    /// `TCP` and so on; of ICMP the identifiers are counted.
    pub protocol: String,
    /// The destination.
    pub destination: IpAddr,
    /// Its port; zero for an echo.
    pub destination_port: u16,
    /// Who is there.
    pub end: FlowEnd,
    /// Ports in use.
    pub used: u32,
    /// Ports there are.
    pub max: u32,
    /// `ok`, `crowded` from three quarters on, `exhausted`.
    pub state: String,
}

impl PortUse {
    /// Names a destination with the names in force.
    #[must_use]
    pub fn read(of: &DestinationUse, names: &Names) -> Self {
        let protocol = Protocol::from_number(of.protocol);
        let is_icmp = matches!(protocol, Protocol::Icmp | Protocol::Icmpv6);
        let range = if is_icmp && !names.exits.shared.contains(&of.egress) {
            PortRange::IDENTIFIERS
        } else {
            let range = names.exits.ports.get(&of.egress);
            range.copied().unwrap_or_default()
        };
        let max = range.count();
        Self {
            egress: of.egress,
            protocol: protocol_name(protocol),
            destination: of.address,
            destination_port: of.port,
            end: names.end_at(of.address),
            used: of.used,
            max,
            state: use_state(of.used, max).into(),
        }
    }
}

fn use_state(used: u32, max: u32) -> &'static str {
    if used >= max {
        "exhausted"
    } else if u64::from(used) * 4 >= u64::from(max) * 3 {
        "crowded"
    } else {
        "ok"
    }
}

/// A table for people.
#[must_use]
pub fn sessions_table(sessions: &[NatSession]) -> String {
    let mut table = Table::new(&[
        "KIND", "PROTOCOL", "SOURCE", "BEFORE", "AFTER", "STATE", "AGE", "IDLE", "SENT",
        "RECEIVED", "FOR",
    ]);
    for session in sessions {
        table.add(vec![
            session.kind.clone(),
            session.protocol.clone(),
            session.source.name(),
            session.before.text(),
            session.after.text(),
            session.state.clone(),
            age(session.age_ms),
            age(session.idle_ms),
            amount(session.forward),
            amount(session.reply),
            session.owner(),
        ]);
    }
    table.text()
}

/// A table for people.
#[must_use]
pub fn usage_table(uses: &[PortUse]) -> String {
    let mut table = Table::new(&[
        "EGRESS",
        "PROTOCOL",
        "DESTINATION",
        "USED",
        "OF",
        "PERCENT",
        "STATE",
    ]);
    for of in uses {
        let percent = u64::from(of.used) * 100 / u64::from(of.max.max(1));
        table.add(vec![
            of.egress.to_string(),
            of.protocol.clone(),
            place(of.destination, of.destination_port),
            of.used.to_string(),
            of.max.to_string(),
            format!("{percent} %"),
            of.state.clone(),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_quarters_are_crowded_and_all_are_exhausted() {
        for (used, state) in [(0, "ok"), (74, "ok"), (75, "crowded"), (100, "exhausted")] {
            assert_eq!(use_state(used, 100), state, "{used}");
        }
    }
}
