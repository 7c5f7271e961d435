//! What names a flow, and how a packet finds the name of its own.

use crate::EndpointId;
use crate::flow::Side;
use crate::flow_hash::FlowHasher;
use crate::fragment::Datagram;
use crate::packet::{Packet, TcpFlags, Transport};
use crate::quoted::{Quoted, QuotedTransport};
use portcullis_policy::Protocol;
use std::net::IpAddr;

/// What names a flow at one endpoint, in the very bytes that are hashed and compared: endpoint,
/// protocol, message, ports, addresses.
///
/// An IPv4 address stands in sixteen bytes as IPv6 maps it, which no IPv6 address that is let in
/// does (`address::is_martian`). The message is the ICMP type of a message that is neither echo
/// nor error; else zero.
#[derive(Debug, Clone, Copy, Eq)]
pub(crate) struct FlowKey([u8; KEY_LENGTH]);

impl PartialEq for FlowKey {
    /// Word by word: comparing so few bytes by a call takes twice as long.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        // The last two overlap.
        const WORDS_AT: [usize; 6] = [0, 8, 16, 24, 32, KEY_LENGTH - 8];
        let word = |key: &Self, at: usize| {
            let bytes = key.0[at..].first_chunk().copied();
            u64::from_ne_bytes(bytes.expect("within the key"))
        };
        let differs = |at| word(self, at) ^ word(other, at);
        WORDS_AT.into_iter().fold(0, |all, at| all | differs(at)) == 0
    }
}

const KEY_LENGTH: usize = 42;
const LOCAL_AT: usize = 10;
const REMOTE_AT: usize = 26;
/// Where the sixteen bytes of an IPv4 address differ from those of another.
const IPV4_AT: usize = 12;

/// What a packet is to the flow that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Always the first of a flow, whoever sent it: TCP SYN, echo request.
    Opens,
    /// The first of a flow when there is none: UDP, SCTP, other ICMP.
    MayOpen,
    /// Part of a flow that must exist: the other segments of TCP.
    Continues(TcpFlags),
    /// The answer in a flow that must exist: echo reply.
    Answers,
}

/// The ports that stand for a packet in a flow's key, and its role.
pub(crate) struct Tuple {
    pub ports: (u16, u16),
    pub message: u8,
    pub role: Role,
}

/// How a packet finds its flow. None for what has no flow of its own: ICMP errors, fragments
/// after the first, protocols that are not forwarded.
pub(crate) fn tuple_of(packet: &Packet) -> Option<Tuple> {
    if packet.is_icmp_error() {
        return None;
    }
    let (ports, message, role) = match packet.transport {
        Transport::Tcp { ports, flags, .. } if flags.is_opening() => (ports, 0, Role::Opens),
        Transport::Tcp { ports, flags, .. } => (ports, 0, Role::Continues(flags)),
        Transport::Udp { ports } | Transport::Sctp { ports } => (ports, 0, Role::MayOpen),
        Transport::Icmp(icmp) => icmp_tuple(icmp.kind, icmp.identifier, 8, 0),
        Transport::Icmpv6(icmp) => icmp_tuple(icmp.kind, icmp.identifier, 128, 129),
        Transport::LaterFragment(_) | Transport::Other(_) => return None,
    };
    Some(Tuple {
        ports,
        message,
        role,
    })
}

/// An echo is a flow from its identifier to zero, so that both ends may ping each other with one
/// identifier; any other message is a flow of its type from one to zero, which nothing answers.
fn icmp_tuple(kind: u8, identifier: u16, request: u8, reply: u8) -> ((u16, u16), u8, Role) {
    if kind == request {
        ((identifier, 0), 0, Role::Opens)
    } else if kind == reply {
        ((0, identifier), 0, Role::Answers)
    } else {
        ((1, 0), kind, Role::MayOpen)
    }
}

impl FlowKey {
    /// The key at an endpoint of a packet that `sender` sent.
    pub fn of(endpoint: EndpointId, sender: Side, packet: &Packet, tuple: &Tuple) -> Self {
        Self::between(
            endpoint,
            sender,
            packet.protocol().number(),
            tuple.message,
            (packet.source, packet.destination),
            tuple.ports,
        )
    }

    /// The key at an endpoint of a fragment of this datagram that `sender` sent.
    pub fn of_datagram(
        endpoint: EndpointId,
        sender: Side,
        packet: &Packet,
        datagram: &Datagram,
    ) -> Self {
        Self::between(
            endpoint,
            sender,
            datagram.protocol,
            datagram.message,
            (packet.source, packet.destination),
            datagram.ports,
        )
    }

    /// The key at an endpoint of the packet that an ICMP error quotes; `sender` had sent it.
    pub fn of_quoted(endpoint: EndpointId, sender: Side, quoted: &Quoted) -> Self {
        let (protocol, ports, message) = match quoted.transport {
            QuotedTransport::Ports(protocol, ports) => (protocol, ports, 0),
            QuotedTransport::Icmp(protocol, icmp) => {
                let (request, reply) = match quoted.source {
                    IpAddr::V4(_) => (8, 0),
                    IpAddr::V6(_) => (128, 129),
                };
                let (ports, message, _) = icmp_tuple(icmp.kind, icmp.identifier, request, reply);
                (protocol, ports, message)
            }
        };
        Self::between(
            endpoint,
            sender,
            protocol.number(),
            message,
            (quoted.source, quoted.destination),
            ports,
        )
    }

    /// The key of a packet with these ends, source first.
    pub fn between(
        endpoint: EndpointId,
        sender: Side,
        protocol: u8,
        message: u8,
        addresses: (IpAddr, IpAddr),
        ports: (u16, u16),
    ) -> Self {
        let (local, remote, local_port, remote_port) = match sender {
            Side::Local => (addresses.0, addresses.1, ports.0, ports.1),
            Side::Remote => (addresses.1, addresses.0, ports.1, ports.0),
        };
        let mut bytes = [0; KEY_LENGTH];
        bytes[..4].copy_from_slice(&endpoint.0.to_ne_bytes());
        bytes[4] = protocol;
        bytes[5] = message;
        bytes[6..8].copy_from_slice(&local_port.to_ne_bytes());
        bytes[8..10].copy_from_slice(&remote_port.to_ne_bytes());
        bytes[LOCAL_AT..REMOTE_AT].copy_from_slice(&octets(local));
        bytes[REMOTE_AT..].copy_from_slice(&octets(remote));
        Self(bytes)
    }

    /// The key at an endpoint of what it has sent itself: addresses and ports as they stand in the
    /// packet, source first.
    #[inline]
    pub fn sent_ipv4(
        endpoint: EndpointId,
        protocol: u8,
        addresses: &[u8; 8],
        ports: &[u8; 4],
    ) -> Self {
        let mut bytes = Self::sent(endpoint, protocol, ports);
        for (at, octets) in [(LOCAL_AT, &addresses[..4]), (REMOTE_AT, &addresses[4..])] {
            bytes[at..at + IPV4_AT].copy_from_slice(&MAPPED);
            bytes[at + IPV4_AT..at + 16].copy_from_slice(octets);
        }
        Self(bytes)
    }

    /// The same of IPv6.
    #[inline]
    pub fn sent_ipv6(
        endpoint: EndpointId,
        protocol: u8,
        addresses: &[u8; 32],
        ports: &[u8; 4],
    ) -> Self {
        let mut bytes = Self::sent(endpoint, protocol, ports);
        bytes[LOCAL_AT..].copy_from_slice(addresses);
        Self(bytes)
    }

    #[inline]
    fn sent(endpoint: EndpointId, protocol: u8, ports: &[u8; 4]) -> [u8; KEY_LENGTH] {
        let mut bytes = [0; KEY_LENGTH];
        bytes[..4].copy_from_slice(&endpoint.0.to_ne_bytes());
        bytes[4] = protocol;
        // Ports are kept in the machine's own order.
        bytes[6..8].copy_from_slice(&u16::from_be_bytes([ports[0], ports[1]]).to_ne_bytes());
        bytes[8..10].copy_from_slice(&u16::from_be_bytes([ports[2], ports[3]]).to_ne_bytes());
        bytes
    }

    /// The endpoint that keeps the entry.
    pub fn endpoint(&self) -> EndpointId {
        EndpointId(u32::from_ne_bytes([
            self.0[0], self.0[1], self.0[2], self.0[3],
        ]))
    }

    /// The protocol as policy knows it.
    pub fn protocol(&self) -> Protocol {
        Protocol::from_number(self.0[4])
    }

    /// The addresses of the endpoint and of its peer.
    pub fn addresses(&self) -> (IpAddr, IpAddr) {
        (self.address(LOCAL_AT), self.address(REMOTE_AT))
    }

    /// The ports of the endpoint and of its peer.
    pub fn ports(&self) -> (u16, u16) {
        let port = |at: usize| u16::from_ne_bytes([self.0[at], self.0[at + 1]]);
        (port(6), port(8))
    }

    fn address(&self, at: usize) -> IpAddr {
        let mut octets = [0; 16];
        octets.copy_from_slice(&self.0[at..at + 16]);
        IpAddr::V6(octets.into()).to_canonical()
    }

    fn is_ipv4(&self) -> bool {
        self.0[LOCAL_AT..LOCAL_AT + IPV4_AT] == MAPPED
    }

    /// The port that the initiator wants; for ICMP the type of its message.
    pub fn service_port(&self, initiator: Side) -> u16 {
        let (local_port, remote_port) = self.ports();
        match (self.protocol(), self.0[5], initiator) {
            (Protocol::Icmp, 0, _) => 8,
            (Protocol::Icmpv6, 0, _) => 128,
            (Protocol::Icmp | Protocol::Icmpv6, message, _) => u16::from(message),
            (_, _, Side::Local) => remote_port,
            (_, _, Side::Remote) => local_port,
        }
    }

    /// The keyed hash; of IPv4 without the bytes that are the same in every address.
    #[inline]
    pub fn hash(&self, hasher: &FlowHasher) -> u32 {
        let word = |at: usize| {
            let bytes = &self.0;
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let port = u32::from(u16::from_ne_bytes([self.0[8], self.0[9]]));
        let (local, remote) = (LOCAL_AT + IPV4_AT, REMOTE_AT + IPV4_AT);
        if self.is_ipv4() {
            return hasher.hash(&[word(0), word(4), port, word(local), word(remote), 1]);
        }
        let address = |at: usize| [word(at), word(at + 4), word(at + 8), word(at + 12)];
        let ([a, b, c, d], [e, f, g, h]) = (address(LOCAL_AT), address(REMOTE_AT));
        hasher.hash(&[word(0), word(4), port, a, b, c, d, e, f, g, h, 2])
    }
}

/// What stands before an IPv4 address mapped to IPv6. [RFC 4291 §2.5.5.2]
const MAPPED: [u8; IPV4_AT] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_in_any_byte_are_not_equal() {
        let key = FlowKey(std::array::from_fn(|at| at as u8));
        assert_eq!(key, FlowKey(key.0));
        for at in 0..KEY_LENGTH {
            let mut other = key;
            other.0[at] ^= 0x10;
            assert_ne!(key, other, "byte {at}");
        }
    }
}
