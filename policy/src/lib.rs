//! What a policy means: documents become rules, rules become immutable tables. Pure: no I/O, no
//! clock, no threads.
//!
//! A policy walks `parse_document → rules → assign_identities → compile`; what comes before
//! (`next`) and after (`publish → adopt → acknowledge`) is the daemon's.

#![forbid(unsafe_code)]

mod allocator;
mod bits;
mod cidr;
mod compile;
mod compiler;
mod differences;
mod document;
mod egress_gateway;
mod error;
mod explain;
mod half;
mod halves;
mod http;
mod identity;
mod inspection;
mod label;
mod manifest;
mod member;
mod name_cache;
mod name_pattern;
mod pod_labels;
mod population;
mod ports;
#[cfg(test)]
mod random_worlds;
#[cfg(test)]
mod read_matches;
#[cfg(test)]
mod read_rules;
mod requests;
mod resolve;
mod rule;
mod rulebook;
mod schema;
mod selector;
mod sets;
mod settings;
mod subjects;
mod surroundings;
mod tables;
#[cfg(test)]
mod tables_tests;
mod verdict;
mod world_lint;

pub use allocator::IdentityAllocator;
pub use cidr::{Cidr, Family};
pub use compile::{compile, compile_with_names};
pub use compiler::{Change, Compiler, ObjectKey};
pub use document::{
    BackendEndpoint, BackendGroup, BackendPort, Backends, CidrGroup, ClusterNode, Document,
    DocumentOrigin, NamedPort, Namespace, Object, Pod, Readiness, Service, ServiceKind,
    ServicePort, TargetPort, TrafficScope,
};
pub use egress_gateway::{
    EgressGatewayPolicy, EgressRoute, EgressSubject, Exit, ExitChoice, ExitPlace, Gateway, Source,
};
pub use error::{DocumentError, Warning};
pub use explain::{Explanation, Miss};
pub use http::{ExpressionError, HttpMatcher, HttpRequest};
pub use identity::Identity;
pub use inspection::{
    Filter, HeaderMatch, HttpRule, Inspection, Listener, Mismatch, Proxy, SecretName, TlsContext,
};
pub use label::{Label, LabelSource};
pub use manifest::{lint, parse_documents};
pub use name_cache::{NameCache, NameCacheFull, NameCacheSettings, Seconds};
pub use name_pattern::NamePattern;
pub use requests::{DnsVerdict, HttpVerdict};
pub use resolve::KnownNames;
pub use rule::{
    Action, Authentication, Entity, Groups, Half, Item, Order, Peer, Peers, Policy, PortMatch,
    PortProtocol, Ports, Rule, Section, ServiceChoice, Services, Tier, Traffic,
};
pub use schema::custom_resource_definitions;
pub use selector::{KeySource, Operator, Requirement, Selector};
pub use settings::{AllowLocalhost, Compat, EnforcementMode, NodeFacts, Settings};
pub use tables::{RuleOrigin, Tables};
pub use verdict::{Decision, Direction, Generation, PolicyIndex, Proof, Protocol, RuleId, Verdict};
