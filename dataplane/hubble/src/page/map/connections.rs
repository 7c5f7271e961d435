//! What was last told of each connection, so that sums that only grow become what was added.

use portcullis_engine::{EndpointId, Now, Record, RecordKind, Totals};
use portcullis_policy::Protocol;
use std::collections::HashMap;
use std::net::IpAddr;

/// Longer than any connection lives without a packet.
const SILENT_SECONDS_MAX: i64 = 3 * 3600;

/// One connection, as each of its records names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ConnectionKey {
    ends: (Option<EndpointId>, Option<EndpointId>),
    addresses: Option<(IpAddr, IpAddr)>,
    protocol: Option<Protocol>,
    ports: (u16, u16),
    opened: Now,
}

/// Sums that are known.
#[derive(Debug)]
pub(crate) struct Connections {
    /// Sums, and the second they were told.
    known: HashMap<ConnectionKey, (Totals, i64)>,
    max: usize,
}

impl Connections {
    /// Nothing known; of at most `max` connections at one time.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            known: HashMap::new(),
            max,
        }
    }

    /// Packets and bytes that a record adds, of the side that began first.
    ///
    /// When too many are known, what a further one has passed is told with its end, all at once.
    pub(crate) fn take(&mut self, record: &Record, second: i64) -> [(u64, u64); 2] {
        let key = ConnectionKey {
            ends: (record.from, record.to),
            addresses: record.addresses,
            protocol: record.protocol,
            ports: record.ports,
            opened: record.totals.opened,
        };
        let before = match record.kind {
            RecordKind::Update => {
                let is_full = self.known.len() >= self.max;
                match self.known.get_mut(&key) {
                    Some(known) => std::mem::replace(known, (record.totals, second)).0,
                    None if is_full => return [(0, 0); 2],
                    None => {
                        self.known.insert(key, (record.totals, second));
                        Totals::default()
                    }
                }
            }
            RecordKind::End(_) => self.known.remove(&key).unwrap_or_default().0,
            RecordKind::Flow | RecordKind::Drop(_) | RecordKind::Revoked(_) => return [(0, 0); 2],
        };
        let now = &record.totals;
        [0, 1].map(|side| {
            (
                u64::from(now.packets[side].saturating_sub(before.packets[side])),
                now.bytes[side].saturating_sub(before.bytes[side]),
            )
        })
    }

    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Makes room when there is none: the ends of connections may have been missed.
    pub(crate) fn sweep(&mut self, now: i64) {
        if self.known.len() >= self.max {
            self.known
                .retain(|_, (_, told)| now.saturating_sub(*told) < SILENT_SECONDS_MAX);
        }
    }
}
