//! What a policy means: documents become rules, rules become immutable tables. Pure: no I/O, no
//! clock, no threads.
//!
//! A policy walks `parse_document → rules → assign_identities → compile`; what comes before
//! (`next`) and after (`publish → adopt → acknowledge`) is the daemon's.

#![forbid(unsafe_code)]

mod allocator;
mod cidr;
mod compile;
mod compiler;
mod document;
mod error;
mod identity;
mod label;
mod manifest;
mod member;
mod population;
mod ports;
#[cfg(test)]
mod read_rules;
mod rule;
mod selector;
mod settings;
mod tables;
#[cfg(test)]
mod tables_tests;
mod verdict;

pub use allocator::IdentityAllocator;
pub use cidr::{Cidr, Family};
pub use compile::compile;
pub use document::{Document, DocumentOrigin, NamedPort, Namespace, Object, Pod};
pub use error::{DocumentError, Warning};
pub use identity::Identity;
pub use label::{Label, LabelSource};
pub use manifest::{lint, parse_documents};
pub use rule::{
    Entity, Half, Item, Peer, Peers, Policy, PortMatch, PortProtocol, Ports, Rule, Section, Traffic,
};
pub use selector::{KeySource, Operator, Requirement, Selector};
pub use settings::{AllowLocalhost, Compat, EnforcementMode, NodeFacts, Settings};
pub use tables::{RuleOrigin, Tables};
pub use verdict::{Decision, Direction, Generation, PolicyIndex, Protocol, RuleId, Verdict};
