//! Frames to a node on its uplink, byte for byte.

// Each test program takes what it needs.
#![allow(dead_code)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use xdp_redirect::{Datagram, Frame, Frontend, Ours, PortRange, Transport};

/// An address by its last number, in both IP versions: 10.99.0.n and fd99::n.
const fn both(number: u8) -> [IpAddr; 2] {
    [
        IpAddr::V4(Ipv4Addr::new(10, 99, 0, number)),
        IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, number as u16)),
    ]
}

/// Who sends.
pub const PEER: [IpAddr; 2] = both(1);
/// A pod of ours.
pub const POD: [IpAddr; 2] = both(65);
/// The node's address that we share.
pub const SHARED: [IpAddr; 2] = both(200);
/// Another address of the node.
pub const HOST: [IpAddr; 2] = both(201);
/// An egress address that is ours alone.
pub const WHOLE: [IpAddr; 2] = both(202);
/// An address of a frontend, and no egress address.
pub const EXTERNAL: [IpAddr; 2] = both(203);

/// An IP packet, without checksums: the kernel program looks at none.
#[derive(Debug, Clone)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// What the payload is, the number in the IP header.
    pub protocol: u8,
    /// Of IPv4; four bytes each.
    pub options: Vec<u8>,
    /// Of IPv4: flags and offset.
    pub fragment: u16,
    pub payload: Vec<u8>,
}

impl Packet {
    pub fn new(to: IpAddr, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            source: PEER[usize::from(to.is_ipv6())],
            destination: to,
            protocol,
            options: Vec::new(),
            fragment: 0,
            payload,
        }
    }

    /// The packet from its IP header on.
    pub fn bytes(&self) -> Vec<u8> {
        let length = self.payload.len() as u16;
        let mut bytes = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let words = 5 + self.options.len() / 4;
                bytes.extend([0x40 | words as u8, 0]);
                bytes.extend((length + 4 * words as u16).to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(self.fragment.to_be_bytes());
                bytes.extend([64, self.protocol, 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(&self.options);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                bytes.extend([0x60, 0, 0, 0]);
                bytes.extend(length.to_be_bytes());
                bytes.extend([self.protocol, 64]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
            }
            mixed => panic!("{mixed:?}"),
        }
        bytes.extend(&self.payload);
        bytes
    }

    /// The packet in Ethernet, to a MAC address of nobody.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 1];
        frame.extend(match self.destination {
            IpAddr::V4(_) => [8, 0],
            IpAddr::V6(_) => [0x86, 0xdd],
        });
        frame.extend(self.bytes());
        frame
    }
}

fn with_ports(to: IpAddr, protocol: u8, port: u16, length: usize) -> Packet {
    let mut payload = 40_000_u16.to_be_bytes().to_vec();
    payload.extend(port.to_be_bytes());
    payload.resize(length, 0);
    Packet::new(to, protocol, payload)
}

pub fn tcp(to: IpAddr, port: u16) -> Packet {
    with_ports(to, 6, port, 20)
}

pub fn udp(to: IpAddr, port: u16) -> Packet {
    with_ports(to, 17, port, 8)
}

pub fn sctp(to: IpAddr, port: u16) -> Packet {
    with_ports(to, 132, port, 12)
}

fn icmp(to: IpAddr, kinds: [u8; 2], word: u16, rest: &[u8]) -> Packet {
    let (protocol, kind) = match to {
        IpAddr::V4(_) => (1, kinds[0]),
        IpAddr::V6(_) => (58, kinds[1]),
    };
    let mut payload = vec![kind, 0, 0, 0];
    payload.extend(word.to_be_bytes());
    payload.extend([0, 1]);
    payload.extend(rest);
    Packet::new(to, protocol, payload)
}

pub fn echo_request(to: IpAddr, identifier: u16) -> Packet {
    icmp(to, [8, 128], identifier, b"ping")
}

pub fn echo_reply(to: IpAddr, identifier: u16) -> Packet {
    icmp(to, [0, 129], identifier, b"pong")
}

/// An ICMP message of a kind, quoting a packet.
pub fn error(to: IpAddr, kind: u8, about: Packet) -> Packet {
    // The words that are 0 in most errors must not be taken for an identifier.
    icmp(to, [kind; 2], 61_000, &about.bytes())
}

/// The packet as it would be going the other way: from its address and port.
pub fn quote(packet: Packet) -> Packet {
    let mut payload = packet.payload;
    if matches!(packet.protocol, 6 | 17 | 132) {
        payload.rotate_left(2);
        payload[2..4].copy_from_slice(&9_u16.to_be_bytes());
    }
    Packet {
        source: packet.destination,
        destination: packet.source,
        payload,
        ..packet
    }
}

/// The packet as a fragment at an offset in bytes, with more to come.
pub fn fragment(packet: Packet, offset: u16) -> Packet {
    if packet.destination.is_ipv4() {
        return Packet {
            fragment: 0x2000 | (offset / 8),
            ..packet
        };
    }
    let mut payload = vec![packet.protocol, 0];
    payload.extend((offset | 1).to_be_bytes());
    payload.extend([0, 0, 0, 7]);
    payload.extend(packet.payload);
    Packet {
        protocol: 44,
        payload,
        ..packet
    }
}

/// A frame in memory.
pub struct Bytes<'a>(pub &'a [u8]);

impl Frame for Bytes<'_> {
    fn head<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.read(offset)
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..)?.first_chunk().copied()
    }
}

/// What is ours, in memory.
pub struct Node {
    pub frontends: BTreeSet<Frontend>,
    pub egress: BTreeMap<IpAddr, PortRange>,
    pub datagrams: RefCell<BTreeSet<Datagram>>,
}

impl Ours for Node {
    fn has_v4(&self, address: [u8; 4]) -> bool {
        POD[0] == IpAddr::from(address)
    }

    fn has_v6(&self, address: [u8; 16]) -> bool {
        POD[1] == IpAddr::from(address)
    }

    fn has_frontend(&self, frontend: &Frontend) -> bool {
        self.frontends.contains(frontend)
    }

    fn egress_ports(&self, address: &[u8; 16]) -> Option<PortRange> {
        self.egress
            .get(&IpAddr::from(*address).to_canonical())
            .copied()
    }

    fn note(&self, datagram: &Datagram, is_ours: bool) {
        let mut datagrams = self.datagrams.borrow_mut();
        if is_ours {
            datagrams.insert(*datagram);
        } else {
            datagrams.remove(datagram);
        }
    }

    fn has_datagram(&self, datagram: &Datagram) -> bool {
        self.datagrams.borrow().contains(datagram)
    }
}

/// A node that has its address in common with us, from port 61000 on, and NodePorts 30080.
pub fn node() -> Node {
    let mut node = Node {
        frontends: BTreeSet::new(),
        egress: BTreeMap::new(),
        datagrams: RefCell::default(),
    };
    for version in [0, 1] {
        for transport in [Transport::Tcp, Transport::Udp, Transport::Sctp] {
            let frontend = Frontend::new(SHARED[version], 30_080, transport);
            node.frontends.insert(frontend);
        }
        let frontend = Frontend::new(EXTERNAL[version], 443, Transport::Tcp);
        node.frontends.insert(frontend);
        let ports = PortRange {
            first: 61_000,
            last: 65_535,
        };
        node.egress.insert(SHARED[version], ports);
        let ports = PortRange::ALL;
        node.egress.insert(WHOLE[version], ports);
    }
    node
}

/// Packets of every kind to every address, to ports and identifiers on both sides of each border.
pub fn every_kind() -> Vec<Packet> {
    let mut packets = Vec::new();
    for version in [0, 1] {
        for addresses in [POD, SHARED, HOST, WHOLE, EXTERNAL] {
            let to = addresses[version];
            for port in [22, 443, 30_080, 60_999, 61_000, 65_535] {
                let mut plain = vec![tcp(to, port), udp(to, port), sctp(to, port)];
                plain.extend([echo_request(to, port), echo_reply(to, port)]);
                for kind in [0, 1, 2, 3, 4, 5, 8, 11, 12, 128, 129, 135] {
                    let about = |packet: &Packet| error(to, kind, quote(packet.clone()));
                    packets.extend(plain.iter().map(about));
                    packets.push(error(to, kind, fragment(quote(udp(to, port)), 0)));
                    packets.push(error(to, kind, fragment(quote(udp(to, port)), 8)));
                    packets.push(error(to, kind, quote(udp(HOST[version], port))));
                }
                for offset in [0, 8] {
                    packets.extend(plain.iter().map(|p| fragment(p.clone(), offset)));
                }
                if version == 0 {
                    let options = |packet: Packet| Packet {
                        options: vec![1; 40],
                        ..packet
                    };
                    packets.push(options(error(to, 3, options(quote(tcp(to, port))))));
                    packets.extend(plain.iter().cloned().map(options));
                }
                packets.extend(plain);
            }
            packets.push(Packet::new(to, 47, vec![0xff; 20]));
            packets.push(Packet::new(to, 0, vec![6; 20]));
        }
    }
    packets
}
