//! How far a session has come, and how long it lives after its last packet.

use super::Way;
use crate::packet::TcpFlags;
use std::time::Duration;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// Not yet in both directions; for TCP whether the peer has answered.
    Opening {
        /// Whether a reply came. Its acknowledgement is what establishes a TCP session.
        is_answered: bool,
    },
    /// Both have spoken.
    Established,
    /// A FIN went this way, none the other.
    HalfClosed(Way),
    /// A reset, or a FIN from both.
    Closing,
}

/// How long a session lives after its last packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTimeouts {
    /// TCP until both sides have spoken.
    pub tcp_opening: Duration,
    /// TCP in both directions. [RFC 5382 REQ-5: at least 2 h 4 min]
    pub tcp_established: Duration,
    /// TCP after a FIN from one side. [RFC 5382 REQ-5: at least 4 min]
    pub tcp_half_closed: Duration,
    /// TCP after a reset, or a FIN from both sides.
    pub tcp_closing: Duration,
    /// UDP in one direction.
    pub udp_opening: Duration,
    /// UDP in both directions. [RFC 4787 REQ-5: 5 min]
    pub udp_established: Duration,
    /// Echo.
    pub icmp: Duration,
    /// SCTP in one direction.
    pub sctp_opening: Duration,
    /// SCTP in both directions.
    pub sctp_established: Duration,
}

impl Default for SessionTimeouts {
    fn default() -> Self {
        Self {
            tcp_opening: Duration::from_secs(30),
            tcp_established: Duration::from_secs(7440),
            tcp_half_closed: Duration::from_secs(240),
            tcp_closing: Duration::from_secs(10),
            udp_opening: Duration::from_secs(30),
            udp_established: Duration::from_secs(300),
            icmp: Duration::from_secs(30),
            sctp_opening: Duration::from_secs(30),
            sctp_established: Duration::from_secs(7440),
        }
    }
}

impl SessionTimeouts {
    /// The life of a session in nanoseconds.
    pub(super) fn life(&self, protocol: u8, state: SessionState) -> u64 {
        let is_opening = matches!(state, SessionState::Opening { .. });
        let life = match (protocol, state) {
            (TCP, SessionState::Opening { .. }) => self.tcp_opening,
            (TCP, SessionState::Established) => self.tcp_established,
            (TCP, SessionState::HalfClosed(_)) => self.tcp_half_closed,
            (TCP, SessionState::Closing) => self.tcp_closing,
            (SCTP, _) if is_opening => self.sctp_opening,
            (SCTP, _) => self.sctp_established,
            (ICMP | ICMPV6, _) => self.icmp,
            (_, _) if is_opening => self.udp_opening,
            (_, _) => self.udp_established,
        };
        // Five hundred years are as good as for ever.
        u64::try_from(life.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl SessionState {
    /// The state of a session that its first packet opens.
    pub(super) const NEW: Self = Self::Opening { is_answered: false };

    /// The state after a packet. For TCP only the opener's acknowledgement of an answer
    /// establishes: a flood of SYNs that are answered must not earn long lives.
    pub(super) fn after(self, protocol: u8, way: Way, flags: Option<TcpFlags>) -> Self {
        let flags = match (protocol, flags) {
            (TCP, Some(flags)) => flags,
            _ => return self.after_datagram(way),
        };
        if flags.has(TcpFlags::RST) {
            return Self::Closing;
        }
        let has_fin = flags.has(TcpFlags::FIN);
        match self {
            // The same ports begin anew: the peer decides whether it may. [RFC 9293 §3.6.1]
            Self::Closing if flags.is_opening() && way == Way::Forward => Self::NEW,
            Self::Closing => Self::Closing,
            Self::Opening { is_answered } => match way {
                Way::Reply => Self::Opening { is_answered: true },
                Way::Forward if !is_answered || flags.is_opening() => self,
                Way::Forward if has_fin => Self::HalfClosed(way),
                Way::Forward => Self::Established,
            },
            Self::Established if has_fin => Self::HalfClosed(way),
            Self::HalfClosed(first) if has_fin && first != way => Self::Closing,
            Self::Established | Self::HalfClosed(_) => self,
        }
    }

    fn after_datagram(self, way: Way) -> Self {
        match way {
            Way::Reply => Self::Established,
            Way::Forward => self,
        }
    }

    /// Whether the session may go for another that finds no port: a TCP connection that has
    /// ended, a datagram that nobody has answered. Never what is established or being opened.
    pub(super) fn is_stealable(self, protocol: u8) -> bool {
        match self {
            Self::Closing => true,
            Self::Opening { .. } => matches!(protocol, UDP | ICMP | ICMPV6),
            Self::Established | Self::HalfClosed(_) => false,
        }
    }
}
