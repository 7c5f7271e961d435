//! One event as Hubble's readers count it: one connection is seen as a verdict at each end that has
//! a policy, and as a packet that reached where it goes.

use super::event::Event;
use super::judgement::Judgement;
use super::names::Names;
use super::uuid::Uuid;
use super::workload::Workload;
use portcullis_engine::{Drop, EndpointId, RecordKind};
use portcullis_policy::{Decision, Direction, Identity, Protocol};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What Hubble calls a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FlowVerdict {
    /// Nobody knows.
    VerdictUnknown,
    /// It passed.
    Forwarded,
    /// It ended here.
    Dropped,
    /// It could not be looked at.
    Error,
    /// It passed, though an audited policy denies it.
    Audit,
    /// It went to a proxy.
    Redirected,
    /// It was seen, and nothing decided.
    Traced,
    /// Its address was exchanged.
    Translated,
}

/// What of an event is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// What one policy said.
    Verdict(Judgement),
    /// That the packet ended.
    Drop(Drop),
    /// That it reached where it goes.
    Trace(Point),
}

/// Where a packet was seen last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// On its way into a pod of this node.
    ToEndpoint,
    /// On its way to this node itself.
    ToHost,
    /// On its way out of the node.
    ToNetwork,
}

/// One end of what was seen.
#[derive(Debug, Clone, Copy)]
pub struct Party<'a> {
    /// Its interface, when it is of this node.
    pub endpoint: Option<EndpointId>,
    /// Who it is.
    pub identity: Identity,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its port; zero where there is none.
    pub port: u16,
    /// Namespace, for a pod; else empty.
    pub namespace: &'a str,
    /// Name, for a pod; else empty.
    pub pod_name: &'a str,
    /// The labels behind its identity, `k8s:app=web`.
    pub labels: &'a [String],
    /// Names that its address is known by.
    pub names: &'a [String],
    /// Namespace and name of the service whose address it is.
    pub service: Option<(&'a str, &'a str)>,
    /// What made its pod, where somebody has written that down: see `workloads`.
    pub made_by: &'a [Workload],
}

/// One thing that is told of one event.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// The event.
    pub event: &'a Event,
    /// What is told of it.
    pub aspect: Aspect,
    /// Who sent it.
    pub source: Party<'a>,
    /// Whom it was for.
    pub destination: Party<'a>,
}

impl<'a> Sighting<'a> {
    /// All that is told of an event, in the order in which it happened.
    pub fn all(event: &'a Event) -> impl Iterator<Item = Self> {
        let record = &event.record;
        let (ports, addresses) = (record.ports, record.addresses);
        let of = |identity, endpoint, address, port| {
            Party::of(
                &event.names,
                identity,
                endpoint,
                address,
                (record.protocol, port),
            )
        };
        let source = of(
            record.source_identity,
            record.from,
            addresses.map(|both| both.0),
            ports.0,
        );
        let destination = of(
            record.destination_identity,
            record.to,
            addresses.map(|both| both.1),
            ports.1,
        );
        Aspect::all(event, destination.pod_name).map(move |aspect| Self {
            event,
            aspect,
            source,
            destination,
        })
    }

    /// What Hubble calls its verdict.
    #[must_use]
    pub fn verdict(&self) -> FlowVerdict {
        match &self.aspect {
            Aspect::Verdict(judgement) if judgement.is_audited => FlowVerdict::Audit,
            Aspect::Verdict(judgement) if judgement.is_denial() => FlowVerdict::Dropped,
            Aspect::Drop(_) => FlowVerdict::Dropped,
            Aspect::Verdict(_) | Aspect::Trace(_) => FlowVerdict::Forwarded,
        }
    }

    /// Why it ended, for what did.
    #[must_use]
    pub fn drop(&self) -> Option<Drop> {
        if self.verdict() != FlowVerdict::Dropped {
            return None;
        }
        match self.event.record.kind {
            RecordKind::Drop(reason) | RecordKind::Revoked(reason) => Some(reason),
            RecordKind::Flow | RecordKind::Update | RecordKind::End(_) => None,
        }
    }

    /// Whether it is a reply; None where that is not known, or of no interest: for what ended.
    #[must_use]
    pub fn is_reply(&self) -> Option<bool> {
        match self.aspect {
            Aspect::Drop(_) => None,
            Aspect::Verdict(_) if self.verdict() == FlowVerdict::Dropped => None,
            // A verdict is asked for when a connection begins.
            Aspect::Verdict(_) => Some(false),
            Aspect::Trace(_) => Some(self.event.record.is_reply == Some(true)),
        }
    }

    /// The direction of the connection, as the end of this node sees it.
    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        let is_reply = self.event.record.is_reply == Some(true);
        let forward = match self.aspect {
            Aspect::Verdict(judgement) => return Some(judgement.direction),
            Aspect::Trace(Point::ToEndpoint) => Direction::Ingress,
            Aspect::Trace(_) => Direction::Egress,
            Aspect::Drop(_) => {
                let denial = Judgement::all(self.event).find(Judgement::is_denial);
                if let Some(denial) = denial {
                    return Some(denial.direction);
                }
                if self.event.record.ingress.is_some() {
                    Direction::Ingress
                } else if !self.source.pod_name.is_empty() {
                    Direction::Egress
                } else {
                    return None;
                }
            }
        };
        Some(match (forward, is_reply) {
            (Direction::Ingress, false) | (Direction::Egress, true) => Direction::Ingress,
            _ => Direction::Egress,
        })
    }

    /// Hubble's numbers for what is told: its type, and what of that type.
    #[must_use]
    pub fn event_type(&self) -> (i32, i32) {
        match self.aspect {
            Aspect::Drop(reason) => (1, i32::from(super::DropReason::of(reason).number)),
            Aspect::Trace(Point::ToEndpoint) => (4, 0),
            Aspect::Trace(Point::ToHost) => (4, 2),
            Aspect::Trace(Point::ToNetwork) => (4, 11),
            Aspect::Verdict(_) => (5, 0),
        }
    }

    /// How much of its rule an allowed connection had to match, by Hubble's numbers.
    #[must_use]
    pub fn match_type(&self) -> u32 {
        const ALL: u32 = 4;
        let Aspect::Verdict(judgement) = &self.aspect else {
            return 0;
        };
        let names = &self.event.names;
        match judgement.verdict.decision {
            Decision::DenyDefault | Decision::Conflict => return 0,
            Decision::AllowUnpoliced | Decision::AllowDefault => return ALL,
            _ => {}
        }
        let reach = judgement.verdict.rule.and_then(|rule| {
            let policy = names.policy_of(judgement.subject?)?;
            let tables = names.tables.as_deref()?;
            tables.rule_reach(policy, judgement.direction, rule)
        });
        match reach {
            Some((true, false)) => 1,
            Some((true, true)) => 2,
            Some((false, true)) => 3,
            Some((false, false)) | None => ALL,
        }
    }

    /// Its name: the same whenever and by whomever it is read.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        let aspect = match self.aspect {
            Aspect::Trace(_) => 0,
            Aspect::Verdict(judgement) => match judgement.direction {
                Direction::Egress => 1,
                Direction::Ingress => 2,
            },
            Aspect::Drop(_) => 3,
        };
        Uuid::of(self.event, aspect)
    }
}

impl Aspect {
    fn all(event: &Event, target: &str) -> impl Iterator<Item = Self> + use<> {
        let record = &event.record;
        let (verdicts, last) = match record.kind {
            RecordKind::Flow => (true, Self::Trace(Point::of(event, target))),
            RecordKind::Update | RecordKind::End(_) => {
                (false, Self::Trace(Point::of(event, target)))
            }
            RecordKind::Drop(reason) | RecordKind::Revoked(reason) => {
                (reason.is_denial(), Self::Drop(reason))
            }
        };
        Judgement::all(event)
            .filter(move |_| verdicts)
            .map(Self::Verdict)
            .chain(std::iter::once(last))
    }
}

impl Point {
    fn of(event: &Event, target: &str) -> Self {
        let record = &event.record;
        let is_here = record
            .to
            .is_some_and(|id| event.names.endpoints.contains_key(&id));
        if is_here || (record.to.is_none() && !target.is_empty()) {
            Self::ToEndpoint
        } else if record.destination_identity == Identity::HOST {
            Self::ToHost
        } else {
            Self::ToNetwork
        }
    }
}

impl<'a> Party<'a> {
    fn of(
        names: &'a Names,
        identity: Identity,
        endpoint: Option<EndpointId>,
        address: Option<IpAddr>,
        (protocol, port): (Option<Protocol>, u16),
    ) -> Self {
        let by_endpoint = endpoint
            .and_then(|id| names.endpoints.get(&id))
            .map(|(namespace, name, _)| (namespace.as_str(), name.as_str()));
        let by_address = || {
            let (namespace, name) = names.pods.get(&address?)?;
            Some((namespace.as_str(), name.as_str()))
        };
        let (namespace, pod_name) = by_endpoint.or_else(by_address).unwrap_or_default();
        let service = || names.service(address?, protocol?, port);
        Self {
            endpoint,
            identity,
            address,
            port: match protocol {
                Some(Protocol::Tcp | Protocol::Udp | Protocol::Sctp) => port,
                _ => 0,
            },
            namespace,
            pod_name,
            labels: names.labels(identity),
            names: &[],
            service: service(),
            made_by: &[],
        }
    }

    /// The workload of its pod, as far as its name tells: kind and name.
    ///
    /// A Deployment's pods are called after it, with a hash and five letters; a StatefulSet's, with
    /// a number; a DaemonSet's or a Job's, with five letters.
    #[must_use]
    pub fn workload(&self) -> Option<(&'static str, &'a str)> {
        super::workload::of(self.pod_name)
    }

    /// Kinds and names of what made its pod: as they are written down, else as its name tells.
    pub fn workloads(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let written = self.made_by.iter();
        let written = written.map(|one| (one.kind.as_str(), one.name.as_str()));
        let guessed = self.made_by.is_empty().then(|| self.workload()).flatten();
        written.chain(guessed.map(|(kind, name)| (kind as &str, name)))
    }

    /// Whether it belongs to the cluster.
    #[must_use]
    pub fn is_in_cluster(&self) -> bool {
        !self.pod_name.is_empty()
            || matches!(
                self.identity,
                Identity::HOST | Identity::REMOTE_NODE | Identity::KUBE_APISERVER
            )
            || self.identity.0 & Identity::REMOTE_NODE_LOCAL != 0
    }
}
