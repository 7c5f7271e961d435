//! What is told of a packet: fixed size, no names; control joins them when it is read.

use crate::packet::TcpFlags;
use crate::{Drop, EndpointId, Now};
use portcullis_policy::{Generation, Identity, Protocol, Verdict};
use std::net::IpAddr;

/// Why the record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// A flow was allowed; told once, when its first packet goes out. A verdict of it that denies is
    /// only reported: the policy behind it is audited, not enforced.
    Flow,
    /// A flow goes on: what has passed so far, told now and then while packets come.
    Update,
    /// A flow has ended, and how.
    End(Ending),
    /// A flow that had been allowed was found forbidden by new tables.
    Revoked(Drop),
    /// A packet ended.
    Drop(Drop),
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Both sides closed it.
    Finished,
    /// One side reset it.
    Reset,
    /// Nothing came for as long as its state allows.
    Idle,
    /// The handshake was never completed.
    Unanswered,
    /// Another flow needed its place.
    Evicted,
    /// Its endpoint went, or its tuple began another connection.
    Replaced,
}

/// What has passed in a flow, the side that began it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Packets, up to the largest number.
    pub packets: [u32; 2],
    /// Bytes of IP.
    pub bytes: [u64; 2],
    /// When it began, to a tenth of a second.
    pub opened: Now,
    /// From the SYN to its answer as this node saw them, in microseconds; zero when not known.
    pub round_trip_us: u32,
}

/// One event of a flow, or one dropped packet.
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
    /// Bytes of the frame; zero where the record is of no packet.
    pub length: u32,
    /// The packet's TCP flags.
    pub tcp_flags: TcpFlags,
    /// The packet's ICMP code; zero of any other, of later fragments, and where the record is of no
    /// packet.
    pub icmp_code: u8,
    /// Whether it was sent by the side that did not begin the flow; None where that is not known.
    pub is_reply: Option<bool>,
    /// What has passed so far: of flows that go on or have ended.
    pub totals: Totals,
}

impl Record {
    /// Nothing known yet.
    pub const BLANK: Self = Self {
        kind: RecordKind::Drop(Drop::NoTables),
        generation: Generation(0),
        from: None,
        to: None,
        source_identity: Identity::UNKNOWN,
        destination_identity: Identity::UNKNOWN,
        addresses: None,
        protocol: None,
        ports: (0, 0),
        egress: None,
        ingress: None,
        length: 0,
        tcp_flags: TcpFlags(0),
        icmp_code: 0,
        is_reply: None,
        totals: Totals {
            packets: [0; 2],
            bytes: [0; 2],
            opened: Now(0),
            round_trip_us: 0,
        },
    };
}

// It crosses a queue between threads for each new flow and each drop, never for a packet that passes.
const _: () = assert!(size_of::<Record>() <= 192);
