//! A packet at a glance: what the short way needs of the commonest packets, read in one go.
//!
//! Whatever is not plain is none of these: it takes the whole walk, where `packet::parse` reads it.

use crate::flow::Side;
use crate::flow_key::FlowKey;
use crate::packet::{ETHERNET_LENGTH, TcpFlags, word};
use crate::tcp_state::Segment;
use crate::{EndpointId, FrameBytes, MacAddress};

const IPV4_LENGTH: usize = 20;
const IPV6_LENGTH: usize = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A whole UDP datagram, or a TCP segment that neither opens nor ends, in IPv4 without options or
/// IPv6 without extension headers, without padding.
#[derive(Debug)]
pub(crate) struct Glance {
    pub is_ipv4: bool,
    /// UDP, or else TCP.
    pub is_udp: bool,
    pub ip_length: u32,
    pub transport_offset: usize,
    /// Where the part ends that the transport checksum covers.
    pub checksum_end: usize,
    tcp_header_length: usize,
}

impl Glance {
    /// None when the frame is anything else, or there is anything wrong with it.
    #[inline]
    pub fn of(frame: &FrameBytes<'_>) -> Option<Self> {
        let head = frame.bytes();
        // All that is read below lies in these first bytes, or is checked against their number.
        let first: &[u8; ETHERNET_LENGTH + IPV4_LENGTH + 8] = head.first_chunk()?;
        let network = ETHERNET_LENGTH;
        let (is_ipv4, protocol, ip_length, transport_offset) = match [first[12], first[13]] {
            [0x08, 0x00] => {
                let is_plain = first[network] == 0x45 && word(first, network + 6) & 0x3fff == 0;
                if !is_plain || header_sum(first) != 0xffff || first[network + 8] <= 1 {
                    return None;
                }
                let length = usize::from(word(first, network + 2));
                (true, first[network + 9], length, network + IPV4_LENGTH)
            }
            [0x86, 0xdd] => {
                if first[network] >> 4 != 6 || first[network + 7] <= 1 {
                    return None;
                }
                let length = IPV6_LENGTH + usize::from(word(first, network + 4));
                (false, first[network + 6], length, network + IPV6_LENGTH)
            }
            _ => return None,
        };
        let end = network + ip_length;
        if frame.length() != end {
            return None;
        }
        let transport = head.get(transport_offset..)?;
        let (is_udp, checksum_end, tcp_header_length) = match protocol {
            UDP => {
                let length = usize::from(word(transport.first_chunk::<8>()?, 4));
                if length < 8 || transport_offset + length > end {
                    return None;
                }
                (true, transport_offset + length, 0)
            }
            TCP => {
                let header = transport.first_chunk::<20>()?;
                let length = usize::from(header[12] >> 4) * 4;
                let ends = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST;
                let is_plain = length >= 20 && length <= transport.len();
                if !is_plain || transport_offset + length > end || header[13] & ends != 0 {
                    return None;
                }
                (false, end, length)
            }
            _ => return None,
        };
        Some(Self {
            is_ipv4,
            is_udp,
            ip_length: u32::try_from(ip_length).ok()?,
            transport_offset,
            checksum_end,
            tcp_header_length,
        })
    }

    /// The key of its flow at the endpoint that sent it.
    #[inline]
    pub fn key(&self, endpoint: EndpointId, frame: &FrameBytes<'_>) -> Option<FlowKey> {
        let protocol = if self.is_udp { UDP } else { TCP };
        let head = frame.bytes();
        let ports = head.get(self.transport_offset..)?.first_chunk()?;
        let network = head.get(ETHERNET_LENGTH..)?;
        Some(if self.is_ipv4 {
            let addresses = network.get(12..)?.first_chunk()?;
            FlowKey::sent_ipv4(endpoint, protocol, addresses, ports)
        } else {
            let addresses = network.get(8..)?.first_chunk()?;
            FlowKey::sent_ipv6(endpoint, protocol, addresses, ports)
        })
    }

    /// Whom the frame is for on its link, and who sent it.
    #[inline]
    pub fn macs(frame: &FrameBytes<'_>) -> Option<(MacAddress, MacAddress)> {
        let first: &[u8; 12] = frame.bytes().first_chunk()?;
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *first;
        Some((
            MacAddress([a, b, c, d, e, f]),
            MacAddress([g, h, i, j, k, l]),
        ))
    }

    /// Its numbers as a flow takes note of them. None of UDP.
    #[inline]
    pub fn segment(&self, frame: &FrameBytes<'_>) -> Option<Segment> {
        if self.is_udp {
            return None;
        }
        let header: &[u8; 20] = frame.bytes().get(self.transport_offset..)?.first_chunk()?;
        let number = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        Some(Segment {
            // Neither counts in the middle of a connection.
            sender: Side::Local,
            is_initiator: true,
            flags: TcpFlags(header[13]),
            sequence: number(4),
            acknowledgement: number(8),
            length: (self.checksum_end - self.transport_offset - self.tcp_header_length) as u32,
        })
    }
}

/// The folded sum of an IPv4 header without options behind Ethernet, in the order of this machine's
/// bytes: 0xffff when the header is right, in either order. [RFC 1071, section 2]
#[inline]
fn header_sum(first: &[u8; ETHERNET_LENGTH + IPV4_LENGTH + 8]) -> u16 {
    let mut total = 0_u64;
    for at in (ETHERNET_LENGTH..ETHERNET_LENGTH + IPV4_LENGTH).step_by(4) {
        let word = [first[at], first[at + 1], first[at + 2], first[at + 3]];
        total += u64::from(u32::from_ne_bytes(word));
    }
    for bits in [32, 16, 16] {
        total = (total & ((1 << bits) - 1)) + (total >> bits);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_is_right_when_the_sum_of_its_words_says_so(
            mut first: [u8; ETHERNET_LENGTH + IPV4_LENGTH + 8],
            damage in 0..=1_u8,
        ) {
            let sum = |first: &[u8]| {
                let header = &first[ETHERNET_LENGTH..ETHERNET_LENGTH + IPV4_LENGTH];
                let words = header.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
                let mut sum: u32 = words.sum();
                while sum > 0xffff {
                    sum = (sum & 0xffff) + (sum >> 16);
                }
                sum as u16
            };
            first[24..26].fill(0);
            let finished = !sum(&first);
            first[24..26].copy_from_slice(&finished.to_be_bytes());
            first[33] ^= damage;
            prop_assert_eq!(header_sum(&first) == 0xffff, sum(&first) == 0xffff);
            prop_assert_eq!(header_sum(&first) == 0xffff, damage == 0);
        }
    }
}
