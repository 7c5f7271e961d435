//! The only place where bytes of a forwarded frame change.

use crate::packet::{ETHERNET_LENGTH, Packet};
use crate::{FrameBytes, MacAddress, checksum};
use std::net::IpAddr;

/// Puts the MAC addresses of the way out in, and takes one hop from the packet.
pub(crate) fn forward(
    frame: &mut FrameBytes<'_>,
    packet: &Packet,
    destination: MacAddress,
    source: MacAddress,
) {
    frame.head[..6].copy_from_slice(&destination.0);
    frame.head[6..12].copy_from_slice(&source.0);
    let network = &mut frame.head[ETHERNET_LENGTH..];
    match packet.source {
        IpAddr::V4(_) => {
            let old = u16::from_be_bytes([network[8], network[9]]);
            network[8] = packet.hops_left.saturating_sub(1);
            let new = u16::from_be_bytes([network[8], network[9]]);
            let sum = u16::from_be_bytes([network[10], network[11]]);
            let sum = checksum::adjust(sum, old, new);
            network[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        IpAddr::V6(_) => network[7] = packet.hops_left.saturating_sub(1),
    }
}

/// `forward` for a packet that was only glanced at.
#[inline]
pub(crate) fn forward_plain(
    frame: &mut FrameBytes<'_>,
    is_ipv4: bool,
    destination: MacAddress,
    source: MacAddress,
) {
    frame.head[..6].copy_from_slice(&destination.0);
    frame.head[6..12].copy_from_slice(&source.0);
    let network = &mut frame.head[ETHERNET_LENGTH..];
    if is_ipv4 {
        let old = u16::from_be_bytes([network[8], network[9]]);
        let new = old.wrapping_sub(0x100);
        network[8..10].copy_from_slice(&new.to_be_bytes());
        let sum = u16::from_be_bytes([network[10], network[11]]);
        let sum = checksum::adjust(sum, old, new);
        network[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        network[7] = network[7].saturating_sub(1);
    }
}

/// Cuts Ethernet padding off, so that only what was judged goes on. Returns whether it could:
/// what follows a packet in a further piece is no padding.
pub(crate) fn trim(frame: &mut FrameBytes<'_>, packet: &Packet) -> bool {
    let length = packet.frame_length();
    if frame.length() == length {
        return true;
    }
    if !frame.tail.is_empty() || length > frame.head_length {
        return false;
    }
    frame.head_length = length;
    true
}
