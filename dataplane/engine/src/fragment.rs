//! What a fragment says of its place in a datagram, and what of the datagram judges it.

use crate::Drop;
use crate::flow_key::{Role, Tuple};
use portcullis_policy::Protocol;

/// Bytes of a TCP header without options: no honest sender cuts inside of it.
const TCP_HEADER_LENGTH: u16 = 20;

/// The place of a fragment in its datagram. A whole datagram has none, nor has an IPv6 packet
/// whose fragment header says that it is all there is. [RFC 6946]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// What its datagram's fragments have in common.
    pub identification: u32,
    /// Bytes of the datagram before it.
    pub offset: u16,
    /// Bytes of the datagram in it; never zero.
    pub length: u16,
    /// Whether no other follows.
    pub is_last: bool,
}

impl Fragment {
    /// Checks a fragment of `length` bytes.
    ///
    /// # Errors
    /// `Malformed` when it is empty, when it is not the last and leaves a gap, or when it reaches
    /// beyond the longest datagram. [RFC 791 §3.2; RFC 8200 §4.5]
    pub(crate) fn check(
        identification: u32,
        offset: u16,
        length: usize,
        is_last: bool,
    ) -> Result<Self, Drop> {
        let length = u16::try_from(length).map_err(|_| Drop::Malformed)?;
        let is_beyond = offset.checked_add(length).is_none();
        if length == 0 || is_beyond || (!is_last && !length.is_multiple_of(8)) {
            return Err(Drop::Malformed);
        }
        Ok(Self {
            identification,
            offset,
            length,
            is_last,
        })
    }

    /// Whether it begins inside of the header of this protocol, to overwrite what was judged.
    /// [RFC 1858 §4; RFC 3128]
    pub(crate) fn is_tiny(&self, protocol: Protocol) -> bool {
        protocol == Protocol::Tcp && (1..TCP_HEADER_LENGTH).contains(&self.offset)
    }

    /// The first byte of the datagram behind it.
    pub(crate) fn end(&self) -> u16 {
        self.offset + self.length
    }
}

/// What the first fragment of a datagram says above IP: by this its other fragments are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// The ports that stand for it in its flow's key.
    pub(crate) ports: (u16, u16),
    /// IP protocol number. IPv6 lets later fragments state any other. [RFC 8200 §4.5]
    pub(crate) protocol: u8,
    /// The ICMP type of a message that is neither echo nor error; else zero.
    pub(crate) message: u8,
    /// Whether it began a flow of its own: a TCP SYN, an echo request.
    pub(crate) is_opening: bool,
}

impl Datagram {
    pub(crate) fn of(protocol: Protocol, tuple: &Tuple) -> Self {
        Self {
            ports: tuple.ports,
            protocol: protocol.number(),
            message: tuple.message,
            is_opening: tuple.role == Role::Opens,
        }
    }

    /// The protocol as policy knows it.
    pub(crate) fn protocol(&self) -> Protocol {
        Protocol::from_number(self.protocol)
    }

    /// Source and destination port as records know them: for ICMP zero and the type.
    pub(crate) fn ports_told(&self) -> (u16, u16) {
        match (self.protocol(), self.message, self.is_opening) {
            (Protocol::Icmp, 0, true) => (0, 8),
            (Protocol::Icmpv6, 0, true) => (0, 128),
            (Protocol::Icmpv6, 0, false) => (0, 129),
            (Protocol::Icmp | Protocol::Icmpv6, message, _) => (0, u16::from(message)),
            _ => self.ports,
        }
    }
}
