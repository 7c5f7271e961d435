//! What a packet's addresses and ports become on its way, and how policy sees it meanwhile.

use crate::packet::{Packet, Transport};
use crate::translation::{NewSession, SessionKind, SessionTicket, Tuple, Way};
use crate::{Datagram, Drop};
use std::net::IpAddr;

/// What is to be changed of a packet at one endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    /// Nothing.
    Nothing,
    /// A session that is there says what it becomes.
    Known {
        ticket: SessionTicket,
        way: Way,
        new: Tuple,
        /// Whether it leads a pod back to itself.
        is_hairpin: bool,
    },
    /// It begins a session, once all else has let it pass.
    Begins(NewSession),
    /// It is an ICMP error about a packet of a session.
    Error(ErrorChange),
}

/// What becomes of an ICMP error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorChange {
    /// The quoted packet, as whom the error is for had sent it.
    pub inner: Tuple,
    /// The sender, where it is the one that the quoted packet was for.
    pub source: Option<IpAddr>,
    /// Whom it is for.
    pub destination: Option<IpAddr>,
    /// Whether the session leads a pod back to itself.
    pub is_hairpin: bool,
}

/// A packet as policy sees it: after the change at its source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub packet: Packet,
    /// What the first fragment said, for one of the others.
    pub datagram: Option<Datagram>,
    /// What an ICMP error quotes, where that has been changed.
    pub inner: Option<Tuple>,
}

impl Change {
    /// The new tuple of a packet that has one.
    pub fn tuple(&self) -> Option<Tuple> {
        match self {
            Self::Known { new, .. } => Some(*new),
            Self::Begins(session) => Some(session.after),
            Self::Nothing | Self::Error(_) => None,
        }
    }

    /// Whether it is on the way of the packet that opened its session.
    pub fn is_forward(&self) -> bool {
        match self {
            Self::Known { way, .. } => *way == Way::Forward,
            Self::Begins(_) => true,
            Self::Nothing | Self::Error(_) => false,
        }
    }

    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Whether it leads a pod back to itself.
    pub fn is_hairpin(&self) -> bool {
        match self {
            Self::Known { is_hairpin, .. } => *is_hairpin,
            Self::Begins(session) => session.kind == SessionKind::Hairpin,
            Self::Error(error) => error.is_hairpin,
            Self::Nothing => false,
        }
    }

    /// The packet as it will be. Not a byte is changed yet: what goes wrong until then is told to
    /// the sender in its own words.
    pub fn seen(&self, packet: &Packet, datagram: Option<Datagram>) -> Seen {
        let mut seen = Seen {
            packet: *packet,
            datagram,
            inner: None,
        };
        if let Some(new) = self.tuple() {
            (seen.packet.source, seen.packet.destination) = (new.source, new.destination);
            seen.packet.transport = renamed(packet.transport, &new);
            if let Some(datagram) = &mut seen.datagram {
                datagram.ports = (new.source_port, new.destination_port);
            }
        }
        if let Self::Error(error) = self {
            seen.packet.source = error.source.unwrap_or(packet.source);
            seen.packet.destination = error.destination.unwrap_or(packet.destination);
            seen.inner = Some(error.inner);
        }
        seen
    }
}

/// The tuple of a packet, a later fragment's by what the first one said.
pub(crate) fn tuple_at(packet: &Packet, datagram: Option<Datagram>) -> Option<Tuple> {
    match datagram {
        // Messages other than echo have no ports: those in their key only stand for them.
        Some(datagram) if packet.is_later_fragment() && datagram.message != 0 => None,
        Some(datagram) if packet.is_later_fragment() => Some(Tuple {
            protocol: datagram.protocol().number(),
            source: packet.source,
            destination: packet.destination,
            source_port: datagram.ports.0,
            destination_port: datagram.ports.1,
        }),
        _ => Tuple::of(packet),
    }
}

/// A translation needs ports or an identifier.
///
/// # Errors
/// `FragmentUnknown` for a fragment whose datagram is not known, else `NatUntranslatable`.
pub(crate) fn tuple_or_drop(packet: &Packet, datagram: Option<Datagram>) -> Result<Tuple, Drop> {
    tuple_at(packet, datagram).ok_or(if packet.is_later_fragment() {
        Drop::FragmentUnknown
    } else {
        Drop::NatUntranslatable
    })
}

fn renamed(mut transport: Transport, new: &Tuple) -> Transport {
    match &mut transport {
        Transport::Tcp { ports, .. } | Transport::Udp { ports } | Transport::Sctp { ports } => {
            *ports = (new.source_port, new.destination_port);
        }
        Transport::Icmp(message) | Transport::Icmpv6(message) => {
            // One of the two is zero: a request goes from its identifier, a reply to it.
            message.identifier = new.source_port | new.destination_port;
        }
        Transport::LaterFragment(_) | Transport::Other(_) => {}
    }
    transport
}
