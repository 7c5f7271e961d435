//! Translation: what a packet's addresses and ports become at an endpoint, and back.
//!
//! One structure serves source translation, node ports, services and hairpins: a session turns
//! `before` into `after`, and the reply to `after` into the reply to `before`.

mod sessions;
mod shares;
mod source;
mod state;
mod table;

use crate::packet::{Packet, Transport};
use crate::quoted::{Quoted, QuotedTransport};
use crate::{EndpointId, Now};
use std::net::IpAddr;

pub(crate) use sessions::{InsertError, NewSession, SessionSettings, Sessions};
pub(crate) use source::{Source, pick_address};
pub use state::{SessionState, SessionTimeouts};
pub use table::SessionTicket;

/// Who sends to whom, as the headers say. For an echo the identifier is the asker's port, and the
/// other port zero: a request goes from (identifier, 0), its reply from (0, identifier).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// IP protocol number.
    pub protocol: u8,
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The source port.
    pub source_port: u16,
    /// The destination port.
    pub destination_port: u16,
}

impl Tuple {
    /// The tuple of the answer.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            protocol: self.protocol,
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }

    /// The tuple of a packet. None for what cannot be translated by its own headers: later
    /// fragments, ICMP other than echo, protocols that are not forwarded.
    pub(crate) fn of(packet: &Packet) -> Option<Self> {
        let (source_port, destination_port) = match packet.transport {
            Transport::Tcp { ports, .. } | Transport::Udp { ports } | Transport::Sctp { ports } => {
                ports
            }
            Transport::Icmp(icmp) | Transport::Icmpv6(icmp) => {
                echo_ports(packet.source, icmp.kind, icmp.identifier)?
            }
            Transport::LaterFragment(_) | Transport::Other(_) => return None,
        };
        Some(Self {
            protocol: packet.protocol().number(),
            source: packet.source,
            destination: packet.destination,
            source_port,
            destination_port,
        })
    }

    /// The tuple of the packet that an ICMP error quotes, as its sender sent it.
    pub(crate) fn of_quoted(quoted: &Quoted) -> Option<Self> {
        let (protocol, (source_port, destination_port)) = match quoted.transport {
            QuotedTransport::Ports(protocol, ports) => (protocol, ports),
            QuotedTransport::Icmp(protocol, icmp) => (
                protocol,
                echo_ports(quoted.source, icmp.kind, icmp.identifier)?,
            ),
        };
        Some(Self {
            protocol: protocol.number(),
            source: quoted.source,
            destination: quoted.destination,
            source_port,
            destination_port,
        })
    }
}

/// The ports that stand for an echo; None for other messages. [RFC 792; RFC 4443 §4]
fn echo_ports(family: IpAddr, kind: u8, identifier: u16) -> Option<(u16, u16)> {
    match (family, kind) {
        (IpAddr::V4(_), 8) | (IpAddr::V6(_), 128) => Some((identifier, 0)),
        (IpAddr::V4(_), 0) | (IpAddr::V6(_), 129) => Some((0, identifier)),
        _ => None,
    }
}

/// The way of a packet through a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// As the packet that opened it: `before` becomes `after`.
    Forward,
    /// Back: the reply to `after` becomes the reply to `before`.
    Reply,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// A pod's way out under the node's own address.
    Masquerade,
    /// A pod's way out under an address that an egress gateway policy gave.
    Gateway,
    /// From outside to a port of the node.
    NodePort,
    /// From a pod to a service.
    Service,
    /// From a pod to a service that led back to itself.
    Hairpin,
}

impl SessionKind {
    /// The name in metrics and JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Masquerade => "masquerade",
            Self::Gateway => "gateway",
            Self::NodePort => "node_port",
            Self::Service => "service",
            Self::Hairpin => "hairpin",
        }
    }
}

/// Packets and their bytes of IP, one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes, IP headers included.
    pub bytes: u64,
}

/// One translation at one endpoint, while its flow lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub before: Tuple,
    pub after: Tuple,
    pub endpoint: EndpointId,
    /// The endpoint whose share of the table it takes.
    pub charged: EndpointId,
    /// The number of the service or the policy that it serves; for people.
    pub owner: u32,
    pub kind: SessionKind,
    pub state: SessionState,
    pub opened: Now,
    pub seen: Now,
    pub forward: Traffic,
    pub reply: Traffic,
}

const _: () = assert!(size_of::<Session>() <= 144);

impl Session {
    /// What a packet that goes this way becomes.
    pub fn translated(&self, way: Way) -> Tuple {
        match way {
            Way::Forward => self.after,
            Way::Reply => self.before.reversed(),
        }
    }

    /// What a packet that goes this way is before it is translated.
    pub fn key(&self, way: Way) -> Tuple {
        match way {
            Way::Forward => self.before,
            Way::Reply => self.after.reversed(),
        }
    }
}

/// A session as people and metrics see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionView {
    /// The endpoint at which it translates.
    pub endpoint: EndpointId,
    /// The endpoint whose share of the table it takes.
    pub charged: EndpointId,
    /// The packet that opened it, as it came.
    pub before: Tuple,
    /// The same packet, as it went on.
    pub after: Tuple,
    /// What it is for.
    pub kind: SessionKind,
    /// The number of the service or the policy that it serves.
    pub owner: u32,
    /// How far it has come.
    pub state: SessionState,
    /// When it was opened.
    pub opened: Now,
    /// When its last packet came.
    pub seen: Now,
    /// From `before` to `after`.
    pub forward: Traffic,
    /// Back.
    pub reply: Traffic,
}

impl From<&Session> for SessionView {
    fn from(session: &Session) -> Self {
        Self {
            endpoint: session.endpoint,
            charged: session.charged,
            before: session.before,
            after: session.after,
            kind: session.kind,
            owner: session.owner,
            state: session.state,
            opened: session.opened,
            seen: session.seen,
            forward: session.forward,
            reply: session.reply,
        }
    }
}

#[cfg(test)]
mod tests;
