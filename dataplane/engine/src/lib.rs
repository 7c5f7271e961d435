//! One frame in, one outcome out. Pure: no I/O, no clock, no threads, no unsafe.
//!
//! A packet walks `receive → parse → steer → find → (on a miss) decide → rewrite → transmit →
//! record`; the first and the last but one are the daemon's. `Engine::egress` runs its first half
//! at the endpoint it came in at, `Engine::ingress` its second where it goes out.

mod address;
mod affinity;
mod arp;
mod backend_set;
mod checksum;
mod decide;
mod drop;
mod egress;
mod engine;
mod flow;
mod flow_key;
mod flow_table;
mod frame;
mod icmp_error;
mod ingress;
mod maglev;
mod neighbour_discovery;
mod notice;
mod outcome;
mod packet;
mod quoted;
mod record;
mod rewrite;
mod rule_hits;
mod segment;
mod service;
mod solicitation;
mod topology;
mod walk;

pub use affinity::AffinityTable;
pub use backend_set::{Backend, BackendSet, BackendState};
pub use checksum::{adjust, finish_checksum, sum};
pub use drop::Drop;
pub use engine::{Engine, EngineSettings};
pub use flow::FlowTimeouts;
pub use flow_table::FlowTicket;
pub use frame::FrameBytes;
pub use outcome::{Handover, Now, Outcome};
pub use packet::{IcmpMessage, Packet, Parsed, TcpFlags, Transport, parse};
pub use record::{Record, RecordKind};
pub use rule_hits::{RuleHit, RuleHits};
pub use segment::{segment, segments};
pub use service::{
    Frontend, FrontendConflict, FrontendKind, ServiceId, ServiceIndex, ServicePort, ServiceSpec,
    ServiceTable,
};
pub use solicitation::{SOLICITATION_LENGTH_MAX, solicit};
pub use topology::{
    Endpoint, EndpointId, EndpointIndex, EndpointKind, MacAddress, Neighbour, Route, Snapshot,
};
