//! What is told of a packet: fixed size, no names; control joins them when it is read.

use crate::{Drop, EndpointId};
use portcullis_policy::{Generation, Identity, Protocol, Verdict};
use std::net::IpAddr;

/// Why the record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// A flow was allowed; told once, when its first packet goes out. A verdict of it that denies is
    /// only reported: the policy behind it is audited, not enforced.
    Flow,
    /// A flow that had been allowed was found forbidden by new tables.
    Revoked(Drop),
    /// A packet ended.
    Drop(Drop),
}

/// One new flow or one dropped packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Why it was written.
    pub kind: RecordKind,
    /// The tables that judged.
    pub generation: Generation,
    /// Where it came in; None when the packet was ours.
    pub from: Option<EndpointId>,
    /// Where it went or was to go, when that was known.
    pub to: Option<EndpointId>,
    /// Who sent it.
    pub source_identity: Identity,
    /// Whom it was for.
    pub destination_identity: Identity,
    /// Addresses of the packet, when they could be read.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// Its protocol, when it could be read.
    pub protocol: Option<Protocol>,
    /// Source and destination port; for ICMP zero and the type.
    pub ports: (u16, u16),
    /// What the policy of the source said, when it was asked: its egress policy, except for a
    /// connection that the other side began.
    pub egress: Option<Verdict>,
    /// What the policy of the destination said, when it was asked: its ingress policy, except for
    /// a connection that it began itself.
    pub ingress: Option<Verdict>,
    /// Bytes of the frame.
    pub length: u32,
}
