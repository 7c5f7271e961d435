//! What is ours on an address that we may share with the host's stack: frontends and port ranges.

use core::net::{IpAddr, Ipv4Addr};

/// Protocols with ports: the numbers are those of the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Transport {
    /// [RFC 9293]
    Tcp = 6,
    /// [RFC 768]
    Udp = 17,
    /// [RFC 9260]
    Sctp = 132,
}

impl Transport {
    /// The protocol of that number; None when it has no ports.
    #[inline(always)]
    #[must_use]
    pub const fn of(protocol: u8) -> Option<Self> {
        match protocol {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// A key of [`FRONTENDS`](crate::FRONTENDS): an address and port at which we take connections, as
/// a NodePort, external or load balancer address of a service has them.
///
/// Twenty bytes, no gaps: the daemon writes them as `[u8; 20]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Frontend {
    address: [u8; 16],
    port: [u8; 2],
    protocol: u8,
    padding: u8,
}

const _: () = assert!(size_of::<Frontend>() == 20 && align_of::<Frontend>() == 1);

impl Frontend {
    /// The map key for an address and port.
    #[must_use]
    pub const fn new(address: IpAddr, port: u16, transport: Transport) -> Self {
        Self::of_key(address_key(address), port, transport)
    }

    /// The map key for an address that is one already.
    #[inline(always)]
    #[must_use]
    pub const fn of_key(address: [u8; 16], port: u16, transport: Transport) -> Self {
        Self {
            address,
            port: port.to_be_bytes(),
            protocol: transport as u8,
            padding: 0,
        }
    }

    /// The address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        IpAddr::V6(core::net::Ipv6Addr::from_octets(self.address)).to_canonical()
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        u16::from_be_bytes(self.port)
    }

    /// The protocol's number in an IP header.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The map key as the bytes that the daemon writes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes.split_at_mut(16).0.copy_from_slice(&self.address);
        [bytes[16], bytes[17]] = self.port;
        bytes[18] = self.protocol;
        bytes
    }
}

/// A key of [`DATAGRAMS`](crate::DATAGRAMS): a datagram in fragments, to an address that we share.
/// [RFC 791 §3.2, RFC 8200 §4.5]
///
/// Words in network order, none shorter than the others: the kernel program has no memset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Datagram {
    source: [u32; 4],
    destination: [u32; 4],
    identification: u32,
    /// Of IPv4 only.
    protocol: u32,
}

const _: () = assert!(size_of::<Datagram>() == 40 && align_of::<Datagram>() == 4);

impl Datagram {
    /// The map key of an IPv4 datagram.
    #[inline(always)]
    #[must_use]
    pub const fn v4(source: u32, destination: u32, identification: u16, protocol: u8) -> Self {
        Self {
            source: [0, 0, 0, source],
            destination: [0, 0, 0, destination],
            identification: identification as u32,
            protocol: protocol as u32,
        }
    }

    /// The map key of an IPv6 datagram.
    #[inline(always)]
    #[must_use]
    pub const fn v6(source: [u32; 4], destination: [u32; 4], identification: u32) -> Self {
        Self {
            source,
            destination,
            identification,
            protocol: 0,
        }
    }
}

/// A value of [`EGRESS`](crate::EGRESS): the ports of an egress address that are ours, both ends
/// included; ICMP echo identifiers count as ports.
///
/// Two native 16-bit words: the daemon writes them as `[u16; 2]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct PortRange {
    /// The lowest port that is ours.
    pub first: u16,
    /// The highest port that is ours; nothing is when it is below the first.
    pub last: u16,
}

const _: () = assert!(size_of::<PortRange>() == 4 && align_of::<PortRange>() == 2);

impl PortRange {
    /// Every port: the address is ours alone, and so is every packet to it, except that the host
    /// answers neighbours.
    pub const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };
    /// No port.
    pub const NONE: Self = Self { first: 1, last: 0 };

    /// Whether a port is in it.
    #[inline(always)]
    #[must_use]
    pub const fn has_port(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether the address is ours alone.
    #[inline(always)]
    #[must_use]
    pub const fn is_all(self) -> bool {
        self.first == 0 && self.last == u16::MAX
    }

    /// The map value as the words that the daemon writes.
    #[must_use]
    pub const fn words(self) -> [u16; 2] {
        [self.first, self.last]
    }
}

/// The key of an address in [`EGRESS`](crate::EGRESS), and part of a [`Frontend`]: IPv6, or IPv4
/// mapped into it. [RFC 4291 §2.5.5.2]
#[must_use]
pub const fn address_key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

/// An IPv4 address as IPv6.
#[inline(always)]
pub(crate) const fn mapped(address: [u8; 4]) -> [u8; 16] {
    Ipv4Addr::from_octets(address).to_ipv6_mapped().octets()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontend_is_written_as_its_bytes() {
        let frontend = Frontend::new(
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            30_080,
            Transport::Udp,
        );
        let expected = [
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, 0x75, 0x80, 17, 0,
        ];
        assert_eq!(frontend.bytes(), expected);
        let parts = (frontend.address(), frontend.port(), frontend.protocol());
        assert_eq!(parts, (Ipv4Addr::new(192, 0, 2, 1).into(), 30_080, 17));
    }

    #[test]
    fn a_port_range_includes_both_ends() {
        let range = PortRange {
            first: 61_000,
            last: 65_535,
        };
        let found = [60_999, 61_000, 65_535].map(|port| range.has_port(port));
        assert_eq!(found, [false, true, true]);
        assert_eq!(range.words(), [61_000, 65_535]);
        assert!(!range.is_all() && PortRange::ALL.is_all());
        assert!((0..=u16::MAX).all(|port| !PortRange::NONE.has_port(port)));
    }

    #[test]
    fn a_transport_is_known_by_its_number() {
        for transport in [Transport::Tcp, Transport::Udp, Transport::Sctp] {
            assert_eq!(Transport::of(transport as u8), Some(transport));
        }
        assert_eq!([1, 47, 58, 0].map(Transport::of), [None; 4]);
    }
}
