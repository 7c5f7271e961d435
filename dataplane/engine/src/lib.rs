//! One frame in, one outcome out. Pure: no I/O, no clock, no threads, no unsafe.
//!
//! A packet walks `receive → parse → steer → find → (on a miss) decide → rewrite → transmit →
//! record`; the first and the last but one are the daemon's. `Engine::egress` runs its first half
//! at the endpoint it came in at, `Engine::ingress` its second where it goes out.

mod address;
mod affinity;
mod arp;
mod backend_set;
mod change;
mod checksum;
mod decide;
mod drop;
mod egress;
mod endings;
mod engine;
mod exit_plan;
mod extension_headers;
mod flow;
mod flow_hash;
mod flow_index;
mod flow_key;
mod flow_quota;
mod flow_table;
mod flow_timeouts;
mod flow_view;
mod flow_wheel;
mod fragment;
mod fragment_table;
mod frame;
mod gauge;
mod glance;
mod hold;
mod icmp_error;
mod ingress;
mod links;
mod maglev;
mod nat_ports;
mod neighbour_discovery;
mod notice;
mod order;
mod outcome;
mod packet;
mod quoted;
mod record;
mod reset;
mod revoke;
mod rewrite;
mod round_trip;
mod rule_hits;
mod segment;
mod service;
mod shortcut;
mod solicitation;
mod tcp_header;
mod tcp_state;
mod topology;
mod translate;
mod translation;
mod walk;
mod walk_fragment;
mod walk_service;
mod walk_translation;
mod wheel;

pub use affinity::AffinityTable;
pub use backend_set::{Backend, BackendSet, BackendState};
pub use checksum::{adjust, finish_checksum, sum};
pub use drop::Drop;
pub use engine::{Engine, EngineSettings};
pub use exit_plan::{ExitPlan, ExitReason, GatewayPlace};
pub use flow::{ResetNumbers, Side};
pub use flow_quota::FlowTableGauges;
pub use flow_table::FlowTicket;
pub use flow_timeouts::FlowTimeouts;
pub use flow_view::FlowView;
pub use fragment::{Datagram, Fragment};
pub use frame::FrameBytes;
pub use gauge::{Gauge, Limit};
pub use hold::{HOLDS_MAX, HoldSlot, Released};
pub use nat_ports::{DestinationUse, PortRange};
pub use notice::CrowdedDestination;
pub use outcome::{Checksum, Handover, Now, Outcome};
pub use packet::{IcmpMessage, Packet, Parsed, TcpFlags, Transport, parse};
pub use record::{Ending, Record, RecordKind, Totals};
pub use reset::Reset;
pub use rule_hits::{RuleHit, RuleHits};
pub use segment::{segment, segments};
pub use service::{
    Frontend, FrontendConflict, FrontendKind, ServiceId, ServiceIndex, ServicePort, ServiceSpec,
    ServiceTable,
};
pub use shortcut::Foreseen;
pub use solicitation::{SOLICITATION_LENGTH_MAX, solicit};
pub use tcp_state::FlowState;
pub use topology::{
    Endpoint, EndpointId, EndpointIndex, EndpointKind, MacAddress, Neighbour, Route, Snapshot,
};
pub use translation::{
    SessionKind, SessionState, SessionTicket, SessionTimeouts, SessionView, Traffic, Tuple, Way,
};
