//! The extension headers of an IPv6 packet, walked to what lies above IP. [RFC 8200 §4]

use crate::Drop;
use etherparse::{IpNumber, Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice};

/// Extension headers that are walked before a packet is given up.
const EXTENSION_HEADERS_MAX: usize = 8;

/// Where the extension headers of an IPv6 packet lead.
pub(crate) struct Chain {
    pub protocol: IpNumber,
    /// From the start of the IPv6 header; never beyond the bytes that were walked.
    pub offset: usize,
    /// What the fragment header says, unless the packet is all there is.
    pub fragment: Option<Piece>,
    pub has_fragment_header: bool,
}

/// What a fragment header says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub identification: u32,
    /// Bytes of the datagram before this piece.
    pub offset: u16,
    pub is_last: bool,
    /// Where this piece of the datagram begins, from the start of the IPv6 header.
    pub start: usize,
}

impl Chain {
    /// Why the walk ends when a header is not all there: what the first fragment lacks of the
    /// headers would come later, past the eyes of policy. [RFC 7112 §5]
    fn cut_short(&self) -> Drop {
        match self.fragment {
            Some(_) => Drop::FragmentTiny,
            None => Drop::Truncated,
        }
    }
}

/// Walks the extension headers of a packet. [RFC 8200 §4]
pub(crate) fn walk_extensions(first: IpNumber, start: usize, packet: &[u8]) -> Result<Chain, Drop> {
    let mut chain = Chain {
        protocol: first,
        offset: start,
        fragment: None,
        has_fragment_header: false,
    };
    for position in 0..=EXTENSION_HEADERS_MAX {
        let bytes = packet.get(chain.offset..).ok_or(chain.cut_short())?;
        match chain.protocol {
            // Only directly behind the IPv6 header. [RFC 8200 §4.1]
            IpNumber::IPV6_HEADER_HOP_BY_HOP if position > 0 => return Err(Drop::Malformed),
            IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_DESTINATION_OPTIONS
            | IpNumber::IPV6_ROUTE_HEADER => {
                let header =
                    Ipv6RawExtHeaderSlice::from_slice(bytes).map_err(|_| chain.cut_short())?;
                // Segments left: the packet would go on to an address that was not judged.
                let is_route = chain.protocol == IpNumber::IPV6_ROUTE_HEADER;
                if is_route && header.slice()[3] != 0 {
                    return Err(Drop::SourceRouted);
                }
                chain.offset += header.slice().len();
                chain.protocol = header.next_header();
            }
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                if chain.has_fragment_header {
                    return Err(Drop::Malformed);
                }
                let header =
                    Ipv6FragmentHeaderSlice::from_slice(bytes).map_err(|_| Drop::Truncated)?;
                chain.has_fragment_header = true;
                chain.offset += header.slice().len();
                chain.protocol = header.next_header();
                let offset = header.fragment_offset().value() * 8;
                if offset != 0 || header.more_fragments() {
                    chain.fragment = Some(Piece {
                        identification: header.identification(),
                        offset,
                        is_last: !header.more_fragments(),
                        start: chain.offset,
                    });
                }
                // What follows is the middle of something.
                if offset != 0 {
                    return Ok(chain);
                }
            }
            _ => return Ok(chain),
        }
    }
    Err(Drop::Malformed)
}
