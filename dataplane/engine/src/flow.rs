//! A flow at one endpoint: who began it, how far it has come, how long it lives.

use crate::flow_key::{FlowKey, Role};
use crate::packet::{Packet, TcpFlags, Transport};
use crate::{EndpointId, EndpointIndex, MacAddress, Now};
use portcullis_policy::Generation;
use std::time::Duration;

/// A side of a flow, seen from the endpoint that keeps the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The endpoint itself.
    Local,
    /// Its peer.
    Remote,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
        }
    }
}

/// How long an entry lives after its last packet. Defaults are Cilium's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowTimeouts {
    /// TCP until both sides have spoken.
    pub tcp_opening: Duration,
    /// TCP in both directions.
    pub tcp_established: Duration,
    /// TCP after a reset, or a FIN from both sides.
    pub tcp_closing: Duration,
    /// Everything else.
    pub other: Duration,
}

impl Default for FlowTimeouts {
    fn default() -> Self {
        Self {
            tcp_opening: Duration::from_secs(60),
            tcp_established: Duration::from_secs(8000),
            tcp_closing: Duration::from_secs(10),
            other: Duration::from_secs(60),
        }
    }
}

/// The timeouts in nanoseconds, as they are compared for each packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lives {
    tcp_opening: u64,
    tcp_established: u64,
    tcp_closing: u64,
    other: u64,
}

impl From<FlowTimeouts> for Lives {
    fn from(timeouts: FlowTimeouts) -> Self {
        // Five hundred years are as good as for ever.
        let nanoseconds = |life: Duration| u64::try_from(life.as_nanos()).unwrap_or(u64::MAX);
        Self {
            tcp_opening: nanoseconds(timeouts.tcp_opening),
            tcp_established: nanoseconds(timeouts.tcp_established),
            tcp_closing: nanoseconds(timeouts.tcp_closing),
            other: nanoseconds(timeouts.other),
        }
    }
}

/// How far a TCP connection has come; everything else stays `Datagrams`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowState {
    /// Not TCP.
    Datagrams,
    /// The initiator's SYN; whether its peer has answered.
    Opening { is_answered: bool },
    /// Both have spoken; who has sent a FIN.
    Established { fin_local: bool, fin_remote: bool },
    /// A reset, or a FIN from both.
    Closing,
}

/// One flow at one endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    pub key: FlowKey,
    /// Who began it: the side whose direction is judged.
    pub initiator: Side,
    pub state: FlowState,
    /// The snapshot under which it was last judged, and `way` found.
    pub generation: Generation,
    /// When its last packet came.
    pub seen: Now,
    /// Where its packets go from the endpoint. None until one has gone.
    pub way: Option<CachedWay>,
    /// The largest TCP payload each side takes: local, remote. Zero when no SYN told.
    pub payload_max: (u16, u16),
}

/// A way that has been found, and the MAC address of the next hop on the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CachedWay {
    pub to: EndpointIndex,
    pub to_id: EndpointId,
    pub next_hop: Option<MacAddress>,
}

impl Flow {
    pub fn new(
        key: FlowKey,
        initiator: Side,
        role: Role,
        generation: Generation,
        now: Now,
    ) -> Self {
        let state = match role {
            Role::Opens if key.protocol == 6 => FlowState::Opening { is_answered: false },
            // Learned in mid-stream: somebody else saw it open.
            Role::Continues(_) => FlowState::Established {
                fin_local: false,
                fin_remote: false,
            },
            _ => FlowState::Datagrams,
        };
        Self {
            key,
            initiator,
            state,
            generation,
            seen: now,
            way: None,
            payload_max: (0, 0),
        }
    }

    pub fn is_closing(&self) -> bool {
        self.state == FlowState::Closing
    }

    /// Takes note of a packet that `sender` sent.
    pub fn note(&mut self, sender: Side, packet: &Packet, now: Now) {
        // Clocks of a batch never run backwards; a late call must not shorten a life.
        self.seen = self.seen.max(now);
        let Transport::Tcp {
            flags, payload_max, ..
        } = packet.transport
        else {
            return;
        };
        if let Some(payload_max) = payload_max {
            match sender {
                Side::Local => self.payload_max.0 = payload_max,
                Side::Remote => self.payload_max.1 = payload_max,
            }
        }
        self.state = self.state.after(sender, sender == self.initiator, flags);
    }

    pub fn is_expired(&self, lives: &Lives, now: Now) -> bool {
        let life = match self.state {
            FlowState::Datagrams => lives.other,
            FlowState::Opening { .. } => lives.tcp_opening,
            FlowState::Established { .. } => lives.tcp_established,
            FlowState::Closing => lives.tcp_closing,
        };
        now.0.saturating_sub(self.seen.0) > life
    }
}

impl FlowState {
    /// The state after a segment. Only the initiator's acknowledgement of an answer establishes:
    /// a flood of SYNs that a pod answers must not earn long lives.
    fn after(self, sender: Side, is_initiator: bool, flags: TcpFlags) -> Self {
        if flags.has(TcpFlags::RST) {
            return Self::Closing;
        }
        let (mut fin_local, mut fin_remote) = match self {
            Self::Datagrams | Self::Closing => return self,
            Self::Opening { .. } if !is_initiator => return Self::Opening { is_answered: true },
            Self::Opening { is_answered } if !is_answered || flags.is_opening() => {
                return Self::Opening { is_answered };
            }
            Self::Opening { .. } => (false, false),
            Self::Established {
                fin_local,
                fin_remote,
            } => (fin_local, fin_remote),
        };
        if flags.has(TcpFlags::FIN) {
            match sender {
                Side::Local => fin_local = true,
                Side::Remote => fin_remote = true,
            }
        }
        if fin_local && fin_remote {
            Self::Closing
        } else {
            Self::Established {
                fin_local,
                fin_remote,
            }
        }
    }
}
