//! The Internet checksum over chains of pieces, whole or by difference. [RFC 1071, RFC 1624]

use crate::glance::Glance;
use crate::packet::{self, Packet, Parsed, Transport};
use crate::{Checksum, FrameBytes};
use portcullis_policy::Protocol;
use std::net::IpAddr;

/// The folded one's complement sum of bytes, words in network order; an odd last byte counts as
/// the high half of a word. Not yet complemented.
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    let mut running = Running::default();
    running.add(bytes);
    running.folded()
}

/// A sum that grows piece by piece, also by pieces of odd length.
#[derive(Debug, Clone, Copy, Default)]
pub struct Running {
    /// Of 16-bit words in network order; 48 bits of room for carries.
    total: u64,
    /// Whether the next byte is the low half of a word.
    is_odd: bool,
}

impl Running {
    /// Adds the next piece.
    pub fn add(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if self.is_odd
            && let [first, after @ ..] = rest
        {
            self.total += u64::from(*first);
            self.is_odd = false;
            rest = after;
        }
        // Sums in the machine's own order and swaps once at the end: the sum is the same.
        // [RFC 1071 §2 (B)]
        let (words, tail) = rest.as_chunks::<4>();
        let mut native = 0_u64;
        for word in words {
            native += u64::from(u32::from_ne_bytes(*word));
        }
        self.total += u64::from(u16::from_be(fold(native)));
        let (pairs, last) = tail.as_chunks::<2>();
        for pair in pairs {
            self.total += u64::from(u16::from_be_bytes(*pair));
        }
        if let [last] = last {
            self.total += u64::from(*last) << 8;
            self.is_odd = true;
        }
    }

    /// Adds one word.
    pub fn add_word(&mut self, word: u16) {
        debug_assert!(!self.is_odd, "words follow whole words");
        self.total += u64::from(word);
    }

    /// The sum in 16 bits, not complemented.
    #[must_use]
    pub fn folded(self) -> u16 {
        fold(self.total)
    }
}

/// Folds the carries of a sum into 16 bits.
fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// Folds a changed 16-bit word into a checksum without reading the packet again.
///
/// All words are in network order; the result replaces `checksum`. Never fails.
/// [RFC 1624 §3, equation 3]
#[must_use]
pub fn adjust(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(u64::from(!checksum) + u64::from(!old) + u64::from(new))
}

/// The sum of the pseudo-header. [RFC 9293 §3.1; RFC 8200 §8.1]
#[must_use]
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: u32) -> Running {
    let mut running = Running::default();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => running.add(&address.octets()),
            IpAddr::V6(address) => running.add(&address.octets()),
        }
    }
    running.add(&length.to_be_bytes());
    running.add_word(u16::from(protocol));
    running
}

/// Finishes the transport checksum that a pod left to its network card, if it did.
///
/// A partial TCP or UDP checksum is the folded sum of the pseudo-header; it becomes the whole one
/// over all pieces, and UDP's zero becomes 0xffff. A partial SCTP checksum is zero; it becomes the
/// CRC32c. Anything else stays as it is: a fragment, a whole checksum, a frame that is no such
/// packet. [Linux, `skb_checksum_help` and `skb_crc32c_csum_help`; RFC 768; RFC 9260 §6.8]
pub fn finish_checksum(frame: &mut FrameBytes<'_>) {
    if let Ok(Parsed::Ip(packet)) = packet::parse(frame) {
        finish(frame, &packet, false);
    }
}

/// `finish_checksum` for a frame that has been parsed and trimmed, and what was done. With
/// `is_offloaded` that is only said of sums that whoever sends the frame can finish: not of a CRC,
/// nor where the sum ends before the frame.
pub(crate) fn finish(frame: &mut FrameBytes<'_>, packet: &Packet, is_offloaded: bool) -> Checksum {
    if packet.fragment.is_some() {
        return Checksum::Untouched;
    }
    let start = usize::from(packet.transport_offset);
    let end = packet.frame_length();
    let (protocol, field, end) = match packet.transport {
        Transport::Tcp { .. } => (Protocol::Tcp, 16, end),
        Transport::Udp { .. } => {
            let length = u16::from_be_bytes([frame.head[start + 4], frame.head[start + 5]]);
            (Protocol::Udp, 6, end.min(start + usize::from(length)))
        }
        Transport::Sctp { .. } => return finish_sctp(frame, start, end),
        _ => return Checksum::Untouched,
    };
    let length = (end - start) as u32;
    let pseudo = pseudo_header(packet.source, packet.destination, protocol.number(), length);
    let at = start + field;
    if frame.head[at..at + 2] != pseudo.folded().to_be_bytes() {
        return Checksum::Untouched;
    }
    // A whole checksum that looks partial by chance comes out as it was, whoever finishes it: the
    // field is part of what is summed.
    if is_offloaded && end == frame.length() {
        let offset = field as u16;
        return Checksum::Partial {
            start: packet.transport_offset,
            offset,
        };
    }
    finish_sum(frame, protocol, start, end, at);
    Checksum::Finished
}

/// `finish` for a packet that was only glanced at.
#[inline]
pub(crate) fn finish_plain(
    frame: &mut FrameBytes<'_>,
    glance: &Glance,
    is_offloaded: bool,
) -> Checksum {
    let start = glance.transport_offset;
    let (protocol, field) = match glance.is_udp {
        true => (Protocol::Udp, 6),
        false => (Protocol::Tcp, 16),
    };
    let addresses = match glance.is_ipv4 {
        true => &frame.head[start - 8..start],
        false => &frame.head[start - 32..start],
    };
    let mut total = (glance.checksum_end - start) as u64 + u64::from(protocol.number());
    for word in addresses.as_chunks::<4>().0 {
        total += u64::from(u32::from_be_bytes(*word));
    }
    let at = start + field;
    if frame.head[at..at + 2] != fold(total).to_be_bytes() {
        return Checksum::Untouched;
    }
    if is_offloaded && glance.checksum_end == frame.length() {
        return Checksum::Partial {
            start: start as u16,
            offset: field as u16,
        };
    }
    finish_sum(frame, protocol, start, glance.checksum_end, at);
    Checksum::Finished
}

fn finish_sum(frame: &mut FrameBytes<'_>, protocol: Protocol, start: usize, end: usize, at: usize) {
    // The field holds the pseudo-header's sum, so the sum over all bytes includes it.
    let mut running = Running::default();
    frame.for_each_piece(start, end, |piece| running.add(piece));
    let checksum = match (!running.folded(), protocol) {
        (0, Protocol::Udp) => 0xffff,
        (checksum, _) => checksum,
    };
    frame.head[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

fn finish_sctp(frame: &mut FrameBytes<'_>, start: usize, end: usize) -> Checksum {
    let at = start + 8;
    if frame.head[at..at + 4] != [0; 4] {
        return Checksum::Untouched;
    }
    let mut register = u32::MAX;
    frame.for_each_piece(start, end, |piece| register = crc32c(register, piece));
    frame.head[at..at + 4].copy_from_slice(&(!register).to_le_bytes());
    Checksum::Finished
}

/// Feeds bytes into a CRC32c register. [RFC 9260 appendix A]
fn crc32c(register: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(register, |register, byte| {
        CRC32C[usize::from(register as u8 ^ byte)] ^ (register >> 8)
    })
}

/// The remainder of each byte by the Castagnoli polynomial, bits reversed.
const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let feedback = if remainder & 1 == 1 { 0x82f6_3b78 } else { 0 };
            remainder = (remainder >> 1) ^ feedback;
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
