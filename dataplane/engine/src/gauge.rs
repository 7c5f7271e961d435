//! How full everything is that has a bound, and what the bound has cost.

use crate::Engine;

/// What an engine holds only so many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Limit {
    /// Entries of the flow table, the half-open left out.
    Flows,
    /// Entries of TCP connections that are being opened.
    HalfOpen,
    /// Sessions of translation.
    Sessions,
    /// Clients whose backend is remembered, those past their time included.
    Affinities,
    /// Frames that wait: for the first fragment of their datagram, or for their next hop.
    HeldFrames,
    /// Resets that wait to be sent.
    Resets,
}

impl Limit {
    /// Every limit, in the order in which it is shown.
    pub const ALL: &'static [Self] = &[
        Self::Flows,
        Self::HalfOpen,
        Self::Sessions,
        Self::Affinities,
        Self::HeldFrames,
        Self::Resets,
    ];

    /// The name in metrics and JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::HalfOpen => "half_open",
            Self::Sessions => "sessions",
            Self::Affinities => "affinities",
            Self::HeldFrames => "held_frames",
            Self::Resets => "resets",
        }
    }
}

/// One limit at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gauge {
    /// How many there are.
    pub now: u64,
    /// How many there may be.
    pub max: u64,
    /// How many found no room since the start; of sessions and fragments their drops tell.
    pub refused: u64,
    /// How many made room for a later one since the start.
    pub evicted: u64,
}

impl Engine {
    /// How full something is. Costs no more than reading a few numbers.
    #[must_use]
    pub fn gauge(&self, limit: Limit) -> Gauge {
        let flows = self.flow_table_gauges();
        let of = |now: usize, max: usize| Gauge {
            now: now as u64,
            max: max as u64,
            ..Gauge::default()
        };
        match limit {
            Limit::Flows => Gauge {
                refused: flows.refused_full + flows.refused_share,
                ..of(flows.settled as usize, flows.settled_max as usize)
            },
            Limit::HalfOpen => Gauge {
                refused: flows.refused_half_open,
                evicted: flows.half_open_evicted,
                ..of(flows.half_open as usize, flows.half_open_max as usize)
            },
            Limit::Sessions => of(self.sessions_count(), self.sessions_max()),
            Limit::Affinities => {
                let affinity = self.affinity();
                Gauge {
                    evicted: affinity.evicted(),
                    ..of(affinity.count(), affinity.entries_max())
                }
            }
            Limit::HeldFrames => of(self.held_count(), crate::HOLDS_MAX),
            Limit::Resets => Gauge {
                refused: self.resets_lost(),
                ..of(self.resets_waiting(), crate::reset::RESETS_MAX)
            },
        }
    }
}
