//! How long entries of the flow table live.

use crate::tcp_state::FlowState;
use portcullis_policy::Protocol;
use std::time::Duration;

/// How long an entry lives after its last packet. Defaults are Cilium's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowTimeouts {
    /// TCP until the handshake is complete.
    pub tcp_opening: Duration,
    /// TCP in both directions.
    pub tcp_established: Duration,
    /// TCP after a reset, or a FIN from both sides.
    pub tcp_closing: Duration,
    /// UDP.
    pub udp: Duration,
    /// SCTP.
    pub sctp: Duration,
    /// ICMP and ICMPv6.
    pub icmp: Duration,
}

impl Default for FlowTimeouts {
    fn default() -> Self {
        Self {
            tcp_opening: Duration::from_secs(60),
            tcp_established: Duration::from_secs(8000),
            tcp_closing: Duration::from_secs(10),
            udp: Duration::from_secs(60),
            sctp: Duration::from_secs(60),
            icmp: Duration::from_secs(60),
        }
    }
}

/// The timeouts in nanoseconds, as they are compared for each packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lives {
    tcp_opening: u64,
    tcp_established: u64,
    tcp_closing: u64,
    udp: u64,
    sctp: u64,
    icmp: u64,
}

impl From<FlowTimeouts> for Lives {
    fn from(timeouts: FlowTimeouts) -> Self {
        // Five hundred years are as good as for ever.
        let nanoseconds = |life: Duration| u64::try_from(life.as_nanos()).unwrap_or(u64::MAX);
        Self {
            tcp_opening: nanoseconds(timeouts.tcp_opening),
            tcp_established: nanoseconds(timeouts.tcp_established),
            tcp_closing: nanoseconds(timeouts.tcp_closing),
            udp: nanoseconds(timeouts.udp),
            sctp: nanoseconds(timeouts.sctp),
            icmp: nanoseconds(timeouts.icmp),
        }
    }
}

impl Lives {
    /// Nanoseconds that an entry lives after its last packet.
    pub fn of(&self, state: FlowState, protocol: Protocol) -> u64 {
        match (state, protocol) {
            (FlowState::Datagrams, Protocol::Sctp) => self.sctp,
            (FlowState::Datagrams, Protocol::Icmp | Protocol::Icmpv6) => self.icmp,
            (FlowState::Datagrams, _) => self.udp,
            (FlowState::Opening | FlowState::Answered, _) => self.tcp_opening,
            (FlowState::Closing, _) => self.tcp_closing,
            (FlowState::Established | FlowState::FinLocal | FlowState::FinRemote, _) => {
                self.tcp_established
            }
        }
    }
}
