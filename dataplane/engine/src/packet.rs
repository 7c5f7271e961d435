//! A checked view of a frame: every length and offset in it has been compared with the bytes.

use crate::extension_headers::walk_extensions;
use crate::{Drop, Fragment, FrameBytes, MacAddress, tcp_header};
use etherparse::{
    EtherType, Ethernet2HeaderSlice, IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, UdpHeaderSlice,
    err,
};
use portcullis_policy::Protocol;
use std::net::{IpAddr, Ipv4Addr};

/// Bytes of an Ethernet header without tags. [IEEE 802.3]
pub const ETHERNET_LENGTH: usize = 14;
/// Bytes of the common header. [RFC 9260 §3.1]
const SCTP_HEADER_LENGTH: usize = 12;
/// Bytes that every ICMP message has. [RFC 792; RFC 4443 §2.1 with the four bytes that follow]
pub(crate) const ICMP_HEADER_LENGTH: usize = 8;

/// The bits of a TCP header that tell what a segment is for. [RFC 9293 §3.1]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Begins a connection.
    pub const SYN: u8 = 0x02;
    /// Ends a connection at once.
    pub const RST: u8 = 0x04;
    /// Hand over to the application now.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The sender slowed down. [RFC 3168 §6.1.2]
    pub const CWR: u8 = 0x80;

    /// Whether this flag is set.
    #[must_use]
    pub const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    /// Whether this is the first segment of a connection: SYN without ACK.
    #[must_use]
    pub const fn is_opening(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN
    }
}

/// What lies above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// [RFC 9293]
    Tcp {
        /// Source and destination port.
        ports: (u16, u16),
        /// What the segment is for.
        flags: TcpFlags,
        /// The number of its first byte.
        sequence: u32,
        /// The number that the sender expects next; counts where `flags` has ACK.
        acknowledgement: u32,
        /// Bytes of the header with its options.
        header_length: u8,
        /// The largest payload that the sender takes, where a SYN states it. [RFC 9293 §3.7.1]
        payload_max: Option<u16>,
    },
    /// [RFC 768]
    Udp {
        /// Source and destination port.
        ports: (u16, u16),
    },
    /// [RFC 9260]
    Sctp {
        /// Source and destination port.
        ports: (u16, u16),
    },
    /// [RFC 792]
    Icmp(IcmpMessage),
    /// [RFC 4443]
    Icmpv6(IcmpMessage),
    /// A fragment after the first: the ports are elsewhere.
    LaterFragment(Protocol),
    /// Anything else, by its IP protocol number.
    Other(u8),
}

/// The first bytes of an ICMP or ICMPv6 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpMessage {
    /// The type.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// Bytes 4 and 5: in an echo the identifier.
    pub identifier: u16,
}

/// What a packet says of itself. Offsets count from the start of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Who sent the frame on this link.
    pub source_mac: MacAddress,
    /// Whom the frame is for on this link.
    pub destination_mac: MacAddress,
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub hops_left: u8,
    /// Bytes of IP, header included; the frame may be longer (Ethernet padding).
    pub ip_length: u32,
    /// Where the transport header begins.
    pub transport_offset: u16,
    /// Its place in a datagram that was cut up. None when it is all there is.
    pub fragment: Option<Fragment>,
    /// Whether an IPv6 fragment header stands before the transport header.
    pub has_fragment_header: bool,
    /// What lies above IP.
    pub transport: Transport,
}

/// A frame that could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// An ARP packet, its MAC addresses read, its body not yet.
    Arp {
        /// Who sent the frame on this link.
        source_mac: MacAddress,
    },
    /// An IP packet.
    Ip(Packet),
}

impl Packet {
    /// Bytes of the frame that belong to the packet.
    #[must_use]
    pub fn frame_length(&self) -> usize {
        ETHERNET_LENGTH + self.ip_length as usize
    }

    /// Bytes of TCP payload in this packet; zero of any other.
    #[must_use]
    pub fn payload_length(&self) -> u32 {
        let Transport::Tcp { header_length, .. } = self.transport else {
            return 0;
        };
        let headers = u32::from(self.transport_offset) + u32::from(header_length);
        (ETHERNET_LENGTH as u32 + self.ip_length).saturating_sub(headers)
    }

    /// Whether this is a fragment after the first: the ports are elsewhere.
    #[must_use]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.offset != 0)
    }

    /// The protocol as policy knows it; what a later fragment says of it is only a claim.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self.transport {
            Transport::Tcp { .. } => Protocol::Tcp,
            Transport::Udp { .. } => Protocol::Udp,
            Transport::Sctp { .. } => Protocol::Sctp,
            Transport::Icmp(_) => Protocol::Icmp,
            Transport::Icmpv6(_) => Protocol::Icmpv6,
            Transport::LaterFragment(protocol) => protocol,
            Transport::Other(number) => Protocol::from_number(number),
        }
    }

    /// Source and destination port as policy and records know them: for ICMP zero and the type,
    /// zeros where there are none.
    #[must_use]
    pub fn ports(&self) -> (u16, u16) {
        match self.transport {
            Transport::Tcp { ports, .. } | Transport::Udp { ports } | Transport::Sctp { ports } => {
                ports
            }
            Transport::Icmp(message) | Transport::Icmpv6(message) => (0, u16::from(message.kind)),
            Transport::LaterFragment(_) | Transport::Other(_) => (0, 0),
        }
    }

    /// Whether this is an ICMP message about another packet.
    #[must_use]
    pub fn is_icmp_error(&self) -> bool {
        match self.transport {
            // [RFC 792: unreachable, source quench, time exceeded, parameter problem]
            Transport::Icmp(message) => matches!(message.kind, 3 | 4 | 11 | 12),
            // [RFC 4443 §2.1: error messages have types below 128]
            Transport::Icmpv6(message) => message.kind < 128,
            _ => false,
        }
    }
}

/// Reads a frame.
///
/// # Errors
/// `Truncated`, `Malformed`, `FragmentTiny`, `SourceRouted`, `VlanTagged` or `EthertypeUnknown`.
pub fn parse(frame: &FrameBytes<'_>) -> Result<Parsed, Drop> {
    let head = frame.bytes();
    let ethernet = Ethernet2HeaderSlice::from_slice(head).map_err(|_| Drop::Truncated)?;
    let source_mac = MacAddress(ethernet.source());
    let destination_mac = MacAddress(ethernet.destination());
    let network = &head[ETHERNET_LENGTH..];
    let outer = Outer {
        source_mac,
        destination_mac,
        frame_length: frame.length(),
    };
    match ethernet.ether_type() {
        EtherType::IPV4 => parse_ipv4(network, &outer).map(Parsed::Ip),
        EtherType::IPV6 => parse_ipv6(network, &outer).map(Parsed::Ip),
        EtherType::ARP => Ok(Parsed::Arp { source_mac }),
        EtherType::VLAN_TAGGED_FRAME
        | EtherType::PROVIDER_BRIDGING
        | EtherType::VLAN_DOUBLE_TAGGED_FRAME => Err(Drop::VlanTagged),
        _ => Err(Drop::EthertypeUnknown),
    }
}

/// The addresses of a frame that `parse` refused, as far as they can be read; for records only.
#[must_use]
pub fn addresses(frame: &FrameBytes<'_>) -> Option<(IpAddr, IpAddr)> {
    let head = frame.bytes();
    let ethernet = Ethernet2HeaderSlice::from_slice(head).ok()?;
    let network = &head[ETHERNET_LENGTH..];
    match ethernet.ether_type() {
        EtherType::IPV4 => {
            let source = ipv4_at(network, 12)?;
            Some((source, ipv4_at(network, 16)?))
        }
        EtherType::IPV6 => {
            let header = Ipv6HeaderSlice::from_slice(network).ok()?;
            Some((
                IpAddr::V6(header.source_addr()),
                IpAddr::V6(header.destination_addr()),
            ))
        }
        _ => None,
    }
}

fn ipv4_at(bytes: &[u8], offset: usize) -> Option<IpAddr> {
    let octets: [u8; 4] = bytes.get(offset..offset + 4)?.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(octets)))
}

/// What the Ethernet layer and the descriptors said.
struct Outer {
    source_mac: MacAddress,
    destination_mac: MacAddress,
    frame_length: usize,
}

impl Outer {
    /// Bytes of the network header's slice that may be read as part of a packet of this length.
    fn check(&self, ip_length: usize) -> Result<u32, Drop> {
        if ip_length > self.frame_length - ETHERNET_LENGTH {
            return Err(Drop::Truncated);
        }
        u32::try_from(ip_length).map_err(|_| Drop::Malformed)
    }
}

fn parse_ipv4(network: &[u8], outer: &Outer) -> Result<Packet, Drop> {
    let header = Ipv4HeaderSlice::from_slice(network).map_err(|error| match error {
        err::ipv4::HeaderSliceError::Len(_) => Drop::Truncated,
        err::ipv4::HeaderSliceError::Content(_) => Drop::Malformed,
    })?;
    let header_length = header.slice().len();
    let total = usize::from(header.total_len());
    if total < header_length {
        return Err(Drop::Malformed);
    }
    let ip_length = outer.check(total)?;
    if crate::checksum::sum(header.slice()) != 0xffff {
        return Err(Drop::Malformed);
    }
    check_ipv4_options(header.options())?;
    let length = total - header_length;
    let offset = header.fragments_offset().value() * 8;
    let fragment = if offset != 0 || header.more_fragments() {
        let identification = u32::from(header.identification());
        let is_last = !header.more_fragments();
        Some(Fragment::check(identification, offset, length, is_last)?)
    } else {
        None
    };
    let rest = Rest {
        bytes: &network[header_length..total.min(network.len())],
        length,
        fragment,
    };
    let transport = parse_above(header.protocol(), IpNumber::ICMP, &rest)?;
    Ok(Packet {
        source_mac: outer.source_mac,
        destination_mac: outer.destination_mac,
        source: IpAddr::V4(header.source_addr()),
        destination: IpAddr::V4(header.destination_addr()),
        hops_left: header.ttl(),
        ip_length,
        transport_offset: (ETHERNET_LENGTH + header_length) as u16,
        fragment,
        has_fragment_header: false,
        transport,
    })
}

/// Walks the options; a source route would lead the packet past the address that was judged.
fn check_ipv4_options(mut options: &[u8]) -> Result<(), Drop> {
    // [RFC 791 §3.1: end of list 0, no operation 1, loose 131 and strict 137 source routing]
    while let [kind, rest @ ..] = options {
        match kind {
            0 => return Ok(()),
            1 => options = rest,
            131 | 137 => return Err(Drop::SourceRouted),
            _ => {
                let length = usize::from(*rest.first().ok_or(Drop::Malformed)?);
                if length < 2 {
                    return Err(Drop::Malformed);
                }
                options = options.get(length..).ok_or(Drop::Malformed)?;
            }
        }
    }
    Ok(())
}

fn parse_ipv6(network: &[u8], outer: &Outer) -> Result<Packet, Drop> {
    let header = Ipv6HeaderSlice::from_slice(network).map_err(|error| match error {
        err::ipv6::HeaderSliceError::Len(_) => Drop::Truncated,
        err::ipv6::HeaderSliceError::Content(_) => Drop::Malformed,
    })?;
    let total = header.header_len() + usize::from(header.payload_length());
    let ip_length = outer.check(total)?;
    let bytes = &network[..total.min(network.len())];
    let chain = walk_extensions(header.next_header(), header.header_len(), bytes)?;
    let fragment = match chain.fragment {
        Some(piece) => {
            let length = total - piece.start;
            let is_last = piece.is_last;
            Some(Fragment::check(
                piece.identification,
                piece.offset,
                length,
                is_last,
            )?)
        }
        None => None,
    };
    let rest = Rest {
        bytes: &bytes[chain.offset..],
        length: total - chain.offset,
        fragment,
    };
    let transport = parse_above(chain.protocol, IpNumber::IPV6_ICMP, &rest)?;
    Ok(Packet {
        source_mac: outer.source_mac,
        destination_mac: outer.destination_mac,
        source: IpAddr::V6(header.source_addr()),
        destination: IpAddr::V6(header.destination_addr()),
        hops_left: header.hop_limit(),
        ip_length,
        transport_offset: (ETHERNET_LENGTH + chain.offset) as u16,
        fragment,
        has_fragment_header: chain.has_fragment_header,
        transport,
    })
}

/// What follows the IP header: the bytes that can be read here, and how many there are in all.
struct Rest<'a> {
    bytes: &'a [u8],
    length: usize,
    fragment: Option<Fragment>,
}

/// Reads what lies above IP, as far as it is in this piece of the datagram.
fn parse_above(
    protocol: IpNumber,
    icmp_of_family: IpNumber,
    rest: &Rest<'_>,
) -> Result<Transport, Drop> {
    let Some(fragment) = rest.fragment else {
        return parse_transport(protocol, icmp_of_family, rest);
    };
    let named = Protocol::from_number(protocol.0);
    if fragment.is_tiny(named) {
        return Err(Drop::FragmentTiny);
    }
    if fragment.offset != 0 {
        return Ok(Transport::LaterFragment(named));
    }
    parse_transport(protocol, icmp_of_family, rest).map_err(|reason| match reason {
        // The rest of the header comes later, past the eyes of policy. [RFC 1858 §3; RFC 7112 §5]
        Drop::Truncated => Drop::FragmentTiny,
        reason => reason,
    })
}

fn parse_transport(
    protocol: IpNumber,
    icmp_of_family: IpNumber,
    rest: &Rest<'_>,
) -> Result<Transport, Drop> {
    match protocol {
        IpNumber::TCP => tcp_header::parse(rest.bytes),
        IpNumber::UDP => {
            let header = UdpHeaderSlice::from_slice(rest.bytes).map_err(|_| Drop::Truncated)?;
            let length = usize::from(header.length());
            // A first fragment states the length of the whole datagram.
            if length < 8 || (length > rest.length && rest.fragment.is_none()) {
                return Err(Drop::Malformed);
            }
            Ok(Transport::Udp {
                ports: (header.source_port(), header.destination_port()),
            })
        }
        IpNumber::SCTP => {
            let header = rest
                .bytes
                .get(..SCTP_HEADER_LENGTH)
                .ok_or(Drop::Truncated)?;
            Ok(Transport::Sctp {
                ports: (word(header, 0), word(header, 2)),
            })
        }
        IpNumber::ICMP | IpNumber::IPV6_ICMP if protocol == icmp_of_family => {
            let header = rest
                .bytes
                .get(..ICMP_HEADER_LENGTH)
                .ok_or(Drop::Truncated)?;
            let message = icmp_message(header);
            Ok(if icmp_of_family == IpNumber::ICMP {
                Transport::Icmp(message)
            } else {
                Transport::Icmpv6(message)
            })
        }
        other => Ok(Transport::Other(other.0)),
    }
}

pub(crate) fn icmp_message(header: &[u8]) -> IcmpMessage {
    IcmpMessage {
        kind: header[0],
        code: header[1],
        identifier: word(header, 4),
    }
}

pub(crate) fn word(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([bytes[offset], bytes[offset + 1]])
}
