//! Reading a TCP header.

use crate::Drop;
use crate::packet::{TcpFlags, Transport};
use etherparse::{TcpHeaderSlice, err};

/// Reads the header that these bytes begin with.
///
/// # Errors
/// `Truncated` or `Malformed`.
pub(crate) fn parse(bytes: &[u8]) -> Result<Transport, Drop> {
    let header = TcpHeaderSlice::from_slice(bytes).map_err(|error| match error {
        err::tcp::HeaderSliceError::Len(_) => Drop::Truncated,
        err::tcp::HeaderSliceError::Content(_) => Drop::Malformed,
    })?;
    let flags = TcpFlags(header.slice()[13]);
    // A SYN that also ends the connection means nothing; stacks disagree about it.
    if flags.has(TcpFlags::SYN) && (flags.has(TcpFlags::FIN) || flags.has(TcpFlags::RST)) {
        return Err(Drop::Malformed);
    }
    Ok(Transport::Tcp {
        ports: (header.source_port(), header.destination_port()),
        flags,
        sequence: header.sequence_number(),
        acknowledgement: header.acknowledgment_number(),
        header_length: header.slice().len() as u8,
        payload_max: if flags.has(TcpFlags::SYN) {
            maximum_segment_size(&header.slice()[20..])
        } else {
            None
        },
    })
}

/// The maximum segment size option. [RFC 9293 §3.2: kind 2, length 4]
fn maximum_segment_size(mut options: &[u8]) -> Option<u16> {
    while let [kind, rest @ ..] = options {
        match (*kind, rest) {
            (0, _) => return None,
            (1, _) => options = rest,
            (2, [4, high, low, ..]) => return Some(u16::from_be_bytes([*high, *low])),
            (_, [length, ..]) if *length >= 2 => options = options.get(usize::from(*length)..)?,
            _ => return None,
        }
    }
    None
}
