//! IPv6 neighbour discovery: what ARP is to IPv4, with its own rules. [RFC 4861]

use crate::packet::{ETHERNET_LENGTH, Packet, Transport};
use crate::{Drop, Endpoint, EndpointKind, FrameBytes, MacAddress, Snapshot, address, checksum};
use portcullis_policy::Protocol;
use std::net::{IpAddr, Ipv6Addr};

const IPV6_LENGTH: usize = 40;
/// Type, code, checksum, flags, target. [RFC 4861 §4.3, §4.4]
const MESSAGE_LENGTH: usize = 24;
/// One link-layer address option. [RFC 4861 §4.6.1]
const OPTION_LENGTH: usize = 8;
/// Bytes of each frame that is made here.
pub(crate) const FRAME_LENGTH: usize =
    ETHERNET_LENGTH + IPV6_LENGTH + MESSAGE_LENGTH + OPTION_LENGTH;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_OPTION: u8 = 1;
const TARGET_OPTION: u8 = 2;
/// From a router, asked for, and to replace what is known. [RFC 4861 §4.4]
const ROUTER_SOLICITED_OVERRIDE: u8 = 0xe0;

/// Whether the packet is neighbour or router discovery, or a redirect: never forwarded.
pub(crate) fn is_discovery(packet: &Packet) -> bool {
    // [RFC 4861 §4: types 133 to 137]
    matches!(packet.transport, Transport::Icmpv6(message) if (133..=137).contains(&message.kind))
}

/// A checked solicitation or advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NeighbourDiscovery {
    is_solicitation: bool,
    source_mac: MacAddress,
    source: Ipv6Addr,
    pub target: Ipv6Addr,
    has_link_layer_option: bool,
}

/// What to do about a message that is in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Answer that `Endpoint::own_mac` has the target.
    Answer,
    /// The sender has shown that it has one of its own addresses here.
    Nothing {
        /// Whether its MAC address may be learned from this.
        teaches: bool,
    },
}

impl NeighbourDiscovery {
    /// Reads and validates a discovery message. [RFC 4861 §7.1]
    ///
    /// # Errors
    /// `NeighbourDiscoveryUnanswered` for router discovery and redirects;
    /// `NeighbourDiscoveryInvalid` for what the RFC says to discard silently.
    pub fn parse(frame: &FrameBytes<'_>, packet: &Packet) -> Result<Self, Drop> {
        let invalid = Drop::NeighbourDiscoveryInvalid;
        let (IpAddr::V6(source), IpAddr::V6(destination), Transport::Icmpv6(message)) =
            (packet.source, packet.destination, packet.transport)
        else {
            return Err(invalid);
        };
        let start = usize::from(packet.transport_offset);
        let end = packet.frame_length();
        // A message that does not lie whole in the head is no message of any honest size.
        let body = frame.bytes().get(start..end).ok_or(invalid)?;
        let mut sum = checksum::pseudo_header(
            packet.source,
            packet.destination,
            Protocol::Icmpv6.number(),
            body.len() as u32,
        );
        sum.add(body);
        let is_fragment = packet.fragment.is_some() || packet.has_fragment_header;
        if packet.hops_left != 255 || message.code != 0 || is_fragment || sum.folded() != 0xffff {
            return Err(invalid);
        }
        if !matches!(message.kind, SOLICITATION | ADVERTISEMENT) {
            return Err(Drop::NeighbourDiscoveryUnanswered);
        }
        let is_solicitation = message.kind == SOLICITATION;
        let target: [u8; 16] = body
            .get(8..MESSAGE_LENGTH)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(invalid)?;
        let target = Ipv6Addr::from(target);
        let kind = if is_solicitation {
            SOURCE_OPTION
        } else {
            TARGET_OPTION
        };
        let link_layer = link_layer_option(&body[MESSAGE_LENGTH..], kind)?;
        let is_probe = is_solicitation && source.is_unspecified();
        let is_probe_broken =
            is_probe && (link_layer.is_some() || destination != solicited_node(target));
        if target.is_multicast() || is_probe_broken {
            return Err(invalid);
        }
        if link_layer.is_some_and(|mac| mac != packet.source_mac) {
            return Err(Drop::SourceMacSpoofed);
        }
        Ok(Self {
            is_solicitation,
            source_mac: packet.source_mac,
            source,
            target,
            has_link_layer_option: link_layer.is_some(),
        })
    }

    /// Judges the message as one that came in at this endpoint.
    ///
    /// # Errors
    /// `NeighbourDiscoveryInvalid` when the sender claims a foreign address.
    pub fn react(&self, snapshot: &Snapshot, endpoint: &Endpoint) -> Result<Reaction, Drop> {
        let nothing = |teaches| Ok(Reaction::Nothing { teaches });
        // Duplicate address detection: silence says that the address is free. [RFC 4862 §5.4]
        if self.source.is_unspecified() {
            return nothing(false);
        }
        let (source, target) = (IpAddr::V6(self.source), IpAddr::V6(self.target));
        let is_local = endpoint.kind != EndpointKind::Uplink;
        let is_other = if is_local {
            !endpoint.has_address(source) && !address::is_link_local_v6(source)
        } else {
            snapshot.owner_of(source).is_some()
        };
        if is_other {
            return Err(Drop::NeighbourDiscoveryInvalid);
        }
        if !self.is_solicitation {
            let is_own = is_local && endpoint.has_address(target);
            // What a pod says of other addresses than its own is a claim on them.
            if is_local && !is_own && !address::is_link_local_v6(target) {
                return Err(Drop::NeighbourDiscoveryInvalid);
            }
            return nothing(is_own && self.has_link_layer_option);
        }
        let is_ours = if is_local {
            !endpoint.has_address(target) && target != source && !address::is_martian(target)
        } else {
            snapshot
                .owner_of(target)
                .is_some_and(|(_, owner)| owner.kind == EndpointKind::Pod)
        };
        if is_ours {
            return Ok(Reaction::Answer);
        }
        nothing(false)
    }

    /// Whether a solicitation itself shows the sender's MAC address.
    pub fn shows_sender(&self, endpoint: &Endpoint) -> bool {
        self.has_link_layer_option && endpoint.has_address(IpAddr::V6(self.source))
    }

    /// Makes the answer in the head: the target is at `own_mac`. Returns its length.
    ///
    /// # Errors
    /// `NoFreeFrame` when the head has no room.
    pub fn answer(&self, head: &mut [u8], own_mac: MacAddress) -> Result<u16, Drop> {
        let frame = head.get_mut(..FRAME_LENGTH).ok_or(Drop::NoFreeFrame)?;
        let message = Message {
            kind: ADVERTISEMENT,
            flags: ROUTER_SOLICITED_OVERRIDE,
            target: self.target,
            option: TARGET_OPTION,
        };
        let link = (own_mac, self.source_mac);
        message.write(frame, link, (self.target, self.source));
        Ok(FRAME_LENGTH as u16)
    }
}

/// Writes the question who has `target`, from the link-local address of `own_mac`. Returns its
/// length, or None when `out` has no room.
pub(crate) fn solicit(own_mac: MacAddress, target: Ipv6Addr, out: &mut [u8]) -> Option<usize> {
    let frame = out.get_mut(..FRAME_LENGTH)?;
    let message = Message {
        kind: SOLICITATION,
        flags: 0,
        target,
        option: SOURCE_OPTION,
    };
    let destination = solicited_node(target);
    let [.., a, b, c, d] = destination.octets();
    // [RFC 2464 §7]
    let destination_mac = MacAddress([0x33, 0x33, a, b, c, d]);
    let link = (own_mac, destination_mac);
    message.write(frame, link, (link_local(own_mac), destination));
    Some(FRAME_LENGTH)
}

/// The group that everybody with such an address listens to. [RFC 4291 §2.7.1]
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let low = (u16::from(b) << 8) | u16::from(c);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low)
}

/// The link-local address that a MAC address makes. [RFC 4291 appendix A]
fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 0x02,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

/// The MAC address in the option of this kind. [RFC 4861 §4.6]
fn link_layer_option(mut options: &[u8], kind: u8) -> Result<Option<MacAddress>, Drop> {
    let mut found = None;
    while let [option, units, ..] = options {
        let length = usize::from(*units) * 8;
        let body = options
            .get(..length)
            .filter(|body| !body.is_empty())
            .ok_or(Drop::NeighbourDiscoveryInvalid)?;
        if *option == kind {
            let mac: [u8; 6] = body
                .get(2..)
                .and_then(|mac| mac.try_into().ok())
                .ok_or(Drop::NeighbourDiscoveryInvalid)?;
            found = Some(MacAddress(mac));
        }
        options = &options[length..];
    }
    if options.is_empty() {
        Ok(found)
    } else {
        Err(Drop::NeighbourDiscoveryInvalid)
    }
}

/// A message to be made, with one option that holds our MAC address.
struct Message {
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: u8,
}

impl Message {
    /// Writes the whole frame. `link` and `addresses` are source and destination.
    fn write(
        &self,
        frame: &mut [u8],
        link: (MacAddress, MacAddress),
        addresses: (Ipv6Addr, Ipv6Addr),
    ) {
        let payload = (MESSAGE_LENGTH + OPTION_LENGTH) as u16;
        frame[..6].copy_from_slice(&link.1.0);
        frame[6..12].copy_from_slice(&link.0.0);
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[14..18].copy_from_slice(&[0x60, 0, 0, 0]);
        frame[18..20].copy_from_slice(&payload.to_be_bytes());
        frame[20..22].copy_from_slice(&[Protocol::Icmpv6.number(), 255]);
        frame[22..38].copy_from_slice(&addresses.0.octets());
        frame[38..54].copy_from_slice(&addresses.1.octets());
        let message = &mut frame[54..];
        message[..8].copy_from_slice(&[self.kind, 0, 0, 0, self.flags, 0, 0, 0]);
        message[8..24].copy_from_slice(&self.target.octets());
        message[24..26].copy_from_slice(&[self.option, 1]);
        message[26..32].copy_from_slice(&link.0.0);
        let mut sum = checksum::pseudo_header(
            IpAddr::V6(addresses.0),
            IpAddr::V6(addresses.1),
            Protocol::Icmpv6.number(),
            u32::from(payload),
        );
        sum.add(message);
        let sum = !sum.folded();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}
