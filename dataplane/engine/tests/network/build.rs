//! Packets for tests, and the plain checksum that they are checked with.

use super::{CLIENT, CLIENT_PARTY, SERVER, SERVER_PARTY, STRANGER, STRANGER_PARTY};
use super::{HOST, HOST_PARTY, MacAddress, Party, UPLINK, WORLD_PARTY, gateway_mac};
use portcullis_engine::EndpointIndex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const CWR: u8 = 0x80;

pub fn party_of(index: EndpointIndex) -> Party {
    match index {
        CLIENT => CLIENT_PARTY,
        SERVER => SERVER_PARTY,
        STRANGER => STRANGER_PARTY,
        HOST => HOST_PARTY,
        UPLINK => WORLD_PARTY,
        other => panic!("no party at {other:?}"),
    }
}

/// One packet to be built; `v4` and `v6` begin with what is right for the endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    pub source_mac: MacAddress,
    pub destination_mac: MacAddress,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub hops: u8,
    pub identification: u16,
    /// Flags and offset of an IPv4 fragment.
    pub fragment: u16,
    /// IPv4 options, or whole IPv6 extension headers.
    pub options: Vec<u8>,
    /// The number of the first of those extension headers.
    pub options_number: u8,
    pub tcp_options: Vec<u8>,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub is_partial: bool,
    pub padding: usize,
}

/// A packet that goes in at `from` for what is behind `to`, over IPv4.
pub fn v4(from: EndpointIndex, to: EndpointIndex) -> Build {
    let (source, destination) = (party_of(from), party_of(to));
    Build {
        source_mac: source.mac,
        destination_mac: gateway_mac(from),
        source: IpAddr::V4(source.v4),
        destination: IpAddr::V4(destination.v4),
        hops: 64,
        identification: 0x1234,
        fragment: 0x4000,
        options: Vec::new(),
        options_number: 0,
        tcp_options: Vec::new(),
        sequence: 1000,
        acknowledgement: 1,
        is_partial: false,
        padding: 0,
    }
}

/// The same over IPv6.
pub fn v6(from: EndpointIndex, to: EndpointIndex) -> Build {
    Build {
        source: IpAddr::V6(party_of(from).v6),
        destination: IpAddr::V6(party_of(to).v6),
        ..v4(from, to)
    }
}

impl Build {
    pub fn source(mut self, source: IpAddr) -> Self {
        self.source = source;
        self
    }

    pub fn destination(mut self, destination: IpAddr) -> Self {
        self.destination = destination;
        self
    }

    pub fn source_mac(mut self, mac: MacAddress) -> Self {
        self.source_mac = mac;
        self
    }

    pub fn destination_mac(mut self, mac: MacAddress) -> Self {
        self.destination_mac = mac;
        self
    }

    pub fn hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    pub fn fragment(mut self, fragment: u16) -> Self {
        self.fragment = fragment;
        self
    }

    pub fn options(mut self, number: u8, options: &[u8]) -> Self {
        self.options_number = number;
        self.options = options.to_vec();
        self
    }

    pub fn tcp_options(mut self, options: &[u8]) -> Self {
        self.tcp_options = options.to_vec();
        self
    }

    pub fn sequence(mut self, sequence: u32) -> Self {
        self.sequence = sequence;
        self
    }

    /// As pods send: the checksum is left to the network card.
    pub fn acknowledgement(mut self, acknowledgement: u32) -> Self {
        self.acknowledgement = acknowledgement;
        self
    }

    pub fn partial(mut self) -> Self {
        self.is_partial = true;
        self
    }

    pub fn padding(mut self, padding: usize) -> Self {
        self.padding = padding;
        self
    }

    pub fn tcp(&self, ports: (u16, u16), flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend_from_slice(&ports.0.to_be_bytes());
        segment.extend_from_slice(&ports.1.to_be_bytes());
        segment.extend_from_slice(&self.sequence.to_be_bytes());
        segment.extend_from_slice(&self.acknowledgement.to_be_bytes());
        segment.push((((20 + self.tcp_options.len()) / 4) << 4) as u8);
        segment.extend_from_slice(&[flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend_from_slice(&self.tcp_options);
        segment.extend_from_slice(payload);
        self.checked(6, segment, 16)
    }

    pub fn udp(&self, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::new();
        datagram.extend_from_slice(&ports.0.to_be_bytes());
        datagram.extend_from_slice(&ports.1.to_be_bytes());
        datagram.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
        datagram.extend_from_slice(&[0, 0]);
        datagram.extend_from_slice(payload);
        self.checked(17, datagram, 6)
    }

    pub fn sctp(&self, ports: (u16, u16), chunk: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        packet.extend_from_slice(&ports.0.to_be_bytes());
        packet.extend_from_slice(&ports.1.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
        packet.extend_from_slice(chunk);
        self.network(132, &packet)
    }

    /// An ICMP or ICMPv6 message, by the family; `rest` are bytes 4 to 8.
    pub fn icmp(&self, kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0];
        message.extend_from_slice(&rest);
        message.extend_from_slice(payload);
        if self.source.is_ipv4() {
            let sum = !plain_sum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            return self.network(1, &message);
        }
        let mut whole = pseudo_header(self.source, self.destination, 58, message.len());
        whole.extend_from_slice(&message);
        let sum = !plain_sum(&whole);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.network(58, &message)
    }

    /// An echo request or reply.
    pub fn echo(&self, is_request: bool, identifier: u16) -> Vec<u8> {
        let kind = match (self.source.is_ipv4(), is_request) {
            (true, true) => 8,
            (true, false) => 0,
            (false, true) => 128,
            (false, false) => 129,
        };
        let [high, low] = identifier.to_be_bytes();
        self.icmp(kind, 0, [high, low, 0, 1], b"abcdefgh")
    }

    fn checked(&self, protocol: u8, mut transport: Vec<u8>, field: usize) -> Vec<u8> {
        let mut whole = pseudo_header(self.source, self.destination, protocol, transport.len());
        let sum = if self.is_partial {
            plain_sum(&whole)
        } else {
            whole.extend_from_slice(&transport);
            match (!plain_sum(&whole), protocol) {
                (0, 17) => 0xffff,
                (sum, _) => sum,
            }
        };
        transport[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        self.network(protocol, &transport)
    }

    /// The whole frame around what is above IP.
    pub fn network(&self, protocol: u8, transport: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend_from_slice(&self.destination_mac.0);
        frame.extend_from_slice(&self.source_mac.0);
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend_from_slice(&[0x08, 0x00]);
                frame.extend_from_slice(&self.ipv4(protocol, transport, source, destination));
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend_from_slice(&[0x86, 0xdd]);
                frame.extend_from_slice(&self.ipv6(protocol, transport, source, destination));
            }
            families => panic!("two families in one packet: {families:?}"),
        }
        frame.extend_from_slice(&vec![0; self.padding]);
        frame
    }

    fn ipv4(&self, protocol: u8, above: &[u8], from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let length = 20 + self.options.len();
        let mut header = vec![0x40 | (length / 4) as u8, 0];
        header.extend_from_slice(&((length + above.len()) as u16).to_be_bytes());
        header.extend_from_slice(&self.identification.to_be_bytes());
        header.extend_from_slice(&self.fragment.to_be_bytes());
        header.extend_from_slice(&[self.hops, protocol, 0, 0]);
        header.extend_from_slice(&from.octets());
        header.extend_from_slice(&to.octets());
        header.extend_from_slice(&self.options);
        let sum = !plain_sum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header.extend_from_slice(above);
        header
    }

    fn ipv6(&self, protocol: u8, above: &[u8], from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        let mut header = vec![0x60, 0, 0, 0];
        header.extend_from_slice(&((self.options.len() + above.len()) as u16).to_be_bytes());
        let next = if self.options.is_empty() {
            protocol
        } else {
            self.options_number
        };
        header.extend_from_slice(&[next, self.hops]);
        header.extend_from_slice(&from.octets());
        header.extend_from_slice(&to.octets());
        header.extend_from_slice(&self.options);
        header.extend_from_slice(above);
        header
    }
}

/// What an ICMP error quotes of a frame: its IP packet, at most 64 bytes of it.
pub fn quote(frame: &[u8]) -> &[u8] {
    &frame[14..frame.len().min(14 + 64)]
}

/// The one's complement sum, two bytes at a time.
pub fn plain_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
        }
    }
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    bytes.extend_from_slice(&[0, protocol]);
    bytes
}

/// Whether every checksum of a frame is right: of the IPv4 header, of TCP, UDP or ICMP. Frames
/// without extension headers only.
pub fn has_valid_checksums(frame: &[u8]) -> bool {
    let network = &frame[14..];
    let (header, protocol, source, destination): (usize, u8, IpAddr, IpAddr) =
        if network[0] >> 4 == 4 {
            let header = usize::from(network[0] & 15) * 4;
            if plain_sum(&network[..header]) != 0xffff {
                return false;
            }
            let source: [u8; 4] = network[12..16].try_into().unwrap();
            let destination: [u8; 4] = network[16..20].try_into().unwrap();
            (header, network[9], source.into(), destination.into())
        } else {
            let source: [u8; 16] = network[8..24].try_into().unwrap();
            let destination: [u8; 16] = network[24..40].try_into().unwrap();
            (40, network[6], source.into(), destination.into())
        };
    let transport = &network[header..];
    let mut whole = match protocol {
        1 => Vec::new(),
        _ => pseudo_header(source, destination, protocol, transport.len()),
    };
    whole.extend_from_slice(transport);
    plain_sum(&whole) == 0xffff
}

/// The frame as it has to arrive: MAC addresses of the way out, one hop less, checksums whole.
pub fn forwarded(build: &Build, to: EndpointIndex, make: impl Fn(&Build) -> Vec<u8>) -> Vec<u8> {
    let arrived = Build {
        source_mac: gateway_mac(to),
        destination_mac: party_of(to).mac,
        hops: build.hops - 1,
        is_partial: false,
        padding: 0,
        ..build.clone()
    };
    make(&arrived)
}

/// An ARP packet.
pub fn arp(
    operation: u16,
    link: (MacAddress, MacAddress),
    sender: (MacAddress, Ipv4Addr),
    target: (MacAddress, Ipv4Addr),
) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&link.1.0);
    frame.extend_from_slice(&link.0.0);
    frame.extend_from_slice(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4]);
    frame.extend_from_slice(&operation.to_be_bytes());
    frame.extend_from_slice(&sender.0.0);
    frame.extend_from_slice(&sender.1.octets());
    frame.extend_from_slice(&target.0.0);
    frame.extend_from_slice(&target.1.octets());
    frame
}
