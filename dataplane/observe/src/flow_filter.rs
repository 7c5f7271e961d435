//! Which flows a reader wants, in Hubble's fields and by Hubble's rules.

use super::expression::Language;
use super::filter_fields::checks;
use super::flow_check::Check;
use super::seen::Seen;
use super::sighting::FlowVerdict;
use serde::{Deserialize, Serialize};

/// Expressions of all filters together: each may cost as much for every flow.
const EXPRESSIONS_MAX: usize = 32;

/// All fields that are given must hold; of several values of one field, one.
///
/// The names are those of `flow.FlowFilter`, so a list that Hubble's users have works here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowFilter {
    /// Addresses or blocks.
    pub source_ip: Vec<String>,
    /// `namespace/prefix`, `prefix` in the namespace `default`, `namespace/`, `/prefix`, `/`.
    pub source_pod: Vec<String>,
    /// As `source_ip`.
    pub destination_ip: Vec<String>,
    /// As `source_pod`.
    pub destination_pod: Vec<String>,
    /// Verdicts.
    pub verdict: Vec<FlowVerdict>,
    /// Types of events.
    pub event_type: Vec<EventTypeFilter>,
    /// Names in which `*` stands for any part.
    pub source_fqdn: Vec<String>,
    /// As `source_fqdn`.
    pub destination_fqdn: Vec<String>,
    /// `404`, `5+`.
    pub http_status_code: Vec<String>,
    /// Label selectors.
    pub source_label: Vec<String>,
    /// As `source_label`.
    pub destination_label: Vec<String>,
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv4`, `icmpv6`, `vrrp`, `igmp`, `dns`, `http`, `kafka`.
    pub protocol: Vec<String>,
    /// Ports.
    pub source_port: Vec<String>,
    /// As `source_port`.
    pub destination_port: Vec<String>,
    /// Whether it is a reply. What was dropped counts as none.
    pub reply: Vec<bool>,
    /// Services, written as pods are.
    pub source_service: Vec<String>,
    /// As `source_service`.
    pub destination_service: Vec<String>,
    /// Regular expressions.
    pub dns_query: Vec<String>,
    /// Numbers of identities.
    pub source_identity: Vec<u32>,
    /// As `source_identity`.
    pub destination_identity: Vec<u32>,
    /// In any letters.
    pub http_method: Vec<String>,
    /// Regular expressions.
    pub http_path: Vec<String>,
    /// Flags that must be set; others may be.
    pub tcp_flags: Vec<TcpFlagsFilter>,
    /// `cluster/node`, with `*`; `node` in the cluster `default`.
    pub node_name: Vec<String>,
    /// `IPv4` or `IPv6`.
    pub ip_version: Vec<IpVersion>,
    /// Name, kind, or both.
    pub source_workload: Vec<WorkloadFilter>,
    /// As `source_workload`.
    pub destination_workload: Vec<WorkloadFilter>,
    /// Trace identifiers of HTTP.
    pub trace_id: Vec<String>,
    /// Names of flows.
    pub uuid: Vec<String>,
    /// Directions.
    pub traffic_direction: Vec<TrafficDirection>,
    /// Regular expressions.
    pub http_url: Vec<String>,
    /// Headers, exactly.
    pub http_header: Vec<HeaderFilter>,
    /// Names of `flow.DropReason`; what they are about was dropped.
    pub drop_reason_desc: Vec<String>,
    /// As `source_ip`, of translated addresses.
    pub source_ip_xlated: Vec<String>,
    /// Interfaces by number, name, or both.
    pub interface: Vec<InterfaceFilter>,
    /// Label selectors.
    pub node_labels: Vec<String>,
    /// Names of clusters.
    pub source_cluster_name: Vec<String>,
    /// As `source_cluster_name`.
    pub destination_cluster_name: Vec<String>,
    /// Numbers from an IP option.
    pub ip_trace_id: Vec<u64>,
    /// Whether the packet was encrypted between nodes.
    pub encrypted: Vec<bool>,
    /// What has no stable form.
    pub experimental: Option<ExperimentalFilter>,
}

/// A type of events, and perhaps what of that type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventTypeFilter {
    /// Hubble's number; zero for any.
    #[serde(rename = "type")]
    pub kind: i32,
    /// Whether `sub_type` counts: zero is a sub-type, too.
    pub match_sub_type: bool,
    /// Hubble's number.
    pub sub_type: i32,
}

/// Flags that must be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "UPPERCASE")]
#[allow(clippy::struct_excessive_bools, missing_docs)]
pub struct TcpFlagsFilter {
    pub fin: bool,
    pub syn: bool,
    pub rst: bool,
    pub psh: bool,
    pub ack: bool,
    pub urg: bool,
    pub ece: bool,
    pub cwr: bool,
    pub ns: bool,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpVersion {
    /// No address could be read.
    #[serde(rename = "IP_NOT_USED")]
    NotUsed,
    /// [RFC 791]
    #[serde(rename = "IPv4")]
    V4,
    /// [RFC 8200]
    #[serde(rename = "IPv6")]
    V6,
}

/// A direction, as the end of the node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TrafficDirection {
    /// Not known.
    TrafficDirectionUnknown,
    /// Towards it.
    Ingress,
    /// From it.
    Egress,
}

/// A workload; what is empty does not count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkloadFilter {
    /// Its name.
    pub name: String,
    /// `Deployment` and so on.
    pub kind: String,
}

/// A header of HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderFilter {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// An interface; zero and empty do not count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InterfaceFilter {
    /// The kernel's number.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// What has no stable form.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExperimentalFilter {
    /// Expressions of the Common Expression Language.
    pub cel_expression: Vec<String>,
}

/// The node whose flows are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Its name.
    pub node: String,
    /// The cluster's.
    pub cluster: String,
}

/// A filter that was understood.
#[derive(Debug)]
pub struct FlowMatcher(Vec<Check>);

/// Of all flows those that any of the first filters wants, without those that any of the second does.
#[derive(Debug, Default)]
pub struct FlowChoice {
    allow: Vec<FlowMatcher>,
    deny: Vec<FlowMatcher>,
    has_expressions: bool,
}

impl FlowFilter {
    /// Reads the values.
    ///
    /// # Errors
    /// The field, what it may hold, and what it does.
    pub fn compile(&self, home: &Home, language: Language) -> Result<FlowMatcher, String> {
        checks(self, home, language).map(FlowMatcher)
    }

    pub(crate) fn expressions(&self) -> &[String] {
        let more = self.experimental.as_ref();
        more.map_or(&[], |more| &more.cel_expression)
    }
}

impl FlowMatcher {
    /// Whether it is wanted.
    #[must_use]
    pub fn matches(&self, seen: &impl Seen) -> bool {
        self.0.iter().all(|check| check.holds(seen))
    }
}

impl FlowChoice {
    /// Reads lists of filters; an empty first list wants everything.
    ///
    /// # Errors
    /// The list, the place in it, and what `FlowFilter::compile` says.
    pub fn compile(
        whitelist: &[FlowFilter],
        blacklist: &[FlowFilter],
        home: &Home,
        language: Language,
    ) -> Result<Self, String> {
        let lists = whitelist.iter().chain(blacklist);
        let expressions: usize = lists.map(|filter| filter.expressions().len()).sum();
        if expressions > EXPRESSIONS_MAX {
            return Err(format!(
                "experimental.cel_expression: expected at most {EXPRESSIONS_MAX} in all filters, \
                 found {expressions}"
            ));
        }
        let all = |name: &str, list: &[FlowFilter]| -> Result<Vec<FlowMatcher>, String> {
            list.iter()
                .enumerate()
                .map(|(place, filter)| {
                    filter
                        .compile(home, language)
                        .map_err(|e| format!("{name}[{place}].{e}"))
                })
                .collect()
        };
        Ok(Self {
            allow: all("whitelist", whitelist)?,
            deny: all("blacklist", blacklist)?,
            has_expressions: expressions > 0,
        })
    }

    /// Whether it may take its time over a flow.
    #[must_use]
    pub const fn has_expressions(&self) -> bool {
        self.has_expressions
    }

    /// Whether it is wanted.
    #[must_use]
    pub fn wants(&self, seen: &impl Seen) -> bool {
        (self.allow.is_empty() || self.allow.iter().any(|one| one.matches(seen)))
            && !self.deny.iter().any(|one| one.matches(seen))
    }
}
