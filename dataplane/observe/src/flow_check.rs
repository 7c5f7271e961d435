//! The fields of a filter once their values are read: each a question about what was seen.

use super::expression::Expression;
use super::flow_filter::{
    EventTypeFilter, InterfaceFilter, IpVersion, TrafficDirection, WorkloadFilter,
};
use super::glob::Glob;
use super::label_selector::LabelSelector;
use super::seen::Seen;
use super::sighting::{FlowVerdict, Party};
use super::uuid::Uuid;
use portcullis_policy::{Cidr, Direction, Protocol};
use std::net::IpAddr;

/// Which end is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Source,
    Destination,
}

impl End {
    fn of(self, seen: &impl Seen) -> Party<'_> {
        match self {
            Self::Source => seen.source(),
            Self::Destination => seen.destination(),
        }
    }
}

/// One field; one of its values must fit.
#[derive(Debug)]
pub(crate) enum Check {
    Verdict(Vec<FlowVerdict>),
    EventType(Vec<EventTypeFilter>),
    DropReason(Vec<String>),
    Protocol(Vec<Layer>),
    Port(End, Vec<u16>),
    Identity(End, Vec<u32>),
    Reply(Vec<bool>),
    TcpFlags(Vec<u16>),
    IpVersion(Vec<IpVersion>),
    Direction(Vec<TrafficDirection>),
    Address(End, Vec<Cidr>),
    Pod(End, Vec<PodPattern>),
    Service(End, Vec<PodPattern>),
    Label(End, Vec<LabelSelector>),
    Name(End, Vec<Glob>),
    Workload(End, Vec<WorkloadFilter>),
    Cluster(End, bool),
    Encrypted(bool),
    Interface(Vec<InterfaceFilter>),
    NodeLabel(Vec<LabelSelector>),
    Uuid(Vec<Uuid>),
    Expression(Box<dyn Expression>),
    /// What is never seen here, such as HTTP; or another node.
    Never,
}

/// A protocol by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Is(Protocol),
    AnyIcmp,
    /// Above TCP and UDP.
    L7,
}

/// `namespace/prefix`; what is empty does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodPattern {
    namespace: String,
    prefix: String,
}

impl PodPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("expected namespace/prefix, found \"\"".into());
        }
        let (namespace, prefix) = text.split_once('/').unwrap_or(("default", text));
        Ok(Self {
            namespace: namespace.into(),
            prefix: prefix.into(),
        })
    }

    fn matches(&self, namespace: &str, name: &str) -> bool {
        (!namespace.is_empty() || !name.is_empty())
            && (self.namespace.is_empty() || self.namespace == namespace)
            && name.starts_with(&self.prefix)
    }
}

impl Check {
    /// Whether it holds of what was seen.
    pub(crate) fn holds(&self, seen: &impl Seen) -> bool {
        match self {
            Self::Verdict(wanted) => wanted.contains(&seen.verdict()),
            Self::EventType(wanted) => {
                let (kind, sub_type) = seen.event_type();
                wanted.iter().any(|one| {
                    (one.kind == 0 || one.kind == kind)
                        && (!one.match_sub_type || one.sub_type == sub_type)
                })
            }
            Self::DropReason(wanted) => seen
                .drop_reason()
                .is_some_and(|name| wanted.iter().any(|one| one == name)),
            Self::Protocol(wanted) => wanted.iter().any(|one| one.is_of(seen.protocol())),
            Self::Port(end, wanted) => {
                let port = end.of(seen).port;
                has_ports(seen.protocol()) && wanted.contains(&port)
            }
            Self::Identity(end, wanted) => wanted.contains(&end.of(seen).identity.0),
            Self::Reply(wanted) => {
                let is_reply = match seen.is_reply() {
                    None if seen.verdict() == FlowVerdict::Dropped => Some(false),
                    known => known,
                };
                is_reply.is_some_and(|is_reply| wanted.contains(&is_reply))
            }
            Self::TcpFlags(wanted) => {
                let flags = u16::from(seen.tcp_flags());
                seen.protocol() == Some(Protocol::Tcp)
                    && wanted.iter().any(|one| flags & one == *one)
            }
            Self::IpVersion(wanted) => {
                let version = match seen.source().address {
                    None => IpVersion::NotUsed,
                    Some(IpAddr::V4(_)) => IpVersion::V4,
                    Some(IpAddr::V6(_)) => IpVersion::V6,
                };
                wanted.contains(&version)
            }
            Self::Direction(wanted) => wanted.contains(&match seen.direction() {
                None => TrafficDirection::TrafficDirectionUnknown,
                Some(Direction::Ingress) => TrafficDirection::Ingress,
                Some(Direction::Egress) => TrafficDirection::Egress,
            }),
            Self::Uuid(wanted) => seen.uuid().is_some_and(|uuid| wanted.contains(&uuid)),
            Self::Encrypted(wanted) => seen.source().address.is_some() && !wanted,
            Self::Interface(wanted) => seen.interface().is_some_and(|(index, name)| {
                wanted.iter().any(|one| {
                    (one.index == 0 || one.index == index)
                        && (one.name.is_empty() || one.name == name)
                })
            }),
            Self::NodeLabel(wanted) => {
                let labels = seen.node_labels();
                wanted.iter().any(|one| one.matches(labels))
            }
            Self::Expression(wanted) => wanted.holds(&seen.origin()),
            Self::Never => false,
            Self::Address(end, _)
            | Self::Pod(end, _)
            | Self::Service(end, _)
            | Self::Label(end, _)
            | Self::Name(end, _)
            | Self::Workload(end, _)
            | Self::Cluster(end, _) => self.holds_of(&end.of(seen)),
        }
    }

    /// Whether it holds of the end that it is about.
    fn holds_of(&self, party: &Party<'_>) -> bool {
        match self {
            Self::Address(_, wanted) => party
                .address
                .is_some_and(|address| wanted.iter().any(|one| one.has_address(address))),
            Self::Pod(_, wanted) => wanted
                .iter()
                .any(|one| one.matches(party.namespace, party.pod_name)),
            Self::Service(_, wanted) => party.service.is_some_and(|(namespace, name)| {
                wanted.iter().any(|one| one.matches(namespace, name))
            }),
            Self::Label(_, wanted) => wanted.iter().any(|one| one.matches(party.labels)),
            Self::Name(_, wanted) => party
                .names
                .iter()
                .any(|name| wanted.iter().any(|one| one.matches(name))),
            Self::Workload(_, wanted) => party.workloads().any(|(kind, name)| {
                wanted.iter().any(|one| {
                    (one.kind.is_empty() || one.kind == kind)
                        && (one.name.is_empty() || one.name == name)
                })
            }),
            Self::Cluster(_, is_ours) => *is_ours && party.is_in_cluster(),
            _ => false,
        }
    }
}

impl Layer {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "tcp" => Self::Is(Protocol::Tcp),
            "udp" => Self::Is(Protocol::Udp),
            "sctp" => Self::Is(Protocol::Sctp),
            "icmp" => Self::AnyIcmp,
            "icmpv4" => Self::Is(Protocol::Icmp),
            "icmpv6" => Self::Is(Protocol::Icmpv6),
            "vrrp" => Self::Is(Protocol::Other(112)),
            "igmp" => Self::Is(Protocol::Other(2)),
            "dns" | "http" | "kafka" => Self::L7,
            _ => {
                return Err(format!(
                    "expected tcp, udp, sctp, icmp, icmpv4, icmpv6, vrrp, igmp, dns, http or kafka, \
                     found \"{text}\""
                ));
            }
        })
    }

    fn is_of(self, protocol: Option<Protocol>) -> bool {
        match self {
            Self::Is(wanted) => protocol == Some(wanted),
            Self::AnyIcmp => matches!(protocol, Some(Protocol::Icmp | Protocol::Icmpv6)),
            Self::L7 => false,
        }
    }
}

const fn has_ports(protocol: Option<Protocol>) -> bool {
    matches!(
        protocol,
        Some(Protocol::Tcp | Protocol::Udp | Protocol::Sctp)
    )
}
