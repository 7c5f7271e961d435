//! TCP resets: how a connection is told that it has ended. [RFC 9293 §3.5.2, §3.10.7]

use crate::packet::{ETHERNET_LENGTH, Packet, TcpFlags, Transport, word};
use crate::{FrameBytes, Handover, MacAddress, checksum};
use portcullis_policy::Protocol;
use std::collections::VecDeque;
use std::net::IpAddr;

const IPV4_LENGTH: usize = 20;
const IPV6_LENGTH: usize = 40;
const TCP_LENGTH: usize = 20;
/// Hops that a reset may go.
const HOPS: u8 = 64;
/// Resets that wait to be sent. A turn of the worker sends all of them; more at once is told by
/// the challenge that the silent end sends next.
pub(crate) const RESETS_MAX: usize = 1024;

/// The only content of a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub source: (IpAddr, u16),
    pub destination: (IpAddr, u16),
    pub sequence: u32,
    /// What it acknowledges. None sets no ACK flag.
    pub acknowledgement: Option<u32>,
}

/// A reset that a worker has to send: `write` makes the frame, which then goes to the ingress
/// half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    pub(crate) handover: Handover,
    pub(crate) segment: Segment,
}

impl Reset {
    /// Where its frame goes, once `Reset::write` has made it: to the ingress half there.
    #[must_use]
    pub fn handover(&self) -> &Handover {
        &self.handover
    }

    /// Makes the frame. Returns its length; zero when the head has no room.
    #[must_use]
    pub fn write(&self, head: &mut [u8]) -> usize {
        write(head, &self.segment).unwrap_or(0)
    }
}

/// Resets that wait to be sent, in the order in which they came up.
#[derive(Debug)]
pub(crate) struct Resets {
    waiting: VecDeque<Reset>,
    lost: u64,
}

impl Resets {
    pub fn new() -> Self {
        Self {
            waiting: VecDeque::with_capacity(RESETS_MAX),
            lost: 0,
        }
    }

    pub fn add(&mut self, reset: Reset) {
        if self.waiting.len() < RESETS_MAX {
            self.waiting.push_back(reset);
        } else {
            self.lost += 1;
        }
    }

    pub fn take(&mut self) -> Option<Reset> {
        self.waiting.pop_front()
    }

    pub fn lost(&self) -> u64 {
        self.lost
    }

    pub fn count(&self) -> usize {
        self.waiting.len()
    }
}

/// Makes the frame of a reset. Returns its length; None when the head has no room, or the
/// addresses are not of one family.
pub(crate) fn write(head: &mut [u8], segment: &Segment) -> Option<usize> {
    let (header, family) = match (segment.source.0, segment.destination.0) {
        (IpAddr::V4(_), IpAddr::V4(_)) => (IPV4_LENGTH, [0x08, 0x00]),
        (IpAddr::V6(_), IpAddr::V6(_)) => (IPV6_LENGTH, [0x86, 0xdd]),
        _ => return None,
    };
    let length = ETHERNET_LENGTH + header + TCP_LENGTH;
    let out = head.get_mut(..length)?;
    out.fill(0);
    out[12..14].copy_from_slice(&family);
    let (network, tcp) = out[ETHERNET_LENGTH..].split_at_mut(header);
    write_network(network, segment);
    write_tcp(tcp, segment);
    Some(length)
}

fn write_network(network: &mut [u8], segment: &Segment) {
    match (segment.source.0, segment.destination.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            network[0] = 0x45;
            network[2..4].copy_from_slice(&((IPV4_LENGTH + TCP_LENGTH) as u16).to_be_bytes());
            // Never to be cut up, so an identification says nothing. [RFC 6864 §4.1]
            network[6] = 0x40;
            network[8..10].copy_from_slice(&[HOPS, Protocol::Tcp.number()]);
            network[12..16].copy_from_slice(&source.octets());
            network[16..20].copy_from_slice(&destination.octets());
            let sum = !checksum::sum(network);
            network[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            network[0] = 0x60;
            network[4..6].copy_from_slice(&(TCP_LENGTH as u16).to_be_bytes());
            network[6..8].copy_from_slice(&[Protocol::Tcp.number(), HOPS]);
            network[8..24].copy_from_slice(&source.octets());
            network[24..40].copy_from_slice(&destination.octets());
        }
        _ => {}
    }
}

fn write_tcp(tcp: &mut [u8], segment: &Segment) {
    tcp[..2].copy_from_slice(&segment.source.1.to_be_bytes());
    tcp[2..4].copy_from_slice(&segment.destination.1.to_be_bytes());
    tcp[4..8].copy_from_slice(&segment.sequence.to_be_bytes());
    tcp[12] = (TCP_LENGTH as u8 / 4) << 4;
    tcp[13] = TcpFlags::RST;
    if let Some(acknowledgement) = segment.acknowledgement {
        tcp[8..12].copy_from_slice(&acknowledgement.to_be_bytes());
        tcp[13] |= TcpFlags::ACK;
    }
    let (source, destination) = (segment.source.0, segment.destination.0);
    let number = Protocol::Tcp.number();
    let mut sum = checksum::pseudo_header(source, destination, number, TCP_LENGTH as u32);
    sum.add(tcp);
    let sum = !sum.folded();
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
}

/// The reset that answers a segment which belongs to no connection. None for what is no such
/// segment, and for a reset: it is never answered.
pub(crate) fn answer_to(frame: &FrameBytes<'_>, packet: &Packet) -> Option<Segment> {
    let Transport::Tcp {
        ports,
        flags,
        header_length,
        ..
    } = packet.transport
    else {
        return None;
    };
    if flags.has(TcpFlags::RST) {
        return None;
    }
    let start = usize::from(packet.transport_offset);
    let tcp = frame.bytes().get(start..start + TCP_LENGTH)?;
    let long = |at: usize| u32::from(word(tcp, at)) << 16 | u32::from(word(tcp, at + 2));
    let (sequence, acknowledgement) = if flags.has(TcpFlags::ACK) {
        (long(8), None)
    } else {
        let payload = packet.frame_length() - start - usize::from(header_length);
        let controls = u32::from(flags.has(TcpFlags::SYN)) + u32::from(flags.has(TcpFlags::FIN));
        let end = long(4).wrapping_add(payload as u32).wrapping_add(controls);
        (0, Some(end))
    };
    Some(Segment {
        source: (packet.destination, ports.1),
        destination: (packet.source, ports.0),
        sequence,
        acknowledgement,
    })
}

/// Puts the MAC addresses of the way out in.
pub(crate) fn address(head: &mut [u8], destination: MacAddress, source: MacAddress) {
    head[..6].copy_from_slice(&destination.0);
    head[6..12].copy_from_slice(&source.0);
}
