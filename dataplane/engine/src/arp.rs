//! ARP: the gateway answers for every address but the asker's own, so pods see one next hop.

use crate::packet::ETHERNET_LENGTH;
use crate::{Drop, Endpoint, EndpointKind, FrameBytes, MacAddress, Snapshot, address};
use std::net::{IpAddr, Ipv4Addr};

/// Bytes of an ARP packet for Ethernet and IPv4. [RFC 826]
const ARP_LENGTH: usize = 28;
/// Bytes of the whole frame, before the padding that a wire would add.
pub(crate) const FRAME_LENGTH: usize = ETHERNET_LENGTH + ARP_LENGTH;
/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4. [RFC 826]
const ETHERNET_AND_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// A checked ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arp {
    is_request: bool,
    sender_mac: MacAddress,
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
}

/// What to do about an ARP packet that is in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Answer that `Endpoint::own_mac` has the target.
    Answer,
    /// Nothing asked of us.
    Nothing,
}

impl Arp {
    /// Reads the body of an ARP frame.
    ///
    /// # Errors
    /// `Truncated`, or `ArpInvalid` for anything but Ethernet, IPv4, request and reply.
    pub fn parse(frame: &FrameBytes<'_>) -> Result<Self, Drop> {
        let body: &[u8; ARP_LENGTH] = frame
            .bytes()
            .get(ETHERNET_LENGTH..FRAME_LENGTH)
            .and_then(|body| body.try_into().ok())
            .ok_or(Drop::Truncated)?;
        let operation = u16::from_be_bytes([body[6], body[7]]);
        if body[..6] != ETHERNET_AND_IPV4 || !(REQUEST..=REPLY).contains(&operation) {
            return Err(Drop::ArpInvalid);
        }
        let mut sender_mac = MacAddress::default();
        sender_mac.0.copy_from_slice(&body[8..14]);
        Ok(Self {
            is_request: operation == REQUEST,
            sender_mac,
            sender: Ipv4Addr::new(body[14], body[15], body[16], body[17]),
            target: Ipv4Addr::new(body[24], body[25], body[26], body[27]),
        })
    }

    /// Judges the packet as one that came in at this endpoint in a frame from `source_mac`.
    ///
    /// # Errors
    /// `SourceMacSpoofed` or `ArpInvalid` when the sender claims to be somebody else.
    pub fn react(
        &self,
        snapshot: &Snapshot,
        endpoint: &Endpoint,
        source_mac: MacAddress,
    ) -> Result<Reaction, Drop> {
        if self.sender_mac != source_mac {
            return Err(Drop::SourceMacSpoofed);
        }
        let (sender, target) = (IpAddr::V4(self.sender), IpAddr::V4(self.target));
        // A probe asks whether the sender may have the address: silence says yes. [RFC 5227 §1.1]
        if self.sender.is_unspecified() {
            return Ok(Reaction::Nothing);
        }
        let is_other = match endpoint.kind {
            EndpointKind::Pod | EndpointKind::Host => !endpoint.has_address(sender),
            EndpointKind::Uplink => snapshot.owner_of(sender).is_some(),
        };
        if is_other {
            return Err(Drop::ArpInvalid);
        }
        let is_ours = match endpoint.kind {
            EndpointKind::Pod | EndpointKind::Host => {
                !endpoint.has_address(target)
                    && !address::is_martian(target)
                    && !address::is_multicast(target)
            }
            // The node answers for itself; only pods are reached through us.
            EndpointKind::Uplink => snapshot
                .owner_of(target)
                .is_some_and(|(_, owner)| owner.kind == EndpointKind::Pod),
        };
        Ok(if self.is_request && is_ours {
            Reaction::Answer
        } else {
            Reaction::Nothing
        })
    }

    /// Makes the answer in the head: the target is at `own_mac`. Returns its length.
    ///
    /// # Errors
    /// `NoFreeFrame` when the head has no room.
    pub fn answer(&self, head: &mut [u8], own_mac: MacAddress) -> Result<u16, Drop> {
        let frame = head.get_mut(..FRAME_LENGTH).ok_or(Drop::NoFreeFrame)?;
        write(
            frame,
            REPLY,
            (own_mac, self.target),
            (self.sender_mac, self.sender),
            self.sender_mac,
        );
        Ok(FRAME_LENGTH as u16)
    }
}

/// Writes the question who has `target`, from `own_mac` to everybody. Returns its length, or None
/// when `out` has no room.
///
/// The sender's address stays unspecified: Linux answers such a probe whatever its routes are,
/// and no address of the gateway has to make sense to the asked.
pub(crate) fn solicit(own_mac: MacAddress, target: Ipv4Addr, out: &mut [u8]) -> Option<usize> {
    let frame = out.get_mut(..FRAME_LENGTH)?;
    write(
        frame,
        REQUEST,
        (own_mac, Ipv4Addr::UNSPECIFIED),
        (MacAddress::default(), target),
        MacAddress::BROADCAST,
    );
    Some(FRAME_LENGTH)
}

fn write(
    frame: &mut [u8],
    operation: u16,
    sender: (MacAddress, Ipv4Addr),
    target: (MacAddress, Ipv4Addr),
    destination: MacAddress,
) {
    frame[..6].copy_from_slice(&destination.0);
    frame[6..12].copy_from_slice(&sender.0.0);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    frame[14..20].copy_from_slice(&ETHERNET_AND_IPV4);
    frame[20..22].copy_from_slice(&operation.to_be_bytes());
    frame[22..28].copy_from_slice(&sender.0.0);
    frame[28..32].copy_from_slice(&sender.1.octets());
    frame[32..38].copy_from_slice(&target.0.0);
    frame[38..42].copy_from_slice(&target.1.octets());
}
