//! Of the names of a generation what some records need, as text: it outlives the tables.

use super::flow_policy::FlowPolicy;
use super::link::Link;
use super::names::Names;
use portcullis_engine::{EndpointId, Record};
use portcullis_policy::{Decision, Direction, Identity, PolicyIndex, Protocol, RuleId, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

/// Labels, pods and policies by the numbers that records have for them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamesExtract {
    labels: BTreeMap<u32, Vec<String>>,
    endpoints: BTreeMap<u32, (String, String, Option<u32>)>,
    links: BTreeMap<u32, Link>,
    node_labels: Vec<String>,
    pods: BTreeMap<IpAddr, (String, String)>,
    /// Protocol, port, namespace and name of what is reached at an address.
    services: BTreeMap<IpAddr, Vec<(u8, u16, String, String)>>,
    rules: BTreeMap<u32, FlowPolicy>,
    /// What isolates each subject.
    isolating: Isolating,
}

/// Policies by the number of their subject.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Isolating {
    ingress: BTreeMap<u32, Vec<FlowPolicy>>,
    egress: BTreeMap<u32, Vec<FlowPolicy>>,
    audited_ingress: BTreeMap<u32, Vec<FlowPolicy>>,
    audited_egress: BTreeMap<u32, Vec<FlowPolicy>>,
}

impl Isolating {
    const fn of(&self, direction: Direction, is_audited: bool) -> &BTreeMap<u32, Vec<FlowPolicy>> {
        match (direction, is_audited) {
            (Direction::Ingress, false) => &self.ingress,
            (Direction::Egress, false) => &self.egress,
            (Direction::Ingress, true) => &self.audited_ingress,
            (Direction::Egress, true) => &self.audited_egress,
        }
    }

    const fn of_mut(
        &mut self,
        direction: Direction,
        is_audited: bool,
    ) -> &mut BTreeMap<u32, Vec<FlowPolicy>> {
        match (direction, is_audited) {
            (Direction::Ingress, false) => &mut self.ingress,
            (Direction::Egress, false) => &mut self.egress,
            (Direction::Ingress, true) => &mut self.audited_ingress,
            (Direction::Egress, true) => &mut self.audited_egress,
        }
    }
}

impl NamesExtract {
    /// Takes what a record needs.
    pub fn note(&mut self, record: &Record, names: &Names) {
        let (source, destination) = match record.addresses {
            Some((source, destination)) => (Some(source), Some(destination)),
            None => (None, None),
        };
        if self.node_labels.is_empty() {
            self.node_labels = names.node_labels.to_vec();
        }
        self.note_end(record.source_identity, record.from, source, names);
        self.note_end(record.destination_identity, record.to, destination, names);
        if let (Some((source, destination)), Some(protocol)) = (record.addresses, record.protocol) {
            self.note_service(source, protocol, record.ports.0, names);
            self.note_service(destination, protocol, record.ports.1, names);
        }
        let subject = |end: Option<EndpointId>| end.and_then(|id| names.policy_of(id));
        if let (Some(verdict), Some(subject)) = (record.egress, subject(record.from)) {
            self.note_verdict(verdict, subject, Direction::Egress, names);
        }
        if let (Some(verdict), Some(subject)) = (record.ingress, subject(record.to)) {
            self.note_verdict(verdict, subject, Direction::Ingress, names);
        }
    }

    fn note_end(
        &mut self,
        identity: Identity,
        endpoint: Option<EndpointId>,
        address: Option<IpAddr>,
        names: &Names,
    ) {
        if let Entry::Vacant(place) = self.labels.entry(identity.0) {
            let labels = names.labels(identity);
            if !labels.is_empty() {
                place.insert(labels.to_vec());
            }
        }
        if let Some(id) = endpoint
            && !self.endpoints.contains_key(&id.0)
            && let Some((namespace, name, policy)) = names.endpoints.get(&id)
        {
            let policy = policy.map(|policy| policy.0);
            self.endpoints
                .insert(id.0, (namespace.clone(), name.clone(), policy));
        }
        if let Some(id) = endpoint
            && !self.links.contains_key(&id.0)
            && let Some(link) = names.links.get(&id)
        {
            self.links.insert(id.0, link.clone());
        }
        if let Some(address) = address
            && !self.pods.contains_key(&address)
            && let Some(pod) = names.pods.get(&address)
        {
            self.pods.insert(address, pod.clone());
        }
    }

    fn note_service(&mut self, address: IpAddr, protocol: Protocol, port: u16, names: &Names) {
        if self.service(address, protocol, port).is_none()
            && let Some((namespace, name)) = names.service(address, protocol, port)
        {
            let service = (protocol.number(), port, namespace.into(), name.into());
            self.services.entry(address).or_default().push(service);
        }
    }

    fn note_verdict(
        &mut self,
        verdict: Verdict,
        subject: PolicyIndex,
        direction: Direction,
        names: &Names,
    ) {
        let behind = |is_audited| {
            FlowPolicy::behind_named(names, verdict, Some(subject), direction, is_audited)
        };
        if let Some(RuleId(rule)) = verdict.rule {
            if !self.rules.contains_key(&rule)
                && let Some(policy) = behind(false).pop()
            {
                self.rules.insert(rule, policy);
            }
            return;
        }
        if !is_by_isolation(verdict.decision) {
            return;
        }
        // Which of the two a reader asks for depends on what became of the packet.
        for is_audited in [false, true] {
            let known = self.isolating.of_mut(direction, is_audited);
            known.entry(subject.0).or_insert_with(|| behind(is_audited));
        }
    }

    /// The labels of an identity.
    #[must_use]
    pub fn labels(&self, identity: Identity) -> &[String] {
        self.labels.get(&identity.0).map_or(&[], Vec::as_slice)
    }

    /// Namespace and name of the service that is reached there.
    #[must_use]
    pub fn service(&self, address: IpAddr, protocol: Protocol, port: u16) -> Option<(&str, &str)> {
        let services = self.services.get(&address)?.iter();
        let there = (protocol.number(), port);
        let mut found = services.filter(|(protocol, port, ..)| (*protocol, *port) == there);
        let (_, _, namespace, name) = found.next()?;
        Some((namespace, name))
    }

    /// The documents behind a verdict.
    pub(crate) fn behind(
        &self,
        subject: PolicyIndex,
        direction: Direction,
        verdict: Verdict,
        is_audited: bool,
    ) -> Vec<FlowPolicy> {
        if let Some(RuleId(rule)) = verdict.rule {
            return self.rules.get(&rule).cloned().into_iter().collect();
        }
        let is_audited = is_audited && verdict.decision == Decision::DenyDefault;
        let known = self.isolating.of(direction, is_audited);
        let known = known.get(&subject.0);
        known
            .filter(|_| is_by_isolation(verdict.decision))
            .cloned()
            .unwrap_or_default()
    }

    /// Names that know this much and no more.
    #[must_use]
    pub fn into_names(self) -> Names {
        let endpoints = self.endpoints.iter();
        Names {
            endpoints: endpoints
                .map(|(id, (namespace, name, policy))| {
                    let policy = policy.map(PolicyIndex);
                    (EndpointId(*id), (namespace.clone(), name.clone(), policy))
                })
                .collect(),
            links: self
                .links
                .iter()
                .map(|(id, link)| (EndpointId(*id), link.clone()))
                .collect(),
            node_labels: self.node_labels.as_slice().into(),
            pods: self.pods.clone().into_iter().collect(),
            extract: Some(Box::new(self)),
            ..Names::default()
        }
    }
}

/// Whether all documents that isolate the subject are behind a decision, and no rule.
const fn is_by_isolation(decision: Decision) -> bool {
    matches!(decision, Decision::DenyDefault | Decision::AllowDefault)
}
