//! Cutting a TCP super-frame into packets that the way out takes.

use crate::packet::{self, ETHERNET_LENGTH, Packet, Parsed, TcpFlags, Transport};
use crate::{FrameBytes, checksum};
use portcullis_policy::Protocol;
use std::net::IpAddr;

/// A frame that can be cut: where its headers end and how much payload it has.
struct Cut {
    packet: Packet,
    headers: usize,
    payload: usize,
}

fn cut(frame: &FrameBytes<'_>) -> Option<Cut> {
    let Ok(Parsed::Ip(packet)) = packet::parse(frame) else {
        return None;
    };
    if !is_divisible(&packet) {
        return None;
    }
    let headers = usize::from(packet.transport_offset) + tcp_header_length(&packet)?;
    Some(Cut {
        packet,
        headers,
        payload: packet.frame_length() - headers,
    })
}

fn tcp_header_length(packet: &Packet) -> Option<usize> {
    match packet.transport {
        Transport::Tcp { header_length, .. } => Some(usize::from(header_length)),
        _ => None,
    }
}

/// Whether the packet is one that segmentation offload makes: TCP, in no fragment, no part of
/// opening a connection.
pub(crate) fn is_divisible(packet: &Packet) -> bool {
    match packet.transport {
        Transport::Tcp { flags, .. } => {
            !flags.has(TcpFlags::SYN)
                && !flags.has(TcpFlags::RST)
                && packet.fragment.is_none()
                && !packet.has_fragment_header
        }
        _ => false,
    }
}

/// Bytes of TCP payload that a packet like this may carry where `mtu` bytes of IP are taken and
/// the receiver takes `payload_max` (zero: not known). None when nothing is left.
pub(crate) fn payload_max(packet: &Packet, mtu: u32, payload_max: u16) -> Option<u16> {
    let tcp_header = tcp_header_length(packet)? as u32;
    let headers = u32::from(packet.transport_offset) - ETHERNET_LENGTH as u32 + tcp_header;
    let room = mtu.checked_sub(headers)?.min(u32::from(u16::MAX));
    let room = match payload_max {
        0 => room,
        // The option counts no TCP options: they take from the payload. [RFC 6691 §2]
        told => room.min(u32::from(told).saturating_sub(tcp_header - 20)),
    };
    u16::try_from(room).ok().filter(|room| *room > 0)
}

/// How many packets a TCP super-frame makes at `payload_max` bytes of payload each. Zero when the
/// frame cannot be cut.
#[must_use]
pub fn segments(frame: &FrameBytes<'_>, payload_max: u16) -> usize {
    match cut(frame) {
        Some(cut) if payload_max > 0 => cut.payload.div_ceil(usize::from(payload_max)).max(1),
        _ => 0,
    }
}

/// Writes the packet at `index` (from zero) of a TCP super-frame into `out` and returns its
/// length.
///
/// Lengths, IPv4 identification (counted up), sequence number and checksums are exact; FIN and
/// PSH are left to the last packet, CWR to the first. None behind the last packet, and when the
/// frame cannot be cut or `out` has no room; `segments` tells how many there are.
#[must_use]
pub fn segment(
    frame: &FrameBytes<'_>,
    payload_max: u16,
    index: usize,
    out: &mut [u8],
) -> Option<usize> {
    let cut = cut(frame).filter(|_| payload_max > 0)?;
    let step = usize::from(payload_max);
    let from = index.checked_mul(step)?;
    if from >= cut.payload && index > 0 {
        return None;
    }
    let to = (from + step).min(cut.payload);
    let length = cut.headers + to - from;
    let out = out.get_mut(..length)?;
    out[..cut.headers].copy_from_slice(&frame.bytes()[..cut.headers]);
    let mut at = cut.headers;
    frame.for_each_piece(cut.headers + from, cut.headers + to, |piece| {
        out[at..at + piece.len()].copy_from_slice(piece);
        at += piece.len();
    });
    write_network(out, &cut.packet, index);
    let transport = &mut out[usize::from(cut.packet.transport_offset)..];
    write_transport(transport, &cut.packet, from, to == cut.payload);
    Some(length)
}

fn write_network(out: &mut [u8], packet: &Packet, index: usize) {
    let total = out.len() - ETHERNET_LENGTH;
    let header = &mut out[ETHERNET_LENGTH..usize::from(packet.transport_offset)];
    match packet.source {
        IpAddr::V4(_) => {
            let identification = u16::from_be_bytes([header[4], header[5]]);
            let identification = identification.wrapping_add(index as u16);
            header[2..4].copy_from_slice(&(total as u16).to_be_bytes());
            header[4..6].copy_from_slice(&identification.to_be_bytes());
            header[10..12].fill(0);
            let sum = !checksum::sum(header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        IpAddr::V6(_) => {
            header[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
        }
    }
}

/// `from` is the offset of the payload in the super-frame's.
fn write_transport(transport: &mut [u8], packet: &Packet, from: usize, is_last: bool) {
    let sequence = u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]);
    let sequence = sequence.wrapping_add(from as u32);
    transport[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !is_last {
        transport[13] &= !(TcpFlags::FIN | TcpFlags::PSH);
    }
    if from > 0 {
        transport[13] &= !TcpFlags::CWR;
    }
    transport[16..18].fill(0);
    let mut sum = checksum::pseudo_header(
        packet.source,
        packet.destination,
        Protocol::Tcp.number(),
        transport.len() as u32,
    );
    sum.add(transport);
    let sum = !sum.folded();
    transport[16..18].copy_from_slice(&sum.to_be_bytes());
}
